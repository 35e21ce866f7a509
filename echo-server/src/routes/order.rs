//! What the routes take that make jobs of a JSON object.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::idempotency;
use crate::app::{App, Drain};
use crate::auth::{Caller, WRITE};
use crate::error::Problem;

/// A JSON object from a caller who may write, while this server takes work.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) body: Map<String, Value>,
    /// What makes two of them the same.
    pub(super) print: String,
}

impl FromRequest<Arc<App>> for Order {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, app).await?;
        caller.may(WRITE)?;
        if app.drain_phase() >= Drain::Refusing {
            return Err(Problem::new(503, "draining", "the server is going down").retry_after(5));
        }
        let headers = parts.headers.clone();
        let request = Request::from_parts(parts, body);
        let bad = |error: JsonRejection| Problem::new(400, "bad_query", error.body_text());
        let Json(body) =
            Json::<Map<String, Value>>::from_request(request, app).await.map_err(bad)?;
        let print = idempotency::print(&[&Value::Object(body.clone()).to_string()]);
        Ok(Self { caller, headers, body, print })
    }
}
