//! What happens to every request: an identifier, a measurement, and headers that protect browsers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::error::Problem;
use crate::trace;
use crate::upload;

/// The longest body that is no upload.
const MAX_BODY_BYTES: usize = 2 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The policy of the web page: nothing from elsewhere, no frames.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
    connect-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Gives a request its identifier and counts it; completes problem documents.
pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let id = request_id(request.headers());
    let mut span = app.traces.request(&method, route.as_deref(), request.headers());
    span.set("request.id", id.clone());
    let mut response = trace::within(span.context(), next.run(request)).await;
    let status = response.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_u16().to_string());
    }
    let time = started.elapsed();
    // Routes, not paths: their number is bounded.
    app.metrics.request(route.as_deref().unwrap_or("none"), method.as_str(), status.as_u16(), time);
    let duration_ms = time.as_millis();
    if status.is_server_error() {
        tracing::warn!(request.id = %id, %method, path, status = status.as_u16(), duration_ms, "request failed");
    } else {
        tracing::debug!(request.id = %id, %method, path, status = status.as_u16(), duration_ms, "request");
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = complete(response, &problem, &id, &path).await;
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Reads the small body of a request whole before anybody works on it, so that no handler waits for
/// a sender that is silent or drips.
pub(super) async fn gather(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match upload::gather(body, MAX_BODY_BYTES).await {
        Ok(bytes) => next.run(Request::from_parts(parts, bytes.into())).await,
        Err(problem) => problem.into_response(),
    }
}

/// The client's identifier if it is a decent one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_decent = |id: &&str| {
        (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_decent);
    given.map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// Adds to a problem document what only this layer knows.
async fn complete(response: Response, problem: &Problem, id: &str, path: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let Ok(Value::Object(mut document)) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    if document.contains_key("code") {
        document.insert("instance".to_owned(), path.into());
        document.insert("request_id".to_owned(), id.into());
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    if problem.status.is_server_error() {
        tracing::warn!(request.id = %id, code = problem.code, "request was refused");
    }
    Response::from_parts(parts, Body::from(Value::Object(document).to_string()))
}

/// Adds headers that keep browsers from guessing, framing and keeping.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let is_api =
        request.uri().path().starts_with("/api/") || request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", CONTENT_POLICY),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_api {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// Lets pages of the configured origins, and of no others, call the API.
pub(super) async fn share(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let origin = origin.filter(|origin| {
        app.config.cors_origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
    });
    let Some(origin) = origin else { return next.run(request).await };
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if is_preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    let exposed = "etag, location, retry-after, x-request-id, idempotent-replayed, \
        upload-offset, upload-length, upload-expires, upload-metadata, tus-resumable, tus-version, \
        tus-extension, tus-max-size, tus-checksum-algorithm";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    if is_preflight {
        let methods = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = "authorization, content-type, idempotency-key, last-event-id, prefer, repr-digest, \
            tus-resumable, upload-length, upload-offset, upload-metadata, upload-checksum, \
            x-http-method-override";
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}
