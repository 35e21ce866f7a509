//! int8 as AVX2 multiplies it: in pairs, or in fours where a processor has AVX-VNNI.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic, whose one precondition is the caller's"
)]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::lanes_int8::{Dot, Integers};
use super::vector::Vector;

impl Integers for Avx2 {
    type Ints = __m256i;

    #[inline(always)]
    unsafe fn splat_int(value: i32) -> __m256i {
        _mm256_set1_epi32(value)
    }

    #[inline(always)]
    unsafe fn load_ints(from: *const u8) -> __m256i {
        _mm256_loadu_si256(from.cast())
    }

    #[inline(always)]
    unsafe fn add_ints(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn sub_ints(a: __m256i, b: __m256i) -> __m256i {
        _mm256_sub_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn from_ints(ints: __m256i) -> Self {
        Self(_mm256_cvtepi32_ps(ints))
    }

    #[inline(always)]
    unsafe fn nearest_ints(self) -> __m256i {
        _mm256_cvtps_epi32(self.0)
    }

    #[inline(always)]
    unsafe fn store_bytes(ints: __m256i, to: *mut u8, count: usize) {
        // The lowest byte of each integer, four from either half of the register.
        let lowest = _mm256_set1_epi32(0x0c08_0400);
        let fours = _mm256_shuffle_epi8(ints, lowest);
        let low = _mm256_castsi256_si128(fours);
        if count == Self::LEN {
            let both = _mm_unpacklo_epi32(low, _mm256_extracti128_si256::<1>(fours));
            _mm_storel_epi64(to.cast(), both);
        } else {
            to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(low));
        }
    }
}

/// Before VNNI: products of bytes are added in pairs of 16 bits, unsigned times signed, the `KEYS` being the
/// unsigned.
///
/// A pair has no room for two products of 8 bits. With 7 bits for keys and values, and for such weights as
/// are large together, nothing overflows: sums are exact.
pub(super) struct Pairs<const KEYS: bool = false>;

impl<const KEYS: bool> Dot for Pairs<KEYS> {
    type Vector = Avx2;
    const MOST_CODE: i32 = 63;
    const ACTIVATIONS_ARE_UNSIGNED: bool = !KEYS;
    const WEIGHTS_ARE_UNSIGNED: bool = KEYS;

    #[inline(always)]
    unsafe fn dot(sum: __m256i, activation: __m256i, weights: __m256i) -> __m256i {
        let pairs = if KEYS {
            _mm256_maddubs_epi16(weights, activation)
        } else {
            _mm256_maddubs_epi16(activation, weights)
        };
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// AVX-VNNI (Alder Lake, Sierra Forest, Zen 5): unsigned times signed, the `KEYS` being the unsigned.
pub(super) struct AvxVnni<const KEYS: bool = false>;

impl<const KEYS: bool> Dot for AvxVnni<KEYS> {
    type Vector = Avx2;
    const ACTIVATIONS_ARE_UNSIGNED: bool = !KEYS;
    const WEIGHTS_ARE_UNSIGNED: bool = KEYS;

    #[inline(always)]
    unsafe fn dot(sum: __m256i, activation: __m256i, weights: __m256i) -> __m256i {
        if KEYS {
            _mm256_dpbusd_avx_epi32(sum, weights, activation)
        } else {
            _mm256_dpbusd_avx_epi32(sum, activation, weights)
        }
    }
}
