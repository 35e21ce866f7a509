//! What a word is: where text is cut into words.
//!
//! Where words are written apart, a word lies between spaces, with its punctuation: `l'été`, `12,5`
//! and `well-known` are one each. Marks that stand alone are nobody's word: a dash or an opening
//! bracket goes with the next word, others with the one before. In languages written without spaces
//! words are found by Unicode's rules (UAX #29), which leave Chinese and Japanese in characters.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// Marks that belong to the word after them.
const OPENING: &str = "\"'“‘«‹„‚¿¡([{-–—「『《〈【（［｛";

/// Marks that belong to the word before them, besides all [`OPENING`] ones that end a text.
const CLOSING: &str = "\"'.。,，!！?？:：”’»›)]};；、…」』》〉】）］｝·।؟،";

/// Cuts text into words: bytes of each without the space around it, in order, apart.
pub(crate) fn split(text: &str, is_unspaced: bool) -> Vec<Range<usize>> {
    let pieces: Vec<Range<usize>> = if is_unspaced {
        text.split_word_bound_indices().map(|(at, piece)| at..at + piece.len()).collect()
    } else {
        let mut pieces = Vec::new();
        let mut start = None;
        for (at, character) in text.char_indices() {
            if !character.is_whitespace() {
                start.get_or_insert(at);
            } else if let Some(start) = start.take() {
                pieces.push(start..at);
            }
        }
        pieces.extend(start.map(|start| start..text.len()));
        pieces
    };
    join_marks(text, pieces)
}

/// Joins marks that stand alone to the words that they go with. `pieces` are bytes of `text`, in order.
pub(crate) fn join_marks(
    text: &str,
    pieces: impl IntoIterator<Item = Range<usize>>,
) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    // Where marks began that wait for the next word.
    let mut waiting: Option<usize> = None;
    for piece in pieces {
        let Some(trimmed) = trim(text, piece) else { continue };
        let kind = Kind::of(&text[trimmed.clone()]);
        match (kind, words.last_mut()) {
            (Kind::Opening, _) => {
                waiting.get_or_insert(trimmed.start);
            }
            (Kind::Closing, Some(word)) if waiting.is_none() => word.end = trimmed.end,
            (Kind::Closing, None) if waiting.is_none() => waiting = Some(trimmed.start),
            (Kind::Closing, _) => {}
            (Kind::Word, _) => words.push(waiting.take().unwrap_or(trimmed.start)..trimmed.end),
        }
    }
    if let Some(start) = waiting {
        let end = start + text[start..].trim_end().len();
        match words.last_mut() {
            Some(word) => word.end = end,
            None if start < end => words.push(start..end),
            None => {}
        }
    }
    words
}

/// Whether a text ends a sentence.
pub(crate) fn ends_sentence(word: &str) -> bool {
    let closing = ['"', '\'', '”', '’', '»', ')', ']', '」', '』', '）'];
    word.trim_end_matches(closing).ends_with(['.', '!', '?', '…', '。', '！', '？', '؟', '।'])
}

/// Whether anything of a text is spoken.
pub(crate) fn is_spoken(text: &str) -> bool {
    text.split_whitespace().any(|piece| Kind::of(piece) == Kind::Word)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Opening,
    Closing,
}

impl Kind {
    fn of(piece: &str) -> Self {
        if !piece.chars().all(|c| OPENING.contains(c) || CLOSING.contains(c)) {
            Self::Word
        } else if piece.chars().any(|c| CLOSING.contains(c) && !OPENING.contains(c)) {
            Self::Closing
        } else {
            Self::Opening
        }
    }
}

/// A piece without the space around it, if anything is left.
fn trim(text: &str, piece: Range<usize>) -> Option<Range<usize>> {
    let inner = text.get(piece.clone())?;
    let start = piece.start + (inner.len() - inner.trim_start().len());
    let end = start + inner.trim().len();
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, is_unspaced: bool) -> Vec<&str> {
        split(text, is_unspaced).into_iter().map(|word| &text[word]).collect()
    }

    #[test]
    fn words_lie_between_spaces() {
        assert_eq!(
            words("  Well-known, l'été:\u{a0}12,5 % & \"so\"  on. ", false),
            ["Well-known,", "l'été:", "12,5", "%", "&", "\"so\"", "on."]
        );
    }

    #[test]
    fn lonely_marks_go_with_a_word() {
        assert_eq!(
            words("- Yes . - No ... ( maybe )", false),
            ["- Yes .", "- No ...", "( maybe )"]
        );
        assert_eq!(words("... so -", false), ["... so -"]);
        assert_eq!(words(" — ", false), ["—"]);
        assert_eq!(words("♪ la ♪", false), ["♪", "la", "♪"]);
        assert!(words(" \n ", false).is_empty());
    }

    #[test]
    fn unspaced_text_is_cut_by_unicode() {
        assert_eq!(
            words("今日は、「カメラ」です。", true),
            ["今", "日", "は、", "「カメラ」", "で", "す。"]
        );
    }

    #[test]
    fn words_cover_all_that_is_no_space() {
        for text in ["a b", "-", "( ) x ( )", "¿ que ? «x» .", "\u{2009}a\u{3000}b", ". . ."] {
            for is_unspaced in [false, true] {
                let found = split(text, is_unspaced);
                let covered: usize = found
                    .iter()
                    .map(|word| text[word.clone()].split_whitespace().map(str::len).sum::<usize>())
                    .sum();
                assert_eq!(
                    covered,
                    text.split_whitespace().map(str::len).sum::<usize>(),
                    "{text:?} {found:?}"
                );
                assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
            }
        }
    }
}
