//! Linear layers and LSTMs of small networks, on the caller's thread.
//!
//! Voice activity, diarization and alignment run networks of a few million weights over many
//! windows, so threads take windows and each product stays on one of them. Weights are packed once
//! for the kernels of this machine; input rows may overlap, which makes a convolution over frames a
//! product without a copy. A network is read once and shared by threads.

use std::sync::OnceLock;

use super::buffer::{Target, View};
use super::gemm::{Gemm, Operand};
use super::isa::Kernels;
use super::layout::{Format, Packed};
use super::pool::Pool;
use super::recurrent::Cells;
use crate::kernels::matrix::Rows;

/// A linear layer, packed: `out = weights * input + bias`.
#[derive(Debug)]
pub(crate) struct Dense {
    packed: Packed,
    kernel: unsafe fn(&Gemm<'_>),
}

fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(Kernels::best)
}

impl Dense {
    /// Packs weights `(outputs, inputs)`; an empty bias is zero.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn new(weights: &[f32], [outputs, inputs]: [usize; 2], bias: &[f32]) -> Self {
        assert!(outputs > 0 && inputs > 0 && weights.len() == outputs * inputs, "weights fit");
        assert!(bias.is_empty() || bias.len() == outputs, "bias fits");
        let kernels = kernels();
        // A few outputs would leave most of a wide panel empty.
        let wide = outputs.next_multiple_of(kernels.width);
        let is_narrow = outputs.next_multiple_of(kernels.narrow_width) < wide;
        let (width, kernel) = if is_narrow {
            (kernels.narrow_width, kernels.gemm_f32_narrow)
        } else {
            (kernels.width, kernels.f32.gemm)
        };
        let row = |output: usize, values: &mut [f32]| {
            values.copy_from_slice(&weights[output * inputs..][..inputs]);
        };
        let pool = Pool::new(1);
        let packed = Packed::new(&pool, (Format::F32, width), [outputs, inputs], bias, &row);
        Self { packed, kernel }
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

    fn run(&self, input: Rows<'_>, out: &mut [f32], out_step: usize, is_added: bool) {
        let rows = input.rows();
        if rows == 0 {
            return;
        }
        assert_eq!(input.columns(), self.packed.inputs, "the input has the layer's columns");
        assert!(self.packed.outputs <= out_step || rows == 1, "rows of the result do not overlap");
        assert!((rows - 1) * out_step + self.packed.outputs <= out.len(), "the result fits");
        let output = Target::new(out, out_step);
        let job = Gemm {
            rows,
            input: Operand::floats(View::new(input.values(), input.row_step())),
            weights: &self.packed,
            panels: 0..self.packed.panels(),
            output,
            has_gelu: false,
            add: is_added.then(|| output.as_view()),
        };
        // SAFETY: the kernel is of this machine; `Rows::new` checked the input, the assertions
        // above the output, which nothing else borrows.
        unsafe { (self.kernel)(&job) };
    }
}

/// One direction of an LSTM, gates in the order input, forget, cell, output.
#[derive(Debug)]
pub(crate) struct Lstm {
    /// From the input and the last output, side by side, to the gates: one product a step.
    gates: Dense,
    inputs: usize,
    hidden: usize,
}

/// Where an [`Lstm`] writes its outputs: row `(step, batch)` from `first + row * stride` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) first: usize,
    pub(crate) stride: usize,
}

impl Lstm {
    /// Packs `weight_ih` `(4 hidden, inputs)`, `weight_hh` `(4 hidden, hidden)` and the sum of both
    /// biases `(4 hidden)`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn new(weight_ih: &[f32], weight_hh: &[f32], bias: &[f32], inputs: usize) -> Self {
        let hidden = bias.len() / 4;
        let columns = inputs + hidden;
        assert!(weight_ih.len() == bias.len() * inputs, "input weights fit");
        assert!(weight_hh.len() == bias.len() * hidden, "recurrent weights fit");
        let rows = weight_ih.chunks_exact(inputs).zip(weight_hh.chunks_exact(hidden));
        let weights: Vec<f32> = rows.flat_map(|(ih, hh)| ih.iter().chain(hh)).copied().collect();
        Self { gates: Dense::new(&weights, [4 * hidden, columns], bias), inputs, hidden }
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
        columns: Columns,
    ) {
        let (inputs, hidden) = (self.inputs, self.hidden);
        let steps = input.len() / (batch * inputs).max(1);
        let width = inputs + hidden;
        let mut joined = vec![0.0; batch * width]; // (batch, inputs + hidden)
        let mut gates = vec![0.0; batch * 4 * hidden];
        let mut cells = vec![0.0; batch * hidden];
        for step in 0..steps {
            let step = if is_reverse { steps - 1 - step } else { step };
            let now = input[step * batch * inputs..].chunks_exact(inputs);
            for (row, now) in joined.chunks_exact_mut(width).zip(now) {
                row[..inputs].copy_from_slice(now);
            }
            let rows = Rows::new(&joined, batch, width, width);
            self.gates.apply(rows, &mut gates, 4 * hidden);
            Cells::update(&gates, &mut cells, &mut joined[inputs..], [batch, hidden, width]);
            for (row, joined) in joined.chunks_exact(width).enumerate() {
                let at = columns.first + (step * batch + row) * columns.stride;
                out[at..at + hidden].copy_from_slice(&joined[inputs..]);
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

    #[test]
    fn a_packed_layer_equals_the_plain_loop() {
        for [rows, outputs, inputs, step] in
            [[1, 1, 1, 1], [7, 7, 251, 10], [61, 32, 96, 32], [13, 80, 5, 5], [2, 130, 17, 20]]
        {
            let input = noise((rows - 1) * step + inputs, 1);
            let (weights, bias) = (noise(outputs * inputs, 2), noise(outputs, 3));
            let dense = Dense::new(&weights, [outputs, inputs], &bias);
            let mut out = vec![0.5; rows * (outputs + 3)];
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
                // f32 sums of up to 251 products in two orders.
                assert!((found - wanted).abs() < 1e-4, "{rows} {outputs} {inputs}: {at}");
            }
        }
    }

    #[test]
    fn an_lstm_equals_its_definition_in_both_directions() {
        let (steps, batch, inputs, hidden) = (5, 7, 6, 20);
        let (ih, hh) = (noise(4 * hidden * inputs, 4), noise(4 * hidden * hidden, 5));
        let bias = noise(4 * hidden, 6);
        let input = noise(steps * batch * inputs, 7);
        let lstm = Lstm::new(&ih, &hh, &bias, inputs);
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
                        assert!((f64::from(*found) - wanted).abs() < 1e-5, "step {step}");
                    }
                }
            }
        }
    }
}
