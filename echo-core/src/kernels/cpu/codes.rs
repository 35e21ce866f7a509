//! Keys and values of windows as int8, each frame of a head with a scale of its own.
//!
//! A decoder reads all of them at every step, which is most of what it waits for. As int8 they are half
//! of bf16, and products of int8 are the cheapest there are. Queries become int8 as they come, as for
//! linear layers; so do the numerators of a softmax, once the largest of them is known. What is lost is
//! 0.7 % of keys and values (root mean square, `base`), a tenth of what int8 layers lose.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "inner loops are pointer arithmetic and vector operations; the caller's promise covers them"
)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::attention::{AttendBlock, HeadShape, MASKED, MOST_QUERIES, PackedHead};
use super::buffer::{Target, View};
use super::gemm::{Ahead, Keep, MAX_WIDTH, Operand, accumulate};
use super::lane::Lane;
use super::layout::{largest_of, nearest};
use super::math::softmax_row;
use super::product::ROW_GAP;
use super::vector::Vector;

/// A frame of which nothing is larger is nothing.
const LEAST: f32 = 1e-30;
/// Added to a number below 2^22, leaves the nearest integer in the low bits of the sum.
const SHIFT: f32 = 12_582_912.0;

/// Frames of one head that are to become codes.
#[derive(Debug)]
pub(super) struct Encode {
    /// Which of the head's frames they are.
    pub(super) rows: Range<usize>,
    /// The head's first columns of the first of them.
    pub(super) keys: View,
    pub(super) values: View,
    pub(super) shape: HeadShape,
    /// Where the head lies.
    pub(super) head: Target,
}

/// Turns frames into codes, in the layout of [`pack_rows`](super::attention::pack_rows) and, for keys, as
/// the lanes of `K` are.
///
/// # Safety
/// The views have the rows, `head` all of a head, and no other thread writes the same rows.
#[inline(always)]
pub(super) unsafe fn encode<K: Lane>(job: &Encode) {
    let HeadShape { d_head, width, .. } = job.shape;
    let depth = job.shape.format.depth();
    let (lanes, value_lanes) = (d_head / depth, job.shape.value_lanes());
    let keys = job.head.data.cast::<u8>();
    let values = job.head.at(0, job.shape.key_words()).data.cast::<u8>();
    let worth = job.head.at(0, job.shape.key_words() + job.shape.value_words()).data;
    let mut codes = vec![0; d_head];
    for (index, row) in job.rows.clone().enumerate() {
        *worth.add(row) = codes_of(job.keys.at(index, 0), &mut codes);
        let column = row / width * width * lanes + row % width;
        for (lane, codes) in codes.chunks_exact(depth).enumerate() {
            let to = keys.add((column + lane * width) * depth);
            for (at, code) in codes.iter().enumerate() {
                *to.add(at) = if K::ARE_UNSIGNED { code ^ 0x80 } else { *code };
            }
        }
        *worth.add(job.shape.row_frames() + row) = codes_of(job.values.at(index, 0), &mut codes);
        for (panel, codes) in codes.chunks(width).enumerate() {
            let lane = panel * value_lanes + row / depth;
            let to = values.add(lane * width * depth + row % depth);
            for (column, code) in codes.iter().enumerate() {
                *to.add(column * depth) = *code;
            }
        }
    }
}

/// Writes a row in steps of a scale, as the bytes of int8, and returns what a step is worth.
#[inline(always)]
unsafe fn codes_of(row: View, codes: &mut [u8]) -> f32 {
    let row = std::slice::from_raw_parts(row.data, codes.len());
    let largest = largest_of(row).max(LEAST);
    let factor = 127.0 / largest;
    for (code, value) in codes.iter_mut().zip(row) {
        *code = nearest(value * factor).cast_unsigned();
    }
    largest / 127.0
}

/// Attends from a block of queries to all frames of a head in codes, packed for `N` vectors. `K`
/// multiplies keys, `V` values.
///
/// # Safety
/// As for [`attention::attend`](super::attention::attend).
#[inline(always)]
pub(super) unsafe fn attend<K: Lane, V: Lane, const N: usize>(block: &AttendBlock<'_>) {
    let PackedHead { keys, values, worth, shape } = block.head;
    let HeadShape { frames, d_head, width, format } = shape;
    debug_assert!(format.depth() == K::DEPTH && format.depth() == V::DEPTH);
    debug_assert!(width == N * <K::Vector as Vector>::LEN, "layout of a head");
    let (n, lanes, value_lanes) = (block.rows.len(), d_head / K::DEPTH, shape.value_lanes());
    let row_frames = shape.row_frames();
    let scores = Target { data: block.scratch, stride: row_frames + ROW_GAP };
    let shares = Target { data: scores.at(MOST_QUERIES, 0).data, stride: value_lanes + ROW_GAP };
    let queries = Target { data: shares.at(MOST_QUERIES, 0).data, stride: d_head };
    let mut memory = MaybeUninit::<[f32; MOST_QUERIES * MAX_WIDTH]>::uninit();
    let sums = Target { data: memory.as_mut_ptr().cast(), stride: width };

    // What a step of each query is worth, and what keys that are 128 too large make of its scores.
    let (mut steps, mut excess) = ([0.0; MOST_QUERIES], [0; MOST_QUERIES]);
    for (index, &row) in block.rows.iter().enumerate() {
        let (from, to) = (block.queries.at(row, 0).data, queries.at(index, 0).data);
        for c in 0..d_head {
            *to.add(c) = *from.add(c) * block.scale;
        }
        steps[index] = K::prepare(to, d_head, to.cast());
        if K::ARE_UNSIGNED {
            let codes = std::slice::from_raw_parts(to.cast_const().cast::<i8>(), d_head);
            excess[index] = 128 * codes.iter().map(|&code| i32::from(code)).sum::<i32>();
        }
    }

    let queries = Operand::floats(queries.as_view());
    for panel in 0..frames.div_ceil(width) {
        let first = panel * width;
        let keys = keys.data.cast::<u8>().add(first * lanes * K::WEIGHT_BYTES);
        let keys = (keys, Ahead::NOTHING);
        accumulate::<K, N, _>(&mut K::Unit::default(), queries, n, keys, lanes, sums, &Keep);
        for index in 0..n {
            let (to, worth) = (scores.at(index, first).data, worth.at(0, first).data);
            let sums = sums.at(index, 0).data.cast::<i32>();
            for column in 0..width {
                let sum = (*sums.add(column)).wrapping_sub(excess[index]);
                *to.add(column) = sum as f32 * steps[index] * *worth.add(column);
            }
        }
    }

    let worth = worth.at(0, row_frames).data;
    for (index, &row) in block.rows.iter().enumerate() {
        let row_scores = std::slice::from_raw_parts_mut(scores.at(index, 0).data, row_frames);
        row_scores[frames..].fill(MASKED);
        let share = softmax_row::<K::Vector>(row_scores.as_mut_ptr(), row_frames);
        if let Some(probabilities) = block.probabilities {
            for (frame, numerator) in row_scores[..frames].iter().enumerate() {
                *probabilities.at(row, frame).data = numerator * share;
            }
        }
        steps[index] = share * weigh::<K>(row_scores, worth, shares.at(index, 0));
    }

    let shares = Operand::floats(shares.as_view());
    for panel in 0..d_head.div_ceil(width) {
        let values = values.data.cast::<u8>().add(panel * width * value_lanes * V::WEIGHT_BYTES);
        let values = (values, Ahead::NOTHING);
        accumulate::<V, N, _>(&mut V::Unit::default(), shares, n, values, value_lanes, sums, &Keep);
        let columns = width.min(d_head - panel * width);
        for (index, &row) in block.rows.iter().enumerate() {
            let output = block.output.at(row, panel * width).data;
            let sums = sums.at(index, 0).data.cast::<i32>();
            for c in 0..columns {
                *output.add(c) = *sums.add(c) as f32 * steps[index];
            }
        }
    }
}

/// Writes numerators times what values are worth in steps, as activation lanes, and returns what a
/// step is worth.
#[inline(always)]
unsafe fn weigh<L: Lane>(numerators: &[f32], worth: *const f32, lanes: Target) -> f32 {
    // As many steps as the activations of a lane go up to, or as a sum of all frames has room for.
    let most = if L::DEPTH == 4 { 255.0 } else { 8191.0 };
    let mut largest = L::Vector::splat(LEAST);
    for i in (0..numerators.len()).step_by(L::Vector::LEN) {
        let numerators = L::Vector::load(numerators.as_ptr().add(i));
        largest = largest.max(numerators.mul(L::Vector::load(worth.add(i))));
    }
    let step = largest.largest() / most;
    let factor = 1.0 / step;
    for (i, numerator) in numerators.iter().enumerate() {
        let code = (numerator * *worth.add(i) * factor + SHIFT).to_bits();
        if L::DEPTH == 4 {
            *lanes.data.cast::<u8>().add(i) = code as u8;
        } else {
            *lanes.data.cast::<u16>().add(i) = code as u16;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_in_steps_of_a_127th_of_its_largest() {
        for len in [0, 1, 15, 16, 17, 64, 80] {
            for scale in [0.0, 1e-3, 1.0, 3e4] {
                // The largest is a negative one, at the end and thus beyond whole sixteens.
                let value = |at: usize| -((at * 37 % 61) as f32) * scale;
                let mut row: Vec<f32> = (0..len).map(value).collect();
                row.extend([-61.0 * scale]);
                let mut codes = vec![0; row.len()];
                // SAFETY: a row of as many values as there are codes.
                let step = unsafe { codes_of(View::new(&row, row.len()), &mut codes) };
                let largest = (61.0 * scale).max(LEAST);
                assert_eq!(step, largest / 127.0, "{len} of {scale}");
                for (code, value) in codes.iter().zip(&row) {
                    let wanted = (value * (127.0 / largest)).round_ties_even();
                    assert_eq!(f32::from(code.cast_signed()), wanted, "{value} of {largest}");
                }
            }
        }
    }
}
