//! An acoustic model of one language that places words by CTC.
//!
//! The segments of a stretch of at most 30 s are placed together: one pass of the network over their
//! sound, one best path over all their words, so that a segment's rough bounds cut no word off. A word
//! ends at the last frame of its last letter; what follows it is nobody's. What cannot be placed (too
//! little sound for so many letters) keeps the times it had, and words that had none stay without, for
//! interpolation to place.

use std::ops::Range;
use std::path::Path;

use super::ctc::{self, Emission, Placed};
use super::text::Labels;
use super::wav2vec2::{Wav2Vec2, names};
use crate::error::{Error, Result};
use crate::language::Language;
use crate::models::{self, Tensors};
use crate::progress::CancelToken;
use crate::transcript::{Segment, Timing, Word};
use crate::words;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// Samples from one frame to the next, and samples that a frame hears.
const FRAME_STEP: f64 = 320.0;
const FRAME_SAMPLES: f64 = 400.0;

/// The longest stretch placed at once: attention within the network grows with its square.
const MAX_SECONDS: f64 = 30.0;

/// How far beyond its segments' bounds a stretch is heard.
const MARGIN_SECONDS: f64 = 0.4;

/// A loaded aligner.
#[derive(Debug)]
pub(crate) struct Acoustic {
    name: String,
    network: Wav2Vec2,
    labels: Labels,
    /// Whether samples are brought to mean 0 and deviation 1 first.
    normalises: bool,
    threads: usize,
}

impl Acoustic {
    /// Loads a model called `name` in messages from a folder or file.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::Model`] if it is no wav2vec 2.0 with a CTC head,
    /// or has no table of labels.
    pub(crate) fn load(name: &str, path: &Path, threads: usize) -> Result<Self> {
        let Tensors { weights, folder } = models::open_tensors(name, path, names::canonical)?;
        let beside = |file: &str| models::read_text(&folder.join(file));
        let network = Wav2Vec2::load(name, &*weights, beside("config.json")?.as_deref())?;
        let labels = match beside("vocab.json")? {
            Some(json) => Labels::from_json(name, &json, network.n_labels())?,
            // torchaudio's English networks are known by their number of labels.
            None if network.n_labels() == 29 => Labels::english(),
            None => {
                let reason = format!("has no vocab.json in {}", folder.display());
                return Err(Error::model(name, reason));
            }
        };
        if labels.n_letters() == 0 {
            return Err(Error::model(name, "vocab.json: has no letters"));
        }
        let normalises = match beside("preprocessor_config.json")? {
            Some(json) => do_normalize(&json).unwrap_or(true),
            None => network.expects_normalised,
        };
        Ok(Self { name: name.to_owned(), network, labels, normalises, threads })
    }

    /// What it was called when it was loaded.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Places the words of segments, in order, in the sound of their source, 16 kHz mono. `floor` is
    /// where the words before them end. Segments move to their words.
    pub(crate) fn align(
        &self,
        samples: &[f32],
        segments: &mut [Segment],
        language: Language,
        floor: f64,
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut floor = floor;
        let mut first = 0;
        while first < segments.len() {
            cancel.check()?;
            let start = segments[first].start;
            let fits = |segment: &&Segment| segment.end - start <= MAX_SECONDS;
            let end = first + segments[first..].iter().take_while(fits).count().max(1);
            let next = segments.get(end).map_or(f64::INFINITY, |segment| segment.start);
            let together = &mut segments[first..end];
            let until = together.last().map_or(start, |last| last.end);
            let bounds = [
                (start - MARGIN_SECONDS).max(floor).min(start.max(0.0)),
                (until + MARGIN_SECONDS).min(next.max(until)),
            ];
            self.align_together(samples, together, bounds, language, cancel)?;
            floor = together.last().map_or(floor, |last| last.end);
            first = end;
        }
        Ok(())
    }

    fn align_together(
        &self,
        samples: &[f32],
        segments: &mut [Segment],
        [start, end]: [f64; 2],
        language: Language,
        cancel: &CancelToken,
    ) -> Result<()> {
        let at = |seconds: f64| {
            ((seconds.max(0.0) * SAMPLE_RATE_HZ).round() as usize).min(samples.len())
        };
        let (from, to) = (at(start), at(end));
        let mut sound = samples[from..to.max(from)].to_vec();
        for sample in &mut sound {
            // A network that hears one such number says nothing but such numbers.
            if !sample.is_finite() {
                *sample = 0.0;
            }
        }
        if self.normalises {
            normalise(&mut sound);
        }
        let logits = self.network.logits(&sound, self.threads, cancel)?;
        let emission = Emission::from_logits(&logits, self.network.n_labels(), self.labels.blank);
        let is_unspaced = language.is_unspaced();
        for segment in segments.iter_mut() {
            name_words(segment, is_unspaced);
        }
        let texts = segments.iter().flat_map(|segment| &segment.words).map(|word| &*word.text);
        let (labels, ranges) = self.labels.of_words(texts, emission.wildcard(), language);
        let Some(placed) = ctc::align(&emission, &labels) else {
            let (labels, frames) = (labels.len(), emission.n_frames());
            log::debug!("{labels} letters do not fit {frames} frames from {start:.2} s on");
            return Ok(());
        };
        let offset = from as f64 / SAMPLE_RATE_HZ;
        let words = segments.iter_mut().flat_map(|segment| &mut segment.words);
        for (word, range) in words.zip(ranges) {
            place(word, placed.get(range).unwrap_or_default(), offset);
        }
        for segment in segments {
            let is_aligned = |word: &&Word| word.timing == Timing::Aligned;
            if let (Some(first), Some(last)) =
                (segment.words.iter().find(is_aligned), segment.words.iter().rfind(is_aligned))
            {
                (segment.start, segment.end) = (first.start, last.end);
            }
        }
        Ok(())
    }
}

/// Gives a segment the words of its text, without times, unless it has them.
fn name_words(segment: &mut Segment, is_unspaced: bool) {
    if segment.words.is_empty() {
        let words = words::split(&segment.text, is_unspaced).into_iter();
        let word = |bytes: Range<usize>| Word::new(f64::NAN, f64::NAN, &segment.text[bytes]);
        segment.words = words.map(word).collect();
    }
}

/// Puts a word where its letters are.
fn place(word: &mut Word, letters: &[Placed], offset: f64) {
    let (Some(first), Some(last)) = (letters.first(), letters.last()) else {
        // Interpolation puts it between its neighbours.
        (word.start, word.end, word.timing) = (f64::NAN, f64::NAN, Timing::Interpolated);
        return;
    };
    let seconds = |samples: f64| (offset + samples / SAMPLE_RATE_HZ) * 1000.0;
    // A frame is heard from its first sample on; the middle of it is what it speaks of.
    let middle = (FRAME_SAMPLES - FRAME_STEP) / 2.0;
    let start = seconds(first.frames.start as f64 * FRAME_STEP + middle);
    let end = seconds(last.frames.end as f64 * FRAME_STEP + middle);
    (word.start, word.end) = (start.round() / 1000.0, end.round() / 1000.0);
    word.timing = Timing::Aligned;
    if word.probability.is_none() {
        let sum: f32 = letters.iter().map(|letter| letter.probability).sum();
        word.probability = Some((sum / letters.len() as f32).clamp(0.0, 1.0));
    }
}

/// Brings samples to mean 0 and deviation 1.
pub(crate) fn normalise(samples: &mut [f32]) {
    const EPSILON: f64 = 1e-7;
    let count = samples.len().max(1) as f64;
    let mean = samples.iter().map(|&sample| f64::from(sample)).sum::<f64>() / count;
    let square = |&sample: &f32| (f64::from(sample) - mean).powi(2);
    let variance = samples.iter().map(square).sum::<f64>() / count;
    let scale = (variance + EPSILON).sqrt().recip();
    for sample in samples {
        *sample = ((f64::from(*sample) - mean) * scale) as f32;
    }
}

fn do_normalize(json: &[u8]) -> Option<bool> {
    serde_json::from_slice::<serde_json::Value>(json).ok()?.get("do_normalize")?.as_bool()
}

#[cfg(test)]
mod tests;
