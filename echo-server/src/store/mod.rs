//! Where jobs are kept: the contract that every database has to hold.
//!
//! *Fencing.* A claim gives a [`Lease`]: an `epoch` that is never given twice and a random token, of
//! which the row keeps the digest. Whatever its holder reports is one statement guarded by both and by
//! `state = 'processing'`; who lost the lease gets [`StoreError::Fenced`] and changes nothing.
//!
//! *Once.* A result, the end of followers, and the outbound deliveries are one transaction.
//!
//! The trait blocks: SQLite does, PostgreSQL's plain client does, and tests need no runtime.
//! [`Db`](crate::db::Db) carries calls to threads that may block.

mod postgres;
mod sqlite;
mod types;

#[cfg(test)]
mod tests;

pub use postgres::{PostgresStore, check_url as check_postgres_url};
pub use sqlite::SqliteStore;
pub use types::*;

use crate::job::{Job, JobError, Phase, State, Usage};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The lease is somebody else's by now, or the job is over.
    #[error("the lease was lost")]
    Fenced,
    /// Another process holds the database.
    #[error("the database is busy")]
    Busy,
    /// The database cannot be reached.
    #[error("the database cannot be reached")]
    Unavailable,
    /// It keeps no text like this; no row has it.
    #[error("a text has a character that the database does not keep")]
    Unfit,
    /// Another request with the same idempotency key has kept its jobs.
    #[error("the key was used meanwhile")]
    KeyUsed,
    /// There is no room for the change.
    #[error("the disk is full")]
    Full,
    /// Anything else.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

/// The result of a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A database of jobs. Every method is atomic; every method that takes a tenant sees that tenant only.
pub trait Store: Send + Sync {
    /// Keeps a new job. One whose result exists is born completed; one whose like is under way
    /// follows it.
    fn submit(&self, job: &NewJob, now: i64) -> Result<Job> {
        self.submit_answered(job, None, now)
    }

    /// The same, and with it the answer of its idempotency key: there are both or neither, so that a
    /// request sent again never makes a second job, whatever became of the first one.
    ///
    /// # Errors
    /// [`StoreError::KeyUsed`] if the key stands for another answer.
    fn submit_answered(&self, job: &NewJob, answer: Option<&Answer>, now: i64) -> Result<Job>;

    /// Keeps jobs that are asked for together: all of them, or none. When the last of them ends, that is
    /// noted once, in the same transaction.
    fn submit_batch(&self, batch: &NewBatch, jobs: &[NewJob], now: i64) -> Result<Vec<Job>> {
        self.submit_batch_answered(batch, jobs, None, now)
    }

    /// The same with the answer of an idempotency key, as in [`Store::submit_answered`].
    ///
    /// # Errors
    /// [`StoreError::KeyUsed`] if the key stands for another answer.
    fn submit_batch_answered(
        &self,
        batch: &NewBatch,
        jobs: &[NewJob],
        answer: Option<&Answer>,
        now: i64,
    ) -> Result<Vec<Job>>;

    /// A batch of a tenant.
    fn batch(&self, tenant: &str, id: &str) -> Result<Option<Batch>>;

    /// Gives the lease of the next job of a phase: higher priority first, then whose tenant runs
    /// least, then the oldest. Of one tenant not more than [`MAX_FETCHES_OF_TENANT`] are fetched at once.
    fn claim(&self, phase: Phase, claim: &Claim<'_>, now: i64) -> Result<Option<Claimed>>;

    /// Gives the lease of one job, if it waits.
    fn claim_job(&self, id: &str, claim: &Claim<'_>, now: i64) -> Result<Option<Claimed>>;

    /// Prolongs a lease and keeps what its holder tells; says whether the job shall be cancelled.
    fn renew(&self, lease: &Lease, report: &Report, until: i64, now: i64) -> Result<Renewed>;

    /// What earlier attempts have done of a job, part by part, as their holders told it. All of it is
    /// forgotten when the job ends.
    fn checkpoints(&self, lease: &Lease) -> Result<Vec<String>>;

    /// The source of a job has been fetched: it waits to be run, follows, or is done.
    fn fetched(&self, lease: &Lease, blob: &Fetched, now: i64) -> Result<Job>;

    /// Commits a result, which lies in storage already.
    fn complete(&self, lease: &Lease, usage: Usage, duration: f64, now: i64) -> Result<Job>;

    /// Ends an attempt: the job is tried again later or failed.
    fn fail(&self, lease: &Lease, error: &JobError, now: i64) -> Result<Job>;

    /// Gives a lease back; the attempt does not count.
    fn release(&self, lease: &Lease, now: i64) -> Result<Job>;

    /// Confirms that a job was stopped because it was cancelled.
    fn cancelled(&self, lease: &Lease, now: i64) -> Result<Job>;

    /// Takes leases of workers that are known to be gone, as if they had run out.
    fn lose(&self, owner: &str, now: i64) -> Result<()>;

    /// Ends attempts whose lease has run out.
    fn sweep(&self, now: i64) -> Result<Swept>;

    /// The clock was set by so many milliseconds: what leases and pauses have left stays as it is.
    /// A database with a clock of its own has nothing to do.
    ///
    /// # Errors
    /// The database's.
    fn clock_stepped(&self, _by_ms: i64) -> Result<()> {
        Ok(())
    }

    /// Jobs that wait to be run and that no queue was told of, urgent ones first.
    fn unannounced(&self, limit: u32, now: i64) -> Result<Vec<Waiting>>;

    /// Notes that a queue has these jobs, as far as they still wait.
    fn announced(&self, jobs: &[Waiting], now: i64) -> Result<()>;

    /// Forgets which waiting jobs were announced, all or those before a time; says how many.
    fn forget_announcements(&self, before: Option<i64>, now: i64) -> Result<u64>;

    /// Asks for a job's end, on behalf of its tenant.
    fn cancel(&self, tenant: &str, id: &str, purge: bool, now: i64)
    -> Result<Option<Cancellation>>;

    /// Erases what is known of a finished job; returns files that nobody needs any more.
    fn purge(&self, tenant: &str, id: &str, now: i64) -> Result<Option<Orphans>>;

    /// A job of a tenant.
    fn job(&self, tenant: &str, id: &str) -> Result<Option<Job>>;

    /// What has become of a job, whoever's it is; for workers, who have no tenant.
    fn state_of(&self, id: &str) -> Result<Option<State>>;

    /// A job by the token of its lease, whoever's it is.
    fn leased(&self, lease: &Lease) -> Result<Option<Job>>;

    /// Jobs of a tenant, a page of them.
    fn list(&self, tenant: &str, query: &ListQuery) -> Result<Page>;

    /// What happened to a job after event number `after`.
    fn events(&self, id: &str, after: i64) -> Result<Vec<JobEvent>>;

    /// The attempts of a job.
    fn attempts(&self, id: &str) -> Result<Vec<Attempt>>;

    /// A job with its attempts, whoever's it is; for traces.
    fn history(&self, id: &str) -> Result<Option<(Job, Vec<Attempt>)>>;

    /// How many jobs wait and run.
    fn load(&self, tenant: &str) -> Result<Load>;

    /// Jobs by state, over all tenants.
    fn counts(&self) -> Result<Vec<(String, u64)>>;

    /// What completed jobs of a tenant took, day by day, from a moment to before another.
    fn usage(&self, tenant: &str, from: i64, to: i64) -> Result<Vec<DayUsage>>;

    /// Takes deliveries that are due, so that nobody else does before `busy_until`.
    fn due_deliveries(&self, limit: u32, now: i64, busy_until: i64) -> Result<Vec<Due>>;

    /// Notes a try, and when the next one is, if any. A delivery that is over by now stays as it is, and
    /// so does one that was tried meanwhile.
    fn delivery_tried(&self, outcome: &Tried, now: i64) -> Result<()>;

    /// Gives back deliveries that were taken and not tried, each with the time when it is due again.
    fn put_off_deliveries(&self, until: &[(Due, i64)], now: i64) -> Result<()>;

    /// The deliveries of a job of a tenant.
    fn deliveries(&self, tenant: &str, job: &str) -> Result<Vec<Delivery>>;

    /// Starts a delivery's tries anew.
    fn redeliver(&self, tenant: &str, job: &str, delivery: &str, now: i64) -> Result<bool>;

    /// Reserves an idempotency key, or says what it stands for.
    fn reserve_key(&self, key: &RequestKey<'_>, now: i64) -> Result<Reserved>;

    /// Keeps the answer of a request with an idempotency key, unless it has one; `None` lets a key
    /// go that has none.
    fn keep_answer(&self, key: &RequestKey<'_>, answer: Option<&Answered>, now: i64) -> Result<()>;

    /// The answer that an inbound message got, if it came before.
    fn inbound(&self, id: &str) -> Result<Option<String>>;

    /// Keeps the answer of an inbound message.
    fn keep_inbound(&self, id: &str, answer: &str, now: i64) -> Result<()>;

    /// Makes an API key known by its digest.
    fn add_key(&self, key: &ApiKey, now: i64) -> Result<()>;

    /// Whose API key has this digest.
    fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>>;

    /// The API keys of a tenant.
    fn keys(&self, tenant: &str) -> Result<Vec<ApiKey>>;

    /// Takes an API key back.
    fn revoke_key(&self, tenant: &str, id: &str, now: i64) -> Result<bool>;

    /// How often a tenant's secret of callbacks was changed.
    fn rotation(&self, tenant: &str) -> Result<Rotation>;

    /// Changes it once more.
    fn rotate(&self, tenant: &str, now: i64) -> Result<Rotation>;

    /// Workers with attempts that began after a moment or are under way; for operators.
    fn workers(&self, since: i64) -> Result<Vec<WorkerSeen>>;

    /// Notes who did what.
    fn audit(&self, entry: &AuditEntry, now: i64) -> Result<()>;

    /// Forgets what is old, some of it if it is much.
    fn expire(&self, before: &Horizon) -> Result<Expired>;

    /// Whether a blob or a result is still needed.
    fn is_needed(&self, name: &str) -> Result<bool>;

    /// Whether the database can be written.
    fn check(&self) -> Result<()>;
}
