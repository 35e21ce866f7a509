//! What AVX-512 multiplies faster than f32: bf16 in pairs, int8 in pairs and in fours.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic, whose one precondition is the caller's"
)]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx512::Avx512;
use super::lane::{Lane, Unit};
use super::lanes_int8::{Dot, Integers};
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

impl Integers for Avx512 {
    type Ints = __m512i;

    #[inline(always)]
    unsafe fn splat_int(value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }

    #[inline(always)]
    unsafe fn load_ints(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }

    #[inline(always)]
    unsafe fn add_ints(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn sub_ints(a: __m512i, b: __m512i) -> __m512i {
        _mm512_sub_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn from_ints(ints: __m512i) -> Self {
        Self(_mm512_cvtepi32_ps(ints))
    }

    #[inline(always)]
    unsafe fn nearest_ints(self) -> __m512i {
        _mm512_cvtps_epi32(self.0)
    }

    #[inline(always)]
    unsafe fn store_bytes(ints: __m512i, to: *mut u8, count: usize) {
        let mask = ((1u32 << count) - 1) as u16;
        _mm_mask_storeu_epi8(to.cast(), mask, _mm512_cvtepi32_epi8(ints));
    }
}

/// Products of bytes added in pairs, as [AVX2 does it](super::lanes_avx2::Pairs) (Skylake-SP).
pub(super) struct Pairs<const KEYS: bool = false>;

impl<const KEYS: bool> Dot for Pairs<KEYS> {
    type Vector = Avx512;
    const MOST_CODE: i32 = 63;
    const ACTIVATIONS_ARE_UNSIGNED: bool = !KEYS;
    const WEIGHTS_ARE_UNSIGNED: bool = KEYS;

    #[inline(always)]
    unsafe fn dot(sum: __m512i, activation: __m512i, weights: __m512i) -> __m512i {
        let pairs = if KEYS {
            _mm512_maddubs_epi16(weights, activation)
        } else {
            _mm512_maddubs_epi16(activation, weights)
        };
        _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
    }
}

/// AVX512-VNNI (Cascade Lake, Ice Lake, Zen 4): unsigned times signed, the `KEYS` being the unsigned.
pub(super) struct Vnni<const KEYS: bool = false>;

impl<const KEYS: bool> Dot for Vnni<KEYS> {
    type Vector = Avx512;
    const ACTIVATIONS_ARE_UNSIGNED: bool = !KEYS;
    const WEIGHTS_ARE_UNSIGNED: bool = KEYS;

    #[inline(always)]
    unsafe fn dot(sum: __m512i, activation: __m512i, weights: __m512i) -> __m512i {
        if KEYS {
            _mm512_dpbusd_epi32(sum, weights, activation)
        } else {
            _mm512_dpbusd_epi32(sum, activation, weights)
        }
    }
}
