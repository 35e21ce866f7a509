//! From lines to samples: inverse MDCT, windows as wide as the narrower of two neighbours, overlap.

use symphonia::core::dsp::mdct::Imdct;

use super::block::{Block, Channel};
use super::layout::Layout;

pub(super) struct Synthesis {
    frame_lines: usize,
    /// By halvings of the frame: transforms, and windows rising from 0 to 1.
    transforms: Vec<Imdct>,
    windows: Vec<Vec<f32>>,
    /// Of each channel: the frame, and what reaches into the next.
    sums: Vec<Vec<f32>>,
    output: Vec<f32>,
}

impl Synthesis {
    pub(super) fn new(layout: &Layout, channel_count: usize) -> Self {
        let frame_lines = 1 << layout.frame_bits;
        let sizes = || (0..layout.blocks.len()).map(|halvings| frame_lines >> halvings);
        let window = |lines: usize| {
            let step = std::f64::consts::FRAC_PI_2 / lines as f64;
            (0..lines).map(|n| ((n as f64 + 0.5) * step).sin() as f32).collect()
        };
        Self {
            frame_lines,
            transforms: sizes().map(|lines| Imdct::new_scaled(lines, 1.0)).collect(),
            windows: sizes().map(window).collect(),
            sums: vec![vec![0.0; 2 * frame_lines]; channel_count],
            output: Vec::new(),
        }
    }

    /// Adds a block to the frame.
    pub(super) fn add(&mut self, block: &Block, channels: &mut [Channel]) {
        let lines = self.frame_lines >> block.halvings;
        // A block lies around the middle of its lines, half a frame late.
        let first = self.frame_lines / 2 + block.start - lines / 2;
        for (channel, sums) in channels.iter().zip(&mut self.sums) {
            self.output.clear();
            self.output.resize(2 * lines, 0.0);
            if let Some(spectrum) = &channel.lines {
                self.transforms[block.halvings].imdct(spectrum, &mut self.output);
            }
            let (rising, falling) = self.output.split_at(lines);
            let (before, after) = sums[first..first + 2 * lines].split_at_mut(lines);
            let window = &self.windows[block.halvings.max(block.halvings_before)];
            let flat = (lines - window.len()) / 2;
            for (n, (sum, sample)) in before.iter_mut().zip(rising).enumerate().skip(flat) {
                // Behind a narrow window nothing of the last block is left.
                match window.get(n - flat) {
                    Some(weight) => *sum += sample * weight,
                    None => *sum = *sample,
                }
            }
            let window = &self.windows[block.halvings.max(block.halvings_after)];
            let flat = (lines - window.len()) / 2;
            for (n, (sum, sample)) in after.iter_mut().zip(falling).enumerate() {
                *sum = match n.checked_sub(flat) {
                    None => *sample,
                    Some(n) if n < window.len() => sample * window[window.len() - 1 - n],
                    Some(_) => 0.0,
                };
            }
        }
    }

    /// Appends the frame to the output.
    pub(super) fn finish_frame(&mut self, channels: &mut [Vec<f32>]) {
        for (sums, channel) in self.sums.iter_mut().zip(channels) {
            // The transform of WMA is upside down against that of other codecs.
            channel.extend(sums[..self.frame_lines].iter().map(|sample| sample / -32_768.0));
            sums.copy_within(self.frame_lines.., 0);
            sums[self.frame_lines..].fill(0.0);
        }
    }
}
