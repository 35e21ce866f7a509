//! Sizes and special tables of a Whisper network.

use crate::error::{Error, Result};

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
    /// Decoder heads whose cross-attention follows time, (layer, head); empty if unknown.
    pub(crate) alignment_heads: Vec<(usize, usize)>,
}

impl WhisperConfig {
    /// Whether the model knows languages other than English.
    pub(crate) fn is_multilingual(&self) -> bool {
        self.vocab >= 51_865
    }

    /// How many language tokens the vocabulary has.
    pub(crate) fn n_languages(&self) -> usize {
        if self.vocab >= 51_866 { 100 } else { 99 }
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
