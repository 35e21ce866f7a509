//! Times for words that have none, and order for all of them.
//!
//! Whatever found the words of a segment may have left some out: those get what time lies between
//! their neighbours, shared out by their letters. Afterwards every word of the text is there, starts
//! no later than it ends, lies inside its segment, and overlaps no other word.

use std::ops::Range;

use crate::language::Language;
use crate::transcript::{Segment, Timing, Word};
use crate::words;

/// No word is said in less, in seconds.
const MIN_WORD_SECONDS: f64 = 0.06;

/// How far behind the last word the next one is searched for, in bytes.
const SEARCH_BYTES: usize = 256;

/// Completes the words of segments, in order of time, that begin after `floor` seconds; the result
/// is where the last word ends. Segments are in `language` unless they say otherwise.
pub(crate) fn complete(segments: &mut [Segment], language: Language, floor: f64) -> f64 {
    segments.iter_mut().fold(floor, |floor, segment| {
        fill_in(segment, segment.language.unwrap_or(language).is_unspaced());
        settle(segment, floor);
        give_time(&mut segment.words);
        segment.words.last().map_or(floor, |word| word.end.max(floor))
    })
}

/// Adds the words of the text that are missing, without times: from one known word's end to the next
/// one's start.
fn fill_in(segment: &mut Segment, is_unspaced: bool) {
    let known = std::mem::take(&mut segment.words);
    let text = &segment.text;
    let mut all = Vec::with_capacity(known.len());
    let (mut byte, mut now) = (0, segment.start);
    for word in known {
        if !(word.start.is_finite() && word.end.is_finite()) {
            continue;
        }
        let Some(bytes) = find(text, byte, &word.text) else { continue };
        // Marks that stand alone between two words are no words.
        if words::is_spoken(&text[byte..bytes.start]) {
            share(text, byte..bytes.start, is_unspaced, now..word.start, &mut all);
        }
        (byte, now) = (bytes.end, word.end);
        all.push(word);
    }
    if all.is_empty() || words::is_spoken(&text[byte..]) {
        share(text, byte..text.len(), is_unspaced, now..segment.end, &mut all);
    }
    segment.words = all;
}

/// Where a word stands in the text behind `from`.
fn find(text: &str, from: usize, word: &str) -> Option<Range<usize>> {
    if word.is_empty() {
        return None;
    }
    let mut near = text.len().min(from + word.len() + SEARCH_BYTES);
    while !text.is_char_boundary(near) {
        near -= 1;
    }
    let at = from + text.get(from..near)?.find(word)?;
    Some(at..at + word.len())
}

/// Adds the words of some bytes, which share the time between them by their letters.
fn share(
    text: &str,
    bytes: Range<usize>,
    is_unspaced: bool,
    time: Range<f64>,
    out: &mut Vec<Word>,
) {
    let part = &text[bytes];
    let found = words::split(part, is_unspaced);
    let letters = |word: &Range<usize>| {
        part[word.clone()].chars().filter(|c| c.is_alphanumeric()).count().max(1) as f64
    };
    let all: f64 = found.iter().map(letters).sum();
    let mut passed = 0.0;
    for word in found {
        let at = |letters: f64| time.start + (time.end - time.start).max(0.0) * letters / all;
        let start = at(passed);
        passed += letters(&word);
        let mut word = Word::new(start, at(passed), &part[word]);
        word.timing = Timing::Interpolated;
        out.push(word);
    }
}

/// Puts words in order, inside their segment and behind `floor`.
fn settle(segment: &mut Segment, floor: f64) {
    segment.start = segment.start.max(floor);
    segment.end = segment.end.max(segment.start);
    let mut floor = segment.start;
    for word in &mut segment.words {
        word.start = word.start.max(floor).min(segment.end);
        word.end = word.end.max(word.start).min(segment.end);
        floor = word.end;
    }
}

/// Gives words that take no time a little of a neighbour that can spare it: a path through attention
/// passes over short words at times.
fn give_time(words: &mut [Word]) {
    for index in (0..words.len()).rev() {
        let (before, rest) = words.split_at_mut(index);
        let Some((word, after)) = rest.split_first_mut() else { continue };
        if word.end - word.start >= MIN_WORD_SECONDS || word.timing == Timing::Aligned {
            continue;
        }
        let wanted = MIN_WORD_SECONDS - (word.end - word.start);
        let can_spare = |other: &Word| {
            other.end - other.start >= 2.0 * MIN_WORD_SECONDS && other.timing != Timing::Aligned
        };
        match (before.last_mut(), after.first_mut()) {
            (_, Some(after)) if after.start - word.end >= wanted => word.end += wanted,
            (_, Some(after)) if can_spare(after) => {
                word.end = (word.end + wanted).max(after.start);
                after.start = word.end;
            }
            (Some(before), _) if word.start - before.end >= wanted => word.start -= wanted,
            (Some(before), _) if can_spare(before) => {
                word.start = (word.start - wanted).min(before.end);
                before.end = word.start;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(start: f64, end: f64, text: &str) -> Word {
        let mut word = Word::new(start, end, text);
        word.timing = Timing::Attention;
        word
    }

    fn times(segment: &Segment) -> Vec<(&str, f64, f64)> {
        segment.words.iter().map(|word| (&*word.text, word.start, word.end)).collect()
    }

    fn completed(mut segment: Segment, words: &[Word], floor: f64) -> Segment {
        segment.words = words.to_vec();
        complete(std::slice::from_mut(&mut segment), Language::ENGLISH, floor);
        segment
    }

    #[test]
    fn without_any_times_words_share_the_segment_by_their_letters() {
        let segment = completed(Segment::new(1.0, 4.0, "ab, c - def"), &[], 0.0);
        assert_eq!(times(&segment), [("ab,", 1.0, 2.0), ("c", 2.0, 2.5), ("- def", 2.5, 4.0)]);
        assert!(segment.words.iter().all(|word| word.timing == Timing::Interpolated));
    }

    #[test]
    fn missing_words_lie_between_their_neighbours() {
        let known = [word(0.5, 1.0, "one"), word(3.0, 3.5, "four")];
        let segment = completed(Segment::new(0.0, 4.0, "one two six four five"), &known, 0.0);
        assert_eq!(
            times(&segment),
            [
                ("one", 0.5, 1.0),
                ("two", 1.0, 2.0),
                ("six", 2.0, 3.0),
                ("four", 3.0, 3.5),
                ("five", 3.5, 4.0)
            ]
        );
        assert_eq!(segment.words[0].timing, Timing::Attention);
        assert_eq!(segment.words[1].timing, Timing::Interpolated);
    }

    #[test]
    fn times_that_cross_are_put_in_order() {
        let known = [word(0.5, 3.0, "a"), word(2.0, 9.0, "b"), word(f64::NAN, f64::NAN, "c")];
        let segment = completed(Segment::new(1.0, 4.0, "a b c"), &known, 1.5);
        assert_eq!(times(&segment), [("a", 1.5, 3.0), ("b", 3.0, 3.94), ("c", 3.94, 4.0)]);
        assert_eq!(segment.start, 1.5);
    }

    #[test]
    fn a_word_that_the_text_does_not_have_is_dropped() {
        let known = [word(0.0, 1.0, "x"), word(1.0, 2.0, "b")];
        let segment = completed(Segment::new(0.0, 2.0, "a b"), &known, 0.0);
        assert_eq!(times(&segment), [("a", 0.0, 1.0), ("b", 1.0, 2.0)]);
    }

    #[test]
    fn a_word_of_no_time_gets_some_of_its_neighbour() {
        let known = [word(0.0, 0.0, "a"), word(0.0, 0.5, "b"), word(1.0, 1.0, "c")];
        let segment = completed(Segment::new(0.0, 1.0, "a b c"), &known, 0.0);
        assert_eq!(times(&segment), [("a", 0.0, 0.06), ("b", 0.06, 0.5), ("c", 0.94, 1.0)]);
        let known = [word(0.0, 0.1, "a"), word(0.1, 0.1, "b"), word(0.1, 0.2, "c")];
        let segment = completed(Segment::new(0.0, 0.2, "a b c"), &known, 0.0);
        assert_eq!(times(&segment)[1], ("b", 0.1, 0.1), "nobody can spare any");
    }

    #[test]
    fn any_segments_end_in_order() {
        // A small generator; the numbers only have to be odd.
        let mut state = 7_u64;
        let mut next = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for round in 0..500 {
            let mut segments = Vec::new();
            for _ in 0..next(4) {
                let texts = ["a b c d", "- a", "...", "", "今日は。", "a b a b a", "x ( y )"];
                let (start, end) = (next(100) as f64 / 10.0, next(100) as f64 / 10.0);
                let mut segment = Segment::new(start, end, texts[next(7) as usize]);
                for _ in 0..next(4) {
                    let text = ["a", "b", "d", "今", "y )"][next(5) as usize];
                    segment.words.push(word(
                        next(100) as f64 / 10.0,
                        next(100) as f64 / 10.0,
                        text,
                    ));
                }
                segments.push(segment);
            }
            let language = if round % 2 == 0 { "ja" } else { "en" };
            complete(&mut segments, language.parse().unwrap(), 0.0);
            let mut now = 0.0;
            for segment in &segments {
                assert!(segment.start <= segment.end);
                let spoken = segment.text.split_whitespace().any(words::is_spoken);
                assert!(!segment.words.is_empty() || !spoken, "{segment:?}");
                for word in &segment.words {
                    assert!(now <= word.start && word.start <= word.end, "{segment:?}");
                    assert!(segment.start <= word.start && word.end <= segment.end, "{segment:?}");
                    now = word.end;
                }
            }
        }
    }
}
