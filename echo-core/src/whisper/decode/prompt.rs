//! What a window's transcript starts with: context, language, task, forced beginning.
//!
//! `<|startofprev|> hotwords previous text <|startoftranscript|><|en|><|transcribe|> prefix`, each
//! part only where there is something to say; models for English alone have no language and task.
//! Source: `get_prompt` in faster-whisper's transcribe.py, which adds hotwords to the reference's.

use crate::error::{Error, Result};
use crate::language::Language;
use crate::options::{DecodeOptions, Task};
use crate::whisper::tokenizer::Tokenizer;

/// The tokens a window starts with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prompt {
    /// All of them, the forced beginning included.
    pub(crate) tokens: Vec<u32>,
    /// Where the start of the transcript stands among them.
    pub(super) start: usize,
    /// How many of the last ones are a forced beginning: part of the text.
    pub(super) prefix_len: usize,
    /// The most tokens the text can have, forced beginning included.
    pub(super) max_tokens: usize,
}

impl Prompt {
    /// The forced beginning.
    pub(super) fn prefix(&self) -> &[u32] {
        &self.tokens[self.tokens.len() - self.prefix_len..]
    }
}

/// The parts of prompts that stay the same over a run.
#[derive(Debug, Clone)]
pub(crate) struct Prompts<'a> {
    tokenizer: &'a Tokenizer,
    task: Task,
    /// Tokens that the network can hear in one go: 448.
    text_context: usize,
    without_timestamps: bool,
    max_new_tokens: Option<usize>,
    hotwords: Vec<u32>,
    prefix: Vec<u32>,
    /// The initial prompt, for the first window.
    pub(crate) initial: Vec<u32>,
}

impl<'a> Prompts<'a> {
    pub(crate) fn new(
        tokenizer: &'a Tokenizer,
        text_context: usize,
        task: Task,
        options: &DecodeOptions,
    ) -> Result<Self> {
        let encode = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default().trim();
            // The space makes the first word a word like any other.
            if text.is_empty() { Ok(Vec::new()) } else { tokenizer.encode(&format!(" {text}")) }
        };
        Ok(Self {
            tokenizer,
            task,
            text_context,
            without_timestamps: options.without_timestamps,
            max_new_tokens: options.max_new_tokens,
            hotwords: encode(&options.hotwords)?,
            prefix: encode(&options.prefix)?,
            initial: encode(&options.initial_prompt)?,
        })
    }

    /// The prompt of a window that follows `previous`, with the forced beginning if it is the first.
    pub(crate) fn prompt(
        &self,
        language: Language,
        previous: &[u32],
        is_first: bool,
    ) -> Result<Prompt> {
        let special = &self.tokenizer.special;
        // Context and transcript each have half of the positions.
        let half = self.text_context / 2;
        let mut prefix = Vec::new();
        if is_first && !self.prefix.is_empty() {
            if !self.without_timestamps {
                prefix.push(special.timestamp_begin);
            }
            // At least one token is left to choose.
            let room = half.saturating_sub(1 + prefix.len());
            prefix.extend(self.prefix.iter().take(room));
        }
        let mut tokens = Vec::new();
        // As in faster-whisper, a forced beginning leaves no use for hotwords.
        let hotwords = if prefix.is_empty() { &*self.hotwords } else { &[] };
        if !previous.is_empty() || !hotwords.is_empty() {
            tokens.push(special.start_of_previous());
            tokens.extend(hotwords.iter().take(half.saturating_sub(1)));
            // The latest text is the most useful. faster-whisper lets hotwords and text fill half
            // of the positions each and then fails; a quarter is kept for the transcript here.
            let room = (self.text_context * 3 / 4)
                .saturating_sub(tokens.len() + prefix.len() + 4)
                .min(half.saturating_sub(1));
            tokens.extend(&previous[previous.len().saturating_sub(room)..]);
        }
        let start = tokens.len();
        tokens.push(special.start_of_transcript());
        if self.tokenizer.is_multilingual {
            let unknown = || Error::Option {
                option: "language",
                value: format!("`{language}`"),
                expected: "a language that the model knows",
            };
            tokens.push(special.language(language).ok_or_else(unknown)?);
            tokens.push(special.task(self.task));
        }
        if self.without_timestamps {
            tokens.push(special.no_timestamps());
        }
        // The last prompt token is heard with the first step; the last token chosen never is.
        let room = (self.text_context + 1).saturating_sub(tokens.len()).min(half);
        let max_new =
            self.max_new_tokens.map_or(usize::MAX, |max| prefix.len().saturating_add(max));
        let prefix_len = prefix.len();
        tokens.extend(prefix);
        Ok(Prompt { tokens, start, prefix_len, max_tokens: room.min(max_new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whisper::tokenizer::small;

    /// A vocabulary small enough for tests counts as English only; most prompts are multilingual.
    fn multilingual() -> Tokenizer {
        let mut tokenizer = small();
        tokenizer.is_multilingual = true;
        tokenizer
    }

    fn prompts<'a>(tokenizer: &'a Tokenizer, options: &DecodeOptions) -> Prompts<'a> {
        Prompts::new(tokenizer, 448, Task::Transcribe, options).unwrap()
    }

    #[test]
    fn language_and_task_follow_the_start() {
        let tokenizer = multilingual();
        let special = tokenizer.special;
        let prompt = prompts(&tokenizer, &DecodeOptions::default());
        let german = "de".parse().unwrap();
        let prompt = prompt.prompt(german, &[], true).unwrap();
        let start = special.start_of_transcript();
        assert_eq!(prompt.tokens, [start, start + 3, special.task(Task::Transcribe)]);
        assert_eq!((prompt.start, prompt.prefix_len, prompt.max_tokens), (0, 0, 224));
    }

    #[test]
    fn a_model_for_english_alone_starts_at_once() {
        let tokenizer = small();
        let options = DecodeOptions { without_timestamps: true, ..DecodeOptions::default() };
        let prompt = prompts(&tokenizer, &options).prompt(Language::ENGLISH, &[], true).unwrap();
        let special = tokenizer.special;
        assert_eq!(prompt.tokens, [special.start_of_transcript(), special.no_timestamps()]);
    }

    #[test]
    fn previous_text_and_hotwords_stand_in_front() {
        let tokenizer = multilingual();
        let options = DecodeOptions { hotwords: Some(" lo ".into()), ..DecodeOptions::default() };
        let prompt = prompts(&tokenizer, &options).prompt(Language::ENGLISH, &[9], false).unwrap();
        let lo = tokenizer.encode(" lo").unwrap();
        assert_eq!(prompt.tokens[0], tokenizer.special.start_of_previous());
        assert_eq!(prompt.tokens[1..=lo.len()], lo);
        assert_eq!(prompt.tokens[lo.len() + 1], 9);
        assert_eq!(prompt.start, lo.len() + 2);
        assert_eq!(prompt.tokens[prompt.start], tokenizer.special.start_of_transcript());
    }

    #[test]
    fn a_forced_beginning_starts_at_zero_in_the_first_window_only() {
        let tokenizer = multilingual();
        let options = DecodeOptions {
            prefix: Some("lo".into()),
            hotwords: Some("he".into()),
            ..DecodeOptions::default()
        };
        let prompts = prompts(&tokenizer, &options);
        let first = prompts.prompt(Language::ENGLISH, &[], true).unwrap();
        let mut expected = vec![tokenizer.special.timestamp_begin];
        expected.extend(tokenizer.encode(" lo").unwrap());
        assert_eq!(first.prefix(), expected);
        assert_eq!(first.start, 0);
        let second = prompts.prompt(Language::ENGLISH, &[], false).unwrap();
        assert!(second.prefix().is_empty());
        assert!(second.start > 0, "hotwords are back");
    }

    #[test]
    fn long_context_keeps_its_end_and_leaves_room() {
        let tokenizer = multilingual();
        let long = "he ".repeat(500);
        let previous: Vec<u32> = (0..1000).map(|i| i % 250).collect();
        for (hotwords, prefix) in [(None, None), (Some(long.clone()), None), (None, Some(long))] {
            let options = DecodeOptions { hotwords, prefix, ..DecodeOptions::default() };
            let prompt = prompts(&tokenizer, &options);
            let prompt = prompt.prompt(Language::ENGLISH, &previous, true).unwrap();
            assert_eq!(prompt.tokens[prompt.start - 1], 249);
            assert!(prompt.tokens.len() <= 336, "{}", prompt.tokens.len());
            assert!(prompt.max_tokens > prompt.prefix_len);
            let last_position = prompt.tokens.len() + (prompt.max_tokens - prompt.prefix_len) - 1;
            assert!(last_position <= 448, "{last_position}");
        }
        let alone = prompts(&tokenizer, &DecodeOptions::default());
        assert_eq!(alone.prompt(Language::ENGLISH, &previous, true).unwrap().start, 224);
    }

    #[test]
    fn new_tokens_are_counted_without_the_forced_beginning() {
        let tokenizer = multilingual();
        let options = DecodeOptions {
            prefix: Some("lo".into()),
            max_new_tokens: Some(10),
            ..DecodeOptions::default()
        };
        let prompt = prompts(&tokenizer, &options).prompt(Language::ENGLISH, &[], true).unwrap();
        assert_eq!(prompt.max_tokens, prompt.prefix_len + 10);
    }
}
