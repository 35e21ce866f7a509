//! Cancelling, purging and forgetting.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Cancellation, Expired, Horizon, MAX_EXPIRED, Orphans, Result};
use super::{batches, checkpoints, ends, lease, rows};
use crate::job::{Job, State};

pub(super) fn cancel(
    db: &Connection,
    tenant: &str,
    id: &str,
    purge: bool,
    now: i64,
) -> Result<Option<Cancellation>> {
    let Some(job) = rows::job(db, "WHERE tenant_id = ?1 AND id = ?2", &[&tenant, &id])? else {
        return Ok(None);
    };
    if job.state.is_final() {
        return Ok(Some(Cancellation::Finished(job)));
    }
    if purge {
        db.execute("UPDATE jobs SET purge_requested = 1 WHERE id = ?1", [id])?;
    }
    if hand_over(db, &job, now)? || job.state == State::Pending {
        return Ok(Some(Cancellation::Done(ends::cancel_for_good(db, id, now)?)));
    }
    let sql = "UPDATE jobs SET cancel_requested = 1, version = version + 1 WHERE id = ?1";
    db.execute(sql, [id])?;
    Ok(Some(Cancellation::Asked(rows::remember_status(db, id, now)?)))
}

/// Gives the run of a job, lease included, to the oldest job that follows it, if one does.
fn hand_over(db: &Connection, leader: &Job, now: i64) -> Result<bool> {
    let sql = "SELECT id FROM jobs WHERE leader_id = ?1 AND state = 'pending' \
        ORDER BY created_at, id LIMIT 1";
    let heir: Option<String> =
        db.prepare_cached(sql)?.query_row([&leader.id], |row| row.get(0)).optional()?;
    let Some(heir) = heir else { return Ok(false) };
    // The leader steps aside first: two leaders of one cache key are not allowed.
    db.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?1", [&leader.id])?;
    let sql = "UPDATE jobs SET (state, phase, stage, progress, attempt, epoch, release_count, \
        lease_owner, lease_token_hash, lease_until, run_after, started_at, segments_told) = \
        (SELECT state, phase, stage, progress, attempt, epoch, release_count, lease_owner, \
        lease_token_hash, lease_until, run_after, started_at, segments_told \
        FROM jobs WHERE id = ?1), \
        leader_id = NULL, version = version + 1 WHERE id = ?2";
    db.execute(sql, params![leader.id, heir])?;
    checkpoints::hand_over(db, &leader.id, &heir)?;
    db.execute("UPDATE jobs SET lease_token_hash = NULL WHERE id = ?1", [&leader.id])?;
    db.execute("UPDATE jobs SET leader_id = ?2 WHERE leader_id = ?1", params![leader.id, heir])?;
    if leader.state == State::Processing {
        let sql = "INSERT INTO attempts (job_id, epoch, attempt, worker, started_at) \
            SELECT ?2, epoch, attempt, worker, started_at FROM attempts \
            WHERE job_id = ?1 AND epoch = ?3";
        db.execute(sql, params![leader.id, heir, leader.epoch])?;
        lease::end_attempt(db, leader, "handed over", None, now)?;
    }
    rows::remember_status(db, &heir, now)?;
    Ok(true)
}

pub(super) fn purge(db: &Connection, tenant: &str, id: &str, now: i64) -> Result<Option<Orphans>> {
    let condition =
        "WHERE tenant_id = ?1 AND id = ?2 AND state IN ('completed', 'failed', 'cancelled')";
    let Some(job) = rows::job(db, condition, &[&tenant, &id])? else { return Ok(None) };
    erase(db, &job, now).map(Some)
}

/// Forgets what a finished job was about; its row stays, to say that it was.
fn erase(db: &Connection, job: &Job, now: i64) -> Result<Orphans> {
    let sql = "UPDATE jobs SET purged_at = ?2, blob_hash = NULL, cache_key = NULL, \
        metadata_json = '{}', external_id = NULL, version = version + 1, callback_json = NULL, \
        source_json = json_remove(source_json, '$.filename', '$.url', '$.content_hash', '$.sealed'), \
        options_json = json_remove(options_json, '$.initial_prompt', '$.hotwords') WHERE id = ?1";
    db.execute(sql, params![job.id, now])?;
    for table in ["job_events", "deliveries", "checkpoints"] {
        db.execute(&format!("DELETE FROM {table} WHERE job_id = ?1"), [&job.id])?;
    }
    let mut orphans = Orphans::default();
    orphans.blobs.extend(unused_blob(db, job.blob_hash.as_deref())?);
    orphans.results.extend(unused_result(db, job.cache_key.as_deref())?);
    Ok(orphans)
}

fn unused_blob(db: &Connection, hash: Option<&str>) -> Result<Option<String>> {
    let sql = "SELECT count(*) FROM jobs WHERE blob_hash = ?1";
    let Some(hash) = hash else { return Ok(None) };
    let uses: u64 = db.query_row(sql, [hash], |row| row.get(0))?;
    Ok((uses == 0).then(|| hash.to_owned()))
}

fn unused_result(db: &Connection, key: Option<&str>) -> Result<Option<String>> {
    let Some(key) = key else { return Ok(None) };
    let sql = "SELECT count(*) FROM jobs WHERE cache_key = ?1";
    let uses: u64 = db.query_row(sql, [key], |row| row.get(0))?;
    if uses > 0 {
        return Ok(None);
    }
    db.execute("DELETE FROM results WHERE cache_key = ?1", [key])?;
    Ok(Some(key.to_owned()))
}

pub(super) fn expire(db: &Connection, before: &Horizon) -> Result<Expired> {
    let mut orphans = Orphans::default();
    let asked = "WHERE purge_requested = 1 AND purged_at IS NULL \
        AND state IN ('completed', 'failed', 'cancelled') LIMIT ?1";
    let mut over = rows::jobs(db, asked, &[&MAX_EXPIRED])?;
    let mut has_more = over.len() == MAX_EXPIRED;
    if let Some(results) = before.results {
        let old = "WHERE finished_at < ?1 AND purged_at IS NULL LIMIT ?2";
        let old = rows::jobs(db, old, &[&results, &MAX_EXPIRED])?;
        has_more |= old.len() == MAX_EXPIRED;
        over.extend(old);
        batches::expire(db, results)?;
    }
    for job in over {
        let more = erase(db, &job, before.now)?;
        orphans.blobs.extend(more.blobs);
        orphans.results.extend(more.results);
    }
    if let Some(audio) = before.audio {
        let old = "WHERE finished_at < ?1 AND blob_hash IS NOT NULL LIMIT ?2";
        let old = rows::jobs(db, old, &[&audio, &MAX_EXPIRED])?;
        has_more |= old.len() == MAX_EXPIRED;
        for job in old {
            db.execute("UPDATE jobs SET blob_hash = NULL WHERE id = ?1", [&job.id])?;
            orphans.blobs.extend(unused_blob(db, job.blob_hash.as_deref())?);
        }
    }
    db.execute("DELETE FROM idempotency WHERE expires_at < ?1", [before.now])?;
    db.execute("DELETE FROM inbound_ids WHERE at < ?1", [before.bookkeeping])?;
    let sql = "DELETE FROM job_events WHERE at < ?1 AND kind = 'segments'";
    db.execute(sql, [before.bookkeeping])?;
    // A replica of an earlier version ends jobs without forgetting what was done of them.
    let sql = "DELETE FROM checkpoints WHERE NOT EXISTS (SELECT 1 FROM jobs \
        WHERE id = checkpoints.job_id AND state IN ('pending', 'processing'))";
    db.execute(sql, [])?;
    Ok(Expired { orphans, has_more })
}
