//! Speakers for words and segments, from the turns that were found.
//!
//! A word goes to the speaker whose exclusive turns (one speaker at a time) share most time with it,
//! else to the speaker of any turn that does, else to the nearest turn within a second, else to the
//! speaker of the word before. Sentences are rarely shared: a run of a few words amid the same
//! sentence of somebody else ([`MAX_ISLAND_WORDS`], [`MAX_ISLAND_SECONDS`]) goes to that somebody.
//! Segments are then split where the speaker changes. Segments without words take the speaker that
//! speaks most in them.

use crate::timeline::Turn;
use crate::transcript::{Segment, SpeakerId, Word};

/// Farther than this from any turn a word belongs to nobody in particular.
const MAX_DISTANCE: f64 = 1.0;
/// An island has at most so many words.
const MAX_ISLAND_WORDS: usize = 2;
/// An island lasts at most so long.
const MAX_ISLAND_SECONDS: f64 = 0.8;

/// Turns are looked up in pieces of at most this length, so that few have to be looked at.
const PIECE_SECONDS: f64 = 30.0;

/// Turns of a recording, to be looked up by time.
struct Turns {
    /// One speaker at a time.
    exclusive: Vec<Turn>,
    /// All of them, overlaps included.
    all: Vec<Turn>,
}

/// Gives every word and segment its speaker, and splits segments where it changes. `exclusive` are
/// turns of one speaker at a time, `all` those with overlaps.
pub(crate) fn assign(segments: Vec<Segment>, exclusive: &[Turn], all: &[Turn]) -> Vec<Segment> {
    let turns = &Turns { exclusive: pieces(exclusive), all: pieces(all) };
    let mut out = Vec::with_capacity(segments.len());
    let mut last: Option<SpeakerId> = None;
    for mut segment in segments {
        if segment.words.is_empty() {
            segment.speaker = speaker_of(turns, segment.start, segment.end).or(last.clone());
            last.clone_from(&segment.speaker);
            out.push(segment);
            continue;
        }
        for word in &mut segment.words {
            word.speaker = speaker_of(turns, word.start, word.end).or(last.clone());
            last.clone_from(&word.speaker);
        }
        smooth(&mut segment.words);
        last = segment.words.last().and_then(|word| word.speaker.clone());
        split(segment, &mut out);
    }
    fill_start(&mut out);
    out
}

/// The same turns in pieces of at most [`PIECE_SECONDS`], in order of start.
fn pieces(turns: &[Turn]) -> Vec<Turn> {
    let mut pieces = Vec::new();
    for turn in turns {
        let mut start = turn.start;
        while turn.end - start > PIECE_SECONDS {
            let end = start + PIECE_SECONDS;
            pieces.push(Turn { start, end, speaker: turn.speaker.clone() });
            start = end;
        }
        pieces.push(Turn { start, ..turn.clone() });
    }
    pieces.sort_by(|a, b| a.start.total_cmp(&b.start));
    pieces
}

/// What is said before the first turn is said by the first speaker.
fn fill_start(segments: &mut [Segment]) {
    let Some(first) = segments.iter().find_map(|segment| segment.speaker.clone()) else { return };
    for segment in segments.iter_mut().take_while(|segment| segment.speaker.is_none()) {
        segment.speaker = Some(first.clone());
        for word in &mut segment.words {
            word.speaker.get_or_insert_with(|| first.clone());
        }
    }
}

/// Who speaks from `start` to `end`.
fn speaker_of(turns: &Turns, start: f64, end: f64) -> Option<SpeakerId> {
    most_shared(&turns.exclusive, start, end)
        .or_else(|| most_shared(&turns.all, start, end))
        .or_else(|| nearest(&turns.all, start, end))
}

/// The speaker whose turns share most time with a stretch, the earlier one of equals.
fn most_shared(turns: &[Turn], start: f64, end: f64) -> Option<SpeakerId> {
    // A word without length lies in a turn, too.
    let end = end.max(start + 1e-3);
    let mut shares: Vec<(&SpeakerId, f64)> = Vec::new();
    for turn in overlapping(turns, start, end) {
        let share = turn.end.min(end) - turn.start.max(start);
        if share > 0.0 {
            match shares.iter_mut().find(|(speaker, _)| **speaker == turn.speaker) {
                Some((_, sum)) => *sum += share,
                None => shares.push((&turn.speaker, share)),
            }
        }
    }
    let mut best: Option<(&SpeakerId, f64)> = None;
    for (speaker, share) in shares {
        if best.is_none_or(|(_, most)| share > most) {
            best = Some((speaker, share));
        }
    }
    best.map(|(speaker, _)| speaker.clone())
}

/// Turns that reach into a stretch, among pieces in order of start.
fn overlapping(turns: &[Turn], start: f64, end: f64) -> impl Iterator<Item = &Turn> {
    let first = turns.partition_point(|turn| turn.start < start - PIECE_SECONDS - 1e-6);
    let last = turns.partition_point(|turn| turn.start < end);
    turns[first.min(last)..last].iter().filter(move |turn| turn.end > start)
}

/// The speaker of the nearest turn, if one is near.
fn nearest(turns: &[Turn], start: f64, end: f64) -> Option<SpeakerId> {
    let distance = |turn: &Turn| (turn.start - end).max(start - turn.end).max(0.0);
    let near = overlapping(turns, start - MAX_DISTANCE, end + MAX_DISTANCE);
    let nearest = near.min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.filter(|turn| distance(turn) <= MAX_DISTANCE).map(|turn| turn.speaker.clone())
}

/// Gives islands inside a sentence to whoever speaks around them.
fn smooth(words: &mut [Word]) {
    let mut from = 0;
    while from < words.len() {
        let run = words[from..].iter().take_while(|word| word.speaker == words[from].speaker);
        let to = from + run.count();
        if from > 0 && to < words.len() && is_island(words, from, to) {
            let around = words[from - 1].speaker.clone();
            words[from..to].iter_mut().for_each(|word| word.speaker.clone_from(&around));
        }
        from = to;
    }
}

/// Whether a run of words is short, has one speaker around it and no end of a sentence beside it.
fn is_island(words: &[Word], from: usize, to: usize) -> bool {
    let ends_sentence = |word: &Word| word.text.ends_with(['.', '!', '?', '。', '！', '？', '…']);
    to - from <= MAX_ISLAND_WORDS
        && words[to - 1].end - words[from].start <= MAX_ISLAND_SECONDS
        && words[from - 1].speaker == words[to].speaker
        && !ends_sentence(&words[from - 1])
        && !ends_sentence(&words[to - 1])
}

/// Splits a segment into one for each run of words of one speaker.
fn split(segment: Segment, out: &mut Vec<Segment>) {
    let is_one = segment.words.windows(2).all(|pair| pair[0].speaker == pair[1].speaker);
    if is_one {
        let speaker = segment.words.first().and_then(|word| word.speaker.clone());
        return out.push(Segment { speaker, ..segment });
    }
    // The text between words (spaces, or none) is the segment's own.
    let mut rest = segment.text.as_str();
    let (start, end) = (segment.start, segment.end);
    let runs: Vec<&[Word]> = segment.words.chunk_by(|a, b| a.speaker == b.speaker).collect();
    for (index, run) in runs.iter().enumerate() {
        let mut text = String::new();
        for word in *run {
            let until = rest.find(word.text.as_str()).map_or(0, |at| at + word.text.len());
            if until == 0 {
                text.push(' ');
                text.push_str(&word.text);
            } else {
                text.push_str(&rest[..until]);
                rest = &rest[until..];
            }
        }
        let is_last = index + 1 == runs.len();
        if is_last {
            text.push_str(rest);
        }
        let from = if index == 0 { start } else { run[0].start };
        let to = if is_last { end } else { run[run.len() - 1].end };
        let mut part = Segment::new(from, to, text.trim());
        part.words = run.to_vec();
        part.speaker.clone_from(&run[0].speaker);
        part.language = segment.language;
        part.decoding.clone_from(&segment.decoding);
        out.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(start: f64, end: f64, speaker: &str) -> Turn {
        Turn { start, end, speaker: SpeakerId(speaker.to_owned()) }
    }

    /// A segment of words of half a second each.
    fn segment(text: &str, start: f64) -> Segment {
        let words: Vec<Word> = text
            .split_whitespace()
            .enumerate()
            .map(|(at, word)| {
                Word::new(start + at as f64 / 2.0, start + at as f64 / 2.0 + 0.5, word)
            })
            .collect();
        let mut segment = Segment::new(start, start + words.len() as f64 / 2.0, text);
        segment.words = words;
        segment
    }

    fn lines(segments: Vec<Segment>, exclusive: &[Turn]) -> Vec<String> {
        let assigned = assign(segments, exclusive, exclusive);
        for segment in &assigned {
            assert!(segment.words.iter().all(|word| word.speaker == segment.speaker));
        }
        let name = |speaker: &Option<SpeakerId>| {
            speaker.as_ref().map_or("nobody".to_owned(), ToString::to_string)
        };
        assigned
            .iter()
            .map(|s| format!("{} {}-{} {}", name(&s.speaker), s.start, s.end, s.text))
            .collect()
    }

    #[test]
    fn a_segment_is_split_where_the_speaker_changes() {
        let turns = [turn(0.0, 1.1, "A"), turn(1.1, 3.0, "B")];
        assert_eq!(
            lines(vec![segment("How are you? Fine, thanks.", 0.0)], &turns),
            ["A 0-1 How are", "B 1-2.5 you? Fine, thanks."]
        );
    }

    #[test]
    fn an_island_in_a_sentence_is_smoothed_and_an_answer_is_not() {
        let turns = [turn(0.0, 1.0, "A"), turn(1.0, 1.5, "B"), turn(1.5, 9.0, "A")];
        assert_eq!(
            lines(vec![segment("we went to the sea", 0.0)], &turns),
            ["A 0-2.5 we went to the sea"]
        );
        assert_eq!(
            lines(vec![segment("you know? Yes. we went", 0.0)], &turns),
            ["A 0-1 you know?", "B 1-1.5 Yes.", "A 1.5-2.5 we went"]
        );
    }

    #[test]
    fn words_off_the_turns_go_to_the_nearest_then_to_who_spoke_last() {
        let turns = [turn(2.0, 3.0, "A"), turn(20.0, 21.0, "B")];
        assert_eq!(
            lines(vec![segment("hm", 0.0), segment("so", 3.5), segment("well", 9.0)], &turns),
            ["A 0-0.5 hm", "A 3.5-4 so", "A 9-9.5 well"]
        );
        assert_eq!(lines(vec![segment("hm", 0.0)], &[]), ["nobody 0-0.5 hm"]);
    }

    #[test]
    fn the_exclusive_turn_counts_before_an_overlapping_one() {
        let exclusive = [turn(0.0, 4.0, "A")];
        let all = [turn(0.0, 4.0, "A"), turn(0.9, 1.6, "B"), turn(4.0, 5.0, "B")];
        let found = assign(vec![segment("a b c", 0.5), segment("d", 4.2)], &exclusive, &all);
        let speakers: Vec<String> =
            found.iter().map(|s| s.speaker.as_ref().unwrap().to_string()).collect();
        assert_eq!(speakers, ["A", "B"]);
    }

    #[test]
    fn a_segment_without_words_goes_to_who_speaks_most_in_it() {
        let turns = [turn(0.0, 1.0, "A"), turn(1.0, 5.0, "B")];
        assert_eq!(lines(vec![Segment::new(0.0, 4.0, "x")], &turns), ["B 0-4 x"]);
    }

    #[test]
    fn a_word_in_the_midst_of_a_long_turn_belongs_to_it() {
        let turns = [turn(0.0, 5000.0, "A"), turn(5000.0, 5001.0, "B")];
        assert_eq!(lines(vec![segment("so", 2500.0)], &turns), ["A 2500-2500.5 so"]);
    }

    #[test]
    fn unspaced_text_is_split_as_it_is_written() {
        let mut segment = Segment::new(0.0, 2.0, "你好吗好");
        segment.words = ["你", "好", "吗", "好"]
            .iter()
            .enumerate()
            .map(|(at, text)| Word::new(at as f64 / 2.0, at as f64 / 2.0 + 0.5, *text))
            .collect();
        let turns = [turn(0.0, 1.0, "A"), turn(1.0, 2.0, "B")];
        assert_eq!(lines(vec![segment], &turns), ["A 0-1 你好", "B 1-2 吗好"]);
    }
}
