//! AVX2 with FMA and F16C: x86-64 since 2013 (Haswell) and 2015 (Excavator). With AVX-VNNI: what Intel
//! sells for desks and laps since 2021 (Alder Lake), which has no AVX-512.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic, whose one precondition is the caller's"
)]

use std::arch::x86_64::*;

use super::isa::{Kernels, code_kernels, format_kernels, vector_kernels};
use super::lane::{F16, FromHalf};
use super::lanes_avx2::{AvxVnni, Pairs};
use super::lanes_int8::Int8;
use super::vector::Vector;

#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) __m256);

/// All ones in the first `count` elements.
#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
}

impl Vector for Avx2 {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm256_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        Self(_mm256_maskload_ps(from, mask(count)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm256_storeu_ps(to, self.0);
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        _mm256_maskstore_ps(to, mask(count), self.0);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm256_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm256_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm256_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(_mm256_fmadd_ps(self.0, factor.0, term.0))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0))
    }

    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent.0), _mm256_set1_epi32(127));
        let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased));
        Self(_mm256_mul_ps(self.0, power))
    }

    #[inline(always)]
    unsafe fn recip(self) -> Self {
        // 12 bits from the table, doubled by one step of Newton's method.
        let rough = _mm256_rcp_ps(self.0);
        let two = _mm256_set1_ps(2.0);
        Self(_mm256_mul_ps(rough, _mm256_fnmadd_ps(self.0, rough, two)))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let halves = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
        let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
        _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let halves = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
        let pairs = _mm_max_ps(halves, _mm_movehl_ps(halves, halves));
        _mm_cvtss_f32(_mm_max_ss(pairs, _mm_movehdup_ps(pairs)))
    }
}

impl FromHalf for Avx2 {
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        Self(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())))
    }
}

const VECTORS: usize = 2;

format_kernels!(in_f16, F16<Avx2>, VECTORS, "avx2,fma,f16c");
format_kernels!(in_pairs, Int8<Pairs>, VECTORS, "avx2,fma,f16c");
code_kernels!(codes_in_pairs, Pairs<true>, Pairs, ((), ()), VECTORS, "avx2,fma,f16c");
format_kernels!(in_fours, Int8<AvxVnni>, VECTORS, "avx2,avxvnni,fma,f16c");
code_kernels!(codes_in_fours, AvxVnni<true>, AvxVnni, ((), ()), VECTORS, "avx2,avxvnni,fma,f16c");
vector_kernels!(Avx2, VECTORS, "avx2,fma,f16c");

/// The kernels, if this machine has the instructions.
pub(super) fn kernels() -> Option<Kernels> {
    let has_all = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    has_all.then_some(Kernels {
        name: "avx2",
        f16: Some(in_f16::TABLE),
        int8: Some(in_pairs::TABLE),
        codes: Some(codes_in_pairs::TABLE),
        ..BASE
    })
}

/// The kernels, if this machine has the instruction for int8 in fours, too.
pub(super) fn kernels_with_vnni() -> Option<Kernels> {
    let rest = kernels()?;
    is_x86_feature_detected!("avxvnni").then_some(Kernels {
        name: "avx-vnni",
        int8: Some(in_fours::TABLE),
        codes: Some(codes_in_fours::TABLE),
        ..rest
    })
}
