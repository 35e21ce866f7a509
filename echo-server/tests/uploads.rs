//! Uploads in pieces, over HTTP, with connections that are cut.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;
use support::{Folder, Reply, TestServer, eventually, wav};

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const PIECE: (&str, &str) = ("content-type", "application/offset+octet-stream");

fn create(server: &TestServer, length: usize, metadata: &str) -> Reply {
    let length = length.to_string();
    let headers = [TUS, ("upload-length", &length), ("upload-metadata", metadata)];
    server.send("POST", "/api/v1/uploads", &headers, b"")
}

fn offset(server: &TestServer, path: &str) -> usize {
    let reply = server.send("HEAD", path, &[TUS], b"");
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"));
    reply.header("upload-offset").parse().unwrap()
}

fn patch(server: &TestServer, path: &str, offset: usize, bytes: &[u8]) -> Reply {
    server.send("PATCH", path, &[TUS, PIECE, ("upload-offset", &offset.to_string())], bytes)
}

fn complete(server: &TestServer, path: &str, options: &serde_json::Value) -> Reply {
    let id = path.rsplit('/').next().unwrap();
    let body = json!({ "upload_id": id, "options": options }).to_string();
    let json = [("content-type", "application/json")];
    server.send("POST", "/api/v1/upload/complete", &json, body.as_bytes())
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["code"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Random numbers with a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Announces the rest, sends a part of it, and cuts the connection: gently, or with a reset.
fn cut(server: &TestServer, path: &str, offset: usize, rest: usize, sent: &[u8], is_gentle: bool) {
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: x\r\ntus-resumable: 1.0.0\r\nupload-offset: {offset}\r\n\
         content-type: application/offset+octet-stream\r\ncontent-length: {rest}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(sent);
    if is_gentle {
        let _ = stream.shutdown(Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.read(&mut [0; 1024]);
    }
}

#[test]
fn an_upload_cut_a_hundred_times_arrives_as_it_was() {
    let folder = Folder::new("cuts");
    let mut server = TestServer::scripted(&folder, &[]);
    let mut random = Random(0x2026_1122_0c07_0001);
    let mut sound = wav(120.0, 7);
    for byte in &mut sound[1000..] {
        *byte = random.below(256) as u8;
    }
    let created = create(&server, sound.len(), "filename ZmFsYS53YXY=,filetype YXVkaW8vd2F2");
    assert_eq!(created.status, 201, "{}", created.text());
    let path = created.header("location").to_owned();
    assert!(created.header("upload-expires").ends_with(" GMT"));
    for number in 0..100 {
        let at = offset(&server, &path);
        let sent = random.below((sound.len() - at) / 40);
        cut(&server, &path, at, sound.len() - at, &sound[at..at + sent], number % 3 != 0);
        if number % 25 == 24 {
            // What the server had told of is there after it was killed.
            let told = offset(&server, &path);
            server.kill();
            server.restart();
            assert!(offset(&server, &path) >= told);
        }
        let now = offset(&server, &path);
        assert!((at..=at + sent).contains(&now), "{at} + {sent} became {now}");
    }
    let at = offset(&server, &path);
    assert!(at > 0 && at < sound.len(), "{at} of {}", sound.len());
    assert_eq!(code(&complete(&server, &path, &json!({}))), is(409, "upload_offset_mismatch"));
    let reply = patch(&server, &path, at, &sound[at..]);
    assert_eq!(
        (reply.status, reply.header("upload-offset")),
        (204, &*sound.len().to_string()),
        "{}",
        reply.text()
    );
    let job = complete(&server, &path, &json!({"language": "pt"}));
    assert_eq!(job.status, 202, "{}", job.text());
    let id = job.job_id();
    assert_eq!(server.wait(&id)["status"], "completed");
    let kept = server.get(&format!("/api/v1/transcription/{id}/audio"));
    assert!(kept.body == sound, "the recording is another one");
    let shown = server.job(&id);
    assert_eq!(
        (&shown["source"]["filename"], &shown["options"]["language"]),
        (&json!("fala.wav"), &json!("pt"))
    );
    // Who did not hear the answer asks again.
    assert_eq!(complete(&server, &path, &json!({})).job_id(), id);
    assert_eq!(offset(&server, &path), sound.len());
}

#[test]
fn a_connection_that_hangs_gives_way_to_the_next_one() {
    let folder = Folder::new("hangs");
    let server = TestServer::scripted(&folder, &[]);
    let sound = wav(1.0, 8);
    let path = create(&server, sound.len(), "").header("location").to_owned();
    let mut hanging = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: x\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\n\
         content-type: application/offset+octet-stream\r\ncontent-length: {}\r\n\r\n",
        sound.len()
    );
    hanging.write_all(head.as_bytes()).unwrap();
    hanging.write_all(&sound[..5000]).unwrap();
    let part = folder.0.join("uploads/resumable").join(path.rsplit('/').next().unwrap());
    eventually("the first bytes", || {
        (std::fs::metadata(part.join("data")).ok()?.len() == 5000).then_some(())
    });
    let started = std::time::Instant::now();
    assert_eq!(offset(&server, &path), 5000);
    assert_eq!(patch(&server, &path, 5000, &sound[5000..]).status, 204);
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

#[test]
fn the_protocol_is_kept() {
    let folder = Folder::new("tus");
    let server = TestServer::scripted(&folder, &[("MAX_FILE_SIZE", "100KB")]);
    let told = server.send("OPTIONS", "/api/v1/uploads", &[], b"");
    assert_eq!((told.status, told.header("tus-version")), (204, "1.0.0"));
    assert_eq!(told.header("tus-extension"), "creation,expiration,termination,checksum");
    assert_eq!(told.header("tus-max-size"), "102400");
    assert_eq!(server.send("POST", "/api/v1/uploads", &[("upload-length", "9")], b"").status, 412);
    assert_eq!(code(&create(&server, 200_000, "")), is(413, "file_too_large"));
    assert_eq!(code(&create(&server, 0, "")), is(422, "empty_file"));
    assert_eq!(code(&create(&server, 9, "filename ???")), is(400, "bad_query"));

    let sound = wav(0.5, 9);
    let path = create(&server, sound.len(), "filename YQ==").header("location").to_owned();
    assert_eq!(server.send("HEAD", &path, &[TUS], b"").header("upload-metadata"), "filename YQ==");
    assert_eq!(code(&patch(&server, &path, 5, &sound)), is(409, "upload_offset_mismatch"));
    let plain = [TUS, ("content-type", "audio/wav"), ("upload-offset", "0")];
    assert_eq!(server.send("PATCH", &path, &plain, &sound).status, 415);
    assert_eq!(code(&patch(&server, &path, 0, &wav(1.0, 9))), is(413, "body_too_large"));
    let at = offset(&server, &path);
    // A piece with a wrong checksum leaves nothing.
    let checksum = |sum: &str| {
        let at = at.to_string();
        let headers = [TUS, PIECE, ("upload-offset", &at), ("upload-checksum", sum)];
        server.send("PATCH", &path, &headers, &sound[at.parse().unwrap()..])
    };
    assert_eq!(code(&checksum("md4 AAAA")), is(400, "bad_query"));
    assert_eq!(code(&checksum("sha1 AAAA")), is(460, "digest_mismatch"));
    assert_eq!(offset(&server, &path), at);
    let digest = {
        use base64::Engine;
        use sha2::Digest;
        let digest = sha2::Sha256::digest(&sound[at..]);
        format!("sha256 {}", base64::engine::general_purpose::STANDARD.encode(digest))
    };
    assert_eq!(checksum(&digest).status, 204);
    assert_eq!(offset(&server, &path), sound.len());

    // Termination, also where a proxy knows no DELETE.
    let overridden = [TUS, ("x-http-method-override", "DELETE")];
    assert_eq!(server.send("POST", &path, &overridden, b"").status, 204);
    assert_eq!(server.send("HEAD", &path, &[TUS], b"").status, 404);
    assert_eq!(code(&complete(&server, &path, &json!({}))), is(404, "not_found"));
    assert!(std::fs::read_dir(folder.0.join("uploads/resumable")).unwrap().next().is_none());

    // What is no sound becomes no job.
    let path = create(&server, 9, "").header("location").to_owned();
    assert_eq!(patch(&server, &path, 0, b"PK\x03\x04aaaaa").status, 204);
    assert_eq!(code(&complete(&server, &path, &json!({}))), is(415, "unsupported_media"));
}

#[test]
fn an_upload_ends_a_day_after_its_last_byte() {
    let folder = Folder::new("ends");
    let server = TestServer::scripted(&folder, &[]);
    let path = create(&server, 10, "").header("location").to_owned();
    let data = folder.0.join("uploads/resumable").join(path.rsplit('/').next().unwrap());
    let data = std::fs::File::options().write(true).open(data.join("data")).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(24 * 3600 + 60);
    data.set_modified(long_ago).unwrap();
    assert_eq!(code(&patch(&server, &path, 0, b"RIFF")), is(410, "upload_expired"));
}
