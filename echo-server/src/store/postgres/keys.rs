//! Idempotency keys, identifiers of inbound messages, API keys and the audit.

use postgres::Row;

use super::super::{
    Answer, Answered, ApiKey, AuditEntry, RequestKey, Reserved, Result, Rotation, StoreError,
};
use super::connection::Transaction;
use crate::job::Job;

/// How long an answer is given again.
const KEPT_MS: i64 = 24 * 3600 * 1000;
/// How long a request may take before its key is free again: it has died.
const RESERVED_MS: i64 = 10 * 60 * 1000;

pub(super) fn reserve(db: &mut Transaction<'_>, key: &RequestKey<'_>) -> Result<Reserved> {
    let now = db.now;
    // One statement takes a free key or one whose time is up; the other requests find it taken.
    let sql = "INSERT INTO idempotency AS i (tenant_id, route, key, expires_at) \
        VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, route, key) DO UPDATE \
        SET expires_at = $4, fingerprint = NULL, response_json = NULL WHERE i.expires_at < $5";
    let until = now + RESERVED_MS;
    if db.execute(sql, &[&key.tenant, &key.route, &key.key, &until, &now])? == 1 {
        return Ok(Reserved::Fresh);
    }
    let sql =
        "SELECT response_json FROM idempotency WHERE tenant_id = $1 AND route = $2 AND key = $3";
    let known = db.first(sql, &[&key.tenant, &key.route, &key.key])?;
    match known.and_then(|row| row.get::<_, Option<String>>(0)) {
        Some(answer) => Ok(Reserved::Answered(serde_json::from_str(&answer)?)),
        None => Ok(Reserved::InProgress),
    }
}

pub(super) fn keep_answer(
    db: &mut Transaction<'_>,
    key: &RequestKey<'_>,
    answer: Option<&Answered>,
) -> Result<()> {
    let Some(answer) = answer else {
        let sql = "DELETE FROM idempotency \
            WHERE tenant_id = $1 AND route = $2 AND key = $3 AND response_json IS NULL";
        db.execute(sql, &[&key.tenant, &key.route, &key.key])?;
        return Ok(());
    };
    write(db, key, answer)?;
    Ok(())
}

/// Keeps the answer of jobs that were just kept.
pub(super) fn answer(
    db: &mut Transaction<'_>,
    answer: Option<&Answer>,
    jobs: &[Job],
) -> Result<()> {
    let Some(answer) = answer else { return Ok(()) };
    let Some(told) = (answer.told)(jobs) else { return Ok(()) };
    if write(db, &answer.key(), &told)? { Ok(()) } else { Err(StoreError::KeyUsed) }
}

/// Writes an answer, even if the reservation has ended; says whether there was none yet.
fn write(db: &mut Transaction<'_>, key: &RequestKey<'_>, answer: &Answered) -> Result<bool> {
    let sql = "INSERT INTO idempotency AS i \
        (tenant_id, route, key, fingerprint, response_json, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, route, key) DO UPDATE \
        SET fingerprint = $4, response_json = $5, expires_at = $6 WHERE i.response_json IS NULL";
    let (kept, until) = (serde_json::to_string(answer)?, db.now + KEPT_MS);
    let fingerprint = &answer.fingerprint;
    let changed =
        db.execute(sql, &[&key.tenant, &key.route, &key.key, fingerprint, &kept, &until])?;
    Ok(changed == 1)
}

pub(super) fn inbound(db: &mut Transaction<'_>, id: &str) -> Result<Option<String>> {
    let sql = "SELECT response_json FROM inbound_ids WHERE id = $1";
    Ok(db.first(sql, &[&id])?.map(|row| row.get(0)))
}

pub(super) fn keep_inbound(db: &mut Transaction<'_>, id: &str, answer: &str) -> Result<()> {
    let sql = "INSERT INTO inbound_ids (id, response_json, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let now = db.now;
    db.execute(sql, &[&id, &answer, &now])?;
    Ok(())
}

pub(super) fn add(db: &mut Transaction<'_>, key: &ApiKey) -> Result<()> {
    let sql = "INSERT INTO api_keys (id, tenant_id, name, hash, scopes, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    let now = db.now;
    db.execute(sql, &[&key.id, &key.tenant, &key.name, &key.hash, &key.scopes, &now])?;
    Ok(())
}

pub(super) fn by_hash(db: &mut Transaction<'_>, hash: &str) -> Result<Option<ApiKey>> {
    let sql = "SELECT id, tenant_id, name, hash, scopes FROM api_keys \
        WHERE hash = $1 AND revoked_at IS NULL";
    Ok(db.first(sql, &[&hash])?.as_ref().map(key_from_row))
}

pub(super) fn of_tenant(db: &mut Transaction<'_>, tenant: &str) -> Result<Vec<ApiKey>> {
    let sql = "SELECT id, tenant_id, name, hash, scopes FROM api_keys \
        WHERE tenant_id = $1 AND revoked_at IS NULL ORDER BY created_at";
    Ok(db.query(sql, &[&tenant])?.iter().map(key_from_row).collect())
}

fn key_from_row(row: &Row) -> ApiKey {
    ApiKey {
        id: row.get(0),
        tenant: row.get(1),
        name: row.get(2),
        hash: row.get(3),
        scopes: row.get(4),
    }
}

pub(super) fn revoke(db: &mut Transaction<'_>, tenant: &str, id: &str) -> Result<bool> {
    let sql = "UPDATE api_keys SET revoked_at = $3 \
        WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL";
    let now = db.now;
    Ok(db.execute(sql, &[&tenant, &id, &now])? == 1)
}

pub(super) fn rotation(db: &mut Transaction<'_>, tenant: &str) -> Result<Rotation> {
    let sql = "SELECT count, at FROM webhook_rotations WHERE tenant_id = $1";
    let found = db.first(sql, &[&tenant])?;
    Ok(found.map_or_else(Rotation::default, |row| Rotation { count: row.get(0), at: row.get(1) }))
}

pub(super) fn rotate(db: &mut Transaction<'_>, tenant: &str) -> Result<Rotation> {
    let sql = "INSERT INTO webhook_rotations AS r (tenant_id, count, at) VALUES ($1, 1, $2) \
        ON CONFLICT (tenant_id) DO UPDATE SET count = r.count + 1, at = $2";
    let now = db.now;
    db.execute(sql, &[&tenant, &now])?;
    rotation(db, tenant)
}

pub(super) fn audit(db: &mut Transaction<'_>, entry: &AuditEntry) -> Result<()> {
    let sql = "INSERT INTO audit (at, tenant_id, subject, action, object, peer, request_id, outcome) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let now = db.now;
    db.execute(
        sql,
        &[
            &now,
            &entry.tenant,
            &entry.subject,
            &entry.action,
            &entry.object,
            &entry.peer,
            &entry.request_id,
            &entry.outcome,
        ],
    )?;
    Ok(())
}
