//! Bodies of requests that come slowly, never end, or come from nobody.

#![allow(clippy::unwrap_used, reason = "as in the tests themselves")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::json;
use support::elsewhere::{self, tell};
use support::{Folder, TestServer, eventually, form, wav};

/// A connection with a request of which so much was sent.
fn begun(server: &TestServer, path: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    let head = format!("POST /api/v1{path} HTTP/1.1\r\nhost: echo\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream
}

/// The status and the code of an answer.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    // The end may be a reset: not everything that was sent was read.
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let code = text.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next());
    (status.unwrap_or(0), code.unwrap_or_default().to_owned())
}

#[test]
fn messages_that_cannot_be_a_workers_are_refused_unread() {
    let folder = Folder::new("unread");
    let server = elsewhere::server(&folder, &[]);
    let long = "content-length: 30000000\r\n";
    let now = echo_server::clock::now_ms() / 1000;
    let tag = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (id, at, tag, code) in [
        ("", now, tag, "bad_signature"),
        ("a", now, "v1,AAAA", "bad_signature"),
        ("a", now - 400, tag, "timestamp_out_of_range"),
    ] {
        let headers = format!(
            "{long}webhook-id: {id}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {tag}\r\n"
        );
        let mut stream = begun(&server, "/webhooks/transcription", &headers, b"{");
        assert_eq!(answer(&mut stream), (401, code.to_owned()));
    }
}

#[test]
fn long_messages_take_turns_and_short_ones_need_none() {
    let folder = Folder::new("turns");
    let server = elsewhere::server(&folder, &[]);
    let now = echo_server::clock::now_ms() / 1000;
    let headers = format!(
        "content-length: 30000000\r\nwebhook-id: a\r\nwebhook-timestamp: {now}\r\n\
         webhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"
    );
    let part = vec![b' '; (64 << 10) + 1];
    let path = "/webhooks/transcription";
    let mut streams: Vec<_> = (0..9).map(|_| begun(&server, path, &headers, &part)).collect();
    // Nobody's, but heard.
    let event = json!({"type": "transcription.started", "data": {"job_id": "none"}});
    assert_eq!(tell(&server, "short", &event).status, 404);
    // One of them has no turn, and is told so in ten seconds.
    let refused = eventually("a refusal", || {
        streams.iter_mut().find_map(|stream| {
            stream.set_nonblocking(true).unwrap();
            let has_answer = stream.peek(&mut [0]).is_ok();
            stream.set_nonblocking(false).unwrap();
            has_answer.then(|| answer(stream))
        })
    });
    assert_eq!(refused, (503, "too_many_uploads".to_owned()));
    drop(streams);
    // Whoever has gone has left the turn, too.
    let long = json!({"type": "transcription.started", "data": {"job_id": "x".repeat(1 << 20)}});
    assert_eq!(tell(&server, "long", &long).status, 404);
}

#[test]
fn json_that_is_too_long_is_refused_before_it_is_here() {
    let folder = Folder::new("long-json");
    let server = elsewhere::server(&folder, &[]);
    let headers = "content-length: 300000000\r\ncontent-type: application/json\r\n";
    for path in ["/upload/url", "/upload/complete", "/batch", "/tickets", "/keys"] {
        let mut stream = begun(&server, path, headers, &vec![b' '; (2 << 20) + 1]);
        assert_eq!(answer(&mut stream), (413, "body_too_large".to_owned()), "{path}");
    }
}

/// How many requests have reserved a key and are not answered.
fn reserved(db: &rusqlite::Connection) -> u64 {
    let sql = "SELECT count(*) FROM idempotency WHERE response_json IS NULL";
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Whether there is a file below a folder.
fn has_file(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.is_file() || has_file(&path))
}

#[test]
fn a_request_whose_client_hung_up_is_answered_the_second_time() {
    let folder = Folder::new("hung-up");
    let server = elsewhere::server(&folder, &[]);
    let db = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
    db.busy_timeout(support::PATIENCE).unwrap();
    let (kind, body) = form(&wav(0.1, 1), "a.wav", &[]);
    let (path, headers) =
        ("/api/v1/upload/file", [("content-type", &*kind), ("idempotency-key", "k")]);
    let head =
        format!("content-length: {}\r\ncontent-type: {kind}\r\nidempotency-key: k\r\n", body.len());
    let (first, last) = body.split_at(body.len() / 2);
    // While the body comes: nothing has been done, and the key is free at once.
    let stream = begun(&server, "/upload/file", &head, first);
    eventually("a reservation", || (reserved(&db) == 1).then_some(()));
    drop(stream);
    let began = std::time::Instant::now();
    eventually("the key to be free", || (reserved(&db) == 0).then_some(()));
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    // While the job is kept, which waits for the database here.
    let mut stream = begun(&server, "/upload/file", &head, first);
    eventually("a reservation", || (reserved(&db) == 1).then_some(()));
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    stream.write_all(last).unwrap();
    eventually("the file", || has_file(&folder.0.join("uploads/blobs")).then_some(()));
    drop(stream);
    assert_eq!(server.get("/health/live").status, 200);
    db.execute_batch("COMMIT").unwrap();
    let again = eventually("an answer", || {
        let reply = server.send("POST", path, &headers, &body);
        (reply.status != 409).then_some(reply)
    });
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"));
    let jobs: u64 = db.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0)).unwrap();
    assert_eq!(jobs, 1);
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}
