//! Activations times packed weights: one microkernel for every format, size and instruction set.
//!
//! A tile is up to six rows of activations by one panel of weights, its sums in registers (6 x 4
//! vectors of 16 on AVX-512, 6 x 2 of 8 elsewhere; more rows would spill the pointers, fewer would
//! starve the multipliers). Panels are walked in pieces of at most [`PIECE_LANES`] lanes, which
//! stay in the second-level cache while all row tiles of the call pass over them. Sums rest in a
//! small buffer between pieces; bias, scales, GELU and residual are applied as soon as a tile has
//! seen its last piece, while its sums are still near.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "inner loops are pointer arithmetic and vector operations; the caller's promise covers them"
)]

use std::mem::MaybeUninit;
use std::ops::Range;

use super::buffer::{Target, View};
use super::lane::{Lane, Unit};
use super::layout::Packed;
use super::vector::Vector;

/// Most rows of a tile.
pub(super) const TILE_ROWS: usize = 6;
/// Most rows of a block, see [`Unit::BLOCK_ROWS`].
const MOST_ROWS: usize = 192;
/// Lanes of a panel that are walked at once: 256 KiB of 64 columns in f32.
const PIECE_LANES: usize = 1024;
/// What a cache fetches at once, on most machines.
pub(super) const LINE_BYTES: usize = 64;
/// Widest panel.
pub(super) const MAX_WIDTH: usize = 64;

/// Activations in the lanes of a format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand {
    pub(super) data: *const u8,
    pub(super) stride_bytes: usize,
    /// One factor a row, for formats that have them, else null.
    pub(super) scales: *const f32,
}

// SAFETY: an operand is an address, like a `View`.
unsafe impl Send for Operand {}
// SAFETY: as above.
unsafe impl Sync for Operand {}

impl Operand {
    /// Plain floats as they are.
    pub(super) fn floats(view: View) -> Self {
        Self { data: view.data.cast(), stride_bytes: view.stride * 4, scales: std::ptr::null() }
    }

    /// The factor of a row.
    ///
    /// # Safety
    /// There are factors of so many rows, or none at all.
    #[inline(always)]
    unsafe fn scale(&self, row: usize) -> f32 {
        if self.scales.is_null() { 1.0 } else { *self.scales.add(row) }
    }
}

/// One product: `output = finish(input * weights + bias) + add`.
#[derive(Debug, Clone)]
pub(super) struct Gemm<'a> {
    pub(super) rows: usize,
    pub(super) input: Operand,
    pub(super) weights: &'a Packed,
    /// The panels of the weights to multiply with.
    pub(super) panels: Range<usize>,
    pub(super) output: Target,
    /// Whether GELU is applied after the bias.
    pub(super) has_gelu: bool,
    /// What is added last; may be the output itself.
    pub(super) add: Option<View>,
}

/// Runs a product with panels of `N` vectors.
///
/// # Safety
/// The instruction set of `L` is there; `input` has the rows and the weights' lanes; `output` and
/// `add` have the rows and the weights' outputs, and no other thread uses those of the panels.
#[inline(always)]
pub(super) unsafe fn gemm<L: Lane, const N: usize>(job: &Gemm<'_>) {
    let width = N * <L::Vector as Vector>::LEN;
    debug_assert!(width <= MAX_WIDTH && width == job.weights.width, "panel width");
    const { assert!(L::Unit::BLOCK_ROWS <= MOST_ROWS, "sums of a block fit") };
    let mut memory = MaybeUninit::<[f32; MOST_ROWS * MAX_WIDTH]>::uninit();
    let sums = Target { data: memory.as_mut_ptr().cast(), stride: width };
    let mut unit = (job.rows > L::Unit::FEW_ROWS).then(L::Unit::default);
    for panel in job.panels.clone() {
        let weights = job.weights.panel(panel);
        let mut row = 0;
        while row < job.rows {
            let rows = L::Unit::BLOCK_ROWS.min(job.rows - row);
            let input = job.input.data.wrapping_add(row * job.input.stride_bytes);
            let input = Operand { data: input, ..job.input };
            let ahead = if panel + 1 < job.panels.end {
                Ahead::part(job.weights, panel + 1, row..row + rows, job.rows)
            } else {
                Ahead::NOTHING
            };
            let end = Finish { job, panel, row };
            let lanes = job.weights.lanes;
            accumulate::<L, N, _>(unit.as_mut(), input, rows, (weights, ahead), lanes, sums, &end);
            row += rows;
        }
    }
}

/// What will be read next, to be fetched into the cache meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) data: *const u8,
    pub(super) bytes: usize,
}

impl Ahead {
    pub(super) const NOTHING: Self = Self { data: std::ptr::null(), bytes: 0 };

    /// The part of a panel that falls to some of all rows.
    fn part(weights: &Packed, panel: usize, rows: Range<usize>, all: usize) -> Self {
        let at = |row: usize| weights.panel_bytes() * row / all / LINE_BYTES * LINE_BYTES;
        let start = at(rows.start);
        Self { data: weights.panel(panel).wrapping_add(start), bytes: at(rows.end) - start }
    }
}

/// What becomes of the sums of a tile.
pub(super) trait End<L: Lane, const N: usize> {
    /// Takes the sums of rows `rows` of the call, which are at `sums`.
    ///
    /// # Safety
    /// As for [`gemm`].
    unsafe fn take(&self, rows: Range<usize>, sums: Target);
}

/// They stay where they are.
pub(super) struct Keep;

impl<L: Lane, const N: usize> End<L, N> for Keep {
    #[inline(always)]
    unsafe fn take(&self, _rows: Range<usize>, _sums: Target) {}
}

/// They become output.
struct Finish<'a> {
    job: &'a Gemm<'a>,
    panel: usize,
    /// The first row of the call.
    row: usize,
}

impl<L: Lane, const N: usize> End<L, N> for Finish<'_> {
    #[inline(always)]
    unsafe fn take(&self, rows: Range<usize>, sums: Target) {
        let rows = self.row + rows.start..self.row + rows.end;
        let width = N * <L::Vector as Vector>::LEN;
        if self.job.weights.outputs < (self.panel + 1) * width {
            return finish_part::<L, N>(self.job, self.panel, rows, sums);
        }
        match (self.job.has_gelu, self.job.add) {
            (false, None) => finish::<L, N, false, false>(self.job, self.panel, rows, sums),
            (false, Some(_)) => finish::<L, N, false, true>(self.job, self.panel, rows, sums),
            (true, None) => finish::<L, N, true, false>(self.job, self.panel, rows, sums),
            (true, Some(_)) => finish::<L, N, true, true>(self.job, self.panel, rows, sums),
        }
    }
}

/// Writes the sums of up to any number of `rows` with one panel of `lanes`, and hands them to `end`
/// tile by tile. A matrix unit that is given takes what lanes it can; what is `ahead` is fetched into the
/// cache meanwhile.
///
/// # Safety
/// As for [`gemm`]; `sums` has `rows` of the panel's width.
#[inline(always)]
pub(super) unsafe fn accumulate<L: Lane, const N: usize, E: End<L, N>>(
    unit: Option<&mut L::Unit>,
    input: Operand,
    rows: usize,
    (weights, ahead): (*const u8, Ahead),
    lanes: usize,
    sums: Target,
    end: &E,
) {
    let lane_bytes = N * <L::Vector as Vector>::LEN * L::WEIGHT_BYTES;
    let tiles = rows.div_ceil(TILE_ROWS);
    let ahead_bytes = ahead.bytes.div_ceil(tiles * lanes).next_multiple_of(LINE_BYTES);
    let ahead_bytes = if tiles > 1 { ahead_bytes } else { 0 };
    let mut start = 0;
    if let Some(unit) = unit
        && lanes >= L::Unit::LANES
    {
        start = lanes - lanes % L::Unit::LANES;
        unit.multiply(input, rows, weights, start, sums, ahead);
        if start == lanes {
            return end.take(0..rows, sums);
        }
    }
    loop {
        let mut piece = Piece {
            stride_bytes: input.stride_bytes,
            weights: weights.wrapping_add(start * lane_bytes),
            lanes: PIECE_LANES.min(lanes - start),
            sums_stride: sums.stride,
            goes_on: start > 0,
            ahead: ahead.data,
            ahead_bytes,
        };
        let mut row = 0;
        while row < rows {
            let done = start * tiles + row / TILE_ROWS * piece.lanes;
            piece.ahead = ahead.data.wrapping_add(done * ahead_bytes);
            let input = input.data.wrapping_add(row * input.stride_bytes + start * 4);
            let (sums, stride) = (sums.at(row, 0).data, sums.stride);
            match rows - row {
                1 => tile::<L, 1, N, 4>(&piece, input, sums),
                2 => tile::<L, 2, N, 2>(&piece, input, sums),
                3 => tile::<L, 3, N, 1>(&piece, input, sums),
                4 => tile::<L, 4, N, 1>(&piece, input, sums),
                5 => tile::<L, 5, N, 1>(&piece, input, sums),
                _ => tile::<L, TILE_ROWS, N, 1>(&piece, input, sums),
            }
            if start + piece.lanes == lanes {
                end.take(row..rows.min(row + TILE_ROWS), Target { data: sums, stride });
            }
            row += TILE_ROWS;
        }
        start += piece.lanes;
        if start >= lanes {
            break;
        }
    }
}

/// What all tiles of a piece of a panel share.
struct Piece {
    stride_bytes: usize,
    weights: *const u8,
    lanes: usize,
    sums_stride: usize,
    /// Whether the sums of earlier lanes are to be added to.
    goes_on: bool,
    /// What will be read next, fetched into the cache meanwhile: so much with each lane.
    ahead: *const u8,
    ahead_bytes: usize,
}

/// `R` rows times one piece of a panel. `U` lanes are in flight at once, so that few rows still
/// keep enough independent sums to hide the latency of the multipliers.
#[inline(always)]
unsafe fn tile<L: Lane, const R: usize, const N: usize, const U: usize>(
    piece: &Piece,
    input: *const u8,
    sums: *mut f32,
) {
    let len = <L::Vector as Vector>::LEN;
    let step_bytes = N * len * L::WEIGHT_BYTES;
    let mut tile = [[[L::zero(); N]; R]; U];
    if piece.goes_on {
        for (r, row) in tile[0].iter_mut().enumerate() {
            for (v, sum) in row.iter_mut().enumerate() {
                let at = sums.wrapping_add(r * piece.sums_stride + v * len);
                *sum = at.cast::<L::Sum>().read_unaligned();
            }
        }
    }
    let mut input = input;
    let mut weights = piece.weights;
    let mut ahead = piece.ahead;
    for _ in 0..piece.lanes / U {
        for line in (0..U * piece.ahead_bytes).step_by(LINE_BYTES) {
            L::Vector::prefetch(ahead.wrapping_add(line));
        }
        ahead = ahead.wrapping_add(U * piece.ahead_bytes);
        for sums in &mut tile {
            step::<L, R, N>(sums, input, piece.stride_bytes, weights);
            input = input.wrapping_add(4);
            weights = weights.wrapping_add(step_bytes);
        }
    }
    for _ in 0..piece.lanes % U {
        step::<L, R, N>(&mut tile[0], input, piece.stride_bytes, weights);
        input = input.wrapping_add(4);
        weights = weights.wrapping_add(step_bytes);
    }
    for r in 0..R {
        for v in 0..N {
            let mut sum = tile[0][r][v];
            for more in &tile[1..] {
                sum = L::add(sum, more[r][v]);
            }
            let at = sums.wrapping_add(r * piece.sums_stride + v * len);
            at.cast::<L::Sum>().write_unaligned(sum);
        }
    }
}

/// One lane of `R` rows times one lane of the panel.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "see the comment inside")]
unsafe fn step<L: Lane, const R: usize, const N: usize>(
    sums: &mut [[L::Sum; N]; R],
    input: *const u8,
    stride_bytes: usize,
    weights: *const u8,
) {
    let vector_bytes = <L::Vector as Vector>::LEN * L::WEIGHT_BYTES;
    // No closure and no iterator but a range here: each would be a function of its own, without the
    // instruction set, and where a program is built without optimisation at link time it stays one.
    let mut columns = [L::weights(weights); N];
    for v in 1..N {
        columns[v] = L::weights(weights.wrapping_add(v * vector_bytes));
    }
    for r in 0..R {
        let activation = L::spread(input.wrapping_add(r * stride_bytes));
        for v in 0..N {
            sums[r][v] = L::dot(sums[r][v], activation, columns[v]);
        }
    }
}

/// Turns the sums of some rows with one whole panel into output.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "as in `step`")]
unsafe fn finish<L: Lane, const N: usize, const GELU: bool, const ADD: bool>(
    job: &Gemm<'_>,
    panel: usize,
    rows: Range<usize>,
    sums: Target,
) {
    let len = <L::Vector as Vector>::LEN;
    let first = panel * N * len;
    for (index, row) in rows.enumerate() {
        let scale = job.input.scale(row);
        let output = job.output.at(row, first).data;
        // Several at once: each waits for itself only.
        let mut values = [L::Vector::splat(0.0); N];
        for v in 0..N {
            let sum = sums.at(index, v * len).data.cast::<L::Sum>().read_unaligned();
            values[v] = L::finish(sum, job.weights, first + v * len, scale);
        }
        if GELU {
            for v in 0..N {
                values[v] = L::gelu(values[v]);
            }
        }
        for v in 0..N {
            if ADD && let Some(add) = job.add {
                values[v] = values[v].add(Vector::load(add.at(row, first + v * len).data));
            }
            values[v].store(output.add(v * len));
        }
    }
}

/// The same for the last panel, which may be filled up.
#[inline(always)]
unsafe fn finish_part<L: Lane, const N: usize>(
    job: &Gemm<'_>,
    panel: usize,
    rows: Range<usize>,
    sums: Target,
) {
    let len = <L::Vector as Vector>::LEN;
    let first = panel * N * len;
    let columns = job.weights.outputs - first;
    for (index, row) in rows.enumerate() {
        let scale = job.input.scale(row);
        for column in (0..columns).step_by(len) {
            let sum = sums.at(index, column).data.cast::<L::Sum>().read_unaligned();
            let mut value = L::finish(sum, job.weights, first + column, scale);
            if job.has_gelu {
                value = L::gelu(value);
            }
            let count = (columns - column).min(len);
            if let Some(add) = job.add {
                let add = add.at(row, first + column).data;
                value = value.add(Vector::load_part(add, count));
            }
            value.store_part(job.output.at(row, first + column).data, count);
        }
    }
}
