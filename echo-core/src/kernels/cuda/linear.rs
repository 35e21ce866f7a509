//! Norms, linear layers and what goes with them.
#![allow(unsafe_code)]

use super::context::{Argument, Grid, MAX_SHARED_BYTES};
use super::memory::Block;
use super::product::{Addresses, Ending, Shape};
use super::weights::{Embedding, Linear, Norm};
use super::{Buffer, Cuda};
use crate::error::{Error, Result};

/// Rows that `skinny.cu` takes; above, cuBLASLt is faster.
const FEW_ROWS: usize = 32;

/// Columns that a warp normalises in registers: the width of the largest Whisper.
pub(super) const MOST_NORM_COLUMNS: usize = 1280;

/// Values by which `skinny.cu` lengthens rows in shared memory.
const ROW_PAD: usize = 32;

const CONTEXT: &str = "linear layer";

/// Warps of a block of `skinny.cu`.
const WARPS: usize = 16;

/// A kernel of `skinny.cu`: outputs and rows of a block in tiles of 16 and 8.
struct Size {
    name: &'static str,
    output_tiles: usize,
    row_tiles: usize,
}

/// Kernels of one kind, blocks with few outputs first, those for few rows before those for more.
type Sizes = &'static [Size];

/// One row of a table of kernels.
macro_rules! sizes {
    ($kind:literal: $($outputs:literal $rows:literal),*) => {
        &[$(Size {
            name: concat!($kind, "_", $outputs, "_", $rows),
            output_tiles: $outputs,
            row_tiles: $rows,
        }),*]
    };
}

const NORM_LINEAR: Sizes = sizes!("norm_linear": 1 1, 1 2, 1 4, 2 1, 2 2, 2 4, 3 1, 3 2);
const NORM_LINEAR_GELU: Sizes = sizes!("norm_linear_gelu": 1 1, 1 2, 1 4, 2 1, 2 2, 2 4, 3 1, 3 2);
const LINEAR_ADD: Sizes = sizes!("linear_add": 1 1, 1 2, 1 4);
const LOGITS: Sizes = sizes!("logits": 3 1, 3 2, 2 4);

impl Size {
    /// The one that has all blocks run at once, or else the fewest blocks.
    fn of(sizes: Sizes, rows: usize, outputs: usize, processors: usize) -> Option<&'static Self> {
        let row_tiles = [1, 2, 4].into_iter().find(|tiles| rows <= 8 * tiles)?;
        let mut fitting = sizes.iter().filter(|size| size.row_tiles == row_tiles);
        let run_at_once = |size: &&Self| outputs.div_ceil(16 * size.output_tiles) <= processors;
        fitting.clone().find(run_at_once).or_else(|| fitting.next_back())
    }

    /// Shared memory: normalised rows, then the warps' sums.
    fn shared_bytes(&self, rows: usize, inputs: usize, is_normed: bool) -> usize {
        let sums = 4 * WARPS * self.output_tiles * self.row_tiles * 128;
        if is_normed { sums.max(shared_bytes(rows, inputs)) } else { sums }
    }
}

impl Grid {
    /// As many threads, in blocks of 256.
    pub(super) fn of_threads(count: usize) -> Self {
        Self { blocks: (count.div_ceil(256).max(1), 1, 1), threads: 256, shared_bytes: 0 }
    }
}

impl Cuda {
    /// Layer norm of all rows, or of the chosen ones in their order.
    pub(super) fn normalised(
        &self,
        x: &Buffer,
        norm: &Norm,
        chosen: Option<&[usize]>,
    ) -> Result<Buffer> {
        let columns = x.columns;
        if columns > MOST_NORM_COLUMNS || !columns.is_multiple_of(8) {
            return Err(Error::inference(CONTEXT, format!("{columns} columns to normalise")));
        }
        let rows = chosen.map_or(x.rows, <[usize]>::len);
        if chosen.is_some_and(|chosen| chosen.iter().any(|&row| row >= x.rows)) {
            return Err(Error::inference(CONTEXT, format!("rows {chosen:?} of {}", x.rows)));
        }
        let y = self.buffer(rows, columns)?;
        let chosen = match chosen {
            // Rows as they lie need no list.
            Some(chosen) if !chosen.iter().copied().eq(0..rows) => {
                let words: Vec<u32> = chosen.iter().map(|&row| row as u32).collect();
                Some(self.memory.upload_plan(&words)?)
            }
            _ => None,
        };
        let list = chosen.as_ref().map_or(Argument::Address(0), |list| list.at(0));
        let (scale, shift) = (norm.scale.at(0), norm.shift.at(0));
        let kernel = if x.is_wide { "layer_norm_wide" } else { "layer_norm" };
        // SAFETY: rows have as many columns as the norm; chosen ones are rows of `x`, as checked.
        unsafe {
            let arguments = &mut [
                x.block.at(0),
                scale,
                shift,
                y.block.at(0),
                list,
                rows.into(),
                columns.into(),
            ];
            self.gpu.launch(kernel, Grid::of_threads(rows * 32), arguments)?;
        }
        Ok(y)
    }

    /// `linear(x)`.
    pub(super) fn multiply(&self, x: &Buffer, linear: &Linear) -> Result<Buffer> {
        let y = self.buffer(x.rows, linear.outputs)?;
        self.many_rows(x, linear, &y, Ending::Store)?;
        Ok(y)
    }

    /// `linear(norm(x))`.
    pub(super) fn normalised_product(
        &self,
        x: &Buffer,
        norm: &Norm,
        linear: &Linear,
    ) -> Result<Buffer> {
        if is_few_normalised(x, linear) {
            return self.few_normalised(x, norm, linear, NORM_LINEAR);
        }
        self.multiply(&self.normalised(x, norm, None)?, linear)
    }

    /// `gelu(linear(norm(x)))`.
    pub(super) fn hidden(&self, x: &Buffer, norm: &Norm, up: &Linear) -> Result<Buffer> {
        if is_few_normalised(x, up) {
            return self.few_normalised(x, norm, up, NORM_LINEAR_GELU);
        }
        let hidden = self.normalised_product(x, norm, up)?;
        let values = hidden.rows * hidden.columns;
        if !values.is_multiple_of(8) {
            return Err(Error::inference(CONTEXT, format!("{values} values in chunks of 8")));
        }
        let chunks = values / 8;
        // SAFETY: the buffer holds so many chunks of 8 values.
        unsafe {
            let arguments = &mut [hidden.block.at(0), Argument::Size(chunks as u64)];
            self.gpu.launch("gelu_in_place", Grid::of_threads(chunks), arguments)?;
        }
        Ok(hidden)
    }

    /// `residual += linear(x)`.
    pub(super) fn add_product(&self, x: &Buffer, linear: &Linear, residual: &Buffer) -> Result<()> {
        if residual.rows != x.rows || residual.columns != linear.outputs {
            return Err(Error::inference(CONTEXT, "a residual of another shape"));
        }
        if residual.is_wide || !has_few_rows(x, linear) {
            let ending = if residual.is_wide { Ending::AddWide } else { Ending::Add };
            return self.many_rows(x, linear, residual, ending);
        }
        self.check(x, linear.inputs)?;
        let (weight, bias) = (linear.weight.at(0), linear.bias.at(0));
        // SAFETY: shapes agree, as checked.
        unsafe {
            self.few_rows(LINEAR_ADD, x, None, (weight, bias), &residual.block, linear.outputs)
        }
    }

    /// The final norm and the token table over chosen rows: `(positions, vocab)` in f32.
    pub(super) fn project(
        &self,
        x: &Buffer,
        positions: &[usize],
        norm: &Norm,
        embedding: &Embedding,
    ) -> Result<Block> {
        let x = self.normalised(x, norm, Some(positions))?;
        let (inputs, outputs) = (embedding.d_model, embedding.vocab);
        self.check(&x, inputs)?;
        let y = self.memory.take(4 * x.rows * outputs)?;
        if x.rows <= FEW_ROWS && inputs.is_multiple_of(32) {
            let parts = (embedding.tokens.at(0), Argument::Address(0));
            // SAFETY: the table is (vocab, d_model), and rows have d_model columns, as checked.
            unsafe { self.few_rows(LOGITS, &x, None, parts, &y, outputs)? };
        } else {
            let shape = Shape { rows: x.rows, inputs, outputs, ending: Ending::Logits };
            let (x, weight) = (x.block.address(), embedding.tokens.address());
            // SAFETY: as above.
            unsafe { self.products.run(shape, Addresses { x, weight, bias: 0, y: y.address() })? };
        }
        Ok(y)
    }

    /// Token plus position embeddings.
    pub(super) fn embedded(
        &self,
        embedding: &Embedding,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<Buffer> {
        let columns = embedding.d_model;
        if tokens.len() != positions.len() || tokens.iter().any(|&t| t as usize >= embedding.vocab)
        {
            return Err(Error::inference("embedding", "tokens outside the vocabulary"));
        }
        if positions.iter().any(|&position| position as usize >= embedding.text_context) {
            return Err(Error::inference("embedding", "positions outside the context"));
        }
        let plan = self.memory.upload_plan(&[tokens, positions].concat())?;
        let x = self.buffer(tokens.len(), columns)?;
        let grid = Grid { blocks: (tokens.len().max(1), 1, 1), threads: 128, shared_bytes: 0 };
        if tokens.is_empty() {
            return Ok(x);
        }
        let (table, places) = (embedding.tokens.at(0), embedding.positions.at(0));
        // SAFETY: all indices are inside their tables, as checked; `x` has a row for each token.
        unsafe {
            let count = tokens.len().into();
            let arguments = &mut [table, places, plan.at(0), x.block.at(0), count, columns.into()];
            self.gpu.launch("embed", grid, arguments)?;
        }
        Ok(x)
    }

    fn many_rows(&self, x: &Buffer, linear: &Linear, y: &Buffer, ending: Ending) -> Result<()> {
        self.check(x, linear.inputs)?;
        let (inputs, outputs) = (linear.inputs, linear.outputs);
        let shape = Shape { rows: x.rows, inputs, outputs, ending };
        let is_wide = ending == Ending::AddWide;
        let bias = if is_wide { &linear.wide_bias } else { &linear.bias }.address();
        let weight = linear.weight.address();
        let addresses = Addresses { x: x.block.address(), weight, bias, y: y.block.address() };
        // SAFETY: `x` has `inputs` columns, as checked, `y` was made or checked by the caller to
        // have `outputs`; blocks of device memory are 256-byte aligned.
        unsafe { self.products.run(shape, addresses) }
    }

    fn few_normalised(
        &self,
        x: &Buffer,
        norm: &Norm,
        linear: &Linear,
        kernels: Sizes,
    ) -> Result<Buffer> {
        self.check(x, linear.inputs)?;
        let y = self.buffer(x.rows, linear.outputs)?;
        let (weight, bias) = (linear.weight.at(0), linear.bias.at(0));
        // SAFETY: `x` has the layer's inputs as columns, as checked, and so has the norm.
        unsafe { self.few_rows(kernels, x, Some(norm), (weight, bias), &y.block, linear.outputs)? };
        Ok(y)
    }

    /// One launch of `skinny.cu`.
    ///
    /// # Safety
    /// The weight is `(outputs, x.columns)`, the bias `(outputs)` or unused, the norm as long as a
    /// row, and `y` has room for `(x.rows, outputs)`.
    unsafe fn few_rows(
        &self,
        kernels: Sizes,
        x: &Buffer,
        norm: Option<&Norm>,
        (weight, bias): (Argument, Argument),
        y: &Block,
        outputs: usize,
    ) -> Result<()> {
        let (rows, inputs) = (x.rows, x.columns);
        if rows == 0 {
            return Ok(());
        }
        let Some(size) = Size::of(kernels, rows, outputs, self.gpu.processors) else {
            return Err(Error::inference(CONTEXT, format!("{rows} rows are not few")));
        };
        let none = Argument::Address(0);
        let (scale, shift) = norm.map_or((none, none), |norm| (norm.scale.at(0), norm.shift.at(0)));
        let shared_bytes = size.shared_bytes(rows, inputs, norm.is_some());
        let blocks = (outputs.div_ceil(16 * size.output_tiles), 1, 1);
        let grid = Grid { blocks, threads: 32 * WARPS, shared_bytes };
        let (rows, inputs) = (rows.into(), inputs.into());
        let arguments =
            &mut [x.block.at(0), scale, shift, weight, bias, y.at(0), rows, inputs, outputs.into()];
        // SAFETY: the caller answers for the shapes.
        unsafe { self.gpu.launch(size.name, grid, arguments) }
    }

    fn check(&self, x: &Buffer, inputs: usize) -> Result<()> {
        if x.columns == inputs && !x.is_wide {
            return Ok(());
        }
        Err(Error::inference(CONTEXT, format!("{} columns for {inputs} inputs", x.columns)))
    }
}

/// Shared memory for normalised rows, scale and shift.
fn shared_bytes(rows: usize, inputs: usize) -> usize {
    2 * rows * (inputs + ROW_PAD) + 2 * 2 * inputs
}

fn has_few_rows(x: &Buffer, linear: &Linear) -> bool {
    x.rows <= FEW_ROWS && linear.inputs.is_multiple_of(32) && !x.is_wide
}

/// Whether few rows also fit the shared memory in which they are normalised.
fn is_few_normalised(x: &Buffer, linear: &Linear) -> bool {
    let is_in_registers = linear.inputs <= MOST_NORM_COLUMNS;
    let fits = shared_bytes(x.rows, linear.inputs) <= MAX_SHARED_BYTES;
    has_few_rows(x, linear) && is_in_registers && fits
}
