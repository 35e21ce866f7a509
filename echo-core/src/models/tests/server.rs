//! A small server with the address scheme of the Hugging Face Hub.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::models::cache::hex;

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const REPOSITORY: &str = "someone/whisper";

/// What the server has and how it behaves.
#[derive(Default)]
pub(super) struct Behaviour {
    /// Files of the repository; weights are announced as large files.
    pub(super) files: HashMap<String, Vec<u8>>,
    /// Answers to the next requests for files: after how many bytes the connection is cut.
    pub(super) cuts: Vec<usize>,
    /// Statuses of the next requests of any kind.
    pub(super) statuses: Vec<u16>,
    /// The token without which nothing is given.
    pub(super) token: Option<String>,
    /// Whether files differ from what is announced.
    pub(super) is_corrupt: bool,
    /// Whether listings say no sizes and hashes, as some mirrors.
    pub(super) is_terse: bool,
    /// Whether file requests are never answered.
    pub(super) is_stalling: bool,
    /// Another server that files are redirected to.
    pub(super) redirect: Option<String>,
}

/// What the server is, and what it was asked.
type State = (Mutex<(Behaviour, Vec<Seen>)>, Condvar);

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
}

pub(super) struct Server {
    pub(super) endpoint: String,
    state: Arc<State>,
}

impl Server {
    pub(super) fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::new((behaviour, Vec::new())), Condvar::new()));
        let hold = Arc::new(Mutex::new(Vec::new()));
        let server = Self { endpoint, state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, hold) = (state.clone(), hold.clone());
                thread::spawn(move || answer(stream, &state, &hold));
            }
        });
        server
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.0.lock().unwrap().1.clone()
    }

    /// The requests for a file's content.
    pub(super) fn seen_files(&self, name: &str) -> Vec<Seen> {
        let suffix = format!("/{name}");
        self.seen().into_iter().filter(|seen| seen.path.ends_with(&suffix)).collect()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.0.lock().unwrap().0);
    }

    /// Hears of the first request for a path that ends so.
    pub(super) fn await_request(&self, suffix: &'static str) -> Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        let state = self.state.clone();
        thread::spawn(move || {
            let mut guard = state.0.lock().unwrap();
            while !guard.1.iter().any(|seen| seen.path.ends_with(suffix)) {
                guard = state.1.wait_timeout(guard, Duration::from_secs(20)).unwrap().0;
            }
            sender.send(()).ok();
        });
        receiver
    }
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    while let Some(Ok(line)) = lines.next() {
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Seen { path, headers })
}

fn answer(mut stream: TcpStream, state: &State, hold: &Mutex<Vec<TcpStream>>) {
    let Some(seen) = read_request(&stream) else { return };
    let mut guard = state.0.lock().unwrap();
    guard.1.push(seen.clone());
    state.1.notify_all();
    let behaviour = &mut guard.0;
    let is_file = !seen.path.starts_with("/api/");
    let given = seen.headers.get("authorization").cloned();
    let wanted = behaviour.token.as_ref().map(|token| format!("Bearer {token}"));
    let (status, headers, body) = if wanted.is_some() && wanted != given {
        (401, String::new(), b"no".to_vec())
    } else if !behaviour.statuses.is_empty() {
        (behaviour.statuses.remove(0), String::new(), b"later".to_vec())
    } else if is_file && behaviour.is_stalling {
        hold.lock().unwrap().push(stream);
        return;
    } else {
        respond(behaviour, &seen)
    };
    let cut = match is_file && status < 300 && !behaviour.cuts.is_empty() {
        true => behaviour.cuts.remove(0),
        false => usize::MAX,
    };
    drop(guard);
    let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n", body.len());
    let sent = &body[..body.len().min(cut)];
    drop(stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()));
    drop(stream.write_all(sent));
}

fn respond(behaviour: &Behaviour, seen: &Seen) -> (u16, String, Vec<u8>) {
    let not_found = (404, String::new(), b"nothing".to_vec());
    if let Some(rest) = seen.path.strip_prefix("/api/models/") {
        let known =
            [format!("{REPOSITORY}/revision/main"), format!("{REPOSITORY}/revision/{COMMIT}")];
        let path = rest.split('?').next().unwrap_or(rest);
        return match known.iter().any(|known| known == path) {
            true => (200, String::new(), listing(behaviour).into_bytes()),
            false => not_found,
        };
    }
    if let Some(name) = seen.path.strip_prefix(&format!("/{REPOSITORY}/resolve/{COMMIT}/")) {
        let Some(content) = behaviour.files.get(name) else { return not_found };
        let host = behaviour.redirect.clone().unwrap_or_default();
        let tag = hex(&Sha256::digest(content));
        return (
            302,
            format!("location: {host}/cdn/{name}\r\nx-linked-etag: \"{tag}\"\r\n"),
            Vec::new(),
        );
    }
    let Some(content) = seen.path.strip_prefix("/cdn/").and_then(|name| behaviour.files.get(name))
    else {
        return not_found;
    };
    let mut content = content.clone();
    if behaviour.is_corrupt {
        content[0] ^= 1;
    }
    let tag = format!("\"{}\"", hex(&Sha256::digest(&content)));
    let start = seen
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let is_same = seen.headers.get("if-range").is_none_or(|wanted| *wanted == tag);
    match start.filter(|_| is_same) {
        Some(start) if start >= content.len() => (416, String::new(), Vec::new()),
        Some(start) => {
            let last = content.len() - 1;
            let range = format!("content-range: bytes {start}-{last}/{}\r\n", content.len());
            (206, format!("etag: {tag}\r\n{range}"), content.split_off(start))
        }
        None => (200, format!("etag: {tag}\r\n"), content),
    }
}

fn listing(behaviour: &Behaviour) -> String {
    let siblings = behaviour.files.iter().map(|(name, content)| {
        let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
        let blob = hex(&Sha1::digest(blob));
        let sha256 = hex(&Sha256::digest(content));
        match (behaviour.is_terse, name.ends_with(".json")) {
            (true, _) => serde_json::json!({ "rfilename": name }),
            (false, true) => {
                serde_json::json!({ "rfilename": name, "size": content.len(), "blobId": blob })
            }
            (false, false) => serde_json::json!({
                "rfilename": name, "size": content.len(), "blobId": "0".repeat(40),
                "lfs": { "sha256": sha256, "size": content.len(), "pointerSize": 134 }
            }),
        }
    });
    let siblings: Vec<_> = siblings.collect();
    serde_json::json!({ "id": REPOSITORY, "sha": COMMIT, "siblings": siblings }).to_string()
}
