//! Device memory: blocks that are kept when they are no longer used, and copies in and out.
//!
//! A step of the decoder takes and returns the same few sizes again and again, so nothing is asked
//! of the driver once a batch has been through. A returned block may be taken at once although
//! kernels that use it have not run yet: all work is in order on one stream.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::CUdeviceptr;
use rayon::prelude::*;

use super::context::{Argument, Gpu};
use crate::error::{Error, Result};

/// Copies to the device of at most this size go through page-locked memory.
const STAGED_BYTES: usize = 32 << 20;

/// Staged bytes that a thread copies at once.
const COPY_BYTES: usize = 256 << 10;

/// The memory of one device.
#[derive(Debug)]
pub(super) struct Memory {
    gpu: Arc<Gpu>,
    unused: Arc<Unused>,
    staging: Mutex<Staging>,
    landing: Mutex<Landing>,
}

/// Blocks that nobody uses, by their size.
#[derive(Debug)]
struct Unused {
    gpu: Arc<Gpu>,
    blocks: Mutex<HashMap<usize, Vec<CUdeviceptr>>>,
}

/// A piece of device memory.
#[derive(Debug)]
pub(super) struct Block {
    address: CUdeviceptr,
    size_bytes: usize,
    unused: Arc<Unused>,
}

/// Page-locked memory on the host, written front to back.
#[derive(Debug)]
struct Staging {
    pinned: Pinned,
    used_bytes: usize,
}

/// Page-locked memory on the host that answers are copied to.
#[derive(Debug)]
struct Landing {
    pinned: Option<Pinned>,
}

#[derive(Debug)]
struct Pinned {
    start: *mut u8,
    size_bytes: usize,
}

// SAFETY: the memory belongs to the process, not to a thread, and a `Pinned` is its only owner.
unsafe impl Send for Pinned {}

impl Memory {
    pub(super) fn new(gpu: Arc<Gpu>) -> Result<Self> {
        let staging = Staging { pinned: Pinned::new(STAGED_BYTES, &gpu)?, used_bytes: 0 };
        let unused = Arc::new(Unused { gpu: Arc::clone(&gpu), blocks: Mutex::default() });
        let landing = Mutex::new(Landing { pinned: None });
        Ok(Self { gpu, unused, staging: Mutex::new(staging), landing })
    }

    /// A block of at least so many bytes, with anything in it.
    pub(super) fn take(&self, size_bytes: usize) -> Result<Block> {
        let size_bytes = rounded(size_bytes);
        let kept = lock(&self.unused.blocks).get_mut(&size_bytes).and_then(Vec::pop);
        let address = match kept {
            Some(address) => address,
            None => self.allocate(size_bytes)?,
        };
        Ok(Block { address, size_bytes, unused: Arc::clone(&self.unused) })
    }

    fn allocate(&self, size_bytes: usize) -> Result<CUdeviceptr> {
        // SAFETY: the size is not zero, see `rounded`.
        let first = unsafe { result::malloc_sync(size_bytes) };
        first.or_else(|_| {
            // What is kept in other sizes may be enough.
            self.gpu.synchronize()?;
            self.unused.release();
            // SAFETY: as above.
            unsafe { result::malloc_sync(size_bytes) }.map_err(self.gpu.failed("device memory"))
        })
    }

    /// A block of zeros.
    pub(super) fn zeros(&self, size_bytes: usize) -> Result<Block> {
        let block = self.take(size_bytes)?;
        let stream = self.gpu.stream.cu_stream();
        // SAFETY: the block is `block.size_bytes` long.
        unsafe { result::memset_d8_async(block.address, 0, block.size_bytes, stream) }
            .map_err(self.gpu.failed("device memory"))?;
        Ok(block)
    }

    /// A block that holds `bytes`.
    pub(super) fn upload(&self, bytes: &[u8]) -> Result<Block> {
        let block = self.take(bytes.len())?;
        self.write(&block, 0, bytes)?;
        Ok(block)
    }

    /// Small integers, as kernels read their plans.
    pub(super) fn upload_plan(&self, plan: &[u32]) -> Result<Block> {
        // SAFETY: any four bytes of a u32 are four u8.
        let bytes = unsafe { std::slice::from_raw_parts(plan.as_ptr().cast(), size_of_val(plan)) };
        self.upload(bytes)
    }

    /// Copies `bytes` to `block` from byte `at` on.
    pub(super) fn write(&self, block: &Block, at: usize, bytes: &[u8]) -> Result<()> {
        if at.checked_add(bytes.len()).is_none_or(|end| end > block.size_bytes) {
            return Err(Error::inference("device memory", "a copy past the end of a block"));
        }
        let to = block.address + at as u64;
        let stream = self.gpu.stream.cu_stream();
        let failed = self.gpu.failed("copy to the device");
        if bytes.len() > STAGED_BYTES {
            // SAFETY: the block has room for the bytes from `at` on, as checked; the wait keeps
            // them borrowed until they are copied.
            unsafe { result::memcpy_htod_async(to, bytes, stream) }.map_err(failed)?;
            return self.gpu.synchronize();
        }
        let mut staging = lock(&self.staging);
        if staging.used_bytes + bytes.len() > STAGED_BYTES {
            // Copies out of the staging memory may be under way.
            self.gpu.synchronize()?;
            staging.used_bytes = 0;
        }
        let first = staging.used_bytes;
        let staged = &mut staging.pinned.as_mut_slice()[first..first + bytes.len()];
        if bytes.len() <= COPY_BYTES {
            staged.copy_from_slice(bytes);
        } else {
            // One core does not fill the bus.
            staged
                .par_chunks_mut(COPY_BYTES)
                .zip(bytes.par_chunks(COPY_BYTES))
                .for_each(|(to, from)| to.copy_from_slice(from));
        }
        // SAFETY: the block has room, as checked; the staged bytes are not written again before the
        // stream has been waited for.
        unsafe { result::memcpy_htod_async(to, staged, stream) }.map_err(failed)?;
        staging.used_bytes = (first + bytes.len()).next_multiple_of(16);
        Ok(())
    }

    /// Copies between blocks: (block, first byte) each.
    pub(super) fn copy(
        &self,
        (from, from_byte): (&Block, usize),
        (to, to_byte): (&Block, usize),
        size_bytes: usize,
    ) -> Result<()> {
        if from_byte + size_bytes > from.size_bytes || to_byte + size_bytes > to.size_bytes {
            return Err(Error::inference("device memory", "a copy past the end of a block"));
        }
        let (to, from) = (to.address + to_byte as u64, from.address + from_byte as u64);
        let stream = self.gpu.stream.cu_stream();
        // SAFETY: both ranges lie in their blocks, as checked, and blocks do not overlap.
        unsafe { result::memcpy_dtod_async(to, from, size_bytes, stream) }
            .map_err(self.gpu.failed("device memory"))
    }

    /// Waits for all work, then gives the first bytes of a block to `read`.
    pub(super) fn read<R>(
        &self,
        block: &Block,
        size_bytes: usize,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        if size_bytes > block.size_bytes {
            return Err(Error::inference("device memory", "a copy past the end of a block"));
        }
        let mut landing = lock(&self.landing);
        let pinned = match landing.pinned.take() {
            Some(pinned) if pinned.size_bytes >= size_bytes => pinned,
            _ => Pinned::new(size_bytes.next_power_of_two(), &self.gpu)?,
        };
        let pinned = landing.pinned.insert(pinned);
        let bytes = &mut pinned.as_mut_slice()[..size_bytes];
        let stream = self.gpu.stream.cu_stream();
        // SAFETY: the block is long enough, as checked; the wait keeps the bytes borrowed until
        // they are copied.
        unsafe { result::memcpy_dtoh_async(bytes, block.address, stream) }
            .map_err(self.gpu.failed("copy to the host"))?;
        self.gpu.synchronize()?;
        Ok(read(bytes))
    }

    /// The same as 32-bit floats.
    pub(super) fn read_f32(&self, block: &Block, count: usize) -> Result<Vec<f32>> {
        self.read(block, 4 * count, |bytes| {
            let (values, _) = bytes.as_chunks::<4>();
            values.iter().map(|value| f32::from_le_bytes(*value)).collect()
        })
    }
}

impl Block {
    /// The address, as a kernel's argument.
    pub(super) fn at(&self, byte: usize) -> Argument {
        Argument::Address(self.address + byte as u64)
    }

    /// The address as a number, for tables of addresses and libraries.
    pub(super) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        lock(&self.unused.blocks).entry(self.size_bytes).or_default().push(self.address);
    }
}

impl Unused {
    /// Gives everything back to the driver.
    fn release(&self) {
        for (_, addresses) in lock(&self.blocks).drain() {
            for address in addresses {
                // SAFETY: the address came from `malloc_sync`, and whoever had the block returned
                // it. A failure to free leaves memory in use and nothing to be done about it.
                let _ = unsafe { result::free_sync(address) };
            }
        }
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            let _ = self.gpu.synchronize();
            self.release();
        }
    }
}

impl Pinned {
    fn new(size_bytes: usize, gpu: &Gpu) -> Result<Self> {
        let size_bytes = size_bytes.max(1);
        // SAFETY: the size is not zero; flags of zero ask for plain page-locked memory.
        let start = unsafe { result::malloc_host(size_bytes, 0) };
        let start = start.map_err(gpu.failed("page-locked memory"))?;
        // SAFETY: the memory was just given, so long; bytes can be written before they are read.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, size_bytes) };
        Ok(Self { start: start.cast(), size_bytes })
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the memory is so long, was written when it was made, and nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.size_bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the address came from `malloc_host` and is freed once.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

/// Few different sizes, so that blocks fit again: steps of an eighth of the power of two below.
fn rounded(size_bytes: usize) -> usize {
    let step = (size_bytes.next_power_of_two() / 16).max(512);
    size_bytes.max(1).next_multiple_of(step)
}

/// Nothing is left half done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn blocks_come_in_few_sizes_with_little_waste() {
        assert_eq!(rounded(0), 512);
        assert_eq!(rounded(513), 1024);
        for size in [1, 5000, 12_345_678, 1 << 33] {
            assert!(
                rounded(size) >= size && (rounded(size) - size) as f64 <= 512.0 + size as f64 / 8.0
            );
        }
    }
}
