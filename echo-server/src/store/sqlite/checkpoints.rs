//! What is done of a job, part by part, so that its next attempt goes on from there.

use rusqlite::{Connection, params};
use serde_json::json;

use super::super::{CheckpointPart, Result};
use super::rows;

pub(super) fn add(db: &Connection, job_id: &str, part: &CheckpointPart) -> Result<()> {
    let sql = "INSERT INTO checkpoints (job_id, n, reached_s, data) VALUES (?1, \
        (SELECT COALESCE(MAX(n), 0) + 1 FROM checkpoints WHERE job_id = ?1), ?2, ?3)";
    db.prepare_cached(sql)?.execute(params![job_id, part.reached_s, part.data])?;
    Ok(())
}

/// The parts of a job, in order.
pub(super) fn of_job(db: &Connection, job_id: &str) -> Result<Vec<String>> {
    let mut statement =
        db.prepare_cached("SELECT data FROM checkpoints WHERE job_id = ?1 ORDER BY n")?;
    let parts = statement.query_map([job_id], |row| row.get(0))?;
    Ok(parts.collect::<rusqlite::Result<_>>()?)
}

/// Until when a job is done, in seconds; `None` if it has no checkpoint.
pub(super) fn reached(db: &Connection, job_id: &str) -> Result<Option<f64>> {
    let sql = "SELECT MAX(reached_s) FROM checkpoints WHERE job_id = ?1";
    Ok(db.prepare_cached(sql)?.query_row([job_id], |row| row.get(0))?)
}

/// Gives what is done of one job to another one, with the segments that were told of it.
pub(super) fn hand_over(db: &Connection, from: &str, to: &str) -> Result<()> {
    let sql = "UPDATE checkpoints SET job_id = ?2 WHERE job_id = ?1";
    db.prepare_cached(sql)?.execute([from, to])?;
    let sql = "INSERT INTO job_events (job_id, seq, kind, json, at) SELECT ?2, \
        (SELECT COALESCE(MAX(seq), 0) FROM job_events WHERE job_id = ?2) \
        + row_number() OVER (ORDER BY seq), kind, json, at \
        FROM job_events WHERE job_id = ?1 AND kind = 'segments'";
    db.prepare_cached(sql)?.execute([from, to])?;
    Ok(())
}

/// Forgets what is done of a job that is over.
pub(super) fn forget(db: &Connection, job_id: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM checkpoints WHERE job_id = ?1")?.execute([job_id])?;
    Ok(())
}

/// A job begins anew: what was done is forgotten, and what its segments were is told no more.
pub(super) fn restart(db: &Connection, job_id: &str, attempt: u32, now: i64) -> Result<()> {
    forget(db, job_id)?;
    rows::remember(db, job_id, "restart", &json!({ "attempt": attempt }), now)?;
    db.prepare_cached("DELETE FROM job_events WHERE job_id = ?1 AND kind = 'segments'")?
        .execute([job_id])?;
    db.prepare_cached("UPDATE jobs SET segments_told = 0 WHERE id = ?1")?.execute([job_id])?;
    Ok(())
}
