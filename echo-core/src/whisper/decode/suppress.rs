//! Rules that forbid tokens or make them less likely: suppress lists, blank starts, repetition.
//!
//! Each rule changes the logits of one hypothesis in place, `(vocab)`. Order and arithmetic follow
//! CTranslate2 (`decoding_utils.cc`), which faster-whisper decodes with.

use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::whisper::tokenizer::Tokenizer;

/// The tokens that `options.suppress_tokens` forbids everywhere, in order.
///
/// -1 stands for the reference's list of symbols that are not speech. Tokens that belong into
/// prompts are always forbidden, as in openai/whisper; faster-whisper allows them when the list is
/// empty, which nobody can want.
pub(super) fn suppressed_tokens(
    tokenizer: &Tokenizer,
    options: &DecodeOptions,
) -> Result<Vec<u32>> {
    let special = &tokenizer.special;
    let mut tokens = Vec::new();
    for &given in &options.suppress_tokens {
        match u32::try_from(given) {
            Ok(token) if token < special.end => tokens.push(token),
            Err(_) if given == -1 => tokens.extend(tokenizer.non_speech_tokens()?),
            _ => {
                return Err(Error::Option {
                    option: "suppress_tokens",
                    value: given.to_string(),
                    expected: "-1 or tokens of the model's vocabulary",
                });
            }
        }
    }
    tokens.extend([
        special.task(crate::Task::Transcribe),
        special.task(crate::Task::Translate),
        special.start_of_transcript(),
        special.start_of_previous(),
        special.start_of_language_model(),
        special.no_speech(),
    ]);
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}

/// The tokens that cannot come first when blank starts are suppressed: a bare space, and the end.
pub(super) fn blank_tokens(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let mut tokens = tokenizer.encode(" ")?;
    tokens.push(tokenizer.special.end_of_text);
    Ok(tokens)
}

/// Makes tokens that were said already less likely (arXiv:1909.05858): a positive logit is divided
/// by `penalty`, a negative one multiplied. A token said twice is penalised once.
pub(super) fn penalise_repetition(logits: &mut [f32], said: &[u32], penalty: f32) {
    for (index, &token) in said.iter().enumerate() {
        if said[..index].contains(&token) {
            continue;
        }
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Every token that would say some `size` tokens in a row a second time.
pub(super) fn repeating_ngrams(said: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || said.len() < size {
        return Vec::new();
    }
    let ending = &said[said.len() + 1 - size..];
    let repeating = |ngram: &[u32]| match ngram {
        [before @ .., last] if before == ending => Some(*last),
        _ => None,
    };
    said.windows(size).filter_map(repeating).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_said_twice_is_penalised_once() {
        let mut logits = [2.0, -2.0, 1.0, 0.5];
        penalise_repetition(&mut logits, &[0, 1, 0, 99], 2.0);
        assert_eq!(logits, [1.0, -4.0, 1.0, 0.5]);
    }

    #[test]
    fn an_ngram_is_not_said_twice() {
        let forbidden = |said: &[u32], size| {
            let mut tokens = repeating_ngrams(said, size);
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        assert_eq!(forbidden(&[1, 2, 3, 1, 2], 3), [3]);
        assert_eq!(forbidden(&[1, 2, 3, 1, 2, 4, 1, 2], 3), [3, 4]);
        assert_eq!(forbidden(&[1, 2, 3, 1, 2], 1), [1, 2, 3]);
        assert_eq!(forbidden(&[1, 1], 2), [1]);
        assert!(forbidden(&[1, 2, 3, 1, 2], 0).is_empty());
        assert!(forbidden(&[1, 2], 3).is_empty());
    }

    #[test]
    fn unknown_tokens_are_refused_by_name() {
        let tokenizer = crate::whisper::tokenizer::small();
        let with = |tokens: &[i64]| DecodeOptions {
            suppress_tokens: tokens.to_vec(),
            ..DecodeOptions::default()
        };
        let error = suppressed_tokens(&tokenizer, &with(&[-2])).unwrap_err();
        assert!(error.to_string().starts_with("option `suppress_tokens` is -2"), "{error}");
        assert!(suppressed_tokens(&tokenizer, &with(&[51_865])).is_err());
    }

    #[test]
    fn tokens_of_prompts_are_always_suppressed() {
        let tokenizer = crate::whisper::tokenizer::small();
        let options = DecodeOptions { suppress_tokens: vec![7, 5, 7], ..DecodeOptions::default() };
        let tokens = suppressed_tokens(&tokenizer, &options).unwrap();
        let special = tokenizer.special;
        assert_eq!(tokens[..2], [5, 7]);
        for token in [special.start_of_transcript(), special.no_speech()] {
            assert!(tokens.contains(&token));
        }
        assert!(!tokens.contains(&special.end_of_text));
        assert!(!tokens.contains(&special.timestamp_begin));
    }

    #[test]
    fn minus_one_stands_for_the_symbols_that_are_not_speech() {
        let tokenizer = crate::whisper::tokenizer::small();
        let tokens = suppressed_tokens(&tokenizer, &DecodeOptions::default()).unwrap();
        for symbol in b"\"#()*+/:;<=>@[\\]^_`{|}~" {
            assert!(tokens.contains(&u32::from(*symbol)), "{}", char::from(*symbol));
        }
        for kept in b".,!?'-aZ0" {
            assert!(!tokens.contains(&u32::from(*kept)), "{}", char::from(*kept));
        }
    }
}
