//! The OpenAI surface: `/v1/audio/transcriptions`, `/v1/audio/translations`, `/v1/models`.
//!
//! The same jobs as under `/api/v1`, waited for. Their clients retry without an idempotency key; since
//! the same sound with the same options runs once, a retry joins the run that is under way.

mod fields;
mod formats;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use echo_core::Task;
use serde_json::{Value, json};

use super::query::Path;
use super::results::result_of;
use super::transcription::wait_for;
use crate::app::App;
use crate::auth::{Caller, READ, WRITE};
use crate::clock::now_ms;
use crate::error::{Answer, Problem};
use crate::job::{Job, State as JobState};
use crate::room;
use crate::submit::submit_file;
use crate::upload;
use crate::worker;
use fields::Asked;
pub(super) use fields::names;

/// OpenAI's endpoints.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/audio/transcriptions", post(transcribe).layer(DefaultBodyLimit::disable()))
        .route("/audio/translations", post(translate).layer(DefaultBodyLimit::disable()))
        .route("/models", get(models))
        .route("/models/{id}", get(model))
        .fallback(super::not_found)
}

/// Refusals from outside the handlers, such as of a token, in OpenAI's envelope, too.
pub(super) async fn envelope(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Problem>() {
        Some(problem) => OpenAiError(problem).into_response(),
        None => response,
    }
}

/// A problem in OpenAI's envelope, which is all that their clients understand.
#[derive(Debug)]
struct OpenAiError(Problem);

impl From<Problem> for OpenAiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<crate::store::StoreError> for OpenAiError {
    fn from(error: crate::store::StoreError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let kind = match problem.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        // Their API knows no 422.
        let status = if problem.status == 422 {
            400.try_into().unwrap_or(problem.status)
        } else {
            problem.status
        };
        let param = problem
            .faults
            .first()
            .map(|fault| fault.pointer.rsplit('/').next().unwrap_or_default());
        let error = json!({ "message": problem.detail, "type": kind, "param": param, "code": problem.code });
        let mut response = (status, axum::Json(json!({ "error": error }))).into_response();
        problem.add_headers(&mut response);
        response
    }
}

async fn transcribe(
    app: State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, OpenAiError> {
    answer(app, caller, request, Task::Transcribe).await
}

async fn translate(
    app: State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, OpenAiError> {
    answer(app, caller, request, Task::Translate).await
}

async fn answer(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
    task: Task,
) -> Result<Response, OpenAiError> {
    caller.may(WRITE)?;
    room::check(&app, &caller, 1).await?;
    let turn = upload::admit(&app, request.headers()).await?;
    let mut received = upload::receive(&app, request).await?;
    drop(turn);
    let form = std::mem::take(&mut received.fields);
    let asked = Asked::read(form, &app.config.model, task)?;
    let job = submit_file(&app, &caller, &received, asked.submission.clone(), None).await?;
    let guard = Disconnect::watch(&app, &caller, &job);
    let mut response = if asked.is_streamed {
        stream::stream(app, caller, job.id, asked.format, guard)
    } else {
        let done =
            wait_for(&app, &caller, &job.id, app.config.sync_timeout, |job| job.state.is_final());
        let job = done.await;
        guard.disarm();
        let job = job?;
        if !job.state.is_final() {
            // The client's next try joins the run.
            let problem = Problem::new(503, "sync_timeout", "the transcription is still running");
            return Err(problem.retry_after(1).into());
        }
        formats::write(&finished(&app, &job).await?, &asked)?
    };
    if !asked.ignored.is_empty()
        && let Ok(names) = HeaderValue::from_str(&asked.ignored.join(","))
    {
        response.headers_mut().insert("x-echo-ignored-params", names);
    }
    Ok(response)
}

/// The result of a job that is over.
async fn finished(app: &App, job: &Job) -> Result<echo_core::Transcript, Problem> {
    if job.state == JobState::Failed {
        let error = job.error.as_ref();
        let message = error.map_or("the transcription failed", |error| &error.message);
        let is_input = error.is_some_and(|error| !error.retryable && error.code != "worker_lost");
        let (status, code) = if is_input { (400, "invalid_audio") } else { (500, "engine_failed") };
        return Err(Problem::new(status, code, message));
    }
    let result = result_of(app, job).await?;
    serde_json::from_slice(&result).map_err(|error| {
        tracing::error!(job.id = %job.id, %error, "a result could not be understood");
        Problem::internal()
    })
}

/// Cancels a job whose client has gone, if it was this client's alone.
struct Disconnect {
    watched: Option<(Arc<App>, String, String)>,
}

impl Disconnect {
    fn watch(app: &Arc<App>, caller: &Caller, job: &Job) -> Self {
        let is_watched = app.config.is_cancelled_on_disconnect && !job.state.is_final();
        let watched = is_watched.then(|| (Arc::clone(app), caller.tenant.clone(), job.id.clone()));
        Self { watched }
    }

    fn disarm(mut self) {
        self.watched = None;
    }
}

impl Drop for Disconnect {
    fn drop(&mut self) {
        let Some((app, tenant, id)) = self.watched.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let own = id.clone();
            let asked =
                app.db.call(move |store| store.cancel(&tenant, &own, false, now_ms())).await;
            if let Ok(Some(crate::store::Cancellation::Done(job))) = asked {
                worker::announce(&app, &job);
            }
            app.ask_to_stop(&id);
        });
    }
}

/// `GET /v1/models`.
async fn models(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, OpenAiError> {
    caller.may(READ)?;
    let items: Vec<Value> = fields::names(&app.config.model).iter().map(|id| card(id)).collect();
    Ok(axum::Json(json!({ "object": "list", "data": items })).into_response())
}

/// `GET /v1/models/{id}`.
async fn model(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, OpenAiError> {
    caller.may(READ)?;
    if !fields::names(&app.config.model).contains(&id) {
        return Err(fields::no_model(&id).into());
    }
    Ok(axum::Json(card(&id)).into_response())
}

fn card(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 0, "owned_by": "echo" })
}

/// `GET /api/v1/models`.
pub(super) async fn own_models(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.may(READ)?;
    let model = json!({
        "id": app.config.model,
        "tasks": ["transcribe", "translate"],
        "loaded": app.pool.is_ready(),
        "default": true,
    });
    let mut response = axum::Json(json!({ "items": [model] })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
