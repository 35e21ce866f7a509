//! Keys and values of the tokens said so far.
//!
//! They lie in slots, one for each token that was ever said, `(layers, 2, slots, d_model)`. A
//! hypothesis is the list of its tokens' slots; hypotheses with a common beginning share its slots,
//! and choosing among them copies lists on the host. Slots that no list names are found again when
//! they run out; only if few come free does the memory grow.

use super::Cuda;
use super::memory::Block;
use crate::error::{Error, Result};
use crate::kernels::Row;

const CONTEXT: &str = "key and value cache";

/// Slots for each hypothesis at first: a prompt and a long segment.
const FIRST_TOKENS: usize = 160;

/// Numbers in a plan for each token, see `self_attention.cu`.
const WORDS: usize = 4;

/// The cache of all layers and hypotheses.
#[derive(Debug)]
pub(crate) struct Past {
    layers: usize,
    pub(super) heads: usize,
    pub(super) d_model: usize,
    /// The most tokens of a hypothesis.
    capacity: usize,
    storage: Block,
    slots: usize,
    free: Vec<u32>,
    hypotheses: Vec<Vec<u32>>,
    step: Option<Step>,
}

/// The step under way.
#[derive(Debug)]
struct Step {
    rows: Vec<Row>,
    plan: Block,
}

impl Past {
    pub(super) fn new(
        cuda: &Cuda,
        (layers, heads, d_model): (usize, usize, usize),
        rows: usize,
        capacity: usize,
    ) -> Result<Self> {
        let slots = (rows * capacity.min(FIRST_TOKENS)).max(1);
        let storage = cuda.memory.take(layers * 2 * slots * d_model * 2)?;
        let hypotheses = vec![Vec::new(); rows];
        let free = (0..slots as u32).rev().collect();
        let step = None;
        Ok(Self { layers, heads, d_model, capacity, storage, slots, free, hypotheses, step })
    }

    /// First bytes of a layer's keys and values in the storage.
    pub(super) fn places(&self, layer: usize) -> (usize, usize) {
        let part_bytes = self.slots * self.d_model * 2;
        (2 * layer * part_bytes, (2 * layer + 1) * part_bytes)
    }

    pub(super) fn storage(&self) -> &Block {
        &self.storage
    }

    /// The plan of a step for one layer; the first layer's gives every new token a slot.
    pub(super) fn plan(&mut self, cuda: &Cuda, layer: usize, rows: &[Row]) -> Result<&Block> {
        if layer >= self.layers || rows.len() != self.hypotheses.len() {
            let reason = format!(
                "layer {layer} of {}, {} hypotheses in a cache of {}",
                self.layers,
                rows.len(),
                self.hypotheses.len()
            );
            return Err(Error::inference(CONTEXT, reason));
        }
        let is_known = layer > 0 && self.step.as_ref().is_some_and(|step| step.rows == rows);
        if !is_known {
            self.give_slots(cuda, rows)?;
            let plan = cuda.memory.upload_plan(&self.words(rows))?;
            self.step = Some(Step { rows: rows.to_vec(), plan });
        }
        match &self.step {
            Some(step) => Ok(&step.plan),
            None => Err(Error::inference(CONTEXT, "a step without a plan")),
        }
    }

    fn give_slots(&mut self, cuda: &Cuda, rows: &[Row]) -> Result<()> {
        let mut wanted = 0;
        for (row, slots) in rows.iter().zip(&mut self.hypotheses) {
            let length = row.past + row.tokens.len();
            if slots.len() < row.past || length > self.capacity {
                let reason =
                    format!("{length} tokens, {} cached of {}", slots.len(), self.capacity);
                return Err(Error::inference(CONTEXT, reason));
            }
            slots.truncate(row.past);
            wanted += row.tokens.len();
        }
        if self.free.len() < wanted {
            self.find_free(cuda, wanted)?;
        }
        for (row, slots) in rows.iter().zip(&mut self.hypotheses) {
            let rest = self.free.len() - row.tokens.len();
            slots.extend(self.free.drain(rest..).rev());
        }
        Ok(())
    }

    /// Collects slots that nobody lists; makes more when less than a quarter is free.
    fn find_free(&mut self, cuda: &Cuda, wanted: usize) -> Result<()> {
        let mut is_listed = vec![false; self.slots];
        for &slot in self.hypotheses.iter().flatten() {
            is_listed[slot as usize] = true;
        }
        self.free =
            (0..self.slots as u32).rev().filter(|&slot| !is_listed[slot as usize]).collect();
        if self.free.len() >= wanted.max(self.slots / 4) {
            return Ok(());
        }
        let (old_slots, slots) = (self.slots, (2 * self.slots).max(self.slots + wanted));
        let row_bytes = self.d_model * 2;
        let storage = cuda.memory.take(self.layers * 2 * slots * row_bytes)?;
        for part in 0..2 * self.layers {
            let from = (&self.storage, part * old_slots * row_bytes);
            cuda.memory.copy(from, (&storage, part * slots * row_bytes), old_slots * row_bytes)?;
        }
        self.free.splice(0..0, (old_slots as u32..slots as u32).rev());
        self.storage = storage;
        self.slots = slots;
        Ok(())
    }

    /// What the kernel reads: [`WORDS`] for each token of the step, then all lists of slots.
    fn words(&self, rows: &[Row]) -> Vec<u32> {
        let n_tokens = rows.iter().map(|row| row.tokens.end).max().unwrap_or(0);
        let mut words = vec![0; n_tokens * WORDS];
        for (row, slots) in rows.iter().zip(&self.hypotheses) {
            let list = words.len();
            words.extend_from_slice(slots);
            for (index, token) in row.tokens.clone().enumerate() {
                let numbers = [row.past + index, row.past, row.tokens.start, list];
                words[token * WORDS..][..WORDS].copy_from_slice(&numbers.map(|word| word as u32));
            }
        }
        words
    }

    /// Hypothesis `i` goes on from old hypothesis `parents[i]`.
    pub(super) fn select(&mut self, parents: &[usize]) -> Result<()> {
        let parent = |&parent: &usize| {
            let reason = || format!("hypothesis {parent} of {}", self.hypotheses.len());
            let slots = self.hypotheses.get(parent).cloned();
            slots.ok_or_else(|| Error::inference(CONTEXT, reason()))
        };
        self.hypotheses = parents.iter().map(parent).collect::<Result<_>>()?;
        Ok(())
    }
}
