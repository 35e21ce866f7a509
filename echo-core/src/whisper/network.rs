//! The network as decoding sees it: windows in, logits out, whatever the device.
//!
//! [`Network`] is the object-safe face of [`Whisper`](super::model::Whisper), which is generic over
//! [`Backend`](crate::kernels::Backend). Decoding rules are written against it alone.

use std::any::Any;

use super::config::WhisperConfig;
use crate::error::Result;
use crate::features::mel::Mel;
use crate::kernels::rank::{Ranked, Restriction};
use crate::progress::CancelToken;

/// A batch of encoded windows: the cross-attention keys and values of every decoder layer.
pub(crate) struct Encoded {
    /// How many windows there are.
    pub(crate) windows: usize,
    /// What the network made; it alone knows the type.
    pub(crate) state: Box<dyn Any + Send + Sync>,
}

/// A Whisper network on a device. Shared by threads; sessions hold what changes.
pub(crate) trait Network: Send + Sync {
    /// Sizes and special tables.
    fn config(&self) -> &WhisperConfig;

    /// Runs the encoder once over a batch of windows, whose features are dropped as they are done with;
    /// looks at `cancel` before every layer.
    fn encode(&self, mels: Vec<Mel>, cancel: &CancelToken) -> Result<Encoded>;

    /// Whether windows may be shorter than 30 s, each by itself, and take less time then.
    fn hears_short_windows(&self) -> bool {
        false
    }

    /// Starts decoding: hypothesis `i` listens to window `windows[i]` and has said nothing yet.
    fn session<'a>(
        &'a self,
        encoded: &'a Encoded,
        windows: &[usize],
    ) -> Result<Box<dyn Session + 'a>>;
}

/// Hypotheses being extended, with their caches.
pub(crate) trait Session: Send {
    /// Appends `tokens[i]` (one or more) to hypothesis `i` and returns logits over the vocabulary,
    /// one vector for each of `wanted`, a list of (hypothesis, index into its new tokens).
    fn step(&mut self, tokens: &[&[u32]], wanted: &[(usize, usize)]) -> Result<Vec<Vec<f32>>>;

    /// Like [`step`](Self::step), but returns only the `count` likeliest tokens at each of
    /// `wanted`, of what its restriction allows. `None`, and nothing is done, where the device
    /// leaves that to whoever has the logits.
    fn step_ranked(
        &mut self,
        _tokens: &[&[u32]],
        _wanted: &[(usize, usize)],
        _restrictions: &[Restriction],
        _count: usize,
    ) -> Result<Option<Vec<Ranked>>> {
        Ok(None)
    }

    /// Hypothesis `i` becomes a continuation of old hypothesis `parents[i]`; there may be fewer or
    /// more of them than before.
    fn select(&mut self, parents: &[usize]) -> Result<()>;

    /// Like [`step`](Self::step) without logits: returns for each hypothesis the cross-attention
    /// probabilities of the model's alignment heads, `(alignment_heads, tokens, 1500)` flattened.
    fn alignment(&mut self, tokens: &[&[u32]]) -> Result<Vec<Vec<f32>>>;
}
