//! Kaldi's log filterbank, as speaker embeddings expect it.
//!
//! Frames of 400 samples every 160 (25 ms, 10 ms) that lie wholly in the sound (`snip_edges`): mean
//! removed, pre-emphasis 0.97, [`Taper`], 512-point spectrum, 80 triangles from 20 Hz to 8 kHz on
//! Kaldi's mel scale, natural logarithm with a floor. Samples are in [-1, 1] and nothing is dithered.
//! Source: Kaldi `feat/feature-fbank.cc` and `feat/mel-computations.cc` with the options of
//! 3D-Speaker and WeSpeaker. Energy and other windows are left out.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::error::{Error, Result};

/// Bands of a frame.
pub(crate) const FBANK_BANDS: usize = 80;
/// Samples between frames: 10 ms.
pub(crate) const FBANK_HOP_SAMPLES: usize = 160;
const FRAME_SAMPLES: usize = 400;
const FFT_SAMPLES: usize = 512;
const SAMPLE_RATE_HZ: f64 = 16_000.0;
const LOW_HZ: f64 = 20.0;
const PRE_EMPHASIS: f32 = 0.97;
/// Quieter than this is as quiet as this: the distance of 1 to the next f32.
const FLOOR: f32 = f32::EPSILON;

/// How the samples of a frame are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taper {
    /// Hann to the power 0.85, as 3D-Speaker has it.
    Povey,
    /// Hamming, and samples times 32,768, of which only the floor is an effect once the mean of each
    /// band is removed, as WeSpeaker has it.
    Hamming,
}

impl Taper {
    fn weight(self, at: usize) -> f32 {
        let cosine = (TAU * at as f64 / (FRAME_SAMPLES - 1) as f64).cos();
        match self {
            Self::Povey => (0.5 - 0.5 * cosine).powf(0.85) as f32,
            // A power of two, so that it might as well stand before all that comes before it.
            Self::Hamming => (0.54 - 0.46 * cosine) as f32 * 32_768.0,
        }
    }
}

/// The transform with its tables.
pub(crate) struct Fbank {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    /// For each band its first bin and the weights from there on.
    bands: Vec<(usize, Vec<f32>)>,
}

impl std::fmt::Debug for Fbank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fbank").finish_non_exhaustive()
    }
}

/// How many frames lie wholly in so many samples.
pub(crate) fn fbank_frames(samples: usize) -> usize {
    if samples < FRAME_SAMPLES { 0 } else { 1 + (samples - FRAME_SAMPLES) / FBANK_HOP_SAMPLES }
}

impl Fbank {
    /// Makes the tables.
    pub(crate) fn new(taper: Taper) -> Self {
        Self {
            fft: RealFftPlanner::new().plan_fft_forward(FFT_SAMPLES),
            window: (0..FRAME_SAMPLES).map(|at| taper.weight(at)).collect(),
            bands: mel_bands(),
        }
    }

    /// Some frames of 16 kHz `samples`: `(frames, 80)`. Samples beyond the end are silence.
    ///
    /// # Errors
    /// [`Error::Inference`] if the transform fails.
    pub(crate) fn frames(&self, samples: &[f32], frames: Range<usize>) -> Result<Vec<f32>> {
        let mut padded = self.fft.make_input_vec();
        let mut spectrum: Vec<Complex<f32>> = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0.0; FFT_SAMPLES / 2];
        let mut out = Vec::with_capacity(frames.len() * FBANK_BANDS);
        for frame in frames {
            let start = (frame * FBANK_HOP_SAMPLES).min(samples.len());
            let found = &samples[start..samples.len().min(start + FRAME_SAMPLES)];
            padded.fill(0.0);
            for (to, &sample) in padded.iter_mut().zip(found) {
                *to = if sample.is_finite() { sample.clamp(-16.0, 16.0) } else { 0.0 };
            }
            self.shape(&mut padded[..FRAME_SAMPLES]);
            self.fft
                .process_with_scratch(&mut padded, &mut spectrum, &mut scratch)
                .map_err(|error| Error::inference("spectrum of a filterbank", error))?;
            for (power, bin) in power.iter_mut().zip(&spectrum) {
                *power = bin.norm_sqr();
            }
            out.extend(self.bands.iter().map(|(first, weights)| {
                let products = weights.iter().zip(&power[*first..]).map(|(w, p)| w * p);
                products.sum::<f32>().max(FLOOR).ln()
            }));
        }
        Ok(out)
    }

    /// Mean, pre-emphasis and window of one frame.
    fn shape(&self, frame: &mut [f32]) {
        let mean = frame.iter().map(|&sample| f64::from(sample)).sum::<f64>() / frame.len() as f64;
        for sample in frame.iter_mut() {
            *sample -= mean as f32;
        }
        // The first sample is its own predecessor.
        let mut before = frame[0];
        for (sample, weight) in frame.iter_mut().zip(&self.window) {
            let now = *sample;
            *sample = (now - PRE_EMPHASIS * before) * weight;
            before = now;
        }
    }
}

/// Triangles on the mel scale over bins 0 to 255; the Nyquist bin is in none.
fn mel_bands() -> Vec<(usize, Vec<f32>)> {
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(LOW_HZ), mel(SAMPLE_RATE_HZ / 2.0));
    let step = (high - low) / (FBANK_BANDS + 1) as f64;
    (0..FBANK_BANDS)
        .map(|band| {
            let left = low + band as f64 * step;
            let (center, right) = (left + step, left + 2.0 * step);
            let weight = |bin: usize| {
                let at = mel(bin as f64 * SAMPLE_RATE_HZ / FFT_SAMPLES as f64);
                ((at - left) / (center - left)).min((right - at) / (right - center)).max(0.0)
            };
            let bins: Vec<usize> = (0..FFT_SAMPLES / 2).filter(|&bin| weight(bin) > 0.0).collect();
            let first = bins.first().copied().unwrap_or(0);
            (first, bins.iter().map(|&bin| weight(bin) as f32).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_the_floor_and_short_sound_has_no_frames() {
        let fbank = Fbank::new(Taper::Povey);
        let floor = FLOOR.ln();
        assert!(fbank.frames(&[0.0; 560], 0..2).unwrap().iter().all(|&value| value == floor));
        assert_eq!([399, 400, 559, 560].map(fbank_frames), [0, 1, 1, 2]);
        // Beyond the end, too.
        assert!(fbank.frames(&[], 5..6).unwrap().iter().all(|&value| value == floor));
    }

    #[test]
    fn a_tone_is_loudest_in_its_band_and_what_is_no_number_is_silence() {
        let tone: Vec<f32> =
            (0..400).map(|at| (TAU * 1000.0 * f64::from(at) / 16_000.0).sin() as f32).collect();
        let frame = Fbank::new(Taper::Povey).frames(&tone, 0..1).unwrap();
        let loudest = (0..FBANK_BANDS).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap();
        // 1 kHz is 1000 mel; bands are centred every (2840 - 31.7) / 81 mel from 66.4 on.
        assert_eq!(loudest, 27);
        assert!(
            Fbank::new(Taper::Povey)
                .frames(&[f32::NAN; 400], 0..1)
                .unwrap()
                .iter()
                .all(|v| v.is_finite())
        );
    }
}
