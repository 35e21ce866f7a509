//! Tenants beside each other: what one has does not exist for another, by no endpoint, and no answer
//! comes sooner or later because it does.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "as in the tests themselves")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use echo_server::auth::{Claims, sign};
use echo_server::clock::now_ms;
use echo_server::secrets::Secret;
use serde_json::{Value, json};
use support::{Folder, TestServer, form, wav};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const JSON: (&str, &str) = ("content-type", "application/json");
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");

fn token(tenant: &str) -> String {
    let claims = Claims {
        sub: tenant.to_owned(),
        exp: now_ms() / 1000 + 600,
        nbf: None,
        tid: None,
        scope: "transcribe:read transcribe:write admin".to_owned(),
        aud: Value::Null,
    };
    sign(&claims, &Secret::new(SECRET))
}

fn server(folder: &Folder) -> TestServer {
    let unlimited =
        [("ECHO_RATE_READ", "0"), ("ECHO_RATE_SUBMIT", "0"), ("ECHO_TENANT_MAX_PENDING", "1000")];
    let variables = [&[("JWT_SECRET", SECRET)], unlimited.as_slice()].concat();
    let mut server = TestServer::scripted(folder, &variables);
    server.token = Some(token("ana"));
    server
}

/// Method, path, headers and body of a request.
type Asked<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a [u8]);

#[test]
fn no_endpoint_tells_of_another_tenant_or_lets_it_be_touched() {
    let folder = Folder::new("apart");
    let mut server = server(&folder);
    let (kind, body) = form(&wav(0.1, 1), "a.wav", &[("external_id", "mine")]);
    let keyed = [("content-type", &*kind), ("idempotency-key", "same")];
    let id = server.send("POST", "/api/v1/upload/file", &keyed, &body).job_id();
    server.wait(&id);
    let created = [TUS, ("upload-length", "100")];
    let upload = server.send("POST", "/api/v1/uploads", &created, b"");
    let upload = upload.header("location").to_owned();
    let made = server.send("POST", "/api/v1/keys", &[JSON], br#"{"name": "ci"}"#).json();
    let key = made["id"].as_str().unwrap().to_owned();

    server.token = Some(token("bia"));
    let job = format!("/api/v1/transcription/{id}");
    let ticket = json!({ "job_id": id, "use": "audio" }).to_string();
    let complete = json!({ "upload_id": upload.rsplit('/').next().unwrap() }).to_string();
    let offset = [TUS, ("content-type", "application/offset+octet-stream"), ("upload-offset", "0")];
    let asked: [Asked<'_>; 15] = [
        ("GET", job.clone(), &[], b""),
        ("GET", format!("{job}?wait=5&include=none"), &[], b""),
        ("GET", format!("{job}/download?format=srt"), &[], b""),
        ("GET", format!("{job}/events"), &[], b""),
        ("GET", format!("{job}/audio"), &[], b""),
        ("GET", format!("{job}/deliveries"), &[], b""),
        ("POST", format!("{job}/deliveries/any/redeliver"), &[], b""),
        ("POST", format!("{job}/retry"), &[], b""),
        ("POST", "/api/v1/tickets".to_owned(), &[JSON], ticket.as_bytes()),
        ("DELETE", job.clone(), &[], b""),
        ("DELETE", format!("{job}?purge=true"), &[], b""),
        ("HEAD", upload.clone(), &[TUS], b""),
        ("PATCH", upload.clone(), &offset, b"RIFF"),
        ("POST", "/api/v1/upload/complete".to_owned(), &[JSON], complete.as_bytes()),
        ("DELETE", format!("/api/v1/keys/{key}"), &[], b""),
    ];
    for (method, path, headers, body) in asked {
        let reply = server.send(method, &path, headers, body);
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
        // The same words as for what never was.
        let strange = path.replace(&id, "01900000-0000-7000-8000-000000000000");
        if method != "HEAD" && strange != path {
            let other = server.send(method, &strange, headers, body);
            assert_eq!(
                (other.status, &other.json()["code"], &other.json()["detail"]),
                (404, &reply.json()["code"], &reply.json()["detail"]),
                "{method} {path}"
            );
        }
    }
    for query in ["", "?external_id=mine", "?q=a.wav", "?include_total=true"] {
        let page = server.get(&format!("/api/v1/transcriptions{query}")).json();
        assert!(page["items"].as_array().unwrap().is_empty(), "{query}: {page}");
    }
    assert!(server.get("/api/v1/usage").json()["items"].as_array().unwrap().is_empty());
    // A key of one tenant is no key of another, and the result of one answers nobody else.
    let own = server.send("POST", "/api/v1/upload/file", &keyed, &body);
    assert_eq!((own.status, own.header("idempotent-replayed")), (202, ""), "{}", own.text());
    assert_ne!(own.job_id(), id);

    server.token = Some(token("ana"));
    assert_eq!(server.job(&id)["status"], "completed", "nothing has happened to it");
    assert_eq!(server.send("HEAD", &upload, &[TUS], b"").header("upload-offset"), "0");
    let keys = server.get("/api/v1/keys").text();
    assert!(keys.contains(&key), "{keys}");
}

/// One connection that is kept, so that its making is not measured.
struct Line {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Line {
    fn new(server: &TestServer, tenant: &str) -> Self {
        let stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), token: token(tenant) }
    }

    /// The status of an answer, and the time it took.
    fn ask(&mut self, method: &str, path: &str) -> (u16, Duration) {
        let token = &self.token;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: echo\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let began = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let head = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = head.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(text) = head.strip_prefix("content-length: ") {
                length = text.parse().unwrap();
            } else if head.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, began.elapsed())
    }
}

/// The chance that one of `first` is longer than one of `second`: a half if they are alike. It looks at
/// ranks only, so that no pause of a busy machine, however long, weighs more than one place.
fn chance_longer(first: &[Duration], second: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, bool)> = first.iter().map(|&time| (time, true)).collect();
    all.extend(second.iter().map(|&time| (time, false)));
    all.sort();
    let (mut shorter, mut sum) = (0_u64, 0_u64);
    for (_, is_first) in all {
        if is_first { sum += shorter } else { shorter += 1 }
    }
    sum as f64 / (first.len() * second.len()) as f64
}

fn median_us(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64() * 1e6
}

/// Asks for two things by turns, each as often first as second.
fn compare(line: &mut Line, method: &str, paths: [&str; 2]) -> [(u16, Vec<Duration>); 2] {
    const ROUNDS: usize = 3000;
    let mut seen = [(0, Vec::new()), (0, Vec::new())];
    for round in 0..ROUNDS + 200 {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (status, time) = line.ask(method, paths[which]);
            seen[which].0 = status;
            // The first ones fill caches.
            if round >= 200 {
                seen[which].1.push(time);
            }
        }
    }
    seen
}

#[test]
fn no_time_tells_whether_another_tenant_has_a_job() {
    let folder = Folder::new("timing");
    let server = server(&folder);
    let ids: Vec<String> =
        (0..60).map(|mark| server.upload(&wav(0.02, mark), &[]).job_id()).collect();
    for id in &ids {
        server.wait(id);
    }
    let known = format!("/api/v1/transcription/{}", ids[30]);
    let unknown = format!("{}{}", &known[..known.len() - 6], "0a0b0c");
    let mut line = Line::new(&server, "bia");
    for (method, more) in [("GET", ""), ("GET", "/download?format=txt"), ("DELETE", "")] {
        let paths = [&known, &unknown].map(|path| format!("{path}{more}"));
        let [there, nowhere] = compare(&mut line, method, [&*paths[0], &*paths[1]]);
        let (chance, medians) =
            (chance_longer(&there.1, &nowhere.1), [&there.1, &nowhere.1].map(|t| median_us(t)));
        println!(
            "{method} …{more}: another's {:.1} us, nobody's {:.1} us, chance of longer {chance:.3}",
            medians[0], medians[1]
        );
        assert_eq!((there.0, nowhere.0), (404, 404));
        // Alike: 0.500 with a deviation of 0.008 for so many.
        assert!((chance - 0.5).abs() < 0.06, "{method} {more}: {chance}");
    }
    // The same measure sees a job that may be seen.
    let mut own = Line::new(&server, "ana");
    let [there, nowhere] = compare(&mut own, "GET", [&known, &unknown]);
    assert_eq!((there.0, nowhere.0), (200, 404));
    let chance = chance_longer(&there.1, &nowhere.1);
    println!("GET, one's own: chance of longer {chance:.3}");
    assert!((chance - 0.5).abs() > 0.06, "the measure sees nothing: {chance}");
}
