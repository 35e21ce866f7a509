//! wav2vec 2.0 with a CTC head: samples in, a score of every letter for every 20 ms out.
//!
//! Two layouts of one network (Baevski et al., 2020): *base* (group norm, norms behind each part) and
//! *large* with XLSR and XLS-R (layer norms, in front). f32 on the CPU. Names are those of Hugging
//! Face without `wav2vec2.`; torchaudio's are translated by [`names`]. Source: `modeling_wav2vec2.py`
//! of transformers 4.57.

mod config;
mod convolutions;
mod encoder;
mod layers;
pub(super) mod names;

use self::config::{Config, ConfigFile};
use self::convolutions::Convolutions;
use self::encoder::Encoder;
use self::layers::{Linear, Norm};
use crate::error::{Error, Result};
use crate::models::weights::Weights;
use crate::progress::CancelToken;

/// The network.
#[derive(Debug)]
pub(crate) struct Wav2Vec2 {
    convolutions: Convolutions,
    feature_norm: Norm,
    projection: Linear,
    encoder: Encoder,
    head: Linear,
    /// Whether it was trained on samples of mean 0 and deviation 1.
    pub(crate) expects_normalised: bool,
}

impl Wav2Vec2 {
    /// Loads the network; `json` is its `config.json`, if it has one.
    ///
    /// # Errors
    /// [`Error::Model`] naming the first thing that is not as wav2vec 2.0 has it.
    pub(crate) fn load(model: &str, weights: &dyn Weights, json: Option<&[u8]>) -> Result<Self> {
        let file = match json {
            Some(json) => serde_json::from_slice(json)
                .map_err(|error| Error::model(model, format!("config.json: {error}")))?,
            None => ConfigFile::default(),
        };
        let config = Config::from_weights(model, weights, &file)?;
        let channels = config.convolutions.last().map_or(0, |last| last.channels);
        let (d_model, epsilon) = (config.d_model, config.epsilon);
        Ok(Self {
            convolutions: Convolutions::load(weights, &config)?,
            feature_norm: Norm::load(weights, "feature_projection.layer_norm", channels, epsilon)?,
            projection: Linear::load(
                weights,
                "feature_projection.projection",
                [d_model, channels],
            )?,
            encoder: Encoder::load(weights, &config)?,
            head: Linear::load(weights, "lm_head", [config.vocab, d_model])?,
            expects_normalised: config.feature_norm == config::FeatureNorm::Layer,
        })
    }

    /// How many labels each frame is scored for.
    pub(crate) fn n_labels(&self) -> usize {
        self.head.outputs()
    }

    /// How many frames come of so many samples.
    pub(crate) fn n_frames(&self, n_samples: usize) -> usize {
        self.convolutions.n_frames(n_samples)
    }

    /// Samples at 16 kHz to logits `(frames, labels)`.
    pub(crate) fn logits(
        &self,
        samples: &[f32],
        threads: usize,
        cancel: &CancelToken,
    ) -> Result<Vec<f32>> {
        if self.n_frames(samples.len()) == 0 {
            return Ok(Vec::new());
        }
        let mut features = self.convolutions.run(samples, threads);
        cancel.check()?;
        self.feature_norm.run(&mut features);
        let x = self.projection.run(&features, threads);
        drop(features);
        let x = self.encoder.run(x, threads, cancel)?;
        Ok(self.head.run(&x, threads))
    }
}

#[cfg(test)]
mod tests;
