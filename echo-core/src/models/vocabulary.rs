//! The plain tokens of Whisper's vocabulary, from whatever carries them.
//!
//! Byte-pair tokens are numbered in the order in which training merged them, so that bytes in
//! order of their numbers are all a tokenizer needs. Special tokens (`<|endoftext|>` and what
//! follows it) are not listed: their numbers follow from the size of the vocabulary.
//!
//! Sources: `tokenizer.json`, `vocab.json` and CTranslate2's `vocabulary.json` and `vocabulary.txt`
//! (bytes as GPT-2's printable characters), ggml files (plain bytes), and for checkpoints without
//! any the two vocabularies of OpenAI, compiled in.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::DeflateDecoder;
use serde::Deserialize;

use super::table::Parsed;

/// The token after the plain ones.
const END_OF_TEXT: &str = "<|endoftext|>";

/// More tokens than any Whisper has.
const MAX_TOKENS: usize = 1 << 20;

const MULTILINGUAL: &[u8] = include_bytes!("../../data/whisper-multilingual.vocab.deflate");
const ENGLISH: &[u8] = include_bytes!("../../data/whisper-english.vocab.deflate");

/// Plain tokens as bytes, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`; it begins where the one before it ends.
    ends: Vec<u32>,
}

impl Vocabulary {
    /// How many plain tokens there are: also the number of `<|endoftext|>`.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a plain token; they may be part of a character, or none.
    pub(crate) fn token(&self, number: usize) -> Option<&[u8]> {
        let end = *self.ends.get(number)? as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.bytes[start..end])
    }

    /// The bytes of all plain tokens, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|number| self.token(number).unwrap_or_default())
    }

    /// Tokens as bytes, such as ggml's; those from `<|endoftext|>` on are dropped.
    pub(crate) fn from_tokens<T: AsRef<[u8]>>(tokens: impl IntoIterator<Item = T>) -> Self {
        let mut vocabulary = Self::default();
        for token in tokens {
            if token.as_ref() == END_OF_TEXT.as_bytes() {
                break;
            }
            vocabulary.push(token.as_ref());
        }
        vocabulary
    }

    /// The vocabulary of OpenAI's models with so many tokens in all, if it is one of theirs.
    pub(crate) fn embedded(vocab: usize) -> Option<Self> {
        let packed = match vocab {
            51_864 => ENGLISH,
            51_865 | 51_866 => MULTILINGUAL,
            _ => return None,
        };
        let mut raw = Vec::new();
        DeflateDecoder::new(packed).read_to_end(&mut raw).ok()?;
        let mut vocabulary = Self::default();
        let mut rest = raw.as_slice();
        while let Some((&length, tail)) = rest.split_first() {
            let (token, tail) = tail.split_at_checked(usize::from(length))?;
            vocabulary.push(token);
            rest = tail;
        }
        Some(vocabulary)
    }

    /// `tokenizer.json` of Hugging Face.
    pub(crate) fn from_tokenizer_json(json: &[u8]) -> Parsed<Self> {
        #[derive(Deserialize)]
        struct File {
            model: Model,
            #[serde(default)]
            added_tokens: Vec<Added>,
        }
        #[derive(Deserialize)]
        struct Model {
            vocab: HashMap<String, usize>,
        }
        #[derive(Deserialize)]
        struct Added {
            id: usize,
            content: String,
        }
        let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let added = file.added_tokens.iter().find(|token| token.content == END_OF_TEXT);
        Self::from_numbers(&file.model.vocab, added.map(|token| token.id))
    }

    /// `vocab.json` of Hugging Face (numbers by token) or `vocabulary.json` of CTranslate2 (tokens
    /// in order).
    pub(crate) fn from_vocab_json(json: &[u8]) -> Parsed<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum File {
            Tokens(Vec<String>),
            Numbers(HashMap<String, usize>),
        }
        match serde_json::from_slice(json).map_err(|error| error.to_string())? {
            File::Tokens(tokens) => Self::from_printable(tokens.iter().map(String::as_str)),
            File::Numbers(numbers) => Self::from_numbers(&numbers, None),
        }
    }

    /// `vocabulary.txt` of CTranslate2: a token a line.
    pub(crate) fn from_lines(text: &[u8]) -> Parsed<Self> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        Self::from_printable(text.lines())
    }

    fn from_numbers(numbers: &HashMap<String, usize>, end: Option<usize>) -> Parsed<Self> {
        let end = numbers.get(END_OF_TEXT).copied().or(end);
        let end = end.ok_or_else(|| format!("has no token `{END_OF_TEXT}`"))?;
        // A number that no token has leaves an empty token; there cannot be many of them.
        if end > MAX_TOKENS || end > numbers.len().saturating_mul(2) {
            return Err(format!("`{END_OF_TEXT}` has number {end} of {} tokens", numbers.len()));
        }
        let mut tokens = vec![""; end];
        for (token, &number) in numbers {
            if let Some(slot) = tokens.get_mut(number) {
                *slot = token;
            }
        }
        Self::from_printable(tokens.into_iter().chain([END_OF_TEXT]))
    }

    /// Tokens in order, their bytes as GPT-2's printable characters.
    fn from_printable<'t>(tokens: impl IntoIterator<Item = &'t str>) -> Parsed<Self> {
        let byte_of = bytes_of_characters();
        let mut vocabulary = Self::default();
        let mut bytes = Vec::new();
        for token in tokens {
            if token == END_OF_TEXT {
                return Ok(vocabulary);
            }
            bytes.clear();
            for character in token.chars() {
                let Some(byte) = byte_of.get(character as usize).copied().flatten() else {
                    let number = vocabulary.len();
                    return Err(format!(
                        "token {number} `{token}` is not written in GPT-2's alphabet"
                    ));
                };
                bytes.push(byte);
            }
            vocabulary.push(&bytes);
        }
        Err(format!("has no token `{END_OF_TEXT}`"))
    }

    fn push(&mut self, token: &[u8]) {
        self.bytes.extend_from_slice(token);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// GPT-2's alphabet, the byte of each character: printable Latin-1 stands for itself, the other
/// bytes are the characters from 256 on, in order.
fn bytes_of_characters() -> [Option<u8>; 256 + 68] {
    let mut byte_of = [None; 256 + 68];
    let mut next = 256;
    for byte in 0..=u8::MAX {
        let place = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => usize::from(byte),
            _ => {
                next += 1;
                next - 1
            }
        };
        byte_of[place] = Some(byte);
    }
    byte_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_vocabularies_are_whole() {
        for (vocab, len, first, last) in [
            (51_864, 50_256, " the", " gazed"),
            (51_865, 50_257, " the", ""),
            (51_866, 50_257, " the", ""),
        ] {
            let vocabulary = Vocabulary::embedded(vocab).unwrap();
            assert_eq!(vocabulary.len(), len);
            assert_eq!(vocabulary.iter().len(), len);
            assert_eq!(vocabulary.token(len - 1), Some(last.as_bytes()));
            assert_eq!(vocabulary.token(len), None);
            assert!(vocabulary.iter().any(|token| token == first.as_bytes()));
            let mut single: Vec<u8> = vocabulary.iter().take(256).flatten().copied().collect();
            single.sort_unstable();
            assert_eq!(single, (0..=255).collect::<Vec<u8>>(), "the first tokens are the bytes");
        }
        assert_eq!(Vocabulary::embedded(1000), None);
    }

    #[test]
    fn every_spelling_of_a_vocabulary_gives_its_bytes() {
        let expected = Vocabulary::from_tokens(["!", " é", "\u{0}\n", "<|endoftext|>", "more"]);
        assert_eq!(expected.len(), 3);
        let json = r#"{"!": 0, "ĠÃ©": 1, "ĀĊ": 2, "<|endoftext|>": 3, "<|en|>": 4}"#;
        assert_eq!(Vocabulary::from_vocab_json(json.as_bytes()).unwrap(), expected);
        let list = r#"["!", "ĠÃ©", "ĀĊ", "<|endoftext|>", "<|en|>"]"#;
        assert_eq!(Vocabulary::from_vocab_json(list.as_bytes()).unwrap(), expected);
        let lines = "!\nĠÃ©\nĀĊ\n<|endoftext|>\n<|en|>\n";
        assert_eq!(Vocabulary::from_lines(lines.as_bytes()).unwrap(), expected);
        let tokenizer = r#"{"model": {"vocab": {"!": 0, "ĠÃ©": 1, "ĀĊ": 2}},
            "added_tokens": [{"id": 3, "content": "<|endoftext|>"}]}"#;
        assert_eq!(Vocabulary::from_tokenizer_json(tokenizer.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_vocabulary_that_is_none_says_so() {
        let wrong = [
            (Vocabulary::from_lines(b"a\nb\n"), "has no token"),
            (Vocabulary::from_lines("a\n日\n".as_bytes()), "token 1 `日` is not written"),
            (Vocabulary::from_vocab_json(br#"{"<|endoftext|>": 99999999999}"#), "has number"),
            (Vocabulary::from_vocab_json(b"{"), "EOF"),
            (Vocabulary::from_tokenizer_json(b"{}"), "missing field"),
        ];
        for (parsed, expected) in wrong {
            let reason = parsed.unwrap_err();
            assert!(reason.contains(expected), "`{reason}` says `{expected}`");
        }
    }
}
