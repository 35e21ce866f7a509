//! Reading many rows: lists, histories, counts.

use rusqlite::{Connection, ToSql, params};

use super::super::{Attempt, DayUsage, JobEvent, ListQuery, Load, Page, Result, WorkerSeen};
use super::rows;
use crate::clock::rfc3339;

/// Conditions of a `WHERE` and their values, which are never part of the text.
struct Conditions {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    /// Adds a condition, in which `?` stands for the values.
    fn and(&mut self, sql: &str, values: impl IntoIterator<Item = Box<dyn ToSql>>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    fn values(&self) -> Vec<&dyn ToSql> {
        self.values.iter().map(AsRef::as_ref).collect()
    }
}

fn text(value: &str) -> Box<dyn ToSql> {
    Box::new(value.to_owned())
}

pub(super) fn list(db: &Connection, tenant: &str, query: &ListQuery) -> Result<Page> {
    let mut found =
        Conditions { sql: "WHERE tenant_id = ?".to_owned(), values: vec![text(tenant)] };
    filter(&mut found, query);
    let mut total = None;
    if query.has_total {
        let sql = format!("SELECT count(*) FROM jobs {}", found.sql);
        total = Some(db.query_row(&sql, found.values().as_slice(), |row| row.get(0))?);
    }
    let (order, beyond) = if query.is_ascending { ("ASC", ">") } else { ("DESC", "<") };
    if let Some((created_at, id)) = &query.after {
        let values = [Box::new(*created_at) as Box<dyn ToSql>, text(id)];
        found.and(&format!("(created_at, id) {beyond} (?, ?)"), values);
    }
    // One more than the page tells whether there is another page.
    let condition = format!(
        "{} ORDER BY created_at {order}, id {order} LIMIT {} OFFSET {}",
        found.sql,
        query.limit + 1,
        query.offset
    );
    let mut jobs = rows::jobs(db, &condition, &found.values())?;
    let has_more = jobs.len() > query.limit as usize;
    jobs.truncate(query.limit as usize);
    Ok(Page { jobs, has_more, total })
}

fn filter(found: &mut Conditions, query: &ListQuery) {
    if !query.states.is_empty() {
        let marks = vec!["?"; query.states.len()].join(", ");
        let states = query.states.iter().map(|state| text(state.as_str()));
        found.and(&format!("state IN ({marks})"), states);
    }
    if let Some(at) = query.created_after {
        found.and("created_at > ?", [Box::new(at) as Box<dyn ToSql>]);
    }
    if let Some(at) = query.created_before {
        found.and("created_at < ?", [Box::new(at) as Box<dyn ToSql>]);
    }
    if let Some(id) = &query.external_id {
        found.and("external_id = ?", [text(id)]);
    }
    if let Some(id) = &query.batch_id {
        found.and("batch_id = ?", [text(id)]);
    }
    for (key, value) in &query.metadata {
        // As a text, whatever it is.
        let condition = "EXISTS (SELECT 1 FROM json_each(metadata_json) AS m WHERE m.key = ? AND \
            CASE m.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' \
            ELSE CAST(m.value AS TEXT) END = ?)";
        found.and(condition, [text(key), text(value)]);
    }
    if let Some(part) = &query.name_part {
        let condition = "instr(lower(json_extract(source_json, '$.filename')), lower(?)) > 0";
        found.and(condition, [text(part)]);
    }
}

pub(super) fn events(db: &Connection, id: &str, after: i64) -> Result<Vec<JobEvent>> {
    let sql = "SELECT seq, kind, json FROM job_events WHERE job_id = ?1 AND seq > ?2 ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![id, after], |row| {
        let json: String = row.get(2)?;
        let data = serde_json::from_str(&json).unwrap_or_default();
        Ok(JobEvent { seq: row.get(0)?, kind: row.get(1)?, data })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn attempts(db: &Connection, id: &str) -> Result<Vec<Attempt>> {
    let sql = "SELECT attempt, worker, started_at, ended_at, outcome, detail FROM attempts \
        WHERE job_id = ?1 ORDER BY epoch";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| {
        Ok(Attempt {
            attempt: row.get(0)?,
            worker: row.get(1)?,
            started_at: rfc3339(row.get(2)?),
            ended_at: row.get::<_, Option<i64>>(3)?.map(rfc3339),
            outcome: row.get(4)?,
            detail: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn workers(db: &Connection, since: i64) -> Result<Vec<WorkerSeen>> {
    let sql = "SELECT worker, sum(ended_at IS NULL), count(*), max(COALESCE(ended_at, started_at)) \
        FROM attempts WHERE (started_at > ?1 OR ended_at IS NULL) AND worker != 'fetch' \
        GROUP BY worker ORDER BY worker";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([since], |row| {
        Ok(WorkerSeen {
            worker_id: row.get(0)?,
            running: row.get(1)?,
            attempts: row.get(2)?,
            last_seen: rfc3339(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn load(db: &Connection, tenant: &str) -> Result<Load> {
    let sql = "SELECT (SELECT count(*) FROM jobs WHERE tenant_id = ?1 AND state = 'pending') + \
        (SELECT count(*) FROM jobs WHERE tenant_id = ?1 AND state = 'processing'), \
        (SELECT count(*) FROM jobs WHERE state = 'pending'), \
        (SELECT count(*) FROM jobs WHERE state = 'processing')";
    Ok(db.prepare_cached(sql)?.query_row([tenant], |row| {
        Ok(Load { of_tenant: row.get(0)?, pending: row.get(1)?, processing: row.get(2)? })
    })?)
}

pub(super) fn counts(db: &Connection) -> Result<Vec<(String, u64)>> {
    let mut statement = db.prepare_cached("SELECT state, count(*) FROM jobs GROUP BY state")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn usage(db: &Connection, tenant: &str, from: i64, to: i64) -> Result<Vec<DayUsage>> {
    let sql = "SELECT date(finished_at / 1000, 'unixepoch') AS day, count(*), sum(cached), \
        COALESCE(sum(json_extract(usage_json, '$.audio_seconds')), 0.0), \
        COALESCE(sum(json_extract(usage_json, '$.busy_seconds')), 0.0) FROM jobs \
        WHERE tenant_id = ?1 AND state = 'completed' AND finished_at >= ?2 AND finished_at < ?3 \
        GROUP BY day ORDER BY day";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![tenant, from, to], |row| {
        Ok(DayUsage {
            day: row.get(0)?,
            jobs: row.get(1)?,
            cached_jobs: row.get(2)?,
            audio_seconds: row.get(3)?,
            busy_seconds: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn is_needed(db: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE blob_hash = ?1) \
        OR EXISTS (SELECT 1 FROM jobs WHERE cache_key = ?1)";
    Ok(db.query_row(sql, [name], |row| row.get(0))?)
}
