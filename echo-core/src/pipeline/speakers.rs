//! Speakers: from samples and segments to segments with speakers.

use super::alone::add_speakers;
use super::engine::Engine;
use crate::diarize::assign;
use crate::error::Result;
use crate::options::{Diarization, VadModel, VadOptions};
use crate::timeline::Region;
use crate::transcript::Transcript;
use crate::vad;
use crate::vad::pyannote::Pyannote;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

impl Engine {
    /// Where speech is, by whatever the options name.
    pub(super) fn speech_regions(
        &self,
        samples: &[f32],
        options: &VadOptions,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Region>> {
        match options.model {
            VadModel::Silero => vad::speech_regions(&self.vad, samples, options, progress),
            VadModel::Pyannote => {
                let network = self.networks.segmentation(&mut |_| {})?;
                let network = Pyannote::new(network, &self.networks.threads);
                vad::speech_regions(&network, samples, options, progress)
            }
            VadModel::None if samples.is_empty() => Ok(Vec::new()),
            VadModel::None => Ok(vec![Region::new(0.0, samples.len() as f64 / SAMPLE_RATE_HZ)]),
        }
    }

    /// Tells the speakers of one channel apart and gives them to what was recognised in it.
    pub(super) fn diarize(
        &self,
        samples: &[f32],
        options: &Diarization,
        transcript: &mut Transcript,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<()> {
        let diarizer = self.networks.diarizer(&mut |_| {})?;
        let diarized = diarizer.run(samples, options, progress)?;
        let segments = std::mem::take(&mut transcript.segments);
        transcript.segments = assign::assign(segments, &diarized.exclusive, &diarized.turns);
        add_speakers(transcript, options, diarized.turns, diarized.speakers);
        Ok(())
    }
}
