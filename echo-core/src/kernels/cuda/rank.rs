//! The likeliest tokens, found on the device.
#![allow(unsafe_code)]

use super::context::Grid;
use super::weights::{Embedding, Norm};
use super::{Buffer, Cuda};
use crate::error::{Error, Result};
use crate::kernels::rank::{Ranked, Restriction};

/// Tokens that `rank.cu` has registers for: 52 in each of 1,024 threads.
pub(super) const MOST_TOKENS: usize = 52 * 1024;

/// Numbers for each row, see `rank.cu`.
const ROW_WORDS: usize = 8;

/// Ranges up to this long are listed token by token, a thread for each.
const SHORT_TOKENS: u32 = 8;

impl Cuda {
    /// The `count` likeliest tokens after each position.
    pub(super) fn ranked(
        &self,
        x: &Buffer,
        positions: &[usize],
        (norm, embedding): (&Norm, &Embedding),
        restrictions: &[Restriction],
        count: usize,
    ) -> Result<Vec<Ranked>> {
        let vocab = embedding.vocab;
        if vocab > MOST_TOKENS {
            return Err(Error::inference("rank", format!("a vocabulary of {vocab}")));
        }
        if restrictions.len() != positions.len() {
            let reason = format!("{} rules for {} rows", restrictions.len(), positions.len());
            return Err(Error::inference("rank", reason));
        }
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let plan = self.memory.upload_plan(&words(restrictions, vocab))?;
        let logits = self.project(x, positions, norm, embedding)?;
        let row_bytes = 4 * (1 + 2 * count);
        let answers = self.memory.take(positions.len() * row_bytes)?;
        let grid = Grid { blocks: (positions.len(), 1, 1), threads: 1024, shared_bytes: 0 };
        // SAFETY: there are `vocab` logits for each position, ranges end at the vocabulary's end,
        // and the answers have room for each row.
        unsafe {
            let arguments =
                &mut [logits.at(0), plan.at(0), answers.at(0), vocab.into(), count.into()];
            self.gpu.launch("rank", grid, arguments)?;
        }
        self.memory.read(&answers, positions.len() * row_bytes, |bytes| {
            bytes.chunks_exact(row_bytes).map(answer).collect()
        })
    }
}

/// What the kernel reads: the numbers of all rows, then their tokens and ranges.
fn words(restrictions: &[Restriction], vocab: usize) -> Vec<u32> {
    let mut words = vec![0; restrictions.len() * ROW_WORDS];
    let end = vocab as u32;
    for (row, restriction) in restrictions.iter().enumerate() {
        let list = words.len();
        let ranges = restriction.forbidden.iter();
        let ranges = ranges.map(|range| range.start.min(end)..range.end.min(end));
        let (short, long): (Vec<_>, Vec<_>) =
            ranges.partition(|range| range.len() <= SHORT_TOKENS as usize);
        words.extend(short.into_iter().flatten());
        let n_tokens = words.len() - list;
        words.extend(long.iter().flat_map(|range| [range.start, range.end]));
        // An empty group is never likelier than anything.
        let group = restriction.group.clone().unwrap_or(0..0);
        let numbers = [list, n_tokens, long.len(), 0].map(|number| number as u32);
        let own = &mut words[row * ROW_WORDS..][..ROW_WORDS];
        own[..4].copy_from_slice(&numbers);
        own[4..6].copy_from_slice(&[group.start.min(end), group.end.min(end)]);
    }
    words
}

fn answer(bytes: &[u8]) -> Ranked {
    let (words, _) = bytes.as_chunks::<4>();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let log_sum_exp = words.next().map_or(f32::NEG_INFINITY, f32::from_bits);
    let mut likeliest = Vec::with_capacity(words.len() / 2);
    while let (Some(token), Some(logit)) = (words.next(), words.next()) {
        let logit = f32::from_bits(logit);
        if logit > f32::NEG_INFINITY {
            likeliest.push((token, logit));
        }
    }
    Ranked { log_sum_exp, likeliest }
}
