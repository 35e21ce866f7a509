//! From samples to frames of 20 ms: the convolutions in front of wav2vec 2.0.
//!
//! Seven one-dimensional convolutions without padding, each followed by GELU. Two flavours: *base* has
//! no biases and a norm of each channel over time (group norm) after the first one; *large* has biases
//! and a layer norm over the channels after each. Frames lie one after the other, `(frames, channels)`,
//! so that a convolution is a product whose rows overlap. The work is done in blocks of output frames,
//! which keeps the first layers, 64 times as long as the last, from being in memory at once.

use std::ops::Range;

use super::config::{Config, FeatureNorm};
use super::layers::{Linear, Norm, by_rows, gelu};
use crate::error::Result;
use crate::models::weights::Weights;

/// Output frames computed at once: 2.6 s.
const BLOCK_FRAMES: usize = 128;

/// One convolution.
#[derive(Debug)]
struct Convolution {
    kernel: usize,
    stride: usize,
    /// Inputs are `(kernel, channels)`.
    linear: Linear,
    norm: Option<Norm>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Convolutions {
    layers: Vec<Convolution>,
    norm: FeatureNorm,
}

impl Convolutions {
    pub(super) fn load(weights: &dyn Weights, config: &Config) -> Result<Self> {
        let mut inputs = 1;
        let mut layers = Vec::with_capacity(config.convolutions.len());
        for (index, size) in config.convolutions.iter().enumerate() {
            let name = format!("feature_extractor.conv_layers.{index}");
            let shape = [size.channels, inputs, size.kernel];
            let stored = weights.get(&format!("{name}.conv.weight"), &shape)?.to_f32()?;
            // From (outputs, inputs, kernel) to (outputs, kernel, inputs).
            let mut weight = vec![0.0; stored.len()];
            let filters = weight.chunks_exact_mut(inputs * size.kernel);
            for (to, from) in filters.zip(stored.chunks_exact(inputs * size.kernel)) {
                for (channel, taps) in from.chunks_exact(size.kernel).enumerate() {
                    for (tap, &value) in taps.iter().enumerate() {
                        to[tap * inputs + channel] = value;
                    }
                }
            }
            let bias = format!("{name}.conv.bias");
            let bias = match weights.shape(&bias) {
                Some(_) => weights.get(&bias, &[size.channels])?.to_f32()?,
                None => vec![0.0; size.channels],
            };
            let has_norm = config.feature_norm == FeatureNorm::Layer || index == 0;
            let load_norm =
                || Norm::load(weights, &format!("{name}.layer_norm"), size.channels, 1e-5);
            layers.push(Convolution {
                kernel: size.kernel,
                stride: size.stride,
                linear: Linear::new(inputs * size.kernel, weight, bias),
                norm: has_norm.then(load_norm).transpose()?,
            });
            inputs = size.channels;
        }
        Ok(Self { layers, norm: config.feature_norm })
    }

    /// How many frames come of so many samples.
    pub(super) fn n_frames(&self, n_samples: usize) -> usize {
        self.layers.iter().fold(n_samples, Convolution::outputs_of)
    }

    /// Samples `(n)` to features `(frames, channels)`.
    pub(super) fn run(&self, samples: &[f32], threads: usize) -> Vec<f32> {
        let channels = self.layers.last().map_or(1, |layer| layer.linear.outputs());
        let n_frames = self.n_frames(samples.len());
        let first = self.statistics(samples, threads);
        let mut out = vec![0.0; n_frames * channels];
        by_rows(&mut out, channels, threads, |first_frame, out| {
            for (block, out) in out.chunks_mut(BLOCK_FRAMES * channels).enumerate() {
                let start = first_frame + block * BLOCK_FRAMES;
                let frames = start..start + out.len() / channels;
                let samples = &samples[self.samples_of(frames)];
                out.copy_from_slice(&self.run_block(samples, first.as_deref()));
            }
        });
        out
    }

    /// The samples that some frames are made from.
    fn samples_of(&self, frames: Range<usize>) -> Range<usize> {
        self.layers.iter().rev().fold(frames, |frames, layer| {
            let last = frames.end.saturating_sub(1) * layer.stride + layer.kernel;
            frames.start * layer.stride..last
        })
    }

    /// Scale and shift of each channel of the first convolution, where its norm goes over time.
    fn statistics(&self, samples: &[f32], threads: usize) -> Option<Vec<(f32, f32)>> {
        let layer = self.layers.first().filter(|_| self.norm == FeatureNorm::Group)?;
        let norm = layer.norm.as_ref()?;
        let (channels, n) = (layer.linear.outputs(), Convolution::outputs_of(samples.len(), layer));
        let block = BLOCK_FRAMES * 64;
        let n_blocks = n.div_ceil(block).max(1);
        // Sums and sums of squares of each block.
        let mut sums = vec![0.0; n_blocks * 2 * channels];
        by_rows(&mut sums, 2 * channels, threads, |first, sums| {
            for (index, sums) in sums.chunks_exact_mut(2 * channels).enumerate() {
                let start = (first + index) * block;
                let rows = block.min(n.saturating_sub(start));
                let mut out = vec![0.0; rows * channels];
                if rows > 0 {
                    let samples = &samples[start * layer.stride..];
                    layer.linear.run_into(samples, layer.stride, &mut out);
                }
                let (sum, squares) = sums.split_at_mut(channels);
                for row in out.chunks_exact(channels) {
                    for ((value, sum), squares) in row.iter().zip(&mut *sum).zip(&mut *squares) {
                        *sum += value;
                        *squares += value * value;
                    }
                }
            }
        });
        let channel = |channel: usize| {
            let total = |at: usize| {
                let all = sums.iter().skip(at).step_by(2 * channels);
                all.map(|&sum| f64::from(sum)).sum::<f64>() / n.max(1) as f64
            };
            let (mean, squares) = (total(channel), total(channels + channel));
            norm.channel(channel, mean as f32, (squares - mean * mean).max(0.0) as f32)
        };
        Some((0..channels).map(channel).collect())
    }

    fn run_block(&self, samples: &[f32], first: Option<&[(f32, f32)]>) -> Vec<f32> {
        let mut x = samples.to_vec();
        let mut inputs = 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let channels = layer.linear.outputs();
            let rows = Convolution::outputs_of(x.len() / inputs, layer);
            let mut out = vec![0.0; rows * channels];
            layer.linear.run_into(&x, layer.stride * inputs, &mut out);
            match (&layer.norm, first) {
                (Some(_), Some(channel_scales)) if index == 0 => {
                    for row in out.chunks_exact_mut(channels) {
                        for (value, (scale, shift)) in row.iter_mut().zip(channel_scales) {
                            *value = *value * scale + shift;
                        }
                    }
                }
                (Some(norm), _) => norm.run(&mut out),
                (None, _) => {}
            }
            gelu(&mut out);
            (x, inputs) = (out, channels);
        }
        x
    }
}

impl Convolution {
    fn outputs_of(inputs: usize, layer: &Self) -> usize {
        inputs.checked_sub(layer.kernel).map_or(0, |rest| rest / layer.stride + 1)
    }
}
