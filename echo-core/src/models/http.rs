//! GET requests that can be cancelled.
//!
//! Each request runs on a thread of its own, so that cancelling or a stalled connection never waits
//! for the network: whoever asked stops listening, and the thread ends with its next timeout.
//! Redirects are followed here, because the hub describes a file in the headers of its first answer
//! and the token must not travel to other hosts. Proxies come from the usual environment variables,
//! certificates from `SSL_CERT_FILE` where it is set.

use std::io::Read;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::failure::Failure;
use crate::progress::CancelToken;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the name and the connection: past it another place is tried.
    pub(crate) connect: Duration,
    /// For the next bytes.
    pub(crate) read: Duration,
    /// Before the second attempt; doubled before each further one.
    pub(crate) backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
        }
    }
}

/// What to ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) url: String,
    /// Sent to the first host only.
    pub(crate) token: Option<String>,
    /// The first byte wanted.
    pub(crate) from_byte: u64,
    /// The version that bytes before it are of.
    pub(crate) etag: Option<String>,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    /// The hash of the content, which the hub gives before it redirects.
    pub(crate) content_hash: Option<String>,
    pub(crate) content_range: Option<String>,
    events: Receiver<Event>,
    patience: Patience,
}

#[derive(Debug)]
enum Event {
    Head(Box<Head>),
    Piece(Vec<u8>),
    End,
    Failed(String),
}

#[derive(Debug, Default)]
struct Head {
    status: u16,
    etag: Option<String>,
    content_hash: Option<String>,
    content_range: Option<String>,
}

const POLL: Duration = Duration::from_millis(20);
const MAX_REDIRECTS: usize = 8;
const PIECE_BYTES: usize = 1 << 16;

/// A client with its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    patience: Patience,
}

impl Client {
    pub(crate) fn new(patience: Patience) -> Self {
        let tls = TlsConfig::builder();
        let tls = match certificates() {
            Some(roots) => tls.root_certs(roots),
            None => tls,
        };
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.read))
            .timeout_per_read(Some(patience.read))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("echo-core/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, patience }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) fn get(&self, request: &Request, cancel: &CancelToken) -> Result<Reply, Failure> {
        let (sender, events) = mpsc::sync_channel(16);
        let (agent, request) = (self.agent.clone(), request.clone());
        thread::spawn(move || run(&agent, request, &sender));
        let mut reply = Reply {
            status: 0,
            etag: None,
            content_hash: None,
            content_range: None,
            events,
            patience: self.patience,
        };
        // Each redirect may take its time; the agent's own limits end each of them.
        let limit = (self.patience.connect * 2 + self.patience.read) * 2;
        match reply.event(cancel, limit)? {
            Event::Head(head) => {
                reply.status = head.status;
                reply.etag = head.etag;
                reply.content_hash = head.content_hash;
                reply.content_range = head.content_range;
                Ok(reply)
            }
            Event::Failed(reason) => Err(Failure::Network(reason)),
            Event::Piece(_) | Event::End => Err(Failure::Network("no answer".to_owned())),
        }
    }
}

impl Reply {
    /// The next piece of the body, or `None` at its end.
    pub(crate) fn piece(&self, cancel: &CancelToken) -> Result<Option<Vec<u8>>, Failure> {
        match self.event(cancel, self.patience.read * 2)? {
            Event::Piece(piece) => Ok(Some(piece)),
            Event::Failed(reason) => Err(Failure::Network(reason)),
            Event::End | Event::Head(_) => Ok(None),
        }
    }

    /// The whole body, which must be small.
    pub(crate) fn body(&self, limit: usize, cancel: &CancelToken) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(cancel)? {
            body.extend(piece);
            if body.len() > limit {
                return Err(Failure::Wrong(format!("the answer has more than {limit} bytes")));
            }
        }
        Ok(body)
    }

    fn event(&self, cancel: &CancelToken, limit: Duration) -> Result<Event, Failure> {
        let start = Instant::now();
        loop {
            cancel.check()?;
            match self.events.recv_timeout(POLL) {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Network("the connection ended".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() > limit => {
                    return Err(Failure::Network(format!("no answer for {limit:?}")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// The thread of a request. An error of sending means that nobody listens any more.
fn run(agent: &Agent, request: Request, events: &SyncSender<Event>) {
    let ended = match exchange(agent, request, events) {
        Ok(()) => Event::End,
        Err(reason) => Event::Failed(reason),
    };
    drop(events.send(ended));
}

fn exchange(agent: &Agent, mut request: Request, events: &SyncSender<Event>) -> Result<(), String> {
    let mut redirects = 0;
    let mut content_hash = None;
    let response = loop {
        let response = ask(agent, &request)?;
        content_hash = content_hash.or_else(|| header(&response, "x-linked-etag"));
        let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = header(&response, "location").filter(|_| is_redirect);
        let Some(location) = location else { break response };
        redirects += 1;
        if redirects > MAX_REDIRECTS {
            return Err(format!("more than {MAX_REDIRECTS} redirects"));
        }
        let url = follow(&request.url, &location)?;
        if origin(&url) != origin(&request.url) {
            request.token = None;
        }
        request.url = url;
    };
    let head = Head {
        status: response.status().as_u16(),
        etag: header(&response, "etag"),
        content_hash,
        content_range: header(&response, "content-range"),
    };
    let mut body = response.into_body().into_reader();
    if events.send(Event::Head(Box::new(head))).is_err() {
        return Ok(());
    }
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let count = body.read(&mut piece).map_err(|error| error.to_string())?;
        piece.truncate(count);
        if count == 0 || events.send(Event::Piece(piece)).is_err() {
            return Ok(());
        }
    }
}

fn ask(agent: &Agent, request: &Request) -> Result<ureq::http::Response<Body>, String> {
    let mut get = agent.get(&request.url).header("accept-encoding", "identity");
    if let Some(token) = &request.token {
        get = get.header("authorization", format!("Bearer {token}"));
    }
    if request.from_byte > 0 {
        get = get.header("range", format!("bytes={}-", request.from_byte));
        if let Some(etag) = &request.etag {
            get = get.header("if-range", etag);
        }
    }
    get.call().map_err(|error| error.to_string())
}

fn header(response: &ureq::http::Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// Scheme and host of an address.
fn origin(url: &str) -> &str {
    let host_start = url.find("://").map_or(0, |at| at + 3);
    url[host_start..].find('/').map_or(url, |at| &url[..host_start + at])
}

/// Where a redirect leads. An encrypted connection never leads to an open one.
fn follow(url: &str, location: &str) -> Result<String, String> {
    let target = match location {
        _ if location.starts_with("https://") || location.starts_with("http://") => {
            location.to_owned()
        }
        _ if location.starts_with("//") => {
            format!("{}:{location}", url.split("://").next().unwrap_or("https"))
        }
        _ if location.starts_with('/') => format!("{}{location}", origin(url)),
        _ => return Err(format!("redirected to `{location}`, expected an address")),
    };
    if url.starts_with("https://") && !target.starts_with("https://") {
        return Err(format!("redirected from https to `{target}`"));
    }
    Ok(target)
}

/// The certificates of `SSL_CERT_FILE`, for networks with an authority of their own.
fn certificates() -> Option<RootCerts> {
    let pem = std::fs::read(std::env::var_os("SSL_CERT_FILE")?).ok()?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            certificates.push(certificate);
        }
    }
    (!certificates.is_empty()).then(|| RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_may() {
        let url = "https://hub.example/owner/name/resolve/main/file";
        assert_eq!(follow(url, "/elsewhere?x=1").unwrap(), "https://hub.example/elsewhere?x=1");
        assert_eq!(follow(url, "//cdn.example/file").unwrap(), "https://cdn.example/file");
        assert_eq!(follow(url, "https://cdn.example/file").unwrap(), "https://cdn.example/file");
        assert!(follow(url, "http://cdn.example/file").unwrap_err().contains("from https"));
        assert!(follow(url, "file:///etc/passwd").unwrap_err().contains("expected an address"));
        assert_eq!(origin("http://127.0.0.1:80"), "http://127.0.0.1:80");
        assert_eq!(origin("http://127.0.0.1:80/x"), "http://127.0.0.1:80");
    }
}
