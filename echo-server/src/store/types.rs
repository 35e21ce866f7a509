//! What goes into a store and comes out of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::{Callback, Job, JobOptions, Source, State};
use crate::secrets::{sha256_hex, token};

/// A job before it is kept.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// A UUID of version 7.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// Higher runs first.
    pub priority: i64,
    /// What is asked for.
    pub options: JobOptions,
    /// Where the sound comes from.
    pub source: Source,
    /// The sound, if it is here; else it is fetched.
    pub blob: Option<Fetched>,
    /// Who is told about the end.
    pub callback: Option<Callback>,
    /// The client's notes.
    pub metadata: Map<String, Value>,
    /// The client's identifier.
    pub external_id: Option<String>,
    /// The job this one repeats.
    pub retry_of: Option<String>,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// The trace it is part of.
    pub traceparent: Option<String>,
    /// The batch it is part of.
    pub batch_id: Option<String>,
}

/// Jobs that are asked for together, without the jobs.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// A UUID of version 7.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// Who is told when all of its jobs are over.
    pub callback: Option<Callback>,
    /// The trace it is part of.
    pub traceparent: Option<String>,
}

/// Jobs that were asked for together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// A UUID of version 7.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// Who is told when all of its jobs are over.
    pub callback: Option<Callback>,
    /// The trace it is part of.
    pub traceparent: Option<String>,
    /// When it was asked for.
    pub created_at: i64,
    /// When the last of its jobs was over.
    pub completed_at: Option<i64>,
    /// How many of its jobs are in which state; those that none is in are left out.
    pub counts: Vec<(State, u64)>,
}

/// Sound that lies in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest.
    pub hash: String,
    /// Its length.
    pub size_bytes: u64,
    /// What it is.
    pub media_type: String,
    /// Where its result will lie.
    pub cache_key: String,
}

/// Sources of one tenant that are fetched at once, so that its slow ones do not keep out others'.
pub const MAX_FETCHES_OF_TENANT: u32 = 2;

/// Who wants a lease, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The worker.
    pub owner: &'a str,
    /// When the lease runs out.
    pub until: i64,
    /// Whether it can go on from checkpoints; for one that cannot they are forgotten.
    pub resumes: bool,
}

/// The right to report on a job: whoever has the token of the newest epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Grows with every claim and is never given twice.
    pub epoch: i64,
    /// SHA-256 of the token.
    pub token_hash: String,
}

impl Lease {
    /// The lease that a token stands for.
    pub fn from_token(epoch: i64, token: &str) -> Self {
        Self { epoch, token_hash: sha256_hex(token) }
    }
}

/// A claimed job.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its row.
    pub job: Job,
    /// The token; only its digest is kept.
    pub token: String,
    /// The same as a lease.
    pub lease: Lease,
    /// Until when the sound is done by earlier attempts, in seconds; `None` if there is no checkpoint.
    pub resumes_at: Option<f64>,
}

impl Claimed {
    /// A new token and its digest.
    pub(crate) fn new_token() -> (String, String) {
        let token = token();
        let hash = sha256_hex(&token);
        (token, hash)
    }
}

/// A job that waits to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The job.
    pub id: String,
    /// Leases given so far.
    pub epoch: i64,
    /// Higher runs first.
    pub priority: i64,
}

/// What the holder of a lease tells.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The share that is done; never falls within an attempt.
    pub progress: Option<f64>,
    /// What is being done.
    pub stage: Option<String>,
    /// Segments as they are decoded.
    pub segments: Option<Value>,
    /// The number of the first of them in the whole transcript, so that none is told twice; without
    /// it they follow those told before.
    pub first_segment: Option<u64>,
    /// What was done since the last part.
    pub checkpoints: Vec<CheckpointPart>,
    /// It could not go on from what was done: everything before this report is forgotten.
    pub is_restart: bool,
}

/// A part of a job that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointPart {
    /// Until when the sound is done, in seconds.
    pub reached_s: f64,
    /// What the next attempt needs to know, as the worker wrote it.
    pub data: String,
}

impl Report {
    /// Adds what was told later.
    pub fn add(&mut self, later: Self) {
        if later.is_restart {
            *self = later;
            return;
        }
        self.progress = later.progress.or(self.progress);
        self.stage = later.stage.or(self.stage.take());
        match (&mut self.segments, later.segments) {
            (Some(Value::Array(known)), Some(Value::Array(mut more))) => known.append(&mut more),
            (_, None) => {}
            (known, more) => (*known, self.first_segment) = (more, later.first_segment),
        }
        self.checkpoints.extend(later.checkpoints);
    }

    /// The segments that are news for a history which has `told` of them, and how many it has then.
    pub(crate) fn untold(&self, told: u64) -> Option<(Value, u64)> {
        let all = self.segments.as_ref()?.as_array()?;
        let first = self.first_segment.unwrap_or(told);
        let n_known = usize::try_from(told.saturating_sub(first)).unwrap_or(usize::MAX);
        let news = all.get(n_known..).filter(|news| !news.is_empty())?;
        Some((Value::from(news), first.saturating_add(all.len() as u64)))
    }
}

/// The answer to a report.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The job that the lease belongs to; another one after its leader was cancelled.
    pub job_id: String,
    /// Whether it shall stop.
    pub is_cancel_requested: bool,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs that wait again.
    pub requeued: Vec<String>,
    /// Jobs that ended.
    pub ended: Vec<String>,
}

/// What came of asking for a job's end.
#[derive(Debug, Clone)]
pub enum Cancellation {
    /// It is cancelled.
    Done(Job),
    /// Its worker will be told; the job holding the lease.
    Asked(Job),
    /// It was over before.
    Finished(Job),
}

/// Files in storage that no row needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Digests of sound.
    pub blobs: Vec<String>,
    /// Keys of results.
    pub results: Vec<String>,
}

/// What was forgotten at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// What of it lies in storage.
    pub orphans: Orphans,
    /// Whether more of it is old: so much at once that others need not wait long.
    pub has_more: bool,
}

/// The most jobs that are forgotten at once.
pub(super) const MAX_EXPIRED: usize = 1000;

/// What a list shall show.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Items of a page.
    pub limit: u32,
    /// Items passed over, for pages by number.
    pub offset: u32,
    /// After the item of this time and id.
    pub after: Option<(i64, String)>,
    /// Oldest first.
    pub is_ascending: bool,
    /// Only these states; all if empty.
    pub states: Vec<State>,
    /// Only after this time.
    pub created_after: Option<i64>,
    /// Only before this time.
    pub created_before: Option<i64>,
    /// Only with this identifier of the client.
    pub external_id: Option<String>,
    /// Only with these notes of the client.
    pub metadata: Vec<(String, String)>,
    /// Only of this batch.
    pub batch_id: Option<String>,
    /// Only with this in the file's name.
    pub name_part: Option<String>,
    /// Whether to count all.
    pub has_total: bool,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Whether there are more.
    pub has_more: bool,
    /// How many there are on all pages.
    pub total: Option<u64>,
}

/// Something that happened to a job.
#[derive(Debug, Clone)]
pub struct JobEvent {
    /// Its number within the job.
    pub seq: i64,
    /// `status` or `segments`.
    pub kind: String,
    /// What is told about it.
    pub data: Value,
}

/// One attempt at a job.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// Who made it.
    pub worker: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// More about that.
    pub detail: Option<String>,
}

/// How much is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Jobs of the tenant that wait or run.
    pub of_tenant: u64,
    /// Jobs of all that wait.
    pub pending: u64,
    /// Jobs of all that run.
    pub processing: u64,
}

/// What a tenant's completed jobs of one day took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayUsage {
    /// The day they ended on, in UTC, such as `2026-11-22`.
    pub day: String,
    /// How many they were.
    pub jobs: u64,
    /// How many of them were answered from earlier results.
    pub cached_jobs: u64,
    /// Seconds of sound.
    pub audio_seconds: f64,
    /// Seconds of work.
    pub busy_seconds: f64,
}

/// A delivery whose time has come.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its identifier.
    pub id: String,
    /// The identifier that its receiver sees.
    pub event_id: String,
    /// `completed`, `failed` or `cancelled`.
    pub event: String,
    /// Tries before this one.
    pub tries: u32,
    /// What it is about.
    pub about: About,
}

/// What a delivery is about.
#[derive(Debug, Clone)]
pub enum About {
    /// A job that is over.
    Job(Box<Job>),
    /// A batch whose jobs are all over.
    Batch(Box<Batch>),
}

impl About {
    /// The identifier of it.
    pub fn id(&self) -> &str {
        match self {
            Self::Job(job) => &job.id,
            Self::Batch(batch) => &batch.id,
        }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &str {
        match self {
            Self::Job(job) => &job.tenant,
            Self::Batch(batch) => &batch.tenant,
        }
    }

    /// Who is told.
    pub fn callback(&self) -> Option<&Callback> {
        match self {
            Self::Job(job) => job.callback.as_ref(),
            Self::Batch(batch) => batch.callback.as_ref(),
        }
    }

    /// The trace it is part of.
    pub fn traceparent(&self) -> Option<&str> {
        match self {
            Self::Job(job) => job.traceparent.as_deref(),
            Self::Batch(batch) => batch.traceparent.as_deref(),
        }
    }
}

/// One try of a delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Try {
    /// When.
    pub at: String,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: u64,
    /// What went wrong.
    pub error: Option<String>,
}

/// What came of a try.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The delivery.
    pub id: String,
    /// Tries before this one: what came of one that was overtaken is of no interest.
    pub tries: u32,
    /// The try itself.
    pub note: Try,
    /// The delivery's state after it.
    pub state: DeliveryState,
    /// When the next one is.
    pub next_at: Option<i64>,
}

/// What has become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It will be tried.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It will not be tried again.
    Failed,
    /// The receiver does not want any more.
    Stopped,
}

impl DeliveryState {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A delivery as its tenant sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Its identifier.
    pub id: String,
    /// What it tells.
    pub event: String,
    /// Where to.
    pub url: String,
    /// `pending`, `delivered`, `failed` or `stopped`.
    pub state: String,
    /// The tries so far.
    pub tries: Value,
    /// When the next one is.
    pub next_at: Option<String>,
}

/// An idempotency key and what it was sent with.
#[derive(Debug, Clone, Copy)]
pub struct RequestKey<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// For which route.
    pub route: &'a str,
    /// The key.
    pub key: &'a str,
}

/// An answer that is given again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answered {
    /// Digest of what was asked.
    pub fingerprint: String,
    /// The status.
    pub status: u16,
    /// The job, or the batch.
    pub job_id: String,
    /// The body.
    pub body: String,
}

type Told = dyn Fn(&[Job]) -> Option<Answered> + Send + Sync;

/// What an idempotency key is to stand for, from the moment when jobs are kept.
pub struct Answer {
    /// Whose it is.
    pub tenant: String,
    /// For which route.
    pub route: &'static str,
    /// The key.
    pub key: String,
    /// What is answered when these jobs are kept.
    pub told: Box<Told>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("key", &self.key()).finish_non_exhaustive()
    }
}

impl Answer {
    /// The key.
    pub fn key(&self) -> RequestKey<'_> {
        RequestKey { tenant: &self.tenant, route: self.route, key: &self.key }
    }
}

/// What an idempotency key stands for.
#[derive(Debug, Clone)]
pub enum Reserved {
    /// Nothing yet; it is now reserved.
    Fresh,
    /// A request that is still being answered.
    InProgress,
    /// A request that got this answer.
    Answered(Answered),
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is for.
    pub name: String,
    /// Its digest.
    #[serde(skip)]
    pub hash: String,
    /// What it allows, separated by spaces.
    pub scopes: String,
}

/// How often a tenant's secret of callbacks was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// So often.
    pub count: i64,
    /// The last time.
    pub at: Option<i64>,
}

/// A worker that makes or made attempts, on whatever machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerSeen {
    /// What it calls itself.
    pub worker_id: String,
    /// Attempts under way.
    pub running: u64,
    /// Attempts lately, those under way among them.
    pub attempts: u64,
    /// When its last attempt began or ended.
    pub last_seen: String,
}

/// Who did what.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// For whom.
    pub tenant: String,
    /// Who.
    pub subject: String,
    /// What.
    pub action: &'static str,
    /// To what.
    pub object: Option<String>,
    /// From where.
    pub peer: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// With what outcome.
    pub outcome: String,
}

/// How old is too old; `None` keeps for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Horizon {
    /// Sound of jobs that ended before.
    pub audio: Option<i64>,
    /// Results of jobs that ended before.
    pub results: Option<i64>,
    /// Idempotency keys, inbound identifiers and events of before.
    pub bookkeeping: i64,
    /// Now.
    pub now: i64,
}
