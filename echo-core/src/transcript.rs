//! The result: a transcript of segments and words.
//!
//! Plain data that serialises to the documented JSON (`"version": 1`). Times are `f64` seconds from
//! the start of the source, on the same timeline as a video player's; in JSON they are rounded to the
//! millisecond, which is finer than any recogniser hears.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::language::Language;
use crate::timeline::Turn;

/// The version of the JSON schema; fields are only ever added to it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that was said in one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Transcript {
    /// The version of this schema, [`SCHEMA_VERSION`].
    #[serde(default = "schema_version")]
    pub version: u32,
    /// The language given or detected; `None` where there was no speech to tell from.
    #[serde(default)]
    pub language: Option<Language>,
    /// How sure language detection was, 0 to 1; `None` when the language was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_probability: Option<f32>,
    /// The length of the source in seconds.
    #[serde(default, serialize_with = "to_milliseconds")]
    pub duration: f64,
    /// What was said, in order of time.
    pub segments: Vec<Segment>,
    /// The speakers, in order of first appearance; empty unless speakers were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speakers: Vec<SpeakerId>,
    /// Who speaks when, in order of start; turns overlap where people do. Empty unless speakers were
    /// told apart by their voices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// A vector of each speaker's voice, near to others of the same voice by the cosine of their
    /// angle; what its numbers mean depends on the network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub speaker_embeddings: BTreeMap<SpeakerId, Vec<f32>>,
    /// What went wrong without spoiling the rest, such as a truncated file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

fn schema_version() -> u32 {
    SCHEMA_VERSION
}

/// Writes 12.344 where arithmetic left 12.343999999999999. A double with so few digits is read back
/// to the same value, so that a transcript survives JSON unchanged from the second time on.
pub(crate) fn to_milliseconds<S: Serializer>(
    seconds: &f64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((seconds * 1000.0).round_ties_even() / 1000.0)
}

impl Transcript {
    /// An empty transcript of a source of `duration` seconds.
    pub fn new(duration: f64) -> Self {
        Self {
            version: SCHEMA_VERSION,
            language: None,
            language_probability: None,
            duration,
            segments: Vec::new(),
            speakers: Vec::new(),
            turns: Vec::new(),
            speaker_embeddings: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// The whole text: segments stripped and joined by spaces (by nothing in Chinese, Japanese and
    /// other unspaced languages).
    pub fn text(&self) -> String {
        let separator = if self.language.is_some_and(Language::is_unspaced) { "" } else { " " };
        let texts: Vec<&str> =
            self.segments.iter().map(|s| s.text.trim()).filter(|t| !t.is_empty()).collect();
        texts.join(separator)
    }

    /// Every word of every segment, in order.
    pub fn words(&self) -> impl Iterator<Item = &Word> {
        self.segments.iter().flat_map(|segment| &segment.words)
    }
}

/// What the recogniser emits with a start and an end: a sentence or so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Segment {
    /// Seconds from the start of the source.
    #[serde(serialize_with = "to_milliseconds")]
    pub start: f64,
    /// Seconds from the start of the source; never before `start`.
    #[serde(serialize_with = "to_milliseconds")]
    pub end: f64,
    /// The text as the recogniser wrote it, without surrounding space.
    pub text: String,
    /// Its words with times; empty unless words were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// Who says most of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<SpeakerId>,
    /// The language, where it is not the transcript's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// How it was decoded; `None` in a transcript read from subtitles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding: Option<Decoding>,
}

impl Segment {
    /// A segment of text; the end is moved to the start if it lies before it.
    pub fn new(start: f64, end: f64, text: impl Into<String>) -> Self {
        Self {
            start,
            end: end.max(start),
            text: text.into(),
            words: Vec::new(),
            speaker: None,
            language: None,
            decoding: None,
        }
    }
}

/// What the recogniser knows about a segment beyond its text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decoding {
    /// The text tokens, without timestamps.
    pub tokens: Vec<u32>,
    /// The temperature of the attempt that was kept.
    pub temperature: f32,
    /// Mean natural logarithm of token probability over the window.
    pub avg_logprob: f32,
    /// Bytes of the window's text over bytes of it deflated: high when it repeats itself.
    pub compression_ratio: f32,
    /// The weight of the no-speech token at the window's first step.
    pub no_speech_prob: f32,
}

/// A unit with times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Word {
    /// Seconds from the start of the source.
    #[serde(serialize_with = "to_milliseconds")]
    pub start: f64,
    /// Seconds from the start of the source; never before `start`, never after the segment's end.
    #[serde(serialize_with = "to_milliseconds")]
    pub end: f64,
    /// The word with its punctuation, without surrounding space.
    #[serde(rename = "word")]
    pub text: String,
    /// How sure the recogniser (or aligner) is of it, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// How its times were found.
    #[serde(default)]
    pub timing: Timing,
    /// Who says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<SpeakerId>,
}

impl Word {
    /// A word; the end is moved to the start if it lies before it.
    pub fn new(start: f64, end: f64, text: impl Into<String>) -> Self {
        Self {
            start,
            end: end.max(start),
            text: text.into(),
            probability: None,
            timing: Timing::default(),
            speaker: None,
        }
    }
}

/// How a word's times were found, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Timing {
    /// By CTC alignment against an acoustic model of the language.
    Aligned,
    /// From the recogniser's cross-attention.
    Attention,
    /// Between its neighbours' times.
    #[default]
    Interpolated,
}

/// A speaker's label, such as `SPEAKER_00`; stable within one transcript only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpeakerId(pub String);

impl fmt::Display for SpeakerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
