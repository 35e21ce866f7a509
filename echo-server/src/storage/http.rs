//! HTTP as a bucket needs it: the same hyper and rustls as everywhere in this program, connections that
//! are used again, and a limit to every wait.
//!
//! The own client of `object_store` would bring a second TLS library and HTTP/2; S3 speaks HTTP/1.1.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{HeaderValue, Uri, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time between a request and the head of its answer, and between bytes of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Services close connections that are idle for longer.
const MAX_IDLE: Duration = Duration::from_secs(4);
const MAX_IDLE_CONNECTIONS: usize = 32;

/// Makes clients.
#[derive(Debug)]
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// Believes the web's certificates, and those in a file of PEM.
    pub(super) fn new(bundle: Option<&str>) -> Result<Self, String> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = bundle {
            let wrong = |error: &dyn std::fmt::Display| format!("AWS_CA_BUNDLE {path}: {error}");
            for root in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let root = root.map_err(|error| wrong(&error))?;
                roots.add(root).map_err(|error| wrong(&error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let tls = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let value = |key| options.get_config_value(&key);
        Ok(HttpClient::new(Client {
            tls: Arc::clone(&self.tls),
            is_plain_allowed: value(ClientConfigKey::AllowHttp).is_some_and(|text| text == "true"),
            // A service of the machine itself is asked for a key, and may not be there.
            connect_timeout: value(ClientConfigKey::ConnectTimeout)
                .and_then(|text| humantime::parse_duration(&text).ok())
                .unwrap_or(CONNECT_TIMEOUT),
            answer_timeout: request_time(value(ClientConfigKey::Timeout).as_deref()),
            idle: Idle::default(),
        }))
    }
}

/// How long a request may take: `AWS_TIMEOUT`, or a minute.
pub(super) fn request_time(given: Option<&str>) -> Duration {
    given.and_then(|text| humantime::parse_duration(text).ok()).unwrap_or(ANSWER_TIMEOUT)
}

/// Sends requests.
#[derive(Debug)]
struct Client {
    tls: Arc<ClientConfig>,
    is_plain_allowed: bool,
    connect_timeout: Duration,
    answer_timeout: Duration,
    idle: Idle,
}

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

/// Connections that wait for the next request.
#[derive(Debug, Clone, Default)]
struct Idle(Arc<Mutex<Vec<Connection>>>);

/// An open connection.
#[derive(Debug)]
struct Connection {
    origin: Origin,
    sender: SendRequest<HttpRequestBody>,
    used: Instant,
}

type Answered = Result<HttpResponse, HttpError>;

impl HttpService for Client {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.exchange(request))
    }
}

impl Client {
    async fn exchange(&self, mut request: HttpRequest) -> Answered {
        let origin = self.origin(request.uri())?;
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let host = HeaderValue::from_str(authority.as_deref().unwrap_or_default());
        let host = host.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        request.headers_mut().insert(header::HOST, host);
        let agent = HeaderValue::from_static(concat!("echo-server/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path: Result<Uri, _> = path.parse();
        *request.uri_mut() = path.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let (connection, answer) = loop {
            let (mut connection, is_used) = match self.idle.take(&origin).await {
                Some(connection) => (connection, true),
                None => (self.connect(origin.clone()).await?, false),
            };
            let answer = connection.sender.try_send_request(request);
            let answer = timeout(self.answer_timeout, answer).await.map_err(|_| too_slow())?;
            match answer {
                Ok(answer) => break (connection, answer),
                // Closed before any of it was sent: the next connection takes it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_used => request = unsent,
                    _ => return Err(broken(error.into_error())),
                },
            }
        };
        let (head, body) = answer.into_parts();
        let mut answer = Answer {
            body,
            connection: Some(connection),
            idle: self.idle.clone(),
            patience: self.answer_timeout,
            timer: Box::pin(sleep(self.answer_timeout)),
        };
        if answer.body.is_end_stream() {
            answer.give_back();
        }
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(answer)))
    }

    fn origin(&self, uri: &Uri) -> Result<Origin, HttpError> {
        let refuse =
            |text: &str| Err(HttpError::new(HttpErrorKind::Unknown, io::Error::other(text)));
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        if !is_https && !self.is_plain_allowed {
            return refuse("plain http is not allowed: AWS_ALLOW_HTTP=true allows it");
        }
        let Some(host) = uri.host() else { return refuse("there is no host") };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(Origin { is_https, host, port })
    }

    async fn connect(&self, origin: Origin) -> Result<Connection, HttpError> {
        let failed = |error: io::Error| HttpError::new(HttpErrorKind::Connect, error);
        let connecting = async {
            let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
            stream.set_nodelay(true)?;
            if !origin.is_https {
                return handshake(stream).await;
            }
            let name = ServerName::try_from(origin.host.clone()).map_err(io::Error::other)?;
            handshake(TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?).await
        };
        let sender = match timeout(self.connect_timeout, connecting).await {
            Ok(sender) => sender.map_err(failed)?,
            Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        Ok(Connection { origin, sender, used: Instant::now() })
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<SendRequest<HttpRequestBody>> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends when the sender and the answer under way are dropped.
    tokio::spawn(connection);
    Ok(sender)
}

impl Idle {
    /// A connection that is still open, the one that was used last.
    async fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                idle.retain(|one| one.used.elapsed() < MAX_IDLE && !one.sender.is_closed());
                let at = idle.iter().rposition(|one| one.origin == *origin)?;
                idle.swap_remove(at)
            };
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(Connection { used: Instant::now(), ..connection });
        }
    }
}

/// The body of an answer; read to its end, it gives its connection back.
struct Answer {
    body: Incoming,
    connection: Option<Connection>,
    idle: Idle,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Answer {
    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.idle.give_back(connection);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let own = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut own.body).poll_frame(context) {
            own.timer.as_mut().reset(Instant::now() + own.patience);
            if frame.is_none() {
                own.give_back();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        ready!(own.timer.as_mut().poll(context));
        Poll::Ready(Some(Err(too_slow())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_slow() -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, io::Error::from(io::ErrorKind::TimedOut))
}

/// Why a connection gave no whole answer, as `object_store` decides by whether to try again.
fn broken(error: hyper::Error) -> HttpError {
    let is_io = error.source().is_some_and(|cause| cause.is::<io::Error>());
    let is_cut = error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || error.is_body_write_aborted();
    // Tried again: all that is asked of a bucket here may be asked twice.
    let kind = if is_io || is_cut { HttpErrorKind::Request } else { HttpErrorKind::Unknown };
    HttpError::new(kind, error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn client(port: u16) -> (HttpClient, String) {
        let options = ClientOptions::new().with_allow_http(true);
        let client = Connector::new(None).unwrap().connect(&options).unwrap();
        (client, format!("http://127.0.0.1:{port}/"))
    }

    async fn ask(client: &HttpClient, url: &str) -> Result<Bytes, HttpError> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().unwrap();
        client.execute(request).await?.into_body().bytes().await
    }

    /// As `object_store` asks: what may be asked again is, once.
    async fn ask_twice(client: &HttpClient, url: &str) -> Result<Bytes, HttpError> {
        match ask(client, url).await {
            Err(error) if error.kind() == HttpErrorKind::Request => ask(client, url).await,
            answer => answer,
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_until_the_service_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, url) = client(listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            // Two answers, then the end, whatever is asked.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                for _ in 0..2 {
                    let _ = stream.read(&mut [0; 4096]).unwrap();
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            }
        });
        for _ in 0..4 {
            // A close that is on its way while a request is sent breaks that request off.
            assert_eq!(ask_twice(&client, &url).await.unwrap(), "ok");
        }
        server.join().unwrap();
        let refused = ask_twice(&client, &url).await.unwrap_err();
        assert_eq!(refused.kind(), HttpErrorKind::Connect);
    }

    #[tokio::test]
    async fn what_breaks_off_may_be_asked_again_and_plain_http_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, url) = client(listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
        });
        let cut = ask(&client, &url).await.unwrap_err();
        assert_eq!(cut.kind(), HttpErrorKind::Request);
        server.join().unwrap();
        let careful = Connector::new(None).unwrap().connect(&ClientOptions::new()).unwrap();
        let refused = ask(&careful, &url).await.unwrap_err();
        assert!(refused.to_string().contains("AWS_ALLOW_HTTP"), "{refused}");
    }
}
