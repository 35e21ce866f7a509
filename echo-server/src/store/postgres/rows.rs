//! Rows of the table of jobs, read and remembered.

use postgres::Row;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::{Lease, Result, StoreError};
use super::connection::{Transaction, Value};
use crate::job::{Job, Phase, Source};

/// What [`from_row`] reads, by position.
const COLUMNS: &str = "id, tenant_id, state, phase, stage, progress, priority, \
    options_json, source_json, callback_json, metadata_json, external_id, blob_hash, cache_key, \
    leader_id, retry_of, attempt, max_attempts, epoch, cancel_requested, cached, error_json, \
    usage_json, version, commits, created_at, started_at, finished_at, purged_at, \
    traceparent, batch_id";

/// The guard of everything that the holder of a lease may do.
pub(super) const FENCE: &str = "lease_token_hash = $1 AND epoch = $2 AND state = 'processing'";

/// The first job that a condition finds.
pub(super) fn job(
    db: &mut Transaction<'_>,
    condition: &str,
    values: &[Value<'_>],
) -> Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs {condition}");
    db.first(&sql, values)?.as_ref().map(from_row).transpose()
}

/// All jobs that a condition finds, whose text is made up.
pub(super) fn jobs(
    db: &mut Transaction<'_>,
    condition: &str,
    values: &[Value<'_>],
) -> Result<Vec<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs {condition}");
    db.query_once(&sql, values)?.iter().map(from_row).collect()
}

/// The job that must be there, because it was written a moment ago.
pub(super) fn by_id(db: &mut Transaction<'_>, id: &str) -> Result<Job> {
    job(db, "WHERE id = $1", &[&id])?
        .ok_or_else(|| StoreError::Database("a row that was just written is not there".into()))
}

/// The job under a lease.
pub(super) fn leased(db: &mut Transaction<'_>, lease: &Lease) -> Result<Option<Job>> {
    job(db, &format!("WHERE {FENCE}"), &[&lease.token_hash, &lease.epoch])
}

/// The job under a lease, locked together with all that want its result.
pub(super) fn fenced(db: &mut Transaction<'_>, lease: &Lease) -> Result<Job> {
    let values: [Value<'_>; 2] = [&lease.token_hash, &lease.epoch];
    let sql = format!("SELECT cache_key FROM jobs WHERE {FENCE}");
    let row = db.first(&sql, &values)?.ok_or(StoreError::Fenced)?;
    if let Some(key) = row.get::<_, Option<String>>(0) {
        db.lock_group(&key)?;
    }
    // The run may have been handed over to another job meanwhile, lease and group included.
    job(db, &format!("WHERE {FENCE} FOR UPDATE"), &values)?.ok_or(StoreError::Fenced)
}

/// The job that a condition finds, locked together with all that want its result.
pub(super) fn locked(
    db: &mut Transaction<'_>,
    condition: &str,
    values: &[Value<'_>],
) -> Result<Option<Job>> {
    let sql = format!("SELECT cache_key FROM jobs {condition}");
    let Some(row) = db.first(&sql, values)? else { return Ok(None) };
    let key: Option<String> = row.get(0);
    if let Some(key) = &key {
        db.lock_group(key)?;
    }
    let job = job(db, &format!("{condition} FOR UPDATE"), values)?;
    // Its sound arrived or was erased in between: it is of another group now.
    if job.as_ref().is_some_and(|job| job.cache_key != key) {
        return Err(StoreError::Busy);
    }
    Ok(job)
}

/// Appends to the history of a job, whose row this transaction holds.
pub(super) fn remember(
    db: &mut Transaction<'_>,
    id: &str,
    kind: &str,
    data: &serde_json::Value,
) -> Result<()> {
    let sql = "INSERT INTO job_events (job_id, seq, kind, json, at) VALUES ($1, \
        (SELECT COALESCE(MAX(seq), 0) + 1 FROM job_events WHERE job_id = $1), $2, $3, $4)";
    let now = db.now;
    db.execute(sql, &[&id, &kind, &data.to_string(), &now])?;
    Ok(())
}

/// Remembers what the row of a job says now.
pub(super) fn remember_status(db: &mut Transaction<'_>, id: &str) -> Result<Job> {
    let job = by_id(db, id)?;
    let status = json!({
        "status": job.state,
        "attempt": job.attempt,
        "cancel_requested": job.is_cancel_requested,
        "error": job.error,
    });
    remember(db, id, "status", &status)?;
    Ok(job)
}

/// Changes what is known of a job's source. JSON is changed here and not by the database, whose
/// functions refuse texts with the character 0.
pub(super) fn change_source(
    db: &mut Transaction<'_>,
    id: &str,
    change: impl FnOnce(&mut Source),
) -> Result<()> {
    let Some(row) = db.first("SELECT source_json FROM jobs WHERE id = $1 FOR UPDATE", &[&id])?
    else {
        return Ok(());
    };
    let mut source: Source = serde_json::from_str(&row.get::<_, String>(0))?;
    change(&mut source);
    let json = serde_json::to_string(&source)?;
    db.execute("UPDATE jobs SET source_json = $2 WHERE id = $1", &[&id, &json])?;
    Ok(())
}

/// A count as the database has it.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count from the database, where none is negative.
pub(super) fn count(row: &Row, column: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}

fn small(row: &Row, column: usize) -> u32 {
    u32::try_from(row.get::<_, i64>(column)).unwrap_or(u32::MAX)
}

/// Reads [`COLUMNS`].
fn from_row(row: &Row) -> Result<Job> {
    let state: String = row.get(2);
    let phase: String = row.get(3);
    let unknown = |()| StoreError::Database(format!("there is no state `{state}`").into());
    Ok(Job {
        id: row.get(0),
        tenant: row.get(1),
        state: state.parse().map_err(unknown)?,
        phase: if phase == Phase::Fetch.as_str() { Phase::Fetch } else { Phase::Run },
        stage: row.get(4),
        progress: row.get(5),
        priority: row.get(6),
        options: json_at(row, 7)?,
        source: json_at(row, 8)?,
        callback: optional_json_at(row, 9)?,
        metadata: json_at(row, 10)?,
        external_id: row.get(11),
        blob_hash: row.get(12),
        cache_key: row.get(13),
        leader_id: row.get(14),
        retry_of: row.get(15),
        attempt: small(row, 16),
        max_attempts: small(row, 17),
        epoch: row.get(18),
        is_cancel_requested: row.get(19),
        is_cached: row.get(20),
        error: optional_json_at(row, 21)?,
        usage: optional_json_at(row, 22)?,
        version: row.get(23),
        commits: small(row, 24),
        created_at: row.get(25),
        started_at: row.get(26),
        finished_at: row.get(27),
        purged_at: row.get(28),
        traceparent: row.get(29),
        batch_id: row.get(30),
    })
}

fn json_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T> {
    Ok(serde_json::from_str(&row.get::<_, String>(column))?)
}

fn optional_json_at<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>> {
    let text: Option<String> = row.get(column);
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}
