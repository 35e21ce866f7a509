//! The table of kernels of one instruction set, and the choice among tables at run time.
//!
//! Kernels are generic over [`Vector`](super::vector::Vector) and inlined always; the macro
//! [`kernels_of!`] instantiates them inside functions with an instruction set's features.
//! A table exists only where the machine has these features, which is what makes its functions
//! safe to reach.

use super::attention::{AttendBlock, AttendPast};
use super::buffer::{Aligned, Target, View};
use super::gemm::Gemm;
use super::layout::Format;
use super::recurrent::Cells;

/// Caps the instruction set: `portable`, `avx2` or `avx512`. For tests and for doubts.
const CAP_VARIABLE: &str = "ECHO_CPU";

/// Scale and shift of a layer norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(super) weight: Aligned,
    pub(super) bias: Aligned,
}

/// The kernels of an instruction set.
///
/// # Safety of the function pointers
/// That of the generic kernel of the same name, less the instruction set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels {
    pub(super) name: &'static str,
    /// Outputs in a panel of packed weights.
    pub(super) width: usize,
    /// Outputs in a panel of weights that has few.
    pub(super) narrow_width: usize,
    pub(super) gemm_f32_narrow: unsafe fn(&Gemm<'_>),
    /// One step of the cells of an LSTM.
    pub(super) cells: unsafe fn(Cells<'_>),
    pub(super) gemm_f32: unsafe fn(&Gemm<'_>),
    pub(super) gemm_f16: unsafe fn(&Gemm<'_>),
    pub(super) attend: unsafe fn(&AttendBlock<'_>),
    pub(super) attend_past: unsafe fn(&AttendPast<'_>),
    /// Layer norm of a number of rows.
    pub(super) norm: unsafe fn(View, usize, &Norm, Target),
}

impl Kernels {
    /// The product kernel of a format.
    pub(super) fn gemm(&self, format: Format) -> unsafe fn(&Gemm<'_>) {
        match format {
            Format::F32 => self.gemm_f32,
            Format::F16 => self.gemm_f16,
        }
    }

    /// All tables this machine can use, best first.
    pub(super) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = [super::avx512::kernels(), super::avx2::kernels()];
        #[cfg(not(target_arch = "x86_64"))]
        let fast: [Option<Self>; 0] = [];
        fast.into_iter().flatten().chain([portable::KERNELS]).collect()
    }

    /// The best table, no better than the environment allows.
    pub(super) fn best() -> Self {
        let available = Self::available();
        let cap = std::env::var(CAP_VARIABLE).unwrap_or_default();
        let capped = available.iter().find(|kernels| kernels.name == cap);
        *capped.unwrap_or(&available[0])
    }
}

/// Makes `KERNELS` from a vector type, the vectors in a panel and the features to compile with.
macro_rules! kernels_of {
    ($name:literal, $vector:ty, $vectors:expr $(, features $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn gemm_f32(job: &$crate::kernels::cpu::gemm::Gemm<'_>) {
            $crate::kernels::cpu::gemm::gemm::<
                $crate::kernels::cpu::lane::F32<$vector>, { $vectors }>(job);
        }

        /// Vectors in a narrow panel: half as many.
        const NARROW: usize = usize::div_ceil($vectors, 2);

        $(#[target_feature(enable = $features)])?
        unsafe fn gemm_f32_narrow(job: &$crate::kernels::cpu::gemm::Gemm<'_>) {
            $crate::kernels::cpu::gemm::gemm::<
                $crate::kernels::cpu::lane::F32<$vector>, NARROW>(job);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn cells(job: $crate::kernels::cpu::recurrent::Cells<'_>) {
            $crate::kernels::cpu::recurrent::cells::<$vector>(job);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn gemm_f16(job: &$crate::kernels::cpu::gemm::Gemm<'_>) {
            $crate::kernels::cpu::gemm::gemm::<
                $crate::kernels::cpu::lane::F16<$vector>, { $vectors }>(job);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn attend(block: &$crate::kernels::cpu::attention::AttendBlock<'_>) {
            $crate::kernels::cpu::attention::attend::<
                $crate::kernels::cpu::lane::F32<$vector>, { $vectors }>(block);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn attend_past(job: &$crate::kernels::cpu::attention::AttendPast<'_>) {
            $crate::kernels::cpu::attention::attend_past::<$vector>(job);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn norm(
            x: $crate::kernels::cpu::buffer::View,
            rows: usize,
            norm: &$crate::kernels::cpu::isa::Norm,
            out: $crate::kernels::cpu::buffer::Target,
        ) {
            let (weight, bias) = (norm.weight.as_ptr(), norm.bias.as_ptr());
            for row in 0..rows {
                let (x, out) = (x.at(row, 0).data, out.at(row, 0).data);
                $crate::kernels::cpu::math::norm_row::<$vector>(x, weight, bias, norm.weight.len(), out);
            }
        }

        /// The kernels of this instruction set; only for machines that have it.
        pub(super) const KERNELS: $crate::kernels::cpu::isa::Kernels = $crate::kernels::cpu::isa::Kernels {
            name: $name,
            width: $vectors * <$vector as $crate::kernels::cpu::vector::Vector>::LEN,
            narrow_width: NARROW * <$vector as $crate::kernels::cpu::vector::Vector>::LEN,
            gemm_f32_narrow,
            cells,
            gemm_f32,
            gemm_f16,
            attend,
            attend_past,
            norm,
        };
    };
}
pub(super) use kernels_of;

mod portable {
    //! What every machine can do.
    #![expect(unsafe_op_in_unsafe_fn, reason = "the functions pass their callers' promise on")]

    use crate::kernels::cpu::vector::Portable;

    /// Vectors in a panel: as many as leave a tile of six rows in the registers that are always there,
    /// 32 of four floats on aarch64, 16 elsewhere.
    const VECTORS: usize = if cfg!(target_arch = "aarch64") { 2 } else { 1 };

    kernels_of!("portable", Portable, VECTORS);
}
