//! Outbound webhooks: which are due, and what came of them.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::super::{About, Delivery, Due, Result, Tried};
use super::{batches, rows};
use crate::clock::rfc3339;

/// Tries that are remembered of one delivery; replays would let them grow for ever.
const MAX_NOTES: usize = 50;

pub(super) fn due(db: &Connection, limit: u32, now: i64, busy_until: i64) -> Result<Vec<Due>> {
    let sql = "UPDATE deliveries SET next_at = ?3 WHERE id IN (SELECT id FROM deliveries \
        WHERE state = 'pending' AND next_at <= ?2 ORDER BY next_at LIMIT ?1) \
        RETURNING id, event_id, event, tries, job_id, batch_id";
    let mut statement = db.prepare_cached(sql)?;
    let due = statement.query_map(params![limit, now, busy_until], |row| {
        let about = (row.get::<_, String>(4)?, row.get::<_, Option<String>>(5)?);
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, about))
    })?;
    let mut found = Vec::new();
    for row in due {
        let (id, event_id, event, tries, (job_id, batch_id)) = row?;
        let about = match batch_id {
            None => About::Job(Box::new(rows::by_id(db, &job_id)?)),
            Some(id) => match batches::find(db, None, &id)? {
                Some(batch) => About::Batch(Box::new(batch)),
                None => continue,
            },
        };
        found.push(Due { id, event_id, event, tries, about });
    }
    Ok(found)
}

pub(super) fn tried(db: &Connection, outcome: &Tried) -> Result<()> {
    let (id, tries) = (&outcome.id, outcome.tries);
    let sql = "SELECT tries_json FROM deliveries \
        WHERE id = ?1 AND state = 'pending' AND tries = ?2";
    let notes: Option<String> =
        db.query_row(sql, params![id, tries], |row| row.get(0)).optional()?;
    // Purged, replayed, or tried by somebody else while it was under way.
    let Some(notes) = notes else { return Ok(()) };
    let mut notes: Vec<Value> = serde_json::from_str(&notes)?;
    notes.push(serde_json::to_value(&outcome.note)?);
    if notes.len() > MAX_NOTES {
        notes.remove(0);
    }
    let sql = "UPDATE deliveries SET state = ?2, next_at = ?3, tries = tries + 1, tries_json = ?4 \
        WHERE id = ?1";
    let notes = serde_json::to_string(&notes)?;
    db.execute(sql, params![id, outcome.state.as_str(), outcome.next_at, notes])?;
    Ok(())
}

pub(super) fn put_off(db: &Connection, until: &[(Due, i64)]) -> Result<()> {
    let sql = "UPDATE deliveries SET next_at = ?3 \
        WHERE id = ?1 AND state = 'pending' AND tries = ?2";
    let mut statement = db.prepare_cached(sql)?;
    for (due, until) in until {
        statement.execute(params![due.id, due.tries, until])?;
    }
    Ok(())
}

pub(super) fn of_job(db: &Connection, tenant: &str, job: &str) -> Result<Vec<Delivery>> {
    let sql = "SELECT d.id, event, json_extract(callback_json, '$.url'), d.state, tries_json, \
        next_at FROM deliveries AS d JOIN jobs AS j ON j.id = d.job_id \
        WHERE d.tenant_id = ?1 AND d.job_id = ?2 ORDER BY d.created_at";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([tenant, job], |row| {
        let tries: String = row.get(4)?;
        Ok(Delivery {
            id: row.get(0)?,
            event: format!("transcription.{}", row.get::<_, String>(1)?),
            url: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
            state: row.get(3)?,
            tries: serde_json::from_str(&tries).unwrap_or_default(),
            next_at: row.get::<_, Option<i64>>(5)?.map(rfc3339),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn redeliver(
    db: &Connection,
    tenant: &str,
    job: &str,
    delivery: &str,
    now: i64,
) -> Result<bool> {
    let sql = "UPDATE deliveries SET state = 'pending', tries = 0, next_at = ?4 \
        WHERE tenant_id = ?1 AND job_id = ?2 AND id = ?3";
    Ok(db.execute(sql, params![tenant, job, delivery, now])? == 1)
}
