//! Jobs that wait and nobody was told of.

use super::super::{Result, Waiting};
use super::connection::Transaction;

pub(super) fn unannounced(db: &mut Transaction<'_>, limit: u32) -> Result<Vec<Waiting>> {
    // Rows that another replica is about to note as announced are passed over.
    let sql = "SELECT id, epoch, priority FROM jobs WHERE state = 'pending' \
        AND announced_at IS NULL AND phase = 'run' AND leader_id IS NULL AND run_after <= $1 \
        ORDER BY priority DESC, created_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    let now = db.now;
    let found = db.query(sql, &[&now, &i64::from(limit)])?;
    Ok(found
        .iter()
        .map(|row| Waiting { id: row.get(0), epoch: row.get(1), priority: row.get(2) })
        .collect())
}

pub(super) fn announced(db: &mut Transaction<'_>, jobs: &[Waiting]) -> Result<()> {
    // Not as a join: a plan made while the table is small compares each waiting job with each of these.
    let sql = "UPDATE jobs SET announced_at = $3 WHERE id = ANY($1) \
        AND epoch = ($2::bigint[])[array_position($1, id)] \
        AND state = 'pending' AND announced_at IS NULL";
    let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let epochs: Vec<i64> = jobs.iter().map(|job| job.epoch).collect();
    let now = db.now;
    db.execute(sql, &[&ids, &epochs, &now])?;
    Ok(())
}

pub(super) fn forget(db: &mut Transaction<'_>, before: Option<i64>) -> Result<u64> {
    let sql = "UPDATE jobs SET announced_at = NULL WHERE state = 'pending' AND announced_at < $1";
    let before = before.map_or(i64::MAX, |before| db.at(before));
    db.execute(sql, &[&before])
}
