//! A job as JSON: what clients see of a row.

use serde_json::{Map, Value, json};

use super::{Job, State};
use crate::clock::rfc3339;
use crate::store::Batch;

/// What a list and a fresh submission show.
pub fn summary_json(job: &Job) -> Map<String, Value> {
    let path = format!("/api/v1/transcription/{}", job.id);
    let view = json!({
        "job_id": job.id,
        "status": job.state,
        "stage": stage(job),
        "progress": job.progress,
        "cached": job.is_cached,
        "external_id": job.external_id,
        "batch_id": job.batch_id,
        "filename": job.source.filename,
        "duration_seconds": job.source.duration_seconds,
        "cancel_requested": job.is_cancel_requested,
        "created_at": rfc3339(job.created_at),
        "started_at": job.started_at.map(rfc3339),
        "finished_at": job.finished_at.map(rfc3339),
        "links": {
            "self": path,
            "events": format!("{path}/events"),
            "download": format!("{path}/download?format=srt"),
        },
    });
    object(view)
}

/// All of a row that clients may see.
pub fn job_json(job: &Job) -> Map<String, Value> {
    let mut view = summary_json(job);
    let more = json!({
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "source": source(job),
        "options": job.options,
        "metadata": job.metadata,
        "retry_of": job.retry_of,
        "error": job.error,
        "usage": usage(job),
        "purged_at": job.purged_at.map(rfc3339),
    });
    view.extend(object(more));
    view
}

/// What clients see of a batch.
pub fn batch_json(batch: &Batch) -> Map<String, Value> {
    let count = |state: State| {
        let known = batch.counts.iter().find(|(known, _)| *known == state);
        known.map_or(0, |(_, count)| *count)
    };
    let counts: Map<String, Value> =
        State::ALL.iter().map(|state| (state.to_string(), json!(count(*state)))).collect();
    object(json!({
        "batch_id": batch.id,
        "status": if batch.completed_at.is_some() { "completed" } else { "processing" },
        "total": batch.counts.iter().map(|(_, count)| count).sum::<u64>(),
        "counts": counts,
        "created_at": rfc3339(batch.created_at),
        "completed_at": batch.completed_at.map(rfc3339),
        "links": {
            "self": format!("/api/v1/batch/{}", batch.id),
            "jobs": format!("/api/v1/transcriptions?batch_id={}", batch.id),
        },
    }))
}

fn stage(job: &Job) -> Option<&str> {
    match job.state {
        State::Pending => Some("queued"),
        State::Processing => job.stage.as_deref().or(Some("starting")),
        _ => None,
    }
}

fn source(job: &Job) -> Value {
    let mut source = serde_json::to_value(&job.source).unwrap_or(Value::Null);
    if let Some(fields) = source.as_object_mut() {
        fields.remove("sealed");
    }
    source
}

fn usage(job: &Job) -> Value {
    let Some(usage) = job.usage else { return Value::Null };
    let waited_ms = job.started_at.unwrap_or(job.created_at) - job.created_at;
    let times_real_time =
        (usage.busy_seconds > 0.0).then(|| usage.audio_seconds / usage.busy_seconds);
    json!({
        "audio_seconds": usage.audio_seconds,
        "busy_seconds": usage.busy_seconds,
        "queue_seconds": waited_ms as f64 / 1000.0,
        "rtfx": times_real_time,
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
