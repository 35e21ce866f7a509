//! The decoder loop: every window's hypotheses go through the network together.
//!
//! Rows of a step are the hypotheses alive, window after window. The first step hears each window's
//! prompt once; a [`Search`] then says which rows go on, and a window that is done leaves the batch.

use super::hypothesis::Hypothesis;
use super::logits;
use super::prompt::Prompt;
use super::rules::Rules;
use crate::error::{Error, Result};
use crate::progress::CancelToken;
use crate::whisper::network::{Encoded, Network, Session};

/// When a hypothesis is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// The token that ends it.
    pub(super) end_of_text: u32,
    /// The most tokens it can have, its forced prefix included.
    pub(super) max_tokens: usize,
}

impl Limits {
    /// Appends a chosen token; the result says whether the hypothesis is over.
    pub(super) fn push(&self, hypothesis: &mut Hypothesis, token: u32, logprob: f32) -> bool {
        hypothesis.sum_logprob += logprob;
        if token == self.end_of_text {
            return true;
        }
        hypothesis.tokens.push(token);
        hypothesis.logprobs.push(logprob);
        hypothesis.tokens.len() >= self.max_tokens
    }
}

/// How the tokens of one window are chosen.
pub(super) trait Search: Send {
    /// The hypotheses that go on; at first one, that has said no more than the prefix.
    fn alive(&self) -> &[Hypothesis];

    /// Extends every hypothesis by one token, given the logits of each, `(vocab)`. The result
    /// names, for each hypothesis alive afterwards, the one before that it continues; with none
    /// left the search is over.
    fn advance(&mut self, rows: &[Vec<f32>]) -> Vec<usize>;

    /// The best hypothesis that ended, if any did.
    fn into_best(self: Box<Self>) -> Option<Hypothesis>;
}

/// One window to decode.
pub(super) struct Window<'a> {
    /// Its place among the encoded windows.
    pub(super) index: usize,
    pub(super) prompt: &'a Prompt,
    pub(super) search: Box<dyn Search>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) best: Hypothesis,
    /// The probability of the no-speech token where the transcript starts.
    pub(super) no_speech_prob: f32,
}

/// Decodes windows together. The outcomes are in their order.
pub(super) fn run(
    network: &dyn Network,
    encoded: &Encoded,
    windows: Vec<Window<'_>>,
    rules: &Rules,
    cancel: &CancelToken,
) -> Result<Vec<Outcome>> {
    if windows.is_empty() {
        return Ok(Vec::new());
    }
    let indices: Vec<usize> = windows.iter().map(|window| window.index).collect();
    let mut session = network.session(encoded, &indices)?;
    cancel.check()?;
    let (no_speech_probs, mut rows) = start(&mut *session, &windows, rules)?;

    let mut outcomes = vec![None; windows.len()];
    let mut running: Vec<(usize, Window<'_>)> = windows.into_iter().enumerate().collect();
    loop {
        let mut parents = Vec::with_capacity(rows.len());
        let mut going_on = Vec::with_capacity(running.len());
        let mut first_row = 0;
        for (slot, mut window) in running {
            let n_rows = window.search.alive().len();
            let own = &mut rows[first_row..first_row + n_rows];
            for (row, hypothesis) in own.iter_mut().zip(window.search.alive()) {
                rules.apply(row, &hypothesis.tokens, window.prompt.prefix_len);
            }
            let own_parents = window.search.advance(own);
            if own_parents.is_empty() {
                let best = window.search.into_best().ok_or_else(not_numbers)?;
                outcomes[slot] = Some(Outcome { best, no_speech_prob: no_speech_probs[slot] });
            } else {
                parents.extend(own_parents.iter().map(|parent| first_row + parent));
                going_on.push((slot, window));
            }
            first_row += n_rows;
        }
        running = going_on;
        if running.is_empty() {
            break;
        }
        if !parents.iter().copied().eq(0..first_row) {
            session.select(&parents)?;
        }
        cancel.check()?;
        rows = step(&mut *session, &running, rules.vocab)?;
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// Hears the prompts: the no-speech probability of each window, and the logits after each prompt.
fn start(
    session: &mut (dyn Session + '_),
    windows: &[Window<'_>],
    rules: &Rules,
) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
    let prompts: Vec<&[u32]> = windows.iter().map(|window| &*window.prompt.tokens).collect();
    let mut wanted = Vec::with_capacity(2 * windows.len());
    for (row, window) in windows.iter().enumerate() {
        wanted.push((row, window.prompt.start));
        wanted.push((row, window.prompt.tokens.len() - 1));
    }
    let answers = checked(session.step(&prompts, &wanted)?, wanted.len(), rules.vocab)?;
    let (mut no_speech_probs, mut rows) = (Vec::new(), Vec::new());
    let mut answers = answers.into_iter();
    while let (Some(at_start), Some(at_end)) = (answers.next(), answers.next()) {
        let no_speech = at_start[rules.no_speech as usize];
        no_speech_probs.push((no_speech - logits::log_sum_exp(&at_start)).exp());
        rows.push(at_end);
    }
    Ok((no_speech_probs, rows))
}

/// Says the last token of every hypothesis alive and hears what may follow.
fn step(
    session: &mut (dyn Session + '_),
    running: &[(usize, Window<'_>)],
    vocab: usize,
) -> Result<Vec<Vec<f32>>> {
    let alive = running.iter().flat_map(|(_, window)| window.search.alive());
    let tokens: Vec<&[u32]> = alive
        .map(|hypothesis| &hypothesis.tokens[hypothesis.tokens.len().saturating_sub(1)..])
        .collect();
    let wanted: Vec<(usize, usize)> = (0..tokens.len()).map(|row| (row, 0)).collect();
    checked(session.step(&tokens, &wanted)?, wanted.len(), vocab)
}

fn checked(rows: Vec<Vec<f32>>, count: usize, vocab: usize) -> Result<Vec<Vec<f32>>> {
    if rows.len() == count && rows.iter().all(|row| row.len() == vocab) {
        return Ok(rows);
    }
    let found = rows.first().map_or(0, Vec::len);
    let cause = format!("{} rows of {found} logits, expected {count} of {vocab}", rows.len());
    Err(Error::inference("the decoder", cause))
}

fn not_numbers() -> Error {
    Error::inference("the decoder", "the logits are not numbers")
}

#[cfg(test)]
mod tests;
