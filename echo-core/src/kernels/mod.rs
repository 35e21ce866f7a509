//! The seam between networks and devices.
//!
//! A Whisper network is written once, over the verbs of [`Backend`]: fused pieces of a transformer,
//! not tensor operations, so that a device can keep activations in its cache between the parts of a
//! verb. Implementations: `candle` runs every verb as candle tensor operations on whatever device
//! candle has (CUDA, Metal, and in tests the CPU as the reference), [`cpu`] and `cuda` have kernels of their
//! own. [`select::open`] says which one a device gets.
//!
//! Shapes: a [`Backend::Buffer`] is `(rows, columns)`; an encoder's rows are `batch * frames` with
//! 1,500 frames a window, or fewer where a [device says so](Backend::hears_short_windows), a
//! decoder's rows are the new tokens of all hypotheses, one after the other as [`Row`] says. Heads
//! lie side by side in the columns, `d_model = heads * d_head`.

#[cfg(any(feature = "candle", test))]
pub(crate) mod candle;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod logits;
pub(crate) mod matrix;
pub(crate) mod rank;
pub(crate) mod select;

use std::ops::Range;

use self::rank::{Ranked, Restriction};
use crate::error::{Error, Result};
use crate::models::weights::Tensor;

/// Encoder positions of one window: 30 s at 20 ms.
pub(crate) const FRAMES: usize = 1500;

/// One hypothesis in a decoder step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which window of the batch it listens to.
    pub(crate) window: usize,
    /// Where its new tokens lie among the rows of the step's buffers.
    pub(crate) tokens: Range<usize>,
    /// How many tokens of it are in the cache already: the position of its first new token.
    pub(crate) past: usize,
}

/// Attention probabilities collected for word times: for each asked head, in order, the
/// `(tokens, FRAMES)` matrix of the step's new tokens, averaged over nothing.
#[derive(Debug, Default)]
pub(crate) struct CollectedAttention {
    /// The heads of this layer to collect.
    pub(crate) heads: Vec<usize>,
    /// `(heads, tokens, FRAMES)`, filled by [`Backend::attend_cross`]: softmaxed probabilities.
    pub(crate) weights: Vec<f32>,
}

/// A linear layer's parts as they lie in a checkpoint: `(outputs, inputs)` and `(outputs)`.
/// Several are stacked along the outputs (query, key and value become one product).
pub(crate) type LinearParts<'a> = (Tensor<'a>, Option<Tensor<'a>>);

/// The verbs that a transformer for speech needs of a device.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Activations, `(rows, columns)`.
    type Buffer: Send;
    /// A linear layer ready to multiply.
    type Linear: Send + Sync;
    /// Scale and shift of a layer norm (epsilon 1e-5).
    type Norm: Send + Sync;
    /// The token table, also the output projection, and the learned positions.
    type Embedding: Send + Sync;
    /// The two convolutions in front of the encoder and its positions.
    type Stem: Send + Sync;
    /// Keys and values of one decoder layer over the frames of a batch of windows.
    type Cross: Send + Sync;
    /// Keys and values of the tokens said so far, all layers, all hypotheses.
    type Past: Send;

    // Loading.

    /// Packs one linear layer, or several stacked along their outputs. A missing bias is zero.
    fn linear(&self, parts: &[LinearParts<'_>]) -> Result<Self::Linear>;
    /// Packs a layer norm, `(d_model)` each.
    fn norm(&self, weight: Tensor<'_>, bias: Tensor<'_>) -> Result<Self::Norm>;
    /// Packs the token table `(vocab, d_model)` and the positions `(text_context, d_model)`.
    fn embedding(&self, tokens: Tensor<'_>, positions: Tensor<'_>) -> Result<Self::Embedding>;
    /// Packs the convolutions `(d_model, n_mels, 3)` stride 1 and `(d_model, d_model, 3)` stride 2,
    /// both padded by 1, with their biases, and the positions `(FRAMES, d_model)`.
    fn stem(
        &self,
        conv1: LinearParts<'_>,
        conv2: LinearParts<'_>,
        positions: Tensor<'_>,
    ) -> Result<Self::Stem>;

    // Encoder.

    /// Convolutions with GELU (exact, by erf) after each, plus positions. Each mel is
    /// `(n_mels, 2 * FRAMES)`, band after band; the result is `(batch * FRAMES, d_model)`.
    fn run_stem(&self, stem: &Self::Stem, mels: &[&[f32]]) -> Result<Self::Buffer>;
    /// Layer norm of every row.
    fn run_norm(&self, x: &Self::Buffer, norm: &Self::Norm) -> Result<Self::Buffer>;
    /// Layer norm, then the linear layer: `(rows, outputs)`.
    fn norm_linear(
        &self,
        x: &Self::Buffer,
        norm: &Self::Norm,
        linear: &Self::Linear,
    ) -> Result<Self::Buffer>;
    /// Layer norm, then unmasked attention within each window, `qkv` having `3 * d_model` outputs
    /// for query, key and value: `(batch * FRAMES, d_model)` to the same. Scores are scaled by
    /// `d_head.powf(-0.5)`.
    fn norm_attend(
        &self,
        x: &Self::Buffer,
        norm: &Self::Norm,
        qkv: &Self::Linear,
        batch: usize,
        heads: usize,
    ) -> Result<Self::Buffer>;
    /// `residual += linear(x)`.
    fn linear_add(
        &self,
        x: &Self::Buffer,
        linear: &Self::Linear,
        residual: &mut Self::Buffer,
    ) -> Result<()>;
    /// `x += down(gelu(up(norm(x))))`, GELU exact.
    fn mlp(
        &self,
        x: &mut Self::Buffer,
        norm: &Self::Norm,
        up: &Self::Linear,
        down: &Self::Linear,
    ) -> Result<()>;
    /// Copies a buffer to the host as f32, row after row.
    #[cfg(test)]
    fn to_host(&self, x: &Self::Buffer) -> Result<Vec<f32>>;

    // Decoder.

    /// Keys and values of one layer, `kv` having `2 * d_model` outputs, over an encoder's output.
    fn cross(
        &self,
        encoded: &Self::Buffer,
        kv: &Self::Linear,
        batch: usize,
        heads: usize,
    ) -> Result<Self::Cross>;
    /// Puts the windows of `more` behind those of `cross`.
    fn append_cross(&self, cross: &mut Self::Cross, more: Self::Cross) -> Result<()>;
    /// Windows that go through the encoder at once: as many as help the device. Where one fills it,
    /// more would only take memory and put off cancellation.
    fn encoder_batch(&self) -> usize;
    /// Whether windows may have fewer than [`FRAMES`], all that go through the encoder at once as
    /// many as each other.
    fn hears_short_windows(&self) -> bool {
        false
    }
    /// Gives back what only an encoder has use for: many windows were encoded, their texts come now.
    fn end_encoding(&self) {}
    /// Token plus position embeddings, `(tokens, d_model)`.
    fn embed(
        &self,
        embedding: &Self::Embedding,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<Self::Buffer>;
    /// An empty cache for `rows` hypotheses of at most `capacity` tokens.
    fn past(
        &self,
        layers: usize,
        heads: usize,
        d_model: usize,
        rows: usize,
        capacity: usize,
    ) -> Result<Self::Past>;
    /// Appends the new tokens' keys and values to one layer of the cache and attends causally:
    /// `(tokens, 3 * d_model)` to `(tokens, d_model)`. `rows[i]` is hypothesis `i` of the cache.
    fn attend_past(
        &self,
        qkv: &Self::Buffer,
        past: &mut Self::Past,
        layer: usize,
        rows: &[Row],
    ) -> Result<Self::Buffer>;
    /// Attends from `(tokens, d_model)` queries to the windows' frames. The cross keys and values
    /// are shared by all hypotheses of a window, never copied.
    fn attend_cross(
        &self,
        q: &Self::Buffer,
        cross: &Self::Cross,
        rows: &[Row],
        collect: Option<&mut CollectedAttention>,
    ) -> Result<Self::Buffer>;
    /// Hypothesis `i` goes on from old hypothesis `parents[i]`; there may be fewer or more of them.
    fn select(&self, past: &mut Self::Past, parents: &[usize]) -> Result<()>;
    /// Layer norm and output projection of the given rows of `x`: `(positions, vocab)`.
    fn logits(
        &self,
        x: &Self::Buffer,
        positions: &[usize],
        norm: &Self::Norm,
        embedding: &Self::Embedding,
    ) -> Result<Vec<f32>>;
    /// Whether [`rank`](Self::rank) is done here, for a vocabulary of this size.
    fn can_rank(&self, _vocab: usize) -> bool {
        false
    }
    /// The `count` likeliest tokens after each of the given rows, of what its restriction allows.
    /// Only asked of a device that [can](Self::can_rank).
    fn rank(
        &self,
        _x: &Self::Buffer,
        _positions: &[usize],
        _weights: (&Self::Norm, &Self::Embedding),
        _restrictions: &[Restriction],
        _count: usize,
    ) -> Result<Vec<Ranked>> {
        Err(Error::inference("rank", "not done on this device"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
