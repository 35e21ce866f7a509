//! An allocator for programs that load and drop models.

use std::alloc::{GlobalAlloc, Layout, System};

/// Takes large blocks from the operating system and gives them back the moment they are freed;
/// smaller ones are the system allocator's.
///
/// glibc learns from large blocks that come and go: it then serves them from the heaps of its threads
/// and keeps up to 64 MiB free on each. A process that loads one model after the other stays some tens
/// of MB smaller with this allocator; it costs no time that could be measured. Off Linux it is the
/// system's allocator and nothing else.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: echo_core::LargeBlocks = echo_core::LargeBlocks;
///
/// let hour = vec![0_f32; 3600 * 16_000];
/// assert_eq!(hour.len(), 57_600_000);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LargeBlocks;

/// The smallest block that is worth a call of the operating system.
const LEAST_BYTES: usize = 256 << 10;
/// What mapped memory is aligned to at least.
const ALIGN_BYTES: usize = 4 << 10;

/// Whether a block is mapped; the same for as long as it keeps its size.
fn is_mapped(size: usize, align: usize) -> bool {
    cfg!(target_os = "linux") && size >= LEAST_BYTES && align <= ALIGN_BYTES
}

// SAFETY: a layout alone decides whose a block is, so whoever gave it takes it back; mapped blocks are
// zeroed, as large as was asked for, and aligned to a page.
unsafe impl GlobalAlloc for LargeBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout.size(), layout.align()) {
            return system::map(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout.size(), layout.align()) {
            return system::map(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_mapped(layout.size(), layout.align()) {
            // SAFETY: `map` gave a block of this size, and nobody uses it any more.
            return unsafe { system::unmap(block, layout.size()) };
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (is_mapped(layout.size(), layout.align()), is_mapped(size, layout.align())) {
            // SAFETY: as the caller promises.
            (false, false) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: `map` gave a block of the old size.
            (true, true) => unsafe { system::resize(block, layout.size(), size) },
            // SAFETY: the caller promises that this size makes a layout; both blocks hold as many
            // bytes as are copied, and the old one is given up once they are.
            _ => unsafe {
                let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                if !moved.is_null() {
                    std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::ptr::null_mut;

    /// Zeroed memory on pages of its own; null if there is none.
    pub(super) fn map(size: usize) -> *mut u8 {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the system chooses addresses that nobody has.
        or_null(unsafe { libc::mmap(null_mut(), size, access, kind, -1, 0) })
    }

    /// The same bytes in a block of another size; null, and the block stays, if there is no memory.
    pub(super) unsafe fn resize(block: *mut u8, old: usize, new: usize) -> *mut u8 {
        // SAFETY: the caller owns the block; the system moves its pages if they do not fit.
        or_null(unsafe { libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE) })
    }

    /// Gives a block back.
    pub(super) unsafe fn unmap(block: *mut u8, size: usize) {
        // SAFETY: the caller owns the block.
        if unsafe { libc::munmap(block.cast(), size) } != 0 {
            // The system joins maps that touch, this block was within one, and there is no room for the
            // two that are left of it: the addresses stay, the pages go.
            // SAFETY: as above.
            unsafe { libc::madvise(block.cast(), size, libc::MADV_DONTNEED) };
        }
    }

    fn or_null(block: *mut libc::c_void) -> *mut u8 {
        if block == libc::MAP_FAILED { null_mut() } else { block.cast() }
    }
}

/// Nothing is mapped here, so nothing is called.
#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn map(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub(super) unsafe fn resize(_: *mut u8, _: usize, _: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub(super) unsafe fn unmap(_: *mut u8, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_block_keeps_its_bytes_from_size_to_size() {
        for align in [1, 64, 4096, 8192] {
            let (mut size, mut kept) = (1000, 1000);
            // SAFETY: each block is used within its size and given back once, by the layout it has.
            unsafe {
                let mut block = LargeBlocks.alloc(layout(size, align));
                (0..size).for_each(|at| block.add(at).write(at as u8));
                for next in [300_000, 299_999, 5_000_000, 262_144, 262_143, 70, 262_144, 262_145] {
                    block = LargeBlocks.realloc(block, layout(size, align), next);
                    assert_eq!(block as usize % align, 0, "{next} {align}");
                    (size, kept) = (next, next.min(kept));
                    assert!((0..kept).all(|at| *block.add(at) == at as u8), "{next} {align}");
                    *block.add(size - 1) = (size - 1) as u8;
                }
                LargeBlocks.dealloc(block, layout(size, align));
            }
        }
    }

    #[test]
    fn zeroed_blocks_are_zero_and_what_cannot_be_had_is_null() {
        for size in [100, LEAST_BYTES - 1, LEAST_BYTES, 3_000_001] {
            // SAFETY: as above.
            unsafe {
                let block = LargeBlocks.alloc_zeroed(layout(size, 8));
                assert!((0..size).all(|at| *block.add(at) == 0), "{size}");
                LargeBlocks.dealloc(block, layout(size, 8));
            }
        }
        let size = isize::MAX as usize & !4095;
        // SAFETY: nothing is written to.
        unsafe {
            assert!(LargeBlocks.alloc(layout(size, 8)).is_null());
            let block = LargeBlocks.alloc(layout(LEAST_BYTES, 8));
            assert!(LargeBlocks.realloc(block, layout(LEAST_BYTES, 8), size).is_null());
            block.write(7); // is still the caller's
            LargeBlocks.dealloc(block, layout(LEAST_BYTES, 8));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_freed_is_gone_at_once() {
        let layout = layout(40 << 20, 8);
        // SAFETY: as above; the address is looked for, not used, once it is freed.
        let block = unsafe {
            let block = LargeBlocks.alloc(layout);
            (0..layout.size()).step_by(4096).for_each(|at| block.add(at).write(1));
            LargeBlocks.dealloc(block, layout);
            block as usize
        };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let holds = |line: &&str| {
            let ends = line.split(' ').next().and_then(|range| range.split_once('-'));
            let [start, end] = ends.map(|(start, end)| [start, end]).unwrap();
            let [start, end] = [start, end].map(|end| usize::from_str_radix(end, 16).unwrap_or(0));
            start <= block && block + layout.size() <= end
        };
        assert_eq!(maps.lines().find(holds), None);
    }
}
