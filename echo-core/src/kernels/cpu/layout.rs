//! Weights as kernels read them.
//!
//! A linear layer of `outputs x inputs` is cut into panels of as many outputs as a tile has
//! columns. A panel holds, for each lane along the inputs (see [`lane`](super::lane)), that lane of
//! all its outputs: `[panel][lane][output in panel]`. Products then read weights strictly in order,
//! whether one row of activations is multiplied or a thousand. Panels and inner dimension are
//! filled up with zeros. Rows are decoded one by one as they are packed (see [`rows`](super::rows)),
//! so a layer never exists twice.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::buffer::{Aligned, Target};
use super::pool::Pool;

/// How weights are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// Stored and multiplied as f32.
    F32,
    /// Stored as f16, multiplied as f32.
    F16,
}

impl Format {
    /// Values along the inner dimension in one lane.
    pub(super) fn depth(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
        }
    }

    /// Bytes of a stored weight lane.
    pub(super) fn lane_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A linear layer in panels.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) format: Format,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Lanes along the inputs.
    pub(super) lanes: usize,
    /// Outputs in a panel.
    pub(super) width: usize,
    data: Aligned,
    /// One for each output, filled up to whole panels.
    pub(super) bias: Aligned,
}

impl Packed {
    /// Packs the rows that `row(output, values)` writes.
    pub(super) fn new(
        pool: &Pool,
        (format, width): (Format, usize),
        [outputs, inputs]: [usize; 2],
        bias: &[f32],
        row: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Self {
        let lanes = inputs.div_ceil(format.depth());
        let panels = outputs.div_ceil(width);
        let panel_words = lanes * width * format.lane_bytes() / 4;
        let mut data = Aligned::zeroed(panels * panel_words);
        let target = Target::new(&mut data, panel_words);
        pool.run(panels, &|panel| {
            // SAFETY: each chunk has a panel of its own, `panel_words` long, and `data` outlives the job.
            let words =
                unsafe { std::slice::from_raw_parts_mut(target.at(panel, 0).data, panel_words) };
            let first = panel * width;
            pack_panel(format, width, words, inputs, first..outputs.min(first + width), row);
        });
        let mut padded = Aligned::zeroed(panels * width);
        padded[..bias.len()].copy_from_slice(bias);
        Self { format, outputs, inputs, lanes, width, data, bias: padded }
    }

    /// How many panels there are.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// Bytes of one panel.
    pub(super) fn panel_bytes(&self) -> usize {
        self.lanes * self.width * self.format.lane_bytes()
    }

    /// Where a panel's weights start.
    pub(super) fn panel(&self, panel: usize) -> *const u8 {
        assert!(panel < self.panels(), "panel {panel} of {}", self.panels());
        self.data.as_ptr().cast::<u8>().wrapping_add(panel * self.panel_bytes())
    }

    /// The weights of one output.
    pub(super) fn output(&self, output: usize, values: &mut [f32]) {
        let words = self.panel_bytes() / 4;
        let panel = &self.data[output / self.width * words..][..words];
        let column = output % self.width;
        for (lane, value) in values.iter_mut().enumerate() {
            let index = lane * self.width + column;
            *value = match self.format {
                Format::F32 => panel[index],
                Format::F16 => half::f16::from_bits(half_word(panel, index)).to_f32(),
            };
        }
    }
}

/// Half word `index` of words in memory order.
fn half_word(words: &[f32], index: usize) -> u16 {
    (words[index / 2].to_bits() >> (16 * (index % 2))) as u16
}

/// Packs outputs `rows` of a layer into one panel.
fn pack_panel(
    format: Format,
    width: usize,
    panel: &mut [f32],
    inputs: usize,
    rows: Range<usize>,
    row: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    // Outputs are decoded in pairs, because two of them share a word of half floats.
    let mut values = vec![0.0; 2 * inputs];
    let mut halves = vec![half::f16::ZERO; 2 * inputs];
    let (first, end) = (rows.start, rows.end);
    for output in rows.step_by(2) {
        let column = output - first;
        let (a, b) = values.split_at_mut(inputs);
        row(output, a);
        if output + 1 < end {
            row(output + 1, b)
        } else {
            b.fill(0.0)
        }
        match format {
            Format::F32 => {
                for (lane, (&a, &b)) in a.iter().zip(&*b).enumerate() {
                    panel[lane * width + column] = a;
                    panel[lane * width + column + 1] = b;
                }
            }
            Format::F16 => {
                halves.convert_from_f32_slice(&values);
                let (a, b) = halves.split_at(inputs);
                for (lane, (a, b)) in a.iter().zip(b).enumerate() {
                    let word = u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
                    panel[(lane * width + column) / 2] = f32::from_bits(word);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_weight_whatever_the_panel() {
        let pool = Pool::new(2);
        for format in [Format::F32, Format::F16] {
            for (width, outputs, inputs) in [(64, 130, 7), (16, 1, 1), (8, 17, 33), (64, 64, 64)] {
                let weight =
                    |output: usize, input: usize| ((output * 64 + input) % 2048) as f32 / 16.0;
                let row = |output: usize, values: &mut [f32]| {
                    for (input, value) in values.iter_mut().enumerate() {
                        *value = weight(output, input);
                    }
                };
                let packed = Packed::new(&pool, (format, width), [outputs, inputs], &[1.0], &row);
                assert_eq!(packed.bias.len(), outputs.next_multiple_of(width));
                let mut values = vec![0.0; inputs];
                for output in 0..outputs {
                    packed.output(output, &mut values);
                    for (input, &value) in values.iter().enumerate() {
                        assert_eq!(value, weight(output, input), "{format:?} {output} {input}");
                    }
                }
            }
        }
    }
}
