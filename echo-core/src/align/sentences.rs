//! Segments cut where sentences end.
//!
//! The recogniser's segments are as long as it pleased to write timestamps. Here neighbouring segments
//! are joined while a sentence goes on and cut where one ends, so that each segment is a sentence. Where
//! sentences end is told by Unicode's rules (UAX #29), which know no language; that `Mr.` and `z.B.`
//! end none is added. A sentence is not joined over a pause of two seconds, nor over a change of language
//! or speaker.

use unicode_segmentation::UnicodeSegmentation;

use crate::language::Language;
use crate::transcript::{Decoding, Segment, Word};

/// A pause that no sentence goes on after, in seconds.
const MAX_PAUSE: f64 = 2.0;

/// The longest sentence that is joined, in seconds: text without full stops must end somewhere.
const MAX_SECONDS: f64 = 30.0;

/// What ends with a full stop and no sentence, in lower case without the last stop.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "no", "nr", "e.g", "i.e", "etc",
    "z.b", "d.h", "u.a", "bzw", "ca", "usw", "hr", "fr", "str", "abs", "m", "mm", "mme", "mlle",
    "p.ex", "cf", "art", "ud", "uds", "ej", "p.ej", "sra", "srta", "dott", "ing", "sig", "approx",
    "gen", "col", "capt", "lt", "sgt", "rev", "hon", "gov", "sen", "rep", "u.s", "a.m", "p.m",
];

/// Cuts segments, in order and with words, into sentences.
pub(crate) fn cut(segments: Vec<Segment>, language: Language) -> Vec<Segment> {
    let mut sentences = Vec::with_capacity(segments.len());
    let mut open: Vec<Segment> = Vec::new();
    for segment in segments {
        let goes_on = open.last().is_some_and(|last| {
            segment.start - last.end < MAX_PAUSE
                && segment.language == last.language
                && segment.speaker == last.speaker
        });
        if !goes_on {
            cut_run(std::mem::take(&mut open), language, &mut sentences);
        }
        open.push(segment);
    }
    cut_run(open, language, &mut sentences);
    sentences
}

/// Cuts segments that belong together.
fn cut_run(segments: Vec<Segment>, language: Language, out: &mut Vec<Segment>) {
    let is_unspaced =
        segments.first().is_some_and(|segment| segment.language.unwrap_or(language).is_unspaced());
    let separator = if is_unspaced { "" } else { " " };
    let mut text = String::new();
    // Where each word lies in the joined text, and the segment it came from.
    let mut words: Vec<(usize, usize, usize)> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        if segment.words.is_empty() {
            // Without words there is nothing to cut by.
            out.extend(segments);
            return;
        }
        if !text.is_empty() {
            text.push_str(separator);
        }
        let start = text.len();
        text.push_str(segment.text.trim());
        let mut byte = start;
        for word in &segment.words {
            let at = text[byte..].find(&word.text).map_or(byte, |at| byte + at);
            byte = (at + word.text.len()).min(text.len());
            words.push((at, byte, index));
        }
    }
    let ends: Vec<usize> = text
        .split_sentence_bound_indices()
        .map(|(at, sentence)| at + sentence.len())
        .filter(|&end| !is_abbreviation(&text[..end]))
        .collect();
    let all: Vec<&Word> = segments.iter().flat_map(|segment| &segment.words).collect();
    let mut first = 0;
    for (at, &(_, end, _)) in words.iter().enumerate() {
        let ends_here = words.get(at + 1).is_none_or(|&(next, ..)| {
            ends.iter().any(|&bound| end <= bound && bound <= next)
                || all[at].end - all[first].start > MAX_SECONDS
        });
        if ends_here {
            let from = &segments[words[first].2];
            let until = words.get(at + 1).map_or(text.len(), |&(next, ..)| next);
            let sentence = text[words[first].0..until].trim();
            out.push(sentence_of(from, &all[first..=at], sentence));
            first = at + 1;
        }
    }
}

/// A sentence of some words, decoded as the segment that its first word is of.
fn sentence_of(from: &Segment, words: &[&Word], text: &str) -> Segment {
    let start = words.first().map_or(from.start, |word| word.start);
    let end = words.last().map_or(from.end, |word| word.end);
    let mut segment = Segment::new(start, end, text);
    segment.words = words.iter().map(|&word| word.clone()).collect();
    segment.speaker.clone_from(&from.speaker);
    segment.language = from.language;
    // Tokens are those of whole segments.
    let scores = |decoding: &Decoding| Decoding { tokens: Vec::new(), ..decoding.clone() };
    segment.decoding = from.decoding.as_ref().map(scores);
    segment
}

/// Whether a text ends with an abbreviation, an initial or the number of a thing in a row.
fn is_abbreviation(text: &str) -> bool {
    let Some(text) = text.trim_end().strip_suffix('.') else { return false };
    let word = text.rsplit(char::is_whitespace).next().unwrap_or(text);
    let word = word.trim_start_matches(['(', '"', '“', '„', '«']).to_lowercase();
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    let is_ordinal =
        word.len() <= 2 && !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    is_initial || is_ordinal || ABBREVIATIONS.contains(&&*word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::interpolate;

    fn segments(parts: &[(f64, f64, &str)]) -> Vec<Segment> {
        let mut segments: Vec<Segment> =
            parts.iter().map(|&(start, end, text)| Segment::new(start, end, text)).collect();
        interpolate::complete(&mut segments, Language::ENGLISH, 0.0);
        segments
    }

    fn texts(parts: &[(f64, f64, &str)]) -> Vec<String> {
        cut(segments(parts), Language::ENGLISH).into_iter().map(|segment| segment.text).collect()
    }

    #[test]
    fn sentences_are_joined_and_parted() {
        let parts =
            [(0.0, 2.0, "One two. Three"), (2.0, 4.0, "four five? Six!"), (4.5, 5.0, "Seven")];
        assert_eq!(texts(&parts), ["One two.", "Three four five?", "Six!", "Seven"]);
        let sentences = cut(segments(&parts), Language::ENGLISH);
        for sentence in &sentences {
            assert_eq!(sentence.start, sentence.words[0].start);
            assert_eq!(sentence.end, sentence.words.last().unwrap().end);
        }
        let n_words: usize = sentences.iter().map(|sentence| sentence.words.len()).sum();
        assert_eq!(n_words, 7);
    }

    #[test]
    fn abbreviations_and_initials_end_nothing() {
        let text = "Mr. Smith met J. R. Miller at 5 p.m. on the 3. floor, e.g. today. He left.";
        assert_eq!(
            texts(&[(0.0, 9.0, text)]),
            ["Mr. Smith met J. R. Miller at 5 p.m. on the 3. floor, e.g. today.", "He left."]
        );
    }

    #[test]
    fn a_long_pause_ends_a_sentence() {
        let parts = [(0.0, 1.0, "One two"), (3.5, 4.0, "three four.")];
        assert_eq!(texts(&parts), ["One two", "three four."]);
    }

    #[test]
    fn unspaced_sentences_are_cut_too() {
        let mut segments =
            vec![Segment::new(0.0, 4.0, "今日は。いい天気"), Segment::new(4.0, 5.0, "ですね。")];
        let japanese = "ja".parse().unwrap();
        interpolate::complete(&mut segments, japanese, 0.0);
        let texts: Vec<String> =
            cut(segments, japanese).into_iter().map(|segment| segment.text).collect();
        assert_eq!(texts, ["今日は。", "いい天気ですね。"]);
    }

    #[test]
    fn segments_without_words_stay() {
        let segments = vec![Segment::new(0.0, 1.0, "One. Two.")];
        assert_eq!(cut(segments.clone(), Language::ENGLISH), segments);
        assert!(cut(Vec::new(), Language::ENGLISH).is_empty());
    }
}
