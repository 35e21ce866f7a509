//! int8: what machines have in common, whatever the instruction that forms its products.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an operation of a `Vector`, whose one precondition is the caller's"
)]

use std::marker::PhantomData;

use super::lane::{Lane, Unit};
use super::layout::Packed;
use super::math::{gelu_rough, load_up_to};
use super::vector::Vector;

/// A vector that can be turned into integers, and back.
///
/// # Safety
/// As for [`Vector`].
pub(super) trait Integers: Vector {
    /// As many 32-bit integers, or lanes of narrower ones, as there are floats.
    type Ints: Copy;

    unsafe fn splat_int(value: i32) -> Self::Ints;
    unsafe fn load_ints(from: *const u8) -> Self::Ints;
    unsafe fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn sub_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn from_ints(ints: Self::Ints) -> Self;
    unsafe fn nearest_ints(self) -> Self::Ints;
    /// Stores the lowest bytes of the first `count` integers, a multiple of four.
    unsafe fn store_bytes(ints: Self::Ints, to: *mut u8, count: usize);
}

/// Instructions that multiply the four values of a lane and add the products to a sum of 32 bits, for
/// every lane of a register.
///
/// Where it takes activations unsigned, those of a layer are stored plus 128 and 128 times the
/// weights' sum is taken away again; shares of attention are unsigned themselves. Where it takes weights
/// unsigned, those are keys or values, stored plus one more than their greatest code.
///
/// # Safety
/// As for [`Vector`].
pub(super) trait Dot {
    type Vector: Integers;
    /// The greatest code of a weight, if any others may be next to it.
    const MOST_CODE: i32 = 127;
    const ACTIVATIONS_ARE_UNSIGNED: bool = false;
    const WEIGHTS_ARE_UNSIGNED: bool = false;
    /// The greatest code of a key or value, and what is added to each.
    const STORED: (i32, i32) =
        (Self::MOST_CODE, if Self::WEIGHTS_ARE_UNSIGNED { Self::MOST_CODE + 1 } else { 0 });

    unsafe fn dot(sum: Ints<Self>, activation: Ints<Self>, weights: Ints<Self>) -> Ints<Self>;
}

type Ints<D> = <<D as Dot>::Vector as Integers>::Ints;

/// Values in a lane.
pub(super) const DEPTH: usize = 4;

/// int8 with a scale for each output and each row, multiplied as `D` does.
pub(super) struct Int8<D, U = ()>(PhantomData<(D, U)>);

impl<D: Dot, U: Unit> Lane for Int8<D, U> {
    type Vector = D::Vector;
    type Spread = Ints<D>;
    type Weights = Ints<D>;
    type Sum = Ints<D>;
    type Unit = U;
    const DEPTH: usize = DEPTH;
    const WEIGHT_BYTES: usize = DEPTH;
    const MOST_CODE: i32 = D::MOST_CODE;

    #[inline(always)]
    unsafe fn zero() -> Ints<D> {
        D::Vector::splat_int(0)
    }

    #[inline(always)]
    unsafe fn spread(activation: *const u8) -> Ints<D> {
        D::Vector::splat_int(activation.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn weights(stored: *const u8) -> Ints<D> {
        D::Vector::load_ints(stored)
    }

    #[inline(always)]
    unsafe fn dot(sum: Ints<D>, activation: Ints<D>, weights: Ints<D>) -> Ints<D> {
        D::dot(sum, activation, weights)
    }

    #[inline(always)]
    unsafe fn add(a: Ints<D>, b: Ints<D>) -> Ints<D> {
        D::Vector::add_ints(a, b)
    }

    #[inline(always)]
    unsafe fn finish(sum: Ints<D>, weights: &Packed, column: usize, scale: f32) -> D::Vector {
        let mut sum = sum;
        if D::ACTIVATIONS_ARE_UNSIGNED {
            let offset = D::Vector::load_ints(weights.offsets.as_ptr().add(column).cast());
            sum = D::Vector::sub_ints(sum, offset);
        }
        let scale = D::Vector::load(weights.scales.as_ptr().add(column)).mul(Vector::splat(scale));
        let bias = Vector::load(weights.bias.as_ptr().add(column));
        D::Vector::from_ints(sum).mul_add(scale, bias)
    }

    #[inline(always)]
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32 {
        let offset = if D::ACTIVATIONS_ARE_UNSIGNED { 128 } else { 0 };
        // Values beyond the end, in the last lane, meet weights of zero.
        codes_of::<D::Vector>(row, len, (127, offset), lanes)
    }

    #[inline(always)]
    unsafe fn gelu(x: D::Vector) -> D::Vector {
        gelu_rough(x)
    }
}

/// A row of which nothing is larger is nothing.
pub(super) const LEAST: f32 = 1e-30;

/// Writes a row of `len` floats, filled up to whole lanes, in steps of which its largest value has `most`,
/// each plus `offset`; returns what a step is worth.
///
/// # Safety
/// As for [`Vector`]; there are `len` floats, and `codes` has room for their lanes.
#[inline(always)]
pub(super) unsafe fn codes_of<V: Integers>(
    row: *const f32,
    len: usize,
    (most, offset): (i32, i32),
    codes: *mut u8,
) -> f32 {
    let largest = largest_of::<V>(row, len).max(LEAST);
    let (factor, offset) = (V::splat(most as f32 / largest), V::splat_int(offset));
    let whole = len - len % V::LEN;
    for i in (0..whole).step_by(V::LEN) {
        let ints = V::load(row.add(i)).mul(factor).nearest_ints();
        V::store_bytes(V::add_ints(ints, offset), codes.add(i), V::LEN);
    }
    if whole < len {
        let ints = V::load_part(row.add(whole), len - whole).mul(factor).nearest_ints();
        let count = (len - whole).next_multiple_of(DEPTH);
        V::store_bytes(V::add_ints(ints, offset), codes.add(whole), count);
    }
    largest / most as f32
}

/// The largest of some floats without their signs; zero if there are none.
///
/// # Safety
/// As for [`Vector`]; there are `len` floats.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "as in `gemm::step`")]
unsafe fn largest_of<V: Vector>(row: *const f32, len: usize) -> f32 {
    // Several at once: one after the other each would wait for the one before.
    let mut largest = [V::splat(0.0); 4];
    let whole = len - len % (4 * V::LEN);
    for i in (0..whole).step_by(4 * V::LEN) {
        for v in 0..4 {
            largest[v] = largest[v].max(V::load(row.add(i + v * V::LEN)).abs());
        }
    }
    for i in (whole..len).step_by(V::LEN) {
        largest[0] = largest[0].max(load_up_to::<V>(row.add(i), len - i).abs());
    }
    largest[0].max(largest[1]).max(largest[2].max(largest[3])).largest()
}
