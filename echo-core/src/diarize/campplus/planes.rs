//! Convolutions over bands and time.
//!
//! A sound is [`Planes`]: bands of `(frames + 2, channels)` with a zero frame at both ends, so that a
//! 3 x 3 convolution is three products whose rows overlap, one for each of its bands.

use crate::kernels::cpu::dense::Dense;
use crate::kernels::matrix::Rows;

/// Channels that a convolution makes.
pub(super) const PLANE: usize = 32;

/// A convolution over bands and time with its norm folded in.
#[derive(Debug)]
pub(super) struct Conv2d {
    /// For each of three bands, `(32, 3 frames * inputs)`; for 1 x 1 one product.
    pub(super) bands: Vec<Dense>,
    pub(super) inputs: usize,
    pub(super) stride: usize,
}

/// Two convolutions and what goes past them.
#[derive(Debug)]
pub(super) struct Residual {
    pub(super) first: Conv2d,
    pub(super) second: Conv2d,
    pub(super) shortcut: Option<Conv2d>,
}

/// Bands of `(frames + 2, channels)`, a zero frame at both ends of each.
pub(super) struct Planes {
    pub(super) values: Vec<f32>,
    bands: usize,
    frames: usize,
    channels: usize,
}

impl Conv2d {
    /// Three bands by three frames, or one by one; every `stride`-th band.
    pub(super) fn run(&self, x: &Planes) -> Planes {
        let bands = x.bands.div_ceil(self.stride);
        let mut out = Planes::zeroed(bands, x.frames, PLANE);
        let reach = self.bands.len() / 2;
        // With one tap the frame itself, with three the one before it first.
        let first = (1 - reach) * self.inputs;
        let columns = self.bands.len() * self.inputs;
        for band in 0..bands {
            let target = &mut out.values[(band * (x.frames + 2) + 1) * PLANE..];
            let mut is_written = false;
            for (tap, weights) in self.bands.iter().enumerate() {
                let Some(from) = (band * self.stride + tap).checked_sub(reach) else { continue };
                if from >= x.bands {
                    continue;
                }
                let start = from * (x.frames + 2) * self.inputs + first;
                let rows = Rows::new(&x.values[start..], x.frames, columns, self.inputs);
                if is_written {
                    weights.add_to(rows, target, PLANE);
                } else {
                    weights.apply(rows, target, PLANE);
                    is_written = true;
                }
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
    pub(super) fn zeroed(bands: usize, frames: usize, channels: usize) -> Self {
        Self { values: vec![0.0; bands * (frames + 2) * channels], bands, frames, channels }
    }

    pub(super) fn rectify(&mut self) {
        for value in &mut self.values {
            *value = value.max(0.0);
        }
    }

    pub(super) fn frame(&self, band: usize, frame: usize) -> &[f32] {
        let at = (band * (self.frames + 2) + frame + 1) * self.channels;
        &self.values[at..at + self.channels]
    }
}
