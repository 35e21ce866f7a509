//! JSON, key for key what WhisperX writes, so that programs made for it can read Echo's.
//!
//! `{"segments": [{"start", "end", "text", "avg_logprob"?, "speaker"?, "words": [{"word", "start",
//! "end", "score"?, "speaker"?}]}], "word_segments": [the same words, flat], "language"}`; without
//! words neither `words` nor `word_segments`. One difference: `language` is what was detected
//! (null where nothing was said), where WhisperX writes what was asked for, or `en`.
//!
//! The reader takes words without times, as WhisperX leaves them for numbers and symbols, and the
//! `probability` of openai-whisper and faster-whisper in place of `score`.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::json::write_json;
use super::{Format, assemble};
use crate::language::Language;
use crate::transcript::{Decoding, Segment, SpeakerId, Timing, Transcript, Word};

/// JSON as WhisperX writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WhisperxJson {
    is_pretty: bool,
}

impl WhisperxJson {
    /// Indents for human readers. Default false: all on one line, as WhisperX does.
    #[must_use]
    pub fn pretty(mut self, yes: bool) -> Self {
        self.is_pretty = yes;
        self
    }
}

impl Format for WhisperxJson {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        write_json(&DocumentOut::new(transcript), self.is_pretty, out)
    }
}

#[derive(Serialize)]
struct DocumentOut<'a> {
    segments: Vec<SegmentOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    word_segments: Option<Vec<WordOut<'a>>>,
    language: Option<&'static str>,
}

#[derive(Serialize)]
struct SegmentOut<'a> {
    start: f64,
    end: f64,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_logprob: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<WordOut<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker: Option<&'a SpeakerId>,
}

#[derive(Serialize)]
struct WordOut<'a> {
    word: &'a str,
    start: f64,
    end: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker: Option<&'a SpeakerId>,
}

impl<'a> DocumentOut<'a> {
    fn new(transcript: &'a Transcript) -> Self {
        let has_words = transcript.words().next().is_some();
        let segments = transcript.segments.iter().map(|segment| SegmentOut {
            start: to_thousandths(segment.start),
            end: to_thousandths(segment.end),
            text: &segment.text,
            avg_logprob: segment.decoding.as_ref().map(|decoding| decoding.avg_logprob),
            words: has_words.then(|| segment.words.iter().map(WordOut::new).collect()),
            speaker: segment.speaker.as_ref(),
        });
        Self {
            segments: segments.collect(),
            word_segments: has_words.then(|| transcript.words().map(WordOut::new).collect()),
            language: transcript.language.map(Language::code),
        }
    }
}

impl<'a> WordOut<'a> {
    fn new(word: &'a Word) -> Self {
        Self {
            word: &word.text,
            start: to_thousandths(word.start),
            end: to_thousandths(word.end),
            score: word.probability.map(|score| to_thousandths(f64::from(score))),
            speaker: word.speaker.as_ref(),
        }
    }
}

/// WhisperX rounds times and scores to three decimals.
fn to_thousandths(value: f64) -> f64 {
    (value * 1000.0).round_ties_even() / 1000.0
}

/// What is read of WhisperX's JSON; unknown keys are passed over.
#[derive(Deserialize)]
pub(super) struct Document {
    segments: Vec<SegmentIn>,
    language: Option<String>,
}

#[derive(Deserialize)]
struct SegmentIn {
    start: f64,
    end: f64,
    text: String,
    #[serde(default)]
    words: Option<Vec<WordIn>>,
    speaker: Option<SpeakerId>,
    avg_logprob: Option<f32>,
    temperature: Option<f32>,
    compression_ratio: Option<f32>,
    no_speech_prob: Option<f32>,
}

#[derive(Deserialize)]
struct WordIn {
    word: String,
    start: Option<f64>,
    end: Option<f64>,
    #[serde(alias = "probability")]
    score: Option<f32>,
    speaker: Option<SpeakerId>,
}

impl Document {
    pub(super) fn into_transcript(self) -> Transcript {
        let mut transcript =
            assemble(self.segments.into_iter().map(SegmentIn::into_segment).collect());
        transcript.language = self.language.and_then(|language| language.parse().ok());
        transcript
    }
}

impl SegmentIn {
    fn into_segment(self) -> Segment {
        let start = self.start.max(0.0);
        let mut segment = Segment::new(start, self.end.max(start), self.text.trim());
        segment.speaker = self.speaker;
        segment.decoding = self.avg_logprob.map(|avg_logprob| Decoding {
            avg_logprob,
            temperature: self.temperature.unwrap_or_default(),
            compression_ratio: self.compression_ratio.unwrap_or_default(),
            no_speech_prob: self.no_speech_prob.unwrap_or_default(),
            ..Decoding::default()
        });
        segment.words = words(self.words.unwrap_or_default(), segment.start, segment.end);
        segment
    }
}

/// Gives every word a time inside the segment: those without share what lies between their
/// neighbours.
fn words(words: Vec<WordIn>, start: f64, end: f64) -> Vec<Word> {
    // Times are made to rise first, so that what lies between two words is never negative.
    let mut now = start;
    let known: Vec<Option<(f64, f64)>> = words
        .iter()
        .map(|word| {
            let from = word.start.or(word.end)?.clamp(now, end);
            now = word.end.unwrap_or(from).clamp(from, end);
            Some((from, now))
        })
        .collect();
    let mut placed = Vec::with_capacity(words.len());
    let mut free = (start, end, 0.0, 0.0);
    for (at, word) in words.into_iter().enumerate() {
        let (from, to) = known[at].unwrap_or_else(|| {
            if at == 0 || known[at - 1].is_some() {
                // The first of a run of words without times.
                let run = known[at..].iter().take_while(|time| time.is_none()).count();
                let from = if at == 0 { start } else { known[at - 1].map_or(start, |time| time.1) };
                let to = known.get(at + run).copied().flatten().map_or(end, |time| time.0);
                free = (from, to, run as f64, 0.0);
            }
            let (from, to, run, passed) = free;
            free.3 += 1.0;
            let at = |share: f64| from + (to - from) * share / run;
            (at(passed), at(passed + 1.0))
        });
        let mut out = Word::new(from, to, word.word.trim());
        out.probability = word.score;
        out.speaker = word.speaker;
        out.timing = if known[at].is_some() { Timing::Aligned } else { Timing::Interpolated };
        placed.push(out);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::super::json;

    #[test]
    fn words_without_times_get_their_neighbours() {
        let json = r#"{"segments": [{"start": 1.0, "end": 3.0, "text": " In 1999 £5", "words": [
            {"word": "In", "start": 1.0, "end": 1.5, "score": 0.9},
            {"word": "1999"}, {"word": "£5"}]}],
            "word_segments": [], "language": "en"}"#;
        let transcript = json::read(json, "test").unwrap();
        let times: Vec<(f64, f64)> =
            transcript.words().map(|word| (word.start, word.end)).collect();
        assert_eq!(times, [(1.0, 1.5), (1.5, 2.25), (2.25, 3.0)]);
        assert_eq!(transcript.segments[0].text, "In 1999 £5");
    }

    #[test]
    fn the_json_of_openai_whisper_is_read() {
        let json = r#"{"text": " Hi", "segments": [{"id": 0, "seek": 0, "start": 0.0, "end": 2.0,
            "text": " Hi", "tokens": [1], "temperature": 0.2, "avg_logprob": -0.5,
            "compression_ratio": 0.7, "no_speech_prob": 0.1,
            "words": [{"word": " Hi", "start": 0.5, "end": 1.0, "probability": 0.75}]}],
            "language": "de"}"#;
        let transcript = json::read(json, "test").unwrap();
        assert_eq!(transcript.language.unwrap().code(), "de");
        assert_eq!(transcript.words().next().unwrap().probability, Some(0.75));
        assert_eq!(transcript.segments[0].decoding.as_ref().unwrap().temperature, 0.2);
    }
}
