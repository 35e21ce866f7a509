//! Speakers: from samples and segments to segments with speakers.

use super::alone::{add_speakers, everything};
use super::engine::Engine;
use crate::diarize::{Diarizer, assign};
use crate::error::Result;
use crate::options::{Diarization, VadOptions};
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::transcript::Transcript;
use crate::vad;

impl Engine {
    /// Where speech is, by whatever the options name.
    pub(super) fn speech_regions(
        &self,
        samples: &[f32],
        options: &VadOptions,
        progress: &mut dyn FnMut(f64) -> Result<()>,
        cancel: &CancelToken,
    ) -> Result<Vec<Region>> {
        let (model, n_samples) = (options.model, samples.len());
        let networks = &self.networks;
        Ok(match networks.speech_probabilities(model, &self.vad, samples, progress, cancel)? {
            Some(probabilities) => vad::regions::regions(&probabilities, n_samples, options),
            None => everything(n_samples),
        })
    }
}

/// Tells the speakers of one channel apart and gives them to what was recognised in it.
pub(super) fn diarize(
    diarizer: &Diarizer,
    samples: &[f32],
    options: &Diarization,
    transcript: &mut Transcript,
    progress: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<()> {
    let diarized = diarizer.run(samples, options, progress)?;
    let segments = std::mem::take(&mut transcript.segments);
    transcript.segments = assign::assign(segments, &diarized.exclusive, &diarized.turns);
    add_speakers(transcript, options, diarized.turns, diarized.speakers);
    Ok(())
}
