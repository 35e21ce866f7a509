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
        let largest = largest_of::<D::Vector>(row, len).max(f32::MIN_POSITIVE);
        let factor = D::Vector::splat(127.0 / largest);
        let offset = D::Vector::splat_int(if D::ACTIVATIONS_ARE_UNSIGNED { 128 } else { 0 });
        for i in (0..len).step_by(D::Vector::LEN) {
            let count = D::Vector::LEN.min(len - i);
            let values = load_up_to::<D::Vector>(row.add(i), count);
            let codes = D::Vector::add_ints(values.mul(factor).nearest_ints(), offset);
            // Values beyond the end, in the last lane, meet weights of zero.
            D::Vector::store_bytes(codes, lanes.add(i), count.next_multiple_of(DEPTH));
        }
        largest / 127.0
    }

    #[inline(always)]
    unsafe fn gelu(x: D::Vector) -> D::Vector {
        gelu_rough(x)
    }
}

/// The largest of some floats without their signs; zero if there are none.
///
/// # Safety
/// As for [`Vector`]; there are `len` floats.
#[inline(always)]
pub(super) unsafe fn largest_of<V: Vector>(row: *const f32, len: usize) -> f32 {
    let mut largest = V::splat(0.0);
    for i in (0..len).step_by(V::LEN) {
        largest = largest.max(load_up_to::<V>(row.add(i), len - i).abs());
    }
    largest.largest()
}
