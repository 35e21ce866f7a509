//! What a network sees of a checkpoint, whatever the file: named tensors under one set of names.
//!
//! The names are those of Hugging Face checkpoints (`model.encoder.layers.0.self_attn.q_proj.weight`);
//! readers of other formats translate. Values stay as they are stored, borrowed from the memory map,
//! until a kernel packs them; [`Tensor::to_f32`] is the common denominator.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::Result;

#[cfg(test)]
pub(crate) mod testing;

/// A tensor of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Tensor<'a> {
    /// Outermost first: a linear layer is `[outputs, inputs]`.
    pub(crate) shape: Vec<usize>,
    /// Its values, row-major.
    pub(crate) values: Values<'a>,
}

/// Stored values, little endian and not necessarily aligned.
#[derive(Debug, Clone)]
pub(crate) enum Values<'a> {
    /// 32-bit floats.
    F32(Cow<'a, [u8]>),
    /// Half floats.
    F16(Cow<'a, [u8]>),
    /// Brain floats.
    Bf16(Cow<'a, [u8]>),
    /// 8-bit integers with one divisor a row: value = integer / divisor (CTranslate2).
    I8 {
        /// One byte a value.
        data: Cow<'a, [u8]>,
        /// One f32 for each row (the first dimension).
        divisors: Vec<f32>,
    },
    /// ggml blocks of 32 values along the last dimension.
    Blocks {
        /// How a block is coded.
        kind: BlockKind,
        /// The blocks, row after row.
        data: Cow<'a, [u8]>,
    },
}

/// The block codings of ggml that Whisper files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// f16 scale, 32 nibbles minus 8.
    Q4_0,
    /// f16 scale and minimum, 32 nibbles.
    Q4_1,
    /// f16 scale, 32 high bits, 32 nibbles, minus 16.
    Q5_0,
    /// f16 scale and minimum, 32 high bits, 32 nibbles.
    Q5_1,
    /// f16 scale, 32 signed bytes.
    Q8_0,
}

impl BlockKind {
    /// Values in a block.
    pub(crate) const BLOCK_VALUES: usize = 32;

    /// Bytes of a block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
        }
    }
}

/// A checkpoint: tensors by their Hugging Face name.
pub(crate) trait Weights: Send + Sync {
    /// The tensor called `name`, checked to have `shape`.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) naming the tensor, if it is absent or shaped otherwise.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>>;

    /// The shape of `name`, if the checkpoint has it.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;
}

impl<'a> Tensor<'a> {
    /// A tensor of plain floats.
    #[cfg(test)]
    pub(crate) fn from_f32(shape: &[usize], values: &[f32]) -> Tensor<'static> {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape and values agree");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        Tensor { shape: shape.to_vec(), values: Values::F32(Cow::Owned(bytes)) }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Some rows (indices of the first dimension), borrowed.
    ///
    /// # Panics
    /// If `rows` reaches past the last row, or the tensor is a scalar.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Tensor<'_> {
        let n_rows = self.shape[0];
        assert!(rows.start <= rows.end && rows.end <= n_rows, "rows {rows:?} of {n_rows}");
        let part = |data: &'_ Cow<'a, [u8]>| {
            let row_bytes = data.len().checked_div(n_rows).unwrap_or(0);
            rows.start * row_bytes..rows.end * row_bytes
        };
        let values = match &self.values {
            Values::F32(data) => Values::F32(Cow::Borrowed(&data[part(data)])),
            Values::F16(data) => Values::F16(Cow::Borrowed(&data[part(data)])),
            Values::Bf16(data) => Values::Bf16(Cow::Borrowed(&data[part(data)])),
            Values::I8 { data, divisors } => Values::I8 {
                data: Cow::Borrowed(&data[part(data)]),
                divisors: divisors[rows.clone()].to_vec(),
            },
            Values::Blocks { kind, data } => {
                Values::Blocks { kind: *kind, data: Cow::Borrowed(&data[part(data)]) }
            }
        };
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Tensor { shape, values }
    }
}
