//! `POST /upload/complete`: a finished upload of `/uploads` in, a job out.
//!
//! Until the job is kept nothing is taken from the upload, and afterwards the upload remembers the job:
//! a client that did not hear the answer asks again and gets the same one.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::upload::submitted;
use super::{idempotency, uploads, url};
use crate::app::{App, Drain};
use crate::auth::{Caller, WRITE};
use crate::error::{Answer, Problem};
use crate::job::{Job, Submission};
use crate::submit::{check_room, submit_file};
use crate::upload::{Received, disk, sound_type};

/// Makes a job of an upload.
pub(super) async fn complete(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<axum::Json<Map<String, Value>>, JsonRejection>,
) -> Answer {
    caller.may(WRITE)?;
    if app.drain_phase() >= Drain::Refusing {
        return Err(Problem::new(503, "draining", "the server is going down").retry_after(5));
    }
    check_room(&app, &caller).await?;
    let axum::Json(body) =
        body.map_err(|error| Problem::new(400, "bad_query", error.body_text()))?;
    let print = idempotency::print(&[&Value::Object(body.clone()).to_string()]);
    let key = idempotency::reserve(&app, &caller, "complete", &headers).await?;
    if let Some(replay) = key.as_ref().map_or(Ok(None), |key| key.replay(&print))? {
        return Ok(replay);
    }
    let outcome = accept(&app, &caller, body).await;
    if let Some(key) = key {
        key.finish(&app, &print, &outcome).await;
    }
    Ok(submitted(&app, &outcome?))
}

async fn accept(
    app: &Arc<App>,
    caller: &Caller,
    mut body: Map<String, Value>,
) -> Result<Job, Problem> {
    let Some(Value::String(id)) = body.remove("upload_id") else {
        return Err(Problem::new(422, "missing_file", "`upload_id` is missing"));
    };
    let submission = Submission::from_map(url::merged(body)?, &app.config.model)?;
    job_of(app, caller, &id, submission).await
}

/// Makes a job of a finished upload; `id` may be its whole address.
pub(super) async fn job_of(
    app: &Arc<App>,
    caller: &Caller,
    id: &str,
    submission: Submission,
) -> Result<Job, Problem> {
    let id = id.rsplit('/').next().unwrap_or_default();
    let (turn, standing) = uploads::open(app, caller, id).await?;
    if let Some(job_id) = standing.about.job_id {
        let tenant = caller.tenant.clone();
        let job = app.db.call(move |store| store.job(&tenant, &job_id)).await?;
        return job.ok_or_else(Problem::job_not_found);
    }
    if standing.offset < standing.about.length {
        return Err(uploads::mismatch(&standing));
    }
    let blob = app.files.keep_file(&app.resumable.data_path(id)).await.map_err(disk)?;
    let media_type = sound_type(blob.size_bytes, &blob.head)?;
    let filename = standing.about.filename.clone();
    let received = Received { blob, filename, media_type, fields: Vec::new() };
    let job = submit_file(app, caller, &received, submission).await?;
    if let Err(error) = app.resumable.became(id, &standing.about, &job.id).await {
        tracing::warn!(job.id = %job.id, %error, "an upload does not remember its job");
    }
    drop(turn);
    Ok(job)
}
