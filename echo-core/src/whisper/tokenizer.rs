//! Text to token ids and back.
//!
//! Encoding is byte-pair merging after GPT-2's split into words, by the `tokenizers` crate. It is
//! given the text vocabulary only, so that `<|en|>` in a user's prompt is text like any other.
//! Decoding joins the tokens' bytes before it reads them as UTF-8: a character may lie in several
//! tokens. Source: openai/whisper tokenizer.py.

mod bytes;
mod pieces;
mod special;

use std::collections::BTreeSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

pub(crate) use pieces::TextPiece;
pub(crate) use special::{SECONDS_PER_TIMESTAMP, SpecialTokens};

use super::config::WhisperConfig;
use crate::error::{Error, Result};

/// The vocabulary of a model.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// The ids that are not text.
    pub(crate) special: SpecialTokens,
    /// Whether prompts name language and task.
    pub(crate) is_multilingual: bool,
    /// The bytes of each text token, by id.
    texts: Vec<Vec<u8>>,
    encoder: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// From the bytes of the text tokens in the order of their ids, without the special ones.
    ///
    /// Files carry the merges too, but some that are in use lost the first one (" t", taken for
    /// the version line of merges.txt); the order of the tokens never lies.
    pub(crate) fn new<'t>(
        model: &str,
        texts: impl IntoIterator<Item = &'t [u8]>,
        config: &WhisperConfig,
    ) -> Result<Self> {
        let texts: Vec<Vec<u8>> = texts.into_iter().map(<[u8]>::to_vec).collect();
        let special = SpecialTokens::new(model, config.vocab, texts.len())?;
        let characters = bytes::characters();
        let written: Vec<String> =
            texts.iter().map(|text| bytes::encode_token(text, &characters)).collect();
        let merges = bytes::merges_from_order(&texts).into_iter();
        let merges = merges.map(|(left, right)| (written[left].clone(), written[right].clone()));
        let merges = merges.collect();
        let vocab = written.into_iter().zip(0..).filter(|(token, _)| !token.is_empty()).collect();
        let bpe = BPE::builder().vocab_and_merges::<Vocab>(vocab, merges);
        let bpe = bpe.build().map_err(|error| Error::Model {
            model: model.to_owned(),
            reason: "the tokenizer's vocabulary cannot be used".to_owned(),
            source: Some(error),
        })?;
        let mut encoder = tokenizers::Tokenizer::new(bpe);
        encoder.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
        Ok(Self { special, is_multilingual: config.is_multilingual(), texts, encoder })
    }

    /// The tokens of a text. Special tokens written out in it are text.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.encoder.encode_fast(text, false);
        let encoding = encoding.map_err(|error| Error::inference("tokenizer", error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens; special ones say nothing. What is not UTF-8 becomes U+FFFD.
    pub(crate) fn decode(&self, tokens: &[u32]) -> String {
        let texts = tokens.iter().filter_map(|&token| self.texts.get(token as usize));
        let bytes: Vec<u8> = texts.flatten().copied().collect();
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Tokens that annotate instead of saying: brackets, music notes, speaker dashes.
    ///
    /// Punctuation of sentences stays; so do hyphens and apostrophes inside words.
    pub(crate) fn non_speech_tokens(&self) -> Result<Vec<u32>> {
        const SYMBOLS: &str = "\" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 \
             << >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪";
        // One token in some vocabularies, several in others, of which the first is shared by
        // U+2640 to U+267F only and may be suppressed.
        const MISCELLANEOUS: &str = "♩ ♪ ♫ ♬ ♭ ♮ ♯";
        let mut found = BTreeSet::new();
        for start_of_word in [" -", " '"] {
            found.extend(self.encode(start_of_word)?.first());
        }
        let symbols = SYMBOLS.split_whitespace().map(|symbol| (symbol, false));
        let miscellaneous = MISCELLANEOUS.split_whitespace().map(|symbol| (symbol, true));
        for (symbol, is_miscellaneous) in symbols.chain(miscellaneous) {
            for written in [symbol.to_owned(), format!(" {symbol}")] {
                let tokens = self.encode(&written)?;
                if tokens.len() == 1 || is_miscellaneous {
                    found.extend(tokens.first());
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

#[cfg(test)]
pub(crate) use tests::small;

#[cfg(test)]
mod tests;
