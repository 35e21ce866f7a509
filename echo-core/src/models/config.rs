//! Sizes and special tables of a Whisper network, read off its tensors.
//!
//! Shapes say all but the number of attention heads, which formats store in their own ways; where
//! none does, heads are 64 wide as in every published model.

use serde::Deserialize;

use super::alignment_heads::{self, Head};
use super::weights::Weights;
use crate::error::{Error, Result};

/// Width of an attention head of every published Whisper.
const HEAD_WIDTH: usize = 64;

/// Sizes and special tables of a Whisper network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WhisperConfig {
    /// Mel bands: 80, or 128 since large-v3.
    pub(crate) n_mels: usize,
    /// Encoder positions of one window: 1,500.
    pub(crate) audio_context: usize,
    /// Width of the encoder and the decoder.
    pub(crate) d_model: usize,
    /// Attention heads of the encoder.
    pub(crate) encoder_heads: usize,
    /// Layers of the encoder.
    pub(crate) encoder_layers: usize,
    /// Most tokens a hypothesis has, prompt included: 448.
    pub(crate) text_context: usize,
    /// Attention heads of the decoder.
    pub(crate) decoder_heads: usize,
    /// Layers of the decoder.
    pub(crate) decoder_layers: usize,
    /// Tokens, special ones included: 51,864 (English), 51,865 or 51,866.
    pub(crate) vocab: usize,
    /// Decoder heads whose cross-attention follows time, (layer, head); never empty when read from
    /// a checkpoint.
    pub(crate) alignment_heads: Vec<(usize, usize)>,
}

/// What a checkpoint says beside its tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Hints {
    pub(crate) encoder_heads: Option<usize>,
    pub(crate) decoder_heads: Option<usize>,
    pub(crate) alignment_heads: Option<Vec<Head>>,
}

/// The fields of `config.json` and `generation_config.json` that matter here; CTranslate2's
/// `config.json` has the alignment heads only.
#[derive(Debug, Default, Deserialize)]
struct ConfigFile {
    model_type: Option<String>,
    activation_function: Option<String>,
    scale_embedding: Option<bool>,
    encoder_attention_heads: Option<usize>,
    decoder_attention_heads: Option<usize>,
    alignment_heads: Option<Vec<Head>>,
}

impl Hints {
    /// Adds what a JSON file says, for what is not known yet.
    ///
    /// # Errors
    /// A reason, if the file is no JSON of that kind or describes another kind of network.
    pub(crate) fn add_json(&mut self, json: &[u8]) -> std::result::Result<(), String> {
        let file: ConfigFile = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let expected = [
            ("model_type", file.model_type.as_deref(), "whisper"),
            ("activation_function", file.activation_function.as_deref(), "gelu"),
        ];
        for (what, found, expected) in expected {
            if let Some(found) = found.filter(|&found| found != expected) {
                return Err(format!("{what} is `{found}`, expected `{expected}`"));
            }
        }
        if file.scale_embedding == Some(true) {
            return Err("scale_embedding is true, expected false".to_owned());
        }
        self.encoder_heads = self.encoder_heads.or(file.encoder_attention_heads);
        self.decoder_heads = self.decoder_heads.or(file.decoder_attention_heads);
        if self.alignment_heads.is_none() {
            self.alignment_heads = file.alignment_heads;
        }
        Ok(())
    }
}

impl WhisperConfig {
    /// Reads the sizes off the tensors of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Model`], if a tensor is missing or the sizes describe no network.
    pub(crate) fn from_weights(model: &str, weights: &dyn Weights, hints: &Hints) -> Result<Self> {
        let shape = |name: &str, rank: usize| match weights.shape(name) {
            Some(shape) if shape.len() == rank => Ok(shape),
            Some(shape) => {
                let reason =
                    format!("tensor `{name}` has shape {shape:?}, expected {rank} dimensions");
                Err(Error::model(model, reason))
            }
            None => {
                let reason = format!("has no tensor `{name}`, so it is no Whisper checkpoint");
                Err(Error::model(model, reason))
            }
        };
        let layers = |side: &str| {
            let has = |layer: &usize| {
                weights.shape(&format!("model.{side}.layers.{layer}.fc1.weight")).is_some()
            };
            (0..).take_while(has).count()
        };
        let conv = shape("model.encoder.conv1.weight", 3)?;
        let tokens = shape("model.decoder.embed_tokens.weight", 2)?;
        let d_model = tokens[1];
        let heads = d_model / HEAD_WIDTH;
        let mut config = Self {
            n_mels: conv[1],
            audio_context: shape("model.encoder.embed_positions.weight", 2)?[0],
            d_model,
            encoder_heads: hints.encoder_heads.unwrap_or(heads),
            encoder_layers: layers("encoder"),
            text_context: shape("model.decoder.embed_positions.weight", 2)?[0],
            decoder_heads: hints.decoder_heads.unwrap_or(heads),
            decoder_layers: layers("decoder"),
            vocab: tokens[0],
            alignment_heads: Vec::new(),
        };
        config.validate(model)?;
        config.alignment_heads = config.choose_alignment_heads(hints);
        Ok(config)
    }

    /// The stored heads where they exist in this network (a distilled checkpoint may still carry
    /// those of its teacher), else those of the published model of these sizes.
    fn choose_alignment_heads(&self, hints: &Hints) -> Vec<Head> {
        let exists =
            |&&(layer, head): &&Head| layer < self.decoder_layers && head < self.decoder_heads;
        let stored = hints.alignment_heads.as_deref().unwrap_or_default();
        if !stored.is_empty() && stored.iter().filter(exists).count() == stored.len() {
            return stored.to_vec();
        }
        let sizes = (self.d_model, self.encoder_layers, self.decoder_layers, self.vocab);
        let known = alignment_heads::of_sizes(sizes.0, sizes.1, sizes.2, sizes.3);
        known.filter(|heads| heads.iter().filter(exists).count() == heads.len()).map_or_else(
            || alignment_heads::unknown(self.decoder_layers, self.decoder_heads),
            <[Head]>::to_vec,
        )
    }

    /// Whether the model knows languages other than English.
    pub(crate) fn is_multilingual(&self) -> bool {
        self.vocab >= 51_865
    }

    /// Checks that the sizes describe a network that can be built.
    pub(crate) fn validate(&self, model: &str) -> Result<()> {
        let wrong = |what: String| Err(Error::model(model, what));
        let heads = [self.encoder_heads, self.decoder_heads];
        if self.d_model == 0 || heads.iter().any(|&h| h == 0 || !self.d_model.is_multiple_of(h)) {
            return wrong(format!(
                "{heads:?} attention heads do not divide width {}",
                self.d_model
            ));
        }
        if !matches!(self.n_mels, 80 | 128) {
            return wrong(format!("{} mel bands, expected 80 or 128", self.n_mels));
        }
        let limits = [
            ("encoder layers", self.encoder_layers, 1, 128),
            ("decoder layers", self.decoder_layers, 1, 128),
            ("width", self.d_model, 1, 8192),
            ("text context", self.text_context, 16, 8192),
            ("audio context", self.audio_context, 1500, 1500),
            ("vocabulary", self.vocab, 1, 200_000),
        ];
        for (what, value, low, high) in limits {
            if !(low..=high).contains(&value) {
                return wrong(format!("{what} is {value}, expected {low} to {high}"));
            }
        }
        Ok(())
    }
}
