//! Log-mel spectrogram, as Whisper expects it.
//!
//! Samples at 16 kHz, frames of 400 samples every 160 (25 ms, 10 ms), each centred on its time by
//! reflecting the start, a periodic Hann window, power spectrum, 80 or 128 Slaney mel bands, log10,
//! clipped 8 below the maximum, scaled to about [-1, 1.5]. Equal to openai-whisper's
//! `log_mel_spectrogram` (`whisper/audio.py`), whose last frame is dropped.
//!
//! The clip is relative to a maximum, and engines differ in which one and in what fills a window
//! that the sound does not:
//!
//! | engine | maximum over | frames after the sound |
//! |---|---|---|
//! | openai-whisper `transcribe`, faster-whisper sequential | the file | 0.0 |
//! | faster-whisper batched | the chunk | 0.0 |
//! | `WhisperX` | the chunk | the spectrum of silence |
//!
//! So [`LogMel::maximum`] walks a file once without keeping anything, and [`LogMel::window`] makes
//! the 30 s that are asked for: a file's whole spectrogram never stands in memory.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::threads::Threads;

const SAMPLE_RATE_HZ: f64 = 16_000.0;
const N_FFT: usize = 400;
const BINS: usize = N_FFT / 2 + 1;
/// Samples from one frame to the next: 10 ms.
pub(crate) const HOP_SAMPLES: usize = 160;
/// Frames of one window: 30 s.
pub(crate) const WINDOW_FRAMES: usize = 3000;
/// What the reference takes for silence, before the logarithm.
const MIN_POWER: f32 = 1e-10;
/// Frames that one task computes: enough work to be worth handing out, 640 ms of sound.
const TASK_FRAMES: usize = 64;
/// Frames that are summed to bands side by side: each sum waits for itself only.
const LANES: usize = 16;

/// One window of log-mel features: `(n_mels, frames)`, band after band.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mel {
    /// Bands: 80 or 128.
    pub(crate) n_mels: usize,
    /// `n_mels * frames` values.
    pub(crate) values: Vec<f32>,
}

impl Mel {
    /// Frames of each band: 3,000, or fewer of a window made [shorter](Self::shorten).
    pub(crate) fn frames(&self) -> usize {
        self.values.len() / self.n_mels.max(1)
    }

    /// Leaves out what comes after so many frames, rounded up to whole frames of the encoder.
    pub(crate) fn shorten(&mut self, frames: usize) {
        let (frames, whole) = (frames.next_multiple_of(2), self.frames());
        if frames >= whole {
            return;
        }
        for band in 1..self.n_mels {
            self.values.copy_within(band * whole..band * whole + frames, band * frames);
        }
        self.values.truncate(self.n_mels * frames);
    }
}

/// Computes log-mel features with a given number of bands.
pub(crate) struct LogMel {
    hann: Vec<f32>,
    filters: Vec<Filter>,
    fft: Arc<dyn RealToComplex<f32>>,
    threads: Threads,
}

/// One mel band: a triangle over neighbouring bins.
struct Filter {
    first_bin: usize,
    weights: Vec<f32>,
}

/// Buffers of one thread.
struct Scratch {
    frame: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    fft: Vec<Complex<f32>>,
    /// For each bin the powers of frames side by side.
    powers: Vec<[f32; LANES]>,
}

impl LogMel {
    /// Prepares the window, the filters and the transform for `n_mels` bands.
    pub(crate) fn new(n_mels: usize) -> Self {
        let phase = |i: usize| 2.0 * std::f64::consts::PI * i as f64 / N_FFT as f64;
        let hann = (0..N_FFT).map(|i| (0.5 - 0.5 * phase(i).cos()) as f32).collect();
        let fft = RealFftPlanner::new().plan_fft_forward(N_FFT);
        Self { hann, filters: slaney_filters(n_mels), fft, threads: Threads::default() }
    }

    /// The same, computing on these threads.
    pub(crate) fn on(mut self, threads: &Threads) -> Self {
        self.threads = threads.clone();
        self
    }

    /// The greatest log10 band power of `samples` followed by silence: what
    /// [`window`](Self::window) clips against when windows of one file shall agree.
    pub(crate) fn maximum(&self, samples: &[f32]) -> f32 {
        let tasks = sounding_frames(samples).div_ceil(TASK_FRAMES);
        let task_values = TASK_FRAMES * self.filters.len();
        let loudest = (0..tasks).into_par_iter().map_init(
            || (self.scratch(), vec![0.0; task_values]),
            |(scratch, rows), task| {
                self.fill_powers(samples, task * TASK_FRAMES, scratch, rows);
                rows.iter().fold(MIN_POWER, |loudest, &power| loudest.max(power))
            },
        );
        self.threads.run(|| loudest.reduce(|| MIN_POWER, f32::max)).log10()
    }

    /// The window whose first frame is the file's frame `start_frame`.
    ///
    /// `frames_used` frames (at most 3,000) are computed, with silence past the end of `samples`;
    /// the others are 0.0, which is how the reference pads features. `maximum` is the value to
    /// clip against; `None` takes that of `samples`, which then should be one chunk.
    pub(crate) fn window(
        &self,
        samples: &[f32],
        start_frame: usize,
        frames_used: usize,
        maximum: Option<f32>,
    ) -> Mel {
        let n_mels = self.filters.len();
        let frames_used = frames_used.min(WINDOW_FRAMES);
        let powers = self.powers(samples, start_frame..start_frame + frames_used);
        let maximum = maximum.unwrap_or_else(|| {
            if start_frame == 0 && frames_used >= sounding_frames(samples) {
                powers.iter().fold(MIN_POWER, |a, &b| a.max(b)).log10()
            } else {
                self.maximum(samples)
            }
        });
        let floor = maximum - 8.0;
        let mut values = vec![0.0; n_mels * WINDOW_FRAMES];
        let fill = |(band, row): (usize, &mut [f32])| {
            let column = powers.iter().skip(band).step_by(n_mels);
            for (value, power) in row.iter_mut().zip(column) {
                *value = (power.max(MIN_POWER).log10().max(floor) + 4.0) / 4.0;
            }
        };
        self.threads.run(|| values.par_chunks_mut(WINDOW_FRAMES).enumerate().for_each(fill));
        Mel { n_mels, values }
    }

    /// Band powers of some frames, `(frames, n_mels)`.
    fn powers(&self, samples: &[f32], frames: Range<usize>) -> Vec<f32> {
        let n_mels = self.filters.len();
        let mut powers = vec![0.0; frames.len() * n_mels];
        let tasks = powers.par_chunks_mut(TASK_FRAMES * n_mels).enumerate();
        let fill = |scratch: &mut Scratch, (task, rows): (usize, &mut [f32])| {
            self.fill_powers(samples, frames.start + task * TASK_FRAMES, scratch, rows);
        };
        self.threads.run(|| tasks.for_each_init(|| self.scratch(), fill));
        powers
    }

    /// Band powers of the frames from `first` on into rows of one value for each filter.
    fn fill_powers(&self, samples: &[f32], first: usize, scratch: &mut Scratch, rows: &mut [f32]) {
        let n_mels = self.filters.len();
        for (group, rows) in rows.chunks_mut(LANES * n_mels).enumerate() {
            for lane in 0..rows.len() / n_mels {
                self.fill_bins(samples, first + group * LANES + lane, scratch, lane);
            }
            for (band, filter) in self.filters.iter().enumerate() {
                let mut sums = [0.0; LANES];
                let bins = scratch.powers[filter.first_bin..].iter();
                for (powers, weight) in bins.zip(&filter.weights) {
                    sums.iter_mut().zip(powers).for_each(|(sum, power)| *sum += power * weight);
                }
                for (row, sum) in rows.chunks_exact_mut(n_mels).zip(sums) {
                    row[band] = sum;
                }
            }
        }
    }

    /// Powers of one frame's bins into a lane.
    fn fill_bins(&self, samples: &[f32], frame: usize, scratch: &mut Scratch, lane: usize) {
        let Scratch { frame: heard, spectrum, fft, powers } = scratch;
        if !gather(samples, frame, heard) {
            powers.iter_mut().for_each(|powers| powers[lane] = 0.0);
            return;
        }
        heard.iter_mut().zip(&self.hann).for_each(|(sample, weight)| *sample *= weight);
        self.fft
            .process_with_scratch(heard, spectrum, fft)
            .expect("buffers have the lengths that the plan asked for");
        powers.iter_mut().zip(spectrum).for_each(|(powers, bin)| powers[lane] = bin.norm_sqr());
    }

    fn scratch(&self) -> Scratch {
        Scratch {
            frame: self.fft.make_input_vec(),
            spectrum: self.fft.make_output_vec(),
            fft: self.fft.make_scratch_vec(),
            powers: vec![[0.0; LANES]; BINS],
        }
    }
}

/// How many frames from the first on can hear anything of `samples`.
fn sounding_frames(samples: &[f32]) -> usize {
    // Frame k reaches up to sample k * hop + half a frame, exclusively.
    if samples.is_empty() { 0 } else { (samples.len() - 1 + N_FFT / 2) / HOP_SAMPLES + 1 }
}

/// Copies the samples that frame `frame` hears; false if it hears none.
///
/// Half a frame reflected at the start centres frame k on sample k * hop. The reference reflects
/// the end as well, but only after it has appended 30 s (faster-whisper: one hop) of silence, which
/// leaves nothing to reflect but silence.
fn gather(samples: &[f32], frame: usize, into: &mut [f32]) -> bool {
    let Some(start) = (frame * HOP_SAMPLES).checked_sub(N_FFT / 2) else {
        let before = N_FFT / 2 - frame * HOP_SAMPLES;
        for (offset, value) in into.iter_mut().enumerate() {
            *value = samples.get(offset.abs_diff(before)).copied().unwrap_or(0.0);
        }
        return !samples.is_empty();
    };
    let heard = samples.get(start..).unwrap_or_default();
    let heard = &heard[..heard.len().min(into.len())];
    into[..heard.len()].copy_from_slice(heard);
    into[heard.len()..].fill(0.0);
    !heard.is_empty()
}

/// Slaney's mel filters with unit area, as `librosa.filters.mel(sr=16000, n_fft=400)` makes them.
fn slaney_filters(n_mels: usize) -> Vec<Filter> {
    let highest = mel_of_hz(SAMPLE_RATE_HZ / 2.0);
    let edge_hz = |i: usize| hz_of_mel(highest * i as f64 / (n_mels + 1) as f64);
    let bin_hz = |bin: usize| bin as f64 * SAMPLE_RATE_HZ / N_FFT as f64;
    let band = |band: usize| {
        let (low, centre, high) = (edge_hz(band), edge_hz(band + 1), edge_hz(band + 2));
        let weight = |bin: usize| {
            let rising = (bin_hz(bin) - low) / (centre - low);
            let falling = (high - bin_hz(bin)) / (high - centre);
            rising.min(falling).max(0.0) * 2.0 / (high - low)
        };
        let first_bin = (0..BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
        let weights = (first_bin..BINS).map(weight).take_while(|&weight| weight > 0.0);
        Filter { first_bin, weights: weights.map(|weight| weight as f32).collect() }
    };
    (0..n_mels).map(band).collect()
}

// Slaney's scale (Auditory Toolbox, 1998): linear below 1 kHz, 27 steps per factor 6.4 above.
const HZ_PER_MEL: f64 = 200.0 / 3.0;
const LINEAR_UP_TO_HZ: f64 = 1000.0;
const LINEAR_UP_TO_MEL: f64 = LINEAR_UP_TO_HZ / HZ_PER_MEL;

fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn mel_of_hz(hz: f64) -> f64 {
    if hz < LINEAR_UP_TO_HZ {
        hz / HZ_PER_MEL
    } else {
        LINEAR_UP_TO_MEL + (hz / LINEAR_UP_TO_HZ).ln() / log_step()
    }
}

fn hz_of_mel(mel: f64) -> f64 {
    if mel < LINEAR_UP_TO_MEL {
        mel * HZ_PER_MEL
    } else {
        LINEAR_UP_TO_HZ * ((mel - LINEAR_UP_TO_MEL) * log_step()).exp()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn a_shorter_window_is_the_beginning_of_each_band() {
        let whole = LogMel::new(80).window(&signal(), 0, 500, None);
        let mut short = whole.clone();
        short.shorten(299);
        assert_eq!(short.frames(), 300, "whole frames of the encoder");
        let bands = whole.values.chunks(WINDOW_FRAMES).flat_map(|band| &band[..300]);
        assert!(short.values.iter().eq(bands));
        short.shorten(1000);
        assert_eq!(short.frames(), 300);
    }

    /// 5 s: a chirp from 200 Hz to 3.2 kHz and noise by a congruential generator.
    pub(crate) fn signal() -> Vec<f32> {
        let mut state = 12_345_u32;
        let sample = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(state) / 2_147_483_648.0 - 1.0;
            let t = f64::from(n) / 16_000.0;
            let chirp = (2.0 * std::f64::consts::PI * (200.0 * t + 300.0 * t * t)).sin();
            (0.3 * chirp + 0.05 * noise) as f32
        };
        (0..80_000).map(sample).collect()
    }

    fn golden() -> HashMap<String, Tensor> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mel_synthetic.safetensors");
        candle_core::safetensors::load(path, &Device::Cpu).unwrap()
    }

    /// The greatest difference to the reference, whose `columns` are the given frames of the file.
    fn difference(mel: &Mel, columns: &Tensor, frames: &[usize]) -> f32 {
        let columns = columns.to_vec2::<f32>().unwrap();
        assert_eq!(columns.len(), mel.n_mels);
        let mut greatest = 0.0_f32;
        for (row, band) in columns.iter().zip(mel.values.chunks(WINDOW_FRAMES)) {
            for (expected, &frame) in row.iter().zip(frames) {
                greatest = greatest.max((band[frame] - expected).abs());
            }
        }
        greatest
    }

    #[test]
    fn equals_the_reference() {
        let (samples, golden) = (signal(), golden());
        assert_eq!(golden["signal_head"].to_vec1::<f32>().unwrap(), samples[..16]);
        assert_eq!(golden["signal_tail"].to_vec1::<f32>().unwrap(), samples[80_000 - 16..]);
        let frames = golden["frames"].to_vec1::<i32>().unwrap();
        let frames: Vec<usize> = frames.iter().map(|&frame| frame as usize).collect();
        for n_mels in [80, 128] {
            let log_mel = LogMel::new(n_mels);
            let maximum = log_mel.maximum(&samples);
            let mel = log_mel.window(&samples, 0, 500, Some(maximum));
            let columns = &golden[&format!("mel{n_mels}_pad30")];
            // f32 sums over 400 samples and the bins of a band, amplified by the logarithm.
            let difference = difference(&mel, columns, &frames);
            assert!(difference < 1e-4, "{n_mels} bands: {difference:e}");
        }
    }

    #[test]
    fn filters_have_the_reference_area() {
        // Sums of the filters that openai-whisper ships (mel_filters.npz).
        for (n_mels, expected) in [(80, 1.999_024_09), (128, 3.190_985_54)] {
            let filters = slaney_filters(n_mels);
            let sum: f64 = filters.iter().flat_map(|f| &f.weights).map(|&w| f64::from(w)).sum();
            assert!((sum - expected).abs() < 1e-5, "{n_mels} bands: {sum}");
        }
    }

    #[test]
    fn a_window_that_starts_later_is_a_part_of_the_file() {
        let samples = signal();
        let log_mel = LogMel::new(80);
        let maximum = Some(log_mel.maximum(&samples));
        let whole = log_mel.window(&samples, 0, 500, maximum);
        let part = log_mel.window(&samples, 137, 363, maximum);
        for (whole, part) in whole.values.chunks(3000).zip(part.values.chunks(3000)) {
            assert_eq!(whole[137..500], part[..363]);
            assert!(part[363..].iter().all(|&value| value == 0.0));
        }
    }

    #[test]
    fn a_chunk_by_itself_is_clipped_against_its_own_maximum() {
        let samples = signal();
        let log_mel = LogMel::new(80);
        let maximum = Some(log_mel.maximum(&samples));
        let own = log_mel.window(&samples, 0, 500, None);
        assert_eq!(own, log_mel.window(&samples, 0, 500, maximum));
        // One pass when the frames cover the chunk, two when they do not: no difference.
        assert_eq!(own.values[..500], log_mel.window(&samples, 0, 3000, None).values[..500]);
    }

    #[test]
    fn silence_and_nothing_have_the_least_value() {
        let log_mel = LogMel::new(80);
        for samples in [vec![], vec![0.0; 1], vec![0.0; 20_000]] {
            assert_eq!(log_mel.maximum(&samples), -10.0);
            let mel = log_mel.window(&samples, 0, 3000, None);
            assert!(mel.values.iter().all(|&value| value == -1.5));
            let beyond = log_mel.window(&samples, usize::MAX / HOP_SAMPLES - 3000, 0, None);
            assert!(beyond.values.iter().all(|&value| value == 0.0));
        }
    }

    #[test]
    fn one_sample_is_heard_by_the_frames_around_it() {
        let mel = LogMel::new(80).window(&[1.0], 0, 3000, None);
        let level = |frame: usize| mel.values[40 * 3000 + frame];
        assert!(level(0) > level(2) && level(1) > level(2));
        assert_eq!(level(2), level(2999));
    }
}
