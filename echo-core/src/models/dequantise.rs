//! Stored values as 32-bit floats, in parallel.
//!
//! Each thread decodes pieces of 64 Ki values; a kernel that wants stored values as they are matches
//! on [`Values`] instead. Block layouts: `ggml-common.h` of ggml, `block_q4_0` and its siblings; the low
//! nibbles of a block are its first 16 values, the high nibbles the last 16.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::weights::{BlockKind, Tensor, Values};
use crate::error::{Error, Result};

/// Values that one thread decodes at a time: a multiple of a block, small enough for the L2 cache.
const PIECE: usize = 1 << 16;

/// Halves that are gathered on the stack before they are converted together.
const GATHERED: usize = 256;

impl Tensor<'_> {
    /// The values as 32-bit floats, row-major.
    ///
    /// # Errors
    /// [`Error::Model`] if the stored bytes are not what the shape asks for.
    pub(crate) fn to_f32(&self) -> Result<Vec<f32>> {
        let len = self.len();
        let (data, unit) = match &self.values {
            Values::F32(data) => (data, (1, 4)),
            Values::F16(data) | Values::Bf16(data) => (data, (1, 2)),
            Values::I8 { data, .. } => (data, (1, 1)),
            Values::Blocks { kind, data } => (data, (BlockKind::BLOCK_VALUES, kind.block_bytes())),
        };
        if !len.is_multiple_of(unit.0) || len / unit.0 * unit.1 != data.len() {
            let reason = format!("{} bytes stored for shape {:?}", data.len(), self.shape);
            return Err(Error::model("weights", reason));
        }
        Ok(match &self.values {
            Values::F32(_) => pieces(len, data, unit, decode_f32),
            Values::F16(_) => pieces(len, data, unit, decode_f16),
            Values::Bf16(_) => pieces(len, data, unit, decode_bf16),
            Values::I8 { divisors, .. } => decode_i8(len, data, divisors),
            Values::Blocks { kind, .. } => {
                pieces(len, data, unit, |from, to| decode_blocks(*kind, from, to))
            }
        })
    }
}

/// Decodes `len` values; `unit` is (values, bytes) of the smallest piece that stands alone.
fn pieces(
    len: usize,
    data: &[u8],
    unit: (usize, usize),
    decode: impl Fn(&[u8], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut floats = vec![0.0; len];
    let piece_bytes = PIECE / unit.0 * unit.1;
    floats
        .par_chunks_mut(PIECE)
        .zip(data.par_chunks(piece_bytes))
        .for_each(|(to, from)| decode(from, to));
    floats
}

fn decode_f32(from: &[u8], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from.as_chunks::<4>().0) {
        *to = f32::from_le_bytes(*from);
    }
}

fn decode_f16(from: &[u8], to: &mut [f32]) {
    let mut halves = [f16::ZERO; GATHERED];
    for (to, from) in to.chunks_mut(GATHERED).zip(from.as_chunks::<2>().0.chunks(GATHERED)) {
        for (half, bytes) in halves.iter_mut().zip(from) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves[..to.len()].convert_to_f32_slice(to);
    }
}

fn decode_bf16(from: &[u8], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = bf16::from_le_bytes(*from).to_f32();
    }
}

fn decode_i8(len: usize, data: &[u8], divisors: &[f32]) -> Vec<f32> {
    let mut floats = vec![0.0; len];
    let row_len = len.checked_div(divisors.len()).unwrap_or(0).max(1);
    floats
        .par_chunks_mut(row_len)
        .zip(data.par_chunks(row_len))
        .zip(divisors)
        .with_min_len(PIECE.div_ceil(row_len))
        .for_each(|((to, from), divisor)| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = f32::from(from.cast_signed()) / divisor;
            }
        });
    floats
}

fn decode_blocks(kind: BlockKind, from: &[u8], to: &mut [f32]) {
    let blocks = from.chunks_exact(kind.block_bytes());
    for (block, to) in blocks.zip(to.as_chunks_mut::<{ BlockKind::BLOCK_VALUES }>().0) {
        decode_block(kind, block, to);
    }
}

/// One block: a scale, perhaps a minimum, perhaps 32 fifth bits, then 32 nibbles or bytes.
fn decode_block(kind: BlockKind, block: &[u8], to: &mut [f32; BlockKind::BLOCK_VALUES]) {
    let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
    let scale = half(0);
    let (minimum, offset, rest) = match kind {
        BlockKind::Q4_0 => (0.0, 8, 2),
        BlockKind::Q5_0 => (0.0, 16, 2),
        BlockKind::Q4_1 | BlockKind::Q5_1 => (half(2), 0, 4),
        BlockKind::Q8_0 => {
            for (to, byte) in to.iter_mut().zip(&block[2..]) {
                *to = f32::from(byte.cast_signed()) * scale;
            }
            return;
        }
    };
    let (fifth_bits, nibbles) = match kind {
        BlockKind::Q5_0 | BlockKind::Q5_1 => {
            let bits = &block[rest..rest + 4];
            (u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]), &block[rest + 4..])
        }
        _ => (0, &block[rest..]),
    };
    for (index, &byte) in nibbles.iter().enumerate() {
        for (at, nibble) in [(index, byte & 0x0f), (index + 16, byte >> 4)] {
            let fifth = (fifth_bits >> at & 1) << 4;
            let level = i32::from(nibble) + fifth.cast_signed() - offset;
            to[at] = level as f32 * scale + minimum;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn tensor(shape: &[usize], values: Values<'static>) -> Tensor<'static> {
        Tensor { shape: shape.to_vec(), values }
    }

    fn one_block(kind: BlockKind, block: Vec<u8>) -> Vec<f32> {
        let values = Values::Blocks { kind, data: Cow::Owned(block) };
        tensor(&[1, 32], values).to_f32().unwrap()
    }

    #[test]
    fn floats_need_no_alignment() {
        let tensor = Tensor::from_f32(&[2, 3], &[0.0, -1.0, 2.5, 3.0, f32::MIN, f32::MAX]);
        let Values::F32(data) = &tensor.values else { panic!("from_f32 makes f32") };
        let shifted = [&[0][..], data].concat();
        let values = Values::F32(Cow::Borrowed(&shifted[1..]));
        let copy = Tensor { shape: vec![2, 3], values };
        assert_eq!(copy.to_f32().unwrap(), tensor.to_f32().unwrap());
    }

    #[test]
    fn too_few_or_too_many_bytes_are_an_error() {
        for len in [1, 3, 5] {
            let error = tensor(&[2], Values::F16(vec![0; len].into())).to_f32().unwrap_err();
            assert!(error.to_string().contains("bytes stored for shape [2]"), "{error}");
        }
    }

    #[test]
    fn halves_survive_odd_lengths_and_pieces() {
        for len in [0, 1, 255, 256, 257, PIECE - 1, PIECE, PIECE + 3] {
            let expected: Vec<f32> = (0..len).map(|index| (index % 2048) as f32 - 1024.0).collect();
            let halves = expected.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
            assert_eq!(tensor(&[len], Values::F16(Cow::Owned(halves))).to_f32().unwrap(), expected);
            let expected: Vec<f32> = (0..len).map(|index| (index % 256) as f32 - 128.0).collect();
            let brains = expected.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
            assert_eq!(
                tensor(&[len], Values::Bf16(Cow::Owned(brains))).to_f32().unwrap(),
                expected
            );
        }
    }

    #[test]
    fn integers_are_divided_by_the_divisor_of_their_row() {
        let data = Cow::Owned(vec![127, 129, 0, 64, 192, 1]);
        let values = Values::I8 { data, divisors: vec![127.0, 64.0] };
        let tensor = tensor(&[2, 3], values);
        assert_eq!(tensor.to_f32().unwrap(), [1.0, -1.0, 0.0, 1.0, -1.0, 1.0 / 64.0]);
        assert_eq!(tensor.rows(1..2).to_f32().unwrap(), [1.0, -1.0, 1.0 / 64.0]);
    }

    #[test]
    fn blocks_follow_the_layout_of_ggml() {
        let scale = f16::from_f32(0.5).to_le_bytes();
        let minimum = f16::from_f32(-3.0).to_le_bytes();
        let nibbles: Vec<u8> = (0..16).map(|low| low | (15 - low) << 4).collect();
        let fifth = 0x8000_0001_u32.to_le_bytes();
        let level = |at: usize| if at < 16 { at as f32 } else { 31.0 - at as f32 };
        let fifths = |at: usize| if at == 0 || at == 31 { 16.0 } else { 0.0 };

        let q4_0 = one_block(BlockKind::Q4_0, [&scale[..], &nibbles].concat());
        let q4_1 = one_block(BlockKind::Q4_1, [&scale[..], &minimum, &nibbles].concat());
        let q5_0 = one_block(BlockKind::Q5_0, [&scale[..], &fifth, &nibbles].concat());
        let q5_1 = one_block(BlockKind::Q5_1, [&scale[..], &minimum, &fifth, &nibbles].concat());
        for at in 0..32 {
            assert_eq!(q4_0[at], (level(at) - 8.0) * 0.5, "q4_0 value {at}");
            assert_eq!(q4_1[at], level(at) * 0.5 - 3.0, "q4_1 value {at}");
            assert_eq!(q5_0[at], (level(at) + fifths(at) - 16.0) * 0.5, "q5_0 value {at}");
            assert_eq!(q5_1[at], (level(at) + fifths(at)) * 0.5 - 3.0, "q5_1 value {at}");
        }
        let bytes: Vec<u8> = (0..32).map(|index| index * 8).collect();
        let q8_0 = one_block(BlockKind::Q8_0, [&scale[..], &bytes].concat());
        assert_eq!(q8_0[..2], [0.0, 4.0]);
        assert_eq!(q8_0[31], -4.0);
    }

    #[test]
    fn rows_of_blocks_are_whole_rows() {
        let scale = f16::ONE.to_le_bytes();
        let row = |value: u8| [&scale[..], &[value; 32]].concat();
        let data = Cow::Owned([row(1), row(2), row(3)].concat());
        let tensor = tensor(&[3, 32], Values::Blocks { kind: BlockKind::Q8_0, data });
        assert_eq!(tensor.rows(1..3).to_f32().unwrap(), [[2.0; 32], [3.0; 32]].concat());
    }
}
