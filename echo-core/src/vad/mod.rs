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
use crate::options::VadOptions;
use crate::timeline::Region;

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

/// What is heard in a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Activity {
    /// Regions of speech, in order and apart.
    pub(crate) speech: Vec<Region>,
    /// All but sure silence, in order and apart.
    pub(crate) sounds: Vec<Region>,
}

impl Activity {
    /// What probabilities say of a source of `n_samples`; all of it is speech if there are none.
    pub(crate) fn new(
        probabilities: Option<&Probabilities>,
        n_samples: usize,
        options: &VadOptions,
    ) -> Self {
        match probabilities {
            Some(probabilities) => Self {
                speech: regions::regions(probabilities, n_samples, options),
                sounds: regions::sounds(probabilities, n_samples),
            },
            None => Self { speech: everything(n_samples), sounds: everything(n_samples) },
        }
    }
}

/// All of a source as one region, if there is anything.
pub(crate) fn everything(n_samples: usize) -> Vec<Region> {
    match n_samples {
        0 => Vec::new(),
        n_samples => vec![Region::new(0.0, n_samples as f64 / SAMPLE_RATE_HZ as f64)],
    }
}

/// Probabilities of speech, frame after frame without gaps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probabilities {
    /// The length of a frame.
    pub(crate) frame_samples: usize,
    /// One for each frame, 0 to 1.
    pub(crate) values: Vec<f32>,
}
