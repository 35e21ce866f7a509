//! Whisper: network, tokens and decoding.

pub(crate) mod batched;
pub(crate) mod config;
pub(crate) mod decode;
pub(crate) mod excerpt;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod golden;
pub(crate) mod language;
mod loader;
pub(crate) mod model;
pub(crate) mod network;
#[cfg(feature = "bench")]
pub(crate) mod random;
pub(crate) mod segments;
pub(crate) mod sequential;
mod session;
mod skipped;
pub(crate) mod tokenizer;
pub(crate) mod words;

use crate::error::Result;
use crate::features::mel::LogMel;
use crate::kernels::select::Choice;
use crate::models::Checkpoint;
use crate::threads::Threads;

/// A loaded Whisper: network, vocabulary and features.
pub(crate) struct Recognizer {
    pub(crate) network: Box<dyn network::Network>,
    pub(crate) tokenizer: tokenizer::Tokenizer,
    pub(crate) log_mel: LogMel,
}

impl Recognizer {
    /// Packs a checkpoint for a device, with so many threads if that is the CPU; `stages` compute
    /// features.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        choice: Choice,
        threads: Option<usize>,
        stages: &Threads,
    ) -> Result<Self> {
        let config = checkpoint.config.clone();
        let texts = checkpoint.vocabulary()?.iter();
        let tokenizer = tokenizer::Tokenizer::new(&checkpoint.name, texts, &config)?;
        let log_mel = LogMel::new(config.n_mels).on(stages);
        let network = model::load(config, &*checkpoint.weights, choice, threads)?;
        Ok(Self { network, tokenizer, log_mel })
    }
}
