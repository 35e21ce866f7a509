//! What may be chosen next, and the likeliest of it: the end of a decoder step.
//!
//! A step makes 50,000 logits for each hypothesis, of which a search wants a few. A device that can
//! leaves out what the rules forbid and finds them itself, so that no logits are copied.

use std::ops::Range;

use super::logits::{self, NEVER};

/// What one hypothesis may not say next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Restriction {
    /// Tokens that are out, whatever their logits. Ranges may overlap and be empty.
    pub(crate) forbidden: Vec<Range<u32>>,
    /// If these tokens together are likelier than any single other one, the others are out too. It
    /// applies to what is not forbidden. Times, which are one choice cut into many.
    pub(crate) group: Option<Range<u32>>,
}

/// The likeliest of what may be said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ranked {
    /// `ln(sum(exp(logits)))` over what may be said.
    pub(crate) log_sum_exp: f32,
    /// Tokens with their logits, likeliest first, of equals the lower token first; none that is
    /// minus infinity.
    pub(crate) likeliest: Vec<(u32, f32)>,
}

/// Forbids in a row of logits, `(vocab)`, what a restriction forbids.
pub(crate) fn restrict(logits: &mut [f32], restriction: &Restriction) {
    restrict_by(logits, restriction, &logits::log_sum_exp);
}

fn restrict_by(logits: &mut [f32], restriction: &Restriction, log_sum_exp: &dyn Fn(&[f32]) -> f32) {
    let vocab = logits.len();
    let inside = |range: &Range<u32>| {
        let end = vocab.min(range.end as usize);
        end.min(range.start as usize)..end
    };
    for range in &restriction.forbidden {
        logits[inside(range)].fill(NEVER);
    }
    let Some(group) = &restriction.group else { return };
    let group = inside(group);
    let others = [0..group.start, group.end..vocab];
    let highest = others.iter().map(|others| logits::highest(&logits[others.clone()]));
    if log_sum_exp(&logits[group]) > highest.fold(NEVER, f32::max) {
        for others in others {
            logits[others].fill(NEVER);
        }
    }
}

/// The `count` likeliest tokens of a row, and the logarithm of its sum of exponentials.
pub(crate) fn rank(logits: &[f32], count: usize) -> Ranked {
    rank_by(logits, count, &logits::log_sum_exp)
}

fn rank_by(logits: &[f32], count: usize, log_sum_exp: &dyn Fn(&[f32]) -> f32) -> Ranked {
    let likeliest = match count {
        1 => logits::index_of_highest(logits)
            .map(|token| (token, logits[token]))
            .into_iter()
            .collect(),
        _ => logits::highest_few(logits, count),
    };
    let likeliest = likeliest.into_iter().map(|(token, logit)| (token as u32, logit)).collect();
    Ranked { log_sum_exp: log_sum_exp(logits), likeliest }
}

/// Both in one, with a device's own way to sum exponentials.
pub(super) fn rank_restricted(
    logits: &mut [f32],
    restriction: &Restriction,
    count: usize,
    log_sum_exp: &dyn Fn(&[f32]) -> f32,
) -> Ranked {
    restrict_by(logits, restriction, log_sum_exp);
    rank_by(logits, count, log_sum_exp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restriction_beyond_the_vocabulary_forbids_nothing_else() {
        let mut logits = [1.0; 4];
        let restriction = Restriction { forbidden: vec![2..3, 3..99, 50..60], group: Some(90..99) };
        restrict(&mut logits, &restriction);
        assert_eq!(logits, [1.0, 1.0, NEVER, NEVER]);
    }
}
