//! How far a run is, and how to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Reading, decoding and resampling the source.
    Decoding,
    /// Looking for speech.
    Detecting,
    /// Turning speech into text.
    Transcribing,
    /// Placing words in time.
    Aligning,
    /// Telling speakers apart.
    Diarizing,
}

impl Stage {
    /// The stage as a lower-case verb, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decoding => "decoding",
            Self::Detecting => "detecting",
            Self::Transcribing => "transcribing",
            Self::Aligning => "aligning",
            Self::Diarizing => "diarizing",
        }
    }
}

/// One report of progress.
///
/// Over one run `fraction` never falls and the last report is exactly 1.0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// The stage at work.
    pub stage: Stage,
    /// The share of the whole run that is done, 0 to 1.
    pub fraction: f64,
}

impl Progress {
    pub(crate) fn new(stage: Stage, fraction: f64) -> Self {
        Self { stage, fraction }
    }
}

/// Stops a run from elsewhere: another thread, a signal handler, a request that went away.
///
/// Clones share one state. A run looks at its token before every decoder step.
///
/// ```
/// use echo_core::CancelToken;
///
/// let token = CancelToken::new();
/// let copy = token.clone();
/// copy.cancel();
/// assert!(token.is_cancelled());
/// ```
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every run that holds this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
