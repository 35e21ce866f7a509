//! The plain transcript in colours, for a terminal.
//!
//! It is [`Txt`] to the letter, with escape sequences between the letters: each speaker's name
//! in a colour of its own, and what the recogniser is not sure of in yellow or red: words where
//! segments have them, else whole segments.

use std::io::{self, IsTerminal, Write};

use crate::formats::{Format, Txt};
use crate::transcript::{Segment, Transcript};

/// SGR codes of speakers, by order of appearance: none is yellow or red.
const SPEAKERS: [&str; 8] = ["1;36", "1;35", "1;32", "1;34", "1;96", "1;95", "1;92", "1;94"];
const UNSURE: &str = "33";
const VERY_UNSURE: &str = "31";
/// Probabilities below which something is not sure.
const SURE: f32 = 0.6;
const HALF_SURE: f32 = 0.3;

/// Plain text with colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coloured;

/// Whether standard output shows colours: it is a terminal, and nobody asked for none
/// (<https://no-color.org>).
pub(super) fn is_wanted() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    // Old consoles of Windows print the sequences.
    let understands = cfg!(not(windows)) || is_set("WT_SESSION") || is_set("TERM");
    io::stdout().is_terminal() && understands && !is_dumb && !is_set("NO_COLOR")
}

impl Format for Coloured {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        let mut seen = Vec::new();
        for segment in &transcript.segments {
            let mut alone = Transcript::new(transcript.duration);
            alone.segments.push(segment.clone());
            let mut line = Vec::new();
            Txt.write(&alone, &mut line)?;
            let line = String::from_utf8_lossy(&line);
            let Some(line) = line.strip_suffix('\n') else { continue };
            let mut text = line;
            if let Some(speaker) = &segment.speaker {
                let number = seen.iter().position(|known| known == speaker).unwrap_or_else(|| {
                    seen.push(speaker.clone());
                    seen.len() - 1
                });
                let name = format!("[{speaker}]: ");
                if let Some(rest) = line.strip_prefix(&name) {
                    paint(out, &name, Some(SPEAKERS[number % SPEAKERS.len()]))?;
                    text = rest;
                }
            }
            write_text(segment, text, out)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

/// The text of a segment, what is not sure in colours.
fn write_text(segment: &Segment, text: &str, out: &mut dyn Write) -> io::Result<()> {
    if segment.words.is_empty() {
        let sureness = segment.decoding.as_ref().map(|decoding| decoding.avg_logprob.exp());
        return paint(out, text, colour_of(sureness));
    }
    let mut rest = text;
    for word in &segment.words {
        let Some((before, after)) = rest.split_once(word.text.trim()) else { continue };
        out.write_all(before.as_bytes())?;
        paint(out, word.text.trim(), colour_of(word.probability))?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

fn colour_of(sureness: Option<f32>) -> Option<&'static str> {
    match sureness {
        Some(sureness) if sureness < HALF_SURE => Some(VERY_UNSURE),
        Some(sureness) if sureness < SURE => Some(UNSURE),
        _ => None,
    }
}

fn paint(out: &mut dyn Write, text: &str, colour: Option<&str>) -> io::Result<()> {
    match colour {
        Some(colour) if !text.is_empty() => write!(out, "\u{1b}[{colour}m{text}\u{1b}[0m"),
        _ => out.write_all(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{SpeakerId, Word};

    fn written(transcript: &Transcript, format: impl Format) -> String {
        let mut out = Vec::new();
        format.write(transcript, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn segment(speaker: &str, text: &str, probabilities: &[f32]) -> Segment {
        let mut segment = Segment::new(0.0, 1.0, text);
        segment.speaker = Some(SpeakerId(speaker.to_owned()));
        for (word, &probability) in text.split_whitespace().zip(probabilities) {
            let mut word = Word::new(0.0, 1.0, word);
            word.probability = Some(probability);
            segment.words.push(word);
        }
        segment
    }

    #[test]
    fn speakers_and_doubtful_words_have_colours() {
        let mut transcript = Transcript::new(1.0);
        transcript.segments.push(segment("A", "Good morning, all.", &[0.9, 0.5, 0.1]));
        transcript.segments.push(segment("B", "Yes.", &[1.0]));
        transcript.segments.push(segment("A", "Well.", &[]));
        assert_eq!(
            written(&transcript, Coloured),
            "\u{1b}[1;36m[A]: \u{1b}[0mGood \u{1b}[33mmorning,\u{1b}[0m \u{1b}[31mall.\u{1b}[0m\n\
             \u{1b}[1;35m[B]: \u{1b}[0mYes.\n\
             \u{1b}[1;36m[A]: \u{1b}[0mWell.\n"
        );
    }

    #[test]
    fn without_its_colours_it_is_the_plain_text() {
        let mut transcript = Transcript::new(1.0);
        transcript.segments.push(segment("A", "the the  cat\u{1b}[7m sat", &[0.1, 0.9, 0.1, 0.5]));
        transcript.segments.push(Segment::new(0.0, 1.0, "no speaker, no words"));
        transcript.segments.push(Segment::new(0.0, 1.0, " "));
        let mut plain = written(&transcript, Coloured);
        for colour in SPEAKERS.iter().chain(&[UNSURE, VERY_UNSURE, "0"]) {
            plain = plain.replace(&format!("\u{1b}[{colour}m"), "");
        }
        assert_eq!(plain, written(&transcript, Txt));
        assert!(!plain.contains('\u{1b}'), "what was heard moves no cursor");
    }
}
