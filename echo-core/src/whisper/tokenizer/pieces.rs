//! Tokens joined until their bytes are whole characters.
//!
//! A character may lie in several tokens; only where one ends can text be cut. Source:
//! `split_tokens_on_unicode` in openai/whisper's tokenizer.py.

use std::ops::Range;

use super::Tokenizer;

/// A few tokens that hold whole characters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextPiece {
    /// Which tokens.
    pub(crate) tokens: Range<usize>,
    /// Which bytes of the text.
    pub(crate) bytes: Range<usize>,
}

impl Tokenizer {
    /// The text of tokens, as [`decode`](Self::decode) gives it, and its pieces without gaps.
    pub(crate) fn pieces(&self, tokens: &[u32]) -> (String, Vec<TextPiece>) {
        let mut text = String::new();
        let mut pieces = Vec::new();
        let (mut bytes, mut first) = (Vec::new(), 0);
        for (index, &token) in tokens.iter().enumerate() {
            if let Some(own) = self.texts.get(token as usize) {
                bytes.extend_from_slice(own);
            }
            let is_last = index + 1 == tokens.len();
            if !is_last && ends_inside_character(&bytes) {
                continue;
            }
            let start = text.len();
            text.push_str(&String::from_utf8_lossy(&bytes));
            pieces.push(TextPiece { tokens: first..index + 1, bytes: start..text.len() });
            bytes.clear();
            first = index + 1;
        }
        (text, pieces)
    }
}

/// Whether bytes may yet become a character at their end.
fn ends_inside_character(mut bytes: &[u8]) -> bool {
    while let Err(error) = std::str::from_utf8(bytes) {
        let Some(bad) = error.error_len() else { return true };
        bytes = &bytes[error.valid_up_to() + bad..];
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::whisper::tokenizer::small;

    #[test]
    fn characters_stay_whole() {
        let tokenizer = small();
        let tokens = tokenizer.encode("hello ü€!").unwrap();
        let (text, pieces) = tokenizer.pieces(&tokens);
        assert_eq!(text, "hello ü€!");
        let texts: Vec<&str> = pieces.iter().map(|piece| &text[piece.bytes.clone()]).collect();
        assert_eq!(texts, ["hel", "lo", " ", "ü", "€", "!"]);
        assert_eq!(pieces[3].tokens, 3..5);
    }

    #[test]
    fn broken_bytes_are_shown_as_the_decoder_shows_them() {
        let tokenizer = small();
        for tokens in
            [&[0xe2_u32, 0x82][..], &[0xff, 0x41, 0xc3], &[0xe2, 0x28, 0xa1], &[0xf0, 0x9f, 0x41]]
        {
            let (text, pieces) = tokenizer.pieces(tokens);
            assert_eq!(text, tokenizer.decode(tokens));
            assert_eq!(pieces.last().unwrap().tokens.end, tokens.len());
        }
        assert_eq!(tokenizer.pieces(&[]), (String::new(), Vec::new()));
    }
}
