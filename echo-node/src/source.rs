//! Where sound comes from, as JavaScript names it.

use std::path::PathBuf;

use echo_core::{Audio, AudioSource, Error, Result};
use napi::bindgen_prelude::{Float32Array, Uint8Array};
use napi_derive::napi;

/// A source in JavaScript: exactly one of a path, bytes, and samples with their rate.
#[napi(object, object_to_js = false)]
#[expect(missing_debug_implementations, reason = "arrays of napi-rs have none")]
pub struct SourceObject {
    /// A file by its name.
    pub path: Option<String>,
    /// The bytes of an encoded file.
    pub bytes: Option<Uint8Array>,
    /// Samples of one channel.
    pub samples: Option<Float32Array>,
    /// Their rate.
    pub sample_rate_hz: Option<u32>,
}

/// A source that a worker may keep: JavaScript can change its arrays while the work goes on, so they
/// are copied.
#[derive(Debug)]
pub(crate) enum Input {
    Path(PathBuf),
    Bytes(Vec<u8>),
    Samples(Vec<f32>, u32),
    Nothing,
}

impl From<SourceObject> for Input {
    fn from(source: SourceObject) -> Self {
        match source {
            SourceObject { path: Some(path), .. } => Self::Path(path.into()),
            SourceObject { bytes: Some(bytes), .. } => Self::Bytes(bytes.to_vec()),
            SourceObject { samples: Some(samples), sample_rate_hz: Some(rate_hz), .. } => {
                Self::Samples(samples.to_vec(), rate_hz)
            }
            _ => Self::Nothing,
        }
    }
}

impl Input {
    /// What the core takes. Samples are resampled here, so this belongs on a worker.
    pub(crate) fn open(self) -> Result<AudioSource> {
        match self {
            Self::Path(path) => Ok(path.into()),
            Self::Bytes(bytes) => Ok(bytes.into()),
            Self::Samples(samples, rate_hz) => Ok(Audio::from_samples(samples, rate_hz)?.into()),
            Self::Nothing => Err(Error::Option {
                option: "source",
                value: "empty".to_owned(),
                expected: "a path, bytes, or samples with sampleRateHz",
            }),
        }
    }
}
