//! Hypotheses being extended: the decoder's half of the network, with its caches.

use super::model::Whisper;
use super::network::{Encoded, Session};
use crate::error::{Error, Result};
use crate::kernels::rank::{Ranked, Restriction};
use crate::kernels::{Backend, CollectedAttention, FRAMES, Row};

const CONTEXT: &str = "decoder";

/// The state of some hypotheses over a batch of encoded windows.
pub(super) struct Decoding<'a, B: Backend> {
    model: &'a Whisper<B>,
    cross: &'a [B::Cross],
    past: B::Past,
    /// Of each hypothesis: its window, and how many tokens it has.
    hypotheses: Vec<Hypothesis>,
}

#[derive(Debug, Clone, Copy)]
struct Hypothesis {
    window: usize,
    length: usize,
}

impl<'a, B: Backend> Decoding<'a, B> {
    /// Hypothesis `i` listens to window `windows[i]` and has said nothing.
    pub(super) fn new(
        model: &'a Whisper<B>,
        encoded: &'a Encoded,
        windows: &[usize],
    ) -> Result<Self> {
        let Some(cross) = encoded.state.downcast_ref::<Vec<B::Cross>>() else {
            return Err(Error::inference(CONTEXT, "windows were encoded by another network"));
        };
        if let Some(window) = windows.iter().find(|&&window| window >= encoded.windows) {
            let reason = format!("window {window} of {}", encoded.windows);
            return Err(Error::inference(CONTEXT, reason));
        }
        let config = &model.config;
        let past = model.backend.past(
            config.decoder_layers,
            config.decoder_heads,
            config.d_model,
            windows.len(),
            config.text_context,
        )?;
        let hypotheses = windows.iter().map(|&window| Hypothesis { window, length: 0 }).collect();
        Ok(Self { model, cross, past, hypotheses })
    }

    /// Where the step's tokens lie, checked to fit the context and the vocabulary.
    fn rows(&self, tokens: &[&[u32]]) -> Result<Vec<Row>> {
        let config = &self.model.config;
        if tokens.len() != self.hypotheses.len() {
            let reason = format!("{} rows for {}", tokens.len(), self.hypotheses.len());
            return Err(Error::inference(CONTEXT, reason));
        }
        let mut rows = Vec::with_capacity(tokens.len());
        let mut start = 0;
        for (hypothesis, tokens) in self.hypotheses.iter().zip(tokens) {
            let Hypothesis { window, length: past } = *hypothesis;
            if past + tokens.len() > config.text_context {
                let reason = format!("more than {} tokens", config.text_context);
                return Err(Error::inference(CONTEXT, reason));
            }
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= config.vocab) {
                let reason = format!("token {token} of a vocabulary of {}", config.vocab);
                return Err(Error::inference(CONTEXT, reason));
            }
            rows.push(Row { window, tokens: start..start + tokens.len(), past });
            start += tokens.len();
        }
        Ok(rows)
    }

    /// Runs all layers over the new tokens: their activations, and which of them are `wanted`, if
    /// any are.
    fn hear(
        &mut self,
        tokens: &[&[u32]],
        wanted: &[(usize, usize)],
    ) -> Result<Option<(B::Buffer, Vec<usize>)>> {
        let rows = self.rows(tokens)?;
        let position = |&(row, token): &(usize, usize)| {
            let tokens = rows.get(row).map(|row| row.tokens.clone());
            tokens.and_then(|mut tokens| tokens.nth(token)).ok_or_else(|| {
                Error::inference(CONTEXT, format!("row {row} has no new token {token}"))
            })
        };
        let positions = wanted.iter().map(position).collect::<Result<Vec<usize>>>()?;
        if rows.iter().all(|row| row.tokens.is_empty()) {
            return Ok(None);
        }
        let x = self.run(tokens, &rows, &mut [])?;
        Ok((!positions.is_empty()).then_some((x, positions)))
    }

    /// Runs all layers over the new tokens. `collect` has one entry for each layer, or none.
    fn run(
        &mut self,
        tokens: &[&[u32]],
        rows: &[Row],
        collect: &mut [CollectedAttention],
    ) -> Result<B::Buffer> {
        let (backend, decoder) = (&self.model.backend, &self.model.decoder);
        let positions = rows.iter().flat_map(|row| row.past..row.past + row.tokens.len());
        let positions: Vec<u32> = positions.map(|position| position as u32).collect();
        let mut x = backend.embed(&decoder.embedding, &tokens.concat(), &positions)?;
        let layers = decoder.layers.iter().zip(self.cross).enumerate();
        for (index, (layer, keys_and_values)) in layers {
            let (attention, cross, mlp) = (&layer.attention, &layer.cross, &layer.mlp);
            let qkv = backend.norm_linear(&x, &attention.norm, &attention.qkv)?;
            let attended = backend.attend_past(&qkv, &mut self.past, index, rows)?;
            backend.linear_add(&attended, &attention.out, &mut x)?;
            let query = backend.norm_linear(&x, &cross.norm, &cross.query)?;
            let collect = collect.get_mut(index).filter(|collect| !collect.heads.is_empty());
            let attended = backend.attend_cross(&query, keys_and_values, rows, collect)?;
            backend.linear_add(&attended, &cross.out, &mut x)?;
            backend.mlp(&mut x, &mlp.norm, &mlp.up, &mlp.down)?;
        }
        for (hypothesis, row) in self.hypotheses.iter_mut().zip(rows) {
            hypothesis.length += row.tokens.len();
        }
        Ok(x)
    }
}

impl<B: Backend> Session for Decoding<'_, B> {
    fn step(&mut self, tokens: &[&[u32]], wanted: &[(usize, usize)]) -> Result<Vec<Vec<f32>>> {
        let Some((x, positions)) = self.hear(tokens, wanted)? else { return Ok(Vec::new()) };
        let decoder = &self.model.decoder;
        let backend = &self.model.backend;
        let logits = backend.logits(&x, &positions, &decoder.norm, &decoder.embedding)?;
        Ok(logits.chunks(self.model.config.vocab).map(<[f32]>::to_vec).collect())
    }

    fn step_ranked(
        &mut self,
        tokens: &[&[u32]],
        wanted: &[(usize, usize)],
        restrictions: &[Restriction],
        count: usize,
    ) -> Result<Option<Vec<Ranked>>> {
        if !self.model.backend.can_rank(self.model.config.vocab) {
            return Ok(None);
        }
        let Some((x, positions)) = self.hear(tokens, wanted)? else { return Ok(Some(Vec::new())) };
        let decoder = &self.model.decoder;
        let weights = (&decoder.norm, &decoder.embedding);
        self.model.backend.rank(&x, &positions, weights, restrictions, count).map(Some)
    }

    fn select(&mut self, parents: &[usize]) -> Result<()> {
        let parent = |&parent: &usize| {
            self.hypotheses.get(parent).copied().ok_or_else(|| {
                let reason = format!("hypothesis {parent} of {}", self.hypotheses.len());
                Error::inference(CONTEXT, reason)
            })
        };
        let hypotheses = parents.iter().map(parent).collect::<Result<Vec<_>>>()?;
        self.model.backend.select(&mut self.past, parents)?;
        self.hypotheses = hypotheses;
        Ok(())
    }

    fn alignment(&mut self, tokens: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let rows = self.rows(tokens)?;
        let n_tokens: usize = tokens.iter().map(|tokens| tokens.len()).sum();
        if n_tokens == 0 {
            return Err(Error::inference(CONTEXT, "nothing to align"));
        }
        let heads = &self.model.alignment_heads;
        let mut collect: Vec<CollectedAttention> = Vec::new();
        collect.resize_with(self.model.decoder.layers.len(), CollectedAttention::default);
        // Where each head's matrix will lie among those of its layer.
        let mut places = Vec::with_capacity(heads.len());
        for &(layer, head) in heads {
            places.push((layer, collect[layer].heads.len()));
            collect[layer].heads.push(head);
        }
        self.run(tokens, &rows, &mut collect)?;
        let own_weights = |row: &Row| {
            let mut weights = Vec::with_capacity(heads.len() * row.tokens.len() * FRAMES);
            for &(layer, place) in &places {
                let matrix = &collect[layer].weights[place * n_tokens * FRAMES..];
                let own = row.tokens.start * FRAMES..row.tokens.end * FRAMES;
                weights.extend_from_slice(&matrix[own]);
            }
            weights
        };
        Ok(rows.iter().map(own_weights).collect())
    }
}
