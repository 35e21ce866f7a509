//! How the products of one step along the inner dimension are formed.
//!
//! Both operands of a product are streams of lanes: 32 bits of activations (one f32, two bf16 or
//! four int8 that follow each other along the inner dimension), and for each of them a vector of
//! weights, one lane for each output. Only the dot instruction differs between number formats, so one
//! microkernel serves them all.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an operation of a `Vector`, whose one precondition is the caller's"
)]

use std::marker::PhantomData;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::buffer::Target;
use super::gemm::{Ahead, Operand, TILE_ROWS};
use super::layout::Packed;
use super::math::{exp, gelu};
use super::vector::{Portable, Vector};

/// Beyond this an exponential is no float. Sums with it are too great to be taken, see
/// [`Lane::GREATEST_SUM`].
const MOST_EXPONENT: f32 = 88.0;

/// A number format on an instruction set.
///
/// # Safety
/// As for [`Vector`]: the instruction set is there and pointers are valid.
pub(super) trait Lane {
    /// Results are vectors of this.
    type Vector: Vector;
    /// An activation lane in every element of a register.
    type Spread: Copy;
    /// Weight lanes of as many outputs as a vector has elements.
    type Weights: Copy;
    /// Sums of products, as wide as a vector of floats.
    type Sum: Copy;
    /// What forms the products of many rows and lanes at once; `()` where nothing does.
    type Unit: Unit;
    /// Values along the inner dimension in one lane.
    const DEPTH: usize;
    /// Bytes of one stored weight lane.
    const WEIGHT_BYTES: usize;
    /// Up to this each weight may have any code, beyond it two neighbours share the room of both; zero
    /// where weights have none.
    const MOST_CODE: i32 = 0;

    unsafe fn zero() -> Self::Sum;
    unsafe fn spread(activation: *const u8) -> Self::Spread;
    unsafe fn weights(stored: *const u8) -> Self::Weights;
    unsafe fn dot(sum: Self::Sum, activation: Self::Spread, weights: Self::Weights) -> Self::Sum;
    unsafe fn add(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// The sums of outputs `column..`, as floats with the bias; `scale` is the activations' own.
    unsafe fn finish(sum: Self::Sum, weights: &Packed, column: usize, scale: f32) -> Self::Vector;
    /// Turns a row of `len` floats into activation lanes, in place if both are the same memory, and
    /// returns the factor that [`finish`](Self::finish) multiplies with.
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32;

    /// GELU, as exact as the format has use for.
    #[inline(always)]
    unsafe fn gelu(x: Self::Vector) -> Self::Vector {
        gelu(x)
    }

    /// What scores are multiplied with before they become [`numerators`](Self::numerators).
    const SCORE_FACTOR: f32 = 1.0;
    /// A sum of numerators that is greater has overflowed, or is about to.
    const GREATEST_SUM: f32 = 1e30;

    /// Turns `len` scores, whole vectors, into numerators of a softmax, `e^(score - reference)` in
    /// activation lanes, and adds them to `sum`.
    #[inline(always)]
    unsafe fn numerators(
        scores: *const f32,
        len: usize,
        reference: f32,
        numerators: *mut f32,
        mut sum: Self::Vector,
    ) -> Self::Vector {
        let reference = Self::Vector::splat(reference);
        let most = Self::Vector::splat(MOST_EXPONENT);
        for i in (0..len).step_by(Self::Vector::LEN) {
            let score = Self::Vector::load(scores.add(i));
            let numerator = exp(score.sub(reference).min(most));
            sum = sum.add(numerator);
            numerator.store(numerators.add(i));
        }
        sum
    }

    /// One of the [`numerators`](Self::numerators).
    #[inline(always)]
    unsafe fn numerator(numerators: *const f32, index: usize) -> f32 {
        *numerators.add(index)
    }
}

/// A matrix unit of a processor: one instruction for the products of many rows, lanes and outputs.
///
/// What a kernel makes of it lasts as long as the kernel: a unit is set up when it is first used and let
/// go when dropped.
pub(super) trait Unit: Default {
    /// Lanes that an instruction takes.
    const LANES: usize;
    /// A linear layer of no more rows is left to vectors: it waits for its weights, which they read faster.
    const FEW_ROWS: usize;
    /// Rows that are multiplied with a panel before the next ones are.
    const BLOCK_ROWS: usize;
    /// Queries that an encoder's attention takes at once.
    const BLOCK_QUERIES: usize;

    /// Writes the sums of `rows` rows, not zero, with `lanes` lanes, whole [`LANES`](Self::LANES), of
    /// a panel, and meanwhile has the cache fetch what is `ahead`.
    ///
    /// # Safety
    /// As for [`Lane`]; `sums` has the rows of the panel's width and nothing else between them.
    unsafe fn multiply(
        &mut self,
        input: Operand,
        rows: usize,
        weights: *const u8,
        lanes: usize,
        sums: Target,
        ahead: Ahead,
    );

    /// Nothing but products, as many rounds as asked for; returns the number of operations.
    ///
    /// # Safety
    /// As for [`Lane`].
    #[cfg(feature = "bench")]
    unsafe fn peak(_rounds: usize) -> usize {
        0
    }
}

/// No unit: there is no number of lanes that it would take.
impl Unit for () {
    const LANES: usize = usize::MAX;
    const FEW_ROWS: usize = 0;
    /// Ten tiles, few enough that a block of activations stays in the cache.
    const BLOCK_ROWS: usize = 10 * TILE_ROWS;
    /// Their scores with all keys stay in a second-level cache of half a MiB.
    const BLOCK_QUERIES: usize = 2 * TILE_ROWS;

    #[inline(always)]
    unsafe fn multiply(
        &mut self,
        _: Operand,
        _: usize,
        _: *const u8,
        _: usize,
        _: Target,
        _: Ahead,
    ) {
    }
}

/// Products of what is at hand, in as many sums as hide the latency of one; returns how many
/// operations that were.
///
/// # Safety
/// As for [`Lane`].
#[cfg(feature = "bench")]
#[inline(always)]
pub(super) unsafe fn peak<L: Lane>(rounds: usize) -> usize {
    const SUMS: usize = 12;
    if L::Unit::LANES < usize::MAX {
        return L::Unit::peak(rounds);
    }
    let memory = std::hint::black_box([0u8; 256]);
    let weights = L::weights(memory.as_ptr());
    let mut sums = [L::zero(); SUMS];
    for round in 0..rounds {
        // Each round and each sum has activations of its own, or one product would serve all.
        let mut activation = memory.as_ptr().wrapping_add(round % 16 * 4);
        for sum in &mut sums {
            *sum = L::dot(*sum, L::spread(activation), weights);
            activation = activation.wrapping_add(4);
        }
    }
    std::hint::black_box(&sums);
    rounds * SUMS * <L::Vector as Vector>::LEN * L::DEPTH * 2
}

/// The largest of some floats: what reading them costs, and little more.
///
/// # Safety
/// As for [`Vector`].
#[cfg(feature = "bench")]
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "as in the inner loops of `gemm`")]
pub(super) unsafe fn read<V: Vector>(values: &[f32]) -> f32 {
    const VECTORS: usize = 8;
    let mut largest = [V::splat(f32::MIN); VECTORS];
    for step in 0..values.len() / (VECTORS * V::LEN) {
        let from = values.as_ptr().add(step * VECTORS * V::LEN);
        for v in 0..VECTORS {
            largest[v] = largest[v].max(V::load(from.add(v * V::LEN)));
        }
    }
    let mut all = largest[0];
    for v in 1..VECTORS {
        all = all.max(largest[v]);
    }
    all.largest()
}

/// f32 times f32.
pub(super) struct F32<V>(PhantomData<V>);

impl<V: Vector> Lane for F32<V> {
    type Vector = V;
    type Spread = V;
    type Weights = V;
    type Sum = V;
    type Unit = ();
    const DEPTH: usize = 1;
    const WEIGHT_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> V {
        V::splat(0.0)
    }

    #[inline(always)]
    unsafe fn spread(activation: *const u8) -> V {
        V::splat(activation.cast::<f32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn weights(stored: *const u8) -> V {
        V::load(stored.cast())
    }

    #[inline(always)]
    unsafe fn dot(sum: V, activation: V, weights: V) -> V {
        activation.mul_add(weights, sum)
    }

    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        a.add(b)
    }

    #[inline(always)]
    unsafe fn finish(sum: V, weights: &Packed, column: usize, _scale: f32) -> V {
        sum.add(V::load(weights.bias.as_ptr().add(column)))
    }

    #[inline(always)]
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32 {
        row.copy_to(lanes.cast(), len);
        1.0
    }
}

/// A vector that can be loaded from half floats.
pub(super) trait FromHalf: Vector {
    /// Converts `LEN` half floats.
    ///
    /// # Safety
    /// As for [`Vector::load`].
    unsafe fn load_half(from: *const u16) -> Self;
}

impl FromHalf for Portable {
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        let halves = from.cast::<[f16; Self::LEN]>().read_unaligned();
        let mut values = [0.0; Self::LEN];
        halves.convert_to_f32_slice(&mut values);
        Self::load(values.as_ptr())
    }
}

/// f32 times weights that are stored as half floats: the same result as with f32 weights for
/// checkpoints in f16, at half the memory and half the traffic, which is what a decoder waits for.
pub(super) struct F16<V>(PhantomData<V>);

impl<V: FromHalf> Lane for F16<V> {
    type Vector = V;
    type Spread = V;
    type Weights = V;
    type Sum = V;
    type Unit = ();
    const DEPTH: usize = 1;
    const WEIGHT_BYTES: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> V {
        V::splat(0.0)
    }

    #[inline(always)]
    unsafe fn spread(activation: *const u8) -> V {
        F32::<V>::spread(activation)
    }

    #[inline(always)]
    unsafe fn weights(stored: *const u8) -> V {
        V::load_half(stored.cast())
    }

    #[inline(always)]
    unsafe fn dot(sum: V, activation: V, weights: V) -> V {
        activation.mul_add(weights, sum)
    }

    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        a.add(b)
    }

    #[inline(always)]
    unsafe fn finish(sum: V, weights: &Packed, column: usize, scale: f32) -> V {
        F32::<V>::finish(sum, weights, column, scale)
    }

    #[inline(always)]
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32 {
        row.copy_to(lanes.cast(), len);
        1.0
    }
}
