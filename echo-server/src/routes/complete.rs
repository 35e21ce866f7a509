//! `POST /upload/complete`: a finished upload of `/uploads` in, a job out.
//!
//! Until the job is kept nothing is taken from the upload, and afterwards the upload remembers the job:
//! a client that did not hear the answer asks again and gets the same one.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Map, Value};

use super::idempotency;
use super::order::Order;
use super::{uploads, url};
use crate::app::App;
use crate::auth::Caller;
use crate::error::{self, Problem};
use crate::job::{Job, Submission};
use crate::store::Answer;
use crate::submit::submit_file;
use crate::upload::resumable::{About, Turn};
use crate::upload::{Received, disk, sound_type};

/// Makes a job of an upload.
pub(super) async fn complete(State(app): State<Arc<App>>, order: Order) -> error::Answer {
    order.settle(app, "complete", accept).await
}

async fn accept(
    app: Arc<App>,
    caller: Caller,
    mut body: Map<String, Value>,
    answer: Option<Answer>,
) -> Result<Job, Problem> {
    let Some(Value::String(id)) = body.remove("upload_id") else {
        return Err(Problem::new(422, "missing_file", "`upload_id` is missing"));
    };
    let submission = Submission::from_map(url::merged(body)?, &app.config.model)?;
    match finished(&app, &caller, &id).await? {
        Finished::Job(job) => {
            if let Some(answer) = answer {
                idempotency::keep(&app, answer, &job).await;
            }
            Ok(*job)
        }
        Finished::File(file) => {
            let job = submit_file(&app, &caller, &file.received, submission, answer).await?;
            file.became(&app, &job).await;
            Ok(job)
        }
    }
}

/// An upload that has all its bytes.
pub(super) enum Finished {
    /// It is a job already.
    Job(Box<Job>),
    /// It is a file, and nobody else may do anything with it.
    File(Box<File>),
}

/// An upload as a file among the others.
pub(super) struct File {
    id: String,
    about: About,
    /// What it is.
    pub(super) received: Received,
    _turn: Turn,
}

impl File {
    /// Remembers what it has become.
    pub(super) async fn became(self, app: &App, job: &Job) {
        if let Err(error) = app.resumable.became(&self.id, &self.about, &job.id).await {
            tracing::warn!(job.id = %job.id, %error, "an upload does not remember its job");
        }
    }
}

/// Takes a finished upload; `id` may be its whole address.
pub(super) async fn finished(
    app: &Arc<App>,
    caller: &Caller,
    id: &str,
) -> Result<Finished, Problem> {
    let id = id.rsplit('/').next().unwrap_or_default();
    let (turn, standing) = uploads::open(app, caller, id).await?;
    if let Some(job_id) = standing.about.job_id {
        let tenant = caller.tenant.clone();
        let job = app.db.call(move |store| store.job(&tenant, &job_id)).await?;
        return job.map(|job| Finished::Job(Box::new(job))).ok_or_else(Problem::job_not_found);
    }
    if standing.offset < standing.about.length {
        return Err(uploads::mismatch(&standing));
    }
    let blob = app.files.keep_file(&app.resumable.data_path(id)).await.map_err(disk)?;
    let media_type = sound_type(blob.size_bytes, &blob.head)?;
    let filename = standing.about.filename.clone();
    let received = Received { blob, filename, media_type, fields: Vec::new() };
    let file = File { id: id.to_owned(), about: standing.about, received, _turn: turn };
    Ok(Finished::File(Box::new(file)))
}
