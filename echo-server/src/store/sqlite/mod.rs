//! Jobs in SQLite: one writing connection, several reading ones, a write-ahead log.
//!
//! When a submission is answered, it is on the disk: see `sync`.

mod batches;
mod cancel;
mod checkpoints;
mod deliveries;
mod ends;
mod keys;
mod lease;
mod list;
mod outbox;
mod rows;
mod submit;
mod sync;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::{
    Answer, Answered, ApiKey, Attempt, AuditEntry, Batch, Cancellation, Claim, Claimed, DayUsage,
    Delivery, Due, Expired, Fetched, Horizon, JobEvent, Lease, ListQuery, Load, NewBatch, NewJob,
    Orphans, Page, Renewed, Report, RequestKey, Reserved, Result, Rotation, Store, StoreError,
    Swept, Tried, Waiting, WorkerSeen,
};
use crate::job::{Job, JobError, Phase, State, Usage};

/// The changes of the schema, in order; the database's `user_version` counts those it has.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_jobs.sql"),
    include_str!("../../../migrations/sqlite/0002_outbox.sql"),
    include_str!("../../../migrations/sqlite/0003_traces.sql"),
    include_str!("../../../migrations/sqlite/0004_operators.sql"),
    include_str!("../../../migrations/sqlite/0005_batches.sql"),
    include_str!("../../../migrations/sqlite/0006_checkpoints.sql"),
    include_str!("../../../migrations/sqlite/0007_waiting.sql"),
];

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A store in a file of SQLite, or in memory.
pub struct SqliteStore {
    path: Option<PathBuf>,
    writer: Mutex<Connection>,
    /// Of a database in a file.
    log: Option<sync::Log>,
    readers: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Database(Box::new(error)),
        }
    }
}

impl SqliteStore {
    /// Opens a file, made if it is not there; `None` is a database in memory.
    ///
    /// # Errors
    /// If the file cannot be opened or its schema is newer than this program.
    pub fn open(path: Option<&Path>, is_migrated: bool) -> Result<Self> {
        let mut writer = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        writer.busy_timeout(BUSY_TIMEOUT)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // The log is flushed by `sync`, for several transactions at once.
        writer.pragma_update(None, "synchronous", "NORMAL")?;
        migrate(&mut writer, is_migrated)?;
        Ok(Self {
            path: path.map(Path::to_path_buf),
            log: path.map(sync::Log::of),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Runs one writing transaction; an error undoes all of it. What it changed is on the disk then.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        let commit = self.log.as_ref().map(|log| (log, log.committed()));
        drop(writer);
        if let Some((log, commit)) = commit {
            log.flush(commit).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull => StoreError::Full,
                _ => StoreError::Database(Box::new(error)),
            })?;
        }
        Ok(done)
    }

    /// Reads one consistent state, beside the writer.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let Some(path) = &self.path else { return work(&lock(&self.writer)) };
        if self.log.as_ref().is_some_and(sync::Log::is_broken) {
            return Err(StoreError::Database(Box::new(sync::broken())));
        }
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => {
                let reader = Connection::open_with_flags(
                    path,
                    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
                )?;
                reader.busy_timeout(BUSY_TIMEOUT)?;
                reader
            }
        };
        let read = work(&reader);
        lock(&self.readers).push(reader);
        read
    }
}

/// A panic while the lock was held has undone its transaction, so the connection is good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn migrate(writer: &mut Connection, is_migrated: bool) -> Result<()> {
    let refuse = |text: String| StoreError::Database(text.into());
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > MIGRATIONS.len() {
        return Err(refuse(format!(
            "the database has schema {version}, which is newer than this program"
        )));
    }
    if version < MIGRATIONS.len() && !is_migrated {
        return Err(refuse("the schema is old: run `echo-server migrate`".to_owned()));
    }
    for migration in &MIGRATIONS[version..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    transaction.commit()?;
    Ok(())
}

impl Store for SqliteStore {
    fn submit_answered(&self, job: &NewJob, answer: Option<&Answer>, now: i64) -> Result<Job> {
        self.write(|tx| {
            let job = submit::submit(tx, job, now)?;
            keys::answer(tx, answer, std::slice::from_ref(&job), now)?;
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
        self.write(|tx| {
            let jobs = batches::submit(tx, batch, jobs, now)?;
            keys::answer(tx, answer, &jobs, now)?;
            Ok(jobs)
        })
    }

    fn batch(&self, tenant: &str, id: &str) -> Result<Option<Batch>> {
        self.read(|db| batches::find(db, Some(tenant), id))
    }

    fn claim(&self, phase: Phase, claim: &Claim<'_>, now: i64) -> Result<Option<Claimed>> {
        self.write(|tx| lease::claim(tx, phase, claim, now))
    }

    fn claim_job(&self, id: &str, claim: &Claim<'_>, now: i64) -> Result<Option<Claimed>> {
        self.write(|tx| lease::claim_job(tx, id, claim, now))
    }

    fn renew(&self, lease: &Lease, report: &Report, until: i64, now: i64) -> Result<Renewed> {
        self.write(|tx| lease::renew(tx, lease, report, until, now))
    }

    fn checkpoints(&self, lease: &Lease) -> Result<Vec<String>> {
        self.read(|db| checkpoints::of_job(db, &rows::fenced(db, lease)?.id))
    }

    fn fetched(&self, lease: &Lease, blob: &Fetched, now: i64) -> Result<Job> {
        self.write(|tx| submit::fetched(tx, lease, blob, now))
    }

    fn complete(&self, lease: &Lease, usage: Usage, duration: f64, now: i64) -> Result<Job> {
        self.write(|tx| ends::complete(tx, lease, usage, duration, now))
    }

    fn fail(&self, lease: &Lease, error: &JobError, now: i64) -> Result<Job> {
        self.write(|tx| ends::fail(tx, lease, error, now))
    }

    fn release(&self, lease: &Lease, now: i64) -> Result<Job> {
        self.write(|tx| lease::release(tx, lease, now))
    }

    fn cancelled(&self, lease: &Lease, now: i64) -> Result<Job> {
        self.write(|tx| ends::cancelled(tx, lease, now))
    }

    fn lose(&self, owner: &str, now: i64) -> Result<()> {
        self.write(|tx| lease::lose(tx, owner, now))
    }

    fn sweep(&self, now: i64) -> Result<Swept> {
        self.write(|tx| lease::sweep(tx, now))
    }

    fn clock_stepped(&self, by_ms: i64) -> Result<()> {
        self.write(|tx| lease::clock_stepped(tx, by_ms))
    }

    fn unannounced(&self, limit: u32, now: i64) -> Result<Vec<Waiting>> {
        self.read(|db| outbox::unannounced(db, limit, now))
    }

    fn announced(&self, jobs: &[Waiting], now: i64) -> Result<()> {
        self.write(|tx| outbox::announced(tx, jobs, now))
    }

    fn forget_announcements(&self, before: Option<i64>, _now: i64) -> Result<u64> {
        self.write(|tx| outbox::forget(tx, before))
    }

    fn cancel(
        &self,
        tenant: &str,
        id: &str,
        purge: bool,
        now: i64,
    ) -> Result<Option<Cancellation>> {
        self.write(|tx| cancel::cancel(tx, tenant, id, purge, now))
    }

    fn purge(&self, tenant: &str, id: &str, now: i64) -> Result<Option<Orphans>> {
        self.write(|tx| cancel::purge(tx, tenant, id, now))
    }

    fn job(&self, tenant: &str, id: &str) -> Result<Option<Job>> {
        self.read(|db| rows::job(db, "WHERE tenant_id = ?1 AND id = ?2", &[&tenant, &id]))
    }

    fn state_of(&self, id: &str) -> Result<Option<State>> {
        self.read(|db| Ok(rows::job(db, "WHERE id = ?1", &[&id])?.map(|job| job.state)))
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
            let Some(job) = rows::job(db, "WHERE id = ?1", &[&id])? else { return Ok(None) };
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
        self.write(|tx| deliveries::due(tx, limit, now, busy_until))
    }

    fn delivery_tried(&self, outcome: &Tried, _now: i64) -> Result<()> {
        self.write(|tx| deliveries::tried(tx, outcome))
    }

    fn put_off_deliveries(&self, until: &[(Due, i64)], _now: i64) -> Result<()> {
        self.write(|tx| deliveries::put_off(tx, until))
    }

    fn deliveries(&self, tenant: &str, job: &str) -> Result<Vec<Delivery>> {
        self.read(|db| deliveries::of_job(db, tenant, job))
    }

    fn redeliver(&self, tenant: &str, job: &str, delivery: &str, now: i64) -> Result<bool> {
        self.write(|tx| deliveries::redeliver(tx, tenant, job, delivery, now))
    }

    fn reserve_key(&self, key: &RequestKey<'_>, now: i64) -> Result<Reserved> {
        self.write(|tx| keys::reserve(tx, key, now))
    }

    fn keep_answer(&self, key: &RequestKey<'_>, answer: Option<&Answered>, now: i64) -> Result<()> {
        self.write(|tx| keys::keep_answer(tx, key, answer, now))
    }

    fn inbound(&self, id: &str) -> Result<Option<String>> {
        self.read(|db| keys::inbound(db, id))
    }

    fn keep_inbound(&self, id: &str, answer: &str, now: i64) -> Result<()> {
        self.write(|tx| keys::keep_inbound(tx, id, answer, now))
    }

    fn add_key(&self, key: &ApiKey, now: i64) -> Result<()> {
        self.write(|tx| keys::add(tx, key, now))
    }

    fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>> {
        self.read(|db| keys::by_hash(db, hash))
    }

    fn keys(&self, tenant: &str) -> Result<Vec<ApiKey>> {
        self.read(|db| keys::of_tenant(db, tenant))
    }

    fn revoke_key(&self, tenant: &str, id: &str, now: i64) -> Result<bool> {
        self.write(|tx| keys::revoke(tx, tenant, id, now))
    }

    fn rotation(&self, tenant: &str) -> Result<Rotation> {
        self.read(|db| keys::rotation(db, tenant))
    }

    fn rotate(&self, tenant: &str, now: i64) -> Result<Rotation> {
        self.write(|tx| keys::rotate(tx, tenant, now))
    }

    fn workers(&self, since: i64) -> Result<Vec<WorkerSeen>> {
        self.read(|db| list::workers(db, since))
    }

    fn audit(&self, entry: &AuditEntry, now: i64) -> Result<()> {
        self.write(|tx| keys::audit(tx, entry, now))
    }

    fn expire(&self, before: &Horizon) -> Result<Expired> {
        self.write(|tx| cancel::expire(tx, before))
    }

    fn is_needed(&self, name: &str) -> Result<bool> {
        self.read(|db| list::is_needed(db, name))
    }

    fn check(&self) -> Result<()> {
        self.write(|tx| Ok(tx.execute_batch("PRAGMA user_version")?))
    }
}
