//! int8 as AVX2 multiplies it: twice as many at once as f32, each with an addition of its own.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic, whose one precondition is the caller's"
)]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::lane::Lane;
use super::layout::{Packed, nearest};
use super::math::gelu_rough;
use super::vector::Vector;

/// Two int8 to a lane, multiplied as int16.
///
/// The instruction for bytes adds their products in 16 bits, where those of 8 bits have no room. With
/// weights spread to 16 bits, once for all rows of a tile, sums are exact: those of AVX512-VNNI.
pub(super) struct Int8;

/// Eight values in steps.
#[inline(always)]
unsafe fn codes(values: *const f32, factors: __m256) -> __m256i {
    _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(values), factors))
}

impl Lane for Int8 {
    type Vector = Avx2;
    type Spread = __m256i;
    type Weights = __m256i;
    type Sum = __m256i;
    type Unit = ();
    const DEPTH: usize = 2;
    const WEIGHT_BYTES: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline(always)]
    unsafe fn spread(activation: *const u8) -> __m256i {
        _mm256_set1_epi32(activation.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn weights(stored: *const u8) -> __m256i {
        _mm256_cvtepi8_epi16(_mm_loadu_si128(stored.cast()))
    }

    #[inline(always)]
    unsafe fn dot(sum: __m256i, activation: __m256i, weights: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(activation, weights))
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn finish(sum: __m256i, weights: &Packed, column: usize, scale: f32) -> Avx2 {
        let scale = Avx2::load(weights.scales.as_ptr().add(column)).mul(Avx2::splat(scale));
        let sum = Avx2(_mm256_cvtepi32_ps(sum));
        sum.mul_add(scale, Avx2::load(weights.bias.as_ptr().add(column)))
    }

    #[inline(always)]
    unsafe fn prepare(row: *const f32, len: usize, lanes: *mut u8) -> f32 {
        let whole = len - len % 8;
        let mut largest = Avx2::load_part(row.add(whole), len - whole).abs();
        for i in (0..whole).step_by(8) {
            largest = largest.max(Avx2::load(row.add(i)).abs());
        }
        let largest = largest.largest().max(f32::MIN_POSITIVE);
        let factor = 127.0 / largest;
        let (factors, lanes) = (_mm256_set1_ps(factor), lanes.cast::<i16>());
        let wide = len - len % 16;
        for i in (0..wide).step_by(16) {
            let halves =
                _mm256_packs_epi32(codes(row.add(i), factors), codes(row.add(i + 8), factors));
            // Halves of registers are packed by themselves: the quarters are put in order again.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(halves);
            _mm256_storeu_si256(lanes.add(i).cast(), words);
        }
        for i in wide..len.next_multiple_of(2) {
            // A lane is two values; what is beyond the end meets a weight of zero.
            *lanes.add(i) = if i < len { nearest(*row.add(i) * factor).into() } else { 0 };
        }
        largest / 127.0
    }

    #[inline(always)]
    unsafe fn gelu(x: Avx2) -> Avx2 {
        gelu_rough(x)
    }
}
