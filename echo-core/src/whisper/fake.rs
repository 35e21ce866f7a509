//! A network that says what a test tells it to, for tests of decoding rules.
//!
//! A script maps what a hypothesis has been told and has said, prompt included, to the next logits.
//! A window is known by the first value of its mel.

use std::sync::Mutex;

use super::config::WhisperConfig;
use super::network::{Encoded, Network, Session};
use super::tokenizer::{SpecialTokens, Tokenizer};
use crate::error::Result;
use crate::features::mel::Mel;
use crate::kernels::rank::{Ranked, Restriction};
use crate::progress::CancelToken;

/// The window, and all tokens so far.
type Script = Box<dyn Fn(f32, &[u32]) -> Vec<f32> + Send + Sync>;

pub(crate) struct FakeNetwork {
    config: WhisperConfig,
    script: Script,
    /// Whether it finds the likeliest tokens itself, as some devices do.
    pub(crate) ranks: bool,
    /// How many rows each step had.
    pub(crate) steps: Mutex<Vec<usize>>,
    /// The prompts that were heard: the first step of each session.
    pub(crate) prompts: Mutex<Vec<Vec<u32>>>,
    /// How many windows each call of the encoder had.
    pub(crate) encoded: Mutex<Vec<usize>>,
}

impl FakeNetwork {
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        script: impl Fn(f32, &[u32]) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        let config = WhisperConfig {
            n_mels: 80,
            audio_context: 1500,
            d_model: 64,
            encoder_heads: 1,
            encoder_layers: 1,
            text_context: 448,
            decoder_heads: 1,
            decoder_layers: 1,
            vocab: tokenizer.special.end as usize,
            alignment_heads: Vec::new(),
        };
        let script = Box::new(script);
        Self {
            config,
            script,
            ranks: false,
            steps: Mutex::default(),
            prompts: Mutex::default(),
            encoded: Mutex::default(),
        }
    }

    /// Says `answer(window, prompt)` token by token, then the end of text.
    pub(crate) fn saying(
        tokenizer: &Tokenizer,
        answer: impl Fn(f32, &[u32]) -> Vec<u32> + Send + Sync + 'static,
    ) -> Self {
        let special = tokenizer.special;
        Self::new(tokenizer, move |window, tokens| {
            let (prompt, said) = tokens.split_at(end_of_prompt(&special, tokens));
            sure_of(&special, &answer(window, prompt), said)
        })
    }

    /// Windows known by `names`.
    pub(crate) fn windows(names: &[f32]) -> Vec<Mel> {
        let mel = |&name: &f32| Mel { n_mels: 80, values: vec![name; 80 * 3000] };
        names.iter().map(mel).collect()
    }
}

/// Where the transcript begins, after language, task and the like.
fn end_of_prompt(special: &SpecialTokens, tokens: &[u32]) -> usize {
    let asked = special.start_of_transcript()..special.timestamp_begin;
    let start = tokens.iter().position(|&token| token == asked.start).unwrap();
    start + tokens[start..].iter().take_while(|token| asked.contains(token)).count()
}

/// Logits of a network that is sure of the token of `answer` that follows `said`.
pub(crate) fn sure_of(special: &SpecialTokens, answer: &[u32], said: &[u32]) -> Vec<f32> {
    let next = answer.get(said.len()).copied().unwrap_or(special.end_of_text);
    let mut logits = vec![0.0; special.end as usize];
    logits[next as usize] = 20.0;
    logits
}

impl Network for FakeNetwork {
    fn config(&self) -> &WhisperConfig {
        &self.config
    }

    fn encode(&self, mels: Vec<Mel>, _: &CancelToken) -> Result<Encoded> {
        self.encoded.lock().unwrap().push(mels.len());
        let names: Vec<f32> = mels.iter().map(|mel| mel.values[0]).collect();
        Ok(Encoded { windows: names.len(), state: Box::new(names) })
    }

    fn session<'a>(
        &'a self,
        encoded: &'a Encoded,
        windows: &[usize],
    ) -> Result<Box<dyn Session + 'a>> {
        let names = encoded.state.downcast_ref::<Vec<f32>>().unwrap();
        let rows = windows.iter().map(|&window| (names[window], Vec::new())).collect();
        Ok(Box::new(FakeSession { network: self, rows, has_started: false }))
    }
}

struct FakeSession<'a> {
    network: &'a FakeNetwork,
    rows: Vec<(f32, Vec<u32>)>,
    has_started: bool,
}

impl Session for FakeSession<'_> {
    fn step(&mut self, tokens: &[&[u32]], wanted: &[(usize, usize)]) -> Result<Vec<Vec<f32>>> {
        assert_eq!(tokens.len(), self.rows.len());
        assert!(tokens.iter().all(|tokens| !tokens.is_empty()));
        self.network.steps.lock().unwrap().push(tokens.len());
        if !self.has_started {
            let prompts = tokens.iter().map(|prompt| prompt.to_vec());
            self.network.prompts.lock().unwrap().extend(prompts);
            self.has_started = true;
        }
        let past: Vec<usize> = self.rows.iter().map(|(_, said)| said.len()).collect();
        for ((_, said), new) in self.rows.iter_mut().zip(tokens) {
            said.extend_from_slice(new);
            assert!(said.len() <= self.network.config.text_context, "too many positions");
        }
        let logits = wanted.iter().map(|&(row, index)| {
            let (window, said) = &self.rows[row];
            (self.network.script)(*window, &said[..=past[row] + index])
        });
        Ok(logits.collect())
    }

    fn step_ranked(
        &mut self,
        tokens: &[&[u32]],
        wanted: &[(usize, usize)],
        restrictions: &[Restriction],
        count: usize,
    ) -> Result<Option<Vec<Ranked>>> {
        if !self.network.ranks {
            return Ok(None);
        }
        let rows = self.step(tokens, wanted)?;
        let ranked = rows.iter().zip(restrictions).map(|(row, rules)| ranked(row, rules, count));
        Ok(Some(ranked.collect()))
    }

    fn select(&mut self, parents: &[usize]) -> Result<()> {
        self.rows = parents.iter().map(|&parent| self.rows[parent].clone()).collect();
        Ok(())
    }

    fn alignment(&mut self, _tokens: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        unreachable!("decoding asks for no alignment")
    }
}

/// The likeliest tokens by a full sort.
fn ranked(logits: &[f32], rules: &Restriction, count: usize) -> Ranked {
    let is_out = |token: &u32| rules.forbidden.iter().any(|range| range.contains(token));
    let tokens = (0..logits.len() as u32).filter(|token| !is_out(token));
    let mut allowed: Vec<(u32, f32)> = tokens.map(|t| (t, logits[t as usize])).collect();
    let log_sum = |tokens: &[(u32, f32)]| tokens.iter().map(|t| t.1.exp()).sum::<f32>().ln();
    if let Some(group) = &rules.group {
        let (own, others): (Vec<_>, Vec<_>) =
            allowed.iter().copied().partition(|(token, _)| group.contains(token));
        if others.iter().all(|&(_, logit)| log_sum(&own) > logit) {
            allowed = own;
        }
    }
    allowed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let log_sum_exp = log_sum(&allowed);
    allowed.truncate(count);
    Ranked { log_sum_exp, likeliest: allowed }
}
