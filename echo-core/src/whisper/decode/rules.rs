//! The rules that apply before each token is chosen, in the reference's order.

use super::suppress;
use super::timestamps::TimestampRules;
use crate::error::Result;
use crate::kernels::rank::{self, Restriction};
use crate::options::DecodeOptions;
use crate::whisper::tokenizer::Tokenizer;

/// What may be said next, for one set of options.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many logits there are.
    pub(super) vocab: usize,
    /// The no-speech token.
    pub(super) no_speech: u32,
    repetition_penalty: f32,
    no_repeat_ngram_size: usize,
    suppressed: Vec<u32>,
    /// Forbidden as the first token.
    blank: Vec<u32>,
    /// None in text without times.
    timestamps: Option<TimestampRules>,
}

impl Rules {
    pub(super) fn new(
        tokenizer: &Tokenizer,
        vocab: usize,
        options: &DecodeOptions,
    ) -> Result<Self> {
        let special = &tokenizer.special;
        let blank =
            if options.suppress_blank { suppress::blank_tokens(tokenizer)? } else { Vec::new() };
        let timestamps = TimestampRules::new(special, options.max_initial_timestamp);
        Ok(Self {
            vocab,
            no_speech: special.no_speech(),
            repetition_penalty: options.repetition_penalty,
            no_repeat_ngram_size: options.no_repeat_ngram_size,
            suppressed: suppress::suppressed_tokens(tokenizer, options)?,
            blank,
            timestamps: (!options.without_timestamps).then_some(timestamps),
        })
    }

    /// Changes the logits of what may follow `tokens`, the first `prefix_len` of which were forced.
    pub(super) fn apply(&self, logits: &mut [f32], tokens: &[u32], prefix_len: usize) {
        if self.repetition_penalty != 1.0 {
            suppress::penalise_repetition(logits, tokens, self.repetition_penalty);
        }
        rank::restrict(logits, &self.restriction(tokens, prefix_len));
    }

    /// Whether the rules leave the logits of what may be said as they are.
    pub(super) fn only_restrict(&self) -> bool {
        self.repetition_penalty == 1.0
    }

    /// What may not follow `tokens`, the first `prefix_len` of which were forced.
    pub(super) fn restriction(&self, tokens: &[u32], prefix_len: usize) -> Restriction {
        let mut restriction = Restriction::default();
        let forbid = |restriction: &mut Restriction, tokens: &[u32]| {
            restriction.forbidden.extend(tokens.iter().map(|&token| token..token + 1));
        };
        let repeated = suppress::repeating_ngrams(tokens, self.no_repeat_ngram_size);
        forbid(&mut restriction, &repeated);
        forbid(&mut restriction, &self.suppressed);
        let said = tokens.get(prefix_len..).unwrap_or_default();
        if said.is_empty() {
            forbid(&mut restriction, &self.blank);
        }
        if let Some(timestamps) = &self.timestamps {
            timestamps.restrict(&mut restriction, said, prefix_len > 0);
        }
        restriction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::logits::NEVER;
    use crate::whisper::tokenizer::{Tokenizer, small};

    fn forbidden(tokenizer: &Tokenizer, options: &DecodeOptions, said: &[u32]) -> Vec<u32> {
        let vocab = tokenizer.special.end as usize;
        let mut logits = vec![0.0; vocab];
        Rules::new(tokenizer, vocab, options).unwrap().apply(&mut logits, said, 0);
        (0..vocab as u32).filter(|&token| logits[token as usize] == NEVER).collect()
    }

    #[test]
    fn blank_starts_are_forbidden_only_at_the_start() {
        let tokenizer = small();
        let options = DecodeOptions { without_timestamps: true, ..DecodeOptions::default() };
        let end = tokenizer.special.end_of_text;
        let at_start = forbidden(&tokenizer, &options, &[]);
        assert!(at_start.contains(&u32::from(b' ')) && at_start.contains(&end));
        let later = forbidden(&tokenizer, &options, &[97]);
        assert!(!later.contains(&u32::from(b' ')) && !later.contains(&end));
        let options = DecodeOptions { suppress_blank: false, ..options };
        assert!(!forbidden(&tokenizer, &options, &[]).contains(&end));
    }

    #[test]
    fn times_are_ruled_only_where_they_are_asked_for() {
        let tokenizer = small();
        let with = DecodeOptions::default();
        let without = DecodeOptions { without_timestamps: true, ..with.clone() };
        assert!(forbidden(&tokenizer, &with, &[]).contains(&97));
        assert!(!forbidden(&tokenizer, &without, &[]).contains(&97));
    }

    #[test]
    fn repetition_counts_everything_said() {
        let tokenizer = small();
        let options = DecodeOptions {
            no_repeat_ngram_size: 2,
            without_timestamps: true,
            ..DecodeOptions::default()
        };
        assert!(forbidden(&tokenizer, &options, &[97, 98, 97]).contains(&98));
    }
}
