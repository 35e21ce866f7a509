//! Attention of a few queries to many keys, without the matrix of all scores.
//!
//! Keys and values of a head are packed like weights (see [`layout`](super::layout)): keys as
//! `frames` outputs of `d_head` inputs, values as `d_head` outputs of `frames` inputs. A block is at
//! most twelve queries: their scores with all keys fit the second-level cache, so softmax is exact
//! (the largest score subtracted) and nothing of size frames x frames exists. Encoder, cross and
//! prefix attention use the same block.
//!
//! A decoder's own past is different: its keys lie wherever the cache put them, so each query walks
//! a list of addresses, see [`attend_past`].
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "inner loops are pointer arithmetic and vector operations; the caller's promise covers them"
)]

use std::mem::MaybeUninit;

use super::buffer::{Lent, Target, View};
use super::gemm::{MAX_WIDTH, Operand, accumulate};
use super::lane::Lane;
use super::math::softmax_row;
use super::vector::Vector;

/// Queries of a block.
pub(super) const BLOCK_QUERIES: usize = 12;
/// A score that softmax turns into nothing.
const MASKED: f32 = -1e30;

/// Where the keys and values of one head lie, packed, and their sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedHead {
    /// `[panel of keys][d_head]`.
    pub(super) keys: View,
    /// `[panel of d_head][frames]`.
    pub(super) values: View,
    pub(super) frames: usize,
    pub(super) d_head: usize,
    /// Columns of a panel.
    pub(super) width: usize,
}

impl PackedHead {
    /// Words that the keys of a head take.
    pub(super) fn key_words(frames: usize, d_head: usize, width: usize) -> usize {
        frames.next_multiple_of(width) * d_head
    }

    /// Words that the values of a head take.
    pub(super) fn value_words(frames: usize, d_head: usize, width: usize) -> usize {
        d_head.next_multiple_of(width) * frames
    }

    /// Floats that [`attend`] needs to work in.
    pub(super) fn scratch_words(frames: usize, d_head: usize, width: usize) -> usize {
        BLOCK_QUERIES * (frames.next_multiple_of(width) + d_head)
    }
}

/// Packs one head: `keys` and `values` are `frames` rows that start at the head's first column.
pub(super) fn pack_head(
    (keys, values): (&[f32], &[f32]),
    stride: usize,
    (frames, d_head, width): (usize, usize, usize),
    packed_keys: &mut [f32],
    packed_values: &mut [f32],
) {
    for (panel, packed) in packed_keys.chunks_exact_mut(width * d_head).enumerate() {
        let rows = width.min(frames - panel * width);
        for (c, packed) in packed.chunks_exact_mut(width).enumerate() {
            let column = keys[panel * width * stride + c..].iter().step_by(stride);
            for (packed, &key) in packed[..rows].iter_mut().zip(column) {
                *packed = key;
            }
            packed[rows..].fill(0.0);
        }
    }
    for (panel, packed) in packed_values.chunks_exact_mut(width * frames).enumerate() {
        let columns = width.min(d_head - panel * width);
        for (frame, packed) in packed.chunks_exact_mut(width).enumerate() {
            let from = frame * stride + panel * width;
            packed[..columns].copy_from_slice(&values[from..from + columns]);
            packed[columns..].fill(0.0);
        }
    }
}

/// The keys and values of all heads over the same frames.
#[derive(Debug)]
pub(crate) struct PackedHeads {
    /// For each head its keys, then its values.
    pub(super) data: Lent,
    pub(super) frames: usize,
    pub(super) d_head: usize,
    pub(super) width: usize,
}

impl PackedHeads {
    /// One head of them.
    pub(super) fn head(&self, head: usize) -> PackedHead {
        let Self { frames, d_head, width, .. } = *self;
        let key_words = PackedHead::key_words(frames, d_head, width);
        let head_words = key_words + PackedHead::value_words(frames, d_head, width);
        let (keys, values) = self.data[head * head_words..][..head_words].split_at(key_words);
        let (keys, values) = (View::new(keys, 0), View::new(values, 0));
        PackedHead { keys, values, frames, d_head, width }
    }
}

/// A block of queries of one head.
#[derive(Debug)]
pub(super) struct AttendBlock<'a> {
    /// The head's first column of the query matrix.
    pub(super) queries: View,
    /// At most [`BLOCK_QUERIES`] rows of `queries` and `output`.
    pub(super) rows: &'a [usize],
    pub(super) scale: f32,
    pub(super) head: PackedHead,
    /// The head's first column of the result.
    pub(super) output: Target,
    /// [`PackedHead::scratch_words`] floats.
    pub(super) scratch: *mut f32,
    /// Where to leave the probabilities, `frames` of each row of the query matrix.
    pub(super) probabilities: Option<Target>,
}

/// Attends from a block of queries to all frames; keys and values are packed for `N` vectors.
///
/// # Safety
/// The instruction set of `L` is there, pointers are valid for the sizes given, and no other thread
/// writes the same outputs.
#[inline(always)]
pub(super) unsafe fn attend<L: Lane, const N: usize>(block: &AttendBlock<'_>) {
    let PackedHead { keys, values, frames, d_head, width } = block.head;
    let n = block.rows.len();
    let padded = frames.next_multiple_of(width);
    let scores = Target { data: block.scratch, stride: padded };
    let queries = Target { data: scores.at(BLOCK_QUERIES, 0).data, stride: d_head };
    for (index, &row) in block.rows.iter().enumerate() {
        let from = block.queries.at(row, 0).data;
        let to = queries.at(index, 0).data;
        for c in 0..d_head {
            *to.add(c) = *from.add(c) * block.scale;
        }
    }
    let queries = Operand::floats(queries.as_view());
    for panel in 0..padded / width {
        let keys = keys.data.add(panel * width * d_head).cast();
        accumulate::<L, N>(queries, n, keys, d_head, scores.at(0, panel * width));
    }
    let mut shares = [0.0; BLOCK_QUERIES];
    for (index, share) in shares.iter_mut().enumerate().take(n) {
        let scores = scores.at(index, 0).data;
        for frame in frames..padded {
            *scores.add(frame) = MASKED;
        }
        *share = softmax_row::<L::Vector>(scores, padded);
    }
    if let Some(probabilities) = block.probabilities {
        for (index, &row) in block.rows.iter().enumerate() {
            for frame in 0..frames {
                *probabilities.at(row, frame).data = *scores.at(index, frame).data * shares[index];
            }
        }
    }
    let scores = Operand::floats(scores.as_view());
    let mut memory = MaybeUninit::<[f32; BLOCK_QUERIES * MAX_WIDTH]>::uninit();
    let sums = Target { data: memory.as_mut_ptr().cast(), stride: width };
    for panel in 0..d_head.div_ceil(width) {
        let values = values.data.add(panel * width * frames).cast();
        accumulate::<L, N>(scores, n, values, frames, sums);
        let columns = width.min(d_head - panel * width);
        for (index, &row) in block.rows.iter().enumerate() {
            let output = block.output.at(row, panel * width).data;
            let share = shares[index];
            for c in 0..columns {
                *output.add(c) = *sums.at(index, c).data * share;
            }
        }
    }
}

/// One query of one head and the past it looks at.
#[derive(Debug)]
pub(super) struct AttendPast<'a> {
    pub(super) query: *const f32,
    /// Keys of all heads, then values of all heads, of each position.
    pub(super) past: &'a [View],
    /// Where this head's keys and its values start in them.
    pub(super) columns: [usize; 2],
    pub(super) d_head: usize,
    pub(super) scale: f32,
    /// As many floats as there are positions, rounded up to a multiple of [`MAX_WIDTH`].
    pub(super) scratch: *mut f32,
    pub(super) output: *mut f32,
}

/// Attends from one query to keys and values that lie anywhere.
///
/// # Safety
/// The instruction set of `V` is there, pointers are valid for the sizes given, and no other thread
/// writes the same output.
#[inline(always)]
pub(super) unsafe fn attend_past<V: Vector>(job: &AttendPast<'_>) {
    let d_head = job.d_head;
    let whole = d_head - d_head % V::LEN;
    for (index, key) in job.past.iter().enumerate() {
        let key = key.data.add(job.columns[0]);
        let mut sum = V::splat(0.0);
        for c in (0..whole).step_by(V::LEN) {
            sum = V::load(job.query.add(c)).mul_add(V::load(key.add(c)), sum);
        }
        let mut score = sum.sum();
        for c in whole..d_head {
            score += *job.query.add(c) * *key.add(c);
        }
        *job.scratch.add(index) = score * job.scale;
    }
    let padded = job.past.len().next_multiple_of(V::LEN);
    for index in job.past.len()..padded {
        *job.scratch.add(index) = MASKED;
    }
    let share = softmax_row::<V>(job.scratch, padded);
    for c in (0..whole).step_by(V::LEN) {
        let mut sum = V::splat(0.0);
        for (index, value) in job.past.iter().enumerate() {
            let weight = V::splat(*job.scratch.add(index));
            sum = weight.mul_add(V::load(value.data.add(job.columns[1] + c)), sum);
        }
        sum.mul(V::splat(share)).store(job.output.add(c));
    }
    for c in whole..d_head {
        let mut sum = 0.0;
        for (index, value) in job.past.iter().enumerate() {
            sum += *job.scratch.add(index) * *value.data.add(job.columns[1] + c);
        }
        *job.output.add(c) = sum * share;
    }
}
