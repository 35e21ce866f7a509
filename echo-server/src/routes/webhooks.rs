//! `POST /webhooks/transcription`: what workers elsewhere tell of their jobs, and the deliveries of ours.
//!
//! What the headers say is checked before the body is read, and a long body waits for its turn: anybody
//! may send one. It is verified as bytes before it is parsed, each message is answered once, and each event is
//! fenced by its lease: whoever lost it gets 409 and must stop.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::query::Path;
use crate::app::App;
use crate::auth::{Caller, READ, WRITE};
use crate::clock::{now_ms, rfc3339};
use crate::error::{Answer, Problem};
use crate::job::{JobError, Usage};
use crate::store::{CheckpointPart, Claim, Lease, Report, StoreError};
use crate::upload::{self, Gathering};
use crate::waveform::Waveform;
use crate::webhook::sign;
use crate::worker::{self, Outcome, until};

/// The longest message taken.
const MAX_BODY_BYTES: usize = 32 << 20;
/// Longer ones take turns, since who sends them is not known before they are here.
const SHORT_BYTES: usize = 64 << 10;
/// How long the turn of such a message lasts.
const TURN: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
struct Message<'a> {
    r#type: String,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Debug, Deserialize)]
struct Data<'a> {
    job_id: String,
    epoch: Option<i64>,
    lease_token: Option<String>,
    worker_id: Option<String>,
    progress: Option<f64>,
    stage: Option<String>,
    segments: Option<Value>,
    first_segment: Option<u64>,
    #[serde(borrow, default)]
    checkpoints: Vec<Done<'a>>,
    restart: Option<bool>,
    /// Of a claim: whether the worker can go on from checkpoints.
    resumes: Option<bool>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    usage: Option<Usage>,
    error: Option<JobError>,
    waveform: Option<Waveform>,
}

/// A part of a job that is done.
#[derive(Debug, Deserialize)]
struct Done<'a> {
    reached_s: f64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Takes an event of a worker.
pub(super) async fn transcription(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let stamp = match sign::stamp(&parts.headers, now_ms()) {
        Ok(stamp) => stamp,
        Err(problem) => {
            upload::linger(&mut body.into_data_stream()).await;
            return Err(problem.closing());
        }
    };
    let (body, _turn) = read(&app, body).await?;
    let id = stamp.verify(&app.worker_secret, &body)?;
    app.pool.hear();
    let known = id.clone();
    if let Some(answer) = app.db.call(move |store| store.inbound(&known)).await? {
        let mut answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["duplicate"] = json!(true);
        return Ok(axum::Json(answer).into_response());
    }
    let message: Message<'_> = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(422, "invalid_option", format!("the message: {error}")))?;
    let answer = apply(&app, &message).await?;
    let text = answer.to_string();
    app.db.call(move |store| store.keep_inbound(&id, &text, now_ms())).await?;
    Ok(axum::Json(answer).into_response())
}

/// The body of a message, with the turn that a long one needed.
async fn read(app: &App, body: Body) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Problem> {
    let mut gathering = Gathering::of(body);
    if gathering.has_ended_within(SHORT_BYTES).await? {
        return Ok((gathering.into_bytes(), None));
    }
    let Ok(Ok(turn)) = timeout(upload::QUEUE, app.messages.acquire()).await else {
        let problem = Problem::new(503, "too_many_uploads", "too many long messages at once");
        return Err(problem.retry_after(2).closing());
    };
    let late = || Problem::new(408, "upload_aborted", "the message took too long").closing();
    let whole = timeout(TURN, gathering.has_ended_within(MAX_BODY_BYTES)).await;
    if !whole.map_err(|_| late())?? {
        let detail = format!("more than {MAX_BODY_BYTES} bytes");
        return Err(Problem::new(413, "body_too_large", detail).closing());
    }
    Ok((gathering.into_bytes(), Some(turn)))
}

async fn apply(app: &App, message: &Message<'_>) -> Result<Value, Problem> {
    let data = &message.data;
    let kind = message.r#type.strip_prefix("transcription.").unwrap_or(&message.r#type);
    let (Some(epoch), Some(token)) = (data.epoch, &data.lease_token) else {
        if kind == "started" {
            return claim(app, data).await;
        }
        return Err(Problem::new(422, "invalid_option", "epoch and lease_token are missing"));
    };
    let lease = Lease::from_token(epoch, token);
    let outcome = match kind {
        "completed" => {
            let missing = || Problem::new(422, "invalid_option", "data.result is missing");
            let json = data.result.ok_or_else(missing)?.get().to_owned();
            Outcome::Completed { json, busy_seconds: data.usage.unwrap_or_default().busy_seconds }
        }
        "failed" => {
            let unknown = || JobError::passing("engine_failed", "the worker did not say why");
            Outcome::Failed(data.error.clone().unwrap_or_else(unknown))
        }
        "cancelled" => Outcome::Cancelled,
        "lost" => return lose(app, data, &lease).await,
        "released" => Outcome::Released,
        "waveform" => return keep_waveform(app, data, &lease).await,
        "started" | "heartbeat" | "progress" | "checkpoint" => {
            return report(app, data, &lease).await;
        }
        other => {
            let detail = format!("there is no event `{other}`");
            return Err(Problem::new(422, "invalid_option", detail));
        }
    };
    match worker::end(app, &lease, outcome).await {
        Ok(_) => Ok(accepted(app, false)),
        Err(error) => Err(gone_or(app, data, error).await),
    }
}

/// The process that had the job died; what it leaves is the same as that of a process of ours.
async fn lose(app: &App, data: &Data<'_>, lease: &Lease) -> Result<Value, Problem> {
    let own = lease.clone();
    let is_held = app.db.call(move |store| Ok(store.leased(&own)?.is_some())).await?;
    let Some(owner) = data.worker_id.clone().filter(|_| is_held) else {
        return Err(gone_or(app, data, StoreError::Fenced).await);
    };
    app.db.call(move |store| store.lose(&owner, now_ms())).await?;
    worker::sweep(app).await?;
    Ok(accepted(app, false))
}

/// Keeps what a recording looks like, as the worker that decoded it saw it.
async fn keep_waveform(app: &App, data: &Data<'_>, lease: &Lease) -> Result<Value, Problem> {
    let waveform = data.waveform.as_ref().filter(|waveform| waveform.fits());
    let missing = || Problem::new(422, "invalid_option", "data.waveform is missing or none");
    let json = serde_json::to_vec(waveform.ok_or_else(missing)?).unwrap_or_default();
    let own = lease.clone();
    let job = match app.db.call(move |store| store.leased(&own)).await? {
        Some(job) => job,
        None => return Err(gone_or(app, data, StoreError::Fenced).await),
    };
    if let Some(hash) = &job.blob_hash
        && let Err(error) = app.files.keep_waveform(hash, &json).await
    {
        // It is only drawn: without it nothing is wrong.
        tracing::warn!(job.id = %job.id, %error, "a waveform could not be kept");
    }
    Ok(accepted(app, job.is_cancel_requested))
}

async fn report(app: &App, data: &Data<'_>, lease: &Lease) -> Result<Value, Problem> {
    let fits = |progress: &f64| (0.0..=1.0).contains(progress);
    let report = Report {
        progress: data.progress.filter(fits),
        stage: data.stage.clone().filter(|stage| stage.len() <= 64),
        segments: data.segments.clone().filter(Value::is_array),
        first_segment: data.first_segment,
        checkpoints: checkpoints(app, data),
        is_restart: data.restart.unwrap_or(false),
    };
    match worker::report(app, lease, report).await {
        Ok(renewed) => Ok(accepted(app, renewed.is_cancel_requested)),
        Err(error) => Err(gone_or(app, data, error).await),
    }
}

/// What a worker has done, if somebody wants to know.
fn checkpoints(app: &App, data: &Data<'_>) -> Vec<CheckpointPart> {
    let parts = data.checkpoints.iter().filter(|_| !app.config.checkpoint.is_zero());
    let stored = |part: &Done<'_>| CheckpointPart {
        reached_s: part.reached_s,
        data: part.data.get().to_owned(),
    };
    parts.map(stored).collect()
}

fn accepted(app: &App, is_cancel_requested: bool) -> Value {
    json!({
        "accepted": true,
        "cancel_requested": is_cancel_requested,
        "lease_seconds": app.config.lease.as_secs_f64(),
        "server_time": rfc3339(now_ms()),
    })
}

/// A job that is over is gone; one that runs elsewhere has another lease.
async fn gone_or(app: &App, data: &Data<'_>, error: StoreError) -> Problem {
    if !matches!(error, StoreError::Fenced) {
        return error.into();
    }
    let id = data.job_id.clone();
    match app.db.call(move |store| store.state_of(&id)).await {
        Ok(None) => Problem::job_not_found(),
        Ok(Some(state)) if state.is_final() => Problem::new(410, "job_gone", "the job is over"),
        Ok(Some(_)) => error.into(),
        Err(error) => error.into(),
    }
}

/// The first contact of a worker that was told of a job by a queue.
async fn claim(app: &App, data: &Data<'_>) -> Result<Value, Problem> {
    let owner = data.worker_id.clone().unwrap_or_else(|| "remote".to_owned());
    let (id, lease) = (data.job_id.clone(), app.config.lease);
    let checkpoint_seconds = app.config.checkpoint.as_secs_f64();
    let resumes = data.resumes == Some(true) && checkpoint_seconds > 0.0;
    let claimed = app.db.call(move |store| {
        let now = now_ms();
        store.claim_job(&id, &Claim { owner: &owner, until: until(now, lease), resumes }, now)
    });
    let Some(claimed) = claimed.await? else {
        return Err(gone_or(app, data, StoreError::Fenced).await);
    };
    app.hub.changed(&claimed.job.id);
    let job = &claimed.job;
    Ok(json!({
        "job_id": job.id,
        "attempt": job.attempt,
        "epoch": job.epoch,
        "lease_token": claimed.token,
        "lease_seconds": app.config.lease.as_secs_f64(),
        "options": job.options,
        "model": job.options.model,
        "resume_from_s": claimed.resumes_at.unwrap_or(0.0),
        "checkpoint_seconds": checkpoint_seconds,
        "audio_sha256": job.blob_hash,
        "audio_bytes": job.source.size_bytes,
        "max_audio_seconds": app.config.max_audio_seconds,
        "traceparent": job.traceparent,
    }))
}

/// Shows the deliveries of a job.
pub(super) async fn deliveries(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    caller.may(READ)?;
    let (tenant, own) = (caller.tenant, id);
    let found = app.db.call(move |store| {
        let job = store.job(&tenant, &own)?;
        Ok((job.is_some(), store.deliveries(&tenant, &own)?))
    });
    let (exists, items) = found.await?;
    if !exists {
        return Err(Problem::job_not_found());
    }
    Ok(axum::Json(json!({ "items": items })).into_response())
}

/// Starts the tries of a delivery anew.
pub(super) async fn redeliver(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<Response, Problem> {
    caller.may(WRITE)?;
    let tenant = caller.tenant;
    let done = app.db.call(move |store| store.redeliver(&tenant, &id, &delivery, now_ms()));
    if !done.await? {
        return Err(Problem::new(404, "not_found", "there is no such delivery"));
    }
    app.hub.deliveries.notify_one();
    Ok((StatusCode::ACCEPTED, axum::Json(json!({ "state": "pending" }))).into_response())
}
