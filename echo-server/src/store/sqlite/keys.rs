//! Idempotency keys, identifiers of inbound messages, API keys and the audit.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{
    Answer, Answered, ApiKey, AuditEntry, RequestKey, Reserved, Result, Rotation, StoreError,
};
use crate::job::Job;

/// How long an answer is given again.
const KEPT_MS: i64 = 24 * 3600 * 1000;
/// How long a request may take before its key is free again: it has died.
const RESERVED_MS: i64 = 10 * 60 * 1000;

pub(super) fn reserve(db: &Connection, key: &RequestKey<'_>, now: i64) -> Result<Reserved> {
    let sql = "DELETE FROM idempotency WHERE tenant_id = ?1 AND route = ?2 AND key = ?3 \
        AND expires_at < ?4";
    db.execute(sql, params![key.tenant, key.route, key.key, now])?;
    let sql =
        "SELECT response_json FROM idempotency WHERE tenant_id = ?1 AND route = ?2 AND key = ?3";
    let known: Option<Option<String>> =
        db.query_row(sql, params![key.tenant, key.route, key.key], |row| row.get(0)).optional()?;
    match known {
        Some(Some(answer)) => Ok(Reserved::Answered(serde_json::from_str(&answer)?)),
        Some(None) => Ok(Reserved::InProgress),
        None => {
            let sql = "INSERT INTO idempotency (tenant_id, route, key, expires_at) \
                VALUES (?1, ?2, ?3, ?4)";
            db.execute(sql, params![key.tenant, key.route, key.key, now + RESERVED_MS])?;
            Ok(Reserved::Fresh)
        }
    }
}

pub(super) fn keep_answer(
    db: &Connection,
    key: &RequestKey<'_>,
    answer: Option<&Answered>,
    now: i64,
) -> Result<()> {
    let Some(answer) = answer else {
        let sql = "DELETE FROM idempotency \
            WHERE tenant_id = ?1 AND route = ?2 AND key = ?3 AND response_json IS NULL";
        db.execute(sql, params![key.tenant, key.route, key.key])?;
        return Ok(());
    };
    write(db, key, answer, now)?;
    Ok(())
}

/// Keeps the answer of jobs that were just kept.
pub(super) fn answer(
    db: &Connection,
    answer: Option<&Answer>,
    jobs: &[Job],
    now: i64,
) -> Result<()> {
    let Some(answer) = answer else { return Ok(()) };
    let Some(told) = (answer.told)(jobs) else { return Ok(()) };
    if write(db, &answer.key(), &told, now)? { Ok(()) } else { Err(StoreError::KeyUsed) }
}

/// Writes an answer, even if the reservation has ended; says whether there was none yet.
fn write(db: &Connection, key: &RequestKey<'_>, answer: &Answered, now: i64) -> Result<bool> {
    let sql = "INSERT INTO idempotency AS i \
        (tenant_id, route, key, fingerprint, response_json, expires_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant_id, route, key) DO UPDATE \
        SET fingerprint = ?4, response_json = ?5, expires_at = ?6 WHERE i.response_json IS NULL";
    let kept = serde_json::to_string(answer)?;
    let values = params![key.tenant, key.route, key.key, answer.fingerprint, kept, now + KEPT_MS];
    Ok(db.execute(sql, values)? == 1)
}

pub(super) fn inbound(db: &Connection, id: &str) -> Result<Option<String>> {
    let sql = "SELECT response_json FROM inbound_ids WHERE id = ?1";
    Ok(db.query_row(sql, [id], |row| row.get(0)).optional()?)
}

pub(super) fn keep_inbound(db: &Connection, id: &str, answer: &str, now: i64) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO inbound_ids (id, response_json, at) VALUES (?1, ?2, ?3)";
    db.execute(sql, params![id, answer, now])?;
    Ok(())
}

pub(super) fn add(db: &Connection, key: &ApiKey, now: i64) -> Result<()> {
    let sql = "INSERT INTO api_keys (id, tenant_id, name, hash, scopes, created_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    db.execute(sql, params![key.id, key.tenant, key.name, key.hash, key.scopes, now])?;
    Ok(())
}

pub(super) fn by_hash(db: &Connection, hash: &str) -> Result<Option<ApiKey>> {
    let sql = "SELECT id, tenant_id, name, hash, scopes FROM api_keys \
        WHERE hash = ?1 AND revoked_at IS NULL";
    Ok(db.prepare_cached(sql)?.query_row([hash], key_from_row).optional()?)
}

pub(super) fn of_tenant(db: &Connection, tenant: &str) -> Result<Vec<ApiKey>> {
    let sql = "SELECT id, tenant_id, name, hash, scopes FROM api_keys \
        WHERE tenant_id = ?1 AND revoked_at IS NULL ORDER BY created_at";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([tenant], key_from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn key_from_row(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    Ok(ApiKey {
        id: row.get(0)?,
        tenant: row.get(1)?,
        name: row.get(2)?,
        hash: row.get(3)?,
        scopes: row.get(4)?,
    })
}

pub(super) fn revoke(db: &Connection, tenant: &str, id: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE api_keys SET revoked_at = ?3 \
        WHERE tenant_id = ?1 AND id = ?2 AND revoked_at IS NULL";
    Ok(db.execute(sql, params![tenant, id, now])? == 1)
}

pub(super) fn rotation(db: &Connection, tenant: &str) -> Result<Rotation> {
    let sql = "SELECT count, at FROM webhook_rotations WHERE tenant_id = ?1";
    let row = |row: &Row<'_>| Ok(Rotation { count: row.get(0)?, at: row.get(1)? });
    Ok(db.prepare_cached(sql)?.query_row([tenant], row).optional()?.unwrap_or_default())
}

pub(super) fn rotate(db: &Connection, tenant: &str, now: i64) -> Result<Rotation> {
    let sql = "INSERT INTO webhook_rotations AS r (tenant_id, count, at) VALUES (?1, 1, ?2) \
        ON CONFLICT (tenant_id) DO UPDATE SET count = r.count + 1, at = ?2";
    db.execute(sql, params![tenant, now])?;
    rotation(db, tenant)
}

pub(super) fn audit(db: &Connection, entry: &AuditEntry, now: i64) -> Result<()> {
    let sql = "INSERT INTO audit (at, tenant_id, subject, action, object, peer, request_id, outcome) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![
        now,
        entry.tenant,
        entry.subject,
        entry.action,
        entry.object,
        entry.peer,
        entry.request_id,
        entry.outcome
    ];
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}
