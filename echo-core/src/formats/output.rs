//! The formats by name, extension and media type.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CueOptions, Format, Json, Rttm, Srt, Tsv, Txt, Vtt, WhisperxJson};
use crate::error::{Error, Result};

/// The formats that Echo writes.
///
/// ```
/// use echo_core::formats::OutputFormat;
///
/// let format: OutputFormat = "SRT".parse()?;
/// assert_eq!(format.extension(), "srt");
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&str", try_from = "String")]
#[non_exhaustive]
pub enum OutputFormat {
    /// Plain text, a segment a line.
    Txt,
    /// SubRip subtitles.
    Srt,
    /// WebVTT subtitles.
    Vtt,
    /// A table of milliseconds and text.
    Tsv,
    /// Everything that is known, in Echo's own schema.
    Json,
    /// JSON, key for key what WhisperX writes.
    WhisperxJson,
    /// Turns of speakers.
    Rttm,
}

impl OutputFormat {
    /// Every format.
    pub const ALL: [Self; 7] =
        [Self::Txt, Self::Srt, Self::Vtt, Self::Tsv, Self::Json, Self::WhisperxJson, Self::Rttm];

    /// The name it is asked for by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::WhisperxJson => "whisperx",
            Self::Rttm => "rttm",
        }
    }

    /// The extension of its files, without the point; `json` for both kinds of JSON.
    pub fn extension(self) -> &'static str {
        match self {
            Self::WhisperxJson => "json",
            other => other.as_str(),
        }
    }

    /// Its media type, as in an HTTP header.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Txt | Self::Rttm => "text/plain; charset=utf-8",
            Self::Srt => "application/x-subrip; charset=utf-8",
            Self::Vtt => "text/vtt; charset=utf-8",
            Self::Tsv => "text/tab-separated-values; charset=utf-8",
            Self::Json | Self::WhisperxJson => "application/json",
        }
    }

    /// The format that a file name's extension stands for; `.whisperx.json` is WhisperX's JSON.
    ///
    /// # Errors
    /// [`Error::Option`] when there is none or another one.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".whisperx.json") {
            return Ok(Self::WhisperxJson);
        }
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        Self::ALL.into_iter().find(|format| extension == Some(format.extension())).ok_or_else(
            || Error::Option {
                option: "path",
                value: path.display().to_string(),
                expected: "a file name that ends in .txt, .srt, .vtt, .tsv, .json or .rttm",
            },
        )
    }

    /// A writer with its default options.
    pub fn writer(self) -> Box<dyn Format + Send + Sync> {
        self.writer_with(CueOptions::default())
    }

    /// A writer that cuts cues as told, if it writes subtitles; the others have none to cut.
    pub fn writer_with(self, cues: CueOptions) -> Box<dyn Format + Send + Sync> {
        match self {
            Self::Txt => Box::new(Txt),
            Self::Srt => Box::new(Srt::new(cues)),
            Self::Vtt => Box::new(Vtt::new(cues)),
            Self::Tsv => Box::new(Tsv),
            Self::Json => Box::new(Json::default()),
            Self::WhisperxJson => Box::new(WhisperxJson::default()),
            Self::Rttm => Box::new(Rttm::default()),
        }
    }
}

impl FromStr for OutputFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lower = name.trim().to_lowercase();
        let alias = match lower.as_str() {
            "text" => "txt",
            "subrip" => "srt",
            "webvtt" => "vtt",
            "json-whisperx" | "whisperx-json" => "whisperx",
            other => other,
        };
        Self::ALL.into_iter().find(|format| format.as_str() == alias).ok_or_else(|| Error::Option {
            option: "format",
            value: name.into(),
            expected: "txt, srt, vtt, tsv, json, whisperx or rttm",
        })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<OutputFormat> for &str {
    fn from(format: OutputFormat) -> Self {
        format.as_str()
    }
}

impl TryFrom<String> for OutputFormat {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_back() {
        for format in OutputFormat::ALL {
            let name = format.to_string();
            assert_eq!(name.parse::<OutputFormat>().unwrap(), format);
            assert_eq!(name.to_uppercase().parse::<OutputFormat>().unwrap(), format);
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(serde_json::from_str::<OutputFormat>(&json).unwrap(), format);
        }
        assert_eq!("json-whisperx".parse::<OutputFormat>().unwrap(), OutputFormat::WhisperxJson);
        assert_eq!(
            "docx".parse::<OutputFormat>().unwrap_err().to_string(),
            "option `format` is docx, expected txt, srt, vtt, tsv, json, whisperx or rttm"
        );
    }

    #[test]
    fn an_extension_names_the_format() {
        let of = |path: &str| OutputFormat::from_path(path).ok();
        assert_eq!(of("a/talk.mp4.SRT"), Some(OutputFormat::Srt));
        assert_eq!(of("talk.json"), Some(OutputFormat::Json));
        assert_eq!(of("talk.whisperx.json"), Some(OutputFormat::WhisperxJson));
        assert_eq!(of("talk.whisperx"), None);
        assert_eq!(of("srt"), None);
        assert_eq!(of(""), None);
    }
}
