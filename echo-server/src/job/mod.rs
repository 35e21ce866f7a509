//! A job: one source to transcribe, and all that is known about it.
//!
//! ```text
//! pending ─claim→ processing ─commit→ completed
//!    ↑───lease lost, released, will be tried again──┘ ├─→ failed
//!    └─────────────cancel────────────────────────────┴─→ cancelled
//! ```
//!
//! The last three never change. Each arrow is one guarded statement of the [`store`](crate::store).

mod options;
mod submission;
mod view;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use options::{ChannelUse, JobOptions, Subtitle};
pub use submission::{CallbackEvent, Submission, TextField};
pub use view::{batch_json, job_json, summary_json};

/// What a job's row says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits to be run, or run again.
    Pending,
    /// Somebody holds its lease.
    Processing,
    /// It has its transcript.
    Completed,
    /// It will not be tried again.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The name in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(())
    }
}

/// What has to be done next for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its source is still to be fetched from a URL.
    Fetch,
    /// Its sound is here.
    Run,
}

impl Phase {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Run => "run",
        }
    }
}

/// Where the sound came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// `file` or `url`.
    pub kind: String,
    /// The client's name for it; metadata only, never a path.
    pub filename: Option<String>,
    /// The URL without its query, which may hold secrets.
    pub url: Option<String>,
    /// Bytes of the file.
    pub size_bytes: Option<u64>,
    /// `sha256:` and the digest of the file.
    pub content_hash: Option<String>,
    /// What the bytes are, by their content.
    pub media_type: Option<String>,
    /// Seconds of sound, known when it was transcribed.
    pub duration_seconds: Option<f64>,
    /// The whole URL and the headers to fetch it with, sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// Who is told about the end of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Callback {
    /// Where to.
    pub url: String,
    /// About which ends.
    pub events: Vec<CallbackEvent>,
    /// Whether the text goes along, if it is short.
    pub include_result: bool,
    /// The secret of this job's signatures, sealed.
    pub sealed_secret: Option<String>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable code, such as `decode_failed`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Whether another attempt may succeed.
    #[serde(default)]
    pub retryable: bool,
}

impl JobError {
    /// An error that another attempt would meet again.
    pub fn lasting(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retryable: false }
    }

    /// An error that another attempt may not meet.
    pub fn passing(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retryable: true }
    }
}

/// What a run has cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Seconds of sound.
    pub audio_seconds: f64,
    /// Seconds a worker was busy.
    pub busy_seconds: f64,
}

/// A row of the table of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// A UUID of version 7.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What has become of it.
    pub state: State,
    /// What is next.
    pub phase: Phase,
    /// What the worker is doing.
    pub stage: Option<String>,
    /// The share that is done, 0 to 1.
    pub progress: f64,
    /// Higher runs first.
    pub priority: i64,
    /// What was asked for, defaults filled in.
    pub options: JobOptions,
    /// Where the sound came from.
    pub source: Source,
    /// Who is told.
    pub callback: Option<Callback>,
    /// The client's own notes.
    pub metadata: Map<String, Value>,
    /// The client's own identifier.
    pub external_id: Option<String>,
    /// The digest that the sound lies under.
    pub blob_hash: Option<String>,
    /// The digest of sound, options and model that the result lies under.
    pub cache_key: Option<String>,
    /// The job whose run this one shares.
    pub leader_id: Option<String>,
    /// The job this one repeats.
    pub retry_of: Option<String>,
    /// Attempts begun.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Leases ever given.
    pub epoch: i64,
    /// Whether the running attempt was asked to stop.
    pub is_cancel_requested: bool,
    /// Whether it was answered from an earlier result.
    pub is_cached: bool,
    /// Why it failed.
    pub error: Option<JobError>,
    /// What it cost.
    pub usage: Option<Usage>,
    /// Counts changes, for entity tags.
    pub version: i64,
    /// Times a result was committed; 1 at most.
    pub commits: u32,
    /// When it was asked for.
    pub created_at: i64,
    /// When it first ran.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// When its data was erased.
    pub purged_at: Option<i64>,
    /// The trace it is part of, as W3C Trace Context has it.
    pub traceparent: Option<String>,
    /// The batch it is part of.
    pub batch_id: Option<String>,
}

impl Job {
    /// The strong entity tag of its row.
    pub fn etag(&self) -> String {
        format!("\"{}-{}\"", self.state.as_str(), self.version)
    }
}
