//! ResNet34: a voice as a vector of 256 numbers (He et al. 2016 as WeSpeaker has it, Wang et al. 2023;
//! the network of speaker-diarization-3.1 and community-1).
//!
//! From `(frames, 80)` log filterbank values, their mean over time removed:
//!
//! | part | output |
//! |---|---|
//! | convolution 3 x 3 over bands and time | (80 bands, frames, 32) |
//! | 3 residual layers | (80, frames, 32) |
//! | 4, 6 and 3 more, the first of each taking every second band and frame | (10, frames / 8, 256) |
//! | mean and deviation over the frames of a voice, linear | (256) |
//!
//! All but the last row is the trunk, which hears a window once for all its voices. A mask over the
//! filterbank's frames says which of the trunk's are a voice's: frame `t` of `n` is where
//! `t / n` of the mask is. Norms are folded into the convolutions before them. Source: wespeaker
//! `models/resnet.py`, pyannote.audio `models/blocks/pooling.py`. The second linear layer of some of
//! wespeaker's checkpoints is left out, as pyannote does.

use super::embedding::{Embedder, Mask};
use super::layers::Reader;
use super::planes::{Conv2d, Planes, Residual, Shape};
use crate::device::ComputeType;
use crate::error::Result;
use crate::features::fbank::{FBANK_BANDS, Taper};
use crate::kernels::cpu::dense::Dense;
use crate::kernels::matrix::Rows;
use crate::models::weights::Weights;

/// Numbers of an embedding.
const DIMENSIONS: usize = 256;
/// Residual layers and their channels.
const LAYERS: [(usize, usize); 4] = [(3, 32), (4, 64), (6, 128), (3, 256)];
const STEM: usize = LAYERS[0].1;
/// What the trunk gives for each of its frames.
const CHANNELS: usize = LAYERS[3].1;
const BANDS: usize = FBANK_BANDS / 8;
const WIDTH: usize = BANDS * CHANNELS;

/// The network.
#[derive(Debug)]
pub(crate) struct ResNet34 {
    first: Conv2d,
    residual: Vec<Residual>,
    dense: Dense,
}

impl ResNet34 {
    /// Packs the network of a checkpoint, to be multiplied as [`Dense::with`] says.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) naming the tensor that is missing or shaped otherwise.
    pub(crate) fn load(weights: &dyn Weights, compute: ComputeType) -> Result<Self> {
        let reader = Reader { weights, compute };
        let first = Shape { inputs: 1, outputs: STEM, stride: [1, 1] };
        let mut residual = Vec::new();
        let mut inputs = STEM;
        for (number, (count, outputs)) in LAYERS.into_iter().enumerate() {
            for index in 0..count {
                let step = if number > 0 && index == 0 { 2 } else { 1 };
                let shape = Shape { inputs, outputs, stride: [step, step] };
                residual.push(reader.residual(&format!("layer{}.{index}", number + 1), shape)?);
                inputs = outputs;
            }
        }
        let weight = reader.get("seg_1.weight", &[DIMENSIONS, 2 * WIDTH])?;
        let bias = reader.get("seg_1.bias", &[DIMENSIONS])?;
        Ok(Self {
            first: reader.conv2d("conv1", "bn1", 3, first)?,
            residual,
            dense: Dense::new(&bands_first(&weight), [DIMENSIONS, 2 * WIDTH], &bias),
        })
    }

    /// `(frames, 80)` to planes of `(10, frames / 8, 256)`.
    fn trunk(&self, features: &[f32]) -> Planes {
        let mut planes = self.first.run(&Planes::of_filterbank(features));
        planes.rectify();
        for residual in &self.residual {
            planes = residual.run(&planes);
        }
        planes
    }
}

impl Embedder for ResNet34 {
    fn dimensions(&self) -> usize {
        DIMENSIONS
    }

    fn taper(&self) -> Taper {
        Taper::Hamming
    }

    fn embed(&self, features: &[f32], voices: &[Mask]) -> Vec<Vec<f32>> {
        let planes = self.trunk(features);
        let pooled: Vec<f32> = voices.iter().flat_map(|mask| statistics(&planes, mask)).collect();
        let mut embeddings = vec![0.0; voices.len() * DIMENSIONS]; // (voices, 256)
        let rows = Rows::new(&pooled, voices.len(), 2 * WIDTH, 2 * WIDTH);
        self.dense.apply(rows, &mut embeddings, DIMENSIONS);
        embeddings.chunks_exact(DIMENSIONS).map(<[f32]>::to_vec).collect()
    }
}

/// Weights `(256, 2, 256 channels, 10 bands)` as `(256, 2, 10 bands, 256 channels)`.
fn bands_first(weight: &[f32]) -> Vec<f32> {
    let at = |index: usize| {
        let (half, band, channel) = (index / WIDTH, index % WIDTH / CHANNELS, index % CHANNELS);
        weight[half * WIDTH + channel * BANDS + band]
    };
    (0..weight.len()).map(at).collect()
}

/// Mean and deviation (of a sample) over the frames of a voice: `(2, 10 bands, 256)`. One frame has
/// no deviation, no frame has no mean either.
fn statistics(planes: &Planes, mask: &[bool]) -> Vec<f32> {
    let is_heard = |frame: &usize| mask[frame * mask.len() / planes.frames];
    let frames: Vec<usize> = (0..planes.frames).filter(is_heard).collect();
    let count = frames.len() as f64;
    let (mut means, mut deviations) = (Vec::with_capacity(2 * WIDTH), Vec::with_capacity(WIDTH));
    for band in 0..planes.bands {
        let mut sums = [0.0f64; CHANNELS];
        for &frame in &frames {
            let values = planes.frame(band, frame);
            sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let mean = sums.map(|sum| sum / count.max(1.0));
        let mut squares = [0.0f64; CHANNELS];
        for &frame in &frames {
            let values = planes.frame(band, frame).iter().zip(&mean);
            for (square, (&value, mean)) in squares.iter_mut().zip(values) {
                *square += (f64::from(value) - mean).powi(2);
            }
        }
        means.extend(mean.map(|mean| mean as f32));
        deviations.extend(squares.map(|square| (square / (count - 1.0).max(1.0)).sqrt() as f32));
    }
    means.extend(deviations);
    means
}

#[cfg(test)]
mod tests;
