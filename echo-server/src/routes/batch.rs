//! `POST /batch`: many recordings in one request, each a job; `GET /batch/{batch_id}`: how far they are.
//!
//! Each item is checked by itself, and one that is refused says why in its place. The rest is kept in
//! one transaction: after a crash there are all of its jobs or none. The callback of the batch is a row
//! that the last job's end writes, so it is told once, whatever dies in between.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::complete::{self, Finished};
use super::idempotency::{self, Reservation};
use super::order::Order;
use super::query::Path;
use super::url;
use crate::app::App;
use crate::auth::{Caller, READ};
use crate::error::{Answer, Fault, Problem};
use crate::job::{Job, Submission, batch_json};
use crate::room;
use crate::store::{Answered, NewBatch, NewJob};
use crate::submit::{self, callback_to, prepare_file};
use crate::trace;

/// The most recordings of one request.
const MAX_ITEMS: usize = 100;
/// As of a job.
const MAX_SECRET_CHARACTERS: usize = 256;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    items: Vec<Value>,
    /// For items that do not say otherwise.
    options: Option<Map<String, Value>>,
    callback_url: Option<String>,
    callback_secret: Option<String>,
}

/// One recording.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    url: Option<String>,
    headers: Option<Value>,
    upload_id: Option<String>,
    options: Option<Map<String, Value>>,
    external_id: Option<String>,
}

/// An item that becomes a job, and the upload it came from, to which nobody writes meanwhile.
struct Ready {
    index: usize,
    job: NewJob,
    upload: Option<Box<complete::File>>,
}

/// Makes jobs of all items that can become one.
pub(super) async fn create(State(app): State<Arc<App>>, order: Order) -> Answer {
    let Order { caller, headers, body, print } = order;
    let wanted = read(body)?;
    room::check(&app, &caller, wanted.items.len() as u64).await?;
    let (own, asker) = (Arc::clone(&app), caller.clone());
    let work = move |key: Option<Reservation>| async move {
        if let Some(replay) = idempotency::replay(key.as_ref(), &print)? {
            return Ok(replay);
        }
        let keyed = key.map(|key| (key, print));
        let (id, body) = accept(&own, &asker, wanted, keyed).await?;
        Ok(submitted(&id, &body))
    };
    idempotency::settle(&app, (&caller, &headers), "batch", work).await
}

fn read(body: Map<String, Value>) -> Result<Wanted, Problem> {
    let invalid = |error: serde_json::Error| Problem::new(422, "invalid_option", error.to_string());
    let wanted: Wanted = serde_json::from_value(Value::Object(body)).map_err(invalid)?;
    let mut faults = Vec::new();
    let mut bad = |name: &str, detail: String| {
        faults.push(Fault { pointer: format!("/{name}"), code: "out_of_range", detail });
    };
    if !(1..=MAX_ITEMS).contains(&wanted.items.len()) {
        bad("items", format!("1 to {MAX_ITEMS}"));
    }
    let secret = wanted.callback_secret.as_deref().unwrap_or_default();
    if secret.chars().count() > MAX_SECRET_CHARACTERS {
        bad("callback_secret", format!("at most {MAX_SECRET_CHARACTERS} characters"));
    }
    if faults.is_empty() { Ok(wanted) } else { Err(Problem::options(faults)) }
}

async fn accept(
    app: &Arc<App>,
    caller: &Caller,
    wanted: Wanted,
    keyed: Option<(Reservation, String)>,
) -> Result<(String, Value), Problem> {
    let id = Uuid::now_v7().to_string();
    let secret = wanted.callback_secret.as_deref();
    let callback = wanted.callback_url.map(|url| callback_to(app, url, secret));
    let callback = callback.transpose().map_err(|mut problem| {
        // It stands beside the options here.
        problem.faults.iter_mut().for_each(|fault| fault.pointer = "/callback_url".to_owned());
        problem
    })?;
    let defaults = wanted.options.unwrap_or_default();
    // What is wrong with the defaults is no matter of an item.
    Submission::from_map(defaults.clone(), &app.config.model)?;
    let (mut items, mut ready) = (Vec::new(), Vec::new());
    let mut uploads = HashSet::new();
    for (index, item) in wanted.items.into_iter().enumerate() {
        let upload = item["upload_id"].as_str().map(ToOwned::to_owned);
        if upload.is_some_and(|upload| !uploads.insert(upload)) {
            let twice = Problem::new(422, "conflicting_field", "the upload is an item already");
            items.push(refused(index, &twice));
            continue;
        }
        match prepare(app, caller, item, &defaults).await {
            Ok((mut job, upload)) => {
                job.batch_id = Some(id.clone());
                ready.push(Ready { index, job, upload });
                items.push(Value::Null);
            }
            Err(problem) if problem.status.is_server_error() => return Err(problem),
            Err(problem) => items.push(refused(index, &problem)),
        }
    }
    let batch = NewBatch {
        id: id.clone(),
        tenant: caller.tenant.clone(),
        callback,
        traceparent: trace::current(),
    };
    let new = ready.iter().map(|ready| ready.job.clone()).collect();
    let listed = Listed { id, items, places: ready.iter().map(|ready| ready.index).collect() };
    let answer = keyed.map(|(key, print)| {
        let listed = listed.clone();
        key.answer_with(move |jobs| {
            Some(Answered {
                fingerprint: print.clone(),
                status: 202,
                job_id: listed.id.clone(),
                body: listed.with(jobs).to_string(),
            })
        })
    });
    let jobs = submit::submit_batch(app, caller, batch, new, answer).await?;
    for (ready, job) in ready.into_iter().zip(&jobs) {
        if let Some(upload) = ready.upload {
            upload.became(app, job).await;
        }
    }
    let body = listed.with(&jobs);
    Ok((listed.id, body))
}

/// A batch with its refused items, and the places of those that become jobs.
#[derive(Clone)]
struct Listed {
    id: String,
    items: Vec<Value>,
    places: Vec<usize>,
}

impl Listed {
    /// What is answered when these are its jobs.
    fn with(&self, jobs: &[Job]) -> Value {
        let mut items = self.items.clone();
        for (&index, job) in self.places.iter().zip(jobs) {
            if let Some(place) = items.get_mut(index) {
                *place = taken(index, job);
            }
        }
        let links = json!({ "self": format!("/api/v1/batch/{}", self.id) });
        json!({ "batch_id": self.id, "items": items, "links": links })
    }
}

/// The job of an item, not yet kept.
async fn prepare(
    app: &Arc<App>,
    caller: &Caller,
    item: Value,
    defaults: &Map<String, Value>,
) -> Result<(NewJob, Option<Box<complete::File>>), Problem> {
    let invalid = |error: serde_json::Error| Problem::new(422, "invalid_option", error.to_string());
    let item: Item = serde_json::from_value(item).map_err(invalid)?;
    let mut options = defaults.clone();
    options.extend(item.options.unwrap_or_default());
    if let Some(external_id) = item.external_id
        && options.insert("external_id".to_owned(), json!(external_id)).is_some()
    {
        return Err(Problem::new(422, "conflicting_field", "`external_id` is given twice"));
    }
    let submission = Submission::from_map(options, &app.config.model)?;
    match (item.url, item.upload_id) {
        (Some(address), None) => {
            let source = url::source(app, &address, item.headers)?;
            Ok((submit::prepare(app, caller, source, None, submission)?, None))
        }
        (None, Some(upload)) if item.headers.is_none() => {
            match complete::finished(app, caller, &upload).await? {
                Finished::File(file) => {
                    let job = prepare_file(app, caller, &file.received, submission)?;
                    Ok((job, Some(file)))
                }
                Finished::Job(job) => {
                    let problem =
                        Problem::new(409, "already_finished", "the upload is a job already");
                    Err(problem.with("job_id", job.id))
                }
            }
        }
        _ => {
            let detail = "expected either `url`, with `headers` or without, or `upload_id`";
            Err(Problem::new(422, "conflicting_field", detail))
        }
    }
}

fn taken(index: usize, job: &Job) -> Value {
    json!({ "index": index, "job_id": job.id, "status": job.state, "cached": job.is_cached })
}

fn refused(index: usize, problem: &Problem) -> Value {
    let mut error = json!({
        "status": problem.status.as_u16(),
        "code": problem.code,
        "detail": problem.detail,
        "errors": problem.faults,
    });
    if let Some(fields) = error.as_object_mut() {
        fields.extend(problem.extra.clone());
    }
    json!({ "index": index, "error": error })
}

fn submitted(id: &str, body: &Value) -> Response {
    let mut response = (StatusCode::ACCEPTED, axum::Json(body)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/batch/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Shows how many jobs of a batch are in which state.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    caller.may(READ)?;
    let found = app.db.call(move |store| store.batch(&caller.tenant, &id)).await?;
    let batch = found.ok_or_else(|| Problem::new(404, "not_found", "there is no such batch"))?;
    Ok(axum::Json(batch_json(&batch)).into_response())
}
