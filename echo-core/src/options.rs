//! What can be asked of one transcription: plain data with defaults, checked in one place.

mod by_name;

use std::ops::{Bound, RangeBounds};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::language::Language;
use crate::timeline::Region;

/// What Whisper writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The words as they are said.
    #[default]
    Transcribe,
    /// Their translation into English.
    Translate,
}

/// How a source longer than one window of 30 s is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Speech is found first, cut into chunks of at most 30 s, and several are decoded at once.
    #[default]
    Batched,
    /// Window after window, each starting where the last one's timestamps end, as in the
    /// reference implementation. Slower; earlier text can guide later text.
    Sequential,
}

/// Which channels of a source are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// The mean of all of them; where they cancel each other out, the loudest one.
    #[default]
    Mix,
    /// One of them, counted from 0.
    One(u16),
    /// Each by itself; the segments are merged by time and say their channel as speaker.
    Each,
}

/// How the times of words are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Align {
    /// By an acoustic model of the language where one was given, else by attention.
    #[default]
    Auto,
    /// By an acoustic model of the language (CTC); an error where there is none.
    Ctc,
    /// By the recogniser's attention.
    Attention,
    /// Not at all: words share the time of their segment.
    None,
}

/// What hears where speech is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VadModel {
    /// Silero, which the crate carries.
    #[default]
    Silero,
    /// The network of pyannote.audio that WhisperX detects speech with, which hears quiet and
    /// overlapping speech better; a model of the catalogue, 18 MB.
    Pyannote,
    /// Nothing: all of the source is taken for speech.
    None,
}

/// How voices are clustered into speakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Clustering {
    /// By what suits the diarization model: [`Vbx`](Self::Vbx) where a PLDA comes with it, else
    /// [`Average`](Self::Average).
    #[default]
    Auto,
    /// By the mean distance of the vectors of two clusters, which suits the vectors of CAM++.
    Average,
    /// By the distance of centroids, with the settings of pyannote's speaker-diarization-3.1.
    Centroid,
    /// By a mixture of speakers fitted to the vectors in the space of a PLDA (VBx), with the settings
    /// of pyannote's speaker-diarization-community-1; needs a diarization model that has one.
    Vbx,
}

/// How speakers are told apart. See [`TranscribeOptions::diarize`].
///
/// ```
/// use echo_core::Diarization;
///
/// let options = Diarization::new().speakers(2..=4);
/// assert_eq!((options.min_speakers, options.max_speakers), (Some(2), Some(4)));
/// options.validate()?;
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Diarization {
    /// At least so many speakers, where there is speech of so many; `None` (the default) leaves it
    /// to the voices.
    pub min_speakers: Option<usize>,
    /// At most so many speakers; `None` (the default) leaves it to the voices.
    pub max_speakers: Option<usize>,
    /// How voices are clustered. Default [`Clustering::Auto`].
    pub clustering: Clustering,
    /// Voices farther apart than this are different speakers: 1 minus the mean cosine for average
    /// clustering, the distance of centroids at length 1 else, which for VBx only says which vectors
    /// it starts with as one speaker. Default 0.62 for average clustering, 0.7046 for centroids, 0.6
    /// for VBx.
    pub threshold: Option<f32>,
    /// Shorter turns are dropped, in milliseconds. Default 100.
    pub min_turn_ms: u32,
    /// Shorter pauses within a turn are filled, in milliseconds. Default 300.
    pub min_gap_ms: u32,
}

impl Default for Diarization {
    fn default() -> Self {
        Self {
            min_speakers: None,
            max_speakers: None,
            clustering: Clustering::Auto,
            threshold: None,
            min_turn_ms: 100,
            min_gap_ms: 300,
        }
    }
}

impl Diarization {
    /// As many speakers as there are voices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds the number of speakers: `2..=4`, `2..`, `..=4`, or `3..=3` for exactly three.
    #[must_use]
    pub fn speakers(mut self, count: impl RangeBounds<usize>) -> Self {
        self.min_speakers = match count.start_bound() {
            Bound::Included(&least) => Some(least),
            Bound::Excluded(&least) => Some(least.saturating_add(1)),
            Bound::Unbounded => None,
        };
        self.max_speakers = match count.end_bound() {
            Bound::Included(&most) => Some(most),
            Bound::Excluded(&most) => Some(most.saturating_sub(1)),
            Bound::Unbounded => None,
        };
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let (least, most) = (self.min_speakers, self.max_speakers);
        for count in [least, most].into_iter().flatten() {
            check("speakers", count, (1..=1000).contains(&count), "1 to 1000")?;
        }
        if let (Some(least), Some(most)) = (least, most) {
            let expected = "the lower number first";
            check("speakers", format!("{least}..{most}"), least <= most, expected)?;
        }
        if let Some(threshold) = self.threshold {
            let fits = threshold > 0.0 && threshold < 2.0;
            check("threshold", threshold, fits, "above 0 and below 2")?;
        }
        check("min_turn_ms", self.min_turn_ms, self.min_turn_ms <= 60_000, "at most 60000")?;
        check("min_gap_ms", self.min_gap_ms, self.min_gap_ms <= 60_000, "at most 60000")
    }
}

/// What is asked of one transcription.
///
/// ```
/// use echo_core::{Mode, TranscribeOptions};
///
/// let mut options = TranscribeOptions::default();
/// options.mode = Mode::Sequential;
/// options.decode.beam_size = 1;
/// options.validate()?;
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TranscribeOptions {
    /// The language spoken; `None` (the default) detects it.
    pub language: Option<Language>,
    /// Detect the language of every window anew, for sources whose language changes.
    pub multilingual: bool,
    /// Transcribe (the default) or translate into English.
    pub task: Task,
    /// Batched chunks (the default) or one window after the other.
    pub mode: Mode,
    /// Only these stretches of the source, in seconds; empty (the default) means all of it.
    pub clips: Vec<Region>,
    /// Which channels are heard: their mean by default.
    pub channels: Channels,
    /// The audio track of a file that has several, counted from 0 among its audio tracks; `None`
    /// (the default) takes the one marked as default, else the first.
    pub track: Option<u16>,
    /// Find the words of every segment, with their times.
    pub words: bool,
    /// How the times of words are found, where words are asked for.
    pub align: Align,
    /// Make each segment a sentence; needs words, which are found for it.
    pub sentences: bool,
    /// Rules of decoding.
    pub decode: DecodeOptions,
    /// Rules of voice activity detection, for [`Mode::Batched`].
    pub vad: VadOptions,
    /// Tell speakers apart by their voices; `None` (the default) does not. Segments get their words,
    /// so that each can be given to its speaker.
    pub diarize: Option<Diarization>,
}

impl TranscribeOptions {
    /// Whether words are wanted, by themselves, for sentences, or to be given to speakers.
    pub(crate) fn needs_words(&self) -> bool {
        self.words || self.sentences || self.diarize.is_some()
    }

    /// Whether words are timed by the recogniser's attention.
    pub(crate) fn uses_attention(&self) -> bool {
        self.needs_words() && matches!(self.align, Align::Auto | Align::Attention)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first one out of range.
    pub fn validate(&self) -> Result<()> {
        for clip in &self.clips {
            if !(clip.start >= 0.0 && clip.end > clip.start && clip.end.is_finite()) {
                return Err(Error::Option {
                    option: "clips",
                    value: format!("{}-{}", clip.start, clip.end),
                    expected: "seconds with 0 <= start < end",
                });
            }
        }
        self.decode.validate()?;
        self.diarize.as_ref().map_or(Ok(()), Diarization::validate)?;
        self.vad.validate()
    }
}

/// Rules of decoding, with the reference implementation's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Hypotheses kept at temperature 0; 1 is greedy. Default 5.
    pub beam_size: usize,
    /// Samples drawn at temperatures above 0, of which the likeliest is kept. Default 5.
    pub best_of: usize,
    /// Beam search goes on until `beam_size * patience` hypotheses are finished. Default 1.
    pub patience: f32,
    /// Exponent of length in the ranking of hypotheses; 1 (the default) ranks by mean log
    /// probability, `None` is Google's rule with an exponent of 1.
    pub length_penalty: Option<f32>,
    /// Divides the score of tokens already said; 1 (the default) does nothing.
    pub repetition_penalty: f32,
    /// No sequence of this many tokens is said twice; 0 (the default) does nothing.
    pub no_repeat_ngram_size: usize,
    /// Temperatures tried in turn while a window's text fails the tests below. Default 0, 0.2 … 1.
    pub temperatures: Vec<f32>,
    /// Text that deflates better than this repeats itself and fails. Default 2.4.
    pub compression_ratio_threshold: Option<f32>,
    /// Text whose mean log probability lies below this fails. Default -1.
    pub logprob_threshold: Option<f32>,
    /// A window is silent if its no-speech probability lies above this and its mean log
    /// probability below `logprob_threshold`. Default 0.6.
    pub no_speech_threshold: Option<f32>,
    /// Give the last window's text to the next one as context ([`Mode::Sequential`]). Default true.
    pub condition_on_previous_text: bool,
    /// Forget that context after a window that needed a higher temperature than this. Default 0.5.
    pub prompt_reset_on_temperature: f32,
    /// Context for the first window: names, spelling, style.
    pub initial_prompt: Option<String>,
    /// The forced beginning of the first window's text.
    pub prefix: Option<String>,
    /// Words to favour, given as context to every window.
    pub hotwords: Option<String>,
    /// No empty text and no bare space at the start. Default true.
    pub suppress_blank: bool,
    /// Tokens that are never said; -1 (the default) stands for the reference's list of symbols
    /// that are not speech.
    pub suppress_tokens: Vec<i64>,
    /// Text without timestamp tokens; a window is then one segment. Default false.
    pub without_timestamps: bool,
    /// The latest start of a window's first segment, in seconds. Default 1.
    pub max_initial_timestamp: f32,
    /// Most text tokens of a window; `None` (the default) leaves it to the model's context.
    pub max_new_tokens: Option<usize>,
    /// Seed of sampling at temperatures above 0. Default 0.
    pub seed: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            beam_size: 5,
            best_of: 5,
            patience: 1.0,
            length_penalty: Some(1.0),
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            compression_ratio_threshold: Some(2.4),
            logprob_threshold: Some(-1.0),
            no_speech_threshold: Some(0.6),
            condition_on_previous_text: true,
            prompt_reset_on_temperature: 0.5,
            initial_prompt: None,
            prefix: None,
            hotwords: None,
            suppress_blank: true,
            suppress_tokens: vec![-1],
            without_timestamps: false,
            max_initial_timestamp: 1.0,
            max_new_tokens: None,
            seed: 0,
        }
    }
}

impl DecodeOptions {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first one out of range.
    pub fn validate(&self) -> Result<()> {
        check("beam_size", self.beam_size, self.beam_size >= 1, "1 or more")?;
        check("beam_size", self.beam_size, self.beam_size <= 100, "at most 100")?;
        check("best_of", self.best_of, (1..=100).contains(&self.best_of), "1 to 100")?;
        check("patience", self.patience, positive(self.patience), "a number above 0")?;
        if let Some(penalty) = self.length_penalty {
            let fits = penalty.is_finite() && penalty >= 0.0;
            check("length_penalty", penalty, fits, "0 or more")?;
        }
        let penalty = self.repetition_penalty;
        check("repetition_penalty", penalty, positive(penalty), "a number above 0")?;
        let some = !self.temperatures.is_empty();
        check("temperatures", "empty", some, "at least one number")?;
        for &temperature in &self.temperatures {
            let fits = (0.0..=2.0).contains(&temperature);
            check("temperatures", temperature, fits, "numbers from 0 to 2")?;
        }
        let initial = self.max_initial_timestamp;
        check(
            "max_initial_timestamp",
            initial,
            (0.0..=30.0).contains(&initial),
            "0 to 30 seconds",
        )?;
        if let Some(most) = self.max_new_tokens {
            check("max_new_tokens", most, most >= 1, "1 or more")?;
        }
        Ok(())
    }
}

/// Rules of voice activity detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VadOptions {
    /// What hears where speech is. Default [`VadModel::Silero`].
    pub model: VadModel,
    /// Speech opens when its probability reaches this. Default 0.5.
    pub onset: f32,
    /// Speech closes when its probability stays below this. Default 0.35.
    pub offset: f32,
    /// Shorter regions are dropped, in milliseconds. Default 0.
    pub min_speech_ms: u32,
    /// Shorter pauses do not split a region, in milliseconds. Default 160.
    pub min_silence_ms: u32,
    /// Added on both sides of a region, in milliseconds. Default 400.
    pub pad_ms: u32,
    /// The longest chunk given to the recogniser, in seconds. Default 30.
    pub max_chunk_seconds: f64,
}

impl Default for VadOptions {
    fn default() -> Self {
        Self {
            model: VadModel::Silero,
            onset: 0.5,
            offset: 0.35,
            min_speech_ms: 0,
            min_silence_ms: 160,
            pad_ms: 400,
            max_chunk_seconds: 30.0,
        }
    }
}

impl VadOptions {
    /// Settings for [`Diarizer::speech`](crate::Diarizer::speech) that come nearest to what people mark as speech: quiet
    /// speech is heard, and a breath is no pause. The default settings are for the recogniser, which
    /// is better off with less.
    pub fn for_regions(model: VadModel) -> Self {
        let (onset, offset, min_silence_ms, pad_ms) = match model {
            VadModel::Silero | VadModel::None => (0.15, 0.1, 700, 50),
            VadModel::Pyannote => (0.5, 0.363, 300, 0),
        };
        Self { model, onset, offset, min_silence_ms, pad_ms, ..Self::default() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let onset = self.onset;
        check("onset", onset, onset > 0.0 && onset < 1.0, "a probability between 0 and 1")?;
        let offset = self.offset;
        check("offset", offset, offset > 0.0 && offset <= onset, "above 0 and at most `onset`")?;
        let chunk = self.max_chunk_seconds;
        check("max_chunk_seconds", chunk, (1.0..=30.0).contains(&chunk), "1 to 30 seconds")
    }
}

fn positive(number: f32) -> bool {
    number.is_finite() && number > 0.0
}

fn check(
    option: &'static str,
    value: impl std::fmt::Display,
    fits: bool,
    expected: &'static str,
) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::Option { option, value: value.to_string(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_json() {
        let options = TranscribeOptions::default();
        options.validate().unwrap();
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<TranscribeOptions>(&json).unwrap(), options);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = serde_json::from_str::<TranscribeOptions>(r#"{"beam": 5}"#).unwrap_err();
        assert!(error.to_string().contains("beam"), "{error}");
    }

    #[test]
    fn impossible_numbers_of_speakers_are_refused() {
        let error = |options: Diarization| options.validate().unwrap_err().to_string();
        let new = Diarization::new;
        assert_eq!(error(new().speakers(0..=0)), "option `speakers` is 0, expected 1 to 1000");
        let (least, most) = (5, 2);
        assert_eq!(
            error(new().speakers(least..=most)),
            "option `speakers` is 5..2, expected the lower number first"
        );
        assert!(new().speakers(..).validate().is_ok() && new().speakers(3..=3).validate().is_ok());
        assert_eq!(new().speakers(2..5).max_speakers, Some(4));
        assert!(error(Diarization { threshold: Some(f32::NAN), ..new() }).contains("threshold"));
    }

    #[test]
    fn not_a_number_is_refused() {
        let options = DecodeOptions { temperatures: vec![f32::NAN], ..Default::default() };
        let error = options.validate().unwrap_err();
        assert_eq!(error.to_string(), "option `temperatures` is NaN, expected numbers from 0 to 2");
    }
}
