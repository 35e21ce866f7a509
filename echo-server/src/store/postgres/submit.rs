//! New jobs, and jobs whose sound has arrived.

use super::super::{Fetched, Lease, NewJob, Result};
use super::connection::Transaction;
use super::{ends, lease, rows};
use crate::job::{Job, Phase};

pub(super) fn submit(db: &mut Transaction<'_>, job: &NewJob) -> Result<Job> {
    let phase = if job.blob.is_some() { Phase::Run } else { Phase::Fetch };
    if let Some(blob) = &job.blob {
        db.lock_group(&blob.cache_key)?;
    }
    let callback = job.callback.as_ref().map(serde_json::to_string).transpose()?;
    let sql = "INSERT INTO jobs (id, tenant_id, state, phase, priority, options_json, source_json, \
        callback_json, metadata_json, external_id, retry_of, max_attempts, created_at, \
        traceparent, batch_id) \
        VALUES ($1, $2, 'pending', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let now = db.now;
    db.execute(
        sql,
        &[
            &job.id,
            &job.tenant,
            &phase.as_str(),
            &job.priority,
            &serde_json::to_string(&job.options)?,
            &serde_json::to_string(&job.source)?,
            &callback,
            &serde_json::to_string(&job.metadata)?,
            &job.external_id,
            &job.retry_of,
            &i64::from(job.max_attempts),
            &now,
            &job.traceparent,
            &job.batch_id,
        ],
    )?;
    if let Some(blob) = &job.blob {
        settle(db, &job.id, blob)?;
    }
    rows::remember_status(db, &job.id)
}

pub(super) fn fetched(db: &mut Transaction<'_>, lease: &Lease, blob: &Fetched) -> Result<Job> {
    // Before any row, as everybody does.
    db.lock_group(&blob.cache_key)?;
    let job = rows::fenced(db, lease)?;
    if job.is_cancel_requested {
        return ends::cancelled(db, lease);
    }
    lease::end_attempt(db, &job, "fetched", None)?;
    // The attempts at running are counted from here.
    let sql = "UPDATE jobs SET state = 'pending', announced_at = NULL, phase = 'run', attempt = 0, progress = 0, \
        stage = NULL, lease_owner = NULL, lease_token_hash = NULL, lease_until = NULL, \
        version = version + 1 WHERE id = $1";
    db.execute(sql, &[&job.id])?;
    settle(db, &job.id, blob)?;
    rows::remember_status(db, &job.id)
}

/// Gives a waiting job its sound: it is done, follows its like, or leads.
fn settle(db: &mut Transaction<'_>, id: &str, blob: &Fetched) -> Result<()> {
    let size_bytes = rows::integer(blob.size_bytes);
    let sql =
        "UPDATE jobs SET blob_hash = $2, size_bytes = $3, version = version + 1 WHERE id = $1";
    db.execute(sql, &[&id, &blob.hash, &size_bytes])?;
    rows::change_source(db, id, |source| {
        source.size_bytes = Some(blob.size_bytes);
        source.media_type = Some(blob.media_type.clone());
        source.content_hash = Some(format!("sha256:{}", blob.hash));
    })?;
    let sql = "SELECT 1 FROM results WHERE cache_key = $1";
    if db.first(sql, &[&blob.cache_key])?.is_some() {
        return ends::complete_from_cache(db, id, &blob.cache_key);
    }
    let sql = "SELECT id FROM jobs WHERE cache_key = $1 AND leader_id IS NULL \
        AND NOT cancel_requested AND state IN ('pending', 'processing')";
    let leader: Option<String> = db.first(sql, &[&blob.cache_key])?.map(|row| row.get(0));
    let sql = "UPDATE jobs SET leader_id = $2, cache_key = $3 WHERE id = $1";
    db.execute(sql, &[&id, &leader, &blob.cache_key])?;
    Ok(())
}
