//! Batches: jobs asked for together, and the one time when the last of them ends.

use uuid::Uuid;

use super::super::{Batch, NewBatch, NewJob, Result, StoreError};
use super::connection::Transaction;
use super::{rows, submit};
use crate::job::{Callback, Job, State};

pub(super) fn submit(
    db: &mut Transaction<'_>,
    batch: &NewBatch,
    jobs: &[NewJob],
) -> Result<Vec<Job>> {
    // All groups first and in one order, as two batches may have the same ones.
    let mut keys: Vec<&str> =
        jobs.iter().filter_map(|job| job.blob.as_ref()).map(|blob| &*blob.cache_key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        db.lock_group(key)?;
    }
    let mut kept = Vec::new();
    for job in jobs {
        kept.push(submit::submit(db, job)?);
    }
    // After its jobs: one that ends at once must not complete it while others are still to come.
    let sql = "INSERT INTO batches (id, tenant_id, callback_json, traceparent, created_at) \
        VALUES ($1, $2, $3, $4, $5)";
    let callback = batch.callback.as_ref().map(serde_json::to_string).transpose()?;
    let now = db.now;
    db.execute(sql, &[&batch.id, &batch.tenant, &callback, &batch.traceparent, &now])?;
    finish(db, &batch.id)?;
    Ok(kept)
}

/// Completes a batch if none of its jobs is open, and notes that somebody has to be told.
pub(super) fn finish(db: &mut Transaction<'_>, id: &str) -> Result<()> {
    // One after the other: two last jobs at once would each see the other one open.
    let sql = "SELECT tenant_id, callback_json IS NOT NULL FROM batches \
        WHERE id = $1 AND completed_at IS NULL FOR UPDATE";
    let Some(row) = db.first(sql, &[&id])? else { return Ok(()) };
    let (tenant, is_told): (String, bool) = (row.get(0), row.get(1));
    let sql = "UPDATE batches SET completed_at = $2 WHERE id = $1 AND NOT EXISTS \
        (SELECT 1 FROM jobs WHERE batch_id = $1 AND state IN ('pending', 'processing'))";
    let now = db.now;
    if db.execute(sql, &[&id, &now])? == 0 || !is_told {
        return Ok(());
    }
    let sql = "INSERT INTO deliveries (id, event_id, job_id, batch_id, tenant_id, event, state, \
        next_at, created_at) VALUES ($1, $2, $3, $3, $4, 'completed', 'pending', $5, $5)";
    let event_id = format!("msg_{}", Uuid::now_v7().simple());
    db.execute(sql, &[&Uuid::now_v7().to_string(), &event_id, &id, &tenant, &now])?;
    Ok(())
}

/// A batch by its id, and its tenant if one is given.
pub(super) fn find(
    db: &mut Transaction<'_>,
    tenant: Option<&str>,
    id: &str,
) -> Result<Option<Batch>> {
    let sql = "SELECT tenant_id, callback_json, traceparent, created_at, completed_at \
        FROM batches WHERE id = $1 AND ($2::text IS NULL OR tenant_id = $2)";
    let Some(row) = db.first(sql, &[&id, &tenant])? else { return Ok(None) };
    let callback: Option<String> = row.get(1);
    let callback: Option<Callback> =
        callback.map(|json| serde_json::from_str(&json)).transpose()?;
    let sql = "SELECT state, count(*) FROM jobs WHERE batch_id = $1 GROUP BY state";
    let mut counts = Vec::new();
    for counted in db.query(sql, &[&id])? {
        let state: String = counted.get(0);
        let unknown = |()| StoreError::Database(format!("there is no state `{state}`").into());
        counts.push((state.parse::<State>().map_err(unknown)?, rows::count(&counted, 1)));
    }
    Ok(Some(Batch {
        id: id.to_owned(),
        tenant: row.get(0),
        callback,
        traceparent: row.get(2),
        created_at: row.get(3),
        completed_at: row.get(4),
        counts,
    }))
}

/// Forgets whom to tell of batches that were complete long ago.
pub(super) fn expire(db: &mut Transaction<'_>, before: i64) -> Result<()> {
    let sql = "DELETE FROM deliveries WHERE batch_id IN \
        (SELECT id FROM batches WHERE completed_at < $1 AND callback_json IS NOT NULL)";
    db.execute(sql, &[&before])?;
    db.execute("UPDATE batches SET callback_json = NULL WHERE completed_at < $1", &[&before])?;
    Ok(())
}
