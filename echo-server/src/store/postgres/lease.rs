//! Leases: given, prolonged, given back, lost.

use super::super::{
    Claim, Claimed, Lease, MAX_FETCHES_OF_TENANT, Renewed, Report, Result, StoreError,
};
use super::connection::Transaction;
use super::{checkpoints, ends, rows};
use crate::job::{Job, JobError, Phase};

/// Leases that may be given back without costing an attempt.
const MAX_RELEASES: i64 = 10;
/// Attempts ended by one sweep; the rest waits for the next one.
const MAX_SWEPT: i64 = 500;

pub(super) fn claim(
    db: &mut Transaction<'_>,
    phase: Phase,
    claim: &Claim<'_>,
) -> Result<Option<Claimed>> {
    if phase == Phase::Fetch {
        // Two that count at the same time would both see room for one more.
        db.lock_group("fetch")?;
    }
    // Counted once a tenant and not once a row; rows that others are claiming are passed over.
    let sql = "WITH running AS (SELECT tenant_id, count(*) AS n, \
        count(*) FILTER (WHERE phase = 'fetch') AS fetching FROM jobs WHERE state = 'processing' GROUP BY tenant_id) \
        SELECT j.id FROM jobs AS j LEFT JOIN running AS r ON r.tenant_id = j.tenant_id \
        WHERE j.state = 'pending' AND j.phase = $1 AND j.run_after <= $2 AND j.leader_id IS NULL \
        AND (j.phase <> 'fetch' OR COALESCE(r.fetching, 0) < $3) \
        ORDER BY j.priority DESC, COALESCE(r.n, 0), j.created_at, j.id LIMIT 1 \
        FOR UPDATE OF j SKIP LOCKED";
    let now = db.now;
    let next = db.first(sql, &[&phase.as_str(), &now, &i64::from(MAX_FETCHES_OF_TENANT)])?;
    next.map_or(Ok(None), |row| claim_job(db, row.get(0), claim))
}

/// The attempt is counted before it is made: who dies of it has had it.
pub(super) fn claim_job(
    db: &mut Transaction<'_>,
    id: &str,
    claim: &Claim<'_>,
) -> Result<Option<Claimed>> {
    let (token, token_hash) = Claimed::new_token();
    let sql = "UPDATE jobs SET state = 'processing', attempt = attempt + 1, epoch = epoch + 1, \
        lease_owner = $2, lease_token_hash = $3, lease_until = $4, lease_ms = $6, progress = 0, \
        stage = NULL, started_at = COALESCE(started_at, $5), version = version + 1 \
        WHERE id = $1 AND state = 'pending' AND leader_id IS NULL AND attempt < max_attempts";
    let (now, until) = (db.now, db.at(claim.until));
    let values = [id, claim.owner, &token_hash];
    let claimed = db.execute(
        sql,
        &[&values[0], &values[1], &values[2], &until, &now, &until.saturating_sub(now)],
    )?;
    if claimed == 0 {
        return Ok(None);
    }
    let job = rows::remember_status(db, id)?;
    let sql = "INSERT INTO attempts (job_id, epoch, attempt, worker, started_at) \
        VALUES ($1, $2, $3, $4, $5)";
    db.execute(sql, &[&id, &job.epoch, &i64::from(job.attempt), &claim.owner, &now])?;
    let mut resumes_at = checkpoints::reached(db, id)?;
    if resumes_at.is_some() && !claim.resumes {
        checkpoints::restart(db, id, job.attempt)?;
        resumes_at = None;
    }
    let lease = Lease { epoch: job.epoch, token_hash };
    Ok(Some(Claimed { job, token, lease, resumes_at }))
}

pub(super) fn renew(
    db: &mut Transaction<'_>,
    lease: &Lease,
    report: &Report,
    until: i64,
) -> Result<Renewed> {
    let sql = format!(
        "UPDATE jobs SET lease_until = GREATEST(lease_until, $3), \
         progress = GREATEST(progress, COALESCE($4, progress)), stage = COALESCE($5, stage), \
         version = version + CASE WHEN $4 IS NOT NULL OR $5 IS NOT NULL THEN 1 ELSE 0 END \
         WHERE {} RETURNING id, cancel_requested, segments_told, attempt",
        rows::FENCE
    );
    let until = db.at(until);
    let mut renewed = None;
    // A run that is handed over while the row is waited for is found under its new job.
    for _ in 0..2 {
        let values: [super::connection::Value<'_>; 5] =
            [&lease.token_hash, &lease.epoch, &until, &report.progress, &report.stage];
        renewed = db.first(&sql, &values)?;
        if renewed.is_some() {
            break;
        }
    }
    let row = renewed.ok_or(StoreError::Fenced)?;
    let renewed = Renewed { job_id: row.get(0), is_cancel_requested: row.get(1) };
    let mut told = rows::count(&row, 2);
    if report.is_restart {
        let attempt = u32::try_from(rows::count(&row, 3)).unwrap_or(u32::MAX);
        checkpoints::restart(db, &renewed.job_id, attempt)?;
        told = 0;
    }
    if let Some((news, told)) = report.untold(told) {
        rows::remember(db, &renewed.job_id, "segments", &news)?;
        let sql = "UPDATE jobs SET segments_told = $2 WHERE id = $1";
        db.execute(sql, &[&renewed.job_id, &rows::integer(told)])?;
    }
    for part in &report.checkpoints {
        checkpoints::add(db, &renewed.job_id, part)?;
    }
    Ok(renewed)
}

pub(super) fn release(db: &mut Transaction<'_>, lease: &Lease) -> Result<Job> {
    let job = rows::fenced(db, lease)?;
    if job.is_cancel_requested {
        return ends::cancelled(db, lease);
    }
    end_attempt(db, &job, "released", None)?;
    let sql = "UPDATE jobs SET state = 'pending', announced_at = NULL, stage = NULL, progress = 0, lease_owner = NULL, \
        lease_token_hash = NULL, lease_until = NULL, run_after = $2, \
        attempt = attempt - CASE WHEN release_count < $3 THEN 1 ELSE 0 END, \
        release_count = release_count + 1, version = version + 1 WHERE id = $1 \
        RETURNING attempt >= max_attempts";
    let now = db.now;
    let row = db.first(sql, &[&job.id, &now, &MAX_RELEASES])?;
    if row.is_some_and(|row| row.get(0)) {
        return ends::fail_for_good(db, &job.id, &lost());
    }
    rows::remember_status(db, &job.id)
}

pub(super) fn lose(db: &mut Transaction<'_>, owner: &str) -> Result<()> {
    let sql = "UPDATE jobs SET lease_until = $2, lease_ms = 0 \
        WHERE lease_owner = $1 AND state = 'processing'";
    let now = db.now;
    db.execute(sql, &[&owner, &(now - 1)])?;
    Ok(())
}

/// Jobs whose lease has run out. Time in which the database was not there, before `since`, does not
/// count: nobody could renew a lease then.
pub(super) fn expired(db: &mut Transaction<'_>, since: i64) -> Result<Vec<String>> {
    let sql = "SELECT id FROM jobs WHERE state = 'processing' AND lease_until < $1 \
        AND $2 + lease_ms < $1 LIMIT $3";
    let now = db.now;
    let found = db.query(sql, &[&now, &since, &MAX_SWEPT])?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// Ends an attempt whose lease has run out; says what became of the job, if it still was so.
pub(super) fn sweep(db: &mut Transaction<'_>, id: &str) -> Result<Option<Job>> {
    let now = db.now;
    let condition = "WHERE id = $1 AND state = 'processing' AND lease_until < $2";
    let Some(job) = rows::locked(db, condition, &[&id, &now])? else { return Ok(None) };
    end_attempt(db, &job, "lost", None)?;
    if job.is_cancel_requested {
        ends::cancel_for_good(db, &job.id).map(Some)
    } else if job.attempt >= job.max_attempts {
        ends::fail_for_good(db, &job.id, &lost()).map(Some)
    } else {
        requeue(db, &job.id, now, None).map(Some)
    }
}

fn lost() -> JobError {
    JobError::lasting("worker_lost", "the worker was lost at every attempt")
}

/// Lets a job wait again, until `run_after`.
pub(super) fn requeue(
    db: &mut Transaction<'_>,
    id: &str,
    run_after: i64,
    error: Option<&JobError>,
) -> Result<Job> {
    let error = error.map(serde_json::to_string).transpose()?;
    let sql = "UPDATE jobs SET state = 'pending', announced_at = NULL, stage = NULL, progress = 0, lease_owner = NULL, \
        lease_token_hash = NULL, lease_until = NULL, run_after = $2, error_json = $3, \
        version = version + 1 WHERE id = $1 AND state = 'processing'";
    db.execute(sql, &[&id, &run_after, &error])?;
    rows::remember_status(db, id)
}

/// Notes how an attempt ended; what its segments were is told no more, unless the next one goes on
/// from a checkpoint.
pub(super) fn end_attempt(
    db: &mut Transaction<'_>,
    job: &Job,
    outcome: &str,
    detail: Option<&str>,
) -> Result<()> {
    let sql = "UPDATE attempts SET ended_at = $3, outcome = $4, detail = $5 \
        WHERE job_id = $1 AND epoch = $2";
    let now = db.now;
    db.execute(sql, &[&job.id, &job.epoch, &now, &outcome, &detail])?;
    if outcome != "completed" && checkpoints::reached(db, &job.id)?.is_none() {
        checkpoints::restart(db, &job.id, job.attempt)?;
    }
    Ok(())
}
