//! What a worker's events do to its job; the same for workers on a pipe and behind a webhook.

use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use echo_core::Transcript;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::{Moment, now_ms};
use crate::job::{Job, JobError, State, Usage};
use crate::storage::is_away;
use crate::store::{Claimed, Lease, Renewed, Report, Result, StoreError};
use crate::trace;

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// With a transcript, as echo-core's JSON.
    Completed {
        /// The JSON.
        json: String,
        /// Seconds of work.
        busy_seconds: f64,
    },
    /// With an error.
    Failed(JobError),
    /// It was stopped because the job was cancelled.
    Cancelled,
    /// It was given back and does not count.
    Released,
}

/// Prolongs a lease and passes on what its holder tells.
///
/// # Errors
/// [`StoreError::Fenced`] if the lease was lost.
pub async fn report(app: &App, lease: &Lease, report: Report) -> Result<Renewed> {
    let lease = lease.clone();
    let lease_time = app.config.lease;
    let is_news = report.progress.is_some() || report.segments.is_some() || report.is_restart;
    let n_parts = report.checkpoints.len();
    let renewed = app
        .db
        .call(move |store| {
            let now = now_ms();
            store.renew(&lease, &report, until(now, lease_time), now)
        })
        .await?;
    if is_news {
        app.hub.changed(&renewed.job_id);
    }
    if n_parts > 0 {
        app.metrics.add("checkpoints_total", &[], n_parts as f64);
    }
    Ok(renewed)
}

/// What earlier attempts have done of a claimed job, for its worker to go on from. Without it the
/// work is done again, and nothing is wrong.
pub async fn done_before(app: &App, claimed: &Claimed) -> Vec<Box<RawValue>> {
    let Some(reached_s) = claimed.resumes_at else { return Vec::new() };
    let lease = claimed.lease.clone();
    match app.db.call(move |store| store.checkpoints(&lease)).await {
        Ok(parts) => {
            tracing::info!(job.id = %claimed.job.id, reached_s, "job goes on from a checkpoint");
            app.metrics.add("resumed_audio_seconds_total", &[], reached_s);
            // What is no JSON is told to the worker as what it is: no checkpoint.
            let raw = |part: String| RawValue::from_string(part).unwrap_or_default();
            parts.into_iter().map(raw).collect()
        }
        Err(error) => {
            tracing::warn!(job.id = %claimed.job.id, %error, "checkpoints could not be read");
            Vec::new()
        }
    }
}

/// When a lease given now runs out.
pub fn until(now: i64, lease: Duration) -> i64 {
    now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}

/// Ends an attempt.
///
/// A result is written first, under the key of its sound and options: whoever loses the lease in
/// between leaves a file that is right anyway.
///
/// # Errors
/// [`StoreError::Fenced`] if the lease was lost.
pub async fn end(app: &App, lease: &Lease, outcome: Outcome) -> Result<Job> {
    let (kept, outcome) = match outcome {
        Outcome::Completed { json, busy_seconds } => {
            match keep_result(app, lease, &json, busy_seconds).await? {
                Ok(usage) => (Some(usage), Outcome::Cancelled),
                Err(error) => (None, Outcome::Failed(error)),
            }
        }
        other => (None, other),
    };
    let own = lease.clone();
    let job = app
        .db
        .call(move |store| {
            let now = now_ms();
            match (&kept, &outcome) {
                (Some(usage), _) => store.complete(&own, *usage, usage.audio_seconds, now),
                (None, Outcome::Failed(error)) => store.fail(&own, error, now),
                (None, Outcome::Released) => store.release(&own, now),
                (None, _) => store.cancelled(&own, now),
            }
        })
        .await?;
    if let Some(usage) = kept {
        app.pool.ran(usage.audio_seconds, usage.busy_seconds);
        app.metrics.add("audio_seconds_total", &[], usage.audio_seconds);
        app.metrics.add("busy_seconds_total", &[], usage.busy_seconds);
        let cost_usd = usage.busy_seconds / 3600.0 * app.config.usd_per_hour;
        app.metrics.add("cost_usd_total", &[], cost_usd);
    }
    app.metrics.add("attempts_total", &[("outcome", job.state.as_str())], 1.0);
    announce(app, &job);
    if job.state.is_final() {
        trace::job_ended(app, &job.id).await;
    }
    Ok(job)
}

/// Wakes who waits for a job or for what follows from it.
pub fn announce(app: &App, job: &Job) {
    app.hub.changed(&job.id);
    if job.state == State::Pending {
        app.hub.work.notify_one();
        app.hub.fetch.notify_one();
    }
    if job.state.is_final() {
        tracing::info!(job.id = %job.id, status = %job.state, attempt = job.attempt, "job ended");
        app.hub.deliveries.notify_one();
    }
}

/// Checks a transcript and keeps it under its key.
async fn keep_result(
    app: &App,
    lease: &Lease,
    json: &str,
    busy_seconds: f64,
) -> Result<std::result::Result<Usage, JobError>> {
    let own = lease.clone();
    let job = app.db.call(move |store| store.leased(&own)).await?.ok_or(StoreError::Fenced)?;
    let Some(key) = &job.cache_key else { return Err(StoreError::Fenced) };
    let transcript = match checked(json) {
        Ok(transcript) => transcript,
        Err(message) => return Ok(Err(JobError::passing("internal_invalid_result", message))),
    };
    let result = result_json(&transcript, &job.options.model);
    if let Err(error) = app.files.keep_result(key, result.to_string().as_bytes()).await {
        // The work is not thrown away: it is tried again.
        if is_away(&error) || error.kind() == ErrorKind::StorageFull {
            tracing::warn!(job.id = %job.id, %error, "a result could not be kept yet");
            return Err(if is_away(&error) { StoreError::Unavailable } else { StoreError::Full });
        }
        tracing::error!(job.id = %job.id, %error, "a result could not be kept");
        let message = "the result could not be written";
        return Ok(Err(JobError::passing("insufficient_storage", message)));
    }
    app.cache.put(key, result.to_string().into()).await;
    Ok(Ok(Usage { audio_seconds: transcript.duration, busy_seconds }))
}

/// Reads a transcript and makes sure that its times are in order.
fn checked(json: &str) -> std::result::Result<Transcript, String> {
    let transcript: Transcript = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut last = 0.0;
    for segment in &transcript.segments {
        let is_ordered = segment.start >= last && segment.end >= segment.start;
        if !is_ordered || !segment.end.is_finite() {
            return Err(format!(
                "a segment from {} to {} is out of order",
                segment.start, segment.end
            ));
        }
        last = segment.start;
    }
    Ok(transcript)
}

/// The transcript as the API shows it.
fn result_json(transcript: &Transcript, model: &str) -> Value {
    let mut result = serde_json::to_value(transcript).unwrap_or(Value::Null);
    if let Some(fields) = result.as_object_mut() {
        fields.insert("schema".into(), json!("echo.transcript/1"));
        fields.insert("text".into(), json!(transcript.text()));
        fields.insert("model".into(), json!({ "id": model }));
        if transcript.segments.is_empty() {
            let mut warnings = transcript.warnings.clone();
            warnings.push("no_speech".to_owned());
            fields.insert("warnings".into(), json!(warnings));
        }
    }
    result
}

/// Ends attempts whose lease has run out, now and then, for ever.
pub async fn sweep(app: &App) -> Result<()> {
    let clock = Arc::clone(&app.clock);
    let swept = app.db.call(move |store| {
        // Held until the end: no other sweep may come between a step of the clock and its correction.
        let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Moment::now();
        if let Some(by_ms) = clock.step_to(seen) {
            tracing::warn!(by_ms, "the clock was set");
            store.clock_stepped(by_ms)?;
        }
        *clock = seen;
        store.sweep(seen.wall_ms)
    });
    let swept = swept.await?;
    if !swept.requeued.is_empty() || !swept.ended.is_empty() {
        let (again, ended) = (swept.requeued.len(), swept.ended.len());
        app.metrics.add("leases_lost_total", &[], (again + ended) as f64);
        tracing::warn!(again, ended, "leases were lost");
    }
    for id in swept.requeued.iter().chain(&swept.ended) {
        app.hub.changed(id);
    }
    if !swept.requeued.is_empty() {
        app.hub.work.notify_waiters();
        app.hub.work.notify_one();
        app.hub.fetch.notify_one();
    }
    if !swept.ended.is_empty() {
        app.hub.deliveries.notify_one();
    }
    for id in &swept.ended {
        trace::job_ended(app, id).await;
    }
    Ok(())
}
