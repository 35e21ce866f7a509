//! Live sound over a WebSocket: the rules of a session with a pretended worker, and words in time with
//! a real one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "as in the tests themselves")]

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Folder, TestServer, dialogue, eventually};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

type Socket = WebSocket<TcpStream>;

fn open(server: &TestServer, query: &str) -> Result<Socket, (u16, String)> {
    open_as(server, query, &[])
}

fn open_as(
    server: &TestServer,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, (u16, String)> {
    let address = server.base.trim_start_matches("http://");
    let url = format!("ws://{address}/api/v1/stream?{query}");
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            // The body is not read: the code is enough, and the header says when to come back.
            let retry = response.headers().get("retry-after");
            let retry = retry.map_or("", |value| value.to_str().unwrap()).to_owned();
            Err((response.status().as_u16(), retry))
        }
        Err(error) => panic!("{error}"),
    }
}

/// A session with a worker that is there; at the start it may be about to be.
fn session(server: &TestServer, query: &str) -> Socket {
    let mut socket = eventually("a free worker", || open(server, query).ok());
    assert_eq!(next(&mut socket).unwrap()["type"], "ready");
    socket
}

/// The next message; `Err` is the code that the session was closed with.
fn next(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => return Err(frame.map_or(0, |frame| frame.code.into())),
            _ => {}
        }
    }
}

fn say(socket: &mut Socket, kind: &str) {
    socket.send(Message::text(json!({ "type": kind }).to_string())).unwrap();
}

#[test]
fn a_session_goes_its_way() {
    let folder = Folder::new("live");
    let server = TestServer::scripted(&folder, &[("ECHO_LIVE_IDLE_SECONDS", "300")]);
    let mut socket = session(&server, "sample_rate=8000&language=pt");
    socket.send(Message::binary(vec![0; 1601])).unwrap();
    let partial = next(&mut socket).unwrap();
    assert_eq!(
        (&partial["type"], &partial["words"][0]["word"]),
        (&json!("partial"), &json!("pretended"))
    );
    say(&mut socket, "finalize");
    assert_eq!(next(&mut socket).unwrap()["type"], "final");
    say(&mut socket, "sing");
    let refused = next(&mut socket).unwrap();
    assert_eq!((&refused["code"], &refused["fatal"]), (&json!("bad_message"), &json!(false)));
    // The only worker is taken.
    let (status, retry) = open(&server, "").unwrap_err();
    assert_eq!(status, 503);
    assert!(retry.parse::<u32>().unwrap() >= 1);
    say(&mut socket, "stop");
    let done = next(&mut socket).unwrap();
    assert_eq!((&done["type"], &done["usage"]["busy_seconds"]), (&json!("done"), &json!(0.1)));
    assert_eq!(next(&mut socket), Err(CloseCode::Normal.into()));
    // The worker is free again, for sessions and for jobs.
    drop(session(&server, ""));
    let id = server.upload(&support::wav(0.1, 1), &[]).job_id();
    assert_eq!(server.wait(&id)["status"], "completed");
}

#[test]
fn what_is_no_session_is_refused_with_a_status() {
    let folder = Folder::new("no-live");
    let server = TestServer::scripted(&folder, &[]);
    drop(session(&server, ""));
    assert_eq!(server.get("/api/v1/stream").status, 426);
    for query in ["sample_rate=7999", "encoding=mp3", "interim=maybe", "diarize=true", "model=x"] {
        assert_eq!(open(&server, query).unwrap_err().0, 422, "{query}");
    }
    let from = |origin: &str| open_as(&server, "", &[("origin", origin)]);
    assert_eq!(from("https://evil.example").unwrap_err().0, 403);
    eventually("the page's own session", || from(&server.base.clone()).ok());
}

#[test]
fn a_ticket_opens_one_session_where_no_header_can_be_sent() {
    let folder = Folder::new("live-ticket");
    let key = "echo_sk_live";
    let keys = format!("ana:{}", echo_server::secrets::sha256_hex(key));
    let mut server = TestServer::scripted(&folder, &[("ECHO_API_KEYS", &keys)]);
    server.token = Some(key.to_owned());
    assert_eq!(open(&server, "").unwrap_err().0, 401);
    eventually("a worker", || (server.get("/health/ready").status == 200).then_some(()));
    let json = [("content-type", "application/json")];
    let made = server.send("POST", "/api/v1/tickets", &json, br#"{"use": "stream"}"#);
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    let mut socket = open(&server, &format!("ticket={ticket}")).unwrap();
    assert_eq!(next(&mut socket).unwrap()["type"], "ready");
    assert_eq!(open(&server, &format!("ticket={ticket}")).unwrap_err().0, 401);
}

#[test]
fn a_session_has_limits() {
    let folder = Folder::new("live-limits");
    let variables = [("ECHO_LIVE_IDLE_SECONDS", "1"), ("ECHO_LIVE_MAX_SECONDS", "40")];
    let server = TestServer::scripted(&folder, &variables);
    // 400 KiB at 8 kHz are 25.6 s.
    let sound = || Message::binary(vec![0; 400 << 10]);
    let mut socket = session(&server, "sample_rate=8000");
    socket.send(sound()).unwrap();
    socket.send(sound()).unwrap();
    let mut code = String::new();
    let end = loop {
        match next(&mut socket) {
            Ok(event) if event["type"] == "error" => code = event["code"].to_string(),
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!((end, code.as_str()), (CloseCode::Policy.into(), "\"session_too_long\""));
    let mut socket = session(&server, "");
    socket.send(Message::binary(vec![0; 600 << 10])).unwrap();
    assert_eq!(next(&mut socket), Err(CloseCode::Size.into()));
}

#[test]
fn a_worker_that_dies_and_a_server_that_stops_are_told_of() {
    let folder = Folder::new("live-ends");
    let mut server = TestServer::scripted(&folder, &[]);
    let mut socket = session(&server, "");
    for pid in server.workers() {
        kill(pid, "-KILL");
    }
    assert_eq!(next(&mut socket).unwrap()["code"], "worker_lost");
    assert_eq!(next(&mut socket), Err(CloseCode::Error.into()));
    let mut socket = session(&server, "");
    kill(server.process.id(), "-TERM");
    assert_eq!(next(&mut socket).unwrap()["code"], "draining");
    assert_eq!(next(&mut socket).unwrap()["type"], "done");
    assert_eq!(next(&mut socket), Err(CloseCode::Away.into()));
    assert!(server.process.wait().unwrap().success());
}

fn kill(pid: u32, signal: &str) {
    let done = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(done.unwrap().success());
}

/// What a process has computed so far, on all its threads; Linux counts it in hundredths.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// The words of a text, without capitals and punctuation.
fn plain(text: &str) -> Vec<String> {
    let word = |word: &str| -> String {
        word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect()
}

/// The share of words of `a` that `b` has, too, in the same order (longest common subsequence).
fn overlap(a: &[String], b: &[String]) -> f64 {
    let mut row = vec![0_usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()] as f64 / a.len().max(1) as f64
}

#[test]
fn words_arrive_soon_after_they_were_said() {
    let folder = Folder::new("live-real");
    let Some(server) = TestServer::with_model(&folder, &[]) else { return };
    let file = std::env::var("ECHO_TEST_LIVE_FILE").ok();
    let media = file.map_or_else(dialogue, |path| std::fs::read(path).unwrap());
    let audio = echo_core::Audio::load(media.clone()).unwrap();
    let seconds = audio.duration();
    let mut socket = session(&server, "encoding=pcm_f32le&language=en");
    let reader_stream = socket.get_ref().try_clone().unwrap();
    let began = Instant::now();
    // Sound as from a microphone: 50 ms at a time, when it has been said.
    let writer = std::thread::spawn(move || {
        let mut socket =
            WebSocket::from_raw_socket(reader_stream, tungstenite::protocol::Role::Client, None);
        for (count, chunk) in audio.samples().chunks(800).enumerate() {
            let due = Duration::from_secs_f64((count + 1) as f64 * 0.05);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            let bytes: Vec<u8> = chunk.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            socket.send(Message::binary(bytes)).unwrap();
        }
        say(&mut socket, "stop");
    });
    // When a word was told first, at whatever time it is said to be; finals say which words there are.
    let (mut told, mut words): (Vec<(f64, Value)>, Vec<Value>) = (Vec::new(), Vec::new());
    let mut text = String::new();
    loop {
        match next(&mut socket) {
            Ok(event) => {
                let at = began.elapsed().as_secs_f64();
                if std::env::var_os("ECHO_TEST_SHOW").is_some() {
                    println!("{at:6.2} {} {}", event["type"], event["text"]);
                }
                told.extend(
                    event["words"].as_array().into_iter().flatten().map(|w| (at, w.clone())),
                );
                if event["type"] == "final" {
                    words.extend(event["words"].as_array().unwrap().iter().cloned());
                    text = format!("{text} {}", event["text"].as_str().unwrap());
                }
            }
            Err(code) => {
                assert_eq!(code, u16::from(CloseCode::Normal));
                break;
            }
        }
    }
    writer.join().unwrap();
    let cpu: f64 = server.workers().into_iter().map(cpu_seconds).sum();
    let mut latencies: Vec<f64> = Vec::new();
    for word in &words {
        let (name, end) = (plain(word["word"].as_str().unwrap()), word["end"].as_f64().unwrap());
        let first = told.iter().find(|(_, heard)| {
            plain(heard["word"].as_str().unwrap()) == name
                && (heard["end"].as_f64().unwrap() - end).abs() < 1.0
        });
        latencies.push(first.unwrap().0 - end);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{} words of {seconds:.1} s: latency median {:.2} s, 95 % {:.2} s, most {:.2} s; CPU {cpu:.1} s",
        words.len(),
        at(0.5),
        at(0.95),
        at(1.0)
    );
    let id = server.upload(&media, &[("language", "en")]).job_id();
    let whole = server.wait(&id)["result"]["text"].as_str().unwrap().to_owned();
    let same = overlap(&plain(&whole), &plain(&text));
    println!("{:.1} % of the words of the whole transcript", same * 100.0);
    assert!(words.len() > 5, "{text}");
    // Under 2 s on a machine of its own, as the line above says; tests share theirs.
    assert!(at(0.5) < 6.0, "words come late");
    assert!(same > 0.9, "live: {text}\nwhole: {whole}");
}
