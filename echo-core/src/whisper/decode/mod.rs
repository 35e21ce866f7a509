//! Decoding: from encoded windows to tokens, with the reference's rules.
//!
//! [`Decoder`] walks the temperatures: all windows are decoded together at the first, those whose
//! text fails the tests of [`fallback`] together at the next. At temperature 0 a window is searched
//! greedily or by beams, above it several texts are drawn and the likeliest is kept. The encoder
//! ran before and is never run again.

mod beam;
mod fallback;
mod greedy;
mod hypothesis;
pub(crate) mod prompt;
mod rules;
mod sample;
mod search;
mod suppress;
mod timestamps;

use self::beam::{Beam, BeamOptions};
use self::greedy::Greedy;
use self::prompt::Prompt;
use self::rules::Rules;
use self::sample::{Sample, SplitMix64};
use self::search::{Limits, Outcome, Search, Window};
use super::network::{Encoded, Network};
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::options::DecodeOptions;
use crate::progress::CancelToken;

/// One window to decode.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Its place among the encoded windows.
    pub(crate) window: usize,
    /// What its text starts with.
    pub(crate) prompt: Prompt,
    /// Tells windows apart in sampling: where the window lies in its source.
    pub(crate) seed: u64,
}

/// The text of one window.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Decoded {
    /// Text and times, the forced beginning included, the end of text not.
    pub(crate) tokens: Vec<u32>,
    /// The natural log probability of each of them; 0 for the forced beginning.
    pub(crate) logprobs: Vec<f32>,
    /// Mean natural log probability of the tokens, the end of text included.
    pub(crate) avg_logprob: f32,
    /// Bytes of the text over bytes of it deflated.
    pub(crate) compression_ratio: f32,
    /// The probability of the no-speech token where the transcript starts.
    pub(crate) no_speech_prob: f32,
    /// The temperature of this text.
    pub(crate) temperature: f32,
    /// The highest temperature that was tried.
    pub(crate) last_temperature: f32,
    /// Whether nobody speaks, whatever the tokens say.
    pub(crate) is_silent: bool,
}

/// Decodes windows by one set of options. Shared by threads.
pub(crate) struct Decoder<'a> {
    network: &'a dyn Network,
    tokenizer: &'a Tokenizer,
    options: &'a DecodeOptions,
    rules: Rules,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(
        network: &'a dyn Network,
        tokenizer: &'a Tokenizer,
        options: &'a DecodeOptions,
    ) -> Result<Self> {
        options.validate()?;
        let rules = Rules::new(tokenizer, network.config().vocab, options)?;
        Ok(Self { network, tokenizer, options, rules })
    }

    /// Decodes windows together; the results are in the order of the jobs.
    pub(crate) fn decode(
        &self,
        encoded: &Encoded,
        jobs: &[Job],
        cancel: &CancelToken,
    ) -> Result<Vec<Decoded>> {
        let mut attempts: Vec<Vec<Decoded>> = vec![Vec::new(); jobs.len()];
        let mut open: Vec<usize> = (0..jobs.len()).collect();
        for &temperature in &self.options.temperatures {
            let windows = open.iter().map(|&job| self.window(&jobs[job], temperature)).collect();
            let outcomes = search::run(self.network, encoded, windows, &self.rules, cancel)?;
            let mut failed = Vec::new();
            for (job, outcome) in open.into_iter().zip(outcomes) {
                let decoded = self.judge(outcome, temperature);
                if fallback::needs_another_attempt(&decoded, self.options) {
                    failed.push(job);
                } else {
                    // This one counts, whatever was tried before.
                    attempts[job].clear();
                }
                attempts[job].push(decoded);
            }
            open = failed;
            if open.is_empty() {
                break;
            }
        }
        let best = attempts.into_iter().map(|attempts| self.best(attempts));
        Ok(best.collect())
    }

    fn window<'j>(&self, job: &'j Job, temperature: f32) -> Window<'j> {
        let prompt = &job.prompt;
        let options = self.options;
        let limits = Limits {
            end_of_text: self.tokenizer.special.end_of_text,
            max_tokens: prompt.max_tokens,
        };
        let search: Box<dyn Search> = if temperature > 0.0 {
            let seeds = [options.seed, job.seed, u64::from(temperature.to_bits())];
            let generator =
                |index: usize| SplitMix64::new(&[seeds[0], seeds[1], seeds[2], index as u64]);
            Box::new(Sample::new(
                prompt.prefix(),
                limits,
                temperature,
                options.length_penalty,
                (0..options.best_of).map(generator).collect(),
            ))
        } else if options.beam_size == 1 {
            Box::new(Greedy::new(prompt.prefix(), limits))
        } else {
            let beam = BeamOptions {
                size: options.beam_size,
                patience: options.patience,
                length_penalty: options.length_penalty,
            };
            Box::new(Beam::new(prompt.prefix(), limits, beam))
        };
        Window { index: job.window, prompt, search }
    }

    fn judge(&self, outcome: Outcome, temperature: f32) -> Decoded {
        let Outcome { best, no_speech_prob } = outcome;
        let text = self.tokenizer.decode(&best.tokens);
        let mut decoded = Decoded {
            avg_logprob: best.sum_logprob / (best.tokens.len() + 1) as f32,
            compression_ratio: fallback::compression_ratio(text.trim()),
            tokens: best.tokens,
            logprobs: best.logprobs,
            no_speech_prob,
            temperature,
            last_temperature: temperature,
            is_silent: false,
        };
        decoded.is_silent = fallback::is_silent(&decoded, self.options);
        decoded
    }

    fn best(&self, attempts: Vec<Decoded>) -> Decoded {
        let last_temperature = attempts.last().map_or(0.0, |attempt| attempt.temperature);
        let best = fallback::best_attempt(attempts, self.options).unwrap_or_default();
        Decoded { last_temperature, ..best }
    }
}

#[cfg(test)]
mod tests;
