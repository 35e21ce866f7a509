//! Convolutions over bands and time.
//!
//! A sound is [`Planes`]: bands of `(frames + 2, channels)` with a zero frame at both ends. Three bands
//! woven frame by frame make a 3 x 3 convolution a product whose rows overlap.

use super::layers::Reader;
use crate::device::ComputeType;
use crate::error::Result;
use crate::features::fbank::FBANK_BANDS;
use crate::kernels::cpu::dense::{Dense, Woven};
use crate::kernels::matrix::Rows;

/// A convolution over bands and time with its norm folded in.
#[derive(Debug)]
pub(super) struct Conv2d {
    /// `(outputs, frames, bands, inputs)`: as many frames and bands as it is wide, one or three.
    product: Dense,
    size: usize,
    shape: Shape,
}

/// What a convolution makes of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Bands, and frames, from one output to the next.
    pub(super) stride: [usize; 2],
}

/// Two convolutions and what goes past them.
#[derive(Debug)]
pub(super) struct Residual {
    first: Conv2d,
    second: Conv2d,
    shortcut: Option<Conv2d>,
}

/// Bands of `(frames + 2, channels)`, a zero frame at both ends of each.
pub(super) struct Planes {
    values: Vec<f32>,
    pub(super) bands: usize,
    pub(super) frames: usize,
    channels: usize,
}

impl Reader<'_> {
    /// A convolution `(outputs, inputs, size, size)` with its norm.
    pub(super) fn conv2d(
        &self,
        name: &str,
        norm: &str,
        size: usize,
        shape: Shape,
    ) -> Result<Conv2d> {
        let Shape { inputs, outputs, .. } = shape;
        let weight = self.get(&format!("{name}.weight"), &[outputs, inputs, size, size])?;
        let norm = self.norm(norm, outputs)?;
        let weight = norm.scaled(&weight);
        let area = size * size;
        let inputs_last = (0..weight.len()).map(|at| {
            let (output, frame, band) = (at / (area * inputs), at / (size * inputs), at / inputs);
            weight[((output * inputs + at % inputs) * size + band % size) * size + frame % size]
        });
        let weights: Vec<f32> = inputs_last.collect();
        // A single plane is little work, and the sound as it came.
        let compute = if inputs == 1 { ComputeType::F32 } else { self.compute };
        let product = Dense::with(compute, &weights, [outputs, area * inputs], &norm.shift);
        Ok(Conv2d { product, size, shape })
    }

    /// A residual layer; what goes past it is a convolution where the checkpoint has one.
    pub(super) fn residual(&self, name: &str, shape: Shape) -> Result<Residual> {
        let part = |part: &str, norm: &str, size: usize, shape: Shape| {
            self.conv2d(&format!("{name}.{part}"), &format!("{name}.{norm}"), size, shape)
        };
        let has_shortcut = self.weights.shape(&format!("{name}.shortcut.0.weight")).is_some();
        let inner = Shape { inputs: shape.outputs, stride: [1, 1], ..shape };
        Ok(Residual {
            first: part("conv1", "bn1", 3, shape)?,
            second: part("conv2", "bn2", 3, inner)?,
            shortcut: match has_shortcut {
                true => Some(part("shortcut.0", "shortcut.1", 1, shape)?),
                false => None,
            },
        })
    }
}

impl Conv2d {
    pub(super) fn run(&self, x: &Planes) -> Planes {
        let Shape { inputs, outputs, stride: [bands, frames] } = self.shape;
        let mut out = Planes::zeroed(x.bands.div_ceil(bands), x.frames.div_ceil(frames), outputs);
        let rows = out.frames;
        for band in 0..out.bands {
            let target = &mut out.values[(band * (rows + 2) + 1) * outputs..];
            let middle = band * bands;
            if self.size == 1 {
                // Without the zero frame in front.
                let own = &x.band(middle)[inputs..];
                self.product.apply(Rows::new(own, rows, inputs, frames * inputs), target, outputs);
            } else {
                let near = [middle.checked_sub(1), Some(middle), Some(middle + 1)];
                let parts =
                    near.map(|band| band.filter(|&band| band < x.bands).map(|band| x.band(band)));
                let woven = Woven { parts, columns: inputs, taps: self.size, rows, step: frames };
                self.product.apply_woven(woven, target, outputs);
            }
        }
        out
    }
}

impl Residual {
    pub(super) fn run(&self, x: &Planes) -> Planes {
        let mut inner = self.first.run(x);
        inner.rectify();
        let mut out = self.second.run(&inner);
        let shortcut = self.shortcut.as_ref().map(|shortcut| shortcut.run(x));
        let skipped = shortcut.as_ref().unwrap_or(x);
        for (value, skipped) in out.values.iter_mut().zip(&skipped.values) {
            *value += skipped;
        }
        out.rectify();
        out
    }
}

impl Planes {
    /// One plane of `(frames, 80)` filterbank values.
    pub(super) fn of_filterbank(features: &[f32]) -> Self {
        let frames = features.len() / FBANK_BANDS;
        let mut planes = Self::zeroed(FBANK_BANDS, frames, 1);
        for (frame, values) in features.chunks_exact(FBANK_BANDS).enumerate() {
            for (band, &value) in values.iter().enumerate() {
                planes.values[band * (frames + 2) + frame + 1] = value;
            }
        }
        planes
    }

    fn zeroed(bands: usize, frames: usize, channels: usize) -> Self {
        Self { values: vec![0.0; bands * (frames + 2) * channels], bands, frames, channels }
    }

    pub(super) fn rectify(&mut self) {
        for value in &mut self.values {
            *value = value.max(0.0);
        }
    }

    /// `(frames + 2, channels)`.
    fn band(&self, band: usize) -> &[f32] {
        let len = (self.frames + 2) * self.channels;
        &self.values[band * len..][..len]
    }

    /// The channels of one frame of a band.
    pub(super) fn frame(&self, band: usize, frame: usize) -> &[f32] {
        let at = (band * (self.frames + 2) + frame + 1) * self.channels;
        &self.values[at..at + self.channels]
    }
}
