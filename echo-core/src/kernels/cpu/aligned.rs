//! Zeroed memory for vectors: it starts on a cache line, and what is large lies on huge pages.
//!
//! Weights, keys and values are read from end to end in each step of a decoder. On pages of 4 KiB the
//! processor looks up an address, and begins to fetch ahead anew, every 64 lines; on pages of 2 MiB
//! a whole transcription takes a twentieth less. Linux gives them to who asks. A piece is seldom a
//! multiple of one, so pieces share slabs; what lies in a slab is handed out once.

use std::ops::{Deref, DerefMut};

#[cfg(target_os = "linux")]
use super::slab::Piece;

/// A cache line, and the widest vector.
pub(super) const ALIGN_BYTES: usize = 64;

/// Zeroed 32-bit words that start on a cache line.
///
/// Fresh pages stay untouched until somebody writes to them.
#[derive(Debug)]
pub(crate) enum Aligned {
    /// So many words of memory from the heap.
    Heap { storage: Vec<f32>, start: usize, len: usize },
    /// Words that lie on huge pages.
    #[cfg(target_os = "linux")]
    Huge(Piece),
}

impl Aligned {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        #[cfg(target_os = "linux")]
        if let Some(piece) = Piece::zeroed(len) {
            return Self::Huge(piece);
        }
        let storage = vec![0.0f32; len + ALIGN_BYTES / 4];
        let start = storage.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES / 4);
        Self::Heap { storage, start, len }
    }

    /// A copy of `values`, filled up with zeros to a multiple of `multiple`.
    pub(crate) fn padded(values: &[f32], multiple: usize) -> Self {
        let mut padded = Self::zeroed(values.len().next_multiple_of(multiple));
        padded[..values.len()].copy_from_slice(values);
        padded
    }
}

impl Default for Aligned {
    fn default() -> Self {
        Self::Heap { storage: Vec::new(), start: 0, len: 0 }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        match self {
            Self::Heap { storage, start, len } => &storage[*start..*start + *len],
            #[cfg(target_os = "linux")]
            Self::Huge(piece) => piece,
        }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Heap { storage, start, len } => &mut storage[*start..*start + *len],
            #[cfg(target_os = "linux")]
            Self::Huge(piece) => piece,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeroed_and_padded() {
        for len in [0, 1, 17, 100_000, 1 << 18, 3_000_001, 9_000_000] {
            let mut memory = Aligned::zeroed(len);
            assert_eq!(memory.len(), len);
            assert!(len == 0 || memory.as_ptr().addr().is_multiple_of(ALIGN_BYTES));
            assert!(memory.iter().all(|&word| word == 0.0));
            memory.fill(1.5);
            assert!(memory.iter().all(|&word| word == 1.5));
        }
        assert_eq!(*Aligned::padded(&[1.0, 2.0, 3.0], 4), [1.0, 2.0, 3.0, 0.0]);
    }
}
