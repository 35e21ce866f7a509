//! Large pieces of zeroed memory on huge pages, many in a slab.
//!
//! A slab is mapped memory of some tens of MiB of which a page is taken when it is first written to.
//! Pieces are cut off its front and never given out again; a piece that is dropped gives its pages
//! back at once, and the slab's addresses are free when its last piece is.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{Advice, MmapMut, UncheckedAdvice};

use super::aligned::ALIGN_BYTES;

/// Smaller pieces are the heap's: what many threads need for a moment.
const LEAST_BYTES: usize = 256 << 10;
/// Larger pieces have a slab of their own.
const MOST_BYTES: usize = 16 << 20;
/// 16 huge pages.
const SLAB_BYTES: usize = 32 << 20;
/// A page, or a multiple of every one there is, but huge ones.
const PAGE_BYTES: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// The slab that pieces are cut off.
static OPEN: Mutex<Option<Slab>> = Mutex::new(None);

#[derive(Debug)]
struct Slab {
    map: Arc<MmapMut>,
    used_bytes: usize,
}

impl Slab {
    fn new(bytes: usize) -> Option<Self> {
        let map = MmapMut::map_anon(bytes).ok()?;
        // A kernel without huge pages says no, and has given what it has.
        let _ = map.advise(Advice::HugePage);
        Some(Self { map: Arc::new(map), used_bytes: 0 })
    }

    /// The next so many words; `None` if they are not there any more.
    fn cut(&mut self, len: usize) -> Option<Piece> {
        let start_bytes = self.used_bytes.next_multiple_of(ALIGN_BYTES);
        let end_bytes = start_bytes.checked_add(len.checked_mul(size_of::<f32>())?)?;
        if end_bytes > self.map.len() {
            return None;
        }
        self.used_bytes = end_bytes;
        Some(Piece { map: Arc::clone(&self.map), start_bytes, len })
    }
}

/// Words of a slab that are this piece's alone.
#[derive(Debug)]
pub(crate) struct Piece {
    map: Arc<MmapMut>,
    start_bytes: usize,
    len: usize,
}

impl Piece {
    /// `len` zeros; `None` if that is too few for a slab, or there is no memory to map.
    pub(super) fn zeroed(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        if bytes < LEAST_BYTES {
            return None;
        }
        if bytes > MOST_BYTES {
            return Slab::new(bytes)?.cut(len);
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = open.as_mut().and_then(|slab| slab.cut(len)) {
            return Some(piece);
        }
        let mut slab = Slab::new(SLAB_BYTES)?;
        let piece = slab.cut(len);
        *open = Some(slab);
        piece
    }
}

impl Deref for Piece {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        let start = self.map.as_ptr().wrapping_add(self.start_bytes).cast();
        // SAFETY: the words lie within the map, on a cache line, and any bits are an f32; they were
        // cut off once, so whoever writes to them has borrowed this piece.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = self.map.as_ptr().wrapping_add(self.start_bytes).cast_mut().cast();
        // SAFETY: as above; the map can be written to.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let first = self.start_bytes.next_multiple_of(PAGE_BYTES);
        let end = self.start_bytes + self.len * size_of::<f32>();
        let len = (end / PAGE_BYTES * PAGE_BYTES).saturating_sub(first);
        // SAFETY: only pages that lie within this piece lose what they hold, and nobody looks at it.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, first, len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_slab_do_not_touch_each_other() {
        let words = LEAST_BYTES / 4 + 5;
        let mut pieces: Vec<_> = (0..300).map(|_| Piece::zeroed(words).unwrap()).collect();
        for (index, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.iter().all(|&word| word == 0.0));
            piece.fill(index as f32);
        }
        // What is dropped takes nothing with it.
        let kept: Vec<_> = pieces.into_iter().enumerate().filter(|(n, _)| n % 3 == 0).collect();
        for (index, piece) in &kept {
            assert!(piece.iter().all(|&word| word == *index as f32), "{index}");
        }
    }

    #[test]
    fn small_pieces_are_not_a_slabs_and_large_ones_have_their_own() {
        assert!(Piece::zeroed(0).is_none() && Piece::zeroed(1000).is_none());
        assert!(Piece::zeroed(usize::MAX).is_none());
        let large = Piece::zeroed(MOST_BYTES).unwrap();
        assert_eq!((large.len(), Arc::strong_count(&large.map)), (MOST_BYTES, 1));
    }
}
