//! `GET` and `DELETE /transcription/{job_id}`: how a job is doing, and its end.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::query::{Path, Query};
use super::results::result_of;
use crate::app::App;
use crate::auth::{Caller, READ, WRITE};
use crate::clock::now_ms;
use crate::error::{Answer, Problem};
use crate::job::{Job, State as JobState, job_json, summary_json};
use crate::store::{Attempt, Cancellation};
use crate::trace;
use crate::worker;

/// The longest wait of a request.
const MAX_WAIT_SECONDS: u32 = 60;

/// The query of `GET`.
#[derive(Debug, Deserialize)]
pub(super) struct Show {
    include: Option<Include>,
    /// Seconds to wait for a change.
    wait: Option<u32>,
    /// The entity tag that is known already.
    since: Option<String>,
}

/// What comes along with a job.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Include {
    /// The transcript of a completed one.
    Result,
    /// Nothing.
    None,
}

/// Shows a job, at once or when it has changed.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Show>,
    headers: HeaderMap,
) -> Answer {
    caller.may(READ)?;
    let wait = Duration::from_secs(query.wait.unwrap_or(0).min(MAX_WAIT_SECONDS).into());
    let job = wait_for(&app, &caller, &id, wait, |job| match &query.since {
        Some(known) => job.etag().trim_matches('"') != known.trim_matches('"'),
        None => job.state.is_final(),
    })
    .await?;
    let etag = job.etag();
    let mut response = if is_known(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let attempts = attempts(&app, &job).await?;
        let has_result = job.state == JobState::Completed && query.include != Some(Include::None);
        let result = if has_result { result_of(&app, &job).await.ok() } else { None };
        whole(&job, &attempts, result.as_deref())
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Whether `If-None-Match` names an entity tag.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|text| text.to_str().ok());
    known.is_some_and(|tags| {
        tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*")
    })
}

/// Waits until a job is as wanted, at most so long, and returns it as it is then.
///
/// # Errors
/// `job_not_found`.
pub(super) async fn wait_for(
    app: &App,
    caller: &Caller,
    id: &str,
    at_most: Duration,
    is_wanted: impl Fn(&Job) -> bool,
) -> Result<Job, Problem> {
    let deadline = Instant::now() + at_most;
    let mut news = app.hub.listen();
    loop {
        let (tenant, own) = (caller.tenant.clone(), id.to_owned());
        let job = app.db.call(move |store| store.job(&tenant, &own)).await?;
        let job = job.ok_or_else(Problem::job_not_found)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if is_wanted(&job) || left.is_zero() {
            return Ok(job);
        }
        news.changed(id, left.min(Duration::from_secs(5))).await;
    }
}

async fn attempts(app: &App, job: &Job) -> Result<Vec<Attempt>, Problem> {
    if job.attempt <= 1 && job.error.is_none() {
        return Ok(Vec::new());
    }
    let id = job.id.clone();
    Ok(app.db.call(move |store| store.attempts(&id)).await?)
}

/// The row and, without parsing it again, the result.
fn whole(job: &Job, attempts: &[Attempt], result: Option<&[u8]>) -> Response {
    let mut fields = job_json(job);
    fields.insert("attempts".to_owned(), json!(attempts));
    let raw = result.and_then(|bytes| serde_json::from_slice::<&RawValue>(bytes).ok());
    let mut body = Value::Object(fields).to_string();
    body.pop();
    body.push_str(",\"result\":");
    body.push_str(raw.map_or("null", RawValue::get));
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The query of `DELETE`.
#[derive(Debug, Deserialize)]
pub(super) struct Remove {
    /// Whether to erase what is known.
    #[serde(default)]
    purge: bool,
}

/// Cancels a job, or erases one that is over.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Remove>,
) -> Answer {
    caller.may(WRITE)?;
    let (tenant, own) = (caller.tenant.clone(), id.clone());
    let purge = query.purge;
    let cancellation =
        app.db.call(move |store| store.cancel(&tenant, &own, purge, now_ms())).await?;
    match cancellation.ok_or_else(Problem::job_not_found)? {
        Cancellation::Finished(_) if purge => erase(&app, &caller, &id).await,
        Cancellation::Finished(job) if job.state == JobState::Cancelled => {
            Ok(ended(StatusCode::OK, summary_json(&job)))
        }
        Cancellation::Finished(job) => {
            let problem = Problem::new(409, "already_finished", "the transcription is over");
            Err(problem.with("job_status", job.state.as_str()))
        }
        Cancellation::Done(job) => {
            worker::announce(&app, &job);
            trace::job_ended(&app, &job.id).await;
            caller.audit(&app, "cancel", &id).await;
            let status = if purge { StatusCode::ACCEPTED } else { StatusCode::OK };
            Ok(ended(status, summary_json(&job)))
        }
        Cancellation::Asked(job) => {
            app.ask_to_stop(&job.id);
            caller.audit(&app, "cancel", &id).await;
            Ok(ended(StatusCode::ACCEPTED, summary_json(&job)))
        }
    }
}

fn ended(status: StatusCode, job: Map<String, Value>) -> Response {
    (status, axum::Json(job)).into_response()
}

async fn erase(app: &App, caller: &Caller, id: &str) -> Answer {
    let (tenant, own) = (caller.tenant.clone(), id.to_owned());
    let orphans = app.db.call(move |store| store.purge(&tenant, &own, now_ms())).await?;
    let orphans = orphans.ok_or_else(Problem::job_not_found)?;
    for key in &orphans.results {
        app.cache.remove(key).await;
    }
    app.files.remove(&orphans).await;
    caller.audit(app, "purge", id).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
