//! The decoder's verbs: attention to the past and to the sound, embeddings and logits.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Cpu;
use super::aligned::Aligned;
use super::attention::{AttendBlock, AttendPast, MOST_QUERIES, PackedHeads};
use super::buffer::{Buffer, Target, View};
use super::cache::Past;
use super::gemm::MAX_WIDTH;
use super::isa::Norm;
use super::layout::Packed;
use super::product::Product;
use crate::error::{Error, Result};
use crate::kernels::rank::{Ranked, Restriction, rank_restricted};
use crate::kernels::{CollectedAttention, FRAMES, Row};

/// Products of query and key, times width, that one thread does alone: some 20 microseconds.
const SMALL_ATTENTION: usize = 200_000;

/// The token table, which is also the output projection, and the positions.
#[derive(Debug)]
pub(crate) struct Embedding {
    pub(super) tokens: Packed,
    /// `(text_context, d_model)`.
    pub(super) positions: Aligned,
}

/// The keys and values of one decoder layer over the frames of a batch of windows.
#[derive(Debug)]
pub(crate) struct Cross {
    pub(super) windows: Vec<PackedHeads>,
    pub(super) heads: usize,
}

impl Cpu {
    /// Keys and values of one layer for each window.
    pub(super) fn pack_cross(
        &self,
        encoded: &Buffer,
        kv: &Packed,
        batch: usize,
        heads: usize,
    ) -> Cross {
        let frames = encoded.rows / batch.max(1);
        let windows = (0..batch)
            .map(|window| {
                let input = View::new(&encoded.data, encoded.columns).at(window * frames, 0);
                // Keys and values are all outputs: nothing is in front of them.
                let nothing = Target::new(&mut [], 0);
                let product = Product::new(frames, input, kv, nothing);
                // SAFETY: a window has `frames` rows.
                unsafe { self.project_heads(&product, heads, self.precision.attention) }
            })
            .collect();
        Cross { windows, heads }
    }

    /// Token plus position embeddings.
    pub(super) fn embed_rows(
        &self,
        embedding: &Embedding,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<Buffer> {
        let d_model = embedding.tokens.inputs;
        let mut out = Buffer::new(&self.arena, tokens.len(), d_model);
        let rows = out.data.chunks_exact_mut(d_model.max(1));
        for ((row, &token), &position) in rows.zip(tokens).zip(positions) {
            let (token, start) = (token as usize, position as usize * d_model);
            let place = embedding.positions.get(start..start + d_model);
            let Some(place) = place.filter(|_| token < embedding.tokens.outputs) else {
                let what = format!("token {token} at position {position} is outside the tables");
                return Err(Error::inference("token embedding", what));
            };
            embedding.tokens.output(token, row);
            row.iter_mut().zip(place).for_each(|(value, place)| *value += place);
        }
        Ok(out)
    }

    /// Appends to one layer of the past and attends causally.
    pub(super) fn attend_to_past(
        &self,
        qkv: &Buffer,
        past: &mut Past,
        layer: usize,
        rows: &[Row],
    ) -> Result<Buffer> {
        let (d_model, d_head) = (past.d_model, past.d_model / past.heads);
        // Where everything is that each new token looks at; tokens of a hypothesis share a list.
        let (mut views, mut tokens) = (Vec::new(), Vec::with_capacity(qkv.rows));
        let mut pairs = 0;
        for (hypothesis, row) in rows.iter().enumerate() {
            let len = row.past + row.tokens.len();
            past.extend(hypothesis, row.past, len)?;
            for (position, token) in (row.past..len).zip(row.tokens.clone()) {
                let start = token * qkv.columns;
                let key_value = &qkv.data[start + d_model..start + 3 * d_model];
                past.store(layer, hypothesis, position, key_value);
                tokens.push(views.len()..views.len() + position + 1);
                pairs += position + 1;
            }
            past.views(layer, hypothesis, &mut views);
        }
        let mut out = Buffer::new(&self.arena, qkv.rows, d_model);
        let output = Target::new(&mut out.data, d_model);
        let longest = tokens.iter().map(Range::len).max().unwrap_or_default();
        let attend_past =
            if past.in_halves { self.kernels.attend_past_halves } else { self.kernels.attend_past };
        // Hypotheses share most of their past, so a head of all of them stays in the cache.
        let attend = |head: usize| {
            let mut scratch = self.arena.lend(longest.next_multiple_of(MAX_WIDTH));
            for (token, seen) in tokens.iter().enumerate() {
                let column = head * d_head;
                let job = AttendPast {
                    query: qkv.data[token * qkv.columns + column..].as_ptr(),
                    past: &views[seen.clone()],
                    offset: head * past.head_words(),
                    d_head,
                    scale: (d_head as f32).powf(-0.5),
                    scratch: scratch.as_mut_ptr(),
                    output: output.at(token, column).data,
                };
                // SAFETY: the kernels are of this machine, the slots hold a key and a value each, and
                // every head writes its own columns.
                unsafe { attend_past(&job) };
            }
        };
        if pairs * d_model < SMALL_ATTENTION {
            (0..past.heads).for_each(attend);
        } else {
            self.pool.run(past.heads, &attend);
        }
        Ok(out)
    }

    /// Attends from new tokens to the frames of their windows. Tokens of all hypotheses of a window
    /// go together, so its keys and values are read once for up to [`MOST_QUERIES`] of them.
    pub(super) fn attend_to_cross(
        &self,
        q: &Buffer,
        cross: &Cross,
        rows: &[Row],
        collect: Option<&mut CollectedAttention>,
    ) -> Result<Buffer> {
        let d_model = q.columns;
        let (heads, d_head) = (cross.heads, d_model / cross.heads);
        let mut out = Buffer::new(&self.arena, q.rows, d_model);
        let output = Target::new(&mut out.data, d_model);
        let blocks = query_blocks(rows, cross.windows.len())?;
        let mut nothing = CollectedAttention::default();
        let collect = collect.unwrap_or(&mut nothing);
        collect.weights.clear();
        collect.weights.resize(collect.heads.len() * q.rows * FRAMES, 0.0);
        let collected = Target::new(&mut collect.weights, FRAMES);
        self.pool.run(blocks.len() * heads, &|item| {
            let ((window, tokens), head) = (&blocks[item / heads], item % heads);
            let keys_values = &cross.windows[*window];
            let mut scratch = self.arena.lend(keys_values.shape.scratch_words());
            let wanted = collect.heads.iter().position(|&wanted| wanted == head);
            let block = AttendBlock {
                queries: View::new(&q.data, d_model).at(0, head * d_head),
                rows: tokens,
                scale: (d_head as f32).powf(-0.5),
                head: keys_values.head(head),
                output: output.at(0, head * d_head),
                scratch: scratch.as_mut_ptr(),
                probabilities: wanted.map(|index| collected.at(index * q.rows, 0)),
            };
            let attend = self.kernels.attention_to(keys_values.shape.format);
            // SAFETY: the kernels are of this machine, sizes are as the buffers were made, and every
            // item writes its own columns of its own rows.
            unsafe { attend(&block) };
        });
        // A head may be asked for twice.
        for (index, head) in collect.heads.iter().enumerate() {
            let first = collect.heads.iter().position(|other| other == head).unwrap_or(index);
            let len = q.rows * FRAMES;
            if first < index {
                collect.weights.copy_within(first * len..(first + 1) * len, index * len);
            }
        }
        Ok(out)
    }

    /// Layer norm and output projection of some rows into `logits`, `(positions, vocab)`.
    pub(super) fn project(
        &self,
        x: &Buffer,
        positions: &[usize],
        (norm, embedding): (&Norm, &Embedding),
        logits: &mut [f32],
    ) {
        let d_model = x.columns;
        let mut chosen = self.arena.lend(positions.len() * d_model);
        for (row, &position) in chosen.chunks_exact_mut(d_model.max(1)).zip(positions) {
            row.copy_from_slice(&x.data[position * d_model..(position + 1) * d_model]);
        }
        let vocab = embedding.tokens.outputs;
        let input = View::new(&chosen, d_model);
        let output = Target::new(logits, vocab);
        let product = Product::new(positions.len(), input, &embedding.tokens, output);
        // SAFETY: both buffers were made for these rows.
        unsafe { self.multiply(&Product { norm: Some(norm), ..product }) };
    }

    /// The likeliest tokens after some rows, without a copy of their logits.
    pub(super) fn rank_rows(
        &self,
        x: &Buffer,
        positions: &[usize],
        weights: (&Norm, &Embedding),
        restrictions: &[Restriction],
        count: usize,
    ) -> Vec<Ranked> {
        let vocab = weights.1.tokens.outputs;
        let mut logits = self.arena.lend(positions.len() * vocab);
        self.project(x, positions, weights, &mut logits);
        // SAFETY: the kernels are of this machine.
        let log_sum_exp = |logits: &[f32]| unsafe { (self.kernels.log_sum_exp)(logits) };
        let rows: Vec<_> = logits.chunks_exact_mut(vocab.max(1)).map(Mutex::new).collect();
        let ranked: Vec<OnceLock<Ranked>> = rows.iter().map(|_| OnceLock::new()).collect();
        self.pool.run(rows.len(), &|row| {
            let mut logits = rows[row].lock().unwrap_or_else(PoisonError::into_inner);
            let ranks = rank_restricted(&mut logits, &restrictions[row], count, &log_sum_exp);
            ranked[row].get_or_init(|| ranks);
        });
        ranked.into_iter().map(|ranked| ranked.into_inner().unwrap_or_default()).collect()
    }
}

/// New tokens grouped by window, at most [`MOST_QUERIES`] together.
fn query_blocks(rows: &[Row], windows: usize) -> Result<Vec<(usize, Vec<usize>)>> {
    let mut blocks: Vec<(usize, Vec<usize>)> = Vec::new();
    for row in rows {
        if row.window >= windows {
            let what = format!("window {} of {windows}", row.window);
            return Err(Error::inference("cross-attention", what));
        }
        for token in row.tokens.clone() {
            let open = blocks
                .iter_mut()
                .rfind(|(window, tokens)| *window == row.window && tokens.len() < MOST_QUERIES);
            match open {
                Some((_, tokens)) => tokens.push(token),
                None => blocks.push((row.window, vec![token])),
            }
        }
    }
    Ok(blocks)
}
