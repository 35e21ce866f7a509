//! Echo's own kernels for CPUs.
//!
//! From the bottom up: [`vector`] is what a register can do; [`avx2`], [`avx512`] and `neon` say it in
//! instructions; [`lane`] forms products in a number format, [`lanes_int8`] in int8 on all of them,
//! [`amx`] many at once; [`gemm`], [`attention`], [`codes`] (attention to int8) and [`math`] are the
//! kernels, written once and instantiated for each instruction set by [`isa`]. [`layout`] packs weights as
//! the kernels read them, [`buffer`] lends memory, [`pool`] is the threads. Memory is had and given back
//! by [`slab`] for kernels, [`large`] for whole programs, [`trim`] for what is left. [`dense`] serves small
//! networks with both kernels and [`recurrent`] cells, thread by thread.
//! [`product`], [`encoder`] and [`decoder`] cut the verbs of [`Backend`](super::Backend) into chunks
//! for the pool, with [`cache`] as the decoder's memory, and [`verbs`] is the trait itself.
#![expect(unsafe_code, reason = "kernels are vector instructions on memory that threads share")]

mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod buffer;
mod cache;
mod codes;
mod decoder;
pub(crate) mod dense;
mod encoder;
mod gemm;
mod isa;
mod lane;
#[cfg(target_arch = "x86_64")]
mod lanes_avx2;
#[cfg(target_arch = "x86_64")]
mod lanes_avx512;
mod lanes_int8;
pub(crate) mod large;
mod layout;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pool;
mod product;
mod recurrent;
mod rows;
#[cfg(target_os = "linux")]
mod slab;
#[cfg(feature = "bench")]
pub(crate) mod speed;
pub(crate) mod trim;
mod vector;
mod verbs;

use std::num::NonZero;
use std::sync::Arc;

use buffer::Arena;
use isa::Kernels;
use layout::Format;
use pool::Pool;

use crate::device::ComputeType;
use crate::error::{Error, Result};

/// The CPU as a device: kernels chosen for the machine at hand, threads, and memory in reserve.
pub(crate) struct Cpu {
    kernels: Kernels,
    precision: Precision,
    pool: Pool,
    arena: Arc<Arena>,
}

/// The formats that parts of a network are stored and multiplied in.
#[derive(Debug, Clone, Copy)]
struct Precision {
    /// Linear layers and the token table; `None` keeps halves as halves where there are
    /// kernels for them, all else as f32.
    linear: Option<Format>,
    /// The two convolutions, likewise.
    stem: Option<Format>,
    /// Keys and values of windows, an encoder's and those that a decoder attends to.
    attention: Format,
}

impl Cpu {
    /// A backend that computes on `threads` threads, the caller's included; zero means as many as
    /// the machine has processors.
    ///
    /// # Errors
    /// [`Error::Option`] if this machine has no instructions for the format.
    pub(crate) fn new(compute: ComputeType, threads: usize) -> Result<Self> {
        let all = || std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_kernels(Kernels::best(), compute, if threads == 0 { all() } else { threads })
    }

    /// The fastest format of this machine that costs no words: bf16 where its products are fast
    /// instructions, f32 elsewhere. int8 is faster still, but costs some words of long recordings.
    pub(crate) fn fastest() -> ComputeType {
        Kernels::best().fastest
    }

    /// The instruction set computed with: others round differently.
    pub(crate) fn instructions() -> &'static str {
        Kernels::best().name
    }

    fn with_kernels(kernels: Kernels, compute: ComputeType, threads: usize) -> Result<Self> {
        let wrong = |expected| {
            Err(Error::Option { option: "compute_type", value: compute.to_string(), expected })
        };
        let bf16 = Some(Format::Bf16).filter(|&format| kernels.has(format));
        let int8 = Some(Format::Int8).filter(|&format| kernels.has(format));
        let (linear, stem) = match compute {
            ComputeType::Auto | ComputeType::F32 => (None, None),
            ComputeType::Bf16 if bf16.is_some() => (bf16, bf16),
            ComputeType::Int8 if int8.is_some() => {
                (int8, bf16.filter(|_| kernels.fastest == ComputeType::Bf16))
            }
            ComputeType::Bf16 => return wrong("f32 or int8 on a processor without AVX512-BF16"),
            ComputeType::Int8 => return wrong("f32 on this processor"),
            ComputeType::F16 => return wrong("auto, f32, bf16 or int8 on the CPU"),
        };
        let narrow = bf16.or(Some(Format::F16).filter(|&format| kernels.has(format)));
        let steps = linear.filter(|format| format.has_steps() && kernels.codes.is_some());
        let attention = steps.or(narrow.filter(|_| linear.is_some())).unwrap_or(Format::F32);
        let precision = Precision { linear, stem, attention };
        Ok(Self { kernels, precision, pool: Pool::new(threads), arena: Arc::default() })
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = self.pool.threads();
        f.debug_struct("Cpu")
            .field("kernels", &self.kernels.name)
            .field("threads", &threads)
            .finish()
    }
}

#[cfg(test)]
mod tests;
