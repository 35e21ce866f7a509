//! Batches: jobs asked for together, and the one time when the last of them ends.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::super::{Batch, NewBatch, NewJob, Result, StoreError};
use super::submit;
use crate::job::{Callback, Job, State};

pub(super) fn submit(
    db: &Connection,
    batch: &NewBatch,
    jobs: &[NewJob],
    now: i64,
) -> Result<Vec<Job>> {
    let jobs = jobs.iter().map(|job| submit::submit(db, job, now)).collect::<Result<_>>()?;
    // After its jobs: one that ends at once must not complete it while others are still to come.
    let sql = "INSERT INTO batches (id, tenant_id, callback_json, traceparent, created_at) \
        VALUES (?1, ?2, ?3, ?4, ?5)";
    let callback = batch.callback.as_ref().map(serde_json::to_string).transpose()?;
    db.execute(sql, params![batch.id, batch.tenant, callback, batch.traceparent, now])?;
    finish(db, &batch.id, now)?;
    Ok(jobs)
}

/// Completes a batch if none of its jobs is open, and notes that somebody has to be told.
pub(super) fn finish(db: &Connection, id: &str, now: i64) -> Result<()> {
    let sql = "UPDATE batches SET completed_at = ?2 WHERE id = ?1 AND completed_at IS NULL \
        AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = ?1 \
        AND state IN ('pending', 'processing')) RETURNING tenant_id, callback_json IS NOT NULL";
    let completed: Option<(String, bool)> = db
        .prepare_cached(sql)?
        .query_row(params![id, now], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((tenant, true)) = completed else { return Ok(()) };
    let sql = "INSERT INTO deliveries (id, event_id, job_id, batch_id, tenant_id, event, state, \
        next_at, created_at) VALUES (?1, ?2, ?3, ?3, ?4, 'completed', 'pending', ?5, ?5)";
    let event_id = format!("msg_{}", Uuid::now_v7().simple());
    db.execute(sql, params![Uuid::now_v7().to_string(), event_id, id, tenant, now])?;
    Ok(())
}

/// A batch by its id, and its tenant if one is given.
pub(super) fn find(db: &Connection, tenant: Option<&str>, id: &str) -> Result<Option<Batch>> {
    let sql = "SELECT tenant_id, callback_json, traceparent, created_at, completed_at \
        FROM batches WHERE id = ?1 AND (?2 IS NULL OR tenant_id = ?2)";
    let read = |row: &Row<'_>| {
        let callback: Option<String> = row.get(1)?;
        Ok((row.get(0)?, callback, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    let Some((tenant, callback, traceparent, created_at, completed_at)) =
        db.prepare_cached(sql)?.query_row(params![id, tenant], read).optional()?
    else {
        return Ok(None);
    };
    let sql = "SELECT state, count(*) FROM jobs WHERE batch_id = ?1 GROUP BY state";
    let mut statement = db.prepare_cached(sql)?;
    let counted = statement.query_map([id], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let mut counts = Vec::new();
    for row in counted {
        let (state, count) = row?;
        let unknown = |()| StoreError::Database(format!("there is no state `{state}`").into());
        counts.push((state.parse::<State>().map_err(unknown)?, count));
    }
    let callback: Option<Callback> =
        callback.map(|json| serde_json::from_str(&json)).transpose()?;
    let id = id.to_owned();
    Ok(Some(Batch { id, tenant, callback, traceparent, created_at, completed_at, counts }))
}

/// Forgets whom to tell of batches that were complete long ago.
pub(super) fn expire(db: &Connection, before: i64) -> Result<()> {
    let sql = "DELETE FROM deliveries WHERE batch_id IN \
        (SELECT id FROM batches WHERE completed_at < ?1 AND callback_json IS NOT NULL)";
    db.execute(sql, [before])?;
    db.execute("UPDATE batches SET callback_json = NULL WHERE completed_at < ?1", [before])?;
    Ok(())
}
