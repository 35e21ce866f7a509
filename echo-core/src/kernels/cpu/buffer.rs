//! Memory for kernels, lent out and taken back, and the rows in it.
//!
//! An encoder needs the same few sizes for every window and layer. Asking the system each time
//! costs a page fault for every 4 KiB touched, a tenth of the encoder's time, so an [`Arena`] keeps
//! what was given back.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::aligned::Aligned;

/// Most pieces an arena keeps.
const KEPT: usize = 16;

/// Pieces of memory that were given back and wait to be lent again.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    free: Mutex<Vec<Aligned>>,
}

/// Memory of its own, given back to the system: for what stays long, of a size that seldom comes again.
pub(crate) fn own(len: usize) -> Lent {
    Lent { piece: Aligned::zeroed(len), len, arena: None }
}

/// A piece of an arena's memory, given back when dropped, or memory of its [`own`].
#[derive(Debug)]
pub(crate) struct Lent {
    piece: Aligned,
    len: usize,
    arena: Option<Arc<Arena>>,
}

impl Arena {
    /// Lends `len` words. They hold whatever the last borrower left.
    pub(crate) fn lend(self: &Arc<Self>, len: usize) -> Lent {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that fits, but none so large that it would be missed elsewhere.
        let fitting = free
            .iter()
            .enumerate()
            .filter(|(_, p)| p.len() >= len && p.len() <= len + len / 4 + 1024);
        let best = fitting.min_by_key(|(_, piece)| piece.len()).map(|(index, _)| index);
        let piece = best.map(|index| free.swap_remove(index));
        drop(free);
        let piece = piece.unwrap_or_else(|| Aligned::zeroed(len));
        Lent { piece, len, arena: Some(Arc::clone(self)) }
    }

    /// Gives what nobody borrows back to the system.
    pub(crate) fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(arena) = &self.arena else { return };
        let mut free = arena.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() >= KEPT {
            free.remove(0);
        }
        free.push(std::mem::take(&mut self.piece));
    }
}

impl Deref for Lent {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.piece[..self.len]
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.piece[..self.len]
    }
}

/// Activations: `rows` times `columns` floats, row after row.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) data: Lent,
}

impl Buffer {
    /// A buffer whose contents are yet to be written.
    pub(crate) fn new(arena: &Arc<Arena>, rows: usize, columns: usize) -> Self {
        Self { rows, columns, data: arena.lend(rows * columns) }
    }
}

/// Rows that kernels read: the first value and the distance between rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) data: *const f32,
    pub(crate) stride: usize,
}

/// Rows that kernels write, each thread its own part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) data: *mut f32,
    pub(crate) stride: usize,
}

// SAFETY: a view is an address; who dereferences it answers for what lies there.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}
// SAFETY: as above, and for writing to parts that no other thread touches.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl View {
    /// The rows of a slice, `stride` values apart.
    pub(crate) fn new(data: &[f32], stride: usize) -> Self {
        Self { data: data.as_ptr(), stride }
    }

    /// The view that starts `row` rows and `column` columns further on.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> Self {
        Self { data: self.data.wrapping_add(row * self.stride + column), ..self }
    }
}

impl Target {
    /// The rows of a slice, `stride` values apart.
    pub(crate) fn new(data: &mut [f32], stride: usize) -> Self {
        Self { data: data.as_mut_ptr(), stride }
    }

    /// The target that starts `row` rows and `column` columns further on.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> Self {
        Self { data: self.data.wrapping_add(row * self.stride + column), ..self }
    }

    /// The same rows, to be read.
    #[inline(always)]
    pub(crate) fn as_view(self) -> View {
        View { data: self.data, stride: self.stride }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_lends_the_same_memory_again_but_never_twice() {
        let arena = Arc::new(Arena::default());
        let first = arena.lend(1000);
        let address = first.as_ptr();
        assert_ne!(arena.lend(1000).as_ptr(), address);
        drop(first);
        let (again, other) = (arena.lend(900), arena.lend(900));
        assert!(again.as_ptr() == address || other.as_ptr() == address);
        assert_eq!((again.len(), other.len()), (900, 900));
    }

    #[test]
    fn an_arena_keeps_a_bounded_number_of_pieces() {
        let arena = Arc::new(Arena::default());
        let pieces = (0..2 * KEPT).map(|_| arena.lend(10)).collect::<Vec<_>>();
        drop(pieces);
        assert_eq!(arena.free.lock().unwrap().len(), KEPT);
    }
}
