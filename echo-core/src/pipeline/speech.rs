//! Which parts of a source are recognised: the clips asked for, and the speech in them.

use super::engine::Engine;
use crate::error::Result;
use crate::language::Language;
use crate::options::TranscribeOptions;
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::vad;
use crate::whisper::batched::Chunk;
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

/// Spans of one source as chunks for the recogniser.
pub(super) fn batch<'a>(
    samples: &'a [f32],
    spans: &[Region],
    speech: &'a [Region],
    language: Language,
) -> Vec<Chunk<'a>> {
    let chunk = |(index, &span): (usize, &Region)| {
        let is_first = index == 0;
        Chunk { samples, span, language, is_first, speech }
    };
    spans.iter().enumerate().map(chunk).collect()
}

/// Where somebody speaks in a source.
#[derive(Debug, Clone, Default)]
pub(super) struct Speech {
    /// What the recogniser hears at once.
    pub(super) chunks: Vec<Region>,
    /// Where speech is, without the recogniser's padding.
    pub(super) regions: Vec<Region>,
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
        let regions = self.speech_regions(samples, &options.vad, progress, cancel)?;
        let clips = clips(&options.clips, samples.len());
        let mut spans = Vec::new();
        for clip in clips {
            let inside: Vec<Region> =
                regions.iter().filter_map(|region| region.intersection(&clip)).collect();
            let chunks = vad::chunks::chunks(&inside, clip, &options.vad);
            spans.extend(chunks.into_iter().map(|chunk| chunk.span));
        }
        Ok(Speech { chunks: spans, regions })
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
            let chunk = batch(samples, &[span], &[], Language::ENGLISH);
            let table = language::of_chunk(&self.recognizer, &chunk[0], cancel)?;
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
}
