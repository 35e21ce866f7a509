//! Workers: processes of this program that hold the model and run one job at a time.
//!
//! ```text
//! serve ── supervisor ── stdin:  Order, a line of JSON each ──► worker process
//!                     ◄─ stdout: Event, a line of JSON each ──┘
//! ```
//!
//! A decoder that crashes, eats all memory or hangs costs an attempt of one job and never the API.
//! The end of standard input tells a worker that its server is gone; it exits at once.

mod child;
mod lifecycle;
mod listen;
mod pool;
mod process;
mod recording;
mod reporter;
mod supervisor;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::job::{JobError, JobOptions};
use crate::live::{LiveEvent, LiveOptions};
use crate::store::{CheckpointPart, Report};
use crate::waveform::Waveform;

pub use child::run;
pub use lifecycle::{Outcome, announce, done_before, end, report, sweep, until};
pub use pool::{Pool, SlotState};
pub(crate) use process::Process;
pub use supervisor::supervise;

/// What a worker is told first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The model to load.
    pub model: String,
    /// What tells speakers apart.
    pub diarization_model: String,
    /// Where models lie.
    pub model_dir: Option<PathBuf>,
    /// Where to compute.
    pub device: String,
    /// In which number format.
    pub compute_type: String,
    /// Threads; 0 is one a processor.
    pub threads: usize,
    /// Address space; 0 is no limit.
    pub memory_bytes: u64,
    /// How often to be heard.
    pub heartbeat_ms: u64,
}

/// What a worker is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The first line.
    Hello(Hello),
    /// Transcribe.
    Run {
        /// The file.
        path: PathBuf,
        /// How.
        options: Box<JobOptions>,
        /// The longest sound taken.
        max_audio_seconds: f64,
        /// Seconds of sound after which to tell what is done; 0 is never.
        #[serde(default)]
        checkpoint_seconds: f64,
        /// What earlier attempts have done.
        #[serde(default)]
        done: Vec<Box<RawValue>>,
    },
    /// Stop the job at hand.
    Cancel,
    /// Listen to a session.
    Live(LiveOptions),
    /// Sound of the session, in base64.
    Audio(String),
    /// Make final what was said so far.
    Finalize,
    /// The session is over.
    Stop,
}

/// A part of a job that is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// Until when the sound is done, in seconds.
    pub reached_s: f64,
    /// What the next attempt needs to know, as echo-core writes it.
    pub data: Box<RawValue>,
}

impl From<Part> for CheckpointPart {
    fn from(part: Part) -> Self {
        Self { reached_s: part.reached_s, data: part.data.get().to_owned() }
    }
}

/// What a worker tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The model is loaded.
    Ready {
        /// Where it computes.
        device: String,
        /// Whether it knows languages other than English.
        is_multilingual: bool,
    },
    /// The model cannot be loaded; the worker exits.
    Unready {
        /// Why.
        message: String,
    },
    /// It is alive.
    Heartbeat,
    /// How far it is.
    Progress {
        /// The share that is done.
        progress: f64,
        /// What it is doing.
        stage: String,
        /// Segments since the last report.
        segments: Box<RawValue>,
        /// The number of the first of them in the whole transcript.
        #[serde(default)]
        first_segment: Option<u64>,
        /// What was done for good since that was told the last time.
        #[serde(default)]
        checkpoint: Option<Part>,
    },
    /// It does not go on from what was done: everything told before this is void.
    Restarted {
        /// Why.
        reason: String,
    },
    /// The sound is decoded, and looks like this.
    Waveform(Waveform),
    /// The job is done.
    Completed {
        /// The transcript, as echo-core writes it.
        result: Box<RawValue>,
        /// Seconds of work.
        busy_seconds: f64,
    },
    /// The job cannot be done.
    Failed {
        /// Why.
        error: JobError,
    },
    /// The job was stopped as told.
    Cancelled,
    /// Words of a session.
    Live(LiveEvent),
}

impl Event {
    /// What a sign of life says about its job.
    pub(crate) fn into_report(self) -> Report {
        match self {
            Self::Progress { progress, stage, segments, first_segment, checkpoint } => {
                let segments: Vec<Value> = serde_json::from_str(segments.get()).unwrap_or_default();
                Report {
                    progress: Some(progress),
                    stage: Some(stage),
                    segments: (!segments.is_empty()).then(|| segments.into()),
                    first_segment,
                    checkpoints: checkpoint.into_iter().map(Into::into).collect(),
                    is_restart: false,
                }
            }
            Self::Restarted { reason } => {
                tracing::warn!(reason, "a job begins anew");
                Report { is_restart: true, ..Report::default() }
            }
            _ => Report::default(),
        }
    }
}
