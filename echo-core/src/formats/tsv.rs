//! Tab-separated values: `start`, `end` and `text`, as openai-whisper and WhisperX write them.
//!
//! Times are whole milliseconds, so that no locale's decimal mark gets in the way; tabs and line
//! breaks in the text become spaces. There is no column for the speaker.

use std::io::{self, Write};

use super::Format;
use super::clock::milliseconds;
use super::cues::tidy;
use crate::transcript::Transcript;

/// A table with the columns `start`, `end` (whole milliseconds) and `text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tsv;

impl Format for Tsv {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "start\tend\ttext")?;
        for segment in &transcript.segments {
            let (start, end) = (milliseconds(segment.start), milliseconds(segment.end));
            writeln!(out, "{start}\t{end}\t{}", tidy(&segment.text))?;
        }
        Ok(())
    }
}
