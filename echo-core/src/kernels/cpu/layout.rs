//! Weights as kernels read them.
//!
//! A linear layer of `outputs x inputs` is cut into panels of as many outputs as a tile has
//! columns. A panel holds, for each lane along the inputs (see [`lane`](super::lane)), that lane of
//! all its outputs: `[panel][lane][output in panel]`. Products then read weights strictly in order,
//! whether one row of activations is multiplied or a thousand. Panels and inner dimension are
//! filled up with zeros. Rows of a checkpoint are decoded one by one, straight from the memory map,
//! so no second copy of the layer ever exists.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::buffer::{Aligned, Target};
use super::pool::Pool;
use crate::error::{Error, Result};
use crate::kernels::LinearParts;
use crate::models::weights::{Tensor, Values};

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
            let words = unsafe {
                std::slice::from_raw_parts_mut(target.at(panel, 0).data, panel_words)
            };
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
        if output + 1 < end { row(output + 1, b) } else { b.fill(0.0) }
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

/// Decodes one row of a tensor, a row being what one step of the first dimension spans.
pub(super) fn decode_row(tensor: &Tensor<'_>, row: usize, out: &mut [f32]) -> Result<()> {
    let len = out.len();
    let missing = || Error::model("checkpoint", format!("a tensor ends before its row {row}"));
    let bytes = |data: &'_ [u8], size: usize| -> Result<Vec<u8>> {
        let bytes = data.get(row * len * size..(row + 1) * len * size);
        bytes.map(<[u8]>::to_vec).ok_or_else(missing)
    };
    match &tensor.values {
        Values::F32(data) => {
            let data = bytes(data, 4)?;
            for (out, bytes) in out.iter_mut().zip(data.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        _ => return Err(missing()),
    }
    Ok(())
}
