//! Which token ids mean something other than text.
//!
//! Every Whisper vocabulary is laid out alike: text tokens, end of text, start of transcript, the
//! languages, translate, transcribe, start of language model, start of previous text, no speech,
//! no timestamps, then 1,501 times from 0.00 to 30.00 s. Two ids fix all the others: where text
//! ends and where times begin. Source: `get_encoding` in openai/whisper's tokenizer.py.

use crate::error::{Error, Result};
use crate::language::Language;
use crate::options::Task;

/// Times from 0.00 to 30.00 s in steps of 0.02 s.
const N_TIMESTAMPS: usize = 1501;

/// Ids between the last language and the first time: the two tasks, language model, previous
/// text, no speech, no timestamps.
const N_AFTER_LANGUAGES: usize = 6;

/// Seconds from one time token to the next: one encoder frame.
pub(crate) const SECONDS_PER_TIMESTAMP: f64 = 0.02;

/// The ids of the special tokens of one vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpecialTokens {
    /// End of text; every smaller id is text.
    pub(crate) end_of_text: u32,
    /// How many languages there are.
    pub(crate) n_languages: usize,
    /// The time 0.00; every id from here to `end` is a time.
    pub(crate) timestamp_begin: u32,
    /// One past the last time, 30.00.
    pub(crate) end: u32,
}

impl SpecialTokens {
    /// The layout of a vocabulary of `vocab` tokens, of which `end_of_text` are text.
    pub(crate) fn new(model: &str, vocab: usize, end_of_text: usize) -> Result<Self> {
        // End of text, start of transcript, languages, the rest, times.
        let n_languages = vocab
            .checked_sub(N_TIMESTAMPS)
            .and_then(|begin| begin.checked_sub(2 + N_AFTER_LANGUAGES))
            .and_then(|end_of_languages| end_of_languages.checked_sub(end_of_text))
            .filter(|&n| n <= Language::all().count());
        let id = |value: usize| u32::try_from(value).ok();
        match (n_languages, id(end_of_text), id(vocab)) {
            (Some(n_languages), Some(end_of_text), Some(end)) => {
                let timestamp_begin = end - N_TIMESTAMPS as u32;
                Ok(Self { end_of_text, n_languages, timestamp_begin, end })
            }
            _ => Err(Error::model(
                model,
                format!(
                    "{vocab} tokens, {end_of_text} of them text, is not the layout of a Whisper \
                     vocabulary"
                ),
            )),
        }
    }

    /// Starts the transcript.
    pub(crate) fn start_of_transcript(&self) -> u32 {
        self.end_of_text + 1
    }

    /// The token of a language, if the vocabulary knows it.
    pub(crate) fn language(&self, language: Language) -> Option<u32> {
        let index = language.index();
        (index < self.n_languages).then(|| self.start_of_transcript() + 1 + index as u32)
    }

    /// The languages with their tokens, in the order of the vocabulary.
    pub(crate) fn languages(&self) -> impl Iterator<Item = (Language, u32)> {
        let first = self.start_of_transcript() + 1;
        Language::all().take(self.n_languages).zip(first..)
    }

    /// What is asked for: the words as said, or their translation.
    pub(crate) fn task(&self, task: Task) -> u32 {
        match task {
            Task::Translate => self.timestamp_begin - 6,
            Task::Transcribe => self.timestamp_begin - 5,
        }
    }

    /// Starts plain text without sound; never used in transcription.
    pub(crate) fn start_of_language_model(&self) -> u32 {
        self.timestamp_begin - 4
    }

    /// Starts the context in front of the transcript.
    pub(crate) fn start_of_previous(&self) -> u32 {
        self.timestamp_begin - 3
    }

    /// Its probability at the start of the transcript says how likely nobody speaks.
    pub(crate) fn no_speech(&self) -> u32 {
        self.timestamp_begin - 2
    }

    /// Asks for text without times.
    pub(crate) fn no_timestamps(&self) -> u32 {
        self.timestamp_begin - 1
    }

    /// Whether `token` is a time.
    pub(crate) fn is_timestamp(&self, token: u32) -> bool {
        (self.timestamp_begin..self.end).contains(&token)
    }

    /// Encoder frames (0.02 s) from the start of the window to the time that `token` says.
    pub(crate) fn timestamp_frames(&self, token: u32) -> Option<usize> {
        self.is_timestamp(token).then(|| (token - self.timestamp_begin) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vocabularies_have_the_ids_of_the_reference() {
        let ids = |vocab, end_of_text| {
            let special = SpecialTokens::new("test", vocab, end_of_text).unwrap();
            [
                special.start_of_transcript(),
                special.task(Task::Translate),
                special.task(Task::Transcribe),
                special.start_of_language_model(),
                special.start_of_previous(),
                special.no_speech(),
                special.no_timestamps(),
                special.timestamp_begin,
            ]
        };
        // tiktoken's `gpt2` and `multilingual` encodings with 99 and 100 languages.
        let english = [50257, 50357, 50358, 50359, 50360, 50361, 50362, 50363];
        let multilingual = [50258, 50358, 50359, 50360, 50361, 50362, 50363, 50364];
        let cantonese = [50258, 50359, 50360, 50361, 50362, 50363, 50364, 50365];
        assert_eq!(ids(51_864, 50_256), english);
        assert_eq!(ids(51_865, 50_257), multilingual);
        assert_eq!(ids(51_866, 50_257), cantonese);
    }

    #[test]
    fn a_language_beyond_the_vocabulary_has_no_token() {
        let cantonese = "yue".parse::<Language>().unwrap();
        let of = |vocab| SpecialTokens::new("test", vocab, 50_257).unwrap();
        assert_eq!(of(51_865).language(cantonese), None);
        assert_eq!(of(51_866).language(cantonese), Some(50_358));
        assert_eq!(of(51_865).languages().count(), 99);
        assert_eq!(of(51_865).languages().next(), Some((Language::ENGLISH, 50_259)));
    }

    #[test]
    fn impossible_layouts_are_errors() {
        for (vocab, end_of_text) in [
            (0, 0),
            (1000, 500),
            (51_865, 60_000),
            (51_865, 40_000),
            (usize::MAX, usize::MAX - 1600),
        ] {
            let error = SpecialTokens::new("test", vocab, end_of_text);
            assert!(error.is_err(), "{vocab} {end_of_text}");
        }
    }
}
