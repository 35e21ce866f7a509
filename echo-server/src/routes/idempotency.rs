//! `Idempotency-Key`: the same request twice is one job.
//!
//! The key is reserved before the body is read, and answered in the transaction that keeps the job: not
//! even a request whose outcome nobody knows can be repeated by another one. A request that dies leaves a
//! reservation that ends by itself; one that fails lets the key go.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth::Caller;
use crate::clock::now_ms;
use crate::error::Problem;
use crate::job::{Job, summary_json};
use crate::secrets::sha256_hex;
use crate::store::{Answer, Answered, RequestKey, Reserved};
use crate::trace;

/// The key of a request, reserved for it.
#[derive(Debug, Clone)]
pub(super) struct Reservation {
    tenant: String,
    route: &'static str,
    key: String,
    known: Option<Answered>,
}

/// The key that a request names, if it names one.
fn named(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let key = key.ok_or_else(|| {
        Problem::new(400, "bad_query", "Idempotency-Key is 1 to 255 visible characters").closing()
    })?;
    Ok(Some(key.to_owned()))
}

/// Reserves a key, unless it stands for a request that is still being answered.
async fn reserve(
    app: &App,
    tenant: String,
    route: &'static str,
    key: String,
) -> Result<Reservation, Problem> {
    let (owner, own) = (tenant.clone(), key.clone());
    let reserved = app.db.call(move |store| {
        store.reserve_key(&RequestKey { tenant: &owner, route, key: &own }, now_ms())
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
    Ok(Reservation { tenant, route, key, known })
}

/// The answer that a key stands for, if there is one and the request is the same.
///
/// # Errors
/// `idempotency_key_reused` if it is another one.
pub(super) fn replay(key: Option<&Reservation>, print: &str) -> Result<Option<Response>, Problem> {
    key.map_or(Ok(None), |key| key.replay(print))
}

impl Reservation {
    fn replay(&self, print: &str) -> Result<Option<Response>, Problem> {
        let Some(known) = &self.known else { return Ok(None) };
        if known.fingerprint != print {
            let detail = "the key was used with another request";
            return Err(Problem::new(422, "idempotency_key_reused", detail));
        }
        let status = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
        let json = [("content-type", "application/json"), ("idempotent-replayed", "true")];
        let mut response = (status, json, known.body.clone()).into_response();
        let kind = if self.route == "batch" { "batch" } else { "transcription" };
        let location = format!("/api/v1/{kind}/{}", known.job_id);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert("location", location);
        }
        Ok(Some(response))
    }

    /// What the key will stand for once a job is kept.
    pub(super) fn answer(&self, print: String) -> Answer {
        let told = move |jobs: &[Job]| jobs.first().map(|job| answered(&print, job));
        self.answer_with(told)
    }

    /// The same in words of the caller's.
    pub(super) fn answer_with(
        &self,
        told: impl Fn(&[Job]) -> Option<Answered> + Send + Sync + 'static,
    ) -> Answer {
        let (tenant, key) = (self.tenant.clone(), self.key.clone());
        Answer { tenant, route: self.route, key, told: Box::new(told) }
    }

    /// Lets the key go of a request that has made no job.
    async fn let_go(self, app: &App) {
        let free = app.db.call(move |store| {
            let key = RequestKey { tenant: &self.tenant, route: self.route, key: &self.key };
            store.keep_answer(&key, None, now_ms())
        });
        if let Err(error) = free.await {
            tracing::warn!(%error, "an idempotency key could not be freed");
        }
    }
}

fn answered(print: &str, job: &Job) -> Answered {
    Answered {
        fingerprint: print.to_owned(),
        status: if job.state.is_final() { 200 } else { 202 },
        job_id: job.id.clone(),
        body: serde_json::Value::Object(summary_json(job)).to_string(),
    }
}

/// Keeps the answer of a request that has found its job made.
pub(super) async fn keep(app: &App, answer: Answer, job: &Job) {
    let Some(told) = (answer.told)(std::slice::from_ref(job)) else { return };
    let kept =
        app.db.call(move |store| store.keep_answer(&answer.key(), Some(&told), now_ms())).await;
    if let Err(error) = kept {
        tracing::warn!(%error, "an idempotency key could not be kept");
    }
}

/// Makes jobs under the key that a request names, to the end even if the client hangs up meanwhile:
/// what follows from them is part of it, and so is letting the key go.
///
/// # Errors
/// If the key is no key, or stands for a request that is still being answered; those of `work`.
pub(super) async fn settle<T: Send + 'static, F>(
    app: &Arc<App>,
    (caller, headers): (&Caller, &HeaderMap),
    route: &'static str,
    work: impl FnOnce(Option<Reservation>) -> F + Send + 'static,
) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>> + Send,
{
    let (app, tenant, named) = (Arc::clone(app), caller.tenant.clone(), named(headers)?);
    let work = async move {
        let Some(key) = named else { return work(None).await };
        let key = reserve(&app, tenant, route, key).await?;
        let outcome = work(Some(key.clone())).await;
        if outcome.is_err() {
            key.let_go(&app).await;
        }
        outcome
    };
    let ended = tokio::spawn(trace::within(trace::current(), work)).await;
    ended.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was not worked on to its end");
        Err(Problem::internal())
    })
}

/// What makes two requests the same.
pub(super) fn print(parts: &[&str]) -> String {
    sha256_hex(parts.join("\n"))
}
