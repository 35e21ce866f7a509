//! A server of the other side: it answers what it is told and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub fn header_map(&self) -> ureq::http::HeaderMap {
        let mut headers = ureq::http::HeaderMap::new();
        for (name, value) in &self.headers {
            let name: ureq::http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }
}

type Answer = Arc<dyn Fn(&str, usize) -> Vec<u8> + Send + Sync>;

/// Listens on a port of its own.
pub struct Receiver {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    /// Answers with what `answer` makes of the path and of the number of requests so far; on the
    /// loopback addresses of both families, if there are both.
    pub fn start(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Self { port, asked: Arc::default(), connections: Arc::default() };
        let answer: Answer = Arc::new(answer);
        let sixth = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok();
        for listener in [Some(listener), sixth].into_iter().flatten() {
            receiver.attend(listener, &answer);
        }
        receiver
    }

    /// The same at one address.
    pub fn start_at(
        address: (Ipv4Addr, u16),
        answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (ip, port) = address;
        let receiver = Self { port, asked: Arc::default(), connections: Arc::default() };
        let address = SocketAddr::new(IpAddr::V4(ip), port);
        let answer: Answer = Arc::new(answer);
        receiver.attend(TcpListener::bind(address).unwrap(), &answer);
        receiver
    }

    fn attend(&self, listener: TcpListener, answer: &Answer) {
        let (kept, answer) = (Arc::clone(&self.asked), Arc::clone(answer));
        let connections = Arc::clone(&self.connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let (path, count) = {
                        let mut asked = kept.lock().unwrap();
                        asked.push(request.clone());
                        (request.path, asked.len())
                    };
                    let _ = (&stream).write_all(&answer(&path, count));
                });
            }
        });
    }

    /// Connections that others made before this one, which is made here: so the listener is known to
    /// work, and to have told of all that came earlier.
    pub fn connections_before_ours(&self) -> usize {
        let ours = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let before = super::eventually("our own connection", || {
            self.connections.load(Ordering::SeqCst).checked_sub(1)
        });
        drop(ours);
        before
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    lines.read_line(&mut first).ok()?;
    let path = first.split_whitespace().nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, text)| text.parse().ok()).unwrap_or(0)];
    lines.read_exact(&mut body).ok()?;
    Some(Asked { path, headers, body })
}

/// An answer of HTTP.
pub fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
