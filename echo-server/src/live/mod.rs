//! Live sound: sessions, what is said in them, and how a session finds a worker that is free.
//!
//! ```text
//! WebSocket ── Session ──► desk ──► supervisor ── Order::Live, Order::Audio … ──► worker process
//!           ◄──────────── LiveEvent, as the worker says them ────────────────────┘
//! ```
//!
//! A session has a worker to itself from its first to its last sample. Nothing of it is kept.

mod desk;
mod scheme;

use serde::{Deserialize, Serialize};

use crate::job::JobOptions;

pub use desk::{Desk, Session};
pub use scheme::{Heard, Scheme};

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 16-bit integers, little endian.
    #[default]
    PcmS16le,
    /// 32-bit floats, little endian.
    PcmF32le,
}

impl Encoding {
    /// Bytes of a sample.
    pub fn sample_bytes(self) -> usize {
        match self {
            Self::PcmS16le => 2,
            Self::PcmF32le => 4,
        }
    }

    /// The samples, 1 for full scale; not-a-number is silence, and a last half sample is left out.
    pub fn samples(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::PcmS16le => bytes
                .chunks_exact(2)
                .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0)
                .collect(),
            Self::PcmF32le => bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
                .map(|sample| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 })
                .collect(),
        }
    }
}

/// What a session is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LiveOptions {
    /// Language, prompt and the like.
    pub options: Box<JobOptions>,
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// How they are written.
    pub encoding: Encoding,
    /// Whether text is told that may still change.
    pub has_partials: bool,
}

/// What a client sends.
#[derive(Debug)]
pub enum LiveInput {
    /// Sound.
    Audio(bytes::Bytes),
    /// Make final what was said so far.
    Finalize,
    /// There is no more sound.
    Stop,
}

/// A word of a live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveWord {
    /// Seconds from the start of the session.
    pub start: f64,
    /// Seconds from the start of the session.
    pub end: f64,
    /// The word with its punctuation.
    pub word: String,
    /// How sure the recogniser is of it.
    pub score: Option<f32>,
}

/// Words of a live session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Utterance {
    /// All of it.
    pub text: String,
    /// Where it begins, in seconds from the start of the session.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
    /// Its words.
    pub words: Vec<LiveWord>,
}

/// What is told of a session, as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LiveEvent {
    /// Somebody began to speak.
    SpeechStarted {
        /// When, in seconds from the start of the session.
        start: f64,
    },
    /// What is heard, which may change.
    Partial(Utterance),
    /// What was heard, which stays.
    Final(Utterance),
    /// Somebody ended.
    UtteranceEnd {
        /// When.
        end: f64,
    },
    /// The worker has come so far; not passed on to clients.
    Heard {
        /// Seconds of sound.
        seconds: f64,
    },
    /// Something went wrong; the session ends.
    Error {
        /// A stable code.
        code: String,
        /// A sentence for people.
        message: String,
    },
    /// The session is over.
    Done {
        /// Seconds of sound.
        duration: f64,
        /// Seconds of work.
        busy_seconds: f64,
    },
}
