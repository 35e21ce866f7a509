//! SubRip: numbered cues, `00:00:01,000 --> 00:00:02,500`, text, a blank line.
//!
//! There is no specification; this writes what every player takes (hours always, a comma, line
//! feeds) and reads what programs write: points for commas, hours missing, numbers missing or wrong,
//! coordinates after the times, HTML-like and `{\an8}` styling, blank lines inside a cue.

use std::io::{self, Write};

use super::clock::clock;
use super::reading::readable_cues;
use super::subtitles::{Grammar, numbered_lines, read_cues, segment};
use super::{CueOptions, Format, assemble, speaker_prefix};
use crate::error::Result;
use crate::transcript::Transcript;

/// SubRip subtitles.
///
/// Without options each segment is one cue of one line. `-->`, which would end a cue's text, is
/// written `->`. A highlighted word is underlined by `<u>`, as WhisperX does.
///
/// ```
/// use echo_core::{Transcript, formats::Srt};
///
/// let transcript = Transcript::from_vtt("WEBVTT\n\n00:01.000 --> 00:03.000\nGood morning, all.\n")?;
/// let mut out = Vec::new();
/// transcript.write(Srt::default().max_line_chars(14).max_lines(2), &mut out)?;
/// assert_eq!(out, b"1\n00:00:01,000 --> 00:00:03,000\nGood morning,\nall.\n\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Srt {
    cues: CueOptions,
}

impl Srt {
    /// A writer that cuts cues as told.
    pub fn new(cues: CueOptions) -> Self {
        Self { cues }
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
}

impl Format for Srt {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        let mut number = 0;
        for cue in readable_cues(transcript, &self.cues) {
            let speaker = speaker_prefix(cue.speaker);
            for (start, end, said) in cue.frames(self.cues.highlight_words) {
                let text = cue.render(|span| match (span.word, said) {
                    (Some(word), Some(said)) if std::ptr::eq(word, said) => {
                        format!("<u>{}</u>", span.text)
                    }
                    _ => span.text.clone(),
                });
                number += 1;
                let (start, end) = (clock(start, ','), clock(end, ','));
                let text = shorten_arrows(&format!("{speaker}{text}"));
                write!(out, "{number}\n{start} --> {end}\n{text}\n\n")?;
            }
        }
        Ok(())
    }
}

/// `->` for `-->` and longer arrows: the long ones mark time lines.
fn shorten_arrows(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    for c in text.chars() {
        while c == '>' && short.ends_with("--") {
            short.pop();
        }
        short.push(c);
    }
    short
}

/// Reads SubRip; an empty file is an empty transcript.
pub(super) fn read(text: &str, origin: &str) -> Result<Transcript> {
    let mut segments = Vec::new();
    read_cues(numbered_lines(text), origin, Grammar::Srt, |cue| {
        let segment = segment(cue.start, cue.end, &without_styling(&cue.payload));
        if !segment.text.is_empty() {
            segments.push(segment);
        }
    })?;
    Ok(assemble(segments))
}

/// Leaves out `<i>`, `<font color="red">`, `{\an8}`, `{b}` and their closing halves, and nothing else
/// that stands in brackets.
fn without_styling(text: &str) -> String {
    const PLAIN_TAGS: [&str; 6] = ["b", "i", "u", "s", "strong", "em"];
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '{']) {
        plain.push_str(&rest[..at]);
        let opening = &rest[at..at + 1];
        let inner = &rest[at + 1..];
        let closing = if opening == "<" { '>' } else { '}' };
        // A bracket that opens before the last one closed is no tag: this also keeps the search short.
        let tag = inner
            .find(['<', '{', '>', '}', '\n'])
            .filter(|&end| inner[end..].starts_with(closing))
            .map(|end| &inner[..end]);
        let is_styling = tag.is_some_and(|tag| {
            let lower = tag.to_lowercase();
            let name = lower.strip_prefix('/').unwrap_or(&lower);
            let has_attribute = ["font ", "span "].iter().any(|tag| name.starts_with(tag));
            PLAIN_TAGS.contains(&name)
                || ["font", "span"].contains(&name)
                || has_attribute && name.contains('=')
                || opening == "{" && tag.starts_with('\\')
        });
        match tag {
            Some(tag) if is_styling => rest = &inner[tag.len() + 1..],
            _ => {
                plain.push_str(opening);
                rest = inner;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(srt: &str) -> Vec<String> {
        read(srt, "test").unwrap().segments.into_iter().map(|segment| segment.text).collect()
    }

    fn reason(srt: &str) -> String {
        let text = read(srt, "test").unwrap_err().to_string();
        text.strip_prefix("cannot read a transcript from test: ").unwrap().to_string()
    }

    #[test]
    fn a_file_from_the_wild_is_read() {
        let srt = "\r\n1\r\n00:00:01,000 --> 00:00:02,5  X1:40 X2:600\r\n<i>Hello</i>\r\n\
                   {\\an8}there\r\n\r\n00:03.000-->00:04.000\r\n<font color=\"red\">No number</font>\r\n\
                   99\r\n00:00:05,000 --> 00:00:06,000\r\nNo blank line\r\n\r\n\r\nbut one inside\r\n";
        let transcript = read(srt, "test").unwrap();
        let found: Vec<(f64, f64, &str)> =
            transcript.segments.iter().map(|s| (s.start, s.end, s.text.as_str())).collect();
        assert_eq!(
            found,
            [
                (1.0, 2.5, "Hello there"),
                (3.0, 4.0, "No number"),
                (5.0, 6.0, "No blank line but one inside"),
            ]
        );
        assert_eq!(transcript.duration, 6.0);
    }

    #[test]
    fn a_number_is_text_unless_a_time_line_follows() {
        let cue = |number: u32, text: &str| {
            format!("{number}\n00:00:0{number},000 --> 00:00:0{number},900\n{text}\n\n")
        };
        assert_eq!(texts(&(cue(1, "42") + &cue(2, "43"))), ["42", "43"]);
        assert_eq!(texts(&(cue(1, "Hello") + "2\n")), ["Hello"]);
        assert_eq!(texts(&cue(1, "Hello").replace('\n', "\n\n")), ["Hello"]);
    }

    #[test]
    fn brackets_that_are_no_styling_stay() {
        let cue = |text: &str| format!("1\n00:00:01,000 --> 00:00:02,000\n{text}\n");
        for text in ["a < b and c > d", "a<b -> c", "<laughs> {sic}", "<<i", "{", "x <3"] {
            assert_eq!(texts(&cue(text)), [text]);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let expected = "expected a time line such as `00:00:01,000 --> 00:00:02,000`";
        assert_eq!(reason("Hello\n"), format!("line 1: found `Hello`, {expected}"));
        let broken =
            "1\n00:00:01,000 --> 00:00:02,000\nHi\n\n2\n00:00:03,000 -> 00:00:04,000\nHo\n";
        let found = "line 6: found `00:00:03,000 -> 00:00:04,000`";
        assert_eq!(reason(broken), format!("{found}, {expected}"));
        let minutes = "1\n00:61:00,000 --> 00:62:00,000\nHi\n";
        assert!(reason(minutes).starts_with("line 2: found `00:61:00,000 --> "));
        assert!(texts("").is_empty());
    }

    #[test]
    fn arrows_are_shortened_until_none_is_left() {
        assert_eq!(shorten_arrows("a --> b ----> c -> d"), "a -> b -> c -> d");
    }
}
