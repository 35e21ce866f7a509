//! Plain text: a segment a line, its speaker in front when known.

use std::io::{self, Write};

use super::cues::tidy;
use super::{Format, speaker_prefix};
use crate::transcript::Transcript;

/// Plain text, a segment a line: `[SPEAKER_00]: Good morning.`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Txt;

impl Format for Txt {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        for segment in &transcript.segments {
            let text = tidy(&segment.text);
            if !text.is_empty() {
                writeln!(out, "{}{text}", speaker_prefix(segment.speaker.as_ref()))?;
            }
        }
        Ok(())
    }
}
