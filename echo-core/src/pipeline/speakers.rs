//! Speakers: from samples and segments to segments with speakers.

use super::alone::add_speakers;
use crate::diarize::{Diarizer, assign};
use crate::error::Result;
use crate::options::Diarization;
use crate::transcript::Transcript;

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
