//! From what a client sent to a row of the table: the one way in for every endpoint.

use std::sync::Arc;

use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::clock::now_ms;
use crate::error::{Fault, Problem};
use crate::job::{Callback, Job, Source, Submission};
use crate::outbound::{Policy, Url};
use crate::secrets::seal;
use crate::store::{Answer, Fetched, NewBatch, NewJob};
use crate::trace;
use crate::upload::{Received, unread};
use crate::worker;

/// Makes a job of a file that has arrived.
///
/// # Errors
/// If the options ask for what is not here.
pub(crate) async fn submit_file(
    app: &Arc<App>,
    caller: &Caller,
    received: &Received,
    submission: Submission,
    answer: Option<Answer>,
) -> Result<Job, Problem> {
    let new = prepare_file(app, caller, received, submission)?;
    keep(app, caller, new, answer).await
}

/// The job of a file that has arrived, not yet kept.
///
/// # Errors
/// If the options ask for what is not here.
pub(crate) fn prepare_file(
    app: &App,
    caller: &Caller,
    received: &Received,
    submission: Submission,
) -> Result<NewJob, Problem> {
    let source = Source {
        kind: "file".to_owned(),
        filename: received.filename.clone(),
        ..Source::default()
    };
    let blob = Fetched {
        hash: received.blob.hash.clone(),
        size_bytes: received.blob.size_bytes,
        media_type: received.media_type.to_owned(),
        cache_key: app.cache_key(&caller.tenant, &received.blob.hash, &submission.options),
    };
    prepare(app, caller, source, Some(blob), submission)
}

/// Makes a job of a source that has yet to be fetched.
///
/// # Errors
/// If the options ask for what is not here.
pub(crate) async fn submit(
    app: &Arc<App>,
    caller: &Caller,
    source: Source,
    submission: Submission,
    answer: Option<Answer>,
) -> Result<Job, Problem> {
    let new = prepare(app, caller, source, None, submission)?;
    keep(app, caller, new, answer).await
}

/// A job that is not yet kept.
///
/// # Errors
/// If the options ask for what is not here.
pub(crate) fn prepare(
    app: &App,
    caller: &Caller,
    source: Source,
    blob: Option<Fetched>,
    submission: Submission,
) -> Result<NewJob, Problem> {
    if submission.options.model != app.config.model {
        let detail = format!("this server has the model {}", app.config.model);
        return Err(Problem::options(vec![Fault::option("model", "out_of_range", detail)]));
    }
    let callback = callback(app, &submission)?;
    Ok(NewJob {
        id: Uuid::now_v7().to_string(),
        tenant: caller.tenant.clone(),
        priority: submission.priority,
        options: submission.options,
        source,
        blob,
        callback,
        metadata: submission.metadata,
        external_id: submission.external_id,
        retry_of: None,
        traceparent: trace::current(),
        max_attempts: app.config.max_attempts,
        batch_id: None,
    })
}

/// Makes a job of one that is over: the same source, options and reports.
///
/// # Errors
/// `result_expired` if its recording is not here any more; those of [`submit`].
pub(crate) async fn submit_again(
    app: &Arc<App>,
    caller: &Caller,
    old: &Job,
) -> Result<Job, Problem> {
    let gone = || Problem::new(410, "result_expired", "the recording was erased");
    let blob = match &old.blob_hash {
        Some(hash) => {
            let size_bytes =
                app.files.blob_size(hash).await.map_err(|error| unread(error, gone))?;
            Some(Fetched {
                hash: hash.clone(),
                size_bytes,
                media_type: old.source.media_type.clone().unwrap_or_default(),
                cache_key: app.cache_key(&caller.tenant, hash, &old.options),
            })
        }
        // The download itself had failed.
        None if old.source.sealed.is_some() => None,
        None => return Err(gone()),
    };
    let new = NewJob {
        priority: old.priority,
        options: old.options.clone(),
        callback: old.callback.clone(),
        metadata: old.metadata.clone(),
        external_id: old.external_id.clone(),
        retry_of: Some(old.id.clone()),
        batch_id: None,
        traceparent: trace::current(),
        source: old.source.clone(),
        id: Uuid::now_v7().to_string(),
        tenant: caller.tenant.clone(),
        max_attempts: app.config.max_attempts,
        blob,
    };
    keep(app, caller, new, None).await
}

async fn keep(
    app: &Arc<App>,
    caller: &Caller,
    new: NewJob,
    answer: Option<Answer>,
) -> Result<Job, Problem> {
    let kept = app.db.call(move |store| store.submit_answered(&new, answer.as_ref(), now_ms()));
    let job = kept.await?;
    accepted(app, &job);
    caller.audit(app, "submit", &job.id).await;
    Ok(job)
}

/// Keeps jobs that are asked for together.
///
/// # Errors
/// The store's.
pub(crate) async fn submit_batch(
    app: &Arc<App>,
    caller: &Caller,
    batch: NewBatch,
    jobs: Vec<NewJob>,
    answer: Option<Answer>,
) -> Result<Vec<Job>, Problem> {
    let id = batch.id.clone();
    let kept = app
        .db
        .call(move |store| store.submit_batch_answered(&batch, &jobs, answer.as_ref(), now_ms()));
    let jobs = kept.await?;
    jobs.iter().for_each(|job| accepted(app, job));
    // It may be complete already.
    app.hub.deliveries.notify_one();
    caller.audit(app, "submit_batch", &id).await;
    Ok(jobs)
}

fn accepted(app: &App, job: &Job) {
    tracing::info!(job.id = %job.id, tenant = %job.tenant, status = %job.state, cached = job.is_cached, "job submitted");
    app.metrics.add("jobs_submitted_total", &[("kind", &job.source.kind)], 1.0);
    worker::announce(app, job);
}

fn callback(app: &App, submission: &Submission) -> Result<Option<Callback>, Problem> {
    let Some(url) = submission.callback_url.clone() else { return Ok(None) };
    let secret = submission.callback_secret.as_deref();
    Ok(Some(Callback {
        events: submission.callback_events.clone(),
        include_result: submission.callback_include_result,
        ..callback_to(app, url, secret)?
    }))
}

/// A callback to an address that may be asked, about no end yet.
///
/// # Errors
/// If the address is none or not allowed.
pub(crate) fn callback_to(
    app: &App,
    url: String,
    secret: Option<&str>,
) -> Result<Callback, Problem> {
    let refuse = |code, detail: &str| {
        Err(Problem::options(vec![Fault::option("callback_url", code, detail)]))
    };
    match Url::parse(&url) {
        None => return refuse("invalid_url", "expected https://…"),
        Some(url) if !url.is_https && !app.config.has_insecure_callbacks => {
            return refuse("invalid_url", "expected https://…");
        }
        Some(url) if Policy::new(&app.config).check_form(&url).is_err() => {
            return refuse("fetch_blocked", "the address is not allowed");
        }
        Some(_) => {}
    }
    let sealed_secret = match secret {
        None => None,
        Some(secret) => Some(seal(&app.master_key, secret).ok_or_else(Problem::internal)?),
    };
    Ok(Callback { url, events: Vec::new(), include_result: false, sealed_secret })
}
