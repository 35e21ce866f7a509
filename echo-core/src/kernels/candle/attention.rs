//! Attention as products, softmax and products.
//!
//! Queries are scaled before the product, so that f16 scores stay in range; softmax sums in f32.
//! Rows that listen to one window are gathered into one product against its keys, which are never
//! copied: one product for all windows, filled up to the most rows that a window has, or one for
//! each window, as [`Stride`] says.

use candle_core::{D, DType, Result, Tensor};

use super::{Candle, Cross, Stride};
use crate::kernels::{CollectedAttention, FRAMES, Row};

/// One of the stacked parts (query, key, value) of `(batch * tokens, parts * d_model)`, as a view
/// `(batch, heads, tokens, d_head)`.
pub(super) fn part(
    stacked: &Tensor,
    (part, parts): (usize, usize),
    batch: usize,
    heads: usize,
) -> Result<Tensor> {
    let (rows, columns) = stacked.dims2()?;
    let d_head = columns / parts / heads;
    let split = stacked.reshape((batch, rows / batch, parts, heads, d_head))?;
    split.narrow(2, part, 1)?.squeeze(2)?.transpose(1, 2)
}

/// `(batch, heads, tokens, d_head)` to `(batch * tokens, d_model)`.
pub(super) fn join_heads(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, tokens, d_head) = x.dims4()?;
    x.transpose(1, 2)?.reshape((batch * tokens, heads * d_head))
}

/// Attention of `(batch, heads, queries, d_head)` over `(batch, heads, keys, d_head)`: the result
/// and the probabilities `(batch, heads, queries, keys)`.
pub(super) fn attend(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let scale = (q.dim(D::Minus1)? as f64).powf(-0.5);
    let scores = (q * scale)?.matmul(&keys.transpose(2, 3)?)?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    let probabilities = softmax(&scores)?;
    Ok((probabilities.matmul(values)?, probabilities))
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    // candle's GPU kernels sum in f32 whatever the type; the one for the CPU does not.
    if scores.device().is_cpu() && scores.dtype() != DType::F32 {
        let wide = candle_nn::ops::softmax_last_dim(&scores.to_dtype(DType::F32)?)?;
        return wide.to_dtype(scores.dtype());
    }
    candle_nn::ops::softmax_last_dim(scores)
}

/// Attention within each window of `(batch * FRAMES, 3 * d_model)`, window by window: the scores
/// of one are as large as its activations many times over.
pub(super) fn within_windows(
    backend: &Candle,
    qkv: &Tensor,
    batch: usize,
    heads: usize,
) -> Result<Tensor> {
    let frames = qkv.dim(0)? / batch;
    let window = |window: usize| {
        let rows = qkv.narrow(0, window * frames, frames)?;
        let view = |at: usize| {
            let view = part(&rows, (at, 3), 1, heads)?;
            // cuBLAS wants rows without gaps, the CPU's product does not mind.
            if backend.stride == Stride::Window { Ok(view) } else { view.contiguous() }
        };
        join_heads(&attend(&view(0)?, &view(1)?, &view(2)?, None)?.0)
    };
    let windows = (0..batch).map(window).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&windows, 0)
}

/// Attention from tokens to the frames of their windows.
pub(super) fn across(
    backend: &Candle,
    q: &Tensor,
    cross: &Cross,
    rows: &[Row],
    mut collect: Option<&mut CollectedAttention>,
) -> Result<Tensor> {
    let (windows, heads, _, _) = cross.keys.dims4()?;
    let n_tokens = q.dim(0)?;
    let listeners = listeners(rows, windows)?;
    if let Some(collected) = collect.as_deref_mut() {
        collected.weights = vec![0.0; collected.heads.len() * n_tokens * FRAMES];
    }
    let mut groups = Vec::new();
    let width = listeners.iter().map(Vec::len).max().unwrap_or(0);
    if backend.stride == Stride::Window && listeners.iter().any(|tokens| tokens.len() != width) {
        for (window, tokens) in
            listeners.iter().enumerate().filter(|(_, tokens)| !tokens.is_empty())
        {
            let slots = tokens.iter().copied().map(Some).collect();
            groups.push(Group { first: window, windows: 1, slots });
        }
    } else {
        groups.push(Group { first: 0, windows, slots: filled_up(&listeners, width) });
    }
    let mut outputs = Vec::with_capacity(groups.len());
    for group in &groups {
        let tokens: Vec<usize> = group.slots.iter().map(|slot| slot.unwrap_or(0)).collect();
        let q = part(&backend.take_rows(q, &tokens)?, (0, 1), group.windows, heads)?;
        let keys = cross.keys.narrow(0, group.first, group.windows)?;
        let values = cross.values.narrow(0, group.first, group.windows)?;
        let (output, probabilities) = attend(&q, &keys, &values, None)?;
        if let Some(collected) = collect.as_deref_mut() {
            group.collect(&probabilities, n_tokens, collected)?;
        }
        outputs.push(join_heads(&output)?);
    }
    let slots = groups.iter().flat_map(|group| &group.slots);
    let mut slot_of_token = vec![0; n_tokens];
    for (slot, token) in slots.enumerate() {
        if let Some(token) = *token {
            slot_of_token[token] = slot;
        }
    }
    backend.take_rows(&Tensor::cat(&outputs, 0)?, &slot_of_token)
}

/// Tokens that listen to neighbouring windows, as many to each: `slots[i]` is the token in slot
/// `i` of `windows * width`, if any.
struct Group {
    first: usize,
    windows: usize,
    slots: Vec<Option<usize>>,
}

impl Group {
    /// Copies the asked heads' probabilities `(windows, heads, width, FRAMES)` to their tokens.
    fn collect(
        &self,
        probabilities: &Tensor,
        n_tokens: usize,
        into: &mut CollectedAttention,
    ) -> Result<()> {
        let CollectedAttention { heads, weights } = into;
        for (&head, weights) in heads.iter().zip(weights.chunks_mut(n_tokens * FRAMES)) {
            let rows = probabilities.narrow(1, head, 1)?.to_dtype(DType::F32)?;
            let rows: Vec<f32> = rows.contiguous()?.flatten_all()?.to_vec1()?;
            for (row, token) in rows.chunks(FRAMES).zip(&self.slots) {
                if let Some(token) = *token {
                    weights[token * FRAMES..][..FRAMES].copy_from_slice(row);
                }
            }
        }
        Ok(())
    }
}

/// The tokens that listen to each window.
fn listeners(rows: &[Row], windows: usize) -> Result<Vec<Vec<usize>>> {
    let mut listeners = vec![Vec::new(); windows];
    for row in rows {
        match listeners.get_mut(row.window) {
            Some(tokens) => tokens.extend(row.tokens.clone()),
            None => candle_core::bail!("window {} of {windows}", row.window),
        }
    }
    Ok(listeners)
}

/// One slot for each of `width` tokens of every window.
fn filled_up(listeners: &[Vec<usize>], width: usize) -> Vec<Option<usize>> {
    let slots = |tokens: &Vec<usize>| {
        let filling = width - tokens.len();
        tokens
            .iter()
            .copied()
            .map(Some)
            .chain(std::iter::repeat_n(None, filling))
            .collect::<Vec<_>>()
    };
    listeners.iter().flat_map(slots).collect()
}
