//! Rows of a checkpoint's tensors as floats, one at a time.
//!
//! A row is what one step of the first dimension spans: the weights of one output of a linear
//! layer, or of one filter of a convolution.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::kernels::LinearParts;
use crate::models::weights::{BlockKind, Tensor, Values};

/// A tensor whose stored bytes were checked against its shape.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    tensor: &'a Tensor<'a>,
    /// Values in a row.
    pub(super) len: usize,
    /// Number of rows.
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `tensor`.
    ///
    /// # Errors
    /// [`Error::Model`] if there are fewer or more stored bytes than the shape asks for.
    pub(super) fn new(tensor: &'a Tensor<'a>) -> Result<Self> {
        let (&count, rest) = tensor.shape.split_first().unwrap_or((&1, &[]));
        let len = rest.iter().product::<usize>();
        let (stored, wanted) = match &tensor.values {
            Values::F32(data) => (data.len(), count * len * 4),
            Values::F16(data) | Values::Bf16(data) => (data.len(), count * len * 2),
            Values::I8 { data, divisors } if divisors.len() == count => (data.len(), count * len),
            Values::I8 { divisors, .. } => (divisors.len(), count),
            Values::Blocks { kind, data } if len.is_multiple_of(BlockKind::BLOCK_VALUES) => {
                (data.len(), count * len / BlockKind::BLOCK_VALUES * kind.block_bytes())
            }
            Values::Blocks { .. } => (len, len.next_multiple_of(BlockKind::BLOCK_VALUES)),
        };
        if stored != wanted {
            let shape = &tensor.shape;
            return Err(Error::model(
                "checkpoint",
                format!("{stored} bytes stored for a tensor of shape {shape:?}, expected {wanted}"),
            ));
        }
        Ok(Self { tensor, len, count })
    }

    /// Writes one row as floats.
    pub(super) fn decode(&self, row: usize, out: &mut [f32]) {
        let span = |size: usize| row * self.len * size..(row + 1) * self.len * size;
        match &self.tensor.values {
            Values::F32(data) => {
                for (out, bytes) in out.iter_mut().zip(data[span(4)].as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Values::F16(data) => {
                for (out, bytes) in out.chunks_mut(64).zip(data[span(2)].chunks(128)) {
                    let mut halves = [f16::ZERO; 64];
                    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    halves[..out.len()].convert_to_f32_slice(out);
                }
            }
            Values::Bf16(data) => {
                for (out, bytes) in out.iter_mut().zip(data[span(2)].as_chunks().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Values::I8 { data, divisors } => {
                for (out, &byte) in out.iter_mut().zip(&data[span(1)]) {
                    *out = f32::from(byte.cast_signed()) / divisors[row];
                }
            }
            Values::Blocks { .. } => {
                // The number of bytes was checked, so nothing is missing.
                let values = self.tensor.rows(row..row + 1).to_f32();
                out.copy_from_slice(&values.unwrap_or_else(|_| vec![0.0; self.len]));
            }
        }
    }
}

/// All values of a vector or a table as floats.
pub(super) fn decode_all(tensor: &Tensor<'_>) -> Result<Vec<f32>> {
    let rows = Rows::new(tensor)?;
    let mut values = vec![0.0; rows.count * rows.len];
    for (row, out) in values.chunks_exact_mut(rows.len.max(1)).enumerate() {
        rows.decode(row, out);
    }
    Ok(values)
}

/// The biases of linear layers stacked along their outputs; missing ones are zeros.
pub(super) fn stacked_bias(parts: &[LinearParts<'_>]) -> Result<Vec<f32>> {
    let mut stacked = Vec::new();
    for (weight, bias) in parts {
        let outputs = weight.shape.first().copied().unwrap_or(0);
        match bias {
            Some(bias) => stacked.extend(decode_all(bias)?),
            None => stacked.resize(stacked.len() + outputs, 0.0),
        }
    }
    Ok(stacked)
}
