//! Echo's own JSON: the transcript as it is, in the schema of `docs/transcript-json.md`.
//!
//! Two shapes are read. One with a `version` is Echo's and is held to its schema; anything else with
//! `segments` is taken for the JSON of WhisperX or openai-whisper and read by [`whisperx`].

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Format, unreadable, whisperx};
use crate::error::Result;
use crate::transcript::{SCHEMA_VERSION, Transcript};

/// Everything that is known, in Echo's own schema (`"version": 1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json {
    is_pretty: bool,
}

impl Json {
    /// Indents for human readers. Default false: all on one line.
    #[must_use]
    pub fn pretty(mut self, yes: bool) -> Self {
        self.is_pretty = yes;
        self
    }
}

impl Format for Json {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        write_json(transcript, self.is_pretty, out)
    }
}

/// Any value as JSON with a line feed after it.
pub(super) fn write_json(
    value: &impl Serialize,
    is_pretty: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if is_pretty {
        serde_json::to_writer_pretty(&mut *out, value)?;
    } else {
        serde_json::to_writer(&mut *out, value)?;
    }
    writeln!(out)
}

#[derive(Deserialize)]
struct Probe {
    version: Option<u64>,
}

/// Reads JSON of either shape.
pub(super) fn read(text: &str, origin: &str) -> Result<Transcript> {
    let failed = |error: serde_json::Error| {
        let line = error.line();
        // The library ends its messages with the place, which is said in front here.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        unreadable(origin, format!("line {line}: {message}, expected a transcript as JSON"))
    };
    let probe: Probe = serde_json::from_str(text).map_err(failed)?;
    match probe.version {
        None => serde_json::from_str(text).map(whisperx::Document::into_transcript).map_err(failed),
        Some(version) if version == u64::from(SCHEMA_VERSION) => {
            let transcript = serde_json::from_str(text).map_err(failed)?;
            check(&transcript, origin)?;
            Ok(transcript)
        }
        Some(version) => {
            let reason = format!("`version` is {version}, expected {SCHEMA_VERSION}");
            Err(unreadable(origin, reason))
        }
    }
}

/// Times must be what the types promise: not before the source, no end before its start.
fn check(transcript: &Transcript, origin: &str) -> Result<()> {
    let is_good = |start: f64, end: f64| start >= 0.0 && start <= end && end.is_finite();
    let expected = "expected 0 <= start <= end";
    for (number, segment) in transcript.segments.iter().enumerate() {
        let (start, end) = (segment.start, segment.end);
        if !is_good(start, end) {
            let reason = format!("segments[{number}] is from {start} to {end}, {expected}");
            return Err(unreadable(origin, reason));
        }
        if let Some(at) = segment.words.iter().position(|word| !is_good(word.start, word.end)) {
            let word = &segment.words[at];
            let (start, end) = (word.start, word.end);
            let reason =
                format!("segments[{number}].words[{at}] is from {start} to {end}, {expected}");
            return Err(unreadable(origin, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(json: &str) -> String {
        let text = read(json, "test").unwrap_err().to_string();
        text.strip_prefix("cannot read a transcript from test: ").unwrap().to_string()
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        assert_eq!(
            reason("{\"version\": 1,\n \"duration\": 1}"),
            "line 2: missing field `segments`, expected a transcript as JSON"
        );
        assert_eq!(reason("{\"version\": 2}"), "`version` is 2, expected 1");
        assert!(reason("{\"segments\": [\n{]}").starts_with("line 2: key must be a string, "));
        let backwards = r#"{"version": 1, "segments": [{"start": 2, "end": 1, "text": "a"}]}"#;
        assert_eq!(reason(backwards), "segments[0] is from 2 to 1, expected 0 <= start <= end");
    }

    #[test]
    fn unknown_fields_of_a_later_writer_are_passed_over() {
        let json = r#"{"version": 1, "mood": "calm", "segments": []}"#;
        assert_eq!(read(json, "test").unwrap(), Transcript::new(0.0));
    }
}
