//! Keys and values of the tokens said so far, and attention over them.
//!
//! Each layer has one tensor for keys and one for values, `(rows, heads, allocated, d_head)`, that
//! grow as hypotheses do, so that short ones cost little to select from. A step whose hypotheses
//! all have the same length, as after equal prompts, is one product for all; otherwise each
//! hypothesis has its own.

use candle_core::{DType, Device, Result, Tensor};

use super::attention::{attend, join_heads, part};
use super::{Candle, Row};

/// Tokens that a layer has room for at first; room doubles.
const FIRST_ROOM_TOKENS: usize = 64;

/// The cache of all layers and hypotheses.
pub(crate) struct Past {
    layers: Vec<Layer>,
    rows: usize,
    capacity: usize,
}

struct Layer {
    keys: Tensor,   // (rows, heads, allocated, d_head)
    values: Tensor, // (rows, heads, allocated, d_head)
}

impl Past {
    pub(super) fn new(
        layers: usize,
        heads: usize,
        d_head: usize,
        rows: usize,
        capacity: usize,
        backend: &Candle,
    ) -> Result<Self> {
        let room = FIRST_ROOM_TOKENS.min(capacity);
        let zeros = || Tensor::zeros((rows, heads, room, d_head), backend.dtype, &backend.device);
        let layer = |_| Ok(Layer { keys: zeros()?, values: zeros()? });
        let layers = (0..layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { layers, rows, capacity })
    }

    /// Appends the new tokens to one layer and attends causally, `(tokens, 3 * d_model)` to
    /// `(tokens, d_model)`.
    pub(super) fn attend(&mut self, qkv: &Tensor, layer: usize, rows: &[Row]) -> Result<Tensor> {
        let n_tokens = qkv.dim(0)?;
        if rows.len() != self.rows {
            candle_core::bail!("{} hypotheses in a cache of {}", rows.len(), self.rows);
        }
        let Some(layer) = self.layers.get_mut(layer) else {
            candle_core::bail!("the cache has no layer {layer}");
        };
        let longest = rows.iter().map(|row| row.past + row.tokens.len()).max().unwrap_or(0);
        if longest > self.capacity {
            candle_core::bail!("{longest} tokens in a cache of {}", self.capacity);
        }
        layer.make_room(longest, self.capacity)?;
        if let Some((past, n_new)) = common_length(rows, n_tokens) {
            return layer.attend(qkv, 0, self.rows, past, n_new);
        }
        let mut outputs = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| !row.tokens.is_empty()) {
            let qkv = qkv.narrow(0, row.tokens.start, row.tokens.len())?;
            outputs.push(layer.attend(&qkv, index, 1, row.past, row.tokens.len())?);
        }
        Tensor::cat(&outputs, 0)
    }

    /// Hypothesis `i` goes on from old hypothesis `parents[i]`.
    pub(super) fn select(&mut self, parents: &[usize], backend: &Candle) -> Result<()> {
        if parents.iter().copied().eq(0..self.rows) {
            return Ok(());
        }
        let indices = backend.indices(parents.iter().copied())?;
        for layer in &mut self.layers {
            layer.keys = layer.keys.index_select(&indices, 0)?;
            layer.values = layer.values.index_select(&indices, 0)?;
        }
        self.rows = parents.len();
        Ok(())
    }
}

impl Layer {
    fn make_room(&mut self, tokens: usize, capacity: usize) -> Result<()> {
        let allocated = self.keys.dim(2)?;
        if tokens <= allocated {
            return Ok(());
        }
        let more = (2 * allocated).max(tokens).min(capacity) - allocated;
        for tensor in [&mut self.keys, &mut self.values] {
            let (rows, heads, _, d_head) = tensor.dims4()?;
            let zeros =
                Tensor::zeros((rows, heads, more, d_head), tensor.dtype(), tensor.device())?;
            *tensor = Tensor::cat(&[&*tensor, &zeros], 2)?.contiguous()?;
        }
        Ok(())
    }

    /// The step of `rows` hypotheses from `first` on, which all have `past` tokens and get
    /// `n_new`: `qkv` is `(rows * n_new, 3 * d_model)`.
    fn attend(
        &self,
        qkv: &Tensor,
        first: usize,
        rows: usize,
        past: usize,
        n_new: usize,
    ) -> Result<Tensor> {
        let heads = self.keys.dim(1)?;
        let part = |at: usize| part(qkv, (at, 3), rows, heads);
        let (keys, values) =
            (self.keys.narrow(0, first, rows)?, self.values.narrow(0, first, rows)?);
        keys.slice_set(&part(1)?.contiguous()?, 2, past)?;
        values.slice_set(&part(2)?.contiguous()?, 2, past)?;
        let keys = keys.narrow(2, 0, past + n_new)?;
        let values = values.narrow(2, 0, past + n_new)?;
        let mask = causal_mask(past, n_new, qkv.dtype(), qkv.device())?;
        join_heads(&attend(&part(0)?, &keys, &values, mask.as_ref())?.0)
    }
}

/// Tokens before the step and in it, if that is the same for all hypotheses and they lie in order.
fn common_length(rows: &[Row], n_tokens: usize) -> Option<(usize, usize)> {
    let first = rows.first()?;
    let n_new = first.tokens.len();
    let in_order = rows.iter().enumerate().all(|(index, row)| {
        row.past == first.past && row.tokens == (index * n_new..(index + 1) * n_new)
    });
    (in_order && n_new > 0 && n_new * rows.len() == n_tokens).then_some((first.past, n_new))
}

/// Minus infinity where a new token must not look: at those after it. One token may see all.
fn causal_mask(past: usize, n_new: usize, dtype: DType, device: &Device) -> Result<Option<Tensor>> {
    if n_new == 1 {
        return Ok(None);
    }
    let hidden =
        |key: usize, query: usize| if key > past + query { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> =
        (0..n_new).flat_map(|query| (0..past + n_new).map(move |key| hidden(key, query))).collect();
    Tensor::from_vec(mask, (1, 1, n_new, past + n_new), device)?.to_dtype(dtype).map(Some)
}
