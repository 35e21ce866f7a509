//! What is done of a job, part by part, so that its next attempt goes on from there. Whoever changes
//! any of it holds the job's row.

use serde_json::json;

use super::super::{CheckpointPart, Result};
use super::connection::Transaction;
use super::rows;

pub(super) fn add(db: &mut Transaction<'_>, job_id: &str, part: &CheckpointPart) -> Result<()> {
    let sql = "INSERT INTO checkpoints (job_id, n, reached_s, data) VALUES ($1, \
        (SELECT COALESCE(MAX(n), 0) + 1 FROM checkpoints WHERE job_id = $1), $2, $3)";
    db.execute(sql, &[&job_id, &part.reached_s, &part.data])?;
    Ok(())
}

/// The parts of a job, in order.
pub(super) fn of_job(db: &mut Transaction<'_>, job_id: &str) -> Result<Vec<String>> {
    let sql = "SELECT data FROM checkpoints WHERE job_id = $1 ORDER BY n";
    Ok(db.query(sql, &[&job_id])?.iter().map(|row| row.get(0)).collect())
}

/// Until when a job is done, in seconds; `None` if it has no checkpoint.
pub(super) fn reached(db: &mut Transaction<'_>, job_id: &str) -> Result<Option<f64>> {
    let sql = "SELECT MAX(reached_s) FROM checkpoints WHERE job_id = $1";
    Ok(db.first(sql, &[&job_id])?.and_then(|row| row.get(0)))
}

/// Gives what is done of one job to another one, with the segments that were told of it.
pub(super) fn hand_over(db: &mut Transaction<'_>, from: &str, to: &str) -> Result<()> {
    let sql = "UPDATE checkpoints SET job_id = $2 WHERE job_id = $1";
    db.execute(sql, &[&from, &to])?;
    let sql = "INSERT INTO job_events (job_id, seq, kind, json, at) SELECT $2::text, \
        (SELECT COALESCE(MAX(seq), 0) FROM job_events WHERE job_id = $2) \
        + row_number() OVER (ORDER BY seq), kind, json, at \
        FROM job_events WHERE job_id = $1 AND kind = 'segments'";
    db.execute(sql, &[&from, &to])?;
    Ok(())
}

/// Forgets what is done of a job that is over.
pub(super) fn forget(db: &mut Transaction<'_>, job_id: &str) -> Result<()> {
    db.execute("DELETE FROM checkpoints WHERE job_id = $1", &[&job_id])?;
    Ok(())
}

/// A job begins anew: what was done is forgotten, and what its segments were is told no more.
pub(super) fn restart(db: &mut Transaction<'_>, job_id: &str, attempt: u32) -> Result<()> {
    forget(db, job_id)?;
    rows::remember(db, job_id, "restart", &json!({ "attempt": attempt }))?;
    db.execute("DELETE FROM job_events WHERE job_id = $1 AND kind = 'segments'", &[&job_id])?;
    db.execute("UPDATE jobs SET segments_told = 0 WHERE id = $1", &[&job_id])?;
    Ok(())
}
