//! Outbound webhooks: which are due, and what came of them.

use serde_json::Value;

use super::super::{About, Delivery, Due, Result, Tried};
use super::connection::Transaction;
use super::{batches, rows};
use crate::clock::rfc3339;
use crate::job::Callback;

/// Tries that are remembered of one delivery; replays would let them grow for ever.
const MAX_NOTES: usize = 50;

pub(super) fn due(db: &mut Transaction<'_>, limit: u32, busy_until: i64) -> Result<Vec<Due>> {
    let sql = "UPDATE deliveries SET next_at = $3 WHERE id IN (SELECT id FROM deliveries \
        WHERE state = 'pending' AND next_at <= $2 ORDER BY next_at LIMIT $1 \
        FOR UPDATE SKIP LOCKED) RETURNING id, event_id, event, tries, job_id, batch_id";
    let (now, busy_until) = (db.now, db.at(busy_until));
    let mut found = Vec::new();
    for row in db.query(sql, &[&i64::from(limit), &now, &busy_until])? {
        let about = match row.get::<_, Option<String>>(5) {
            None => About::Job(Box::new(rows::by_id(db, row.get(4))?)),
            Some(id) => match batches::find(db, None, &id)? {
                Some(batch) => About::Batch(Box::new(batch)),
                None => continue,
            },
        };
        found.push(Due {
            id: row.get(0),
            event_id: row.get(1),
            event: row.get(2),
            tries: u32::try_from(row.get::<_, i64>(3)).unwrap_or(u32::MAX),
            about,
        });
    }
    Ok(found)
}

pub(super) fn tried(db: &mut Transaction<'_>, outcome: &Tried) -> Result<()> {
    let (id, tries) = (&outcome.id, i64::from(outcome.tries));
    let sql = "SELECT tries_json FROM deliveries \
        WHERE id = $1 AND state = 'pending' AND tries = $2 FOR UPDATE";
    // Purged, replayed, or tried by somebody else while it was under way.
    let Some(row) = db.first(sql, &[id, &tries])? else { return Ok(()) };
    let mut notes: Vec<Value> = serde_json::from_str(&row.get::<_, String>(0))?;
    notes.push(serde_json::to_value(&outcome.note)?);
    if notes.len() > MAX_NOTES {
        notes.remove(0);
    }
    let sql = "UPDATE deliveries SET state = $2, next_at = $3, tries = tries + 1, tries_json = $4 \
        WHERE id = $1";
    let next_at = outcome.next_at.map(|at| db.at(at));
    let notes = serde_json::to_string(&notes)?;
    db.execute(sql, &[id, &outcome.state.as_str(), &next_at, &notes])?;
    Ok(())
}

pub(super) fn put_off(db: &mut Transaction<'_>, until: &[(Due, i64)]) -> Result<()> {
    let sql = "UPDATE deliveries SET next_at = $3 \
        WHERE id = $1 AND state = 'pending' AND tries = $2";
    for (due, until) in until {
        let until = db.at(*until);
        db.execute(sql, &[&due.id, &i64::from(due.tries), &until])?;
    }
    Ok(())
}

pub(super) fn of_job(db: &mut Transaction<'_>, tenant: &str, job: &str) -> Result<Vec<Delivery>> {
    let sql = "SELECT d.id, event, callback_json, d.state, tries_json, next_at \
        FROM deliveries AS d JOIN jobs AS j ON j.id = d.job_id \
        WHERE d.tenant_id = $1 AND d.job_id = $2 ORDER BY d.created_at";
    let found = db.query(sql, &[&tenant, &job])?;
    Ok(found
        .iter()
        .map(|row| {
            let callback: Option<String> = row.get(2);
            let callback: Option<Callback> =
                callback.and_then(|json| serde_json::from_str(&json).ok());
            Delivery {
                id: row.get(0),
                event: format!("transcription.{}", row.get::<_, String>(1)),
                url: callback.map(|callback| callback.url).unwrap_or_default(),
                state: row.get(3),
                tries: serde_json::from_str(&row.get::<_, String>(4)).unwrap_or_default(),
                next_at: row.get::<_, Option<i64>>(5).map(rfc3339),
            }
        })
        .collect())
}

pub(super) fn redeliver(
    db: &mut Transaction<'_>,
    tenant: &str,
    job: &str,
    delivery: &str,
) -> Result<bool> {
    let sql = "UPDATE deliveries SET state = 'pending', tries = 0, next_at = $4 \
        WHERE tenant_id = $1 AND job_id = $2 AND id = $3";
    let now = db.now;
    Ok(db.execute(sql, &[&tenant, &job, &delivery, &now])? == 1)
}
