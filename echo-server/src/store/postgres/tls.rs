//! Addresses of PostgreSQL as clients of several languages write them, and encryption as they ask for it.
//!
//! `sslmode` is libpq's: `prefer` (the default) and `require` encrypt and believe any certificate,
//! `verify-ca` and `verify-full` check certificate and name, against `sslrootcert` or the web's roots.
//! `ssl` is asyncpg's name of the same.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use postgres::config::SslMode;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream as Encrypted};
use postgres::{Client, Config, NoTls, Socket};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Result, StoreError};

/// How connections are encrypted.
pub(super) struct Tls(Option<Arc<ClientConfig>>);

/// Reads an address such as `postgresql+asyncpg://user:password@host:5432/name?ssl=require`.
pub(super) fn parse(url: &str) -> Result<(Config, Tls)> {
    let refuse = |text: String| StoreError::Database(text.into());
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let driver = scheme.split('+').next().unwrap_or_default();
    if driver != "postgres" && driver != "postgresql" {
        return Err(refuse("expected postgresql://user:password@host:5432/name".to_owned()));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut mode, mut roots, mut kept) = ("prefer", None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode" | "ssl", value)) => mode = value,
            Some(("sslrootcert", value)) => roots = Some(value),
            _ => kept.push(pair),
        }
    }
    let url = format!("postgresql://{place}?{}", kept.join("&"));
    // The error names the parameter and no password.
    let mut config: Config = url.parse().map_err(|error| StoreError::Database(Box::new(error)))?;
    let (ssl_mode, is_checked) = match mode {
        "disable" | "false" => (SslMode::Disable, false),
        "allow" | "prefer" => (SslMode::Prefer, false),
        "require" | "true" => (SslMode::Require, false),
        "verify-ca" | "verify-full" => (SslMode::Require, true),
        other => return Err(refuse(format!("there is no sslmode `{other}`"))),
    };
    config.ssl_mode(ssl_mode);
    let tls = match ssl_mode {
        SslMode::Disable => None,
        _ => Some(client(is_checked, roots).map_err(refuse)?),
    };
    Ok((config, Tls(tls)))
}

fn client(is_checked: bool, roots: Option<&str>) -> std::result::Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if !is_checked {
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider)));
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let mut store = RootCertStore::empty();
    match roots {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| format!("sslrootcert {path}: {error}");
            for root in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let root = root.map_err(|error| wrong(&error))?;
                store.add(root).map_err(|error| wrong(&error))?;
            }
        }
    }
    Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

impl Tls {
    pub(super) fn connect(&self, config: &Config) -> Result<Client> {
        let connected = match &self.0 {
            Some(tls) => config.connect(Rustls(Arc::clone(tls))),
            None => config.connect(NoTls),
        };
        connected.map_err(|error| match error.code() {
            Some(_) => error.into(),
            // Whatever it is, the database was not reached.
            None => {
                tracing::debug!(%error, "PostgreSQL cannot be reached");
                StoreError::Unavailable
            }
        })
    }
}

#[derive(Clone)]
struct Rustls(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for Rustls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Handshake { connector: TlsConnector::from(Arc::clone(&self.0)), name })
    }
}

struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            self.connector.connect(self.name, stream).await.map(Box::new).map(Stream)
        })
    }
}

/// An encrypted connection.
struct Stream(Box<TlsStream<Socket>>);

impl Encrypted for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Believes any certificate, as libpq does below `verify-ca`: the connection is private unless
/// somebody sits in the middle.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_other_clients_are_understood() {
        for url in [
            "postgres://echo:secret@db:6432/jobs",
            "postgresql://echo:secret@db:6432/jobs?sslmode=disable",
            "postgresql+asyncpg://echo:secret@db:6432/jobs?ssl=require",
            "postgresql+psycopg2://echo:secret@db:6432/jobs?sslmode=verify-full",
        ] {
            let (config, _) = parse(url).unwrap();
            assert_eq!((config.get_user(), config.get_dbname()), (Some("echo"), Some("jobs")));
            assert_eq!(config.get_ports(), [6432]);
        }
        for url in ["mysql://db/jobs", "postgres://db/jobs?sslmode=maybe", "postgres://db/?nope=1"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
