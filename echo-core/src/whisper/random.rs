//! A network of a published shape with random weights: how fast a device is, without a download.
//!
//! Speed does not depend on what the weights say, only that they are no zeros. Texts mean nothing,
//! so a run has as many tokens as are asked for. Feature `bench`, for the measuring programs.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::model;
use super::network::{Network, Session};
use crate::device::{ComputeType, Device};
use crate::error::{Error, Result};
use crate::features::mel::Mel;
use crate::kernels::FRAMES;
use crate::kernels::rank::{Ranked, Restriction};
use crate::kernels::select;
use crate::models::config::WhisperConfig;
use crate::models::weights::{Tensor, Values, Weights};
use crate::progress::CancelToken;

/// Random values that tensors are cut from: more than fit a cache.
const POOL_VALUES: usize = 80 << 20;

/// The task of a transcript in English without times.
const PROMPT: [u32; 4] = [50_258, 50_259, 50_359, 50_363];

/// A published shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// 6 + 6 layers of 512.
    Base,
    /// 12 + 12 layers of 768.
    Small,
    /// 32 + 32 layers of 1,280.
    LargeV2,
    /// 32 + 4 layers of 1,280.
    Turbo,
}

impl Shape {
    fn config(self) -> WhisperConfig {
        let (n_mels, d_model, encoder_layers, decoder_layers, vocab) = match self {
            Self::Base => (80, 512, 6, 6, 51_865),
            Self::Small => (80, 768, 12, 12, 51_865),
            Self::LargeV2 => (80, 1280, 32, 32, 51_865),
            Self::Turbo => (128, 1280, 32, 4, 51_866),
        };
        WhisperConfig {
            n_mels,
            audio_context: FRAMES,
            d_model,
            encoder_heads: d_model / 64,
            encoder_layers,
            text_context: 448,
            decoder_heads: d_model / 64,
            decoder_layers,
            vocab,
            alignment_heads: Vec::new(),
        }
    }
}

/// A network with random weights.
pub struct RandomNetwork {
    network: Box<dyn Network>,
}

impl std::fmt::Debug for RandomNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RandomNetwork").finish_non_exhaustive()
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Timing {
    /// From the features on the host to the first token of every hypothesis: the encoder, the
    /// decoder's keys and values, and the prompt.
    pub encode: Duration,
    /// All steps after it.
    pub decode: Duration,
    /// How many steps that were.
    pub steps: usize,
}

impl RandomNetwork {
    /// Makes the weights and loads them onto a device; a CPU computes on `threads` threads, `None`
    /// is as many as it has processors.
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot be used or has too little memory.
    pub fn new(
        shape: Shape,
        device: Device,
        compute: ComputeType,
        threads: Option<usize>,
    ) -> Result<Self> {
        let choice = select::select(device, compute)?;
        let weights = RandomWeights::new();
        Ok(Self { network: model::load(shape.config(), &weights, choice, threads)? })
    }

    /// Encodes `batch` windows and says `tokens` tokens in each of `beams` hypotheses a window,
    /// which exchange their beginnings as beams do; one beam takes the likeliest token.
    ///
    /// # Errors
    /// What the network answers, and [`Error::Inference`] if it finds no token.
    pub fn run(&self, batch: usize, beams: usize, tokens: usize) -> Result<Timing> {
        let config = self.network.config();
        let values = noise(config.n_mels * 2 * FRAMES);
        let mels: Vec<Mel> = vec![Mel { n_mels: config.n_mels, values }; batch];
        let cancel = CancelToken::default();
        let start = Instant::now();
        let encoded = self.network.encode(mels, &cancel)?;
        let windows: Vec<usize> = (0..batch).collect();
        let mut session = self.network.session(&encoded, &windows)?;
        let last = PROMPT.len() - 1;
        let wanted: Vec<(usize, usize)> = windows.iter().map(|&window| (window, last)).collect();
        let count = if beams > 1 { 2 * beams } else { 1 };
        let rules = restriction(config.vocab);
        let step = |tokens: &[&[u32]], wanted: &[(usize, usize)], session: &mut dyn Session| {
            let rules = vec![rules.clone(); wanted.len()];
            match session.step_ranked(tokens, wanted, &rules, count)? {
                Some(ranked) => ranked.iter().map(likeliest).collect::<Result<Vec<u32>>>(),
                None => Ok(session.step(tokens, wanted)?.iter().map(|row| highest(row)).collect()),
            }
        };
        let first = step(&vec![&PROMPT[..]; batch], &wanted, &mut *session)?;
        let mut said: Vec<u32> = first.iter().flat_map(|&token| vec![token; beams]).collect();
        let encode = start.elapsed();
        if beams > 1 {
            let parents: Vec<usize> = (0..batch).flat_map(|row| vec![row; beams]).collect();
            session.select(&parents)?;
        }
        // A beam search goes on in another order of its hypotheses after most steps.
        let parents: Vec<usize> = (0..batch)
            .flat_map(|row| (0..beams).rev().map(move |beam| row * beams + beam))
            .collect();
        let wanted: Vec<(usize, usize)> = (0..said.len()).map(|row| (row, 0)).collect();
        let start = Instant::now();
        for _ in 1..tokens {
            let new: Vec<&[u32]> = said.chunks(1).collect();
            said = step(&new, &wanted, &mut *session)?;
            if beams > 1 {
                session.select(&parents)?;
            }
        }
        Ok(Timing { encode, decode: start.elapsed(), steps: tokens.saturating_sub(1) })
    }
}

/// As many ranges as the usual rules have.
fn restriction(vocab: usize) -> Restriction {
    let end = vocab as u32;
    let symbols = (0..90).map(|index| 300 * index..300 * index + 1);
    Restriction {
        forbidden: symbols.chain(std::iter::once(end - 1501..end - 1400)).collect(),
        group: Some(end - 1501..end),
    }
}

fn likeliest(row: &Ranked) -> Result<u32> {
    let first = row.likeliest.first().map(|&(token, _)| token);
    first.ok_or_else(|| Error::inference("bench", "no token is possible"))
}

fn highest(row: &[f32]) -> u32 {
    let highest = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    highest.map_or(0, |(token, _)| token as u32)
}

/// Numbers between -1 and 1.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let value = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(value).collect()
}

/// Every tensor that is asked for, cut from one pool of noise.
struct RandomWeights {
    pool: Vec<u8>,
    ones: Vec<u8>,
}

impl RandomWeights {
    fn new() -> Self {
        // About the size of trained weights.
        let bytes = |value: f32| half::f16::from_f32(value * 0.03).to_le_bytes();
        let pool = noise(POOL_VALUES).into_iter().flat_map(bytes).collect();
        let ones = half::f16::ONE.to_le_bytes().repeat(1 << 16);
        Self { pool, ones }
    }
}

impl Weights for RandomWeights {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        let size_bytes = 2 * shape.iter().product::<usize>();
        let is_scale = name.ends_with("norm.weight");
        let source = if is_scale { &self.ones } else { &self.pool };
        let room = source.len().saturating_sub(size_bytes) / 2;
        // Another place for each name.
        let hash =
            name.bytes().fold(5381_usize, |hash, byte| hash.wrapping_mul(33) ^ usize::from(byte));
        let start = if is_scale { 0 } else { 2 * (hash % (room + 1)) };
        let Some(bytes) = source.get(start..start + size_bytes) else {
            return Err(Error::model("random", format!("{name} is larger than the pool")));
        };
        Ok(Tensor { shape: shape.to_vec(), values: Values::F16(Cow::Borrowed(bytes)) })
    }

    fn shape(&self, _name: &str) -> Option<Vec<usize>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_are_numbers_of_the_size_asked_for() {
        let weights = RandomWeights::new();
        let tensor = weights.get("model.decoder.embed_tokens.weight", &[100, 512]).unwrap();
        let values = tensor.to_f32().unwrap();
        assert!(values.len() == 51_200 && values.iter().all(|value| value.abs() <= 0.031));
        assert!(weights.get("huge", &[1 << 20, 1 << 20]).is_err());
    }
}
