//! `PyanNet`: pyannote's segmentation-3.0 (Bredin 2023; weights MIT).
//!
//! A window of 160,000 samples, normalised by its own mean and variance:
//!
//! | step | weights | output of a window |
//! |---|---|---|
//! | sinc filters of 251 samples every 10, magnitude, maximum of 3 | (80, 251), made of 40 bands | (5325, 80) |
//! | convolution over 5 frames, maximum of 3 | (60, 80, 5) | (1773, 60) |
//! | convolution over 5 frames, maximum of 3 | (60, 60, 5) | (589, 60) |
//! | LSTM in both directions, four layers | (512, 60 or 256), (512, 128) | (589, 256) |
//! | two linear layers, leaky | (128, 256), (128, 128) | (589, 128) |
//! | linear, log softmax | (7, 128) | (589, 7) |
//!
//! Each maximum is followed by a norm over the window's time and a leaky rectifier of 0.01.
//! The older network that WhisperX detects speech with is the same but for its [`Head`]: windows of
//! 5 s (293 frames), and each of three speakers by itself, by a sigmoid.
//!
//! Windows overlap by up to nine tenths. The filters are linear, so they run once over all the sound
//! that a group of windows shares, and each window's normalisation is applied to their responses
//! (`filter * (a x + b) = a (filter * x) + b sum(filter)`). The windows of a group go through the
//! LSTM side by side, so that each of its steps is a matrix product.
//! Source: pyannote.audio 3.1 `models/segmentation/PyanNet.py`, `models/blocks/sincnet.py`, and
//! asteroid-filterbanks `param_sinc_fb.py`. Dropout is for training and left out.

use super::{CLASSES, LOCAL_SPEAKERS, SAMPLE_RATE_HZ, WINDOW_SAMPLES};
use crate::device::ComputeType;
use crate::error::Result;
use crate::kernels::cpu::dense::{Columns, Dense, Lstm};
use crate::kernels::matrix::Rows;
use crate::models::weights::Weights;

const FILTERS: usize = 80;
const BANDS: usize = FILTERS / 2;
const FILTER_SAMPLES: usize = 251;
const HALF_FILTER: usize = FILTER_SAMPLES / 2;
/// Samples between the responses of a filter.
pub(super) const FILTER_STEP: usize = 10;
const CHANNELS: usize = 60;
const TAPS: usize = 5;
const POOL: usize = 3;
const HIDDEN: usize = 128;
const LAYERS: usize = 4;
const LOWEST_HZ: f64 = 50.0;
const EPSILON: f64 = 1e-5;
const LEAK: f32 = 0.01;

/// Windows that go through the network side by side: five tiles of the product kernel.
pub(crate) const GROUP_WINDOWS: usize = 30;

/// Windows of one length, `step` samples apart; `step` is a multiple of [`FILTER_STEP`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// The first sample of the first window.
    pub(crate) start: usize,
    pub(crate) step: usize,
    pub(crate) count: usize,
}

/// What a network of this family hears at once and says of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// segmentation-3.0: log probabilities of the sets of at most two of three speakers, in 10 s.
    Powerset,
    /// WhisperX's: the probability of each of three speakers, in 5 s.
    Speakers,
}

impl Head {
    /// Values for each frame.
    pub(crate) const fn outputs(self) -> usize {
        match self {
            Self::Powerset => CLASSES,
            Self::Speakers => LOCAL_SPEAKERS,
        }
    }

    /// Samples of a window.
    pub(crate) const fn window_samples(self) -> usize {
        match self {
            Self::Powerset => WINDOW_SAMPLES,
            Self::Speakers => WINDOW_SAMPLES / 2,
        }
    }

    /// Responses of a filter in a window.
    const fn responses(self) -> usize {
        (self.window_samples() - FILTER_SAMPLES) / FILTER_STEP + 1
    }

    /// Frames of a window.
    pub(crate) const fn window_frames(self) -> usize {
        let first = (self.responses() / POOL + 1 - TAPS) / POOL;
        (first + 1 - TAPS) / POOL
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct PyanNet {
    pub(crate) head: Head,
    /// Scale and shift of the window's samples.
    input_norm: [f32; 2],
    filters: Dense,
    /// What a filter answers to a constant 1.
    filter_sums: Vec<f32>,
    stages: [Stage; 2],
    filter_norm: Affine,
    /// Forward and reverse of each layer.
    lstm: Vec<[Lstm; 2]>,
    linear: [Dense; 2],
    classifier: Dense,
}

/// A convolution over frames with the norm behind its maximum.
#[derive(Debug)]
struct Stage {
    /// (60, 5, inputs): taps moved in front of inputs.
    convolution: Dense,
    inputs: usize,
    norm: Affine,
}

/// Scale and shift of a norm, one of each for a channel.
#[derive(Debug)]
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl PyanNet {
    /// Packs the network of a checkpoint with this head. What follows the filters is multiplied as
    /// [`Dense::with`] says, but for the classes.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) naming the tensor that is missing or shaped otherwise.
    pub(crate) fn load(weights: &dyn Weights, head: Head, compute: ComputeType) -> Result<Self> {
        let get = |name: &str, shape: &[usize]| weights.get(name, shape)?.to_f32();
        let affine = |name: &str, channels: usize| -> Result<Affine> {
            let scale = get(&format!("{name}.weight"), &[channels])?;
            Ok(Affine { scale, shift: get(&format!("{name}.bias"), &[channels])? })
        };
        let stage = |index: usize, inputs: usize| -> Result<Stage> {
            let name = format!("sincnet.conv1d.{index}");
            let weight = get(&format!("{name}.weight"), &[CHANNELS, inputs, TAPS])?;
            let taps_first = (0..weight.len()).map(|at| {
                let (output, tap, input) = (at / (TAPS * inputs), at / inputs % TAPS, at % inputs);
                weight[(output * inputs + input) * TAPS + tap]
            });
            let taps_first: Vec<f32> = taps_first.collect();
            let bias = get(&format!("{name}.bias"), &[CHANNELS])?;
            let shape = [CHANNELS, TAPS * inputs];
            let convolution = Dense::with(compute, &taps_first, shape, &bias);
            let norm = affine(&format!("sincnet.norm1d.{index}"), CHANNELS)?;
            Ok(Stage { convolution, inputs, norm })
        };
        let dense = |name: &str, [outputs, inputs]: [usize; 2], compute| -> Result<Dense> {
            let weight = get(&format!("{name}.weight"), &[outputs, inputs])?;
            let bias = get(&format!("{name}.bias"), &[outputs])?;
            Ok(Dense::with(compute, &weight, [outputs, inputs], &bias))
        };
        let lstm = |layer: usize, suffix: &str| -> Result<Lstm> {
            let inputs = if layer == 0 { CHANNELS } else { 2 * HIDDEN };
            let get =
                |part: &str, shape: &[usize]| get(&format!("lstm.{part}_l{layer}{suffix}"), shape);
            let ih = get("bias_ih", &[4 * HIDDEN])?;
            let bias: Vec<f32> =
                ih.iter().zip(get("bias_hh", &[4 * HIDDEN])?).map(|(ih, hh)| ih + hh).collect();
            let weight_ih = get("weight_ih", &[4 * HIDDEN, inputs])?;
            let weight_hh = get("weight_hh", &[4 * HIDDEN, HIDDEN])?;
            Ok(Lstm::with(compute, [&weight_ih, &weight_hh], &bias, inputs))
        };
        let filterbank = "sincnet.conv1d.0.filterbank";
        let filters = sinc_filters(Bands {
            lows: &get(&format!("{filterbank}.low_hz_"), &[BANDS, 1])?,
            widths: &get(&format!("{filterbank}.band_hz_"), &[BANDS, 1])?,
            times: &get(&format!("{filterbank}.n_"), &[1, HALF_FILTER])?,
            window: &get(&format!("{filterbank}.window_"), &[HALF_FILTER])?,
        });
        let norm = affine("sincnet.wav_norm1d", 1)?;
        Ok(Self {
            head,
            input_norm: [norm.scale[0], norm.shift[0]],
            filters: Dense::new(&filters, [FILTERS, FILTER_SAMPLES], &[]),
            filter_sums: filters.chunks_exact(FILTER_SAMPLES).map(|row| row.iter().sum()).collect(),
            filter_norm: affine("sincnet.norm1d.0", FILTERS)?,
            stages: [stage(1, FILTERS)?, stage(2, CHANNELS)?],
            lstm: (0..LAYERS)
                .map(|layer| Ok([lstm(layer, "")?, lstm(layer, "_reverse")?]))
                .collect::<Result<_>>()?,
            linear: [
                dense("linear.0", [HIDDEN, 2 * HIDDEN], compute)?,
                dense("linear.1", [HIDDEN, HIDDEN], compute)?,
            ],
            classifier: dense("classifier", [head.outputs(), HIDDEN], ComputeType::F32)?,
        })
    }

    /// What the head says of a group of windows: `(windows, 589, 7)`. Beyond the end of `samples` is
    /// silence.
    pub(crate) fn run(&self, samples: &[f32], group: Group) -> Vec<f32> {
        let hidden = self.recurrent(&self.features(samples, group), group.count);
        self.classify(&hidden, group.count)
    }

    /// What the LSTM hears of a group: `(589, windows, 60)`.
    fn features(&self, samples: &[f32], group: Group) -> Vec<f32> {
        let window_samples = self.head.window_samples();
        let span_samples = (group.count - 1) * group.step + window_samples;
        let start = group.start.min(samples.len());
        let mut span = vec![0.0; span_samples];
        let found = &samples[start..samples.len().min(start + span_samples)];
        for (to, &sample) in span.iter_mut().zip(found) {
            *to = if sample.is_finite() { sample.clamp(-16.0, 16.0) } else { 0.0 };
        }
        let count = (span_samples - FILTER_SAMPLES) / FILTER_STEP + 1;
        let mut responses = vec![0.0; count * FILTERS]; // (responses, 80)
        let rows = Rows::new(&span, count, FILTER_SAMPLES, FILTER_STEP);
        self.filters.apply(rows, &mut responses, FILTERS);

        let sums = Sums::of(&span);
        let mut features = vec![0.0; self.head.window_frames() * group.count * CHANNELS];
        for window in 0..group.count {
            let start = window * group.step;
            let first = start / FILTER_STEP * FILTERS;
            let own = &responses[first..first + self.head.responses() * FILTERS];
            let frames = self.window_features(sums.moments(start, window_samples), own);
            for (frame, values) in frames.chunks_exact(CHANNELS).enumerate() {
                let at = (frame * group.count + window) * CHANNELS;
                features[at..at + CHANNELS].copy_from_slice(values);
            }
        }
        features
    }

    /// From the filters' responses `(15975, 80)` to one window's frames `(589, 60)`.
    fn window_features(&self, moments: (f64, f64), responses: &[f32]) -> Vec<f32> {
        let mut pooled = self.magnitudes(moments, responses); // (5325, 80)
        self.filter_norm.apply(&mut pooled);
        for stage in &self.stages {
            pooled = stage.run(&pooled);
        }
        pooled
    }

    /// The largest magnitude of each three responses to the normalised window: `(5325, 80)`.
    fn magnitudes(&self, (mean, variance): (f64, f64), responses: &[f32]) -> Vec<f32> {
        let scale = f64::from(self.input_norm[0]) / (variance + EPSILON).sqrt();
        let shift = f64::from(self.input_norm[1]) - mean * scale;
        let shifts: Vec<f32> = self.filter_sums.iter().map(|sum| shift as f32 * sum).collect();
        let scale = scale as f32;
        let mut pooled = vec![0.0f32; self.head.responses() / POOL * FILTERS];
        let triples = responses.chunks_exact(POOL * FILTERS);
        for (out, triple) in pooled.chunks_exact_mut(FILTERS).zip(triples) {
            for response in triple.chunks_exact(FILTERS) {
                for ((out, response), shift) in out.iter_mut().zip(response).zip(&shifts) {
                    let magnitude = (response * scale + shift).abs();
                    *out = if magnitude > *out { magnitude } else { *out };
                }
            }
        }
        pooled
    }

    /// The LSTM: `(589, windows, 60)` to `(589, windows, 256)`.
    fn recurrent(&self, features: &[f32], windows: usize) -> Vec<f32> {
        let stride = 2 * HIDDEN;
        let mut input = Vec::new();
        let mut output = vec![0.0; self.head.window_frames() * windows * stride];
        for (layer, [forward, reverse]) in self.lstm.iter().enumerate() {
            let from = if layer == 0 { features } else { &input[..] };
            forward.run(from, windows, false, &mut output, Columns { first: 0, stride });
            reverse.run(from, windows, true, &mut output, Columns { first: HIDDEN, stride });
            if layer + 1 < LAYERS {
                std::mem::swap(&mut input, &mut output);
                output.resize(input.len(), 0.0);
            }
        }
        output
    }

    /// Linear layers and classes: `(589, windows, 256)` to `(windows, 589, 7)`.
    fn classify(&self, hidden: &[f32], windows: usize) -> Vec<f32> {
        let (outputs, frames) = (self.head.outputs(), self.head.window_frames());
        let mut out = vec![0.0; windows * frames * outputs];
        let mut first = vec![0.0; windows * HIDDEN];
        let mut second = vec![0.0; windows * HIDDEN];
        let mut classes = vec![0.0; windows * outputs];
        for (frame, hidden) in hidden.chunks_exact(windows * 2 * HIDDEN).enumerate() {
            let rows = Rows::new(hidden, windows, 2 * HIDDEN, 2 * HIDDEN);
            self.linear[0].apply(rows, &mut first, HIDDEN);
            leak(&mut first);
            self.linear[1].apply(Rows::new(&first, windows, HIDDEN, HIDDEN), &mut second, HIDDEN);
            leak(&mut second);
            let rows = Rows::new(&second, windows, HIDDEN, HIDDEN);
            self.classifier.apply(rows, &mut classes, outputs);
            for (window, classes) in classes.chunks_exact(outputs).enumerate() {
                let at = (window * frames + frame) * outputs;
                let out = &mut out[at..at + outputs];
                match self.head {
                    Head::Powerset => log_softmax(classes, out),
                    Head::Speakers => sigmoid(classes, out),
                }
            }
        }
        out
    }
}

impl Stage {
    /// `(frames, inputs)` to `((frames - 4) / 3, 60)`.
    fn run(&self, x: &[f32]) -> Vec<f32> {
        let inputs = self.inputs;
        let frames = x.len() / inputs + 1 - TAPS;
        let mut convolved = vec![0.0; frames * CHANNELS];
        let rows = Rows::new(x, frames, TAPS * inputs, inputs);
        self.convolution.apply(rows, &mut convolved, CHANNELS);
        let mut pooled = Vec::with_capacity(frames / POOL * CHANNELS);
        for triple in convolved.chunks_exact(POOL * CHANNELS) {
            let (a, rest) = triple.split_at(CHANNELS);
            let (b, c) = rest.split_at(CHANNELS);
            pooled.extend(a.iter().zip(b).zip(c).map(|((a, b), c)| a.max(*b).max(*c)));
        }
        self.norm.apply(&mut pooled);
        pooled
    }
}

impl Affine {
    /// Norm over time of each channel of `(frames, channels)`, then the leaky rectifier.
    fn apply(&self, x: &mut [f32]) {
        let channels = self.scale.len();
        let frames = (x.len() / channels) as f64;
        let sums = column_sums(x, channels, |value, _| value, &vec![0.0; channels]);
        let means: Vec<f32> = sums.iter().map(|sum| (sum / frames) as f32).collect();
        let squares = |value: f32, mean: f32| (value - mean) * (value - mean);
        let variances = column_sums(x, channels, squares, &means);
        let scales: Vec<f32> = variances
            .iter()
            .zip(&self.scale)
            .map(|(sum, scale)| (f64::from(*scale) / (sum / frames + EPSILON).sqrt()) as f32)
            .collect();
        let shifts: Vec<f32> = (0..channels)
            .map(|channel| self.shift[channel] - means[channel] * scales[channel])
            .collect();
        for row in x.chunks_exact_mut(channels) {
            for ((value, scale), shift) in row.iter_mut().zip(&scales).zip(&shifts) {
                let normed = *value * scale + shift;
                *value = if normed > 0.0 { normed } else { normed * LEAK };
            }
        }
    }
}

/// Sums over the rows of `(rows, channels)`, in pieces short enough for f32.
fn column_sums(
    x: &[f32],
    channels: usize,
    term: impl Fn(f32, f32) -> f32,
    centers: &[f32],
) -> Vec<f64> {
    const PIECE_ROWS: usize = 64;
    let mut totals = vec![0.0; channels];
    let mut sums = vec![0.0; channels];
    for piece in x.chunks(PIECE_ROWS * channels) {
        sums.fill(0.0);
        for row in piece.chunks_exact(channels) {
            for ((sum, value), center) in sums.iter_mut().zip(row).zip(centers) {
                *sum += term(*value, *center);
            }
        }
        for (total, sum) in totals.iter_mut().zip(&sums) {
            *total += f64::from(*sum);
        }
    }
    totals
}

/// Sums of samples and of their squares, up to every [`FILTER_STEP`]th sample of a sound.
struct Sums(Vec<[f64; 2]>);

impl Sums {
    fn of(samples: &[f32]) -> Self {
        let mut total = [0.0; 2];
        let steps = samples.chunks_exact(FILTER_STEP).map(|step| {
            for &sample in step {
                total[0] += f64::from(sample);
                total[1] += f64::from(sample) * f64::from(sample);
            }
            total
        });
        Self([[0.0; 2]].into_iter().chain(steps).collect())
    }

    /// Mean and variance (of all, not of a sample) from the sample `start` on; both are multiples of
    /// a step.
    fn moments(&self, start: usize, count: usize) -> (f64, f64) {
        let [from, to] = [start, start + count].map(|sample| self.0[sample / FILTER_STEP]);
        let [mean, square] = [0, 1].map(|power| (to[power] - from[power]) / count as f64);
        (mean, (square - mean * mean).max(0.0))
    }
}

fn leak(x: &mut [f32]) {
    for value in x {
        *value = if *value > 0.0 { *value } else { *value * LEAK };
    }
}

fn log_softmax(x: &[f32], out: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = x.iter().map(|x| (x - largest).exp()).sum();
    for (out, x) in out.iter_mut().zip(x) {
        *out = x - largest - sum.ln();
    }
}

fn sigmoid(x: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = 1.0 / (1.0 + (-x).exp());
    }
}

/// What a checkpoint says of its band passes.
struct Bands<'a> {
    /// Lower ends and widths in Hz.
    lows: &'a [f32],
    widths: &'a [f32],
    /// `2 pi t` of the samples before a filter's middle, and the window there. Both are known, but the reference
    /// takes them as they were rounded when the network was trained, which moves probabilities by 2e-4.
    times: &'a [f32],
    window: &'a [f32],
}

/// The filters `(80, 251)`: 40 band passes as cosines, then the same as sines.
fn sinc_filters(bands: Bands<'_>) -> Vec<f32> {
    let mut filters = vec![0.0; FILTERS * FILTER_SAMPLES];
    for (band, (low, width)) in bands.lows.iter().zip(bands.widths).enumerate() {
        let low = LOWEST_HZ + f64::from(low.abs());
        let high = low + LOWEST_HZ + f64::from(width.abs());
        let high = high.clamp(LOWEST_HZ, SAMPLE_RATE_HZ / 2.0);
        let gain = 2.0 * (high - low);
        let (cosines, sines) = (band * FILTER_SAMPLES, (BANDS + band) * FILTER_SAMPLES);
        for (at, (time, window)) in bands.times.iter().zip(bands.window).enumerate() {
            let time = f64::from(*time);
            let factor = f64::from(*window) / (time / 2.0) / gain;
            let cosine = (((high * time).sin() - (low * time).sin()) * factor) as f32;
            let sine = (((low * time).cos() - (high * time).cos()) * factor) as f32;
            let mirrored = FILTER_SAMPLES - 1 - at;
            filters[cosines + at] = cosine;
            filters[cosines + mirrored] = cosine;
            filters[sines + at] = sine;
            filters[sines + mirrored] = -sine;
        }
        filters[cosines + HALF_FILTER] = 1.0; // 2 band / (2 band); the sine's middle is 0
    }
    filters
}

#[cfg(test)]
mod tests;
