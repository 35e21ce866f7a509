//! The table of kernels of one instruction set, and the choice among tables at run time.
//!
//! Kernels are generic over [`Vector`] and [`Lane`] and inlined always; the macros here instantiate
//! them inside functions with an instruction set's features. A table exists only where the machine
//! has these features, which is what makes its functions safe to reach.

use super::aligned::Aligned;
use super::attention::{AttendBlock, AttendPast};
use super::buffer::{Target, View};
use super::codes::Encode;
use super::gemm::Gemm;
use super::lane::Lane;
use super::layout::{Format, Layout};
use super::math::norm_row;
use super::recurrent::Cells;
use super::vector::Vector;
use crate::device::ComputeType;

/// Caps the instruction set: the name of one, see [`Kernels::available`]. For tests and for doubts.
const CAP_VARIABLE: &str = "ECHO_CPU";

/// Scale and shift of a layer norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(super) weight: Aligned,
    pub(super) bias: Aligned,
}

/// The kernels of one format on one instruction set.
///
/// # Safety of the function pointers
/// That of the generic function of the same name, less the instruction set.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormatKernels {
    pub(super) gemm: unsafe fn(&Gemm<'_>),
    pub(super) attend: unsafe fn(&AttendBlock<'_>),
    /// How many queries of many to give it at once.
    pub(super) block_queries: usize,
    /// See [`Lane::MOST_CODE`].
    pub(super) most_code: i32,
    /// Turns a number of rows into activation lanes; see [`Prepare`].
    pub(super) prepare: unsafe fn(&Prepare),
    /// Nothing but products, as many rounds as asked for; returns the number of operations.
    #[cfg(feature = "bench")]
    pub(super) peak: unsafe fn(usize) -> usize,
}

/// The kernels of keys and values in int8, safe as the functions of the same names.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodeKernels {
    pub(super) attend: unsafe fn(&AttendBlock<'_>),
    pub(super) encode: unsafe fn(&Encode),
}

/// The kernels of an instruction set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels {
    pub(super) name: &'static str,
    /// The format that is fastest among those that cost no words.
    pub(super) fastest: ComputeType,
    /// Outputs in a panel of packed weights.
    pub(super) width: usize,
    /// Rows that a thread takes at once: whole tiles, and few enough to stay in its cache.
    pub(super) block_rows: usize,
    pub(super) tile_rows: usize,
    pub(super) f32: FormatKernels,
    pub(super) f16: Option<FormatKernels>,
    pub(super) bf16: Option<FormatKernels>,
    pub(super) int8: Option<FormatKernels>,
    /// For keys and values in int8.
    pub(super) codes: Option<CodeKernels>,
    /// Outputs in a panel of weights that has few.
    pub(super) narrow_width: usize,
    pub(super) gemm_f32_narrow: unsafe fn(&Gemm<'_>),
    /// Where there is [`bf16`](Self::bf16).
    pub(super) gemm_bf16_narrow: Option<unsafe fn(&Gemm<'_>)>,
    /// One step of the cells of an LSTM.
    pub(super) cells: unsafe fn(Cells<'_>),
    /// Safe as the function of that name.
    pub(super) attend_past: unsafe fn(&AttendPast<'_>),
    /// The same where keys and values are stored as half floats.
    pub(super) attend_past_halves: unsafe fn(&AttendPast<'_>),
    /// `ln(sum(e^logits))`.
    pub(super) log_sum_exp: unsafe fn(&[f32]) -> f32,
    /// The largest of some floats, to see how fast they are read.
    #[cfg(feature = "bench")]
    pub(super) read: unsafe fn(&[f32]) -> f32,
    /// Layer norm of a number of rows; safe as [`norm_row`](super::math::norm_row).
    pub(super) norm: unsafe fn(View, usize, &Norm, Target),
}

impl Kernels {
    /// The kernels of a format, which is one that [`has`](Self::has) said yes to.
    pub(super) fn of(&self, format: Format) -> FormatKernels {
        let kernels = match format {
            Format::F32 => Some(self.f32),
            Format::F16 => self.f16,
            Format::Bf16 => self.bf16,
            Format::Int8 => self.int8,
        };
        kernels.expect("weights are packed only in formats that the instruction set has")
    }

    /// How the kernels of a format, which is there, want weights.
    pub(super) fn layout(&self, format: Format) -> Layout {
        Layout { format, width: self.width, most_code: self.of(format).most_code }
    }

    /// Attention to keys and values of a format that there are kernels for.
    pub(super) fn attention_to(&self, format: Format) -> unsafe fn(&AttendBlock<'_>) {
        match self.codes {
            Some(codes) if format.has_steps() => codes.attend,
            _ => self.of(format).attend,
        }
    }

    /// Whether there are kernels for a format.
    pub(super) fn has(&self, format: Format) -> bool {
        match format {
            Format::F32 => true,
            Format::F16 => self.f16.is_some(),
            Format::Bf16 => self.bf16.is_some(),
            Format::Int8 => self.int8.is_some(),
        }
    }

    /// All tables this machine can use, best first.
    pub(super) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = [
            super::amx::kernels(),
            super::avx512::kernels(),
            super::avx512::first_kernels(),
            super::avx2::kernels_with_vnni(),
            super::avx2::kernels(),
        ];
        #[cfg(target_arch = "aarch64")]
        let fast = [super::neon::kernels()];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let fast: [Option<Self>; 0] = [];
        fast.into_iter().flatten().chain([portable::kernels()]).collect()
    }

    /// The best table, no better than the environment allows.
    pub(super) fn best() -> Self {
        let available = Self::available();
        let cap = std::env::var(CAP_VARIABLE).unwrap_or_default();
        let capped = available.iter().find(|kernels| kernels.name == cap);
        *capped.unwrap_or(&available[0])
    }
}

/// Rows to be turned into activation lanes.
#[derive(Debug)]
pub(super) struct Prepare {
    pub(super) rows: usize,
    pub(super) input: View,
    /// Values in a row.
    pub(super) len: usize,
    pub(super) norm: Option<*const Norm>,
    /// A row of floats to norm into.
    pub(super) normed: *mut f32,
    /// Rows of lanes, each 32 bits.
    pub(super) lanes: Target,
    /// One for each row, or null if the format has none.
    pub(super) scales: *mut f32,
}

/// Makes a module `$name` with the [`FormatKernels`] of a lane type in `TABLE`, compiled with some
/// features, for panels of so many vectors.
macro_rules! format_kernels {
    ($name:ident, $lane:ty, $vectors:expr $(, $features:literal)?) => {
        mod $name {
            use super::*;
            use $crate::kernels::cpu::attention::{AttendBlock, attend as attend_generic};
            use $crate::kernels::cpu::gemm::{Gemm, gemm as gemm_generic};
            use $crate::kernels::cpu::isa::{FormatKernels, Prepare, prepare_rows};
            use $crate::kernels::cpu::lane::{Lane, Unit};

            $(#[target_feature(enable = $features)])?
            unsafe fn gemm(job: &Gemm<'_>) {
                gemm_generic::<$lane, { $vectors }>(job);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn attend(block: &AttendBlock<'_>) {
                attend_generic::<$lane, { $vectors }>(block);
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn prepare(job: &Prepare) {
                prepare_rows::<$lane>(job);
            }

            #[cfg(feature = "bench")]
            $(#[target_feature(enable = $features)])?
            unsafe fn peak(rounds: usize) -> usize {
                $crate::kernels::cpu::lane::peak::<$lane>(rounds)
            }

            pub(super) const TABLE: FormatKernels = FormatKernels {
                gemm,
                attend,
                block_queries: <<$lane as Lane>::Unit as Unit>::BLOCK_QUERIES,
                most_code: <$lane as Lane>::MOST_CODE,
                prepare,
                #[cfg(feature = "bench")]
                peak,
            };
        }
    };
}
pub(super) use format_kernels;

/// Makes a module `$name` with the [`CodeKernels`] of instructions and units for keys and for values,
/// compiled with some features, for panels of so many vectors.
macro_rules! code_kernels {
    ($name:ident, $keys:ty, $values:ty, $units:ty, $vectors:expr, $features:literal) => {
        mod $name {
            use super::*;
            use $crate::kernels::cpu::attention::AttendBlock;
            use $crate::kernels::cpu::codes;
            use $crate::kernels::cpu::isa::CodeKernels;

            #[target_feature(enable = $features)]
            unsafe fn attend(block: &AttendBlock<'_>) {
                codes::attend::<$keys, $values, $units, { $vectors }>(block);
            }

            #[target_feature(enable = $features)]
            unsafe fn encode(job: &codes::Encode) {
                codes::encode::<$keys, $values>(job);
            }

            pub(super) const TABLE: CodeKernels = CodeKernels { attend, encode };
        }
    };
}
pub(super) use code_kernels;

/// Makes `BASE`, the kernels of a vector type in f32 and no other format, compiled with some features,
/// for panels of so many vectors.
macro_rules! vector_kernels {
    ($vector:ty, $vectors:expr $(, $features:literal)?) => {
        $crate::kernels::cpu::isa::format_kernels!(
            in_f32, $crate::kernels::cpu::lane::F32<$vector>, $vectors $(, $features)?);

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
        unsafe fn attend_past(job: &$crate::kernels::cpu::attention::AttendPast<'_>) {
            $crate::kernels::cpu::attention::attend_past::<
                $crate::kernels::cpu::lane::F32<$vector>>(job);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn attend_past_halves(job: &$crate::kernels::cpu::attention::AttendPast<'_>) {
            $crate::kernels::cpu::attention::attend_past::<
                $crate::kernels::cpu::lane::F16<$vector>>(job);
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn log_sum_exp(logits: &[f32]) -> f32 {
            $crate::kernels::cpu::math::log_sum_exp::<$vector>(logits)
        }

        #[cfg(feature = "bench")]
        $(#[target_feature(enable = $features)])?
        unsafe fn read(values: &[f32]) -> f32 {
            $crate::kernels::cpu::lane::read::<$vector>(values)
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn norm(
            x: $crate::kernels::cpu::buffer::View,
            rows: usize,
            norm: &$crate::kernels::cpu::isa::Norm,
            out: $crate::kernels::cpu::buffer::Target,
        ) {
            $crate::kernels::cpu::isa::norm_rows::<$vector>(x, rows, norm, out);
        }

        const BASE: $crate::kernels::cpu::isa::Kernels = $crate::kernels::cpu::isa::Kernels {
            name: "portable",
            fastest: $crate::device::ComputeType::F32,
            width: $vectors * <$vector as $crate::kernels::cpu::vector::Vector>::LEN,
            block_rows: <() as $crate::kernels::cpu::lane::Unit>::BLOCK_ROWS,
            tile_rows: $crate::kernels::cpu::gemm::TILE_ROWS,
            f32: in_f32::TABLE,
            f16: None,
            bf16: None,
            int8: None,
            codes: None,
            narrow_width: NARROW * <$vector as $crate::kernels::cpu::vector::Vector>::LEN,
            gemm_f32_narrow,
            gemm_bf16_narrow: None,
            cells,
            attend_past,
            attend_past_halves,
            log_sum_exp,
            #[cfg(feature = "bench")]
            read,
            norm,
        };
    };
}
pub(super) use vector_kernels;

/// Layer norm of a number of rows.
///
/// # Safety
/// See [`Vector`]; `x` and `out` have the rows, of the norm's width.
#[inline(always)]
pub(super) unsafe fn norm_rows<V: Vector>(x: View, rows: usize, norm: &Norm, out: Target) {
    let (weight, bias) = (norm.weight.as_ptr(), norm.bias.as_ptr());
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            let (x, out) = (x.at(row, 0).data, out.at(row, 0).data);
            norm_row::<V>(x, weight, bias, norm.weight.len(), out);
        }
    }
}

/// Norms rows, if asked to, and turns them into lanes.
///
/// # Safety
/// As for [`Lane`]; pointers are valid for the sizes given.
#[inline(always)]
pub(super) unsafe fn prepare_rows<L: Lane>(job: &Prepare) {
    for row in 0..job.rows {
        // SAFETY: the caller's promise.
        unsafe {
            let mut input = job.input.at(row, 0);
            if let Some(norm) = job.norm {
                let normed = Target { data: job.normed, stride: 0 };
                norm_rows::<L::Vector>(input, 1, &*norm, normed);
                input = normed.as_view();
            }
            let scale = L::prepare(input.data, job.len, job.lanes.at(row, 0).data.cast());
            if !job.scales.is_null() {
                *job.scales.add(row) = scale;
            }
        }
    }
}

mod portable {
    //! What every machine can do.
    #![expect(unsafe_op_in_unsafe_fn, reason = "the functions pass their callers' promise on")]

    use crate::kernels::cpu::vector::Portable;

    // A tile of six rows by one vector leaves four of 16 registers of four floats for the rest.
    vector_kernels!(Portable, 1);

    pub(super) fn kernels() -> super::Kernels {
        BASE
    }
}
