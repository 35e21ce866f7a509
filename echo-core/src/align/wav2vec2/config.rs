//! Sizes of a wav2vec 2.0 network: read off the shapes of its weights, and from `config.json` where
//! shapes do not tell.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::models::weights::Weights;

/// Strides of the convolutions of every published network: 320 samples a frame.
const STRIDES: [usize; 7] = [5, 2, 2, 2, 2, 2, 2];

/// Columns of an attention head in every published network.
const HEAD_COLUMNS: usize = 64;

/// More layers than any network has.
const MAX_LAYERS: usize = 256;

/// How features are normalised after a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FeatureNorm {
    /// Each channel over time, after the first convolution (base).
    Group,
    /// All channels of a frame, after each convolution (large).
    Layer,
}

/// One convolution of the feature extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConvolutionSize {
    pub(super) channels: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
}

/// The sizes of a network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    pub(super) convolutions: Vec<ConvolutionSize>,
    pub(super) feature_norm: FeatureNorm,
    /// Whether norms stand before attention and perceptron (large) or after them (base).
    pub(super) is_pre_norm: bool,
    pub(super) d_model: usize,
    pub(super) d_hidden: usize,
    pub(super) heads: usize,
    pub(super) layers: usize,
    /// Taps of the convolution that tells positions.
    pub(super) position_kernel: usize,
    pub(super) position_groups: usize,
    pub(super) vocab: usize,
    pub(super) epsilon: f32,
}

/// What a `config.json` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigFile {
    num_attention_heads: Option<usize>,
    conv_stride: Option<Vec<usize>>,
    do_stable_layer_norm: Option<bool>,
    layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    add_adapter: Option<bool>,
}

impl Config {
    /// # Errors
    /// [`Error::Model`] if the tensors are not those of wav2vec 2.0 with a CTC head.
    pub(super) fn from_weights(
        model: &str,
        weights: &dyn Weights,
        file: &ConfigFile,
    ) -> Result<Self> {
        let failed = |reason: String| Error::model(model, reason);
        if file.add_adapter == Some(true) || file.hidden_act.as_deref().is_some_and(|a| a != "gelu")
        {
            let what = "has an adapter or another activation than GELU, expected plain wav2vec 2.0";
            return Err(failed(what.to_owned()));
        }
        let shape = |name: &str| weights.shape(name);
        let Some([vocab, d_model]) =
            shape("lm_head.weight").and_then(|s| <[usize; 2]>::try_from(s).ok())
        else {
            let what = "has no `lm_head.weight`, expected wav2vec 2.0 with a CTC head; a network \
                        that was only pretrained has none";
            return Err(failed(what.to_owned()));
        };
        let mut convolutions = Vec::new();
        while let Some([channels, _, kernel]) =
            shape(&format!("feature_extractor.conv_layers.{}.conv.weight", convolutions.len()))
                .and_then(|shape| <[usize; 3]>::try_from(shape).ok())
        {
            let index = convolutions.len();
            let strides = file.conv_stride.as_deref().unwrap_or(&STRIDES);
            let Some(&stride) = strides.get(index).filter(|stride| **stride > 0) else {
                return Err(failed(format!("has no stride for convolution {index}")));
            };
            convolutions.push(ConvolutionSize { channels, kernel, stride });
        }
        let has_second = shape("feature_extractor.conv_layers.1.layer_norm.weight").is_some();
        let feature_norm = if has_second { FeatureNorm::Layer } else { FeatureNorm::Group };
        let layer = |index: usize| format!("encoder.layers.{index}.attention.q_proj.weight");
        let layers = (0..MAX_LAYERS).take_while(|&index| shape(&layer(index)).is_some()).count();
        let hidden = shape("encoder.layers.0.feed_forward.intermediate_dense.weight");
        let position = shape("encoder.pos_conv_embed.conv.weight_v")
            .and_then(|shape| <[usize; 3]>::try_from(shape).ok());
        let (Some(d_hidden), Some([_, group, position_kernel])) =
            (hidden.and_then(|shape| shape.first().copied()), position)
        else {
            return Err(failed("has no encoder, expected wav2vec 2.0".to_owned()));
        };
        let heads = file.num_attention_heads.unwrap_or(d_model / HEAD_COLUMNS);
        let fits = heads > 0
            && d_model.is_multiple_of(heads)
            && d_model.is_multiple_of(group)
            && layers > 0
            && !convolutions.is_empty();
        if !fits {
            let what = format!("has {layers} layers of {d_model} columns and {heads} heads");
            return Err(failed(what));
        }
        Ok(Self {
            convolutions,
            feature_norm,
            is_pre_norm: file.do_stable_layer_norm.unwrap_or(feature_norm == FeatureNorm::Layer),
            d_model,
            d_hidden,
            heads,
            layers,
            position_kernel,
            position_groups: d_model / group,
            vocab,
            epsilon: file.layer_norm_eps.unwrap_or(1e-5),
        })
    }
}
