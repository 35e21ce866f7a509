//! Jobs that wait and nobody was told of.

use rusqlite::{Connection, params};

use super::super::{Result, Waiting};

pub(super) fn unannounced(db: &Connection, limit: u32, now: i64) -> Result<Vec<Waiting>> {
    let sql = "SELECT id, epoch, priority FROM jobs WHERE state = 'pending' \
        AND announced_at IS NULL AND phase = 'run' AND leader_id IS NULL AND run_after <= ?1 \
        ORDER BY priority DESC, created_at LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![now, limit], |row| {
        Ok(Waiting { id: row.get(0)?, epoch: row.get(1)?, priority: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn announced(db: &Connection, jobs: &[Waiting], now: i64) -> Result<()> {
    let sql = "UPDATE jobs SET announced_at = ?3 WHERE id = ?1 AND epoch = ?2 \
        AND state = 'pending'";
    let mut statement = db.prepare_cached(sql)?;
    for job in jobs {
        statement.execute(params![job.id, job.epoch, now])?;
    }
    Ok(())
}

pub(super) fn forget(db: &Connection, before: Option<i64>) -> Result<u64> {
    let sql = "UPDATE jobs SET announced_at = NULL WHERE state = 'pending' AND announced_at < ?1";
    Ok(db.execute(sql, [before.unwrap_or(i64::MAX)])? as u64)
}
