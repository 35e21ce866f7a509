//! Rows of the table of jobs, read and remembered.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::{Lease, Result, StoreError};
use crate::job::{Job, Phase};

/// What [`from_row`] reads, by position.
pub(super) const COLUMNS: &str = "id, tenant_id, state, phase, stage, progress, priority, \
    options_json, source_json, callback_json, metadata_json, external_id, blob_hash, cache_key, \
    leader_id, retry_of, attempt, max_attempts, epoch, cancel_requested, cached, error_json, \
    usage_json, version, commits, created_at, started_at, finished_at, purged_at, \
    traceparent, batch_id";

/// The guard of everything that the holder of a lease may do.
pub(super) const FENCE: &str = "lease_token_hash = ?1 AND epoch = ?2 AND state = 'processing'";

/// The first job that a condition finds.
pub(super) fn job(db: &Connection, condition: &str, values: &[&dyn ToSql]) -> Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs {condition}");
    Ok(db.prepare_cached(&sql)?.query_row(values, from_row).optional()?)
}

/// The job that must be there, because it was written a moment ago.
pub(super) fn by_id(db: &Connection, id: &str) -> Result<Job> {
    job(db, "WHERE id = ?1", &[&id])?
        .ok_or_else(|| StoreError::Database(rusqlite::Error::QueryReturnedNoRows.into()))
}

/// The job under a lease.
pub(super) fn leased(db: &Connection, lease: &Lease) -> Result<Option<Job>> {
    job(db, &format!("WHERE {FENCE}"), &[&lease.token_hash, &lease.epoch])
}

/// The job under a lease, or the news that the lease was lost.
pub(super) fn fenced(db: &Connection, lease: &Lease) -> Result<Job> {
    leased(db, lease)?.ok_or(StoreError::Fenced)
}

/// All jobs that a condition finds.
pub(super) fn jobs(db: &Connection, condition: &str, values: &[&dyn ToSql]) -> Result<Vec<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs {condition}");
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(values, from_row)?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

/// Appends to the history of a job.
pub(super) fn remember(
    db: &Connection,
    id: &str,
    kind: &str,
    data: &Value,
    now: i64,
) -> Result<()> {
    let sql = "INSERT INTO job_events (job_id, seq, kind, json, at) VALUES (?1, \
        (SELECT COALESCE(MAX(seq), 0) + 1 FROM job_events WHERE job_id = ?1), ?2, ?3, ?4)";
    db.prepare_cached(sql)?.execute(params![id, kind, data.to_string(), now])?;
    Ok(())
}

/// Remembers what the row of a job says now.
pub(super) fn remember_status(db: &Connection, id: &str, now: i64) -> Result<Job> {
    let job = by_id(db, id)?;
    let status = json!({
        "status": job.state,
        "attempt": job.attempt,
        "cancel_requested": job.is_cancel_requested,
        "error": job.error,
    });
    remember(db, id, "status", &status, now)?;
    Ok(job)
}

/// Reads [`COLUMNS`].
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    let state: String = row.get(2)?;
    let phase: String = row.get(3)?;
    Ok(Job {
        id: row.get(0)?,
        tenant: row.get(1)?,
        state: state.parse().map_err(|()| wrong(2, format!("the state `{state}`")))?,
        phase: if phase == Phase::Fetch.as_str() { Phase::Fetch } else { Phase::Run },
        stage: row.get(4)?,
        progress: row.get(5)?,
        priority: row.get(6)?,
        options: json_at(row, 7)?,
        source: json_at(row, 8)?,
        callback: optional_json_at(row, 9)?,
        metadata: json_at(row, 10)?,
        external_id: row.get(11)?,
        blob_hash: row.get(12)?,
        cache_key: row.get(13)?,
        leader_id: row.get(14)?,
        retry_of: row.get(15)?,
        attempt: row.get(16)?,
        max_attempts: row.get(17)?,
        epoch: row.get(18)?,
        is_cancel_requested: row.get(19)?,
        is_cached: row.get(20)?,
        error: optional_json_at(row, 21)?,
        usage: optional_json_at(row, 22)?,
        version: row.get(23)?,
        commits: row.get(24)?,
        created_at: row.get(25)?,
        started_at: row.get(26)?,
        finished_at: row.get(27)?,
        purged_at: row.get(28)?,
        traceparent: row.get(29)?,
        batch_id: row.get(30)?,
    })
}

fn json_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parse(column, &row.get::<_, String>(column)?)
}

fn optional_json_at<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|text| parse(column, &text)).transpose()
}

fn parse<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| wrong(column, error))
}

fn wrong(
    column: usize,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, cause.into())
}
