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
use super::layout::Format;
use super::math::softmax_row;
use super::vector::Vector;

/// Queries of a block.
pub(super) const BLOCK_QUERIES: usize = 12;
/// A score that softmax turns into nothing.
const MASKED: f32 = -1e30;

/// Sizes of packed keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadShape {
    pub(super) frames: usize,
    pub(super) d_head: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    /// Values in a lane: 1 for f32, 2 for bf16.
    pub(super) depth: usize,
}

impl HeadShape {
    /// Words that the keys of a head take.
    pub(super) fn key_words(self) -> usize {
        self.frames.next_multiple_of(self.width) * self.d_head.div_ceil(self.depth)
    }

    /// Words that the values of a head take.
    pub(super) fn value_words(self) -> usize {
        self.d_head.next_multiple_of(self.width) * self.frames.div_ceil(self.depth)
    }

    /// Floats that [`attend`] needs to work in.
    pub(super) fn scratch_words(self) -> usize {
        BLOCK_QUERIES * (self.frames.next_multiple_of(self.width) + self.d_head)
    }
}

/// Where the keys and values of one head lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedHead {
    /// `[panel of keys][lane of d_head]`.
    pub(super) keys: View,
    /// `[panel of d_head][lane of frames]`.
    pub(super) values: View,
    pub(super) shape: HeadShape,
}

/// Packs one head from rows of lanes: `keys` and `values` start at the head's first column of the
/// first of `frames` rows, which are `stride` words apart.
pub(super) fn pack_head(
    (keys, values): (&[f32], &[f32]),
    stride: usize,
    shape: HeadShape,
    (packed_keys, packed_values): (&mut [f32], &mut [f32]),
) {
    let HeadShape { frames, d_head, width, depth } = shape;
    let lanes = d_head / depth;
    for (panel, packed) in packed_keys.chunks_exact_mut(width * lanes).enumerate() {
        let rows = width.min(frames - panel * width);
        if rows < width {
            packed.fill(0.0);
        }
        // Rows are read in order: the columns of a row lie near each other where they are written, the
        // rows of a column far apart where they are read.
        for (row, keys) in keys[panel * width * stride..].chunks(stride).take(rows).enumerate() {
            for (packed, &key) in packed[row..].iter_mut().step_by(width).zip(&keys[..lanes]) {
                *packed = key;
            }
        }
    }
    let panel_words = width * frames.div_ceil(depth);
    for (panel, packed) in packed_values.chunks_exact_mut(panel_words).enumerate() {
        let columns = width.min(d_head - panel * width);
        for (lane, packed) in packed.chunks_exact_mut(width).enumerate() {
            let from = lane * depth * stride + panel * width / depth;
            let row = &values[from..from + columns / depth];
            if depth == 1 {
                packed[..columns].copy_from_slice(row);
            } else {
                let next = values.get(from + stride..from + stride + columns / depth);
                interleave(row, next.filter(|_| lane * depth + 1 < frames), packed);
            }
            packed[columns..].fill(0.0);
        }
    }
}

/// Pairs the halves of two rows: word `c` gets value `c` of the first row and of the second.
fn interleave(first: &[f32], second: Option<&[f32]>, out: &mut [f32]) {
    for (index, (out, &a)) in out.as_chunks_mut::<2>().0.iter_mut().zip(first).enumerate() {
        let (a, b) = (a.to_bits(), second.map_or(0, |second| second[index].to_bits()));
        *out = [a & 0xffff | b << 16, a >> 16 | b & 0xffff_0000].map(f32::from_bits);
    }
}

/// The keys and values of all heads over the same frames.
#[derive(Debug)]
pub(crate) struct PackedHeads {
    /// For each head its keys, then its values.
    pub(super) data: Lent,
    pub(super) format: Format,
    pub(super) shape: HeadShape,
}

impl PackedHeads {
    /// One head of them.
    pub(super) fn head(&self, head: usize) -> PackedHead {
        let key_words = self.shape.key_words();
        let head_words = key_words + self.shape.value_words();
        let (keys, values) = self.data[head * head_words..][..head_words].split_at(key_words);
        let (keys, values) = (View::new(keys, 0), View::new(values, 0));
        PackedHead { keys, values, shape: self.shape }
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
    /// [`HeadShape::scratch_words`] floats.
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
    let PackedHead { keys, values, shape } = block.head;
    let HeadShape { frames, d_head, width, depth } = shape;
    debug_assert!(depth == L::DEPTH && width == N * <L::Vector as Vector>::LEN, "layout of a head");
    let (n, padded) = (block.rows.len(), frames.next_multiple_of(width));
    let scores = Target { data: block.scratch, stride: padded };
    let queries = Target { data: scores.at(BLOCK_QUERIES, 0).data, stride: d_head };
    for (index, &row) in block.rows.iter().enumerate() {
        let from = block.queries.at(row, 0).data;
        let to = queries.at(index, 0).data;
        for c in 0..d_head {
            *to.add(c) = *from.add(c) * block.scale * L::SCORE_FACTOR;
        }
        L::prepare(to, d_head, to.cast());
    }
    let queries = Operand::floats(queries.as_view());
    let lanes = d_head / depth;
    for panel in 0..padded / width {
        let keys = keys.data.add(panel * width * lanes).cast();
        accumulate::<L, N>(queries, n, keys, lanes, scores.at(0, panel * width));
    }
    let mut shares = [0.0; BLOCK_QUERIES];
    for (index, share) in shares.iter_mut().enumerate().take(n) {
        let scores = scores.at(index, 0).data;
        for frame in frames..padded {
            *scores.add(frame) = MASKED;
        }
        *share = L::soften(scores, padded);
    }
    if let Some(probabilities) = block.probabilities {
        for (index, &row) in block.rows.iter().enumerate() {
            for frame in 0..frames {
                let numerator = L::numerator(scores.at(index, 0).data, frame);
                *probabilities.at(row, frame).data = numerator * shares[index];
            }
        }
    }
    let scores = Operand::floats(scores.as_view());
    let mut memory = MaybeUninit::<[f32; BLOCK_QUERIES * MAX_WIDTH]>::uninit();
    let sums = Target { data: memory.as_mut_ptr().cast(), stride: width };
    let lanes = frames.div_ceil(depth);
    for panel in 0..d_head.div_ceil(width) {
        let values = values.data.add(panel * width * lanes).cast();
        accumulate::<L, N>(scores, n, values, lanes, sums);
        let columns = width.min(d_head - panel * width);
        for (index, &row) in block.rows.iter().enumerate() {
            let output = block.output.at(row, panel * width).data;
            for c in 0..columns {
                *output.add(c) = *sums.at(index, c).data * shares[index];
            }
        }
    }
}

/// One query of one head and the past it looks at.
#[derive(Debug)]
pub(super) struct AttendPast<'a> {
    pub(super) query: *const f32,
    /// Where the key and behind it the value of each position lie, of some head.
    pub(super) past: &'a [View],
    /// How much further on those of this head lie.
    pub(super) offset: usize,
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
        let key = key.data.add(job.offset);
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
    let mut column = 0;
    while column + 4 * V::LEN <= whole {
        weigh::<V, 4>(job, column, share);
        column += 4 * V::LEN;
    }
    while column < whole {
        weigh::<V, 1>(job, column, share);
        column += V::LEN;
    }
    for column in whole..d_head {
        let mut sum = 0.0;
        for (index, value) in job.past.iter().enumerate() {
            sum += *job.scratch.add(index) * *value.data.add(job.offset + d_head + column);
        }
        *job.output.add(column) = sum * share;
    }
}

/// The sum of `N` vectors of all values from `column` on, weighed by the scores.
#[inline(always)]
unsafe fn weigh<V: Vector, const N: usize>(job: &AttendPast<'_>, column: usize, share: f32) {
    let mut sums = [V::splat(0.0); N];
    for (index, value) in job.past.iter().enumerate() {
        let value = value.data.add(job.offset + job.d_head + column);
        let weight = V::splat(*job.scratch.add(index));
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = weight.mul_add(V::load(value.add(v * V::LEN)), *sum);
        }
    }
    for (v, sum) in sums.iter().enumerate() {
        sum.mul(V::splat(share)).store(job.output.add(column + v * V::LEN));
    }
}
