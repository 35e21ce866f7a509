//! New jobs, and jobs whose sound has arrived.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Fetched, Lease, NewJob, Result};
use super::{ends, lease, rows};
use crate::job::{Job, Phase};

pub(super) fn submit(db: &Connection, job: &NewJob, now: i64) -> Result<Job> {
    let phase = if job.blob.is_some() { Phase::Run } else { Phase::Fetch };
    let callback = job.callback.as_ref().map(serde_json::to_string).transpose()?;
    let sql = "INSERT INTO jobs (id, tenant_id, state, phase, priority, options_json, source_json, \
        callback_json, metadata_json, external_id, retry_of, max_attempts, created_at, \
        traceparent, batch_id) \
        VALUES (?1, ?2, 'pending', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    db.prepare_cached(sql)?.execute(params![
        job.id,
        job.tenant,
        phase.as_str(),
        job.priority,
        serde_json::to_string(&job.options)?,
        serde_json::to_string(&job.source)?,
        callback,
        serde_json::to_string(&job.metadata)?,
        job.external_id,
        job.retry_of,
        job.max_attempts,
        now,
        job.traceparent,
        job.batch_id,
    ])?;
    if let Some(blob) = &job.blob {
        settle(db, &job.id, blob, now)?;
    }
    rows::remember_status(db, &job.id, now)
}

pub(super) fn fetched(db: &Connection, lease: &Lease, blob: &Fetched, now: i64) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    if job.is_cancel_requested {
        return ends::cancelled(db, lease, now);
    }
    lease::end_attempt(db, &job, "fetched", None, now)?;
    // The attempts at running are counted from here.
    let sql = "UPDATE jobs SET state = 'pending', announced_at = NULL, phase = 'run', attempt = 0, progress = 0, \
        stage = NULL, lease_owner = NULL, lease_token_hash = NULL, lease_until = NULL, \
        version = version + 1 WHERE id = ?1";
    db.prepare_cached(sql)?.execute([&job.id])?;
    settle(db, &job.id, blob, now)?;
    rows::remember_status(db, &job.id, now)
}

/// Gives a waiting job its sound: it is done, follows its like, or leads.
fn settle(db: &Connection, id: &str, blob: &Fetched, now: i64) -> Result<()> {
    let sql = "UPDATE jobs SET blob_hash = ?2, size_bytes = ?3, version = version + 1, \
        source_json = json_set(source_json, '$.size_bytes', ?3, '$.media_type', ?4, \
        '$.content_hash', 'sha256:' || ?2) WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![id, blob.hash, blob.size_bytes, blob.media_type])?;

    let sql = "SELECT 1 FROM results WHERE cache_key = ?1";
    let is_known =
        db.prepare_cached(sql)?.query_row([&blob.cache_key], |_| Ok(())).optional()?.is_some();
    if is_known {
        return ends::complete_from_cache(db, id, &blob.cache_key, now);
    }
    let sql = "SELECT id FROM jobs WHERE cache_key = ?1 AND leader_id IS NULL \
        AND cancel_requested = 0 AND state IN ('pending', 'processing')";
    let leader: Option<String> =
        db.prepare_cached(sql)?.query_row([&blob.cache_key], |row| row.get(0)).optional()?;
    let sql = "UPDATE jobs SET leader_id = ?2, cache_key = ?3 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![id, leader, blob.cache_key])?;
    Ok(())
}
