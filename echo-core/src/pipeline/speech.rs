//! Which parts of a source are recognised: the clips asked for, and the speech in them.

use super::engine::Engine;
use crate::error::Result;
use crate::language::Language;
use crate::options::{TranscribeOptions, VadOptions};
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::vad::Activity;
use crate::vad::chunks::chunks;
use crate::whisper::batched::Chunk;
use crate::whisper::excerpt::Excerpt;
use crate::whisper::language;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// Chunks heard before the language is decided, if the first is not clear.
const MAX_LANGUAGE_CHUNKS: usize = 4;

/// A language this likely is taken without hearing more.
const CLEAR_LANGUAGE: f32 = 0.5;

/// The clips within a source; without any, all of it.
pub(super) fn clips(asked: &[Region], n_samples: usize) -> Vec<Region> {
    let all = Region::new(0.0, n_samples as f64 / SAMPLE_RATE_HZ);
    if asked.is_empty() {
        return vec![all];
    }
    let mut clips: Vec<Region> = asked.iter().filter_map(|clip| clip.intersection(&all)).collect();
    clips.sort_by(|a, b| a.start.total_cmp(&b.start));
    clips
}

/// The chunks of one source for the recogniser.
pub(super) fn batch<'a>(
    samples: &'a [f32],
    speech: &'a Speech,
    language: Language,
) -> Vec<Chunk<'a>> {
    let chunk = |(index, &span): (usize, &Region)| {
        let is_first = index == 0;
        Chunk { samples, span, language, is_first, speech: &speech.regions, sounds: &speech.sounds }
    };
    speech.chunks.iter().enumerate().map(chunk).collect()
}

/// Where somebody speaks in a source.
#[derive(Debug, Clone, Default)]
pub(super) struct Speech {
    /// What the recogniser hears at once.
    pub(super) chunks: Vec<Region>,
    /// Where speech is, without the recogniser's padding.
    pub(super) regions: Vec<Region>,
    /// What of the chunks is heard: all but long silences; empty if it is all of them.
    sounds: Vec<Region>,
}

impl Speech {
    /// What is heard in `clips` of a source.
    pub(super) fn new(activity: Activity, clips: &[Region], options: &VadOptions) -> Self {
        let Activity { speech: regions, mut sounds } = activity;
        let mut spans = Vec::new();
        for &clip in clips {
            let inside: Vec<Region> =
                regions.iter().filter_map(|region| region.intersection(&clip)).collect();
            spans.extend(chunks(&inside, clip, options).into_iter().map(|chunk| chunk.span));
        }
        // What one window holds is understood best as it is.
        if spans.len() == 1 {
            sounds.clear();
        }
        Self { chunks: spans, regions, sounds }
    }

    /// What the recogniser hears.
    pub(super) fn heard(&self) -> Vec<Region> {
        let excerpts = self.chunks.iter().map(|&span| Excerpt::new(span, &self.sounds));
        excerpts.flat_map(|excerpt| excerpt.parts().to_vec()).collect()
    }
}

impl Engine {
    /// The speech in the clips asked for, in chunks of at most one window.
    pub(super) fn speech(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        progress: &mut dyn FnMut(f64) -> Result<()>,
        cancel: &CancelToken,
    ) -> Result<Speech> {
        let (vad, networks) = (&options.vad, &self.networks);
        let probabilities =
            networks.speech_probabilities(vad.model, &self.vad, samples, progress, cancel)?;
        let activity = Activity::new(probabilities.as_ref(), samples.len(), vad);
        Ok(Speech::new(activity, &clips(&options.clips, samples.len()), vad))
    }

    /// Every language with its probability: of the first chunk if that is clear, else the mean over
    /// the first few.
    pub(super) fn languages(
        &self,
        samples: &[f32],
        chunks: &[Region],
        cancel: &CancelToken,
    ) -> Result<Vec<(Language, f32)>> {
        let mut sums: Vec<(Language, f32)> = Vec::new();
        let mut n_heard = 0.0;
        for &span in chunks.iter().take(MAX_LANGUAGE_CHUNKS) {
            let language = Language::ENGLISH;
            let chunk = Chunk { samples, span, language, is_first: true, speech: &[], sounds: &[] };
            let table = language::of_chunk(&self.recognizer, &chunk, cancel)?;
            n_heard += 1.0;
            for (language, probability) in table {
                match sums.iter_mut().find(|(other, _)| *other == language) {
                    Some((_, sum)) => *sum += probability,
                    None => sums.push((language, probability)),
                }
            }
            if n_heard == 1.0 && sums.first().is_some_and(|(_, first)| *first >= CLEAR_LANGUAGE) {
                break;
            }
        }
        for (_, sum) in &mut sums {
            *sum /= n_heard;
        }
        sums.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_cut_to_the_source_and_ordered() {
        let asked = [Region::new(8.0, 12.0), Region::new(1.0, 2.0), Region::new(20.0, 30.0)];
        let clips = clips(&asked, 160_000);
        assert_eq!(clips, [Region::new(1.0, 2.0), Region::new(8.0, 10.0)]);
    }

    #[test]
    fn long_silences_are_left_out_where_one_window_does_not_hold_it_all() {
        let heard = |speech: &[(f64, f64)]| {
            let speech: Vec<Region> = speech.iter().map(|&(s, e)| Region::new(s, e)).collect();
            let activity = Activity { sounds: speech.clone(), speech };
            let clips = [Region::new(0.0, 60.0)];
            Speech::new(activity, &clips, &VadOptions::default()).heard()
        };
        assert_eq!(heard(&[(1.0, 10.0), (12.0, 25.0)]).len(), 1, "a window holds it");
        let parts = heard(&[(1.0, 10.0), (12.0, 25.0), (26.0, 50.0)]);
        assert_eq!((parts[0].end, parts[1].start), (10.25, 11.8));
    }
}
