//! Linear layers and LSTMs of small networks, on the caller's thread.
//!
//! Voice activity, diarization and alignment run networks of a few million weights over many
//! windows, so threads take windows and each product stays on one of them. Weights are packed once
//! for the kernels of this machine, in f32 or in bf16; input rows may overlap, which makes a convolution
//! over frames a product without a copy. A network is read once and shared by threads.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::aligned::Aligned;
use super::buffer::{Target, View};
use super::gemm::{Gemm, Operand};
use super::isa::{Kernels, Prepare};
use super::layout::{Format, Layout, Packed};
use super::pool::Pool;
use super::recurrent::Cells;
use crate::device::ComputeType;
use crate::kernels::matrix::Rows;

/// Inputs of a layer in bf16 are filled up to a multiple of this, which matrix units take at once.
const BF16_INPUTS: usize = 32;

/// A linear layer, packed: `out = weights * input + bias`.
#[derive(Debug)]
pub(crate) struct Dense {
    packed: Packed,
    /// Inputs without filling.
    inputs: usize,
    kernel: unsafe fn(&Gemm<'_>),
    /// Turns rows of floats into lanes.
    prepare: unsafe fn(&Prepare),
}

/// Rows woven of up to three matrices with rows of `columns` values: row `r` is the rows from
/// `r * step` on of all of them, `taps` times those of one index side by side. What is none is zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Woven<'a> {
    pub(crate) parts: [Option<&'a [f32]>; 3],
    pub(crate) columns: usize,
    pub(crate) taps: usize,
    pub(crate) rows: usize,
    pub(crate) step: usize,
}

thread_local! {
    /// Rows of lanes, of whatever layer runs on this thread.
    static LANES: RefCell<Aligned> = RefCell::default();
}

fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(Kernels::best)
}

impl Dense {
    /// Packs weights `(outputs, inputs)` to be multiplied in f32; an empty bias is zero.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn new(weights: &[f32], shape: [usize; 2], bias: &[f32]) -> Self {
        Self::with(ComputeType::F32, weights, shape, bias)
    }

    /// The same to be multiplied in f32, or for any other type as is fastest on this machine: in bf16,
    /// or in f32 all the same.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn with(
        compute: ComputeType,
        weights: &[f32],
        shape: [usize; 2],
        bias: &[f32],
    ) -> Self {
        let kernels = kernels();
        let is_bf16 = compute != ComputeType::F32 && kernels.fastest == ComputeType::Bf16;
        let format = if is_bf16 { Format::Bf16 } else { Format::F32 };
        Self::pack(kernels, format, weights, shape, bias)
    }

    /// The same for some kernels and one of their formats, f32 or bf16.
    fn pack(
        kernels: &Kernels,
        format: Format,
        weights: &[f32],
        [outputs, inputs]: [usize; 2],
        bias: &[f32],
    ) -> Self {
        assert!(outputs > 0 && inputs > 0 && weights.len() == outputs * inputs, "weights fit");
        assert!(bias.is_empty() || bias.len() == outputs, "bias fits");
        let (wide, narrow, multiple) = match format {
            Format::Bf16 => (kernels.of(format), kernels.gemm_bf16_narrow, BF16_INPUTS),
            _ => (kernels.f32, Some(kernels.gemm_f32_narrow), 1),
        };
        // A few outputs would leave most of a wide panel empty.
        let filled = outputs.next_multiple_of(kernels.width);
        let is_narrow = outputs.next_multiple_of(kernels.narrow_width) < filled;
        let (width, kernel) = match narrow.filter(|_| is_narrow) {
            Some(narrow) => (kernels.narrow_width, narrow),
            None => (kernels.width, wide.gemm),
        };
        let row = |output: usize, values: &mut [f32]| {
            values[..inputs].copy_from_slice(&weights[output * inputs..][..inputs]);
        };
        let shape = [outputs, inputs.next_multiple_of(multiple)];
        let layout = Layout { width, ..kernels.layout(format) };
        let packed = Packed::new(&Pool::new(1), layout, shape, bias, &row);
        Self { packed, inputs, kernel, prepare: wide.prepare }
    }

    /// How many values a row has.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many values come out for each row.
    pub(crate) fn outputs(&self) -> usize {
        self.packed.outputs
    }

    /// Writes a row of outputs every `out_step` values for each row of the input.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn apply(&self, input: Rows<'_>, out: &mut [f32], out_step: usize) {
        self.run(input, out, out_step, false);
    }

    /// The same, added to what `out` holds.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn add_to(&self, input: Rows<'_>, out: &mut [f32], out_step: usize) {
        self.run(input, out, out_step, true);
    }

    /// Writes a row of outputs every `out_step` values for each row of what is woven.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn apply_woven(&self, input: Woven<'_>, out: &mut [f32], out_step: usize) {
        let Woven { parts, columns, taps, rows, step } = input;
        let (depth, width) = (self.packed.format.depth(), parts.len() * columns);
        assert_eq!(taps * width, self.inputs, "the input has the layer's columns");
        assert!(columns.is_multiple_of(depth), "parts are whole lanes");
        if rows == 0 {
            return;
        }
        let (count, target) = ((rows - 1) * step + taps, self.target(rows, out, out_step));
        self.with_lanes(count * width, |lanes| {
            for (index, part) in parts.into_iter().enumerate() {
                let lanes = &mut lanes[index * columns / depth..];
                match part {
                    Some(part) => {
                        self.fill(Rows::new(part, count, columns, columns), lanes, width / depth);
                    }
                    None => {
                        for row in lanes.chunks_mut(width / depth).take(count) {
                            row[..columns / depth].fill(0.0);
                        }
                    }
                }
            }
            self.multiply(rows, self.operand(lanes, step * width / depth), target, false);
        });
    }

    fn run(&self, input: Rows<'_>, out: &mut [f32], out_step: usize, is_added: bool) {
        let (rows, columns, step) = (input.rows(), input.columns(), input.row_step());
        assert_eq!(columns, self.inputs, "the input has the layer's columns");
        if rows == 0 {
            return;
        }
        let target = self.target(rows, out, out_step);
        if self.packed.format == Format::F32 {
            let floats = Operand::floats(View::new(input.values(), step));
            return self.multiply(rows, floats, target, is_added);
        }
        let depth = self.packed.format.depth();
        if step < columns && step.is_multiple_of(depth) {
            // Rows that overlap as floats do so as lanes.
            let len = (rows - 1) * step + columns;
            self.with_lanes(len, |lanes| {
                self.fill(Rows::new(input.values(), 1, len, len), lanes, 0);
                self.multiply(rows, self.operand(lanes, step / depth), target, is_added);
            });
        } else {
            let words = self.packed.inputs.div_ceil(depth);
            self.with_lanes(rows * words * depth, |lanes| {
                for row in lanes.chunks_exact_mut(words) {
                    row[columns / depth..].fill(0.0);
                }
                self.fill(input, lanes, words);
                self.multiply(rows, self.operand(lanes, words), target, is_added);
            });
        }
    }

    /// Lends memory for the lanes of so many values, with zeros behind them that fill up the last row.
    fn with_lanes(&self, values: usize, run: impl FnOnce(&mut [f32])) {
        let depth = self.packed.format.depth();
        let (own, filling) =
            (values / depth, (self.packed.inputs - self.inputs).div_ceil(depth) + 1);
        LANES.with_borrow_mut(|lanes| {
            if lanes.len() < own + filling {
                *lanes = Aligned::zeroed(own + filling);
            }
            lanes[own..own + filling].fill(0.0);
            run(&mut lanes[..own + filling]);
        });
    }

    /// Turns rows of floats into rows of lanes, `stride` words apart.
    fn fill(&self, input: Rows<'_>, lanes: &mut [f32], stride: usize) {
        let words = input.columns().div_ceil(self.packed.format.depth());
        assert!((input.rows() - 1) * stride + words <= lanes.len(), "the lanes fit");
        let job = Prepare {
            rows: input.rows(),
            input: View::new(input.values(), input.row_step()),
            len: input.columns(),
            norm: None,
            normed: std::ptr::null_mut(),
            lanes: Target::new(lanes, stride),
            scales: std::ptr::null_mut(),
        };
        // SAFETY: the kernel is of this machine; `Rows::new` checked the input, the assertion the lanes.
        unsafe { (self.prepare)(&job) };
    }

    /// Rows of lanes, so many words apart.
    fn operand(&self, lanes: &[f32], stride: usize) -> Operand {
        Operand::floats(View::new(lanes, stride))
    }

    /// Where the outputs of so many rows go.
    fn target(&self, rows: usize, out: &mut [f32], out_step: usize) -> Target {
        assert!(self.packed.outputs <= out_step || rows == 1, "rows of the result do not overlap");
        assert!((rows - 1) * out_step + self.packed.outputs <= out.len(), "the result fits");
        Target::new(out, out_step)
    }

    /// Multiplies rows of lanes whose last one ends in its memory, filling included.
    fn multiply(&self, rows: usize, input: Operand, output: Target, is_added: bool) {
        let job = Gemm {
            rows,
            input,
            weights: &self.packed,
            panels: 0..self.packed.panels(),
            output,
            has_gelu: false,
            add: is_added.then(|| output.as_view()),
        };
        // SAFETY: the kernel is of this machine; the callers checked the input and `target` the output,
        // which nothing else borrows.
        unsafe { (self.kernel)(&job) };
    }
}

/// One direction of an LSTM, gates in the order input, forget, cell, output.
#[derive(Debug)]
pub(crate) struct Lstm {
    /// From the input to the gates.
    input: Dense,
    /// From the last output to the gates.
    hidden: Dense,
}

/// Rows of inputs that become gates at once: as many as a product likes, and few enough to stay in the
/// cache until their steps come.
const GATE_ROWS: usize = 192;

/// Where an [`Lstm`] writes its outputs: row `(step, batch)` from `first + row * stride` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) first: usize,
    pub(crate) stride: usize,
}

impl Lstm {
    /// Packs `weight_ih` `(4 hidden, inputs)`, `weight_hh` `(4 hidden, hidden)` and the sum of both
    /// biases `(4 hidden)`, to be multiplied as [`Dense::with`] says.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn with(
        compute: ComputeType,
        [weight_ih, weight_hh]: [&[f32]; 2],
        bias: &[f32],
        inputs: usize,
    ) -> Self {
        let gates = bias.len();
        Self {
            input: Dense::with(compute, weight_ih, [gates, inputs], bias),
            hidden: Dense::with(compute, weight_hh, [gates, gates / 4], &[]),
        }
    }

    /// Runs over `(steps, batch, inputs)`, from the last step to the first if `is_reverse`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn run(
        &self,
        input: &[f32],
        batch: usize,
        is_reverse: bool,
        out: &mut [f32],
        Columns { first, stride }: Columns,
    ) {
        let (inputs, hidden) = (self.input.inputs, self.hidden.inputs);
        let steps = input.len() / (batch * inputs).max(1);
        let at_once = (GATE_ROWS / batch.max(1)).clamp(1, steps.max(1));
        let mut gates = vec![0.0; at_once * batch * 4 * hidden];
        let mut cells = vec![0.0; batch * hidden];
        let mut last = None;
        for done in (0..steps).step_by(at_once) {
            let count = at_once.min(steps - done);
            let from = if is_reverse { steps - done - count } else { done };
            let rows = Rows::new(&input[from * batch * inputs..], count * batch, inputs, inputs);
            self.input.apply(rows, &mut gates, 4 * hidden);
            for step in 0..count {
                let step = if is_reverse { count - 1 - step } else { step };
                let gates = &mut gates[step * batch * 4 * hidden..][..batch * 4 * hidden];
                if let Some(last) = last {
                    self.hidden.add_to(
                        Rows::new(&out[last..], batch, hidden, stride),
                        gates,
                        4 * hidden,
                    );
                }
                let at = first + (from + step) * batch * stride;
                Cells::update(gates, &mut cells, &mut out[at..], [batch, hidden, stride]);
                last = Some(at);
            }
        }
    }
}

/// One step of a row of LSTM cells, from their gates (input, forget, cell and output, before their
/// functions) to what they remember and say.
///
/// # Panics
/// If there are not four gates and one output for each cell.
pub(crate) fn step_cells(gates: &[f32], cells: &mut [f32], out: &mut [f32]) {
    let hidden = cells.len();
    Cells::update(gates, cells, out, [1, hidden, hidden]);
}

impl Cells<'_> {
    /// Updates the memory of `rows` cells and writes their outputs every `stride` values.
    fn update(
        gates: &[f32],
        cells: &mut [f32],
        out: &mut [f32],
        [rows, hidden, stride]: [usize; 3],
    ) {
        assert!(gates.len() >= rows * 4 * hidden && cells.len() >= rows * hidden, "gates fit");
        assert!(rows == 0 || (rows - 1) * stride + hidden <= out.len(), "outputs fit");
        let job = Cells { gates, cells, out: Target::new(out, stride), rows, hidden };
        // SAFETY: the kernel is of this machine; sizes were checked above.
        unsafe { (kernels().cells)(job) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|at| (((at * 7919 + seed * 104_729) % 2003) as f32 / 1001.5) - 1.0).collect()
    }

    /// What differs most from the plain loop, over shapes with overlapping and with gapped rows.
    fn largest_error(kernels: &Kernels, format: Format) -> f32 {
        let mut largest = 0.0f32;
        for [rows, outputs, inputs, step] in [
            [1, 1, 1, 1],
            [7, 7, 251, 10],
            [61, 32, 96, 32],
            [13, 80, 5, 5],
            [2, 130, 17, 20],
            [1, 20, 300, 1],
            [33, 60, 300, 60],
            [40, 512, 64, 80],
        ] {
            let input = noise((rows - 1) * step + inputs, 1);
            let (weights, bias) = (noise(outputs * inputs, 2), noise(outputs, 3));
            let dense = Dense::pack(kernels, format, &weights, [outputs, inputs], &bias);
            let mut out = vec![0.5; rows * (outputs + 3)];
            // What an earlier layer left in this thread's memory is no number.
            dense.apply(Rows::new(&vec![f32::NAN; inputs], 1, inputs, 1), &mut out, outputs);
            out.fill(0.5);
            dense.apply(Rows::new(&input, rows, inputs, step), &mut out, outputs + 3);
            dense.add_to(Rows::new(&input, rows, inputs, step), &mut out, outputs + 3);
            for (at, &found) in out.iter().enumerate() {
                let (row, output) = (at / (outputs + 3), at % (outputs + 3));
                let wanted = if output < outputs {
                    let products = weights[output * inputs..][..inputs].iter();
                    let sum: f32 =
                        products.zip(&input[row * step..]).map(|(w, x)| w * x).sum::<f32>();
                    2.0 * (sum + bias[output])
                } else {
                    0.5
                };
                let error = (found - wanted).abs();
                assert!(error.is_finite(), "{rows} {outputs} {inputs}: {at}");
                largest = largest.max(error / (inputs as f32).sqrt());
            }
        }
        largest
    }

    #[test]
    fn a_packed_layer_equals_the_plain_loop() {
        // f32 sums of up to 300 products in two orders; bf16 rounds both factors by up to 1/512.
        for kernels in Kernels::available() {
            for (format, tolerance) in [(Format::F32, 1e-5), (Format::Bf16, 1e-2)] {
                if kernels.has(format) {
                    let error = largest_error(&kernels, format);
                    assert!(error < tolerance, "{} {format:?}: {error}", kernels.name);
                }
            }
        }
    }

    #[test]
    fn an_lstm_equals_its_definition_in_both_directions() {
        for (compute, tolerance) in [(ComputeType::F32, 1e-5), (ComputeType::Auto, 0.02)] {
            check_lstm(compute, tolerance);
        }
    }

    fn check_lstm(compute: ComputeType, tolerance: f64) {
        // More steps than become gates at once.
        let (steps, batch, inputs, hidden) = (35, 7, 6, 20);
        let (ih, hh) = (noise(4 * hidden * inputs, 4), noise(4 * hidden * hidden, 5));
        let bias = noise(4 * hidden, 6);
        let input = noise(steps * batch * inputs, 7);
        let lstm = Lstm::with(compute, [&ih, &hh], &bias, inputs);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for is_reverse in [false, true] {
            let mut out = vec![0.0; steps * batch * hidden];
            lstm.run(&input, batch, is_reverse, &mut out, Columns { first: 0, stride: hidden });
            for row in 0..batch {
                let (mut h, mut c) = (vec![0.0f64; hidden], vec![0.0f64; hidden]);
                for step in 0..steps {
                    let step = if is_reverse { steps - 1 - step } else { step };
                    let x = &input[(step * batch + row) * inputs..][..inputs];
                    let gate = |gate: usize, unit: usize| {
                        let at = gate * hidden + unit;
                        let from_x: f64 =
                            (0..inputs).map(|i| f64::from(ih[at * inputs + i] * x[i])).sum();
                        let from_h: f64 =
                            (0..hidden).map(|i| f64::from(hh[at * hidden + i]) * h[i]).sum();
                        f64::from(bias[at]) + from_x + from_h
                    };
                    let next: Vec<(f64, f64)> = (0..hidden)
                        .map(|unit| {
                            let cell = sigmoid(gate(1, unit)) * c[unit]
                                + sigmoid(gate(0, unit)) * gate(2, unit).tanh();
                            (cell, sigmoid(gate(3, unit)) * cell.tanh())
                        })
                        .collect();
                    (c, h) = next.into_iter().unzip();
                    let found = &out[(step * batch + row) * hidden..][..hidden];
                    for (found, wanted) in found.iter().zip(&h) {
                        let error = (f64::from(*found) - wanted).abs();
                        assert!(error < tolerance, "{compute} step {step}: {error}");
                    }
                }
            }
        }
    }
}
