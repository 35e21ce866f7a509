//! Intervals of time, in seconds from the start of the source.

use serde::{Deserialize, Serialize};

use crate::transcript::{SpeakerId, to_milliseconds};

/// A stretch of time: speech found by voice activity detection, or a clip asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Seconds from the start of the source.
    pub start: f64,
    /// Seconds from the start of the source; never before `start`.
    pub end: f64,
}

impl Region {
    /// The stretch from `start` to `end`; the two are swapped if they come in the wrong order.
    pub fn new(start: f64, end: f64) -> Self {
        Self { start: start.min(end), end: start.max(end) }
    }

    /// Its length in seconds.
    pub fn duration(&self) -> f64 {
        self.end - self.start
    }

    /// What it shares with another one, if anything.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }
}

/// A stretch in which one speaker speaks, perhaps not alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Seconds from the start of the source.
    #[serde(serialize_with = "to_milliseconds")]
    pub start: f64,
    /// Seconds from the start of the source; never before `start`.
    #[serde(serialize_with = "to_milliseconds")]
    pub end: f64,
    /// Who speaks.
    pub speaker: SpeakerId,
}
