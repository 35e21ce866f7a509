//! Keys and values of windows as int8, each frame of a head with a scale of its own.
//!
//! A decoder reads them at every step, which is most of what it waits for; an encoder's queries meet
//! them all, three tenths of its products. As int8 they are half of bf16, and products of int8 are the
//! cheapest there are. Queries become int8 as they come, as for linear layers; so do the numerators of
//! a softmax, once the largest of them is known. What is lost is 0.7 % of keys and values (root mean
//! square, `base`), a tenth of what int8 layers lose; twice as much before VNNI, where their codes have 7 bits.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "inner loops are pointer arithmetic and vector operations; the caller's promise covers them"
)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::attention::{AttendBlock, HeadShape, MASKED, MOST_QUERIES, PackedHead};
use super::buffer::{Target, View};
use super::gemm::{Ahead, Keep, MAX_WIDTH, Operand, accumulate};
use super::lane::{Lane, Unit};
use super::lanes_int8::{DEPTH, Dot, Int8, Integers, LEAST, codes_of};
use super::math::exp2_rough;
use super::product::ROW_GAP;
use super::vector::Vector;

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

/// Turns frames into codes, in the layout of [`pack_rows`](super::attention::pack_rows): keys as the lanes
/// of `K` are, values as those of `V`.
///
/// # Safety
/// The views have the rows, which start with a whole lane of values, `head` all of a head, and no other
/// thread writes the same lanes.
#[inline(always)]
pub(super) unsafe fn encode<K: Dot, V: Dot>(job: &Encode) {
    let HeadShape { d_head, width, .. } = job.shape;
    let (lanes, value_lanes) = (d_head / DEPTH, job.shape.value_lanes());
    let keys = job.head.data.cast::<u8>();
    let values = job.head.at(0, job.shape.key_words()).data.cast::<u8>();
    let worth = job.head.at(0, job.shape.key_words() + job.shape.value_words()).data;
    let padded = d_head.next_multiple_of(4);
    debug_assert!(job.rows.start.is_multiple_of(DEPTH), "a lane of values has one writer");
    let mut codes = vec![0; DEPTH * padded];
    for first in job.rows.clone().step_by(DEPTH) {
        let count = DEPTH.min(job.rows.end - first);
        let at = first - job.rows.start;
        codes.fill(0);
        for (frame, codes) in codes.chunks_exact_mut(padded).take(count).enumerate() {
            let (key, codes) = (job.keys.at(at + frame, 0).data, codes.as_mut_ptr());
            *worth.add(first + frame) = codes_of::<K::Vector>(key, d_head, K::STORED, codes);
        }
        // Four frames lie side by side in each lane of keys, and are a lane of values.
        let [a, b, c, d] = [0, 1, 2, 3].map(|frame| &codes[frame * padded..][..d_head]);
        let to = keys.add((first / width * width * lanes + first % width) * DEPTH);
        for lane in 0..lanes {
            let word = |codes: &[u8]| codes.as_ptr().cast::<u32>().add(lane).read_unaligned();
            let words = [word(a), word(b), word(c), word(d)];
            to.add(lane * width * DEPTH).cast::<[u32; 4]>().write_unaligned(words);
        }
        for (frame, codes) in codes.chunks_exact_mut(padded).take(count).enumerate() {
            let (value, codes) = (job.values.at(at + frame, 0).data, codes.as_mut_ptr());
            let worth = worth.add(job.shape.row_frames() + first + frame);
            *worth = codes_of::<V::Vector>(value, d_head, V::STORED, codes);
        }
        let [a, b, c, d] = [0, 1, 2, 3].map(|frame| &codes[frame * padded..][..d_head]);
        for panel in 0..d_head.div_ceil(width) {
            let to = values.add((panel * value_lanes + first / DEPTH) * width * DEPTH);
            let columns = panel * width..d_head.min((panel + 1) * width);
            let [a, b, c, d] = [a, b, c, d].map(|codes| &codes[columns.clone()]);
            for column in 0..columns.len() {
                let word = u32::from_le_bytes([a[column], b[column], c[column], d[column]]);
                to.cast::<u32>().add(column).write_unaligned(word);
            }
        }
    }
}

/// Attends from a block of queries to all frames of a head in codes, packed for `N` vectors. `K`
/// multiplies keys, `V` values, each with its unit of `U`.
///
/// # Safety
/// As for [`attention::attend`](super::attention::attend).
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "as in `gemm::step`")]
pub(super) unsafe fn attend<K, V, U, const N: usize>(block: &AttendBlock<'_>)
where
    K: Dot,
    V: Dot<Vector = K::Vector>,
    U: Units,
{
    let PackedHead { keys, values, worth, shape } = block.head;
    let HeadShape { frames, d_head, width, format } = shape;
    debug_assert!(format.depth() == DEPTH);
    debug_assert!(width == N * K::Vector::LEN, "layout of a head");
    let (n, lanes, value_lanes) = (block.rows.len(), d_head / DEPTH, shape.value_lanes());
    let row_frames = shape.row_frames();
    let scores = Target { data: block.scratch, stride: row_frames + ROW_GAP };
    let shares = Target { data: scores.at(MOST_QUERIES, 0).data, stride: value_lanes + ROW_GAP };
    let queries = Target { data: shares.at(MOST_QUERIES, 0).data, stride: d_head };
    let mut memory = MaybeUninit::<[f32; MOST_QUERIES * MAX_WIDTH]>::uninit();
    let sums = Target { data: memory.as_mut_ptr().cast(), stride: width };

    // What a step of each query is worth, then of its shares, and what keys, then values, that are too
    // large by that add to the sums.
    let (mut steps, mut excess) = ([0.0; MOST_QUERIES], [0; MOST_QUERIES]);
    for (index, &row) in block.rows.iter().enumerate() {
        let (from, to) = (block.queries.at(row, 0).data, queries.at(index, 0).data);
        for c in 0..d_head {
            *to.add(c) = *from.add(c) * block.scale * std::f32::consts::LOG2_E;
        }
        steps[index] = Int8::<K>::prepare(to, d_head, to.cast());
        if K::WEIGHTS_ARE_UNSIGNED {
            let codes = std::slice::from_raw_parts(to.cast_const().cast::<i8>(), d_head);
            let sum = codes.iter().map(|&code| i32::from(code)).sum::<i32>();
            excess[index] = (K::MOST_CODE + 1) * sum;
        }
    }

    let mut largest = [K::Vector::splat(MASKED); MOST_QUERIES];
    let mut unit = U::Keys::default();
    let queries = Operand::floats(queries.as_view());
    for panel in 0..frames.div_ceil(width) {
        let first = panel * width;
        let keys = (keys.data.cast::<u8>().add(first * lanes * DEPTH), Ahead::NOTHING);
        accumulate::<Int8<K, _>, N, _>(Some(&mut unit), queries, n, keys, lanes, sums, &Keep);
        let mut worths = [K::Vector::splat(0.0); N];
        for v in 0..N {
            worths[v] = K::Vector::load(worth.at(0, first + v * K::Vector::LEN).data);
        }
        let whole = (frames - first) / K::Vector::LEN;
        for index in 0..n {
            let excess = K::Vector::splat_int(excess[index]);
            let (step, mut most) = (K::Vector::splat(steps[index]), largest[index]);
            for v in 0..N {
                let column = v * K::Vector::LEN;
                let sum = K::Vector::load_ints(sums.at(index, column).data.cast());
                let sum = K::Vector::from_ints(K::Vector::sub_ints(sum, excess)).mul(step);
                let score = sum.mul(worths[v]);
                if v < whole {
                    most = most.max(score);
                }
                score.store(scores.at(index, first + column).data);
            }
            largest[index] = most;
        }
    }
    drop(unit);

    let worth = worth.at(0, row_frames).data;
    for (index, &row) in block.rows.iter().enumerate() {
        let row_scores = std::slice::from_raw_parts_mut(scores.at(index, 0).data, row_frames);
        row_scores[frames..].fill(MASKED);
        let last = &row_scores[frames - frames % K::Vector::LEN..frames];
        let largest = last.iter().fold(largest[index].largest(), |a, &b| a.max(b));
        let probabilities = block
            .probabilities
            .map(|all| std::slice::from_raw_parts_mut(all.at(row, 0).data, frames));
        let shares = shares.at(index, 0);
        steps[index] = share::<K>(row_scores, largest, worth, shares, probabilities);
        if V::WEIGHTS_ARE_UNSIGNED {
            let codes = std::slice::from_raw_parts(shares.data.cast::<u8>(), row_frames);
            let sum = codes.iter().map(|&code| i32::from(code)).sum::<i32>();
            excess[index] = (V::MOST_CODE + 1) * sum;
        }
    }

    let shares = Operand::floats(shares.as_view());
    let mut unit = U::Values::default();
    for panel in 0..d_head.div_ceil(width) {
        let values = values.data.cast::<u8>().add(panel * width * value_lanes * DEPTH);
        let values = (values, Ahead::NOTHING);
        accumulate::<Int8<V, _>, N, _>(
            Some(&mut unit),
            shares,
            n,
            values,
            value_lanes,
            sums,
            &Keep,
        );
        let columns = width.min(d_head - panel * width);
        for (index, &row) in block.rows.iter().enumerate() {
            let output = block.output.at(row, panel * width).data;
            let sums = sums.at(index, 0).data.cast::<i32>();
            let excess = if V::WEIGHTS_ARE_UNSIGNED { excess[index] } else { 0 };
            for c in 0..columns {
                *output.add(c) = (*sums.add(c)).wrapping_sub(excess) as f32 * steps[index];
            }
        }
    }
}

/// The matrix units for keys and for values.
pub(super) trait Units {
    type Keys: Unit;
    type Values: Unit;
}

impl<K: Unit, V: Unit> Units for (K, V) {
    type Keys = K;
    type Values = V;
}

/// Turns the scores of a query, powers of two, into shares of attention times what values are `worth`, in
/// steps, as activation lanes; returns what a step is worth. Where `probabilities` are wanted, shares are
/// left there, too.
#[inline(always)]
unsafe fn share<D: Dot>(
    scores: &mut [f32],
    largest: f32,
    worth: *const f32,
    shares: Target,
    probabilities: Option<&mut [f32]>,
) -> f32 {
    let step = D::Vector::LEN;
    // As many steps as the activations of a lane go up to.
    let most = 255.0;
    let reference = D::Vector::splat(largest);
    let (mut sum, mut largest) = (D::Vector::splat(0.0), D::Vector::splat(LEAST));
    let scores_at = scores.as_mut_ptr();
    for i in (0..scores.len()).step_by(step) {
        let numerator = exp2_rough(D::Vector::load(scores_at.add(i)).sub(reference));
        sum = sum.add(numerator);
        let weighed = numerator.mul(D::Vector::load(worth.add(i)));
        largest = largest.max(weighed);
        weighed.store(scores_at.add(i));
    }
    let share = 1.0 / sum.sum();
    if let Some(probabilities) = probabilities {
        for (frame, probability) in probabilities.iter_mut().enumerate() {
            *probability = scores[frame] / *worth.add(frame) * share;
        }
    }
    let largest = largest.largest();
    let factor = D::Vector::splat(most / largest);
    for i in (0..scores.len()).step_by(step) {
        let codes = D::Vector::load(scores_at.add(i)).mul(factor).nearest_ints();
        D::Vector::store_bytes(codes, shares.data.cast::<u8>().add(i), step);
    }
    share * largest / most
}
