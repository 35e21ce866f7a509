//! The transformer of wav2vec 2.0: positions by a convolution, then self-attention and perceptrons.
//!
//! Positions come of one wide convolution in groups, weight-normalised over its taps, added to the
//! features. Norms stand behind each part (base), or in front of it with one more at the end (large).

use super::config::Config;
use super::layers::{Linear, Norm, add, by_rows, gelu};
use crate::error::Result;
use crate::kernels::matrix::{Rows, multiply_transposed};
use crate::models::weights::Weights;
use crate::progress::CancelToken;

#[derive(Debug)]
pub(super) struct Encoder {
    positions: Positions,
    norm: Norm,
    layers: Vec<Layer>,
    is_pre_norm: bool,
    heads: usize,
    d_model: usize,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    final_norm: Norm,
}

impl Encoder {
    pub(super) fn load(weights: &dyn Weights, config: &Config) -> Result<Self> {
        let (d_model, d_hidden) = (config.d_model, config.d_hidden);
        let layer = |index: usize| {
            let prefix = format!("encoder.layers.{index}");
            let square = |name| {
                Linear::load(weights, &format!("{prefix}.attention.{name}"), [d_model, d_model])
            };
            let norm =
                |name| Norm::load(weights, &format!("{prefix}.{name}"), d_model, config.epsilon);
            let up = format!("{prefix}.feed_forward.intermediate_dense");
            let down = format!("{prefix}.feed_forward.output_dense");
            Ok(Layer {
                query: square("q_proj")?,
                key: square("k_proj")?,
                value: square("v_proj")?,
                out: square("out_proj")?,
                attention_norm: norm("layer_norm")?,
                up: Linear::load(weights, &up, [d_hidden, d_model])?,
                down: Linear::load(weights, &down, [d_model, d_hidden])?,
                final_norm: norm("final_layer_norm")?,
            })
        };
        Ok(Self {
            positions: Positions::load(weights, config)?,
            norm: Norm::load(weights, "encoder.layer_norm", d_model, config.epsilon)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            is_pre_norm: config.is_pre_norm,
            heads: config.heads,
            d_model,
        })
    }

    /// `(frames, d_model)` to the same.
    pub(super) fn run(
        &self,
        mut x: Vec<f32>,
        threads: usize,
        cancel: &CancelToken,
    ) -> Result<Vec<f32>> {
        let positions = self.positions.run(&x, self.d_model, threads);
        add(&mut x, &positions);
        drop(positions);
        if !self.is_pre_norm {
            self.norm.run(&mut x);
        }
        for layer in &self.layers {
            cancel.check()?;
            if self.is_pre_norm {
                let mut normed = x.clone();
                layer.attention_norm.run(&mut normed);
                add(&mut x, &self.attend(layer, &normed, threads));
                normed.copy_from_slice(&x);
                layer.final_norm.run(&mut normed);
                add(&mut x, &perceptron(layer, &normed, threads));
            } else {
                let attended = self.attend(layer, &x, threads);
                add(&mut x, &attended);
                layer.attention_norm.run(&mut x);
                let hidden = perceptron(layer, &x, threads);
                add(&mut x, &hidden);
                layer.final_norm.run(&mut x);
            }
        }
        if self.is_pre_norm {
            self.norm.run(&mut x);
        }
        Ok(x)
    }

    /// Self-attention over all frames.
    fn attend(&self, layer: &Layer, x: &[f32], threads: usize) -> Vec<f32> {
        let (d_model, heads) = (self.d_model, self.heads);
        let (frames, d_head) = (x.len() / d_model, d_model / heads);
        let query = layer.query.run(x, threads);
        let key = layer.key.run(x, threads);
        let value = layer.value.run(x, threads);
        let scale = (d_head as f32).powf(-0.5);
        // One head after the other, `(frames, d_head)`, so that threads write apart.
        let mut by_head = vec![0.0; frames * d_model];
        by_rows(&mut by_head, frames * d_head, threads, |first, out| {
            let mut scores = vec![0.0; frames * frames];
            let mut values = vec![0.0; frames * d_head];
            for (head, out) in out.chunks_exact_mut((frames * d_head).max(1)).enumerate() {
                let column = (first + head) * d_head;
                let rows = |x| Rows::new(x, frames, d_head, d_model);
                multiply_transposed(
                    rows(&query[column..]),
                    rows(&key[column..]),
                    &mut scores,
                    frames,
                );
                scores.chunks_exact_mut(frames).for_each(|row| softmax(row, scale));
                for (frame, row) in value[column..].chunks(d_model).enumerate() {
                    for (at, &value) in row[..d_head].iter().enumerate() {
                        values[at * frames + frame] = value;
                    }
                }
                let scores = Rows::new(&scores, frames, frames, frames);
                let values = Rows::new(&values, d_head, frames, frames);
                multiply_transposed(scores, values, out, d_head);
            }
        });
        let mut joined = vec![0.0; frames * d_model];
        for (head, part) in by_head.chunks_exact((frames * d_head).max(1)).enumerate() {
            for (row, part) in joined.chunks_exact_mut(d_model).zip(part.chunks_exact(d_head)) {
                row[head * d_head..(head + 1) * d_head].copy_from_slice(part);
            }
        }
        layer.out.run(&joined, threads)
    }
}

fn perceptron(layer: &Layer, x: &[f32], threads: usize) -> Vec<f32> {
    let mut hidden = layer.up.run(x, threads);
    let columns = layer.up.outputs();
    by_rows(&mut hidden, columns, threads, |_, rows| gelu(rows));
    layer.down.run(&hidden, threads)
}

fn softmax(row: &mut [f32], scale: f32) {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = ((*value - highest) * scale).exp();
        sum += *value;
    }
    let scale = 1.0 / sum;
    for value in row {
        *value *= scale;
    }
}

/// The convolution that tells positions.
#[derive(Debug)]
struct Positions {
    kernel: usize,
    /// One for each group, `(channels, kernel * channels)`.
    groups: Vec<Linear>,
}

impl Positions {
    fn load(weights: &dyn Weights, config: &Config) -> Result<Self> {
        let (kernel, groups) = (config.position_kernel, config.position_groups);
        let channels = config.d_model / groups;
        let name = "encoder.pos_conv_embed.conv";
        let shape = [config.d_model, channels, kernel];
        let direction = weights.get(&format!("{name}.weight_v"), &shape)?.to_f32()?;
        let length = weights.get(&format!("{name}.weight_g"), &[1, 1, kernel])?.to_f32()?;
        let bias = weights.get(&format!("{name}.bias"), &[config.d_model])?.to_f32()?;
        let mut squares = vec![0.0_f64; kernel];
        for taps in direction.chunks_exact(kernel) {
            for (sum, &value) in squares.iter_mut().zip(taps) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        let scales = length.iter().zip(&squares);
        let scales: Vec<f32> =
            scales.map(|(&length, square)| (f64::from(length) / square.sqrt()) as f32).collect();
        let group = |group: usize| {
            let mut weight = vec![0.0; channels * kernel * channels];
            for output in 0..channels {
                for input in 0..channels {
                    let from = ((group * channels + output) * channels + input) * kernel;
                    for tap in 0..kernel {
                        weight[(output * kernel + tap) * channels + input] =
                            direction[from + tap] * scales[tap];
                    }
                }
            }
            let bias = bias[group * channels..(group + 1) * channels].to_vec();
            Linear::new(kernel * channels, weight, bias)
        };
        Ok(Self { kernel, groups: (0..groups).map(group).collect() })
    }

    /// Padded by half the kernel on both sides; an even kernel makes a frame too many, the last.
    fn run(&self, x: &[f32], d_model: usize, threads: usize) -> Vec<f32> {
        let frames = x.len() / d_model;
        let channels = d_model / self.groups.len();
        let pad = self.kernel / 2;
        let mut by_group = vec![0.0; frames * d_model];
        by_rows(&mut by_group, frames * channels, threads, |first, out| {
            let mut padded = vec![0.0; (frames + 2 * pad + 1) * channels];
            for (index, out) in out.chunks_exact_mut((frames * channels).max(1)).enumerate() {
                let group = first + index;
                for (frame, row) in x.chunks_exact(d_model).enumerate() {
                    padded[(pad + frame) * channels..][..channels]
                        .copy_from_slice(&row[group * channels..][..channels]);
                }
                self.groups[group].run_into(&padded, channels, out);
                gelu(out);
            }
        });
        let mut joined = vec![0.0; frames * d_model];
        for (group, part) in by_group.chunks_exact((frames * channels).max(1)).enumerate() {
            for (row, part) in joined.chunks_exact_mut(d_model).zip(part.chunks_exact(channels)) {
                row[group * channels..][..channels].copy_from_slice(part);
            }
        }
        joined
    }
}
