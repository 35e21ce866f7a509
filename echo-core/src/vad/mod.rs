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
use crate::timeline::Region;

/// Sample rate of everything here.
const SAMPLE_RATE_HZ: usize = 16_000;

/// Where speech is less likely than this there is none, not even quiet speech. Of 11,388 words of long
/// recordings (`base`, four ways) 548 are wrong with it and with all the padding; where padding
/// ends at 0.1, with 0.2 s of it at least, 574 are.
const SURE_SILENCE: f32 = 0.01;

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

impl Probabilities {
    /// From the first to the last frame of `span` that is not sure silence; `None` if all of it is.
    fn sound(&self, span: Region) -> Option<Region> {
        let frame_seconds = self.frame_samples as f64 / SAMPLE_RATE_HZ as f64;
        let first = (span.start / frame_seconds) as usize;
        let end = ((span.end / frame_seconds).ceil() as usize).min(self.values.len());
        let values = self.values.get(first..end)?;
        let is_sound = |&probability: &f32| probability >= SURE_SILENCE;
        let (from, to) = (values.iter().position(is_sound)?, values.iter().rposition(is_sound)?);
        let at = |frame: usize| (first + frame) as f64 * frame_seconds;
        Region::new(at(from), at(to + 1)).intersection(&span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_a_span_without_the_sure_silence_at_its_ends() {
        let values = vec![0.9, 0.0, 0.03, 0.0, 0.01, 0.009, 0.0, 0.9];
        // Frames of an eighth of a second.
        let probabilities = Probabilities { frame_samples: 2000, values };
        let sound = |start: f64, end: f64| {
            probabilities.sound(Region::new(start, end)).map(|sound| (sound.start, sound.end))
        };
        assert_eq!(sound(0.125, 0.875), Some((0.25, 0.625)));
        assert_eq!(sound(0.3, 0.6), Some((0.3, 0.6)));
        assert_eq!(sound(-1.0, 9.0), Some((0.0, 1.0)));
        assert_eq!(sound(0.625, 0.875), None);
        assert_eq!(sound(2.0, 3.0), None, "beyond what was heard");
    }
}
