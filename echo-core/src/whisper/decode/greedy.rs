//! Greedy search: the likeliest token at every step.

use super::hypothesis::Hypothesis;
use super::search::{Limits, Search};
use crate::kernels::rank::Ranked;

/// One hypothesis that always takes the likeliest token.
#[derive(Debug)]
pub(super) struct Greedy {
    limits: Limits,
    alive: Vec<Hypothesis>,
    finished: Option<Hypothesis>,
}

impl Greedy {
    pub(super) fn new(prefix: &[u32], limits: Limits) -> Self {
        let start = Hypothesis::beginning(prefix);
        Self { limits, alive: vec![start], finished: None }
    }
}

impl Search for Greedy {
    fn alive(&self) -> &[Hypothesis] {
        &self.alive
    }

    fn wanted(&self) -> Option<usize> {
        Some(1)
    }

    fn advance_ranked(&mut self, rows: &[Ranked]) -> Vec<usize> {
        let (Some(row), Some(mut hypothesis)) = (rows.first(), self.alive.pop()) else {
            return Vec::new();
        };
        let Some(&(token, logit)) = row.likeliest.first() else { return Vec::new() };
        let logprob = logit - row.log_sum_exp;
        let has_ended = self.limits.push(&mut hypothesis, token, logprob);
        if has_ended {
            self.finished = Some(hypothesis);
            return Vec::new();
        }
        self.alive.push(hypothesis);
        vec![0]
    }

    fn into_best(self: Box<Self>) -> Option<Hypothesis> {
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { end_of_text: 3, max_tokens: 3 };

    #[test]
    fn the_likeliest_token_is_taken_until_the_end() {
        let mut search = Box::new(Greedy::new(&[], LIMITS));
        assert_eq!(search.advance(&[vec![0.0, 2.0, 1.0, 0.0]]), [0]);
        assert_eq!(search.alive()[0].tokens, [1]);
        assert!(search.advance(&[vec![0.0, 0.0, 0.0, 5.0]]).is_empty());
        let best = search.into_best().unwrap();
        assert_eq!(best.tokens, [1]);
        let logprob = |row: [f32; 4], token: usize| {
            row[token] - row.iter().map(|logit| logit.exp()).sum::<f32>().ln()
        };
        let expected = logprob([0.0, 2.0, 1.0, 0.0], 1) + logprob([0.0, 0.0, 0.0, 5.0], 3);
        assert!((best.sum_logprob - expected).abs() < 1e-6);
    }

    #[test]
    fn the_last_token_that_fits_is_kept() {
        let mut search = Box::new(Greedy::new(&[7], LIMITS));
        assert_eq!(search.advance(&[vec![0.0, 2.0, 1.0, 0.0]]), [0]);
        assert!(search.advance(&[vec![0.0, 2.0, 1.0, 0.0]]).is_empty());
        assert_eq!(search.into_best().unwrap().tokens, [7, 1, 1]);
    }

    #[test]
    fn logits_that_are_not_numbers_end_without_a_result() {
        let mut search = Box::new(Greedy::new(&[], LIMITS));
        assert!(search.advance(&[vec![f32::NAN; 4]]).is_empty());
        assert_eq!(search.into_best(), None);
    }
}
