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
pub struct CancelToken {
    is_cancelled: Arc<AtomicBool>,
    parents: Arc<[CancelToken]>,
}

impl CancelToken {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and can be cancelled without it.
    pub fn child(&self) -> Self {
        Self { is_cancelled: Arc::default(), parents: Arc::new([self.clone()]) }
    }

    /// A token that is cancelled with either.
    pub(crate) fn or(&self, other: &Self) -> Self {
        Self { is_cancelled: Arc::default(), parents: Arc::new([self.clone(), other.clone()]) }
    }

    /// Asks every run that holds this token to stop.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called on it or on the token it is a child of.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire) || self.parents.iter().any(Self::is_cancelled)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// How much of the whole is done when `fraction` of `stage` is; `plan` lists the stages in order with
/// their shares, which sum to 1.
pub(crate) fn overall(plan: &[(Stage, f64)], stage: Stage, fraction: f64) -> f64 {
    let mut before = 0.0;
    for &(other, share) in plan {
        if other == stage {
            return before + share * fraction.clamp(0.0, 1.0);
        }
        before += share;
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_cancelled_with_its_parent_and_not_the_other_way() {
        let parent = CancelToken::new();
        let (one, two) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !parent.is_cancelled() && !two.is_cancelled());
        let (with_one, with_two) = (parent.or(&one), two.or(&CancelToken::new()));
        assert!(with_one.is_cancelled() && !with_two.is_cancelled());
        parent.cancel();
        assert!(two.is_cancelled() && with_two.is_cancelled());
    }

    #[test]
    fn stages_take_their_shares_in_order() {
        let plan = [(Stage::Decoding, 0.25), (Stage::Transcribing, 0.75)];
        assert_eq!(overall(&plan, Stage::Decoding, 0.5), 0.125);
        assert_eq!(overall(&plan, Stage::Transcribing, 0.5), 0.625);
        assert_eq!(overall(&plan, Stage::Transcribing, 7.0), 1.0);
        assert_eq!(overall(&plan, Stage::Diarizing, 0.0), 1.0);
    }
}
