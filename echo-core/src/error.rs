//! What can go wrong, grouped by what the caller can do about it.
//!
//! One [`Error`] for the whole crate; each variant answers "what now?": give another file, choose
//! another model, another device, fix an option, or report a bug. Causes from other libraries are
//! boxed behind [`std::error::Error::source`], so that their types are no part of this API.

use std::path::PathBuf;

/// A boxed cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why Echo could not do what was asked.
///
/// ```
/// use echo_core::{DecodeOptions, ErrorKind};
///
/// let mut options = DecodeOptions::default();
/// options.beam_size = 0;
/// let error = options.validate().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Option);
/// assert_eq!(error.to_string(), "option `beam_size` is 0, expected 1 or more");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sound cannot be read: give another file.
    #[error("cannot read audio from {origin}: {reason}")]
    Audio {
        /// The path, or a description such as `4,096 bytes`.
        origin: String,
        /// What was found and what was expected.
        reason: String,
        /// The decoder's own error.
        source: Option<Cause>,
    },
    /// The model cannot be used: download, choose or repair it.
    #[error("model `{model}`: {reason}")]
    Model {
        /// The name, folder or file that was asked for.
        model: String,
        /// What was found and what was expected.
        reason: String,
        /// The reader's own error.
        source: Option<Cause>,
    },
    /// The device cannot be used: take another one, or smaller batches.
    #[error("device {device}: {reason}")]
    Device {
        /// The device that was asked for.
        device: String,
        /// What is missing.
        reason: String,
    },
    /// An argument is out of range: fix it.
    #[error("option `{option}` is {value}, expected {expected}")]
    Option {
        /// The option's name, as in Rust, Python and JSON.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// Subtitles or JSON cannot be read as a transcript: give another file, or mend it.
    #[error("cannot read a transcript from {origin}: {reason}")]
    Transcript {
        /// The path, or a description such as `SRT text`.
        origin: String,
        /// The line, what was found there and what was expected.
        reason: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The work was cancelled by its [`CancelToken`](crate::CancelToken).
    #[error("cancelled")]
    Cancelled,
    /// A network did not compute: a bug worth reporting.
    #[error("inference failed in {context}")]
    Inference {
        /// The stage and operation.
        context: &'static str,
        /// The cause.
        source: Cause,
    },
}

/// The variants of [`Error`] without their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// See [`Error::Audio`].
    Audio,
    /// See [`Error::Model`].
    Model,
    /// See [`Error::Device`].
    Device,
    /// See [`Error::Option`].
    Option,
    /// See [`Error::Transcript`].
    Transcript,
    /// See [`Error::Io`].
    Io,
    /// See [`Error::Cancelled`].
    Cancelled,
    /// See [`Error::Inference`].
    Inference,
}

impl ErrorKind {
    /// A stable name, the same in Rust, Python, Node and REST.
    pub fn code(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Model => "model",
            Self::Device => "device",
            Self::Option => "option",
            Self::Transcript => "transcript",
            Self::Io => "io",
            Self::Cancelled => "cancelled",
            Self::Inference => "inference",
        }
    }
}

impl Error {
    /// Which variant this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Audio { .. } => ErrorKind::Audio,
            Self::Model { .. } => ErrorKind::Model,
            Self::Device { .. } => ErrorKind::Device,
            Self::Option { .. } => ErrorKind::Option,
            Self::Transcript { .. } => ErrorKind::Transcript,
            Self::Io { .. } => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Inference { .. } => ErrorKind::Inference,
        }
    }

    /// The message with those of its causes, as people and other languages are told: one line.
    pub fn describe(&self) -> String {
        let mut message = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = inner.source();
        }
        message
    }

    pub(crate) fn audio(origin: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Audio { origin: origin.into(), reason: reason.into(), source: None }
    }

    pub(crate) fn model(model: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Model { model: model.into(), reason: reason.into(), source: None }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn inference(context: &'static str, source: impl Into<Cause>) -> Self {
        Self::Inference { context, source: source.into() }
    }
}
