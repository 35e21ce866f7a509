//! Who asks, and what they may do.
//!
//! Without `JWT_SECRET` and `ECHO_API_KEYS` everybody is the tenant `public` with every scope but
//! `admin`; `serve` then listens on the loopback address unless told otherwise.

mod jwt;
mod ticket;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::clock::now_ms;
use crate::error::Problem;
use crate::secrets::{equal, sha256_hex};
use crate::store::AuditEntry;

pub use jwt::{Claims, sign};
pub use ticket::{
    STREAM_TICKET_SECONDS, TICKET_SECONDS, UsedTickets, issue_stream_ticket, issue_ticket,
};

/// What keys begin with, so that scanners of leaked secrets find them.
pub const KEY_PREFIX: &str = "echo_sk_";

/// May submit and cancel.
pub const WRITE: &str = "transcribe:write";
/// May read.
pub const READ: &str = "transcribe:read";
/// May manage keys.
pub const ADMIN: &str = "admin";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose jobs are seen.
    pub tenant: String,
    /// Who within the tenant.
    pub subject: String,
    /// What is allowed, separated by spaces.
    pub scopes: String,
    /// From where.
    pub peer: Option<IpAddr>,
}

impl Caller {
    /// Makes sure that something is allowed.
    ///
    /// # Errors
    /// `insufficient_scope`.
    pub fn may(&self, scope: &str) -> Result<(), Problem> {
        if self.scopes.split(' ').any(|held| held == scope) {
            return Ok(());
        }
        Err(Problem::new(403, "insufficient_scope", format!("the scope {scope} is needed")))
    }

    /// Notes what was done; a note that cannot be written is logged and stops nothing.
    pub async fn audit(&self, app: &App, action: &'static str, object: &str) {
        let entry = AuditEntry {
            tenant: self.tenant.clone(),
            subject: self.subject.clone(),
            action,
            object: Some(object.to_owned()),
            peer: self.peer.map(|peer| peer.to_string()),
            request_id: None,
            outcome: "done".to_owned(),
        };
        tracing::info!(target: "audit", tenant = %entry.tenant, subject = %entry.subject, action, object, "audit");
        if let Err(error) = app.db.call(move |store| store.audit(&entry, now_ms())).await {
            tracing::error!(%error, action, "the audit could not be written");
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::internal)
    }
}

/// The address of the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Lets a request through if it says who asks.
pub async fn require(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let peer = peer(&app, &request);
    let by_ticket =
        ticket::caller(&app.master_key, &app.used_tickets, request.uri(), now_ms() / 1000);
    let identified = match by_ticket {
        Some(caller) => Ok(Caller { peer, ..caller }),
        None => identify(&app, request.headers(), peer).await,
    };
    match identified {
        Ok(caller) => {
            if let Err(problem) = app.limits.check(&app, &caller, request.method()) {
                return problem.into_response();
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            tracing::info!(target: "audit", peer = ?peer, code = problem.code, "a request was not authenticated");
            problem.into_response()
        }
    }
}

/// Whether requests have to say who asks.
pub fn is_required(app: &App) -> bool {
    app.config.has_auth()
}

async fn identify(app: &App, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Caller, Problem> {
    let Some(token) = bearer(headers) else {
        if is_required(app) {
            return Err(Problem::new(401, "missing_credentials", "send Authorization: Bearer …"));
        }
        return Ok(Caller {
            tenant: "public".to_owned(),
            subject: "anonymous".to_owned(),
            scopes: format!("{WRITE} {READ}"),
            peer,
        });
    };
    if !is_required(app) {
        // The OpenAI clients insist on sending some key.
        let scopes = format!("{WRITE} {READ}");
        return Ok(Caller { tenant: "public".into(), subject: "anonymous".into(), scopes, peer });
    }
    if token.starts_with(KEY_PREFIX) {
        return by_key(app, token, peer).await;
    }
    let invalid = || Problem::new(401, "invalid_token", "the token is not valid");
    let secret = app.config.jwt_secret.as_ref().ok_or_else(invalid)?;
    let claims = jwt::verify(token, secret, now_ms() / 1000)?;
    Ok(Caller {
        tenant: claims.tid.clone().unwrap_or_else(|| claims.sub.clone()),
        subject: claims.sub,
        scopes: claims.scope,
        peer,
    })
}

async fn by_key(app: &App, key: &str, peer: Option<IpAddr>) -> Result<Caller, Problem> {
    let hash = sha256_hex(key);
    for (tenant, known, scopes) in &app.config.api_keys {
        if equal(known, &hash) {
            let subject = format!("key {}", &hash[..8]);
            return Ok(Caller { tenant: tenant.clone(), subject, scopes: scopes.clone(), peer });
        }
    }
    let known = app.db.call(move |store| store.key_by_hash(&hash)).await?;
    let key = known.ok_or_else(|| Problem::new(401, "invalid_token", "the key is not valid"))?;
    Ok(Caller { tenant: key.tenant, subject: format!("key {}", key.id), scopes: key.scopes, peer })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The client's address: behind trusted proxies the rightmost one that is not a proxy.
fn peer(app: &App, request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<Peer>()?.0;
    let is_trusted = |address: IpAddr| {
        app.config.trusted_proxies.iter().any(|network| network.contains(address))
    };
    if !is_trusted(peer) {
        return Some(peer);
    }
    let forwarded = request.headers().get("x-forwarded-for").and_then(|text| text.to_str().ok());
    let mut hops =
        forwarded.unwrap_or_default().rsplit(',').filter_map(|hop| hop.trim().parse().ok());
    Some(hops.find(|hop| !is_trusted(*hop)).unwrap_or(peer))
}
