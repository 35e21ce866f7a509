//! `POST /webhooks/transcription`: what workers elsewhere tell of their jobs, and the deliveries of ours.
//!
//! The body is verified as bytes before it is parsed, each message is answered once, and each event is
//! fenced by its lease: whoever lost it gets 409 and must stop.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::query::Path;
use crate::app::App;
use crate::auth::{Caller, READ, WRITE};
use crate::clock::{now_ms, rfc3339};
use crate::error::{Answer, Problem};
use crate::job::{JobError, Usage};
use crate::store::{Claim, Lease, Report, StoreError};
use crate::webhook::sign;
use crate::worker::{self, Outcome, until};

/// The longest message taken.
pub(super) const MAX_BODY_BYTES: usize = 32 << 20;

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
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    usage: Option<Usage>,
    error: Option<JobError>,
}

/// Takes an event of a worker.
pub(super) async fn transcription(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let id = sign::verify(&app.worker_secret, &headers, &body, now_ms())?;
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

async fn report(app: &App, data: &Data<'_>, lease: &Lease) -> Result<Value, Problem> {
    let fits = |progress: &f64| (0.0..=1.0).contains(progress);
    let report = Report {
        progress: data.progress.filter(fits),
        stage: data.stage.clone().filter(|stage| stage.len() <= 64),
        segments: data.segments.clone().filter(Value::is_array),
    };
    match worker::report(app, lease, report).await {
        Ok(renewed) => Ok(accepted(app, renewed.is_cancel_requested)),
        Err(error) => Err(gone_or(app, data, error).await),
    }
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
    let claimed = app.db.call(move |store| {
        let now = now_ms();
        store.claim_job(&id, &Claim { owner: &owner, until: until(now, lease) }, now)
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
        "resume_from_s": 0,
        "audio_sha256": job.blob_hash,
        "audio_bytes": job.source.size_bytes,
        "max_audio_seconds": app.config.max_audio_seconds,
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
