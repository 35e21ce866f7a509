//! WebVTT, the subtitles of the web (W3C Candidate Recommendation, 4 April 2019).
//!
//! Written with hours always, `&`, `<` and `>` escaped as the specification asks, so that no text
//! can be taken for markup or a time line. Read with comments, styles, regions, names and settings
//! left out; `<v Name>` is the speaker, timestamps inside a cue are the times of its words.

use std::io::{self, Write};

use super::clock::{self, clock, milliseconds};
use super::cues::{Cue, tidy};
use super::reading::readable_cues;
use super::subtitles::{
    Grammar, RawCue, excerpt, numbered_lines, read_cues, segment, split_speaker,
};
use super::{CueOptions, Format, assemble, speaker_prefix, unreadable};
use crate::error::Result;
use crate::transcript::{Segment, SpeakerId, Transcript, Word};

/// WebVTT subtitles.
///
/// Without options each segment is one cue of one line. Words can be shown in two ways:
/// [`highlight_words`](Self::highlight_words) repeats the cue with one word underlined, which every
/// player shows and which WhisperX does; [`word_timestamps`](Self::word_timestamps) puts times
/// inside the cue, which browsers style by `::cue(:past)` and which is read back as words.
///
/// ```
/// use echo_core::{Transcript, formats::Vtt};
///
/// let transcript = Transcript::from_srt("1\n00:00:01,000 --> 00:00:03,000\nQ & A\n")?;
/// let mut out = Vec::new();
/// transcript.write(Vtt::default(), &mut out)?;
/// assert_eq!(out, b"WEBVTT\n\n00:00:01.000 --> 00:00:03.000\nQ &amp; A\n\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vtt {
    cues: CueOptions,
    has_word_timestamps: bool,
}

impl Vtt {
    /// A writer that cuts cues as told.
    pub fn new(cues: CueOptions) -> Self {
        Self { cues, has_word_timestamps: false }
    }

    /// Breaks lines at this many columns; see [`CueOptions::max_line_chars`].
    #[must_use]
    pub fn max_line_chars(mut self, columns: usize) -> Self {
        self.cues.max_line_chars = Some(columns);
        self
    }

    /// Cuts segments into cues of at most this many lines; see [`CueOptions::max_lines`].
    #[must_use]
    pub fn max_lines(mut self, lines: usize) -> Self {
        self.cues.max_lines = Some(lines);
        self
    }

    /// Underlines each word while it is said; see [`CueOptions::highlight_words`].
    #[must_use]
    pub fn highlight_words(mut self, yes: bool) -> Self {
        self.cues.highlight_words = yes;
        self
    }

    /// Writes `<00:00:01.000><c>word</c>` for words that have times. Default false.
    #[must_use]
    pub fn word_timestamps(mut self, yes: bool) -> Self {
        self.has_word_timestamps = yes;
        self
    }
}

impl Format for Vtt {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "WEBVTT\n\n")?;
        for cue in readable_cues(transcript, &self.cues) {
            let speaker = escape(&speaker_prefix(cue.speaker));
            if self.has_word_timestamps {
                let text = timed_text(&cue);
                write_cue(out, cue.start, cue.end, &format!("{speaker}{text}"))?;
                continue;
            }
            for (start, end, said) in cue.frames(self.cues.highlight_words) {
                let text = cue.render(|span| match (span.word, said) {
                    (Some(word), Some(said)) if std::ptr::eq(word, said) => {
                        format!("<u>{}</u>", escape(&span.text))
                    }
                    _ => escape(&span.text),
                });
                write_cue(out, start, end, &format!("{speaker}{text}"))?;
            }
        }
        Ok(())
    }
}

fn write_cue(out: &mut dyn Write, start: u64, end: u64, text: &str) -> io::Result<()> {
    // A cue that ends when it starts is dropped by the specification's parser.
    let (start, end) = (clock(start, '.'), clock(end.max(start.saturating_add(1)), '.'));
    write!(out, "{start} --> {end}\n{text}\n\n")
}

/// The cue's text with the time of each word in front of it. Times must rise within the cue, so a
/// word that starts with the cue or with the word before has none.
fn timed_text(cue: &Cue<'_>) -> String {
    let mut now = cue.start;
    cue.render(|span| {
        let text = escape(&span.text);
        let Some(word) = span.word else { return text };
        let start = milliseconds(word.start);
        if start > now && start < cue.end {
            now = start;
            return format!("<{}><c>{text}</c>", clock(start, '.'));
        }
        format!("<c>{text}</c>")
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Reads WebVTT.
pub(super) fn read(text: &str, origin: &str) -> Result<Transcript> {
    let mut lines = numbered_lines(text);
    let first = lines.next().map_or("", |(_, line)| line);
    if !first
        .strip_prefix("WEBVTT")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    {
        let reason = format!("line 1: {}, expected `WEBVTT`", excerpt(first));
        return Err(unreadable(origin, reason));
    }
    // The header goes on until a blank line; a cue may follow without one.
    let mut body = lines.clone();
    while let Some((_, line)) = lines.next() {
        if line.contains("-->") {
            break;
        }
        body = lines.clone();
        if line.trim().is_empty() {
            break;
        }
    }
    let mut segments = Vec::new();
    read_cues(body, origin, Grammar::Vtt, |cue| {
        let segment = segment_of(&cue);
        if !segment.text.is_empty() {
            segments.push(segment);
        }
    })?;
    Ok(assemble(segments))
}

/// Takes markup apart: plain text, words where there are timestamps, the voice.
fn segment_of(cue: &RawCue) -> Segment {
    let mut plain = String::with_capacity(cue.payload.len());
    let mut voice = None;
    // Where in `plain` each timestamp stands; the cue's start stands in front.
    let mut stamps = vec![(0, cue.start)];
    let mut rest = cue.payload.as_str();
    while let Some(at) = rest.find(['<', '&']) {
        plain.push_str(&rest[..at]);
        let is_tag = rest[at..].starts_with('<');
        rest = &rest[at + 1..];
        if !is_tag {
            let (character, used) = character_reference(rest);
            plain.push(character);
            rest = &rest[used..];
            continue;
        }
        let Some(end) = rest.find(['<', '>']).filter(|&end| rest[end..].starts_with('>')) else {
            plain.push('<');
            continue;
        };
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(time) = clock::parse(tag) {
            stamps.push((plain.len(), time));
        } else if let Some((kind, name)) = tag.split_once(char::is_whitespace)
            && (kind == "v" || kind.starts_with("v."))
        {
            voice = voice.or(Some(unescape(&tidy(name))));
        }
    }
    plain.push_str(rest);

    let mut segment = segment(cue.start, cue.end, &plain);
    let voice = voice.filter(|voice| !voice.is_empty()).map(SpeakerId);
    segment.speaker = segment.speaker.or(voice);
    if stamps.len() > 1 {
        segment.words = words(&plain, &stamps, &segment);
    }
    segment
}

/// The words between timestamps; several words between two share the time by their length.
fn words(plain: &str, stamps: &[(usize, f64)], segment: &Segment) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let ends = stamps.iter().skip(1).copied().chain([(plain.len(), segment.end)]);
    for (&(from, start), (to, end)) in stamps.iter().zip(ends) {
        let earliest = words.last().map_or(segment.start, |word| word.end);
        let start = start.clamp(earliest, segment.end.max(earliest));
        let end = end.clamp(start, segment.end.max(start));
        let mut piece = plain[from..to].trim();
        if from == 0 {
            piece = split_speaker(piece).1;
        }
        let length: usize = piece.split_whitespace().map(str::len).sum();
        let mut passed = 0;
        for text in piece.split_whitespace() {
            let at = |bytes: usize| start + (end - start) * bytes as f64 / length as f64;
            words.push(Word::new(at(passed), at(passed + text.len()), text));
            passed += text.len();
        }
    }
    words
}

/// The character that `&name;` stands for and how many bytes after the `&` that takes; the `&`
/// itself if it stands for none.
fn character_reference(after: &str) -> (char, usize) {
    let name = after.bytes().take(10).position(|byte| byte == b';').map(|end| &after[..end]);
    let character = name.and_then(|name| match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        "lrm" => Some('\u{200e}'),
        "rlm" => Some('\u{200f}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32)
        }
    });
    match (character, name) {
        (Some(character), Some(name)) => (character, name.len() + 1),
        _ => ('&', 0),
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        let (character, used) = character_reference(&rest[at + 1..]);
        plain.push(character);
        rest = &rest[at + 1 + used..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(vtt: &str) -> String {
        let text = read(vtt, "test").unwrap_err().to_string();
        text.strip_prefix("cannot read a transcript from test: ").unwrap().to_string()
    }

    #[test]
    fn everything_that_is_not_shown_is_left_out() {
        let vtt = "WEBVTT - a title\nKind: captions\n\nNOTE\na comment\n\nSTYLE\n::cue { color: red }\n\n\
                   REGION\nid:one\n\nintro\n00:01.000 --> 00:02.000 align:start line:0%\n\
                   <v.loud Anna &amp; Bo><i.x>Hi</i> &lt;there&gt;&nbsp;&#33;\n\nNOTE inline\n\n\
                   01:00:00.000 --> 01:00:01.000\nplain & <b>bold</b>\n";
        let transcript = read(vtt, "test").unwrap();
        assert_eq!(transcript.segments.len(), 2);
        assert_eq!(transcript.segments[0].text, "Hi <there> !");
        assert_eq!(transcript.speakers, [SpeakerId("Anna & Bo".into())]);
        assert_eq!(transcript.segments[1].text, "plain & bold");
        assert_eq!(transcript.segments[1].start, 3600.0);
    }

    #[test]
    fn timestamps_inside_a_cue_are_its_words_times() {
        let vtt = "WEBVTT\n\n00:01.000 --> 00:04.000\n<c>One</c> <00:02.000><c>two</c> <00:03.000>six ten\n";
        let transcript = read(vtt, "test").unwrap();
        let words: Vec<(f64, f64, &str)> =
            transcript.words().map(|w| (w.start, w.end, w.text.as_str())).collect();
        assert_eq!(
            words,
            [(1.0, 2.0, "One"), (2.0, 3.0, "two"), (3.0, 3.5, "six"), (3.5, 4.0, "ten")]
        );
        assert_eq!(transcript.segments[0].text, "One two six ten");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        assert_eq!(reason("WEBVTTX\n"), "line 1: found `WEBVTTX`, expected `WEBVTT`");
        assert_eq!(
            reason("WEBVTT\n\n00:01.000 --> soon\nHi\n"),
            "line 3: found `00:01.000 --> soon`, expected a time line such as \
             `00:00:01.000 --> 00:00:02.000`"
        );
        assert!(read("WEBVTT", "test").unwrap().segments.is_empty());
    }

    #[test]
    fn unknown_references_and_open_tags_stay_as_they_are() {
        let vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nR&D &unknown; &#xd800; a < b\n";
        let transcript = read(vtt, "test").unwrap();
        assert_eq!(transcript.segments[0].text, "R&D &unknown; &#xd800; a < b");
    }
}
