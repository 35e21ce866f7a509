//! `POST /upload/file`: a recording in, a job out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::idempotency::{self, Reservation};
use super::query::Query;
use super::transcription::wait_for;
use crate::app::App;
use crate::auth::{Caller, WRITE};
use crate::error::{self, Problem};
use crate::job::{Job, Submission, TextField, summary_json};
use crate::room;
use crate::store::Answer;
use crate::submit::submit_file;
use crate::upload::{self, Received};

/// Takes a file with its options.
pub(super) async fn file(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<Vec<TextField>>,
    request: Request,
) -> error::Answer {
    caller.may(WRITE)?;
    room::check(&app, &caller, 1).await?;
    let turn = upload::admit(&app, request.headers()).await?;
    let headers = request.headers().clone();
    let (own, asker, sent) = (Arc::clone(&app), caller.clone(), headers.clone());
    let work = move |key: Option<Reservation>| async move {
        let received = upload::receive(&own, request).await?;
        drop(turn);
        let print = print(&received, &query);
        if let Some(replay) = idempotency::replay(key.as_ref(), &print)? {
            return Ok(Err(replay));
        }
        let answer = key.map(|key| key.answer(print));
        accept(&own, &asker, &sent, received, query, answer).await.map(Ok)
    };
    let job = match idempotency::settle(&app, (&caller, &headers), "file", work).await? {
        Ok(job) => job,
        Err(replay) => return Ok(replay),
    };
    let job = wait_if_preferred(&app, &caller, &headers, job).await?;
    Ok(submitted(&app, &job))
}

async fn accept(
    app: &Arc<App>,
    caller: &Caller,
    headers: &HeaderMap,
    mut received: Received,
    query: Vec<TextField>,
    answer: Option<Answer>,
) -> Result<Job, Problem> {
    check_digest(headers, &received.blob.hash)?;
    let mut fields = std::mem::take(&mut received.fields);
    fields.extend(query);
    let submission = read_options(fields, &app.config.model)?;
    submit_file(app, caller, &received, submission, answer).await
}

/// What makes two uploads the same: the sound and the options.
fn print(received: &Received, query: &[TextField]) -> String {
    let mut fields: Vec<String> =
        received.fields.iter().chain(query).map(|(name, text)| format!("{name}={text}")).collect();
    fields.sort();
    idempotency::print(&[&received.blob.hash, &fields.join("&")])
}

/// `Prefer: wait=30`: the answer may wait for the end.
async fn wait_if_preferred(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    job: Job,
) -> Result<Job, Problem> {
    let preference = headers.get("prefer").and_then(|text| text.to_str().ok());
    let seconds =
        preference.and_then(|text| text.trim().strip_prefix("wait=")?.parse::<u64>().ok());
    let Some(seconds) = seconds else { return Ok(job) };
    let at_most = Duration::from_secs(seconds.min(60));
    wait_for(app, caller, &job.id, at_most, |job| job.state.is_final()).await
}

/// Splits the field `options` from the others.
pub(crate) fn read_options(fields: Vec<TextField>, model: &str) -> Result<Submission, Problem> {
    let (options, fields): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|(name, _)| name == "options");
    let mut values = Map::new();
    for (_, text) in options.iter().filter(|(_, text)| !text.is_empty()) {
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => values.extend(object),
            _ => return Err(Problem::new(422, "invalid_option", "`options` is not a JSON object")),
        }
    }
    Submission::from_fields(values, fields, model)
}

/// `Repr-Digest: sha-256=:…:`, RFC 9530.
fn check_digest(headers: &HeaderMap, hash: &str) -> Result<(), Problem> {
    use base64::Engine;
    let Some(given) = headers.get("repr-digest").and_then(|text| text.to_str().ok()) else {
        return Ok(());
    };
    let mut digests = given.split(',').filter_map(|item| item.trim().strip_prefix("sha-256="));
    let Some(digest) = digests.next() else { return Ok(()) };
    let bytes = base64::engine::general_purpose::STANDARD.decode(digest.trim_matches(':'));
    if bytes.is_ok_and(|bytes| crate::secrets::hex(&bytes) == hash) {
        return Ok(());
    }
    Err(Problem::new(422, "digest_mismatch", "the file is not the one of Repr-Digest"))
}

/// The answer to a submission.
pub(super) fn submitted(app: &App, job: &Job) -> Response {
    let status = if job.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, axum::Json(summary_json(job))).into_response();
    let path = format!("/api/v1/transcription/{}", job.id);
    if let Ok(location) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if !job.state.is_final() {
        let wait = HeaderValue::from(app.pool.wait_seconds(1));
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}
