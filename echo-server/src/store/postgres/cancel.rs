//! Cancelling, purging and forgetting.

use super::super::{Cancellation, Expired, Horizon, MAX_EXPIRED, Orphans, Result};
use super::connection::{Connections, Transaction};
use super::{batches, checkpoints, ends, lease, rows};
use crate::job::{Job, JobOptions, State};

pub(super) fn cancel(
    db: &mut Transaction<'_>,
    tenant: &str,
    id: &str,
    purge: bool,
) -> Result<Option<Cancellation>> {
    let condition = "WHERE tenant_id = $1 AND id = $2";
    let Some(job) = rows::locked(db, condition, &[&tenant, &id])? else { return Ok(None) };
    if job.state.is_final() {
        return Ok(Some(Cancellation::Finished(job)));
    }
    if purge {
        db.execute("UPDATE jobs SET purge_requested = TRUE WHERE id = $1", &[&id])?;
    }
    if hand_over(db, &job)? || job.state == State::Pending {
        return Ok(Some(Cancellation::Done(ends::cancel_for_good(db, id)?)));
    }
    let sql = "UPDATE jobs SET cancel_requested = TRUE, version = version + 1 WHERE id = $1";
    db.execute(sql, &[&id])?;
    Ok(Some(Cancellation::Asked(rows::remember_status(db, id)?)))
}

/// Gives the run of a job, lease included, to the oldest job that follows it, if one does.
fn hand_over(db: &mut Transaction<'_>, leader: &Job) -> Result<bool> {
    let sql = "SELECT id FROM jobs WHERE leader_id = $1 AND state = 'pending' \
        ORDER BY created_at, id LIMIT 1";
    let Some(heir) = db.first(sql, &[&leader.id])? else { return Ok(false) };
    let heir: String = heir.get(0);
    // The leader steps aside first: two leaders of one cache key are not allowed.
    db.execute("UPDATE jobs SET cancel_requested = TRUE WHERE id = $1", &[&leader.id])?;
    let sql = "UPDATE jobs AS h SET state = l.state, phase = l.phase, stage = l.stage, \
        progress = l.progress, attempt = l.attempt, epoch = l.epoch, \
        release_count = l.release_count, lease_owner = l.lease_owner, \
        lease_token_hash = l.lease_token_hash, lease_until = l.lease_until, \
        lease_ms = l.lease_ms, run_after = l.run_after, started_at = l.started_at, \
        segments_told = l.segments_told, \
        leader_id = NULL, version = h.version + 1 FROM jobs AS l WHERE l.id = $1 AND h.id = $2";
    db.execute(sql, &[&leader.id, &heir])?;
    checkpoints::hand_over(db, &leader.id, &heir)?;
    db.execute("UPDATE jobs SET lease_token_hash = NULL WHERE id = $1", &[&leader.id])?;
    db.execute("UPDATE jobs SET leader_id = $2 WHERE leader_id = $1", &[&leader.id, &heir])?;
    if leader.state == State::Processing {
        let sql = "INSERT INTO attempts (job_id, epoch, attempt, worker, started_at) \
            SELECT $2, epoch, attempt, worker, started_at FROM attempts \
            WHERE job_id = $1 AND epoch = $3";
        db.execute(sql, &[&leader.id, &heir, &leader.epoch])?;
        lease::end_attempt(db, leader, "handed over", None)?;
    }
    rows::remember_status(db, &heir)?;
    Ok(true)
}

pub(super) fn purge(db: &mut Transaction<'_>, tenant: &str, id: &str) -> Result<Option<Orphans>> {
    let condition =
        "WHERE tenant_id = $1 AND id = $2 AND state IN ('completed', 'failed', 'cancelled')";
    let Some(job) = rows::locked(db, condition, &[&tenant, &id])? else { return Ok(None) };
    erase(db, &job).map(Some)
}

/// Forgets what a finished job was about; its row stays, to say that it was.
fn erase(db: &mut Transaction<'_>, job: &Job) -> Result<Orphans> {
    let options = serde_json::to_string(&JobOptions {
        initial_prompt: None,
        hotwords: Vec::new(),
        ..job.options.clone()
    })?;
    let sql = "UPDATE jobs SET purged_at = $2, blob_hash = NULL, cache_key = NULL, \
        metadata_json = '{}', external_id = NULL, version = version + 1, callback_json = NULL, \
        options_json = $3 WHERE id = $1";
    let now = db.now;
    db.execute(sql, &[&job.id, &now, &options])?;
    rows::change_source(db, &job.id, |source| {
        (source.filename, source.url) = (None, None);
        (source.content_hash, source.sealed) = (None, None);
    })?;
    for table in ["job_events", "deliveries", "checkpoints"] {
        db.execute(&format!("DELETE FROM {table} WHERE job_id = $1"), &[&job.id])?;
    }
    let mut orphans = Orphans::default();
    orphans.blobs.extend(unused_blob(db, job.blob_hash.as_deref())?);
    orphans.results.extend(unused_result(db, job.cache_key.as_deref())?);
    Ok(orphans)
}

fn unused_blob(db: &mut Transaction<'_>, hash: Option<&str>) -> Result<Option<String>> {
    let Some(hash) = hash else { return Ok(None) };
    let used = db.first("SELECT 1 FROM jobs WHERE blob_hash = $1 LIMIT 1", &[&hash])?;
    Ok(used.is_none().then(|| hash.to_owned()))
}

fn unused_result(db: &mut Transaction<'_>, key: Option<&str>) -> Result<Option<String>> {
    let Some(key) = key else { return Ok(None) };
    if db.first("SELECT 1 FROM jobs WHERE cache_key = $1 LIMIT 1", &[&key])?.is_some() {
        return Ok(None);
    }
    db.execute("DELETE FROM results WHERE cache_key = $1", &[&key])?;
    Ok(Some(key.to_owned()))
}

/// Each job is erased in a transaction of its own, so that nobody waits for all of them.
pub(super) fn expire(db: &Connections, before: &Horizon) -> Result<Expired> {
    let mut orphans = Orphans::default();
    let (found, has_more) = db.write(before.now, |tx| {
        let asked = "SELECT id FROM jobs WHERE purge_requested AND purged_at IS NULL \
            AND state IN ('completed', 'failed', 'cancelled')";
        let mut found = ids(tx, asked, None)?;
        if let Some(results) = before.results {
            let old = "SELECT id FROM jobs WHERE finished_at < $1 AND purged_at IS NULL";
            let old = ids(tx, old, Some(tx.at(results)))?;
            found.extend(old);
            let results = tx.at(results);
            batches::expire(tx, results)?;
        }
        let has_more = found.len() > MAX_EXPIRED;
        found.truncate(MAX_EXPIRED);
        Ok((found, has_more))
    })?;
    for id in found {
        let more = db.write(before.now, |tx| {
            let condition = "WHERE id = $1 AND purged_at IS NULL";
            let job = rows::locked(tx, condition, &[&id])?;
            job.map_or_else(|| Ok(Orphans::default()), |job| erase(tx, &job))
        })?;
        orphans.blobs.extend(more.blobs);
        orphans.results.extend(more.results);
    }
    let (blobs, has_more_sound) = db.write(before.now, |tx| {
        let (mut blobs, mut has_more) = (Vec::new(), false);
        if let Some(audio) = before.audio {
            let sql = "UPDATE jobs AS j SET blob_hash = NULL FROM (SELECT id, blob_hash FROM jobs \
                WHERE finished_at < $1 AND blob_hash IS NOT NULL LIMIT $2 \
                FOR UPDATE SKIP LOCKED) AS old WHERE j.id = old.id RETURNING old.blob_hash";
            let audio = tx.at(audio);
            let old = tx.query(sql, &[&audio, &(MAX_EXPIRED as i64)])?;
            has_more = old.len() == MAX_EXPIRED;
            for row in old {
                blobs.extend(unused_blob(tx, row.get(0))?);
            }
        }
        let (now, bookkeeping) = (tx.now, tx.at(before.bookkeeping));
        tx.execute("DELETE FROM idempotency WHERE expires_at < $1", &[&now])?;
        tx.execute("DELETE FROM inbound_ids WHERE at < $1", &[&bookkeeping])?;
        let sql = "DELETE FROM job_events WHERE at < $1 AND kind = 'segments'";
        tx.execute(sql, &[&bookkeeping])?;
        // A replica of an earlier version ends jobs without forgetting what was done of them.
        let sql = "DELETE FROM checkpoints AS c WHERE NOT EXISTS (SELECT 1 FROM jobs AS j \
            WHERE j.id = c.job_id AND j.state IN ('pending', 'processing'))";
        tx.execute(sql, &[])?;
        Ok((blobs, has_more))
    })?;
    orphans.blobs.extend(blobs);
    Ok(Expired { orphans, has_more: has_more || has_more_sound })
}

fn ids(db: &mut Transaction<'_>, sql: &str, before: Option<i64>) -> Result<Vec<String>> {
    // One more than are erased, to see that there are more.
    let limit = MAX_EXPIRED as i64 + 1;
    let found = match before {
        Some(before) => db.query(&format!("{sql} LIMIT $2"), &[&before, &limit])?,
        None => db.query(&format!("{sql} LIMIT $1"), &[&limit])?,
    };
    Ok(found.iter().map(|row| row.get(0)).collect())
}
