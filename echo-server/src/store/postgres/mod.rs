//! Jobs in PostgreSQL, shared by any number of replicas.
//!
//! *Locks.* Jobs that want the same result are a group; whoever changes more than one row of a group
//! holds its advisory lock first, and rows after it. A claim locks one row and passes over those that
//! others lock.
//!
//! *Time* is the database's. Leases do not run out while nobody can reach it.

mod batches;
mod cancel;
mod checkpoints;
pub(super) mod connection;
mod deliveries;
mod ends;
mod keys;
mod lease;
mod list;
mod outbox;
mod rows;
mod submit;
mod tls;

use std::time::{Duration, Instant};

use super::{
    Answer, Answered, ApiKey, Attempt, AuditEntry, Batch, Cancellation, Claim, Claimed, DayUsage,
    Delivery, Due, Expired, Fetched, Horizon, JobEvent, Lease, ListQuery, Load, NewBatch, NewJob,
    Orphans, Page, Renewed, Report, RequestKey, Reserved, Result, Rotation, Store, StoreError,
    Swept, Tried, Waiting, WorkerSeen,
};
use crate::job::{Job, JobError, Phase, State, Usage};
use connection::Clock;
use connection::{Connections, Transaction};

/// The changes of the schema, in order; the table `echo_schema` counts those the database has.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_jobs.sql"),
    include_str!("../../../migrations/postgres/0002_outbox.sql"),
    include_str!("../../../migrations/postgres/0003_traces.sql"),
    include_str!("../../../migrations/postgres/0004_operators.sql"),
    include_str!("../../../migrations/postgres/0005_batches.sql"),
    include_str!("../../../migrations/postgres/0006_checkpoints.sql"),
];
/// The oldest of these that a program may know and still work with the newest: during a rolling update,
/// replicas of before start again, too. A change that they could not live with raises it.
const OLDEST: usize = 2;
/// Which changes a database has, and the fewest that a program must know.
const SCHEMA_TABLE: &str = "CREATE TABLE IF NOT EXISTS echo_schema (version BIGINT NOT NULL);
    ALTER TABLE echo_schema ADD COLUMN IF NOT EXISTS oldest BIGINT NOT NULL DEFAULT 0";
/// Replicas that start together change the schema one after the other.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7300915437120233)";
/// How long a database that is being started is waited for.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A store in PostgreSQL.
pub struct PostgresStore {
    connections: Connections,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// Whether an address can be understood.
///
/// # Errors
/// If not.
pub fn check_url(url: &str) -> Result<()> {
    tls::parse(url).map(drop)
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    ///
    /// Blocks, and must not be called on a thread that drives asynchronous code.
    ///
    /// # Errors
    /// If the database cannot be reached for half a minute, or its schema is too new for this program.
    pub fn open(url: &str, is_migrated: bool) -> Result<Self> {
        Self::open_with(url, is_migrated, Clock::Database)
    }

    pub(super) fn open_with(url: &str, is_migrated: bool, clock: Clock) -> Result<Self> {
        let store = Self { connections: Connections::new(url, clock)? };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match store.write(0, |tx| migrate(tx, is_migrated)) {
                Err(StoreError::Unavailable) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(store),
            }
        }
    }

    fn write<T>(&self, now: i64, work: impl Fn(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        self.connections.write(now, work)
    }

    fn read<T>(&self, work: impl Fn(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        self.connections.read(work)
    }

    /// Since when workers have been able to renew their leases without a break.
    fn reachable_since(&self, tx: &mut Transaction<'_>) -> Result<i64> {
        let sql = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint";
        let started = tx.first(sql, &[])?.map_or(0, |row| row.get(0));
        Ok(self.connections.recovered_at().max(started))
    }
}

fn migrate(tx: &mut Transaction<'_>, is_migrated: bool) -> Result<()> {
    let refuse = |text: String| StoreError::Database(text.into());
    tx.batch(MIGRATION_LOCK)?;
    tx.batch(SCHEMA_TABLE)?;
    let known = tx.first("SELECT version, oldest FROM echo_schema", &[])?;
    let [version, oldest] =
        known.as_ref().map_or([0, 0], |row| [0, 1].map(|i| rows::count(row, i)));
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        let is_fit = (1..=MIGRATIONS.len() as u64).contains(&oldest);
        let text = format!("the database has schema {version}, which is newer than this program");
        return if is_fit { Ok(()) } else { Err(refuse(text)) };
    }
    if version < MIGRATIONS.len() && !is_migrated {
        return Err(refuse("the schema is old: run `echo-server migrate`".to_owned()));
    }
    for migration in &MIGRATIONS[version..] {
        tx.batch(migration)?;
    }
    tx.batch("DELETE FROM echo_schema")?;
    let [newest, oldest] = [MIGRATIONS.len(), OLDEST].map(|count| rows::integer(count as u64));
    let sql = "INSERT INTO echo_schema (version, oldest) VALUES ($1, $2)";
    tx.execute(sql, &[&newest, &oldest])?;
    Ok(())
}

impl Store for PostgresStore {
    fn submit_answered(&self, job: &NewJob, answer: Option<&Answer>, now: i64) -> Result<Job> {
        self.write(now, |tx| {
            let job = submit::submit(tx, job)?;
            keys::answer(tx, answer, std::slice::from_ref(&job))?;
            Ok(job)
        })
    }

    fn submit_batch_answered(
        &self,
        batch: &NewBatch,
        jobs: &[NewJob],
        answer: Option<&Answer>,
        now: i64,
    ) -> Result<Vec<Job>> {
        self.write(now, |tx| {
            let jobs = batches::submit(tx, batch, jobs)?;
            keys::answer(tx, answer, &jobs)?;
            Ok(jobs)
        })
    }

    fn batch(&self, tenant: &str, id: &str) -> Result<Option<Batch>> {
        self.read(|db| batches::find(db, Some(tenant), id))
    }

    fn claim(&self, phase: Phase, claim: &Claim<'_>, now: i64) -> Result<Option<Claimed>> {
        self.write(now, |tx| lease::claim(tx, phase, claim))
    }

    fn claim_job(&self, id: &str, claim: &Claim<'_>, now: i64) -> Result<Option<Claimed>> {
        self.write(now, |tx| lease::claim_job(tx, id, claim))
    }

    fn renew(&self, lease: &Lease, report: &Report, until: i64, now: i64) -> Result<Renewed> {
        self.write(now, |tx| lease::renew(tx, lease, report, until))
    }

    fn checkpoints(&self, lease: &Lease) -> Result<Vec<String>> {
        self.read(|db| match rows::leased(db, lease)? {
            Some(job) => checkpoints::of_job(db, &job.id),
            None => Err(StoreError::Fenced),
        })
    }

    fn fetched(&self, lease: &Lease, blob: &Fetched, now: i64) -> Result<Job> {
        self.write(now, |tx| submit::fetched(tx, lease, blob))
    }

    fn complete(&self, lease: &Lease, usage: Usage, duration: f64, now: i64) -> Result<Job> {
        self.write(now, |tx| ends::complete(tx, lease, usage, duration))
    }

    fn fail(&self, lease: &Lease, error: &JobError, now: i64) -> Result<Job> {
        self.write(now, |tx| ends::fail(tx, lease, error))
    }

    fn release(&self, lease: &Lease, now: i64) -> Result<Job> {
        self.write(now, |tx| lease::release(tx, lease))
    }

    fn cancelled(&self, lease: &Lease, now: i64) -> Result<Job> {
        self.write(now, |tx| ends::cancelled(tx, lease))
    }

    fn lose(&self, owner: &str, now: i64) -> Result<()> {
        self.write(now, |tx| lease::lose(tx, owner))
    }

    fn sweep(&self, now: i64) -> Result<Swept> {
        let is_own_clock = self.connections.clock == Clock::Database;
        let expired = self.write(now, |tx| {
            let since = if is_own_clock { self.reachable_since(tx)? } else { 0 };
            lease::expired(tx, since)
        })?;
        let mut swept = Swept::default();
        for id in expired {
            match self.write(now, |tx| lease::sweep(tx, &id))? {
                Some(job) if job.state.is_final() => swept.ended.push(id),
                Some(_) => swept.requeued.push(id),
                None => {}
            }
        }
        Ok(swept)
    }

    fn unannounced(&self, limit: u32, now: i64) -> Result<Vec<Waiting>> {
        self.write(now, |tx| outbox::unannounced(tx, limit))
    }

    fn announced(&self, jobs: &[Waiting], now: i64) -> Result<()> {
        self.write(now, |tx| outbox::announced(tx, jobs))
    }

    fn forget_announcements(&self, before: Option<i64>, now: i64) -> Result<u64> {
        self.write(now, |tx| outbox::forget(tx, before))
    }

    fn cancel(
        &self,
        tenant: &str,
        id: &str,
        purge: bool,
        now: i64,
    ) -> Result<Option<Cancellation>> {
        self.write(now, |tx| cancel::cancel(tx, tenant, id, purge))
    }

    fn purge(&self, tenant: &str, id: &str, now: i64) -> Result<Option<Orphans>> {
        self.write(now, |tx| cancel::purge(tx, tenant, id))
    }

    fn job(&self, tenant: &str, id: &str) -> Result<Option<Job>> {
        self.read(|db| rows::job(db, "WHERE tenant_id = $1 AND id = $2", &[&tenant, &id]))
    }

    fn state_of(&self, id: &str) -> Result<Option<State>> {
        self.read(|db| Ok(rows::job(db, "WHERE id = $1", &[&id])?.map(|job| job.state)))
    }

    fn leased(&self, lease: &Lease) -> Result<Option<Job>> {
        self.read(|db| rows::leased(db, lease))
    }

    fn list(&self, tenant: &str, query: &ListQuery) -> Result<Page> {
        self.read(|db| list::list(db, tenant, query))
    }

    fn events(&self, id: &str, after: i64) -> Result<Vec<JobEvent>> {
        self.read(|db| list::events(db, id, after))
    }

    fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        self.read(|db| list::attempts(db, id))
    }

    fn history(&self, id: &str) -> Result<Option<(Job, Vec<Attempt>)>> {
        self.read(|db| {
            let Some(job) = rows::job(db, "WHERE id = $1", &[&id])? else { return Ok(None) };
            Ok(Some((job, list::attempts(db, id)?)))
        })
    }

    fn load(&self, tenant: &str) -> Result<Load> {
        self.read(|db| list::load(db, tenant))
    }

    fn counts(&self) -> Result<Vec<(String, u64)>> {
        self.read(list::counts)
    }

    fn usage(&self, tenant: &str, from: i64, to: i64) -> Result<Vec<DayUsage>> {
        self.read(|db| list::usage(db, tenant, from, to))
    }

    fn due_deliveries(&self, limit: u32, now: i64, busy_until: i64) -> Result<Vec<Due>> {
        self.write(now, |tx| deliveries::due(tx, limit, busy_until))
    }

    fn delivery_tried(&self, outcome: &Tried, now: i64) -> Result<()> {
        self.write(now, |tx| deliveries::tried(tx, outcome))
    }

    fn put_off_deliveries(&self, until: &[(Due, i64)], now: i64) -> Result<()> {
        self.write(now, |tx| deliveries::put_off(tx, until))
    }

    fn deliveries(&self, tenant: &str, job: &str) -> Result<Vec<Delivery>> {
        self.read(|db| deliveries::of_job(db, tenant, job))
    }

    fn redeliver(&self, tenant: &str, job: &str, delivery: &str, now: i64) -> Result<bool> {
        self.write(now, |tx| deliveries::redeliver(tx, tenant, job, delivery))
    }

    fn reserve_key(&self, key: &RequestKey<'_>, now: i64) -> Result<Reserved> {
        self.write(now, |tx| keys::reserve(tx, key))
    }

    fn keep_answer(&self, key: &RequestKey<'_>, answer: Option<&Answered>, now: i64) -> Result<()> {
        self.write(now, |tx| keys::keep_answer(tx, key, answer))
    }

    fn inbound(&self, id: &str) -> Result<Option<String>> {
        self.read(|db| keys::inbound(db, id))
    }

    fn keep_inbound(&self, id: &str, answer: &str, now: i64) -> Result<()> {
        self.write(now, |tx| keys::keep_inbound(tx, id, answer))
    }

    fn add_key(&self, key: &ApiKey, now: i64) -> Result<()> {
        self.write(now, |tx| keys::add(tx, key))
    }

    fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>> {
        self.read(|db| keys::by_hash(db, hash))
    }

    fn keys(&self, tenant: &str) -> Result<Vec<ApiKey>> {
        self.read(|db| keys::of_tenant(db, tenant))
    }

    fn revoke_key(&self, tenant: &str, id: &str, now: i64) -> Result<bool> {
        self.write(now, |tx| keys::revoke(tx, tenant, id))
    }

    fn rotation(&self, tenant: &str) -> Result<Rotation> {
        self.read(|db| keys::rotation(db, tenant))
    }

    fn rotate(&self, tenant: &str, now: i64) -> Result<Rotation> {
        self.write(now, |tx| keys::rotate(tx, tenant))
    }

    fn workers(&self, since: i64) -> Result<Vec<WorkerSeen>> {
        self.read(|db| list::workers(db, since))
    }

    fn audit(&self, entry: &AuditEntry, now: i64) -> Result<()> {
        self.write(now, |tx| keys::audit(tx, entry))
    }

    fn expire(&self, before: &Horizon) -> Result<Expired> {
        cancel::expire(&self.connections, before)
    }

    fn is_needed(&self, name: &str) -> Result<bool> {
        self.read(|db| list::is_needed(db, name))
    }

    fn check(&self) -> Result<()> {
        self.write(0, |tx| tx.batch("SELECT pg_current_xact_id()"))
    }
}
