//! What kernels ask of a machine's vector registers, and the portable answer.
//!
//! Kernels are written once over [`Vector`] and are instantiated inside functions that carry the
//! `target_feature`s of an instruction set (see [`isa`](super::isa)): everything here and in the
//! kernels is `#[inline(always)]`, so that it is compiled with those features.

/// A register of 32-bit floats.
///
/// Each method is the obvious operation on every element.
///
/// # Safety
/// Methods may use instructions of the implementor's instruction set, which the caller has checked
/// for. Pointers are valid for as many floats as are read or written, and need no alignment.
pub(super) trait Vector: Copy {
    /// Floats in a register.
    const LEN: usize;

    unsafe fn splat(value: f32) -> Self;
    /// Has the cache fetch what lies there, if it can; any address will do.
    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` floats, fewer than [`LEN`](Self::LEN), and zeros.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Stores the first `count` floats, fewer than [`LEN`](Self::LEN).
    unsafe fn store_part(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once where the machine can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// To the nearest integer.
    unsafe fn round(self) -> Self;
    /// `self * 2^exponent` for integral exponents of -126 to 127.
    unsafe fn scale(self, exponent: Self) -> Self;
    /// `1 / self` to at least 22 bits.
    unsafe fn recip(self) -> Self;
    /// All elements added.
    unsafe fn sum(self) -> f32;
    /// The largest element.
    unsafe fn largest(self) -> f32;
}

/// Eight floats in an array, which compilers turn into whatever the target always has: SSE2 on
/// x86-64.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|index| f(self.0[index], other.0[index])))
    }
}

impl Vector for Portable {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives eight floats; an array of floats needs no more than is read.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut values = [0.0; 8];
        // SAFETY: the caller gives `count` floats.
        unsafe { from.copy_to_nonoverlapping(values.as_mut_ptr(), count.min(8)) };
        Self(values)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller gives room for eight floats.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the caller gives room for `count` floats.
        unsafe { self.0.as_ptr().copy_to_nonoverlapping(to, count.min(8)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // Two roundings: one would be a call of a library where there is no instruction for it.
        self.zip(factor, |a, b| a * b).zip(term, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and taking away 1.5 * 2^23 leaves the nearest integer of anything below 2^22.
        const SHIFT: f32 = 12_582_912.0;
        self.map(|value| (value + SHIFT) - SHIFT)
    }

    #[inline(always)]
    unsafe fn scale(self, exponent: Self) -> Self {
        self.zip(exponent, |value, exponent| {
            value * f32::from_bits(((exponent as i32 + 127) as u32) << 23)
        })
    }

    #[inline(always)]
    unsafe fn recip(self) -> Self {
        self.map(|value| 1.0 / value)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
}
