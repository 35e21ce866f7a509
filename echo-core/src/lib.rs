//! Echo: speech to text as a library.
//!
//! From any audio or video file to a timed transcript, in one crate.
#![allow(dead_code)] // while modules land one by one; removed before the first release

pub mod audio;
mod device;
mod error;
mod features;
pub mod formats;
mod kernels;
mod language;
mod models;
mod options;
mod pipeline;
mod progress;
mod request;
mod timeline;
mod transcriber;
mod transcript;
mod vad;
mod whisper;

pub use audio::{Audio, AudioOptions, AudioSource};
pub use device::{ComputeType, Device};
pub use error::{Cause, Error, ErrorKind, Result};
pub use language::Language;
pub use options::{Channels, DecodeOptions, Mode, Task, TranscribeOptions, VadOptions};
pub use progress::{CancelToken, Progress, Stage};
pub use timeline::Region;
pub use transcript::{Decoding, SCHEMA_VERSION, Segment, SpeakerId, Timing, Transcript, Word};
