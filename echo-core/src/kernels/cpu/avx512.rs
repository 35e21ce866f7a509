//! AVX-512: x86-64 servers since 2017 (Skylake-SP), AMD since 2022 (Zen 4).
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic, whose one precondition is the caller's"
)]

use std::arch::x86_64::*;

use super::gemm::{Gemm, gemm};
use super::isa::{Kernels, code_kernels, format_kernels, vector_kernels};
use super::lane::{F16, FromHalf};
use super::lanes_avx512::{Bf16, Pairs, Vnni};
use super::lanes_int8::Int8;
use super::vector::Vector;
use crate::device::ComputeType;

#[derive(Clone, Copy)]
pub(super) struct Avx512(pub(super) __m512);

/// All ones in the first `count` elements.
#[inline(always)]
fn mask(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

impl Vector for Avx512 {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm512_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(_mm512_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        Self(_mm512_maskz_loadu_ps(mask(count), from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        _mm512_storeu_ps(to, self.0);
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        _mm512_mask_storeu_ps(to, mask(count), self.0);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm512_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(_mm512_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(_mm512_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(_mm512_fmadd_ps(self.0, factor.0, term.0))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(_mm512_abs_ps(self.0))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0))
    }

    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        Self(_mm512_scalef_ps(self.0, exponent.0))
    }

    #[inline(always)]
    unsafe fn recip(self) -> Self {
        // 14 bits from the table, doubled by one step of Newton's method.
        let rough = _mm512_rcp14_ps(self.0);
        let two = _mm512_set1_ps(2.0);
        Self(_mm512_mul_ps(rough, _mm512_fnmadd_ps(self.0, rough, two)))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        _mm512_reduce_add_ps(self.0)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        _mm512_reduce_max_ps(self.0)
    }
}

impl FromHalf for Avx512 {
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }
}

const VECTORS: usize = 4;

format_kernels!(in_f16, F16<Avx512>, VECTORS, "avx512f,avx2,fma,f16c");
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn gemm_bf16_narrow(job: &Gemm<'_>) {
    gemm::<Bf16, NARROW>(job);
}

format_kernels!(
    in_bf16,
    Bf16,
    VECTORS,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"
);
format_kernels!(in_pairs, Int8<Pairs>, VECTORS, "avx512f,avx512bw,avx512vl,avx2,fma,f16c");
code_kernels!(
    codes_in_pairs,
    Pairs<true>,
    Pairs,
    ((), ()),
    VECTORS,
    "avx512f,avx512bw,avx512vl,avx2,fma,f16c"
);
format_kernels!(
    in_fours,
    Int8<Vnni>,
    VECTORS,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"
);
code_kernels!(
    codes_in_fours,
    Vnni<true>,
    Vnni,
    ((), ()),
    VECTORS,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"
);
vector_kernels!(Avx512, VECTORS, "avx512f,avx2,fma,f16c");

/// Whether products of bf16 take Intel's time: on an Emerald Rapids they are half as fast as those of f32.
fn is_intel() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

/// The kernels, if this machine has the instructions.
pub(super) fn kernels() -> Option<Kernels> {
    let first = first_kernels()?;
    let has_words = first.int8.is_some();
    let has_bf16 =
        has_words && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512dq");
    let has_vnni = has_words && is_x86_feature_detected!("avx512vnni");
    Some(Kernels {
        name: "avx512",
        fastest: if has_bf16 && !is_intel() { ComputeType::Bf16 } else { ComputeType::F32 },
        bf16: has_bf16.then_some(in_bf16::TABLE),
        int8: if has_vnni { Some(in_fours::TABLE) } else { first.int8 },
        codes: if has_vnni { Some(codes_in_fours::TABLE) } else { first.codes },
        gemm_bf16_narrow: has_bf16.then_some(gemm_bf16_narrow),
        ..first
    })
}

/// Those of the first processors that had AVX-512 (Skylake-SP), before the formats for networks came.
pub(super) fn first_kernels() -> Option<Kernels> {
    let has_words = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
    is_x86_feature_detected!("avx512f").then_some(Kernels {
        name: "avx512-2017",
        f16: Some(in_f16::TABLE),
        int8: has_words.then_some(in_pairs::TABLE),
        codes: has_words.then_some(codes_in_pairs::TABLE),
        ..BASE
    })
}
