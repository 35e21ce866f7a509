//! What a network sees of a checkpoint, whatever the file: named tensors under one set of names.
//!
//! The names are those of Hugging Face checkpoints (`model.encoder.layers.0.self_attn.q_proj.weight`);
//! readers of other formats translate. Values stay as they are stored, borrowed from the memory map,
//! until a kernel packs them; [`Tensor::to_f32`] is the common denominator.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::error::{Error, Result};

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
    /// A tensor of plain floats, for tests and for tables computed at load.
    pub(crate) fn from_f32(shape: &[usize], values: &[f32]) -> Tensor<'static> {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape and values agree");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        Tensor { shape: shape.to_vec(), values: Values::F32(Cow::Owned(bytes)) }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Tensor<'_> {
    /// Its values as f32, row-major.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the stored bytes are not what the shape asks for.
    pub(crate) fn to_f32(&self) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.len());
        match &self.values {
            Values::F32(data) => {
                values.extend(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)))
            }
            Values::F16(data) => {
                values.extend(data.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()));
            }
            Values::Bf16(data) => {
                values.extend(data.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()));
            }
            Values::I8 { data, divisors } => {
                let row_values = self.len().checked_div(divisors.len()).unwrap_or(0).max(1);
                for (row, divisor) in data.chunks(row_values).zip(divisors) {
                    values.extend(row.iter().map(|&byte| f32::from(byte.cast_signed()) / divisor));
                }
            }
            Values::Blocks { kind, data } => {
                for block in data.chunks_exact(kind.block_bytes()) {
                    values.extend(kind.decode(block));
                }
            }
        }
        if values.len() != self.len() {
            let found = format!("{} values stored for shape {:?}", values.len(), self.shape);
            return Err(Error::model("weights", found));
        }
        Ok(values)
    }
}

impl BlockKind {
    /// Values in a block of any kind.
    pub(crate) const BLOCK_VALUES: usize = 32;

    /// Bytes of one block.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
        }
    }

    /// The values of one block, which has [`block_bytes`](Self::block_bytes) bytes: low nibbles
    /// are the first half of the values, high nibbles the second.
    fn decode(self, block: &[u8]) -> [f32; Self::BLOCK_VALUES] {
        let half_at = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let scale = half_at(0);
        if self == Self::Q8_0 {
            return std::array::from_fn(|i| scale * f32::from(block[2 + i].cast_signed()));
        }
        let (head_bytes, has_minimum, has_high_bits) = match self {
            Self::Q4_1 => (4, true, false),
            Self::Q5_0 => (2, false, true),
            Self::Q5_1 => (4, true, true),
            Self::Q4_0 | Self::Q8_0 => (2, false, false),
        };
        let (high_bits, nibbles) = if has_high_bits {
            let bytes = std::array::from_fn(|i| block[head_bytes + i]);
            (u32::from_le_bytes(bytes), &block[head_bytes + 4..])
        } else {
            (0, &block[head_bytes..])
        };
        // Without a minimum, codes are centred on zero.
        let minimum = match (has_minimum, has_high_bits) {
            (true, _) => half_at(2),
            (false, true) => -16.0 * scale,
            (false, false) => -8.0 * scale,
        };
        std::array::from_fn(|i| {
            let nibble = if i < 16 { nibbles[i] & 15 } else { nibbles[i - 16] >> 4 };
            let code = u32::from(nibble) | (high_bits >> i & 1) << 4;
            scale * code as f32 + minimum
        })
    }
}

/// Checkpoints for the tests of other modules.
#[cfg(test)]
pub(crate) mod testing {
    use std::collections::HashMap;
    use std::path::Path;

    use candle_core::{DType, Device};

    use super::{Tensor, Weights};
    use crate::error::{Error, Result};

    /// The tensors of a `SafeTensors` file, all as f32.
    pub(crate) struct TestWeights(pub(crate) HashMap<String, Tensor<'static>>);

    impl TestWeights {
        pub(crate) fn read(path: &Path) -> Self {
            let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
            let convert = |tensor: candle_core::Tensor| {
                let shape = tensor.dims().to_vec();
                let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                Tensor::from_f32(&shape, &values.to_vec1::<f32>().unwrap())
            };
            Self(tensors.into_iter().map(|(name, tensor)| (name, convert(tensor))).collect())
        }

        pub(crate) fn values(&self, name: &str) -> Vec<f32> {
            self.0[name].to_f32().unwrap()
        }
    }

    impl Weights for TestWeights {
        fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
            match self.0.get(name) {
                Some(tensor) if tensor.shape == shape => Ok(tensor.clone()),
                Some(tensor) => {
                    let found = format!("`{name}` is {:?}, expected {shape:?}", tensor.shape);
                    Err(Error::model("test", found))
                }
                None => Err(Error::model("test", format!("no tensor `{name}`"))),
            }
        }

        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            self.0.get(name).map(|tensor| tensor.shape.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(kind: BlockKind, head: &[u8]) -> Tensor<'static> {
        let mut data = head.to_vec();
        data.resize(kind.block_bytes(), 0x2F);
        Tensor { shape: vec![1, 32], values: Values::Blocks { kind, data: data.into() } }
    }

    #[test]
    fn ggml_blocks_decode_low_nibbles_first() {
        let half = f16::from_f32(0.5).to_le_bytes(); // scale 0.5
        let one = f16::from_f32(1.0).to_le_bytes();
        let q4_0 = blocks(BlockKind::Q4_0, &half).to_f32().unwrap();
        assert_eq!((q4_0[0], q4_0[31]), ((15.0 - 8.0) / 2.0, (2.0 - 8.0) / 2.0));
        let q4_1 = blocks(BlockKind::Q4_1, &[half, one].concat()).to_f32().unwrap();
        assert_eq!((q4_1[0], q4_1[31]), (15.0 / 2.0 + 1.0, 2.0 / 2.0 + 1.0));
        // High bits of the first and the last value.
        let q5_0 = blocks(BlockKind::Q5_0, &[&half[..], &[1, 0, 0, 0x80]].concat());
        let q5_0 = q5_0.to_f32().unwrap();
        assert_eq!((q5_0[0], q5_0[1]), ((31.0 - 16.0) / 2.0, (15.0 - 16.0) / 2.0));
        assert_eq!((q5_0[30], q5_0[31]), ((2.0 - 16.0) / 2.0, (18.0 - 16.0) / 2.0));
        let q8_0 = blocks(BlockKind::Q8_0, &[half[0], half[1], 0xFE]).to_f32().unwrap();
        assert_eq!((q8_0[0], q8_0[1]), (-1.0, 47.0 / 2.0));
    }

    #[test]
    fn integers_are_divided_row_by_row() {
        let data = vec![2u8, 0xFF, 4, 8].into();
        let values = Values::I8 { data, divisors: vec![2.0, 4.0] };
        let tensor = Tensor { shape: vec![2, 2], values };
        assert_eq!(tensor.to_f32().unwrap(), [1.0, -0.5, 1.0, 2.0]);
    }

    #[test]
    fn too_few_bytes_are_an_error() {
        let values = Values::F16(vec![0; 7].into());
        assert!(Tensor { shape: vec![2, 2], values }.to_f32().is_err());
    }
}
