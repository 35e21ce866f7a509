//! The ends of a job, each with all that follows from it in the same transaction.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::{Lease, Result};
use super::{batches, checkpoints, lease, rows};
use crate::job::{CallbackEvent, Job, JobError, State, Usage};
use crate::secrets::random;

pub(super) fn complete(
    db: &Connection,
    lease: &Lease,
    usage: Usage,
    duration: f64,
    now: i64,
) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    lease::end_attempt(db, &job, "completed", None, now)?;
    checkpoints::forget(db, &job.id)?;
    let sql = "UPDATE jobs SET state = 'completed', progress = 1, stage = NULL, usage_json = ?2, \
        source_json = json_set(source_json, '$.duration_seconds', ?3), commits = commits + 1, \
        error_json = NULL, finished_at = ?4, lease_owner = NULL, lease_token_hash = NULL, \
        lease_until = NULL, version = version + 1 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![
        job.id,
        serde_json::to_string(&usage)?,
        duration,
        now
    ])?;
    if let Some(cache_key) = &job.cache_key {
        let sql = "INSERT OR IGNORE INTO results (cache_key, created_at) VALUES (?1, ?2)";
        db.prepare_cached(sql)?.execute(params![cache_key, now])?;
    }
    for follower in followers(db, &job.id)? {
        complete_without_run(db, &follower, duration, now)?;
        rows::remember_status(db, &follower, now)?;
    }
    let job = rows::remember_status(db, &job.id, now)?;
    enqueue_delivery(db, &job, now)?;
    Ok(job)
}

/// Ends a new job with a result that is there already.
pub(super) fn complete_from_cache(
    db: &Connection,
    id: &str,
    cache_key: &str,
    now: i64,
) -> Result<()> {
    let sql = "SELECT json_extract(source_json, '$.duration_seconds') FROM jobs \
        WHERE cache_key = ?1 AND state = 'completed' LIMIT 1";
    let duration: Option<f64> =
        db.query_row(sql, [cache_key], |row| row.get(0)).unwrap_or_default();
    db.execute("UPDATE jobs SET cache_key = ?2 WHERE id = ?1", [id, cache_key])?;
    complete_without_run(db, id, duration.unwrap_or_default(), now)
}

fn complete_without_run(db: &Connection, id: &str, duration: f64, now: i64) -> Result<()> {
    let usage = Usage { audio_seconds: duration, busy_seconds: 0.0 };
    let sql = "UPDATE jobs SET state = 'completed', progress = 1, stage = NULL, cached = 1, \
        leader_id = NULL, usage_json = ?2, commits = commits + 1, \
        source_json = json_set(source_json, '$.duration_seconds', ?3), finished_at = ?4, \
        version = version + 1 WHERE id = ?1 AND state = 'pending'";
    db.prepare_cached(sql)?.execute(params![id, serde_json::to_string(&usage)?, duration, now])?;
    let job = rows::by_id(db, id)?;
    enqueue_delivery(db, &job, now)
}

pub(super) fn fail(db: &Connection, lease: &Lease, error: &JobError, now: i64) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    let detail = format!("{}: {}", error.code, error.message);
    lease::end_attempt(db, &job, "failed", Some(&detail), now)?;
    if job.is_cancel_requested {
        return cancel_for_good(db, &job.id, now);
    }
    if error.retryable && job.attempt < job.max_attempts {
        return lease::requeue(db, &job.id, now + backoff_ms(job.attempt), Some(error), now);
    }
    fail_for_good(db, &job.id, error, now)
}

/// 10 s, 40 s, 160 s …, each a fifth shorter or longer by chance.
fn backoff_ms(attempt: u32) -> i64 {
    let base = 10_000 * 4_i64.pow(attempt.saturating_sub(1).min(6));
    let [chance] = random::<1>();
    base * (80 + i64::from(chance) * 40 / 255) / 100
}

pub(super) fn fail_for_good(db: &Connection, id: &str, error: &JobError, now: i64) -> Result<Job> {
    // Followers wanted the same of the same sound; they fail of the same.
    for follower in followers(db, id)? {
        end(db, &follower, State::Failed, Some(error), now)?;
    }
    end(db, id, State::Failed, Some(error), now)
}

pub(super) fn cancelled(db: &Connection, lease: &Lease, now: i64) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    if !job.is_cancel_requested {
        // Nobody asked for it, and others may follow: the run is given back.
        return lease::release(db, lease, now);
    }
    lease::end_attempt(db, &job, "cancelled", None, now)?;
    cancel_for_good(db, &job.id, now)
}

pub(super) fn cancel_for_good(db: &Connection, id: &str, now: i64) -> Result<Job> {
    end(db, id, State::Cancelled, None, now)
}

fn end(db: &Connection, id: &str, state: State, error: Option<&JobError>, now: i64) -> Result<Job> {
    let error = error.map(serde_json::to_string).transpose()?;
    let sql = "UPDATE jobs SET state = ?2, stage = NULL, error_json = ?3, finished_at = ?4, \
        lease_owner = NULL, lease_token_hash = NULL, lease_until = NULL, leader_id = NULL, \
        version = version + 1 WHERE id = ?1 AND state IN ('pending', 'processing')";
    db.prepare_cached(sql)?.execute(params![id, state.as_str(), error, now])?;
    if checkpoints::reached(db, id)?.is_some() {
        checkpoints::restart(db, id, rows::by_id(db, id)?.attempt, now)?;
    }
    let job = rows::remember_status(db, id, now)?;
    enqueue_delivery(db, &job, now)?;
    Ok(job)
}

fn followers(db: &Connection, leader: &str) -> Result<Vec<String>> {
    let sql = "SELECT id FROM jobs WHERE leader_id = ?1 AND state = 'pending' ORDER BY created_at";
    let mut statement = db.prepare_cached(sql)?;
    let ids = statement.query_map([leader], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Notes that somebody has to be told about the end of a job, and of its batch if it was the last one.
fn enqueue_delivery(db: &Connection, job: &Job, now: i64) -> Result<()> {
    let event = match job.state {
        State::Completed => CallbackEvent::Completed,
        State::Failed => CallbackEvent::Failed,
        State::Cancelled => CallbackEvent::Cancelled,
        State::Pending | State::Processing => return Ok(()),
    };
    if let Some(batch) = &job.batch_id {
        batches::finish(db, batch, now)?;
    }
    if !job.callback.as_ref().is_some_and(|callback| callback.events.contains(&event)) {
        return Ok(());
    }
    let sql = "INSERT INTO deliveries (id, event_id, job_id, tenant_id, event, state, next_at, \
        created_at) VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?6)";
    db.prepare_cached(sql)?.execute(params![
        Uuid::now_v7().to_string(),
        format!("msg_{}", Uuid::now_v7().simple()),
        job.id,
        job.tenant,
        job.state.as_str(),
        now
    ])?;
    Ok(())
}
