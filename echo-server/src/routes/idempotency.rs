//! `Idempotency-Key`: the same request twice is one job.
//!
//! The key is reserved before the body is read. A request that dies leaves a reservation that ends by
//! itself; one that fails lets the key go.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth::Caller;
use crate::clock::now_ms;
use crate::error::Problem;
use crate::job::{Job, summary_json};
use crate::secrets::sha256_hex;
use crate::store::{Answered, RequestKey, Reserved};

/// The key of a request, reserved for it.
#[derive(Debug)]
pub(super) struct Reservation {
    tenant: String,
    route: &'static str,
    key: String,
    known: Option<Answered>,
}

/// Reserves the key that a request names, if it names one.
///
/// # Errors
/// If the key is no key, or stands for a request that is still being answered.
pub(super) async fn reserve(
    app: &App,
    caller: &Caller,
    route: &'static str,
    headers: &HeaderMap,
) -> Result<Option<Reservation>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let key = key.ok_or_else(|| {
        Problem::new(400, "bad_query", "Idempotency-Key is 1 to 255 visible characters").closing()
    })?;
    let (tenant, own) = (caller.tenant.clone(), key.to_owned());
    let reserved = app.db.call(move |store| {
        store.reserve_key(&RequestKey { tenant: &tenant, route, key: &own }, now_ms())
    });
    let known = match reserved.await? {
        Reserved::Fresh => None,
        Reserved::Answered(answer) => Some(answer),
        Reserved::InProgress => {
            let detail = "a request with this key is being answered";
            return Err(Problem::new(409, "idempotency_in_progress", detail)
                .retry_after(1)
                .closing());
        }
    };
    Ok(Some(Reservation { tenant: caller.tenant.clone(), route, key: key.to_owned(), known }))
}

impl Reservation {
    /// The answer that the key stands for, if this request is the same.
    ///
    /// # Errors
    /// `idempotency_key_reused` if it is another one.
    pub(super) fn replay(&self, print: &str) -> Result<Option<Response>, Problem> {
        let Some(known) = &self.known else { return Ok(None) };
        if known.fingerprint != print {
            let detail = "the key was used with another request";
            return Err(Problem::new(422, "idempotency_key_reused", detail));
        }
        let status = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
        let json = [("content-type", "application/json"), ("idempotent-replayed", "true")];
        let mut response = (status, json, known.body.clone()).into_response();
        let location = format!("/api/v1/transcription/{}", known.job_id);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert("location", location);
        }
        Ok(Some(response))
    }

    /// Keeps the answer, or lets the key go where there is none.
    pub(super) async fn finish(self, app: &App, print: &str, outcome: &Result<Job, Problem>) {
        if self.known.is_some() {
            return;
        }
        let answer = outcome.as_ref().ok().map(|job| Answered {
            fingerprint: print.to_owned(),
            status: if job.state.is_final() { 200 } else { 202 },
            job_id: job.id.clone(),
            body: serde_json::Value::Object(summary_json(job)).to_string(),
        });
        let kept = app.db.call(move |store| {
            let key = RequestKey { tenant: &self.tenant, route: self.route, key: &self.key };
            store.keep_answer(&key, answer.as_ref(), now_ms())
        });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "an idempotency key could not be kept");
        }
    }
}

/// What makes two requests the same.
pub(super) fn print(parts: &[&str]) -> String {
    sha256_hex(parts.join("\n"))
}
