//! NEON, which every aarch64 has, with the dot product of int8 where there is one: Arm's servers since
//! the Neoverse N1 (2019), Apple's processors, phones since the Cortex-A55 and A76 (2018).
//!
//! Stable Rust has no intrinsics for half floats and dot products: these are single instructions of
//! assembly.
#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an instruction, whose one precondition is the caller's"
)]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::isa::{Kernels, code_kernels, format_kernels, vector_kernels};
use super::lane::{F16, FromHalf};
use super::lanes_int8::{Dot, Int8, Integers};
use super::vector::Vector;

#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t);

impl Vector for Neon {
    const LEN: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(vdupq_n_f32(value))
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        asm!("prfm pldl2keep, [{address}]", address = in(reg) address,
            options(nostack, readonly, preserves_flags));
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(vld1q_f32(from))
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; 4];
        from.copy_to_nonoverlapping(values.as_mut_ptr(), count);
        Self::load(values.as_ptr())
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        vst1q_f32(to, self.0);
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut values = [0.0; 4];
        self.store(values.as_mut_ptr());
        values.as_ptr().copy_to_nonoverlapping(to, count);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(vaddq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(vsubq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(vmulq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(vmaxnmq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(vminnmq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(vfmaq_f32(term.0, self.0, factor.0))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(vabsq_f32(self.0))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(vrndnq_f32(self.0))
    }

    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        let biased = vaddq_s32(vcvtq_s32_f32(exponent.0), vdupq_n_s32(127));
        Self(vmulq_f32(self.0, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))))
    }

    #[inline(always)]
    unsafe fn recip(self) -> Self {
        // Eight bits from the table, doubled twice by steps of Newton's method.
        let rough = vrecpeq_f32(self.0);
        let better = vmulq_f32(rough, vrecpsq_f32(self.0, rough));
        Self(vmulq_f32(better, vrecpsq_f32(self.0, better)))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        vaddvq_f32(self.0)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        vmaxnmvq_f32(self.0)
    }
}

impl FromHalf for Neon {
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        let floats;
        asm!("fcvtl {floats:v}.4s, {halves:v}.4h", floats = lateout(vreg) floats,
            halves = in(vreg) vld1_u16(from), options(pure, nomem, nostack, preserves_flags));
        Self(floats)
    }
}

impl Integers for Neon {
    type Ints = int32x4_t;

    #[inline(always)]
    unsafe fn splat_int(value: i32) -> int32x4_t {
        vdupq_n_s32(value)
    }

    #[inline(always)]
    unsafe fn load_ints(from: *const u8) -> int32x4_t {
        vreinterpretq_s32_u8(vld1q_u8(from))
    }

    #[inline(always)]
    unsafe fn add_ints(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }

    #[inline(always)]
    unsafe fn sub_ints(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vsubq_s32(a, b)
    }

    #[inline(always)]
    unsafe fn from_ints(ints: int32x4_t) -> Self {
        Self(vcvtq_f32_s32(ints))
    }

    #[inline(always)]
    unsafe fn nearest_ints(self) -> int32x4_t {
        vcvtnq_s32_f32(self.0)
    }

    #[inline(always)]
    unsafe fn store_bytes(ints: int32x4_t, to: *mut u8, _count: usize) {
        let words = vmovn_s32(ints);
        let bytes = vmovn_s16(vcombine_s16(words, words));
        to.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
    }
}

/// Four int8 to a lane: signed times signed.
struct Signed;

impl Dot for Signed {
    type Vector = Neon;

    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, activation: int32x4_t, weights: int32x4_t) -> int32x4_t {
        let mut sum = sum;
        asm!("sdot {sum:v}.4s, {activation:v}.16b, {weights:v}.16b", sum = inout(vreg) sum,
            activation = in(vreg) activation, weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags));
        sum
    }
}

/// Unsigned times unsigned: shares of attention times values.
struct Unsigned;

impl Dot for Unsigned {
    type Vector = Neon;
    const ACTIVATIONS_ARE_UNSIGNED: bool = true;
    const WEIGHTS_ARE_UNSIGNED: bool = true;

    #[inline(always)]
    unsafe fn dot(sum: int32x4_t, activation: int32x4_t, weights: int32x4_t) -> int32x4_t {
        let mut sum = sum;
        asm!("udot {sum:v}.4s, {activation:v}.16b, {weights:v}.16b", sum = inout(vreg) sum,
            activation = in(vreg) activation, weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags));
        sum
    }
}

/// Vectors in a panel: a tile of six rows by four vectors leaves eight of 32 registers for the rest.
const VECTORS: usize = 4;

format_kernels!(in_f16, F16<Neon>, VECTORS, "neon");
format_kernels!(in_int8, Int8<Signed>, VECTORS, "neon,dotprod");
code_kernels!(in_codes, Signed, Unsigned, ((), ()), VECTORS, "neon,dotprod");
vector_kernels!(Neon, VECTORS, "neon");

/// The kernels, if this machine has the instructions.
pub(super) fn kernels() -> Option<Kernels> {
    let has_dot = is_aarch64_feature_detected!("dotprod");
    is_aarch64_feature_detected!("neon").then_some(Kernels {
        name: "neon",
        f16: Some(in_f16::TABLE),
        int8: has_dot.then_some(in_int8::TABLE),
        codes: has_dot.then_some(in_codes::TABLE),
        ..BASE
    })
}
