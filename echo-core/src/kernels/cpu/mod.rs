//! Echo's own kernels for CPUs.
//!
//! From the bottom up: [`vector`] is what a register can do, [`avx2`] and [`avx512`] say it in
//! instructions; [`lane`] forms products in a number format; [`gemm`], [`attention`] and [`math`]
//! are the kernels, written once and instantiated for each instruction set by [`isa`]. [`layout`]
//! packs weights as the kernels read them, [`buffer`] lends memory, [`pool`] is the threads.
//! [`dense`] serves small networks with both kernels and [`recurrent`] cells, thread by thread.
//! [`product`], [`encoder`] and [`decoder`] cut the verbs of [`Backend`](super::Backend) into chunks
//! for the pool, with [`cache`] as the decoder's memory, and [`verbs`] is the trait itself.
#![expect(unsafe_code, reason = "kernels are vector instructions on memory that threads share")]

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod buffer;
mod cache;
mod decoder;
pub(crate) mod dense;
mod encoder;
mod gemm;
mod isa;
mod lane;
mod layout;
mod math;
mod pool;
mod product;
mod recurrent;
mod rows;
mod vector;
mod verbs;

use std::num::NonZero;
use std::sync::Arc;

use buffer::Arena;
use isa::Kernels;
use pool::Pool;

/// The CPU as a device: kernels chosen for the machine at hand, threads, and memory in reserve.
pub(crate) struct Cpu {
    kernels: Kernels,
    pool: Pool,
    arena: Arc<Arena>,
}

impl Cpu {
    /// A backend that computes on `threads` threads, the caller's included; zero means as many as
    /// the machine has processors.
    pub(crate) fn new(threads: usize) -> Self {
        let all = || std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_kernels(Kernels::best(), if threads == 0 { all() } else { threads })
    }

    fn with_kernels(kernels: Kernels, threads: usize) -> Self {
        Self { kernels, pool: Pool::new(threads), arena: Arc::new(Arena::default()) }
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
