//! Leases: given, prolonged, given back, lost.

use super::super::{
    Claim, Claimed, Lease, MAX_FETCHES_OF_TENANT, Renewed, Report, Result, StoreError, Swept,
};
use super::{checkpoints, ends, rows};
use crate::job::{Job, JobError, Phase};
use rusqlite::{Connection, OptionalExtension, params};

/// Leases that may be given back without costing an attempt.
const MAX_RELEASES: u32 = 10;

pub(super) fn claim(
    db: &Connection,
    phase: Phase,
    claim: &Claim<'_>,
    now: i64,
) -> Result<Option<Claimed>> {
    // The tenants that wait are stepped through by the index; of each only the next job is looked at.
    let sql = "WITH RECURSIVE \
        waiting (tenant_id) AS (SELECT min(tenant_id) FROM jobs \
            WHERE state = 'pending' AND leader_id IS NULL AND phase = ?1 \
            UNION ALL SELECT (SELECT min(j.tenant_id) FROM jobs AS j WHERE j.state = 'pending' \
            AND j.leader_id IS NULL AND j.phase = ?1 AND j.tenant_id > waiting.tenant_id) \
            FROM waiting WHERE waiting.tenant_id IS NOT NULL), \
        running AS (SELECT tenant_id, count(*) AS n, sum(phase = 'fetch') AS fetching FROM jobs \
            WHERE state = 'processing' GROUP BY tenant_id) \
        SELECT next.id FROM waiting LEFT JOIN running ON running.tenant_id = waiting.tenant_id \
        CROSS JOIN jobs AS next ON next.id = (SELECT id FROM jobs WHERE state = 'pending' \
            AND leader_id IS NULL AND phase = ?1 AND tenant_id = waiting.tenant_id \
            AND run_after <= ?2 ORDER BY priority DESC, created_at, id LIMIT 1) \
        WHERE ?1 <> 'fetch' OR COALESCE(running.fetching, 0) < ?3 \
        ORDER BY next.priority DESC, COALESCE(running.n, 0), next.created_at, next.id LIMIT 1";
    let next: Option<String> = db
        .prepare_cached(sql)?
        .query_row(params![phase.as_str(), now, MAX_FETCHES_OF_TENANT], |row| row.get(0))
        .optional()?;
    next.map_or(Ok(None), |id| claim_job(db, &id, claim, now))
}

/// The attempt is counted before it is made: who dies of it has had it.
pub(super) fn claim_job(
    db: &Connection,
    id: &str,
    claim: &Claim<'_>,
    now: i64,
) -> Result<Option<Claimed>> {
    let (token, token_hash) = Claimed::new_token();
    let sql = "UPDATE jobs SET state = 'processing', attempt = attempt + 1, epoch = epoch + 1, \
        lease_owner = ?2, lease_token_hash = ?3, lease_until = ?4, progress = 0, stage = NULL, \
        started_at = COALESCE(started_at, ?5), version = version + 1 \
        WHERE id = ?1 AND state = 'pending' AND leader_id IS NULL AND attempt < max_attempts";
    let claimed =
        db.prepare_cached(sql)?.execute(params![id, claim.owner, token_hash, claim.until, now])?;
    if claimed == 0 {
        return Ok(None);
    }
    let job = rows::remember_status(db, id, now)?;
    let sql = "INSERT INTO attempts (job_id, epoch, attempt, worker, started_at) \
        VALUES (?1, ?2, ?3, ?4, ?5)";
    db.prepare_cached(sql)?.execute(params![id, job.epoch, job.attempt, claim.owner, now])?;
    let mut resumes_at = checkpoints::reached(db, id)?;
    if resumes_at.is_some() && !claim.resumes {
        checkpoints::restart(db, id, job.attempt, now)?;
        resumes_at = None;
    }
    let lease = Lease { epoch: job.epoch, token_hash };
    Ok(Some(Claimed { job, token, lease, resumes_at }))
}

pub(super) fn renew(
    db: &Connection,
    lease: &Lease,
    report: &Report,
    until: i64,
    now: i64,
) -> Result<Renewed> {
    let sql = format!(
        "UPDATE jobs SET lease_until = MAX(lease_until, ?3), \
         progress = MAX(progress, COALESCE(?4, progress)), stage = COALESCE(?5, stage), \
         version = version + (?4 IS NOT NULL OR ?5 IS NOT NULL) \
         WHERE {} RETURNING id, cancel_requested, segments_told, attempt",
        rows::FENCE
    );
    let values = params![lease.token_hash, lease.epoch, until, report.progress, report.stage];
    let (job_id, is_cancel_requested, mut told, attempt): (String, bool, u64, u32) = db
        .prepare_cached(&sql)?
        .query_row(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?
        .ok_or(StoreError::Fenced)?;
    if report.is_restart {
        checkpoints::restart(db, &job_id, attempt, now)?;
        told = 0;
    }
    if let Some((news, told)) = report.untold(told) {
        rows::remember(db, &job_id, "segments", &news, now)?;
        let sql = "UPDATE jobs SET segments_told = ?2 WHERE id = ?1";
        db.prepare_cached(sql)?.execute(params![job_id, told])?;
    }
    for part in &report.checkpoints {
        checkpoints::add(db, &job_id, part)?;
    }
    Ok(Renewed { job_id, is_cancel_requested })
}

pub(super) fn release(db: &Connection, lease: &Lease, now: i64) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    if job.is_cancel_requested {
        return ends::cancelled(db, lease, now);
    }
    end_attempt(db, &job, "released", None, now)?;
    let sql = "UPDATE jobs SET state = 'pending', announced_at = NULL, stage = NULL, progress = 0, lease_owner = NULL, \
        lease_token_hash = NULL, lease_until = NULL, run_after = ?2, \
        attempt = attempt - (release_count < ?3), release_count = release_count + 1, \
        version = version + 1 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![job.id, now, MAX_RELEASES])?;
    if job.attempt >= job.max_attempts && by_budget(db, &job.id)? {
        return ends::fail_for_good(db, &job.id, &lost(), now);
    }
    rows::remember_status(db, &job.id, now)
}

/// Whether a waiting job has used up its attempts.
fn by_budget(db: &Connection, id: &str) -> Result<bool> {
    let sql = "SELECT attempt >= max_attempts FROM jobs WHERE id = ?1";
    Ok(db.query_row(sql, [id], |row| row.get(0))?)
}

pub(super) fn lose(db: &Connection, owner: &str, now: i64) -> Result<()> {
    let sql = "UPDATE jobs SET lease_until = ?2 WHERE lease_owner = ?1 AND state = 'processing'";
    db.execute(sql, params![owner, now - 1])?;
    Ok(())
}

pub(super) fn sweep(db: &Connection, now: i64) -> Result<Swept> {
    let condition = "WHERE state = 'processing' AND lease_until < ?1";
    let mut swept = Swept::default();
    for job in rows::jobs(db, condition, &[&now])? {
        end_attempt(db, &job, "lost", None, now)?;
        if job.is_cancel_requested {
            ends::cancel_for_good(db, &job.id, now)?;
            swept.ended.push(job.id);
        } else if job.attempt >= job.max_attempts {
            ends::fail_for_good(db, &job.id, &lost(), now)?;
            swept.ended.push(job.id);
        } else {
            requeue(db, &job.id, now, None, now)?;
            swept.requeued.push(job.id);
        }
    }
    Ok(swept)
}

pub(super) fn clock_stepped(db: &Connection, by_ms: i64) -> Result<()> {
    let leases = "UPDATE jobs SET lease_until = lease_until + ?1 WHERE state = 'processing'";
    let pauses = "UPDATE jobs SET run_after = run_after + ?1 WHERE state = 'pending'";
    for sql in [leases, pauses] {
        db.execute(sql, [by_ms])?;
    }
    Ok(())
}

fn lost() -> JobError {
    JobError::lasting("worker_lost", "the worker was lost at every attempt")
}

/// Lets a job wait again, until `run_after`.
pub(super) fn requeue(
    db: &Connection,
    id: &str,
    run_after: i64,
    error: Option<&JobError>,
    now: i64,
) -> Result<Job> {
    let error = error.map(serde_json::to_string).transpose()?;
    let sql = "UPDATE jobs SET state = 'pending', announced_at = NULL, stage = NULL, progress = 0, lease_owner = NULL, \
        lease_token_hash = NULL, lease_until = NULL, run_after = ?2, error_json = ?3, \
        version = version + 1 WHERE id = ?1 AND state = 'processing'";
    db.prepare_cached(sql)?.execute(params![id, run_after, error])?;
    rows::remember_status(db, id, now)
}

/// Notes how an attempt ended; what its segments were is told no more, unless the next one goes on
/// from a checkpoint.
pub(super) fn end_attempt(
    db: &Connection,
    job: &Job,
    outcome: &str,
    detail: Option<&str>,
    now: i64,
) -> Result<()> {
    let sql = "UPDATE attempts SET ended_at = ?3, outcome = ?4, detail = ?5 \
        WHERE job_id = ?1 AND epoch = ?2";
    db.prepare_cached(sql)?.execute(params![job.id, job.epoch, now, outcome, detail])?;
    if outcome != "completed" && checkpoints::reached(db, &job.id)?.is_none() {
        checkpoints::restart(db, &job.id, job.attempt, now)?;
    }
    Ok(())
}
