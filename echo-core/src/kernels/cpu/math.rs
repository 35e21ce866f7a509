//! Functions of whole vectors and rows: exponential, GELU, layer norm, softmax.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an operation of a `Vector`, whose one precondition is the caller's"
)]

use super::vector::Vector;

/// What is added to a variance before its root, as in every Whisper.
const EPSILON: f32 = 1e-5;
/// Below this an exponential is no normal float.
const LOWEST_EXPONENT: f32 = -87.33;

/// `e^x` for x of at most 88, to 2 units in the last place; 0 to within 1.2e-38 far below.
///
/// `x = n ln 2 + f` with |f| <= ln 2 / 2; the constants split ln 2 in two so that f is exact, and
/// the polynomial is Taylor's of degree 6, whose error there is 1.2e-7.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    let x = x.max(V::splat(LOWEST_EXPONENT));
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let f = n.mul_add(V::splat(-0.693_145_75), x);
    let f = n.mul_add(V::splat(-1.428_606_8e-6), f);
    let p = V::splat(1.0 / 720.0).mul_add(f, V::splat(1.0 / 120.0));
    let p = p.mul_add(f, V::splat(1.0 / 24.0));
    let p = p.mul_add(f, V::splat(1.0 / 6.0));
    let p = p.mul_add(f, V::splat(0.5));
    let p = p.mul_add(f, V::splat(1.0));
    let p = p.mul_add(f, V::splat(1.0));
    p.scale(n)
}

/// `2^x` for x of at most 127, to 1e-4 of itself; at least 2^-64, so that products with it stay normal
/// numbers: others take some processors hundreds of times as long. AVX-512 has a way of its own for bf16, in
/// fewer instructions.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(super) unsafe fn exp2_rough<V: Vector>(x: V) -> V {
    let x = x.max(V::splat(-64.0));
    let n = x.round();
    let f = x.sub(n);
    let p = V::splat(0.055_171_66).mul_add(f, V::splat(0.242_611_12));
    let p = p.mul_add(f, V::splat(0.693_261));
    p.mul_add(f, V::splat(0.999_928)).scale(n)
}

/// `x/2 (1 + erf(x / sqrt 2))`, erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7).
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(super) unsafe fn gelu<V: Vector>(x: V) -> V {
    let half = x.mul(V::splat(0.5));
    let z = x.abs().mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = z.mul_add(V::splat(0.327_591_1), V::splat(1.0)).recip();
    let p = t.mul_add(V::splat(1.061_405_4), V::splat(-1.453_152));
    let p = p.mul_add(t, V::splat(1.421_413_7));
    let p = p.mul_add(t, V::splat(-0.284_496_74));
    let p = p.mul_add(t, V::splat(0.254_829_6)).mul(t);
    // erf(|x| / sqrt 2) = 1 - p e^(-z²); erf is odd, so its sign goes with |x|.
    let tail = p.mul(exp(V::splat(0.0).sub(z.mul(z))));
    half.abs().mul_add(V::splat(1.0).sub(tail), half)
}

/// GELU to within 1e-4: what a result that is rounded to bf16 or int8 next has use for, in a third
/// of the time.
///
/// `erf(x / sqrt 2) / 2` is fitted by an odd polynomial of degree 15 up to 4.25, where it is made to
/// be one half.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(super) unsafe fn gelu_rough<V: Vector>(x: V) -> V {
    const FIT: [f32; 8] = [
        -8.463_662e-10,
        7.573_182_4e-8,
        -2.939_492_5e-6,
        6.553_766e-5,
        -9.405_376e-4,
        9.258_24e-3,
        -6.545_445e-2,
        0.398_420_8,
    ];
    let near = x.min(V::splat(4.25)).max(V::splat(-4.25));
    let square = near.mul(near);
    let mut p = V::splat(FIT[0]);
    for coefficient in &FIT[1..] {
        p = p.mul_add(square, V::splat(*coefficient));
    }
    x.mul(p.mul_add(near, V::splat(0.5)))
}

/// Layer norm of one row: `(x - mean) / sqrt(variance + EPSILON) * weight + bias`.
///
/// Two passes, because `E[x²] - mean²` loses the digits of rows with a large mean.
///
/// # Safety
/// See [`Vector`]; all pointers are to `len` floats.
#[inline(always)]
pub(super) unsafe fn norm_row<V: Vector>(
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    len: usize,
    out: *mut f32,
) {
    let whole = len - len % V::LEN;
    let part = len - whole;
    let mean = sum_of::<V, false>(x, len, 0.0) / len as f32;
    let mean_vector = V::splat(mean);
    let total = sum_of::<V, true>(x, len, mean);
    let factor = V::splat(1.0 / (total / len as f32 + EPSILON).sqrt());
    for i in (0..whole).step_by(V::LEN) {
        let y = V::load(x.add(i)).sub(mean_vector).mul(factor);
        y.mul_add(V::load(weight.add(i)), V::load(bias.add(i))).store(out.add(i));
    }
    if part > 0 {
        let y = V::load_part(x.add(whole), part).sub(mean_vector).mul(factor);
        let weight = V::load_part(weight.add(whole), part);
        let y = y.mul_add(weight, V::load_part(bias.add(whole), part));
        y.store_part(out.add(whole), part);
    }
}

/// The sum of what `len` floats are above some value, or of the squares of that.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "as in `gemm::step`")]
unsafe fn sum_of<V: Vector, const SQUARES: bool>(x: *const f32, len: usize, above: f32) -> f32 {
    // Several at once: one after the other each would wait for the one before.
    let (mut sums, from) = ([V::splat(0.0); 4], V::splat(above));
    let whole = len - len % (4 * V::LEN);
    for i in (0..whole).step_by(4 * V::LEN) {
        for v in 0..4 {
            let x = V::load(x.add(i + v * V::LEN)).sub(from);
            sums[v] = if SQUARES { x.mul_add(x, sums[v]) } else { sums[v].add(x) };
        }
    }
    let mut total = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
    for i in whole..len {
        let x = *x.add(i) - above;
        total += if SQUARES { x * x } else { x };
    }
    total
}

/// `ln(sum(e^logits))`; minus infinity for no chance at all.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(super) unsafe fn log_sum_exp<V: Vector>(logits: &[f32]) -> f32 {
    let whole = logits.len() - logits.len() % V::LEN;
    let mut largest = V::splat(f32::NEG_INFINITY);
    for i in (0..whole).step_by(V::LEN) {
        largest = largest.max(V::load(logits.as_ptr().add(i)));
    }
    let mut highest = largest.largest();
    for &logit in &logits[whole..] {
        highest = highest.max(logit);
    }
    if highest == f32::NEG_INFINITY {
        return highest;
    }
    let reference = V::splat(highest);
    let mut sums = V::splat(0.0);
    for i in (0..whole).step_by(V::LEN) {
        sums = sums.add(exp(V::load(logits.as_ptr().add(i)).sub(reference)));
    }
    let mut sum = sums.sum();
    for &logit in &logits[whole..] {
        sum += (logit - highest).exp();
    }
    highest + sum.ln()
}

/// Replaces scores by `e^(score - largest)` and returns one over their sum.
///
/// # Safety
/// See [`Vector`]; `scores` are `len` floats, a multiple of [`Vector::LEN`].
#[inline(always)]
pub(super) unsafe fn softmax_row<V: Vector>(scores: *mut f32, len: usize) -> f32 {
    let mut largest = V::splat(f32::MIN);
    for i in (0..len).step_by(V::LEN) {
        largest = largest.max(V::load(scores.add(i)));
    }
    let largest = V::splat(largest.largest());
    let mut sum = V::splat(0.0);
    for i in (0..len).step_by(V::LEN) {
        let e = exp(V::load(scores.add(i)).sub(largest));
        sum = sum.add(e);
        e.store(scores.add(i));
    }
    1.0 / sum.sum()
}

/// The first `count` floats and zeros, or as many as a vector has.
///
/// # Safety
/// See [`Vector`].
#[inline(always)]
pub(super) unsafe fn load_up_to<V: Vector>(from: *const f32, count: usize) -> V {
    if count < V::LEN { V::load_part(from, count) } else { V::load(from) }
}
