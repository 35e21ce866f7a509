//! The cells of an LSTM: five curved functions for each unit and step.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an operation of a `Vector`, whose one precondition is the caller's"
)]

use super::buffer::Target;
use super::math::exp;
use super::vector::Vector;

/// The cells of some rows after the product of a step.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    /// `(rows, 4, hidden)`: input, forget, cell and output gate before their functions.
    pub(super) gates: &'a [f32],
    /// `(rows, hidden)`: what the cells remember, updated.
    pub(super) cells: &'a mut [f32],
    /// Where the outputs go.
    pub(super) out: Target,
    pub(super) rows: usize,
    pub(super) hidden: usize,
}

/// Beyond this a sigmoid is 0 or 1 in f32, and `exp` would overflow further on.
const STEEP: f32 = 80.0;

#[inline(always)]
unsafe fn sigmoid<V: Vector>(x: V) -> V {
    let negative = V::splat(0.0).sub(x.max(V::splat(-STEEP)));
    V::splat(1.0).add(exp(negative)).recip()
}

/// `2 sigmoid(2x) - 1`: to 1e-7 in absolute terms, which is what sums of outputs feel.
#[inline(always)]
unsafe fn tanh<V: Vector>(x: V) -> V {
    let twice = sigmoid(x.add(x));
    twice.add(twice).sub(V::splat(1.0))
}

/// One step of all cells.
///
/// # Safety
/// See [`Vector`]; the job's slices and target have its rows.
#[inline(always)]
pub(super) unsafe fn cells<V: Vector>(job: Cells<'_>) {
    let hidden = job.hidden;
    for row in 0..job.rows {
        let gates = job.gates.as_ptr().add(row * 4 * hidden);
        let cells = job.cells.as_mut_ptr().add(row * hidden);
        let out = job.out.at(row, 0).data;
        let mut at = 0;
        while at + V::LEN <= hidden {
            let gate = gates.add(at);
            let kept = sigmoid(V::load(gate.add(hidden))).mul(V::load(cells.add(at)));
            let new = sigmoid(V::load(gate)).mul(tanh(V::load(gate.add(2 * hidden))));
            let cell = kept.add(new);
            cell.store(cells.add(at));
            sigmoid(V::load(gate.add(3 * hidden))).mul(tanh(cell)).store(out.add(at));
            at += V::LEN;
        }
        let rest = hidden - at;
        if rest > 0 {
            let gate = gates.add(at);
            let forget = sigmoid(V::load_part(gate.add(hidden), rest));
            let kept = forget.mul(V::load_part(cells.add(at), rest));
            let candidate = tanh(V::load_part(gate.add(2 * hidden), rest));
            let cell = kept.add(sigmoid(V::load_part(gate, rest)).mul(candidate));
            cell.store_part(cells.add(at), rest);
            let output = sigmoid(V::load_part(gate.add(3 * hidden), rest));
            output.mul(tanh(cell)).store_part(out.add(at), rest);
        }
    }
}
