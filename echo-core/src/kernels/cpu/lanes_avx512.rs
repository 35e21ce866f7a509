//! Number formats that AVX-512 multiplies faster than f32: bf16 in pairs, int8 in fours.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic, whose one precondition is the caller's"
)]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512::Avx512;
use super::lane::{Lane, Unit};
use super::layout::Packed;
use super::math::gelu_rough;
use super::vector::Vector;

/// Two bf16 to a lane (AVX512-BF16: Cooper Lake, Sapphire Rapids, Zen 4).
pub(super) struct Bf16<U = ()>(PhantomData<U>);

impl<U: Unit> Lane for Bf16<U> {
    type Vector = Avx512;
    type Spread = __m512i;
    type Weights = __m512i;
    type Sum = Avx512;
    type Unit = U;
    const DEPTH: usize = 2;
    const WEIGHT_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Avx512 {
        Avx512::splat(0.0)
    }

    #[inline(always)]
    unsafe fn spread(activation: *const u8) -> __m512i {
        _mm512_set1_epi32(activation.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn weights(stored: *const u8) -> __m512i {
        _mm512_loadu_si512(stored.cast())
    }

    #[inline(always)]
    unsafe fn dot(sum: Avx512, activation: __m512i, weights: __m512i) -> Avx512 {
        // SAFETY: both types are 512 bits of anything.
        let (a, w): (__m512bh, __m512bh) = std::mem::transmute((activation, weights));
        Avx512(_mm512_dpbf16_ps(sum.0, a, w))
    }

    #[inline(always)]
    unsafe fn add(a: Avx512, b: Avx512) -> Avx512 {
        a.add(b)
    }

    #[inline(always)]
    unsafe fn finish(sum: Avx512, weights: &Packed, column: usize, _scale: f32) -> Avx512 {
        sum.add(Avx512::load(weights.bias.as_ptr().add(column)))
    }

    #[inline(always)]
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32 {
        let lanes = lanes.cast::<u16>();
        let whole = len - len % 16;
        for i in (0..whole).step_by(16) {
            let half: __m256i =
                std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(row.add(i))));
            _mm256_storeu_si256(lanes.add(i).cast(), half);
        }
        if whole < len {
            let rest = Avx512::load_part(row.add(whole), len - whole);
            let half: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(rest.0));
            // A lane is two values; the second of the last lane may be filling.
            let count = (len - whole).next_multiple_of(2);
            _mm256_mask_storeu_epi16(lanes.add(whole).cast(), ((1u32 << count) - 1) as u16, half);
        }
        1.0
    }

    #[inline(always)]
    unsafe fn gelu(x: Avx512) -> Avx512 {
        gelu_rough(x)
    }

    // Powers of two are cheaper than those of e.
    const SCORE_FACTOR: f32 = std::f32::consts::LOG2_E;

    #[inline(always)]
    unsafe fn numerators(
        scores: *const f32,
        len: usize,
        reference: f32,
        numerators: *mut f32,
        mut sum: Avx512,
    ) -> Avx512 {
        let reference = Avx512::splat(reference);
        for i in (0..len).step_by(32) {
            let low = exp2_rough(Avx512::load(scores.add(i)).sub(reference));
            let high = exp2_rough(Avx512::load(scores.add(i + 16)).sub(reference));
            sum = sum.add(low.add(high));
            let halves: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high.0, low.0));
            _mm512_storeu_si512(numerators.cast::<u16>().add(i).cast(), halves);
        }
        sum
    }

    #[inline(always)]
    unsafe fn numerator(numerators: *const f32, index: usize) -> f32 {
        f32::from_bits(u32::from(*numerators.cast::<u16>().add(index)) << 16)
    }
}

/// `2^x` for x of at most 127, to 1e-4 of itself: four times finer than bf16. The polynomial is for
/// what is left of x above the next lower integer.
#[inline(always)]
unsafe fn exp2_rough(x: Avx512) -> Avx512 {
    // A result below the normal numbers takes some processors four hundred times as long.
    let x = x.max(Avx512::splat(-125.0));
    let f = Avx512(_mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x.0));
    let p = Avx512::splat(0.07802277).mul_add(f, Avx512::splat(0.2260673));
    let p = p.mul_add(f, Avx512::splat(0.6958347));
    // The instruction takes the next lower integer of x itself.
    p.mul_add(f, Avx512::splat(0.999_925)).scale(x)
}

/// Four int8 to a lane (AVX512-VNNI: Cascade Lake, Ice Lake, Zen 4).
///
/// The instruction multiplies unsigned by signed, so activations are stored plus 128 and 128 times
/// the weights' sum is taken away again.
///
/// `KEYS` are unsigned themselves, and their activations, queries, as they are.
pub(super) struct Int8<U = (), const KEYS: bool = false>(PhantomData<U>);

impl<U: Unit, const KEYS: bool> Lane for Int8<U, KEYS> {
    type Vector = Avx512;
    type Spread = __m512i;
    type Weights = __m512i;
    type Sum = __m512i;
    type Unit = U;
    const DEPTH: usize = 4;
    const WEIGHT_BYTES: usize = 4;
    const ARE_UNSIGNED: bool = KEYS;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline(always)]
    unsafe fn spread(activation: *const u8) -> __m512i {
        Bf16::<U>::spread(activation)
    }

    #[inline(always)]
    unsafe fn weights(stored: *const u8) -> __m512i {
        Bf16::<U>::weights(stored)
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, activation: __m512i, weights: __m512i) -> __m512i {
        if KEYS {
            _mm512_dpbusd_epi32(sum, weights, activation)
        } else {
            _mm512_dpbusd_epi32(sum, activation, weights)
        }
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn finish(sum: __m512i, weights: &Packed, column: usize, scale: f32) -> Avx512 {
        let offset = _mm512_loadu_si512(weights.offsets.as_ptr().add(column).cast());
        let sum = Avx512(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, offset)));
        let scale = Avx512::load(weights.scales.as_ptr().add(column)).mul(Avx512::splat(scale));
        sum.mul_add(scale, Avx512::load(weights.bias.as_ptr().add(column)))
    }

    #[inline(always)]
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32 {
        let whole = len - len % 16;
        let mut largest = Avx512::load_part(row.add(whole), len - whole).abs();
        for i in (0..whole).step_by(16) {
            largest = largest.max(Avx512::load(row.add(i)).abs());
        }
        let largest = largest.largest().max(f32::MIN_POSITIVE);
        let factor = _mm512_set1_ps(127.0 / largest);
        let offset = _mm512_set1_epi32(if KEYS { 0 } else { 128 });
        let mut i = 0;
        while i < len {
            let count = (len - i).min(16);
            let values = if count == 16 {
                _mm512_loadu_ps(row.add(i))
            } else {
                Avx512::load_part(row.add(i), count).0
            };
            let codes = _mm512_cvtps_epi32(_mm512_mul_ps(values, factor));
            let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(codes, offset));
            // A lane is four values; those beyond the end meet weights of zero.
            let mask = ((1u32 << count.next_multiple_of(4)) - 1) as u16;
            _mm_mask_storeu_epi8(lanes.add(i).cast(), mask, bytes);
            i += 16;
        }
        largest / 127.0
    }

    #[inline(always)]
    unsafe fn gelu(x: Avx512) -> Avx512 {
        gelu_rough(x)
    }
}
