//! Attention of a few queries to many keys, without the matrix of all scores.
//!
//! Keys and values of a head are packed like weights (see [`layout`](super::layout)): keys as
//! `frames` outputs of `d_head` inputs, values as `d_head` outputs of `frames` inputs. A block is at
//! most thirty queries, an encoder's twelve where there is no matrix unit: their scores with all keys
//! fit the second-level cache, so nothing of size frames x frames exists. Encoder, cross and prefix
//! attention use the same block.
//!
//! A decoder's own past is different: its keys lie wherever the cache put them, so each query walks
//! a list of addresses, see [`attend_past`].
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "inner loops are pointer arithmetic and vector operations; the caller's promise covers them"
)]

use std::mem::MaybeUninit;
use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::buffer::{Lent, Target, View};
use super::gemm::{Ahead, Keep, LINE_BYTES, MAX_WIDTH, Operand, accumulate};
use super::lane::{Lane, Unit};
use super::layout::Format;
use super::math::{load_up_to, softmax_row};
use super::product::ROW_GAP;
use super::vector::Vector;

/// Most queries of a block.
pub(super) const MOST_QUERIES: usize = 30;
/// Lanes of a column of values are filled up to a multiple of this, so that a matrix unit leaves none over.
const VALUE_LANES: usize = 16;
/// So many queries and fewer wait for keys from memory: the next ones are fetched meanwhile.
const WAITING_QUERIES: usize = 16;
/// A score that softmax turns into nothing.
pub(super) const MASKED: f32 = -1e30;

/// Sizes of packed keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadShape {
    pub(super) frames: usize,
    pub(super) d_head: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    pub(super) format: Format,
}

impl HeadShape {
    /// Words that the keys of a head take.
    pub(super) fn key_words(self) -> usize {
        self.words(self.frames.next_multiple_of(self.width) * self.key_lanes())
    }

    /// Words that the values of a head take.
    pub(super) fn value_words(self) -> usize {
        self.words(self.d_head.next_multiple_of(self.width) * self.value_lanes())
    }

    /// Lanes of a key.
    fn key_lanes(self) -> usize {
        self.d_head.div_ceil(self.format.depth())
    }

    /// Lanes of a column of values.
    pub(super) fn value_lanes(self) -> usize {
        // Codes need what they are worth for whole panels of keys, too.
        let whole = if self.format.has_steps() { self.width } else { 1 };
        let frames = self.frames.next_multiple_of(whole);
        frames.div_ceil(self.format.depth()).next_multiple_of(VALUE_LANES)
    }

    /// Words that so many lanes take, whole panels.
    fn words(self, lanes: usize) -> usize {
        lanes * self.format.lane_bytes() / size_of::<f32>()
    }

    /// Frames filled up to whole lanes of values, and for codes to whole panels of keys.
    pub(super) fn row_frames(self) -> usize {
        self.value_lanes() * self.format.depth()
    }

    /// Words that say what a step is worth, for keys and for values of each frame.
    fn worth_words(self) -> usize {
        if self.format.has_steps() { 2 * self.row_frames() } else { 0 }
    }

    /// Words that a head takes: its keys, then its values, then what their steps are worth.
    pub(super) fn head_words(self) -> usize {
        self.key_words() + self.value_words() + self.worth_words()
    }

    /// Floats that attention needs to work in.
    pub(super) fn scratch_words(self) -> usize {
        let scores = self.row_frames().max(self.frames.next_multiple_of(self.width)) + ROW_GAP;
        let shares = if self.format.has_steps() { self.value_lanes() + ROW_GAP } else { 0 };
        MOST_QUERIES * (scores + shares + self.d_head)
    }
}

/// Where the keys and values of one head lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedHead {
    /// `[panel of keys][lane of d_head]`.
    pub(super) keys: View,
    /// `[panel of d_head][lane of frames]`.
    pub(super) values: View,
    /// What a step of each frame's key is worth, then of each frame's value; for int8 only.
    pub(super) worth: View,
    pub(super) shape: HeadShape,
}

/// Packs some rows of one head. `keys` and `values` are the head's first columns, in lanes, of the
/// first of `rows`, a range of the frames that starts with whole lanes of values.
///
/// # Safety
/// The views have the rows, the targets all frames of the head, and no other thread writes the same
/// rows.
pub(super) unsafe fn pack_rows(
    rows: Range<usize>,
    (keys, values): (View, View),
    shape: HeadShape,
    (packed_keys, packed_values): (Target, Target),
) {
    let HeadShape { width, format, .. } = shape;
    let (depth, lanes, value_lanes) = (format.depth(), shape.key_lanes(), shape.value_lanes());
    // Rows are read in order: the columns of a row lie near each other where they are written, the
    // rows of a column far apart where they are read.
    for (index, row) in rows.clone().enumerate() {
        let key = std::slice::from_raw_parts(keys.at(index, 0).data, lanes);
        let at = row / width * width * lanes + row % width;
        if format == Format::F16 {
            let packed = packed_keys.data.cast::<f16>().add(at);
            for (first, keys) in key.chunks(HALVES).enumerate() {
                for (lane, half) in halves(keys).into_iter().take(keys.len()).enumerate() {
                    *packed.add((first * HALVES + lane) * width) = half;
                }
            }
            continue;
        }
        let packed = packed_keys.data.add(at);
        for (lane, &key) in key.iter().enumerate() {
            *packed.add(lane * width) = key;
        }
    }
    for (index, row) in rows.clone().enumerate().step_by(depth) {
        let panels = std::slice::from_raw_parts(values.at(index, 0).data, lanes);
        let next = (depth > 1 && row + 1 < rows.end)
            .then(|| std::slice::from_raw_parts(values.at(index + 1, 0).data, lanes));
        for (panel, value) in panels.chunks(width / depth).enumerate() {
            let at = (panel * value_lanes + row / depth) * width;
            if format == Format::F16 {
                let packed = packed_values.data.cast::<f16>().add(at);
                std::slice::from_raw_parts_mut(packed, value.len()).convert_from_f32_slice(value);
                continue;
            }
            let packed = packed_values.data.add(at);
            let packed = std::slice::from_raw_parts_mut(packed, value.len() * depth);
            if depth == 1 {
                packed.copy_from_slice(value);
            } else {
                interleave(value, next.map(|next| &next[panel * width / depth..]), packed);
            }
        }
    }
}

/// Values converted at once.
const HALVES: usize = 64;

/// At most [`HALVES`] values as halves.
fn halves(values: &[f32]) -> [f16; HALVES] {
    let mut halves = [f16::ZERO; HALVES];
    halves[..values.len()].convert_from_f32_slice(values);
    halves
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
    pub(super) shape: HeadShape,
}

impl PackedHeads {
    /// Room for all heads, zero where frames and columns are filled up to whole panels.
    pub(super) fn new(mut data: Lent, shape: HeadShape) -> Self {
        let HeadShape { frames, d_head, width, .. } = shape;
        for head in data.chunks_exact_mut(shape.head_words()) {
            let (keys, values) = head.split_at_mut(shape.key_words());
            keys[shape.words(frames / width * width * shape.key_lanes())..].fill(0.0);
            if !d_head.is_multiple_of(width) {
                values.fill(0.0);
            }
            // Whole lanes that have frames: codes do not fill up the last one.
            let depth = shape.format.depth();
            let lanes =
                if shape.format.has_steps() { frames / depth } else { frames.div_ceil(depth) };
            let written = shape.words(lanes * width);
            let (values, worth) = values.split_at_mut(shape.value_words());
            for panel in values.chunks_exact_mut(shape.words(shape.value_lanes() * width)) {
                panel[written..].fill(0.0);
            }
            worth.fill(0.0);
        }
        Self { data, shape }
    }

    /// One head of them.
    pub(super) fn head(&self, head: usize) -> PackedHead {
        let head_words = self.shape.head_words();
        let head = &self.data[head * head_words..][..head_words];
        let (keys, values) = head.split_at(self.shape.key_words());
        let (values, worth) = values.split_at(self.shape.value_words());
        let [keys, values, worth] = [keys, values, worth].map(|part| View::new(part, 0));
        PackedHead { keys, values, worth, shape: self.shape }
    }
}

/// A block of queries of one head.
#[derive(Debug)]
pub(super) struct AttendBlock<'a> {
    /// The head's first column of the query matrix.
    pub(super) queries: View,
    /// At most [`MOST_QUERIES`] rows of `queries` and `output`.
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
    let PackedHead { values, shape, .. } = block.head;
    let HeadShape { frames, d_head, width, format } = shape;
    debug_assert!(format.depth() == L::DEPTH && format.lane_bytes() == L::WEIGHT_BYTES);
    debug_assert!(width == N * <L::Vector as Vector>::LEN, "layout of a head");
    let (n, panels) = (block.rows.len(), frames.div_ceil(width));
    let numerators = Target { data: block.scratch, stride: panels * width / L::DEPTH + ROW_GAP };
    let queries = Target { data: numerators.at(MOST_QUERIES, 0).data, stride: d_head };
    for (index, &row) in block.rows.iter().enumerate() {
        let from = block.queries.at(row, 0).data;
        let to = queries.at(index, 0).data;
        for c in 0..d_head {
            *to.add(c) = *from.add(c) * block.scale * L::SCORE_FACTOR;
        }
        L::prepare(to, d_head, to.cast());
    }
    const { assert!(L::Unit::BLOCK_QUERIES <= MOST_QUERIES, "scores of a block fit") };
    let mut memory = MaybeUninit::<[f32; MOST_QUERIES * MAX_WIDTH]>::uninit();
    let sums = Target { data: memory.as_mut_ptr().cast(), stride: width };
    let queries = Operand::floats(queries.as_view());
    let mut unit = L::Unit::default();
    let shares = soften::<L, N>(&mut unit, &block.head, (queries, n), sums, numerators);
    if let Some(probabilities) = block.probabilities {
        for (index, &row) in block.rows.iter().enumerate() {
            for frame in 0..frames {
                let numerator = L::numerator(numerators.at(index, 0).data, frame);
                *probabilities.at(row, frame).data = numerator * shares[index];
            }
        }
    }
    let numerators = Operand::floats(numerators.as_view());
    let lanes = shape.value_lanes();
    for panel in 0..d_head.div_ceil(width) {
        let values = values.data.add(shape.words(panel * width * lanes)).cast();
        accumulate::<L, N, _>(
            Some(&mut unit),
            numerators,
            n,
            (values, Ahead::NOTHING),
            lanes,
            sums,
            &Keep,
        );
        let columns = width.min(d_head - panel * width);
        for (index, &row) in block.rows.iter().enumerate() {
            let output = block.output.at(row, panel * width).data;
            for c in 0..columns {
                *output.add(c) = *sums.at(index, c).data * shares[index];
            }
        }
    }
}

/// Writes the numerators of the softmax of `n` queries' scores, and returns one over their sums.
///
/// # Safety
/// As for [`attend`]; `sums` has a panel of each query, `numerators` all panels in lanes.
#[inline(always)]
unsafe fn soften<L: Lane, const N: usize>(
    unit: &mut L::Unit,
    head: &PackedHead,
    (queries, n): (Operand, usize),
    sums: Target,
    numerators: Target,
) -> [f32; MOST_QUERIES] {
    let HeadShape { frames, width, .. } = head.shape;
    let panels = frames.div_ceil(width);
    let lanes = head.shape.key_lanes();
    let panel_bytes = head.shape.words(width * lanes) * size_of::<f32>();
    let mut largest = [f32::MIN; MOST_QUERIES];
    let mut shares = [0.0; MOST_QUERIES];
    for pass in PASSES {
        let mut totals = [<L::Vector as Vector>::splat(0.0); MOST_QUERIES];
        for panel in 0..panels {
            let keys = head.keys.data.add(head.shape.words(panel * width * lanes)).cast::<u8>();
            let ahead = if n <= WAITING_QUERIES && panel + 1 < panels {
                Ahead { data: keys.wrapping_add(panel_bytes), bytes: panel_bytes }
            } else {
                Ahead::NOTHING
            };
            accumulate::<L, N, _>(Some(unit), queries, n, (keys, ahead), lanes, sums, &Keep);
            for frame in frames.saturating_sub(panel * width)..width {
                for index in 0..n {
                    *sums.at(index, frame).data = MASKED;
                }
            }
            if pass == Pass::Largest || pass == Pass::Try && panel == 0 {
                raise::<L::Vector>(&mut largest[..n], sums, width);
            }
            if pass != Pass::Largest {
                for (index, total) in totals.iter_mut().enumerate().take(n) {
                    let to = numerators.at(index, panel * width / L::DEPTH).data;
                    let scores = sums.at(index, 0).data;
                    *total = L::numerators(scores, width, largest[index], to, *total);
                }
            }
        }
        let mut has_overflowed = pass == Pass::Largest;
        for (total, share) in totals.iter().zip(&mut shares).take(n) {
            let total = total.sum();
            has_overflowed |= total > L::GREATEST_SUM;
            *share = 1.0 / total;
        }
        if !has_overflowed {
            break;
        }
    }
    shares
}

/// Softmax is the same whatever is subtracted from all scores, as long as nothing overflows. So the
/// largest score with the first panel is tried, and very seldom the largest of all is needed.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Try,
    Largest,
    Again,
}

const PASSES: [Pass; 3] = [Pass::Try, Pass::Largest, Pass::Again];

/// Makes each of `largest` at least the largest of `width` scores of its row.
#[inline(always)]
unsafe fn raise<V: Vector>(largest: &mut [f32], scores: Target, width: usize) {
    for (index, largest) in largest.iter_mut().enumerate() {
        let mut found = V::splat(*largest);
        for column in (0..width).step_by(V::LEN) {
            found = found.max(V::load(scores.at(index, column).data));
        }
        *largest = found.largest();
    }
}

/// Lanes of a remembered key or value are filled up with zeros to a multiple of this: whole vectors.
pub(super) const PAST_LANES: usize = 16;

/// How many positions ahead of the one whose key is multiplied are fetched: what is remembered does not
/// stay in the caches while a step reads all weights.
const PLACES_AHEAD: usize = 16;

/// One query of one head and the past it looks at.
#[derive(Debug)]
pub(super) struct AttendPast<'a> {
    pub(super) query: *const f32,
    /// Where the key and behind it the value of each position lie, of some head.
    pub(super) past: &'a [View],
    /// How many words further on those of this head lie.
    pub(super) offset: usize,
    pub(super) d_head: usize,
    pub(super) scale: f32,
    /// As many floats as there are positions, rounded up to a multiple of [`MAX_WIDTH`].
    pub(super) scratch: *mut f32,
    pub(super) output: *mut f32,
}

impl AttendPast<'_> {
    /// Where the key of a position lies, in whatever it is stored.
    #[inline(always)]
    fn key(&self, place: &View) -> *const u8 {
        place.data.wrapping_add(self.offset).cast()
    }
}

/// Attends from one query to keys and values that lie anywhere, stored as lanes of `L`.
///
/// # Safety
/// The instruction set of `L` is there, pointers are valid for the sizes given, and no other thread
/// writes the same output.
#[inline(always)]
pub(super) unsafe fn attend_past<L: Lane<Weights = <L as Lane>::Vector>>(job: &AttendPast<'_>) {
    let lanes = L::Vector::LEN;
    let place_bytes = 2 * job.d_head.next_multiple_of(PAST_LANES) * L::WEIGHT_BYTES;
    for (index, place) in job.past.iter().enumerate() {
        // A key and its value lie side by side.
        if let Some(later) = job.past.get(index + PLACES_AHEAD) {
            for line in (0..place_bytes).step_by(LINE_BYTES) {
                L::Vector::prefetch(job.key(later).wrapping_add(line));
            }
        }
        let key = job.key(place);
        let mut sum = L::Vector::splat(0.0);
        for column in (0..job.d_head).step_by(lanes) {
            let query = load_up_to::<L::Vector>(job.query.add(column), job.d_head - column);
            sum = query.mul_add(L::weights(key.add(column * L::WEIGHT_BYTES)), sum);
        }
        *job.scratch.add(index) = sum.sum() * job.scale;
    }
    let padded = job.past.len().next_multiple_of(lanes);
    for index in job.past.len()..padded {
        *job.scratch.add(index) = MASKED;
    }
    let share = softmax_row::<L::Vector>(job.scratch, padded);
    let mut column = 0;
    while column + 4 * lanes <= job.d_head {
        weigh::<L, 4>(job, column, share);
        column += 4 * lanes;
    }
    while column < job.d_head {
        weigh::<L, 1>(job, column, share);
        column += lanes;
    }
}

/// The sum of `N` vectors of all values from `column` on, weighed by the scores.
#[inline(always)]
unsafe fn weigh<L: Lane<Weights = <L as Lane>::Vector>, const N: usize>(
    job: &AttendPast<'_>,
    column: usize,
    share: f32,
) {
    let lanes = L::Vector::LEN;
    let start = job.d_head.next_multiple_of(PAST_LANES) + column;
    let mut sums = [L::Vector::splat(0.0); N];
    for (index, place) in job.past.iter().enumerate() {
        let value = job.key(place).add(start * L::WEIGHT_BYTES);
        let weight = L::Vector::splat(*job.scratch.add(index));
        for (v, sum) in sums.iter_mut().enumerate() {
            let value = L::weights(value.add(v * lanes * L::WEIGHT_BYTES));
            *sum = weight.mul_add(value, *sum);
        }
    }
    for (v, sum) in sums.iter().enumerate() {
        let column = column + v * lanes;
        let sum = sum.mul(L::Vector::splat(share));
        match job.d_head - column {
            count if count < lanes => sum.store_part(job.output.add(column), count),
            _ => sum.store(job.output.add(column)),
        }
    }
}
