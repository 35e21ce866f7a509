//! Keys and values of the tokens said so far, shared by hypotheses that began alike.
//!
//! A slot holds one token's key and value in every layer. A hypothesis is a list of slots, one for
//! each position; choosing among beams copies lists, never keys or values. A slot is free again
//! when no list names it. Slots come in blocks that are allocated as texts grow, so a cache costs
//! what its hypotheses have said, not what they might say.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::aligned::Aligned;
use super::attention::PAST_LANES;
use super::buffer::View;
use crate::error::{Error, Result};

/// Slots allocated at a time: of `base`, in halves, as many bytes as the least piece on huge pages,
/// which goes back to the system when it is dropped.
const BLOCK_SLOTS: usize = 128;

/// The cache of a decoder's self-attention.
#[derive(Debug)]
pub(crate) struct Past {
    pub(super) heads: usize,
    pub(super) d_model: usize,
    /// Whether keys and values are stored as half floats, at half the memory.
    pub(super) in_halves: bool,
    /// For each layer, blocks of slots: `[head][slot in block][key, then value of the head]`, so that
    /// a head reads memory in order. (Whole slots side by side would put the parts of a head 4 KiB
    /// apart, where they push each other out of the cache.) Keys and values are filled up with zeros
    /// to a multiple of [`PAST_LANES`].
    layers: Vec<Vec<Aligned>>,
    /// For each hypothesis, the slots of its positions.
    hypotheses: Vec<Vec<u32>>,
    /// For each slot, how many hypotheses name it.
    uses: Vec<u32>,
    free: Vec<u32>,
}

fn misuse(what: &'static str) -> Error {
    Error::inference("the decoder's cache", what)
}

impl Past {
    pub(super) fn new(
        layers: usize,
        (heads, d_model): (usize, usize),
        rows: usize,
        in_halves: bool,
    ) -> Self {
        Self {
            heads,
            d_model,
            in_halves,
            layers: (0..layers).map(|_| Vec::new()).collect(),
            hypotheses: vec![Vec::new(); rows],
            uses: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many layers have keys and values here.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Makes hypothesis `row` at least `len` tokens long; positions before `known` must be there.
    pub(super) fn extend(&mut self, row: usize, known: usize, len: usize) -> Result<()> {
        let hypothesis = self.hypotheses.get_mut(row).ok_or(misuse("no such hypothesis"))?;
        if hypothesis.len() < known {
            return Err(misuse("a hypothesis skips positions"));
        }
        while hypothesis.len() < len {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.uses.push(0);
                (self.uses.len() - 1) as u32
            });
            self.uses[slot as usize] = 1;
            hypothesis.push(slot);
        }
        Ok(())
    }

    /// Stores a token's key and value, `2 * d_model` floats, at a position of a hypothesis.
    pub(super) fn store(&mut self, layer: usize, row: usize, position: usize, key_value: &[f32]) {
        let slot = self.hypotheses[row][position] as usize;
        let (block_words, slot_words) = (self.heads * self.head_words(), self.slot_words());
        let (in_halves, d_head) = (self.in_halves, self.d_model / self.heads);
        let blocks = &mut self.layers[layer];
        while blocks.len() <= slot / BLOCK_SLOTS {
            blocks.push(Aligned::zeroed(block_words));
        }
        let (keys, values) = key_value.split_at(self.d_model);
        let places = blocks[slot / BLOCK_SLOTS].chunks_exact_mut(slot_words);
        let places = places.skip(slot % BLOCK_SLOTS).step_by(BLOCK_SLOTS);
        let parts = keys.chunks_exact(d_head).zip(values.chunks_exact(d_head));
        for (place, (key, value)) in places.zip(parts) {
            let (key_place, value_place) = place.split_at_mut(slot_words / 2);
            for (place, values) in [(key_place, key), (value_place, value)] {
                if in_halves {
                    // SAFETY: the words are this slice's, two halves each, and any bits are a half.
                    let (_, halves, _) = unsafe { place.align_to_mut::<f16>() };
                    halves[..d_head].convert_from_f32_slice(values);
                } else {
                    place[..d_head].copy_from_slice(values);
                }
            }
        }
    }

    /// Where the keys and values of the first head of a hypothesis lie in a layer, position by
    /// position; those of the next head lie [`head_words`](Self::head_words) further on.
    pub(super) fn views(&self, layer: usize, row: usize, views: &mut Vec<View>) {
        let (slot_words, blocks) = (self.slot_words(), &self.layers[layer]);
        views.extend(self.hypotheses[row].iter().map(|&slot| {
            let (block, slot) = (slot as usize / BLOCK_SLOTS, slot as usize % BLOCK_SLOTS);
            View::new(&blocks[block][slot * slot_words..], 0)
        }));
    }

    /// Words that the key and the value of a head take.
    fn slot_words(&self) -> usize {
        let lanes = 2 * (self.d_model / self.heads).next_multiple_of(PAST_LANES);
        if self.in_halves { lanes / 2 } else { lanes }
    }

    /// Words from one head to the next.
    pub(super) fn head_words(&self) -> usize {
        BLOCK_SLOTS * self.slot_words()
    }

    /// Hypothesis `i` goes on from old hypothesis `parents[i]`.
    pub(super) fn select(&mut self, parents: &[usize]) -> Result<()> {
        if parents.iter().any(|&parent| parent >= self.hypotheses.len()) {
            return Err(misuse("a parent that does not exist"));
        }
        let children = parents.iter().map(|&parent| self.hypotheses[parent].clone()).collect();
        let old = std::mem::replace(&mut self.hypotheses, children);
        for &slot in self.hypotheses.iter().flatten() {
            self.uses[slot as usize] += 1;
        }
        for slot in old.into_iter().flatten() {
            self.uses[slot as usize] -= 1;
            if self.uses[slot as usize] == 0 {
                self.free.push(slot);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(past: &Past, row: usize) -> Vec<f32> {
        let mut views = Vec::new();
        past.views(0, row, &mut views);
        // SAFETY: a view of the cache points to a slot that it keeps.
        views.iter().map(|view| unsafe { *view.data }).collect()
    }

    fn say(past: &mut Past, row: usize, value: f32) {
        let len = past.hypotheses[row].len();
        past.extend(row, len, len + 1).unwrap();
        past.store(0, row, len, &[value, 0.0]);
    }

    #[test]
    fn children_share_the_past_and_go_their_own_ways() {
        let mut past = Past::new(1, (1, 1), 2, false);
        say(&mut past, 0, 1.0);
        say(&mut past, 1, 2.0);
        past.select(&[0, 0, 1]).unwrap();
        for (row, value) in [3.0, 4.0, 5.0].into_iter().enumerate() {
            say(&mut past, row, value);
        }
        let all = (0..3).map(|row| said(&past, row)).collect::<Vec<_>>();
        assert_eq!(all, [[1.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
    }

    #[test]
    fn slots_nobody_names_are_used_again() {
        let mut past = Past::new(1, (1, 1), 4, false);
        for step in 0..1000 {
            for row in 0..4 {
                say(&mut past, row, step as f32);
            }
            let parents = if step % 50 == 49 { [3; 4] } else { [1, 1, 2, 0] };
            past.select(&parents).unwrap();
            if step % 100 == 99 {
                // Forget everything, as a session does that starts anew.
                past.select(&[]).unwrap();
                past.hypotheses = vec![Vec::new(); 4];
            }
        }
        assert!(past.uses.len() <= 400, "{} slots for 4 x 100 tokens", past.uses.len());
        assert_eq!(past.free.len(), past.uses.len());
    }

    #[test]
    fn misuse_is_an_error() {
        let mut past = Past::new(1, (1, 1), 1, false);
        assert!(past.extend(1, 0, 1).is_err());
        assert!(past.extend(0, 1, 2).is_err());
        assert!(past.select(&[1]).is_err());
    }
}
