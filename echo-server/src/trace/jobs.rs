//! The spans of a job that is over, from its row and its attempts.

use opentelemetry::trace::SpanKind;

use super::Traces;
use crate::app::App;
use crate::clock::parse_rfc3339;
use crate::job::Job;
use crate::store::Attempt;

/// Tells of a job that has just ended: its whole time, and each attempt from claim to end.
pub(crate) async fn job_ended(app: &App, id: &str) {
    if !app.traces.is_on() {
        return;
    }
    let own = id.to_owned();
    match app.db.call(move |store| store.history(&own)).await {
        Ok(Some((job, attempts))) => tell(&app.traces, &job, &attempts),
        Ok(None) => {}
        Err(error) => tracing::debug!(job.id = %id, %error, "a job is missing in its trace"),
    }
}

fn tell(traces: &Traces, job: &Job, attempts: &[Attempt]) {
    let end = job.finished_at.unwrap_or(job.created_at);
    let parent = job.traceparent.as_deref();
    let mut span = traces.span(SpanKind::Consumer, "job", parent, Some(job.created_at));
    span.set("job.id", job.id.clone());
    span.set("job.status", job.state.as_str());
    span.set("job.attempts", attempts.len() as i64);
    let started = job.started_at.unwrap_or(end);
    span.set("job.queue_seconds", (started - job.created_at).max(0) as f64 / 1000.0);
    if let Some(usage) = job.usage {
        span.set("job.audio_seconds", usage.audio_seconds);
        span.set("job.busy_seconds", usage.busy_seconds);
    }
    if let Some(error) = &job.error {
        span.fail(error.code.clone());
    }
    let above = span.context();
    for attempt in attempts {
        let start = parse_rfc3339(&attempt.started_at);
        let mut part = traces.span(SpanKind::Internal, "attempt", above.as_deref(), start);
        part.set("job.id", job.id.clone());
        part.set("attempt.number", i64::from(attempt.attempt));
        part.set("worker.id", attempt.worker.clone());
        let outcome = attempt.outcome.clone().unwrap_or_else(|| "unknown".to_owned());
        part.set("attempt.outcome", outcome.clone());
        if matches!(outcome.as_str(), "failed" | "lost") {
            part.fail(outcome);
        }
        part.end_at(attempt.ended_at.as_deref().and_then(parse_rfc3339).unwrap_or(end));
    }
    span.end_at(end);
}
