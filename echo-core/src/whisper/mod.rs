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
        let vocabulary = checkpoint.vocabulary()?;
        let log_mel = LogMel::new(config.n_mels).on(stages);
        // Merges are found from the order of tokens meanwhile: half as long as small weights take.
        let (tokenizer, network) = std::thread::scope(|scope| {
            let make = || tokenizer::Tokenizer::new(&checkpoint.name, vocabulary.iter(), &config);
            let tokenizer = scope.spawn(make);
            let network = model::load(config.clone(), &*checkpoint.weights, choice, threads);
            (tokenizer.join(), network)
        });
        let tokenizer = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Self { network: network?, tokenizer, log_mel })
    }
}
