//! What the readers of SubRip and WebVTT share: bytes to text, text to timed blocks of lines.
//!
//! Blocks are found by their time lines, not by the blank lines between them, because files in the
//! wild lack blank lines, have too many of them, or none of the numbers. A line that stands alone
//! before a time line is the cue's number or name. Everything else belongs to the cue above it.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

use super::{clock, unreadable};
use crate::error::Result;
use crate::transcript::{Segment, SpeakerId};

/// The longest label in front of a cue that is taken for a speaker.
const MAX_SPEAKER_CHARS: usize = 64;

/// One cue as it stands in the file.
#[derive(Debug, PartialEq)]
pub(super) struct RawCue {
    pub(super) start: f64,
    pub(super) end: f64,
    /// Its lines with their markup, joined by line feeds.
    pub(super) payload: String,
}

/// Which of the two grammars is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Cues have numbers.
    Srt,
    /// Cues have names; there are comments, styles and regions.
    Vtt,
}

/// UTF-8, or UTF-16 with a byte order mark, without the mark.
pub(super) fn decode<'a>(bytes: &'a [u8], origin: &str) -> Result<Cow<'a, str>> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks(2).map(|pair| match pair {
            [first, second] => unit([*first, *second]),
            _ => 0xfffd,
        });
        char::decode_utf16(units).map(|unit| unit.unwrap_or('\u{fffd}')).collect::<String>()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => return Ok(Cow::Owned(wide(rest, u16::from_le_bytes))),
        [0xfe, 0xff, rest @ ..] => return Ok(Cow::Owned(wide(rest, u16::from_be_bytes))),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let byte = bytes.get(good.len()).copied().unwrap_or_default();
        let expected = "expected UTF-8, or UTF-16 with a byte order mark";
        unreadable(origin, format!("line {line}: byte {byte:#04x} is not UTF-8, {expected}"))
    })
}

/// Lines with their numbers from 1, whatever ends them.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> + Clone {
    let end = if text.contains('\n') { '\n' } else { '\r' };
    text.split(end).map(|line| line.trim_end_matches('\r')).zip(1..).map(|(line, at)| (at, line))
}

/// Finds the cues among lines and hands them over one by one.
pub(super) fn read_cues<'a>(
    mut lines: impl Iterator<Item = (usize, &'a str)> + Clone,
    origin: &str,
    grammar: Grammar,
    mut take: impl FnMut(RawCue),
) -> Result<()> {
    let mut cue: Option<RawCue> = None;
    let mut after_blank = true;
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            after_blank = true;
            continue;
        }
        let was_after_blank = std::mem::take(&mut after_blank);
        if grammar == Grammar::Vtt && was_after_blank && opens_comment(line) {
            // The block ends with the next blank line, which the loop then sees no more.
            after_blank = lines.by_ref().find(|(_, line)| line.trim().is_empty()).is_some();
            continue;
        }
        if is_label(line, was_after_blank, lines.clone(), grammar) {
            // What follows a label is held to be a time line as strictly as what follows a blank.
            after_blank = true;
            continue;
        }
        match time_line(line) {
            Some((start, end)) => {
                cue.replace(RawCue { start, end, payload: String::new() }).map(&mut take);
            }
            None => match &mut cue {
                Some(cue) if !(was_after_blank && is_broken_time_line(line)) => {
                    if !cue.payload.is_empty() {
                        cue.payload.push('\n');
                    }
                    cue.payload.push_str(line.trim());
                }
                _ => {
                    let example = match grammar {
                        Grammar::Srt => "00:00:01,000 --> 00:00:02,000",
                        Grammar::Vtt => "00:00:01.000 --> 00:00:02.000",
                    };
                    let found = excerpt(line);
                    let reason =
                        format!("line {number}: {found}, expected a time line such as `{example}`");
                    return Err(unreadable(origin, reason));
                }
            },
        }
    }
    cue.map(take);
    Ok(())
}

/// A block of WebVTT that is not shown.
fn opens_comment(line: &str) -> bool {
    ["NOTE", "STYLE", "REGION"].iter().any(|word| {
        line.strip_prefix(word).is_some_and(|rest| {
            !rest.contains("-->") && (rest.is_empty() || rest.starts_with([' ', '\t']))
        })
    })
}

/// Whether `line` is the number or name of the cue whose time line comes next.
fn is_label<'a>(
    line: &str,
    after_blank: bool,
    mut following: impl Iterator<Item = (usize, &'a str)>,
    grammar: Grammar,
) -> bool {
    if line.contains("-->") {
        return false;
    }
    let is_number = line.trim().bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        let is_name = grammar == Grammar::Vtt && after_blank;
        return is_name && following.next().is_some_and(|(_, line)| line.contains("-->"));
    }
    match following.next() {
        // A number that begins no cue any more: the file was cut off there.
        None => after_blank,
        Some((_, next)) if next.trim().is_empty() && after_blank => following
            .find(|(_, line)| !line.trim().is_empty())
            .is_none_or(|(_, line)| line.contains("-->")),
        Some((_, next)) => next.contains("-->") || is_broken_time_line(next),
    }
}

/// Start and end; what follows them (settings, coordinates) is left out.
fn time_line(line: &str) -> Option<(f64, f64)> {
    let (start, end) = line.split_once("-->")?;
    let end = end.split_whitespace().next()?;
    Some((clock::parse(start.trim())?, clock::parse(end)?))
}

/// Whether somebody meant a time line: it has an arrow, or begins with a clock and a dash.
fn is_broken_time_line(line: &str) -> bool {
    let begins_with_clock =
        line.split_whitespace().next().is_some_and(|word| clock::parse(word).is_some());
    line.contains("-->") || begins_with_clock && (line.contains("->") || line.contains(" - "))
}

/// The beginning of a line, quoted.
pub(super) fn excerpt(line: &str) -> String {
    let short: String = line.trim().chars().take(40).collect();
    let rest = if line.trim().chars().count() > 40 { "…" } else { "" };
    format!("found `{}{rest}`", short.escape_debug())
}

/// A segment from a cue's plain text: lines joined, the speaker taken from its prefix.
pub(super) fn segment(start: f64, end: f64, text: &str) -> Segment {
    let text = join_lines(text);
    let (speaker, text) = split_speaker(&text);
    let mut segment = Segment::new(start, end, text.trim());
    segment.speaker = speaker.map(|speaker| SpeakerId(speaker.into()));
    segment
}

/// Joins lines by spaces; by nothing where Chinese or Japanese was broken.
pub(super) fn join_lines(text: &str) -> String {
    let is_wide = |c: char| c.width() == Some(2) && !('\u{ac00}'..='\u{d7af}').contains(&c);
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        let line = super::cues::tidy(line);
        let both_wide =
            joined.chars().next_back().is_some_and(is_wide) && line.starts_with(is_wide);
        if !joined.is_empty() && !line.is_empty() && !both_wide {
            joined.push(' ');
        }
        joined.push_str(&line);
    }
    joined
}

/// `[SPEAKER_00]: Hello` in two.
pub(super) fn split_speaker(text: &str) -> (Option<&str>, &str) {
    let split = text.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    match split {
        Some((speaker, rest))
            if !speaker.trim().is_empty()
                && !speaker.contains(['[', ']'])
                && speaker.chars().count() <= MAX_SPEAKER_CHARS =>
        {
            (Some(speaker), rest)
        }
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_by_its_byte_order_mark() {
        let le: Vec<u8> = "\u{feff}é\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "\u{feff}é\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [&le[..], &be, "\u{feff}é\n".as_bytes(), "é\n".as_bytes()] {
            assert_eq!(decode(bytes, "test").unwrap(), "é\n");
        }
        assert_eq!(
            decode(b"a\nb\xe9c", "a.srt").unwrap_err().to_string(),
            "cannot read a transcript from a.srt: line 2: byte 0xe9 is not UTF-8, expected UTF-8, \
             or UTF-16 with a byte order mark"
        );
    }

    #[test]
    fn lines_end_in_any_of_three_ways() {
        for text in ["a\nb\n", "a\r\nb\r\n", "a\rb\r"] {
            let lines: Vec<(usize, &str)> = numbered_lines(text).collect();
            assert_eq!(lines, [(1, "a"), (2, "b"), (3, "")]);
        }
    }

    #[test]
    fn lines_are_joined_as_their_script_asks() {
        assert_eq!(join_lines("one \n two"), "one two");
        assert_eq!(join_lines("今日は\n良い天気"), "今日は良い天気");
        assert_eq!(join_lines("안녕\n여러분"), "안녕 여러분");
    }

    #[test]
    fn only_a_bracket_and_a_colon_make_a_speaker() {
        assert_eq!(split_speaker("[Anna]: Hello"), (Some("Anna"), "Hello"));
        assert_eq!(split_speaker("[Music] Hello"), (None, "[Music] Hello"));
        assert_eq!(split_speaker("[]: Hello"), (None, "[]: Hello"));
    }
}
