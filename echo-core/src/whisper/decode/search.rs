//! The decoder loop: every window's hypotheses go through the network together.
//!
//! Rows of a step are the hypotheses alive, window after window. The first step hears each window's
//! prompt once; a [`Search`] then says which rows go on, and a window that is done leaves the batch.

use std::ops::Range;

use super::hypothesis::Hypothesis;
use super::prompt::Prompt;
use super::rules::Rules;
use crate::error::{Error, Result};
use crate::kernels::logits;
use crate::kernels::rank::{self, Ranked, Restriction};
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

    /// How many of the likeliest tokens after each hypothesis it wants to know; `None` if it wants
    /// all logits.
    fn wanted(&self) -> Option<usize>;

    /// Extends every hypothesis by one token, given the likeliest after each, as many as are
    /// [wanted](Self::wanted). The result names, for each hypothesis alive afterwards, the one
    /// before that it continues; with none left the search is over.
    fn advance_ranked(&mut self, rows: &[Ranked]) -> Vec<usize>;

    /// The same, given the logits after each hypothesis, `(vocab)`.
    fn advance(&mut self, rows: &[Vec<f32>]) -> Vec<usize> {
        let count = self.wanted().unwrap_or_default();
        let ranked: Vec<Ranked> = rows.iter().map(|row| rank::rank(row, count)).collect();
        self.advance_ranked(&ranked)
    }

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
    let (no_speech_probs, mut heard) = match start_ranked(&mut *session, &windows, rules)? {
        Some(started) => started,
        None => start(&mut *session, &windows, rules)?,
    };

    let mut outcomes = vec![None; windows.len()];
    let mut running: Vec<(usize, Window<'_>)> = windows.into_iter().enumerate().collect();
    loop {
        let mut parents = Vec::new();
        let mut going_on = Vec::with_capacity(running.len());
        let mut first_row = 0;
        for (slot, mut window) in running {
            let n_rows = window.search.alive().len();
            let own_parents = heard.advance(&mut window, first_row..first_row + n_rows, rules);
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
        heard = match step_ranked(&mut *session, &running, rules)? {
            Some(ranked) => Heard::Ranked(ranked),
            None => Heard::Logits(step(&mut *session, &running, rules.vocab)?),
        };
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// What may follow the hypotheses alive.
enum Heard {
    /// All logits, before the rules.
    Logits(Vec<Vec<f32>>),
    /// The likeliest tokens, after the rules.
    Ranked(Vec<Ranked>),
}

impl Heard {
    /// Extends a window's hypotheses, whose rows are given.
    fn advance(
        &mut self,
        window: &mut Window<'_>,
        rows: Range<usize>,
        rules: &Rules,
    ) -> Vec<usize> {
        match self {
            Self::Ranked(ranked) => window.search.advance_ranked(&ranked[rows]),
            Self::Logits(logits) => {
                let own = &mut logits[rows];
                for (row, hypothesis) in own.iter_mut().zip(window.search.alive()) {
                    rules.apply(row, &hypothesis.tokens, window.prompt.prefix_len);
                }
                window.search.advance(own)
            }
        }
    }
}

/// Hears the prompts: the no-speech probability of each window, and the logits after each prompt.
fn start(
    session: &mut (dyn Session + '_),
    windows: &[Window<'_>],
    rules: &Rules,
) -> Result<(Vec<f32>, Heard)> {
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
    Ok((no_speech_probs, Heard::Logits(rows)))
}

/// The same where the device finds the likeliest tokens, and no search wants more.
fn start_ranked(
    session: &mut (dyn Session + '_),
    windows: &[Window<'_>],
    rules: &Rules,
) -> Result<Option<(Vec<f32>, Heard)>> {
    let Some(count) = most_wanted(windows.iter(), rules) else { return Ok(None) };
    let prompts: Vec<&[u32]> = windows.iter().map(|window| &*window.prompt.tokens).collect();
    let no_speech = rules.no_speech;
    let only_no_speech =
        Restriction { forbidden: vec![0..no_speech, no_speech + 1..u32::MAX], group: None };
    let (mut wanted, mut restrictions) = (Vec::new(), Vec::new());
    for (row, window) in windows.iter().enumerate() {
        // All, and no speech alone: the difference of their sums is its probability.
        for restriction in [Restriction::default(), only_no_speech.clone()] {
            wanted.push((row, window.prompt.start));
            restrictions.push(restriction);
        }
        let said = window.search.alive().first().map_or(&[][..], |first| &first.tokens);
        wanted.push((row, window.prompt.tokens.len() - 1));
        restrictions.push(rules.restriction(said, window.prompt.prefix_len));
    }
    let Some(answers) = session.step_ranked(&prompts, &wanted, &restrictions, count)? else {
        return Ok(None);
    };
    check_count(&answers, wanted.len())?;
    let (mut no_speech_probs, mut rows) = (Vec::new(), Vec::new());
    let mut answers = answers.into_iter();
    while let (Some(all), Some(none), Some(end)) = (answers.next(), answers.next(), answers.next())
    {
        no_speech_probs.push((none.log_sum_exp - all.log_sum_exp).exp());
        rows.push(end);
    }
    Ok(Some((no_speech_probs, Heard::Ranked(rows))))
}

/// How many of the likeliest tokens all searches are content with.
fn most_wanted<'a, 'w: 'a>(
    windows: impl Iterator<Item = &'a Window<'w>>,
    rules: &Rules,
) -> Option<usize> {
    let wanted: Option<Vec<usize>> = windows.map(|window| window.search.wanted()).collect();
    wanted.filter(|_| rules.only_restrict())?.into_iter().max()
}

fn check_count(ranked: &[Ranked], expected: usize) -> Result<()> {
    if ranked.len() == expected {
        return Ok(());
    }
    let cause = format!("{} ranked rows, expected {expected}", ranked.len());
    Err(Error::inference("the decoder", cause))
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

/// The same where the device finds the likeliest tokens, and no search wants more.
fn step_ranked(
    session: &mut (dyn Session + '_),
    running: &[(usize, Window<'_>)],
    rules: &Rules,
) -> Result<Option<Vec<Ranked>>> {
    let windows = running.iter().map(|(_, window)| window);
    let Some(count) = most_wanted(windows, rules) else { return Ok(None) };
    let (mut tokens, mut restrictions) = (Vec::new(), Vec::new());
    for (_, window) in running {
        for hypothesis in window.search.alive() {
            let tail = hypothesis.tokens.len().saturating_sub(1);
            tokens.push(&hypothesis.tokens[tail..]);
            restrictions.push(rules.restriction(&hypothesis.tokens, window.prompt.prefix_len));
        }
    }
    let wanted: Vec<(usize, usize)> = (0..tokens.len()).map(|row| (row, 0)).collect();
    let ranked = session.step_ranked(&tokens, &wanted, &restrictions, count)?;
    if let Some(ranked) = &ranked {
        check_count(ranked, tokens.len())?;
    }
    Ok(ranked)
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
