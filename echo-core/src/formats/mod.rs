//! Transcripts as text, subtitles, tables and JSON, and back.
//!
//! A writer is a value with options that implements [`Format`]; [`OutputFormat`] names the ones
//! that exist. Subtitle writers cut segments into cues by [`CueOptions`]. Readers take SubRip,
//! WebVTT and JSON (Echo's own and WhisperX's) as other programs write them: byte order marks,
//! carriage returns, styling, missing numbers and hours are all accepted; what cannot be
//! understood is an error that names the line.
//!
//! | format | writes | reads | words | speakers |
//! |---|---|---|---|---|
//! | [`Txt`] | a segment a line | – | – | yes |
//! | [`Srt`] | SubRip subtitles | yes | highlighted | yes |
//! | [`Vtt`] | WebVTT subtitles | yes | highlighted, or timed inside a cue | yes |
//! | [`Tsv`] | `start end text`, in milliseconds | – | – | – |
//! | [`Json`] | everything, [`SCHEMA_VERSION`](crate::SCHEMA_VERSION) 1 | yes | yes | yes |
//! | [`WhisperxJson`] | what WhisperX writes, key for key | yes | yes | yes |
//! | [`Rttm`] | a turn a line | yes | – | yes |

mod clock;
mod cues;
mod json;
mod layout;
mod output;
mod reading;
mod rttm;
mod srt;
mod subtitles;
mod tsv;
mod txt;
mod vtt;
mod whisperx;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub use cues::CueOptions;
pub use json::Json;
pub use output::OutputFormat;
pub use rttm::Rttm;
pub use srt::Srt;
pub use tsv::Tsv;
pub use txt::Txt;
pub use vtt::Vtt;
pub use whisperx::WhisperxJson;

use crate::error::{Error, Result};
use crate::transcript::{Segment, SpeakerId, Transcript};

/// The longest file that is read as a transcript: a day of words is a tenth of it.
const MAX_BYTES: u64 = 256 << 20;

/// A way to write a transcript down.
///
/// Implement it for formats of your own:
///
/// ```
/// use std::io::{self, Write};
///
/// use echo_core::{Transcript, formats::Format};
///
/// struct Lyrics;
///
/// impl Format for Lyrics {
///     fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
///         transcript.segments.iter().try_for_each(|s| writeln!(out, "[{:.2}]{}", s.start, s.text))
///     }
/// }
///
/// let transcript = Transcript::from_srt("1\n00:00:01,500 --> 00:00:02,000\nHello\n")?;
/// let mut text = Vec::new();
/// transcript.write(Lyrics, &mut text)?;
/// assert_eq!(text, b"[1.50]Hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Format {
    /// Writes the whole transcript, cue by cue; nothing is held back but what `out` buffers.
    ///
    /// # Errors
    /// Whatever `out` answers.
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()>;
}

impl<F: Format + ?Sized> Format for &F {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        (**self).write(transcript, out)
    }
}

impl<F: Format + ?Sized> Format for Box<F> {
    fn write(&self, transcript: &Transcript, out: &mut dyn Write) -> io::Result<()> {
        (**self).write(transcript, out)
    }
}

impl Transcript {
    /// Writes the transcript to `out`.
    ///
    /// ```
    /// use echo_core::{Transcript, formats::Srt};
    ///
    /// let transcript = Transcript::new(0.0);
    /// transcript.write(Srt::default().max_line_chars(42), std::io::stdout())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Whatever `out` answers.
    pub fn write(&self, format: impl Format, mut out: impl Write) -> io::Result<()> {
        format.write(self, &mut out)?;
        out.flush()
    }

    /// Writes the transcript to a file, in the format that its extension names.
    ///
    /// The file appears whole or not at all: it is written beside its place and then renamed.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown extension, [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.save_as(path, OutputFormat::from_path(path)?.writer())
    }

    /// Writes the transcript to a file as [`save`](Self::save) does, in the format given.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_as(&self, path: impl AsRef<Path>, format: impl Format) -> Result<()> {
        let path = path.as_ref();
        replace_file(path, |file| {
            let mut out = BufWriter::new(file);
            format.write(self, &mut out)?;
            out.flush()
        })
        .map_err(|error| Error::io(path, error))
    }

    /// Reads a transcript from a file of SubRip, WebVTT, JSON or RTTM, told apart by their content.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Transcript`] naming the line and what was
    /// expected there.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Error::io(path, error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unreadable(&origin, "longer than 256 MiB, expected subtitles or JSON"));
        }
        let text = subtitles::decode(&bytes, &origin)?;
        let is_vtt =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vtt"));
        match text.trim_start().as_bytes().first() {
            _ if is_vtt || text.starts_with("WEBVTT") => vtt::read(&text, &origin),
            Some(b'{' | b'[') => json::read(&text, &origin),
            _ if rttm::is_rttm(&text) => rttm::read(&text, &origin),
            _ => srt::read(&text, &origin),
        }
    }

    /// Reads SubRip subtitles.
    ///
    /// ```
    /// use echo_core::Transcript;
    ///
    /// let transcript = Transcript::from_srt("1\n00:00:01,000 --> 00:00:02,500\n<i>Hello.</i>\n")?;
    /// assert_eq!(transcript.segments[0].text, "Hello.");
    /// assert_eq!(transcript.segments[0].end, 2.5);
    /// # Ok::<(), echo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Transcript`] naming the line and what was expected there.
    pub fn from_srt(text: &str) -> Result<Self> {
        srt::read(text.trim_start_matches('\u{feff}'), "SRT text")
    }

    /// Reads WebVTT subtitles. Timestamps inside a cue become the times of its words.
    ///
    /// # Errors
    /// [`Error::Transcript`] naming the line and what was expected there.
    pub fn from_vtt(text: &str) -> Result<Self> {
        vtt::read(text.trim_start_matches('\u{feff}'), "VTT text")
    }

    /// Reads turns of speakers from RTTM: a transcript without words.
    ///
    /// ```
    /// use echo_core::Transcript;
    ///
    /// let transcript = Transcript::from_rttm("SPEAKER a 1 0.5 2 <NA> <NA> Anna <NA> <NA>\n")?;
    /// assert_eq!(transcript.turns[0].end, 2.5);
    /// # Ok::<(), echo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Transcript`] naming the line and what was expected there.
    pub fn from_rttm(text: &str) -> Result<Self> {
        rttm::read(text.trim_start_matches('\u{feff}'), "RTTM text")
    }

    /// Reads JSON as Echo or WhisperX writes it; openai-whisper's is near enough to be read, too.
    ///
    /// # Errors
    /// [`Error::Transcript`] naming the line and what was expected there.
    pub fn from_json(text: &str) -> Result<Self> {
        json::read(text.trim_start_matches('\u{feff}'), "JSON text")
    }
}

/// Lets `write` fill a file beside `path` and moves it there. A device or a pipe is written directly,
/// and a link is followed rather than replaced.
fn replace_file(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    static SAVES: AtomicU64 = AtomicU64::new(0);
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if target.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return write(&mut File::options().write(true).open(&target)?);
    }
    let (beside, mut file) = loop {
        // Two savers of one file, in this process or another, must not share a temporary file. Its name
        // is short whatever the target's is: that may be as long as a name can be.
        let save = SAVES.fetch_add(1, Ordering::Relaxed);
        let beside = target.with_file_name(format!(".echo-{}-{save}.part", std::process::id()));
        match File::options().write(true).create_new(true).open(&beside) {
            // Left by a process of the same number that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => break (beside, opened?),
        }
    };
    let written = write(&mut file).and_then(|()| std::fs::rename(&beside, &target));
    if written.is_err() {
        // The first error is the one worth reporting.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// `[SPEAKER_00]: `, or nothing.
fn speaker_prefix(speaker: Option<&SpeakerId>) -> String {
    speaker.map(|speaker| format!("[{speaker}]: ")).unwrap_or_default()
}

/// A transcript of what was read: in order of time, with its speakers in order of appearance.
fn assemble(mut segments: Vec<Segment>) -> Transcript {
    segments.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut transcript = Transcript::new(segments.iter().map(|s| s.end).fold(0.0, f64::max));
    let mut known = HashSet::new();
    for speaker in segments.iter().filter_map(|segment| segment.speaker.as_ref()) {
        if known.insert(speaker) {
            transcript.speakers.push(speaker.clone());
        }
    }
    transcript.segments = segments;
    transcript
}

fn unreadable(origin: &str, reason: impl Into<String>) -> Error {
    Error::Transcript { origin: origin.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
