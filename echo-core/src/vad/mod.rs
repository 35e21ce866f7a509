//! Voice activity: where speech is, and how it is cut for the recogniser.
//!
//! A [`Vad`] gives each frame a probability of speech; [`regions`] turns probabilities into regions
//! by hysteresis; [`chunks`] merges regions into padded chunks of at most one window. Seconds begin there:
//! what comes out are [`Region`](crate::timeline::Region)s on the timeline of the source.

pub(crate) mod chunks;
pub(crate) mod pyannote;
pub(crate) mod regions;
pub(crate) mod silero;

use crate::error::Result;

/// Sample rate of everything here.
const SAMPLE_RATE_HZ: usize = 16_000;

/// Hears speech. [`silero::Silero`] is always there, [`pyannote::Pyannote`] is a model of the catalogue.
pub(crate) trait Vad: Send + Sync {
    /// The probability of speech in each frame of 16 kHz mono `samples`; the last frame may reach
    /// beyond them. `progress` hears how much is done, from 0 to 1, and stops the work by an error.
    fn probabilities(
        &self,
        samples: &[f32],
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Probabilities>;
}

/// Probabilities of speech, frame after frame without gaps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probabilities {
    /// The length of a frame.
    pub(crate) frame_samples: usize,
    /// One for each frame, 0 to 1.
    pub(crate) values: Vec<f32>,
}
