//! Segments become cues: what is on the screen at one time.
//!
//! A segment is one cue unless it changes its speaker or [`CueOptions::max_lines`] says how much
//! fits; then it is cut where sentences or clauses end, or the speaker pauses. Every character has
//! a time: inside a word that has times, in proportion to its width; elsewhere likewise between the
//! neighbouring words, or the ends of the segment. A cue lasts from its first character to its
//! last, and never into the next one.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::clock::milliseconds;
use super::layout::{self, Atom, Pause};
use crate::transcript::{Segment, SpeakerId, Word};

/// The width of lines where only their number is given, as most style guides for subtitles have it.
const USUAL_LINE_CHARS: usize = 42;
/// Where nobody speaks for as long as this, a cue ends when cues are cut at all.
const LONG_PAUSE_SECONDS: f64 = 2.0;
/// How far behind the last word the next one is searched for.
const SEARCH_BYTES: usize = 256;
/// A pause that is as good a place to stop at as a comma.
const SHORT_PAUSE_SECONDS: f64 = 0.4;

/// How segments are cut into cues and cues into lines.
///
/// ```
/// use echo_core::formats::{CueOptions, OutputFormat};
///
/// let mut cues = CueOptions::default();
/// cues.max_line_chars = Some(42);
/// cues.max_lines = Some(2);
/// let writer = OutputFormat::Vtt.writer_with(cues);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CueOptions {
    /// The longest line, in columns: a Chinese, Japanese or Korean character takes two. `None` (the
    /// default) leaves a cue on one line, or takes 42 if there is a `max_lines`. A speaker's name in
    /// front comes on top of it.
    pub max_line_chars: Option<usize>,
    /// The most lines of a cue: a longer segment is cut into several cues. `None` (the default)
    /// keeps one cue a segment, however many lines that makes.
    pub max_lines: Option<usize>,
    /// Repeat a cue for each of its words that has times, the word underlined. Default false.
    pub highlight_words: bool,
    /// A cue that would have to be read faster stays longer, as far as the next one lets it. Subtitles
    /// for adults have 15 to 20. `None` (the default) lets cues end with their words.
    pub max_chars_per_second: Option<usize>,
    /// A cue stays until the next one where the gap between them is at most this, in milliseconds.
    /// Default 0.
    pub close_gaps_ms: u64,
}

impl CueOptions {
    pub(super) fn most_columns(&self) -> usize {
        let usual = if self.max_lines.is_some() { USUAL_LINE_CHARS } else { usize::MAX };
        self.max_line_chars.unwrap_or(usual).max(1)
    }
}

/// One subtitle on screen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cue<'a> {
    /// Milliseconds.
    pub(super) start: u64,
    /// Milliseconds, never before `start`.
    pub(super) end: u64,
    pub(super) speaker: Option<&'a SpeakerId>,
    pub(super) lines: Vec<Vec<Span<'a>>>,
}

/// A run of a line's text that belongs to one word, or to none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span<'a> {
    pub(super) text: String,
    pub(super) word: Option<&'a Word>,
}

impl<'a> Cue<'a> {
    /// What is shown when: all of the time without a highlighted word, or each word in its turn and
    /// nothing highlighted in between.
    pub(super) fn frames(&self, highlight_words: bool) -> Vec<(u64, u64, Option<&'a Word>)> {
        let mut frames = Vec::new();
        let mut now = self.start;
        if highlight_words {
            let mut words: Vec<&Word> =
                self.lines.iter().flatten().filter_map(|span| span.word).collect();
            words.dedup_by(|a, b| std::ptr::eq(*a, *b));
            for word in words {
                let start = milliseconds(word.start).max(now).min(self.end);
                let end = milliseconds(word.end).max(start).min(self.end);
                if start > now {
                    frames.push((now, start, None));
                }
                if end > start {
                    frames.push((start, end, Some(word)));
                }
                now = end;
            }
        }
        if now < self.end || frames.is_empty() {
            frames.push((now, self.end, None));
        }
        frames
    }

    /// The cue's lines, each span as `show` writes it.
    pub(super) fn render(&self, mut show: impl FnMut(&Span<'a>) -> String) -> String {
        let lines: Vec<String> =
            self.lines.iter().map(|line| line.iter().map(&mut show).collect()).collect();
        lines.join("\n")
    }
}

/// Text on one line: runs of white space and control characters become one space.
pub(super) fn tidy(text: &str) -> Cow<'_, str> {
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let is_tidy = !text.starts_with(is_gap)
        && !text.ends_with(is_gap)
        && !text.contains("  ")
        && !text.contains(|c| is_gap(c) && c != ' ');
    if is_tidy {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split(is_gap).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
}

/// The cues of one segment; none if it has no text.
pub(super) fn cues<'a>(segment: &'a Segment, options: &CueOptions) -> Vec<Cue<'a>> {
    let text = tidy(&segment.text);
    if text.is_empty() {
        return Vec::new();
    }
    let placed = place_words(&text, &segment.words);
    let times = character_times(&text, segment, &placed);
    let columns = options.most_columns();
    let word_ends: Vec<usize> = placed.iter().map(|(bytes, _)| bytes.end).collect();
    let mut atoms = layout::atoms(&text, columns, &word_ends);
    let speakers: Vec<Option<&SpeakerId>> =
        atoms.iter().map(|atom| speaker_at(atom, &placed).or(segment.speaker.as_ref())).collect();

    let mut cuts = vec![0];
    for at in 1..atoms.len() {
        let pause = times.start(&atoms[at]) - times.end(&atoms[at - 1]);
        if pause >= SHORT_PAUSE_SECONDS {
            atoms[at - 1].pause = atoms[at - 1].pause.max(Pause::Clause);
        }
        let is_long = options.max_lines.is_some() && pause >= LONG_PAUSE_SECONDS;
        if is_long || speakers[at] != speakers[at - 1] {
            cuts.push(at);
        }
    }
    cuts.push(atoms.len());

    let mut cues: Vec<Cue<'a>> = Vec::new();
    for stretch in cuts.windows(2) {
        let stretch = stretch[0]..stretch[1];
        let parts = match options.max_lines {
            Some(most) => layout::cues(&atoms[stretch.clone()], columns, most.max(1)),
            None => std::iter::once(0..stretch.len()).collect(),
        };
        for part in parts {
            let part = stretch.start + part.start..stretch.start + part.end;
            let is_last = part.end == atoms.len();
            let start =
                if part.start == 0 { segment.start } else { times.start(&atoms[part.start]) };
            let end = if is_last { segment.end } else { times.end(&atoms[part.end - 1]) };
            let floor = cues.last().map_or(0, |cue| cue.start);
            let start = milliseconds(start).max(floor);
            if let Some(last) = cues.last_mut() {
                last.end = last.end.min(start).max(last.start);
            }
            cues.push(Cue {
                start,
                end: milliseconds(end).max(start),
                speaker: speakers[part.start],
                lines: layout::lines(&atoms[part.clone()], columns)
                    .into_iter()
                    .map(|line| spans(&text, &atoms[part.clone()][line], &placed))
                    .collect(),
            });
        }
    }
    cues
}

/// Words found in the text, in order: which bytes each one covers.
type Placed<'a> = Vec<(Range<usize>, &'a Word)>;

/// Finds each word after the last one. What lies between two words must hold no letter or digit: a
/// word that the text does not have is left out rather than searched for behind others.
fn place_words<'a>(text: &str, words: &'a [Word]) -> Placed<'a> {
    let mut placed = Vec::new();
    let mut cursor = 0;
    let mut missed = 0;
    for word in words {
        let wanted = tidy(&word.text);
        let mut near = (cursor + wanted.len() + SEARCH_BYTES).min(text.len());
        while !text.is_char_boundary(near) {
            near -= 1;
        }
        let rest = &text[cursor..near];
        let found = rest.find(&*wanted).filter(|_| !wanted.is_empty());
        // Past words that were missed, as many words of the text may be passed over.
        let reach =
            |at: &usize| rest[..*at].split(' ').filter(|w| has_letters(w)).count() <= missed;
        match found.filter(reach) {
            Some(at) => {
                placed.push((cursor + at..cursor + at + wanted.len(), word));
                cursor += at + wanted.len();
                missed = 0;
            }
            None => missed += 1,
        }
    }
    placed
}

fn has_letters(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// When each character begins and ends.
struct CharacterTimes {
    /// First byte, start and end in seconds, in order.
    characters: Vec<(usize, f64, f64)>,
}

impl CharacterTimes {
    fn start(&self, atom: &Atom) -> f64 {
        let at = self.characters.partition_point(|(byte, ..)| *byte < atom.bytes.start);
        self.characters.get(at).map_or(0.0, |character| character.1)
    }

    fn end(&self, atom: &Atom) -> f64 {
        let at = self.characters.partition_point(|(byte, ..)| *byte < atom.bytes.end);
        at.checked_sub(1).and_then(|at| self.characters.get(at)).map_or(0.0, |last| last.2)
    }

    /// Shares `start..end` out among the characters of `bytes` by their width.
    fn share(&mut self, text: &str, bytes: Range<usize>, start: f64, end: f64) {
        let columns = |glyph: &str| if glyph == " " { 0 } else { glyph.width() };
        let piece = &text[bytes.clone()];
        let all: usize = piece.graphemes(true).map(columns).sum();
        let mut passed = 0;
        for (at, glyph) in piece.grapheme_indices(true) {
            let at_column =
                |column: usize| start + (end - start) * column as f64 / all.max(1) as f64;
            let from = at_column(passed);
            passed += columns(glyph);
            self.characters.push((bytes.start + at, from, at_column(passed)));
        }
    }
}

fn character_times(text: &str, segment: &Segment, placed: &Placed<'_>) -> CharacterTimes {
    let mut times = CharacterTimes { characters: Vec::new() };
    let (mut byte, mut now) = (0, segment.start);
    for (bytes, word) in placed {
        let between = &text[byte..bytes.start];
        if has_letters(between) {
            // Words without times take what there is.
            times.share(text, byte..bytes.start, now, word.start.max(now));
        } else {
            // Marks take no time of their own: they go with the word that they touch.
            let touches_next = byte + between.rfind(' ').unwrap_or(between.len());
            times.share(text, byte..touches_next, now, now);
            times.share(text, touches_next..bytes.start, word.start, word.start);
        }
        times.share(text, bytes.clone(), word.start, word.end);
        (byte, now) = (bytes.end, word.end);
    }
    let rest = byte..text.len();
    let until = if has_letters(&text[rest.clone()]) { segment.end.max(now) } else { now };
    times.share(text, rest, now, until);
    times
}

fn speaker_at<'a>(atom: &Atom, placed: &Placed<'a>) -> Option<&'a SpeakerId> {
    let at = placed.partition_point(|(bytes, _)| bytes.end <= atom.bytes.start);
    // A mark between two words goes with the one before it.
    let inside = placed.get(at).filter(|(bytes, _)| bytes.start < atom.bytes.end);
    let (_, word) = inside.or_else(|| placed.get(at.checked_sub(1)?)).or(placed.first())?;
    word.speaker.as_ref()
}

/// The text of a line, in runs of one word each.
fn spans<'a>(text: &str, atoms: &[Atom], placed: &Placed<'a>) -> Vec<Span<'a>> {
    let (Some(first), Some(last)) = (atoms.first(), atoms.last()) else { return Vec::new() };
    let line = first.bytes.start..last.bytes.end;
    let mut spans = Vec::new();
    let mut byte = line.start;
    let from = placed.partition_point(|(bytes, _)| bytes.end <= line.start);
    for (bytes, word) in placed.get(from..).unwrap_or_default() {
        let (start, end) = (bytes.start.max(line.start), bytes.end.min(line.end));
        if start >= end {
            break;
        }
        if byte < start {
            spans.push(Span { text: text[byte..start].into(), word: None });
        }
        spans.push(Span { text: text[start..end].into(), word: Some(word) });
        byte = end;
    }
    if byte < line.end {
        spans.push(Span { text: text[byte..line.end].into(), word: None });
    }
    spans
}
