//! One request on one connection to a checked address: no redirects, no proxy, no cookies, no pool.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::policy::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// The most of an answer to a callback that is read.
const MAX_ANSWER_BYTES: usize = 4096;

/// Why there was no answer; a word for logs and clients that tells nothing about the network.
pub(super) type Failure = &'static str;

/// The answer to a [`post`].
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The HTTP status.
    pub status: u16,
    /// What `Retry-After` says, in seconds.
    pub retry_after_seconds: Option<u64>,
}

/// Asks for a resource; the body is still to be read.
///
/// # Errors
/// If there was no answer in time.
pub async fn get(target: &Target, headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
    let mut request =
        Request::get(&target.url.path).body(Full::default()).map_err(|_| "bad url")?;
    *request.headers_mut() = headers;
    // What is measured and limited must be what is stored.
    let identity = HeaderValue::from_static("identity");
    request.headers_mut().insert(header::ACCEPT_ENCODING, identity);
    exchange(target, request, HEADER_TIMEOUT).await
}

/// Sends a body; of the answer only the status matters.
///
/// # Errors
/// If there was no answer in time.
pub async fn post(
    target: &Target,
    headers: HeaderMap,
    body: Bytes,
    at_most: Duration,
) -> Result<Sent, Failure> {
    let mut request =
        Request::post(&target.url.path).body(Full::new(body)).map_err(|_| "bad url")?;
    *request.headers_mut() = headers;
    let sent = async {
        let mut response = exchange(target, request, at_most).await?;
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after_seconds = retry_after.and_then(|text| text.to_str().ok()?.parse().ok());
        let mut read = 0;
        while let Some(Ok(frame)) = response.body_mut().frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok(Sent { status: response.status().as_u16(), retry_after_seconds })
    };
    timeout(at_most, sent).await.map_err(|_| "timeout")?
}

async fn exchange(
    target: &Target,
    mut request: Request<Full<Bytes>>,
    at_most: Duration,
) -> Result<Response<Incoming>, Failure> {
    let host = HeaderValue::from_str(&target.url.authority()).map_err(|_| "bad url")?;
    request.headers_mut().insert(header::HOST, host);
    request
        .headers_mut()
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("echo-server/", env!("CARGO_PKG_VERSION"))));
    let stream = connect(target).await?;
    let exchange = async {
        if target.url.is_https {
            let name = ServerName::try_from(target.url.host.clone()).map_err(|_| "bad url")?;
            let tls = TlsConnector::from(Arc::clone(&TLS)).connect(name, stream).await;
            send(tls.map_err(|_| "tls")?, request).await
        } else {
            send(stream, request).await
        }
    };
    timeout(at_most, exchange).await.map_err(|_| "timeout")?
}

async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let mut last = "connect";
    for address in &target.addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => last = "connect",
            Err(_) => last = "timeout",
        }
    }
    Err(last)
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| "connect")?;
    // The connection lives until the answer was read or dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|_| "broken")
}

/// The roots of the web's certificates, as Mozilla has them.
static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the versions that rustls thinks safe");
    Arc::new(versions.with_root_certificates(roots).with_no_client_auth())
});
