//! The ends of a job, each with all that follows from it in the same transaction.

use uuid::Uuid;

use super::super::{Lease, Result};
use super::connection::Transaction;
use super::{batches, checkpoints, lease, rows};
use crate::job::{CallbackEvent, Job, JobError, Source, State, Usage};
use crate::secrets::random;

pub(super) fn complete(
    db: &mut Transaction<'_>,
    lease: &Lease,
    usage: Usage,
    duration: f64,
) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    lease::end_attempt(db, &job, "completed", None)?;
    checkpoints::forget(db, &job.id)?;
    rows::change_source(db, &job.id, |source| source.duration_seconds = Some(duration))?;
    let sql = "UPDATE jobs SET state = 'completed', progress = 1, stage = NULL, usage_json = $2, \
        commits = commits + 1, error_json = NULL, finished_at = $3, lease_owner = NULL, \
        lease_token_hash = NULL, lease_until = NULL, version = version + 1 WHERE id = $1";
    let now = db.now;
    db.execute(sql, &[&job.id, &serde_json::to_string(&usage)?, &now])?;
    if let Some(cache_key) = &job.cache_key {
        let sql =
            "INSERT INTO results (cache_key, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        db.execute(sql, &[cache_key, &now])?;
    }
    for follower in followers(db, &job.id)? {
        complete_without_run(db, &follower, duration)?;
        rows::remember_status(db, &follower)?;
    }
    let job = rows::remember_status(db, &job.id)?;
    enqueue_delivery(db, &job)?;
    Ok(job)
}

/// Ends a new job with a result that is there already.
pub(super) fn complete_from_cache(
    db: &mut Transaction<'_>,
    id: &str,
    cache_key: &str,
) -> Result<()> {
    let sql = "SELECT source_json FROM jobs WHERE cache_key = $1 AND state = 'completed' LIMIT 1";
    let source = db.first(sql, &[&cache_key])?;
    let source: Option<Source> =
        source.and_then(|row| serde_json::from_str(&row.get::<_, String>(0)).ok());
    let duration = source.and_then(|source| source.duration_seconds).unwrap_or_default();
    db.execute("UPDATE jobs SET cache_key = $2 WHERE id = $1", &[&id, &cache_key])?;
    complete_without_run(db, id, duration)
}

fn complete_without_run(db: &mut Transaction<'_>, id: &str, duration: f64) -> Result<()> {
    let usage = Usage { audio_seconds: duration, busy_seconds: 0.0 };
    rows::change_source(db, id, |source| source.duration_seconds = Some(duration))?;
    let sql = "UPDATE jobs SET state = 'completed', progress = 1, stage = NULL, cached = TRUE, \
        leader_id = NULL, usage_json = $2, commits = commits + 1, finished_at = $3, \
        version = version + 1 WHERE id = $1 AND state = 'pending'";
    let now = db.now;
    db.execute(sql, &[&id, &serde_json::to_string(&usage)?, &now])?;
    let job = rows::by_id(db, id)?;
    enqueue_delivery(db, &job)
}

pub(super) fn fail(db: &mut Transaction<'_>, lease: &Lease, error: &JobError) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    let detail = format!("{}: {}", error.code, error.message);
    lease::end_attempt(db, &job, "failed", Some(&detail))?;
    if job.is_cancel_requested {
        return cancel_for_good(db, &job.id);
    }
    if error.retryable && job.attempt < job.max_attempts {
        let run_after = db.now + backoff_ms(job.attempt);
        return lease::requeue(db, &job.id, run_after, Some(error));
    }
    fail_for_good(db, &job.id, error)
}

/// 10 s, 40 s, 160 s …, each a fifth shorter or longer by chance.
fn backoff_ms(attempt: u32) -> i64 {
    let base = 10_000 * 4_i64.pow(attempt.saturating_sub(1).min(6));
    let [chance] = random::<1>();
    base * (80 + i64::from(chance) * 40 / 255) / 100
}

pub(super) fn fail_for_good(db: &mut Transaction<'_>, id: &str, error: &JobError) -> Result<Job> {
    // Followers wanted the same of the same sound; they fail of the same.
    for follower in followers(db, id)? {
        end(db, &follower, State::Failed, Some(error))?;
    }
    end(db, id, State::Failed, Some(error))
}

pub(super) fn cancelled(db: &mut Transaction<'_>, lease: &Lease) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    if !job.is_cancel_requested {
        // Nobody asked for it, and others may follow: the run is given back.
        return lease::release(db, lease);
    }
    lease::end_attempt(db, &job, "cancelled", None)?;
    cancel_for_good(db, &job.id)
}

pub(super) fn cancel_for_good(db: &mut Transaction<'_>, id: &str) -> Result<Job> {
    end(db, id, State::Cancelled, None)
}

fn end(db: &mut Transaction<'_>, id: &str, state: State, error: Option<&JobError>) -> Result<Job> {
    let error = error.map(serde_json::to_string).transpose()?;
    let sql = "UPDATE jobs SET state = $2, stage = NULL, error_json = $3, finished_at = $4, \
        lease_owner = NULL, lease_token_hash = NULL, lease_until = NULL, leader_id = NULL, \
        version = version + 1 WHERE id = $1 AND state IN ('pending', 'processing')";
    let now = db.now;
    db.execute(sql, &[&id, &state.as_str(), &error, &now])?;
    if checkpoints::reached(db, id)?.is_some() {
        let attempt = rows::by_id(db, id)?.attempt;
        checkpoints::restart(db, id, attempt)?;
    }
    let job = rows::remember_status(db, id)?;
    enqueue_delivery(db, &job)?;
    Ok(job)
}

fn followers(db: &mut Transaction<'_>, leader: &str) -> Result<Vec<String>> {
    let sql = "SELECT id FROM jobs WHERE leader_id = $1 AND state = 'pending' ORDER BY created_at";
    Ok(db.query(sql, &[&leader])?.iter().map(|row| row.get(0)).collect())
}

/// Notes that somebody has to be told about the end of a job, and of its batch if it was the last one.
fn enqueue_delivery(db: &mut Transaction<'_>, job: &Job) -> Result<()> {
    let event = match job.state {
        State::Completed => CallbackEvent::Completed,
        State::Failed => CallbackEvent::Failed,
        State::Cancelled => CallbackEvent::Cancelled,
        State::Pending | State::Processing => return Ok(()),
    };
    if let Some(batch) = &job.batch_id {
        batches::finish(db, batch)?;
    }
    if !job.callback.as_ref().is_some_and(|callback| callback.events.contains(&event)) {
        return Ok(());
    }
    let sql = "INSERT INTO deliveries (id, event_id, job_id, tenant_id, event, state, next_at, \
        created_at) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $6)";
    let (id, event_id) = (Uuid::now_v7().to_string(), format!("msg_{}", Uuid::now_v7().simple()));
    let now = db.now;
    db.execute(sql, &[&id, &event_id, &job.id, &job.tenant, &job.state.as_str(), &now])?;
    Ok(())
}
