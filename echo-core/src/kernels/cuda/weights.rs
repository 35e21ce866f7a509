//! A network's weights on the device.

use half::slice::HalfFloatSliceExt;

use super::Cuda;
use super::context::Format;
use super::memory::Block;
use crate::error::Result;
use crate::kernels::{FRAMES, LinearParts};
use crate::models::weights::{Tensor, Values};

/// A linear layer.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(super) weight: Block, // (outputs, inputs)
    pub(super) bias: Block,   // (outputs)
    /// The bias in f32, for sums in f32.
    pub(super) wide_bias: Block, // (outputs)
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// Scale and shift of a layer norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(super) scale: Block, // (d_model)
    pub(super) shift: Block, // (d_model)
}

/// Tables of tokens and positions.
#[derive(Debug)]
pub(crate) struct Embedding {
    pub(super) tokens: Block,    // (vocab, d_model)
    pub(super) positions: Block, // (text_context, d_model)
    pub(super) vocab: usize,
    pub(super) text_context: usize,
    pub(super) d_model: usize,
}

/// What lies in front of the encoder.
#[derive(Debug)]
pub(crate) struct Stem {
    pub(super) conv1: Linear,    // (d_model, n_mels * 3)
    pub(super) conv2: Linear,    // (d_model, 3 * d_model), tap by tap
    pub(super) positions: Block, // (FRAMES, d_model)
}

impl Cuda {
    /// A tensor's values in the device's format, little endian.
    fn narrowed(&self, tensor: &Tensor<'_>) -> Result<Vec<u8>> {
        match (&tensor.values, self.gpu.format) {
            (Values::F16(data), Format::F16) | (Values::Bf16(data), Format::Bf16)
                if data.len() == 2 * tensor.len() =>
            {
                Ok(data.to_vec())
            }
            _ => Ok(narrow(&tensor.to_f32()?, self.gpu.format)),
        }
    }

    fn upload(&self, tensor: &Tensor<'_>) -> Result<Block> {
        match (&tensor.values, self.gpu.format) {
            // As it lies in the file.
            (Values::F16(data), Format::F16) | (Values::Bf16(data), Format::Bf16)
                if data.len() == 2 * tensor.len() =>
            {
                self.memory.upload(data)
            }
            _ => self.memory.upload(&self.narrowed(tensor)?),
        }
    }

    pub(super) fn pack_linear(&self, parts: &[LinearParts<'_>]) -> Result<Linear> {
        let outputs: usize = parts.iter().filter_map(|(weight, _)| weight.shape.first()).sum();
        let values: usize = parts.iter().map(|(weight, _)| weight.len()).sum();
        let weight = self.memory.take(2 * values)?;
        let bias = self.memory.zeros(2 * outputs)?;
        let wide_bias = self.memory.zeros(4 * outputs)?;
        let (mut weight_byte, mut bias_byte) = (0, 0);
        for (part, part_bias) in parts {
            self.memory.write(&weight, weight_byte, &self.narrowed(part)?)?;
            if let Some(part_bias) = part_bias {
                self.memory.write(&bias, bias_byte, &self.narrowed(part_bias)?)?;
                self.memory.write(&wide_bias, 2 * bias_byte, &wide(part_bias)?)?;
            }
            weight_byte += 2 * part.len();
            bias_byte += 2 * part.shape.first().copied().unwrap_or(0);
        }
        let inputs = values.checked_div(outputs).unwrap_or(0);
        Ok(Linear { weight, bias, wide_bias, inputs, outputs })
    }

    pub(super) fn pack_norm(&self, scale: &Tensor<'_>, shift: &Tensor<'_>) -> Result<Norm> {
        Ok(Norm { scale: self.upload(scale)?, shift: self.upload(shift)? })
    }

    pub(super) fn pack_embedding(
        &self,
        tokens: &Tensor<'_>,
        positions: &Tensor<'_>,
    ) -> Result<Embedding> {
        let vocab = tokens.shape.first().copied().unwrap_or(0);
        let d_model = tokens.len().checked_div(vocab).unwrap_or(0);
        let text_context = positions.shape.first().copied().unwrap_or(0);
        let (tokens, positions) = (self.upload(tokens)?, self.upload(positions)?);
        Ok(Embedding { tokens, positions, vocab, text_context, d_model })
    }

    pub(super) fn pack_stem(
        &self,
        conv1: LinearParts<'_>,
        conv2: LinearParts<'_>,
        positions: &Tensor<'_>,
    ) -> Result<Stem> {
        debug_assert_eq!(positions.shape.first(), Some(&FRAMES), "a position for each frame");
        let (weight, bias) = &conv2;
        // Channels of one tap side by side, as the rows of the product have them.
        let values = weight.to_f32()?;
        let d_model = weight.shape.first().copied().unwrap_or(0);
        let mut by_tap = vec![0.0; values.len()];
        let rows = values.chunks_exact(3 * d_model).zip(by_tap.chunks_exact_mut(3 * d_model));
        for (from, to) in rows {
            for (channel, taps) in from.chunks_exact(3).enumerate() {
                for (tap, &value) in taps.iter().enumerate() {
                    to[tap * d_model + channel] = value;
                }
            }
        }
        let weight = self.memory.upload(&narrow(&by_tap, self.gpu.format))?;
        let (bias, wide_bias) = match bias {
            Some(bias) => (self.upload(bias)?, self.memory.upload(&wide(bias)?)?),
            None => (self.memory.zeros(2 * d_model)?, self.memory.zeros(4 * d_model)?),
        };
        let conv2 = Linear { weight, bias, wide_bias, inputs: 3 * d_model, outputs: d_model };
        Ok(Stem { conv1: self.pack_linear(&[conv1])?, conv2, positions: self.upload(positions)? })
    }
}

/// Values in f32, little endian.
fn wide(tensor: &Tensor<'_>) -> Result<Vec<u8>> {
    Ok(tensor.to_f32()?.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn narrow(values: &[f32], format: Format) -> Vec<u8> {
    match format {
        Format::F16 => {
            let mut narrow = vec![half::f16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            narrow.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Format::Bf16 => {
            let mut narrow = vec![half::bf16::ZERO; values.len()];
            narrow.convert_from_f32_slice(values);
            narrow.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
    }
}
