//! Linear layers on the pool: who multiplies what.
//!
//! Many rows (an encoder) are cut into blocks of rows: each thread norms its block, multiplies it by
//! all weights and stores it, with the block in its own cache. Few rows (a decoder step) are normed
//! once and the weights are cut into panels instead, so that all threads read memory together and
//! each weight is read once for all rows.

use std::ops::Range;

use super::Cpu;
use super::buffer::{Lent, Target, View};
use super::gemm::{Gemm, Operand};
use super::isa::{Norm, Prepare};
use super::layout::{Format, Packed};

/// Words between rows of lanes: one line of a cache. Rows a power of two apart would all fall on the same
/// few places of the first-level cache and drive each other out.
pub(super) const ROW_GAP: usize = 16;
/// Chunks for each thread, so that a thread put aside by the system holds little up.
const CHUNKS_PER_THREAD: usize = 4;
/// A product that reads fewer weights than this is not worth waking anybody.
const SMALL_BYTES: usize = 64 << 10;

/// `output = gelu?(weights * norm?(input) + bias) + add?` for some rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) rows: usize,
    /// Rows of at least as many columns as the weights have inputs; they may overlap.
    pub(super) input: View,
    pub(super) norm: Option<&'a Norm>,
    pub(super) weights: &'a Packed,
    pub(super) output: Target,
    pub(super) has_gelu: bool,
    pub(super) add: Option<View>,
}

impl<'a> Product<'a> {
    /// A product without norm, GELU and addition.
    pub(super) fn new(rows: usize, input: View, weights: &'a Packed, output: Target) -> Self {
        Self { rows, input, norm: None, weights, output, has_gelu: false, add: None }
    }

    /// The same for some of the rows.
    pub(super) fn part(&self, rows: Range<usize>) -> Self {
        Self {
            rows: rows.len(),
            input: self.input.at(rows.start, 0),
            output: self.output.at(rows.start, 0),
            add: self.add.map(|add| add.at(rows.start, 0)),
            ..*self
        }
    }
}

impl Cpu {
    /// Whether work on so many rows is cut by rows.
    pub(super) fn are_many(&self, rows: usize) -> bool {
        // Blocks that are too low read more weights than they compute with.
        rows >= self.kernels.block_rows * self.pool.threads() * 2 / 5
    }

    /// Calls `work` with blocks of rows, all threads together.
    pub(super) fn by_rows(&self, rows: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        if rows == 0 {
            return;
        }
        // Whole tiles and lanes of values, and as many blocks for each thread as for the others.
        let tile_rows = self.kernels.tile_rows;
        let lane_frames = Format::Int8.depth();
        let whole = if tile_rows.is_multiple_of(lane_frames) { tile_rows } else { 2 * tile_rows };
        let threads = self.pool.threads();
        let share = if threads > 1 { 2 * threads } else { 1 };
        let blocks = rows.div_ceil(self.kernels.block_rows).next_multiple_of(share);
        let block_rows = rows.div_ceil(blocks).next_multiple_of(whole);
        self.pool.run(rows.div_ceil(block_rows), &|block| {
            work(block * block_rows..rows.min((block + 1) * block_rows));
        });
    }

    /// Computes a product on all threads.
    ///
    /// # Safety
    /// `input`, `output` and `add` have the product's rows, and nobody else uses `output`.
    pub(super) unsafe fn multiply(&self, product: &Product<'_>) {
        if self.are_many(product.rows) {
            return self.by_rows(product.rows, &|rows| {
                // SAFETY: the caller's promise, for rows of which each chunk has its own.
                unsafe { self.multiply_here(&product.part(rows)) };
            });
        }
        let weights = product.weights;
        // SAFETY: the caller's promise.
        let (input, _normed) = unsafe { self.operand(product) };
        let panels = weights.panels();
        let is_small = weights.panel_bytes() * panels < SMALL_BYTES;
        let chunks = if is_small { 1 } else { panels.min(CHUNKS_PER_THREAD * self.pool.threads()) };
        self.pool.run(chunks, &|chunk| {
            let panels = panels * chunk / chunks..panels * (chunk + 1) / chunks;
            // SAFETY: the caller's promise, for columns of which each chunk has its own.
            unsafe { self.gemm(product, input, panels) };
        });
    }

    /// Computes a product on this thread.
    ///
    /// # Safety
    /// As for [`multiply`](Self::multiply).
    pub(super) unsafe fn multiply_here(&self, product: &Product<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            let (input, _normed) = self.operand(product);
            self.gemm(product, input, 0..product.weights.panels());
        }
    }

    /// A product's input in the lanes of its weights, and the memory that holds it.
    ///
    /// # Safety
    /// `input` has the product's rows.
    unsafe fn operand(&self, product: &Product<'_>) -> (Operand, Option<Lent>) {
        let Packed { inputs, lanes, format, .. } = *product.weights;
        let depth = format.depth();
        if product.norm.is_none() && depth == 1 {
            return (Operand::floats(product.input), None);
        }
        let (rows, stride) = (product.rows, lanes + ROW_GAP);
        // Lanes of all rows, then a scale for each, then a row to norm into.
        let mut memory = self.arena.lend(rows * stride + rows + inputs);
        let (input, scales) = memory.split_at_mut(rows * stride);
        let (scales, normed) = scales.split_at_mut(rows);
        let target = Target::new(input, stride);
        let mut operand = Operand::floats(target.as_view());
        if format.has_steps() {
            operand.scales = scales.as_ptr();
        }
        // SAFETY: the caller's promise; memory was made for these rows.
        unsafe {
            match product.norm {
                Some(norm) if depth == 1 => {
                    (self.kernels.norm)(product.input, rows, norm, target);
                }
                norm => (self.kernels.of(format).prepare)(&Prepare {
                    rows,
                    input: product.input,
                    len: inputs,
                    norm: norm.map(std::ptr::from_ref),
                    normed: normed.as_mut_ptr(),
                    lanes: target,
                    scales: scales.as_mut_ptr(),
                }),
            }
        }
        (operand, Some(memory))
    }

    /// Multiplies with some panels.
    ///
    /// # Safety
    /// As for [`multiply`](Self::multiply), for the panels' columns.
    unsafe fn gemm(&self, product: &Product<'_>, input: Operand, panels: Range<usize>) {
        let job = Gemm {
            rows: product.rows,
            input,
            weights: product.weights,
            panels,
            output: product.output,
            has_gelu: product.has_gelu,
            add: product.add,
        };
        // SAFETY: the kernels are of this machine; sizes are the caller's promise.
        unsafe { (self.kernels.of(product.weights.format).gemm)(&job) };
    }
}
