//! Reading many rows: lists, histories, counts.

use postgres::types::ToSql;

use super::super::{Attempt, DayUsage, JobEvent, ListQuery, Load, Page, Result, WorkerSeen};
use super::connection::{Transaction, Value};
use super::rows;
use crate::clock::rfc3339;

/// Conditions of a `WHERE` and their values, which are never part of the text.
struct Conditions {
    sql: String,
    values: Vec<Box<dyn ToSql + Sync>>,
}

impl Conditions {
    /// Adds a condition, in which `?` stands for the values.
    fn and(&mut self, sql: &str, values: impl IntoIterator<Item = Box<dyn ToSql + Sync>>) {
        self.sql.push_str(" AND ");
        let mut pieces = sql.split('?');
        self.sql.push_str(pieces.next().unwrap_or_default());
        for (piece, value) in pieces.zip(values) {
            self.values.push(value);
            self.sql.push_str(&format!("${}{piece}", self.values.len()));
        }
    }

    fn values(&self) -> Vec<Value<'_>> {
        self.values.iter().map(AsRef::as_ref).collect()
    }
}

fn text(value: &str) -> Box<dyn ToSql + Sync> {
    Box::new(value.to_owned())
}

fn moment(at: i64) -> Box<dyn ToSql + Sync> {
    Box::new(at)
}

pub(super) fn list(db: &mut Transaction<'_>, tenant: &str, query: &ListQuery) -> Result<Page> {
    let mut found =
        Conditions { sql: "WHERE tenant_id = $1".to_owned(), values: vec![text(tenant)] };
    filter(&mut found, query);
    let mut total = None;
    if query.has_total {
        let sql = format!("SELECT count(*) FROM jobs {}", found.sql);
        total = db.query_once(&sql, &found.values())?.first().map(|row| rows::count(row, 0));
    }
    let (order, beyond) = if query.is_ascending { ("ASC", ">") } else { ("DESC", "<") };
    if let Some((created_at, id)) = &query.after {
        found.and(&format!("(created_at, id) {beyond} (?, ?)"), [moment(*created_at), text(id)]);
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
        found.and("created_at > ?", [moment(at)]);
    }
    if let Some(at) = query.created_before {
        found.and("created_at < ?", [moment(at)]);
    }
    if let Some(id) = &query.external_id {
        found.and("external_id = ?", [text(id)]);
    }
    if let Some(id) = &query.batch_id {
        found.and("batch_id = ?", [text(id)]);
    }
    for (key, value) in &query.metadata {
        found.and(&json_text("metadata_json", "?", "= ?"), [text(key), text(value)]);
    }
    if let Some(part) = &query.name_part {
        let condition = json_text("source_json", "'filename'", "ILIKE ?");
        let part = part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        found.and(&condition, [text(&format!("%{part}%"))]);
    }
}

/// A condition on a text within JSON. PostgreSQL reads no JSON with the character 0 in it; such
/// notes are not found.
fn json_text(column: &str, key: &str, condition: &str) -> String {
    format!(
        "CASE WHEN strpos({column}, '\\u0000') > 0 THEN FALSE \
         ELSE ({column}::jsonb ->> {key}) {condition} END"
    )
}

pub(super) fn events(db: &mut Transaction<'_>, id: &str, after: i64) -> Result<Vec<JobEvent>> {
    let sql = "SELECT seq, kind, json FROM job_events WHERE job_id = $1 AND seq > $2 ORDER BY seq";
    let found = db.query(sql, &[&id, &after])?;
    Ok(found
        .iter()
        .map(|row| JobEvent {
            seq: row.get(0),
            kind: row.get(1),
            data: serde_json::from_str(&row.get::<_, String>(2)).unwrap_or_default(),
        })
        .collect())
}

pub(super) fn attempts(db: &mut Transaction<'_>, id: &str) -> Result<Vec<Attempt>> {
    let sql = "SELECT attempt, worker, started_at, ended_at, outcome, detail FROM attempts \
        WHERE job_id = $1 ORDER BY epoch";
    let found = db.query(sql, &[&id])?;
    Ok(found
        .iter()
        .map(|row| Attempt {
            attempt: u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX),
            worker: row.get(1),
            started_at: rfc3339(row.get(2)),
            ended_at: row.get::<_, Option<i64>>(3).map(rfc3339),
            outcome: row.get(4),
            detail: row.get(5),
        })
        .collect())
}

pub(super) fn workers(db: &mut Transaction<'_>, since: i64) -> Result<Vec<WorkerSeen>> {
    let sql = "SELECT worker, count(*) FILTER (WHERE ended_at IS NULL), count(*), \
        max(COALESCE(ended_at, started_at)) FROM attempts \
        WHERE (started_at > $1 OR ended_at IS NULL) AND worker != 'fetch' \
        GROUP BY worker ORDER BY worker";
    let found = db.query(sql, &[&since])?;
    Ok(found
        .iter()
        .map(|row| WorkerSeen {
            worker_id: row.get(0),
            running: rows::count(row, 1),
            attempts: rows::count(row, 2),
            last_seen: rfc3339(row.get(3)),
        })
        .collect())
}

pub(super) fn load(db: &mut Transaction<'_>, tenant: &str) -> Result<Load> {
    let sql = "SELECT (SELECT count(*) FROM jobs WHERE tenant_id = $1 \
        AND state IN ('pending', 'processing')), \
        (SELECT count(*) FROM jobs WHERE state = 'pending'), \
        (SELECT count(*) FROM jobs WHERE state = 'processing')";
    let Some(row) = db.first(sql, &[&tenant])? else { return Ok(Load::default()) };
    let at = |column| rows::count(&row, column);
    Ok(Load { of_tenant: at(0), pending: at(1), processing: at(2) })
}

pub(super) fn counts(db: &mut Transaction<'_>) -> Result<Vec<(String, u64)>> {
    let found = db.query("SELECT state, count(*) FROM jobs GROUP BY state", &[])?;
    Ok(found.iter().map(|row| (row.get(0), rows::count(row, 1))).collect())
}

pub(super) fn usage(
    db: &mut Transaction<'_>,
    tenant: &str,
    from: i64,
    to: i64,
) -> Result<Vec<DayUsage>> {
    let sql = "SELECT to_char(to_timestamp(finished_at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD') \
        AS day, count(*), count(*) FILTER (WHERE cached), \
        COALESCE(sum((usage_json::json->>'audio_seconds')::double precision), 0), \
        COALESCE(sum((usage_json::json->>'busy_seconds')::double precision), 0) FROM jobs \
        WHERE tenant_id = $1 AND state = 'completed' AND finished_at >= $2 AND finished_at < $3 \
        GROUP BY day ORDER BY day";
    let found = db.query(sql, &[&tenant, &from, &to])?;
    let days = found.iter().map(|row| DayUsage {
        day: row.get(0),
        jobs: rows::count(row, 1),
        cached_jobs: rows::count(row, 2),
        audio_seconds: row.get(3),
        busy_seconds: row.get(4),
    });
    Ok(days.collect())
}

pub(super) fn is_needed(db: &mut Transaction<'_>, name: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE blob_hash = $1) \
        OR EXISTS (SELECT 1 FROM jobs WHERE cache_key = $1)";
    Ok(db.first(sql, &[&name])?.is_some_and(|row| row.get(0)))
}
