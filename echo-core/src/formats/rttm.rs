//! RTTM: a line for each turn, as tools of diarization exchange and score them.
//!
//! `SPEAKER recording channel start duration <NA> <NA> speaker <NA> <NA>`, seconds with three
//! decimals. Turns are written as they were found, overlaps included; a transcript without turns
//! gives those of its words or segments. Of a file that is read, lines of other types and comments
//! (`;;`) are passed over, and all recordings in it are taken for one.
//! Source: NIST, "RT-09 evaluation plan", appendix A.

use std::io::{self, Write};

use super::{Format, unreadable};
use crate::error::Result;
use crate::timeline::Turn;
use crate::transcript::{SpeakerId, Transcript};

/// Gaps between words of one speaker up to this are no ends of turns, in seconds.
const MAX_WORD_GAP: f64 = 0.5;

/// Turns of speakers, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rttm {
    recording: String,
}

impl Default for Rttm {
    fn default() -> Self {
        Self { recording: "recording".to_owned() }
    }
}

impl Rttm {
    /// What the recording is called in each line. Default `recording`; spaces become `_`.
    #[must_use]
    pub fn recording(mut self, name: impl Into<String>) -> Self {
        let name: String = name.into();
        self.recording = field(&name);
        self
    }
}

/// Text as one field: no space in it, and not empty.
fn field(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join("_");
    if joined.is_empty() { "<NA>".to_owned() } else { joined }
}

impl Format for Rttm {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        let spoken;
        let turns = if transcript.turns.is_empty() {
            spoken = spoken_turns(transcript);
            &spoken
        } else {
            &transcript.turns
        };
        for turn in turns {
            let Turn { start, end, speaker } = turn;
            let (duration, speaker) = (end - start, field(&speaker.0));
            writeln!(
                out,
                "SPEAKER {} 1 {start:.3} {duration:.3} <NA> <NA> {speaker} <NA> <NA>",
                self.recording
            )?;
        }
        Ok(())
    }
}

/// The turns that words, else segments, with speakers make up.
fn spoken_turns(transcript: &Transcript) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut add = |start: f64, end: f64, speaker: Option<&SpeakerId>| {
        let Some(speaker) = speaker else { return };
        match turns.last_mut() {
            Some(last) if last.speaker == *speaker && start - last.end <= MAX_WORD_GAP => {
                last.end = last.end.max(end);
            }
            _ => turns.push(Turn { start, end, speaker: speaker.clone() }),
        }
    };
    for segment in &transcript.segments {
        if segment.words.is_empty() {
            add(segment.start, segment.end, segment.speaker.as_ref());
        }
        for word in &segment.words {
            add(word.start, word.end, word.speaker.as_ref().or(segment.speaker.as_ref()));
        }
    }
    turns
}

/// Whether text is RTTM: its first line that is no comment names a type of RTTM.
pub(super) fn is_rttm(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.find(|line| !line.starts_with(";;"));
    let kind = first.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    matches!(kind, "SPEAKER" | "SPKR-INFO" | "LEXEME" | "NON-SPEECH" | "NON-LEX" | "NOSCORE")
}

/// Reads the turns of a file: a transcript of who spoke when, without words.
pub(super) fn read(text: &str, origin: &str) -> Result<Transcript> {
    let mut transcript = Transcript::new(0.0);
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.first() != Some(&"SPEAKER") {
            continue;
        }
        let wrong = |what: &str| {
            let reason = format!(
                "line {}: {what}, expected SPEAKER recording channel start duration <NA> <NA> speaker",
                number + 1
            );
            unreadable(origin, reason)
        };
        let [_, _, _, start, duration, _, _, speaker, ..] = fields[..] else {
            return Err(wrong(&format!("{} fields", fields.len())));
        };
        let seconds = |text: &str| {
            text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)
        };
        let (Some(start), Some(duration)) = (seconds(start), seconds(duration)) else {
            return Err(wrong(&format!("start `{start}` and duration `{duration}`")));
        };
        let speaker = SpeakerId(speaker.to_owned());
        transcript.turns.push(Turn { start, end: start + duration, speaker });
    }
    transcript.turns.sort_by(|a, b| a.start.total_cmp(&b.start));
    for turn in &transcript.turns {
        transcript.duration = transcript.duration.max(turn.end);
        if !transcript.speakers.contains(&turn.speaker) {
            transcript.speakers.push(turn.speaker.clone());
        }
    }
    Ok(transcript)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{Segment, Word};

    fn written(transcript: &Transcript, format: Rttm) -> String {
        let mut out = Vec::new();
        format.write(transcript, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn turns_survive_the_round_trip() {
        let text = "\
            SPEAKER my_talk 1 0.500 1.250 <NA> <NA> SPEAKER_00 <NA> <NA>\n\
            SPEAKER my_talk 1 1.000 3.000 <NA> <NA> SPEAKER_01 <NA> <NA>\n";
        let read = read(text, "test").unwrap();
        assert_eq!(read.speakers.len(), 2);
        assert_eq!(read.duration, 4.0);
        assert_eq!(written(&read, Rttm::default().recording("my talk")), text);
    }

    #[test]
    fn other_lines_are_passed_over_and_wrong_ones_named() {
        let info = ";; a comment\nSPKR-INFO a 1 <NA> <NA> <NA> unknown b <NA>\n";
        assert!(is_rttm(info) && read(info, "test").unwrap().turns.is_empty());
        assert!(!is_rttm("1\n00:00:01,000 --> 00:00:02,000\nSPEAKER") && !is_rttm(""));
        let error = read("\nSPEAKER a 1 x 2 <NA> <NA> b <NA> <NA>", "test").unwrap_err();
        assert!(error.to_string().contains("line 2: start `x` and duration `2`"), "{error}");
        assert!(read("SPEAKER a 1 1 -2 <NA> <NA> b", "test").is_err());
        assert!(read("SPEAKER a 1", "test").unwrap_err().to_string().contains("3 fields"));
    }

    #[test]
    fn a_transcript_without_turns_gives_those_of_its_words() {
        let speaker = |name: &str| Some(SpeakerId(name.to_owned()));
        let mut segment = Segment::new(0.0, 4.0, "a b c");
        for (start, name) in [(0.0, "A"), (1.2, "A"), (3.0, "B")] {
            let mut word = Word::new(start, start + 1.0, "x");
            word.speaker = speaker(name);
            segment.words.push(word);
        }
        let mut plain = Segment::new(5.0, 6.0, "d");
        plain.speaker = speaker("B");
        let mut transcript = Transcript::new(6.0);
        transcript.segments = vec![segment, plain];
        let text = written(&transcript, Rttm::default());
        let times: Vec<&str> = text.lines().map(|line| &line[20..31]).collect();
        assert_eq!(times, ["0.000 2.200", "3.000 1.000", "5.000 1.000"], "{text}");
    }
}
