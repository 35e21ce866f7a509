//! The one Whisper network, over the verbs of any [`Backend`].
//!
//! Encoder: two convolutions with GELU and fixed positions, then pre-norm blocks of self-attention
//! and a two-layer perceptron, then a norm; decoder: learned positions, blocks with causal
//! self-attention, cross-attention over the encoder's 1,500 frames and a perceptron, then a norm
//! and the token table again as output projection (Radford et al., "Robust Speech Recognition via
//! Large-Scale Weak Supervision", 2022; `whisper/model.py`). The encoder runs once for a batch of
//! windows and leaves the decoder's cross-attention keys and values behind.
//!
//! Query, key and value are one stacked product, and so are key and value of cross-attention.

use super::config::WhisperConfig;
use super::loader::Loader;
use super::network::{Encoded, Network, Session};
use super::session::Decoding;
use crate::error::{Error, Result};
use crate::features::mel::Mel;
use crate::kernels::select::{self, Choice, Opened};
use crate::kernels::{Backend, FRAMES};
use crate::models::weights::Weights;
use crate::progress::CancelToken;

/// Loads a network onto the device chosen, with so many threads if it is the CPU; `None` means as many
/// as there are processors.
///
/// # Errors
/// [`Error::Model`] for weights that do not fit the configuration, [`Error::Device`] for a device
/// that cannot be opened.
pub(crate) fn load(
    config: WhisperConfig,
    weights: &dyn Weights,
    choice: Choice,
    threads: Option<usize>,
) -> Result<Box<dyn Network>> {
    let width = (config.d_model, config.decoder_heads);
    select::open(choice, threads, width, Loading { config, weights })?
}

/// A network about to be loaded.
struct Loading<'a> {
    config: WhisperConfig,
    weights: &'a dyn Weights,
}

impl Opened for Loading<'_> {
    type Output = Result<Box<dyn Network>>;

    fn with<B: Backend>(self, backend: B) -> Self::Output {
        Ok(Box::new(Whisper::load(backend, self.config, self.weights)?))
    }
}

/// A Whisper network on one backend.
pub(crate) struct Whisper<B: Backend> {
    pub(super) backend: B,
    pub(super) config: WhisperConfig,
    /// The decoder heads whose cross-attention follows time: as configured, or else all heads of
    /// the decoder's later half, which is the reference's guess.
    pub(super) alignment_heads: Vec<(usize, usize)>,
    encoder: Encoder<B>,
    pub(super) decoder: Decoder<B>,
}

/// The encoder's weights.
struct Encoder<B: Backend> {
    stem: B::Stem,
    layers: Vec<EncoderLayer<B>>,
    norm: B::Norm,
}

struct EncoderLayer<B: Backend> {
    attention: SelfAttention<B>,
    mlp: Mlp<B>,
}

/// The decoder's weights.
pub(super) struct Decoder<B: Backend> {
    pub(super) embedding: B::Embedding,
    pub(super) layers: Vec<DecoderLayer<B>>,
    pub(super) norm: B::Norm,
}

/// One block of the decoder.
pub(super) struct DecoderLayer<B: Backend> {
    pub(super) attention: SelfAttention<B>,
    pub(super) cross: CrossAttention<B>,
    pub(super) mlp: Mlp<B>,
}

/// A norm, the stacked query, key and value, and the output layer.
pub(super) struct SelfAttention<B: Backend> {
    pub(super) norm: B::Norm,
    pub(super) qkv: B::Linear,
    pub(super) out: B::Linear,
}

/// A norm, the query, the stacked key and value over the encoder's output, and the output layer.
pub(super) struct CrossAttention<B: Backend> {
    pub(super) norm: B::Norm,
    pub(super) query: B::Linear,
    pub(super) kv: B::Linear,
    pub(super) out: B::Linear,
}

/// A norm and two layers with GELU between them.
pub(super) struct Mlp<B: Backend> {
    pub(super) norm: B::Norm,
    pub(super) up: B::Linear,
    pub(super) down: B::Linear,
}

impl<B: Backend> Whisper<B> {
    /// Packs a checkpoint's weights for a backend.
    ///
    /// # Errors
    /// [`Error::Model`] naming the first tensor that is absent or shaped otherwise than `config`
    /// asks for, or an alignment head that the decoder does not have.
    pub(crate) fn load(backend: B, config: WhisperConfig, weights: &dyn Weights) -> Result<Self> {
        let loader = Loader { backend: &backend, weights, d_model: config.d_model };
        let encoder = load_encoder(&loader, &config)?;
        let decoder = load_decoder(&loader, &config)?;
        let alignment_heads = alignment_heads(&config)?;
        Ok(Self { backend, config, alignment_heads, encoder, decoder })
    }

    /// The encoder's output over a batch of windows, `(batch * frames, d_model)`; all have as many.
    pub(super) fn run_encoder(&self, mels: &[Mel], cancel: &CancelToken) -> Result<B::Buffer> {
        let backend = &self.backend;
        let n_mels = self.config.n_mels;
        let whole = 2 * FRAMES;
        let frames = mels.first().map_or(whole, Mel::frames);
        let is_heard = frames == whole
            || self.backend.hears_short_windows()
                && (1..whole).contains(&frames)
                && frames.is_multiple_of(2);
        let fits = |mel: &Mel| mel.n_mels == n_mels && mel.values.len() == n_mels * frames;
        if !is_heard || !mels.iter().all(fits) {
            let expected = format!("features of {n_mels} bands are expected");
            return Err(Error::inference("encoder", expected));
        }
        let mels: Vec<&[f32]> = mels.iter().map(|mel| mel.values.as_slice()).collect();
        let mut x = backend.run_stem(&self.encoder.stem, &mels)?;
        for EncoderLayer { attention, mlp } in &self.encoder.layers {
            cancel.check()?;
            let (norm, heads) = (&attention.norm, self.config.encoder_heads);
            let attended = backend.norm_attend(&x, norm, &attention.qkv, mels.len(), heads)?;
            backend.linear_add(&attended, &attention.out, &mut x)?;
            backend.mlp(&mut x, &mlp.norm, &mlp.up, &mlp.down)?;
        }
        backend.run_norm(&x, &self.encoder.norm)
    }
}

impl<B: Backend> Network for Whisper<B> {
    fn config(&self) -> &WhisperConfig {
        &self.config
    }

    fn encode(&self, mels: Vec<Mel>, cancel: &CancelToken) -> Result<Encoded> {
        let mut layers: Vec<B::Cross> = Vec::with_capacity(self.decoder.layers.len());
        let windows = mels.len();
        let mut rest = mels.into_iter();
        while rest.len() > 0 {
            let mels: Vec<Mel> = rest.by_ref().take(self.backend.encoder_batch()).collect();
            let encoded = self.run_encoder(&mels, cancel)?;
            let heads = self.config.decoder_heads;
            for (index, layer) in self.decoder.layers.iter().enumerate() {
                cancel.check()?;
                let cross = self.backend.cross(&encoded, &layer.cross.kv, mels.len(), heads)?;
                match layers.get_mut(index) {
                    Some(windows) => self.backend.append_cross(windows, cross)?,
                    None => layers.push(cross),
                }
            }
        }
        if windows > 1 {
            self.backend.end_encoding();
        }
        Ok(Encoded { windows, state: Box::new(layers) })
    }

    fn hears_short_windows(&self) -> bool {
        self.backend.hears_short_windows()
    }

    fn session<'a>(
        &'a self,
        encoded: &'a Encoded,
        windows: &[usize],
    ) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Decoding::new(self, encoded, windows)?))
    }
}

fn load_encoder<B: Backend>(loader: &Loader<'_, B>, config: &WhisperConfig) -> Result<Encoder<B>> {
    let (n_mels, d_model) = (config.n_mels, config.d_model);
    let stem = loader.backend.stem(
        loader.parts("model.encoder.conv1", &[d_model, n_mels, 3])?,
        loader.parts("model.encoder.conv2", &[d_model, d_model, 3])?,
        loader.weights.get("model.encoder.embed_positions.weight", &[FRAMES, d_model])?,
    )?;
    let layer = |layer| {
        let prefix = format!("model.encoder.layers.{layer}");
        Ok(EncoderLayer { attention: self_attention(loader, &prefix)?, mlp: mlp(loader, &prefix)? })
    };
    let layers = (0..config.encoder_layers).map(layer).collect::<Result<_>>()?;
    Ok(Encoder { stem, layers, norm: loader.norm("model.encoder.layer_norm")? })
}

fn load_decoder<B: Backend>(loader: &Loader<'_, B>, config: &WhisperConfig) -> Result<Decoder<B>> {
    let d_model = config.d_model;
    let tokens =
        loader.weights.get("model.decoder.embed_tokens.weight", &[config.vocab, d_model])?;
    let positions = &[config.text_context, d_model];
    let positions = loader.weights.get("model.decoder.embed_positions.weight", positions)?;
    let layer = |layer| {
        let prefix = format!("model.decoder.layers.{layer}");
        let attention = self_attention(loader, &prefix)?;
        let cross = CrossAttention {
            norm: loader.norm(&format!("{prefix}.encoder_attn_layer_norm"))?,
            query: loader.square(&format!("{prefix}.encoder_attn"), &["q_proj"])?,
            kv: loader.square(&format!("{prefix}.encoder_attn"), &["k_proj", "v_proj"])?,
            out: loader.square(&format!("{prefix}.encoder_attn"), &["out_proj"])?,
        };
        Ok(DecoderLayer { attention, cross, mlp: mlp(loader, &prefix)? })
    };
    let layers = (0..config.decoder_layers).map(layer).collect::<Result<_>>()?;
    let embedding = loader.backend.embedding(tokens, positions)?;
    Ok(Decoder { embedding, layers, norm: loader.norm("model.decoder.layer_norm")? })
}

fn self_attention<B: Backend>(loader: &Loader<'_, B>, prefix: &str) -> Result<SelfAttention<B>> {
    let attention = format!("{prefix}.self_attn");
    Ok(SelfAttention {
        norm: loader.norm(&format!("{prefix}.self_attn_layer_norm"))?,
        qkv: loader.square(&attention, &["q_proj", "k_proj", "v_proj"])?,
        out: loader.square(&attention, &["out_proj"])?,
    })
}

fn mlp<B: Backend>(loader: &Loader<'_, B>, prefix: &str) -> Result<Mlp<B>> {
    let (up, down) = loader.mlp(prefix)?;
    Ok(Mlp { norm: loader.norm(&format!("{prefix}.final_layer_norm"))?, up, down })
}

fn alignment_heads(config: &WhisperConfig) -> Result<Vec<(usize, usize)>> {
    let (layers, heads) = (config.decoder_layers, config.decoder_heads);
    if config.alignment_heads.is_empty() {
        let later_half = layers / 2..layers;
        return Ok(later_half
            .flat_map(|layer| (0..heads).map(move |head| (layer, head)))
            .collect());
    }
    let outside = config.alignment_heads.iter().find(|(l, h)| *l >= layers || *h >= heads);
    match outside {
        Some((layer, head)) => {
            let what = format!("alignment head {head} of layer {layer} does not exist");
            Err(Error::model("whisper", what))
        }
        None => Ok(config.alignment_heads.clone()),
    }
}

#[cfg(test)]
mod tests;
