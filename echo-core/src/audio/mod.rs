//! Sound in: from any container and codec to 16 kHz mono samples.
//!
//! ```text
//! AudioSource ── containers ──► packets ── codecs ──► frames ── downmix, resample ──► Audio
//!  where           which track, which time    planar f32, any rate        16 kHz mono f32
//! ```
//!
//! Everything streams: packets are decoded, mixed and resampled one by one, so that an hour of
//! stereo at 48 kHz never stands in memory as such; only its 16 kHz mono samples do (230 MB).
//! The content decides what a file is, never its name, unless the format has no header (`.g722`). Times count from the start of the media, as
//! a video player shows them: encoder delay is cut, a late start becomes silence.
//! What can be decoded of a damaged file is, and [`Audio::warnings`] say what is missing.

mod codecs;
mod containers;
mod decode;
mod downmix;
mod levels;
mod place;
mod resample;
mod source;

use std::fmt;

pub use source::{AudioSource, RawEncoding, TooLong};

pub use crate::options::Channels;

use crate::error::{Error, Result};

/// The sample rate of every [`Audio`], as Whisper expects it.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// Sound at 16 kHz, one channel, samples from -1 to 1.
///
/// ```
/// use echo_core::audio::Audio;
///
/// let tone: Vec<f32> = (0..44_100).map(|n| (n as f32 * 0.0627).sin() * 0.5).collect();
/// let audio = Audio::from_samples(tone, 44_100)?;
/// assert_eq!(audio.samples().len(), 16_000);
/// assert_eq!(audio.duration(), 1.0);
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Audio {
    samples: Vec<f32>,
    warnings: Vec<String>,
}

/// Which part of a source is heard.
///
/// ```
/// use echo_core::audio::{AudioOptions, Channels};
///
/// let mut options = AudioOptions::default();
/// options.channels = Channels::One(1);
/// assert_eq!(options.track, None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AudioOptions {
    /// The mean of all channels (the default), one of them, or each by itself.
    pub channels: Channels,
    /// The audio track, counted from 0 among the audio tracks; `None` (the default) takes the one
    /// marked as default, else the first.
    pub track: Option<u16>,
}

impl Audio {
    /// Mono samples at any rate.
    ///
    /// Samples beyond ±1 are clipped where they are few, and all are scaled down where they are many
    /// (integers given as floats, say).
    ///
    /// # Errors
    /// [`Error::Option`] for a rate below 1,000 Hz or above 768,000 Hz, and for not-a-number among
    /// the samples: what a program computed wrong is not passed off as silence.
    pub fn from_samples(samples: impl Into<Vec<f32>>, sample_rate_hz: u32) -> Result<Self> {
        let mut samples = samples.into();
        if !resample::RATES_HZ.contains(&sample_rate_hz) {
            return Err(Error::Option {
                option: "sample_rate_hz",
                value: sample_rate_hz.to_string(),
                expected: "1,000 to 768,000",
            });
        }
        if let Some(index) = samples.iter().position(|sample| sample.is_nan()) {
            return Err(Error::Option {
                option: "samples",
                value: format!("not a number at index {index}"),
                expected: "numbers, -1 to 1 for full scale",
            });
        }
        levels::remove_nonsense(&mut samples);
        let mut resampler = resample::Resampler::new(sample_rate_hz);
        let mut output = Vec::new();
        if resampler.is_identity() {
            output = samples;
        } else {
            resampler.push(&samples, &mut output);
            resampler.finish(&mut output);
        }
        Ok(Self::from_decoded(output, Vec::new()))
    }

    /// Reads, decodes and resamples a whole source, all its channels mixed.
    ///
    /// # Errors
    /// [`Error::Io`] when the source cannot be read, [`Error::Audio`] when it holds nothing that
    /// can be decoded; the message names the codec that was found.
    pub fn load(source: impl Into<AudioSource>) -> Result<Self> {
        let mut audio = Self::load_channels(source, &AudioOptions::default())?;
        Ok(audio.pop().unwrap_or_default())
    }

    /// Reads a source as `options` say: one [`Audio`] for each channel that was asked for.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and [`Error::Option`] for a channel or track that the source
    /// does not have.
    pub fn load_channels(
        source: impl Into<AudioSource>,
        options: &AudioOptions,
    ) -> Result<Vec<Self>> {
        Self::load_with(source, options, &mut |_| Ok(()))
    }

    /// Like [`load_channels`](Self::load_channels), calling `progress` with the share that is done
    /// (never falling, 0 to 1) at least every few milliseconds; its error ends the work.
    ///
    /// # Errors
    /// Those of [`load_channels`](Self::load_channels), and whatever `progress` answers.
    pub fn load_with(
        source: impl Into<AudioSource>,
        options: &AudioOptions,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Self>> {
        match source.into().open()? {
            source::Opened::Audio(audio) => Ok(vec![audio]),
            source::Opened::Media(opened) => decode::load(&opened, options, progress),
        }
    }

    /// Finishes samples at 16 kHz that hold no NaN.
    fn from_decoded(mut samples: Vec<f32>, mut warnings: Vec<String>) -> Self {
        warnings.extend(levels::bring_into_range(&mut samples));
        Self { samples, warnings }
    }

    /// The samples, 16,000 a second, each from -1 to 1.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// The samples without a copy.
    pub fn into_samples(self) -> Vec<f32> {
        self.samples
    }

    /// Length in seconds.
    pub fn duration(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SAMPLE_RATE_HZ)
    }

    /// What was wrong with the source although it could be decoded: truncation, damaged parts.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Debug for Audio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Audio")
            .field("duration", &self.duration())
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_among_samples_is_refused_with_its_place() {
        let error = Audio::from_samples(vec![0.0, f32::NAN], SAMPLE_RATE_HZ).unwrap_err();
        assert!(error.to_string().contains("not a number at index 1"), "{error}");
        assert_eq!(error.kind(), crate::ErrorKind::Option);
    }
}
