//! Beam search: the few likeliest hypotheses side by side.
//!
//! Each step extends every hypothesis by its likeliest tokens and keeps the best `size` of all
//! extensions. One that ends is set aside and its place is filled from the next best, so that `size`
//! go on; when `size * patience` have ended, the best of them by length-normalised score is the
//! text. This is CTranslate2's search (decoding.cc), which faster-whisper uses; openai/whisper also
//! sets aside hypotheses that end below the best `size`, which rarely changes the text.

use super::hypothesis::Hypothesis;
use super::search::{Limits, Search};
use crate::kernels::rank::Ranked;

/// How wide to search and when to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BeamOptions {
    /// Hypotheses kept.
    pub(super) size: usize,
    /// Goes on until `size * patience` have ended.
    pub(super) patience: f32,
    /// See [`Hypothesis::score`].
    pub(super) length_penalty: Option<f32>,
}

/// The hypotheses of one window.
#[derive(Debug)]
pub(super) struct Beam {
    options: BeamOptions,
    limits: Limits,
    alive: Vec<Hypothesis>,
    finished: Vec<Hypothesis>,
}

/// A hypothesis extended by one token.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    parent: usize,
    token: u32,
    sum_logprob: f32,
}

impl Beam {
    pub(super) fn new(prefix: &[u32], limits: Limits, options: BeamOptions) -> Self {
        let start = Hypothesis::beginning(prefix);
        Self { options, limits, alive: vec![start], finished: Vec::new() }
    }

    /// The likeliest extensions of all hypotheses, best first: twice as many as are kept, because
    /// up to half of them may end.
    fn candidates(&self, rows: &[Ranked]) -> Vec<Candidate> {
        let count = 2 * self.options.size;
        let mut candidates = Vec::with_capacity(rows.len() * count);
        for (parent, (row, hypothesis)) in rows.iter().zip(&self.alive).enumerate() {
            let base = hypothesis.sum_logprob - row.log_sum_exp;
            let few = row.likeliest.iter().take(count);
            candidates.extend(few.map(|&(token, logit)| Candidate {
                parent,
                token,
                sum_logprob: base + logit,
            }));
        }
        candidates.sort_by(|a, b| b.sum_logprob.total_cmp(&a.sum_logprob));
        candidates.truncate(count);
        candidates
    }

    /// Whether enough hypotheses have ended; `best_ended` says that the best extension just did.
    fn is_finished(&self, best_ended: bool) -> bool {
        if self.options.length_penalty == Some(0.0) {
            // Scores only fall from here: nothing can overtake it.
            return best_ended;
        }
        let wanted = (self.options.size as f32 * self.options.patience).round() as usize;
        self.finished.len() >= wanted.max(1)
    }
}

impl Search for Beam {
    fn alive(&self) -> &[Hypothesis] {
        &self.alive
    }

    fn wanted(&self) -> Option<usize> {
        Some(2 * self.options.size)
    }

    fn advance_ranked(&mut self, rows: &[Ranked]) -> Vec<usize> {
        let candidates = self.candidates(rows);
        let (kept, spare) = candidates.split_at(self.options.size.min(candidates.len()));
        let end_of_text = self.limits.end_of_text;
        let mut spare = spare.iter().filter(|candidate| candidate.token != end_of_text);
        let mut chosen = Vec::with_capacity(kept.len());
        let mut best_ended = false;
        for (rank, candidate) in kept.iter().enumerate() {
            let parent = &self.alive[candidate.parent];
            let is_last = parent.tokens.len() + 1 >= self.limits.max_tokens;
            if candidate.token != end_of_text && !is_last {
                chosen.push(*candidate);
                continue;
            }
            best_ended |= rank == 0;
            let mut ended = Hypothesis { sum_logprob: candidate.sum_logprob, ..parent.clone() };
            if candidate.token != end_of_text {
                ended.tokens.push(candidate.token);
                ended.logprobs.push(candidate.sum_logprob - parent.sum_logprob);
            }
            self.finished.push(ended);
            if !is_last {
                chosen.extend(spare.next());
            }
        }
        if self.is_finished(best_ended) {
            chosen.clear();
        }
        let extend = |candidate: &Candidate| {
            self.alive[candidate.parent].followed_by(candidate.token, candidate.sum_logprob)
        };
        self.alive = chosen.iter().map(extend).collect();
        chosen.iter().map(|candidate| candidate.parent).collect()
    }

    fn into_best(self: Box<Self>) -> Option<Hypothesis> {
        Hypothesis::best(self.finished, self.options.length_penalty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: usize = 4;
    const LIMITS: Limits = Limits { end_of_text: END as u32, max_tokens: 10 };

    fn beam(size: usize, patience: f32, length_penalty: Option<f32>) -> Box<Beam> {
        Box::new(Beam::new(&[], LIMITS, BeamOptions { size, patience, length_penalty }))
    }

    /// Logits of the given probabilities: log probabilities are their logarithms exactly.
    fn row(probabilities: [f32; 5]) -> Vec<f32> {
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        probabilities.iter().map(|p| p.ln()).collect()
    }

    fn tokens(search: &Beam) -> Vec<&[u32]> {
        search.alive.iter().map(|hypothesis| &*hypothesis.tokens).collect()
    }

    #[test]
    fn a_second_choice_overtakes_when_it_goes_on_better() {
        let mut search = beam(2, 1.0, Some(1.0));
        assert_eq!(search.advance(&[row([0.5, 0.4, 0.1, 0.0, 0.0])]), [0, 0]);
        assert_eq!(tokens(&search), [[0], [1]]);
        // 0.5 splits up; 0.4 goes on surely.
        let rows = [row([0.3, 0.3, 0.2, 0.2, 0.0]), row([0.0, 0.0, 0.95, 0.05, 0.0])];
        assert_eq!(search.advance(&rows), [1, 0]);
        assert_eq!(tokens(&search), [[1, 2], [0, 0]]);
        assert!((search.alive[0].sum_logprob - 0.38_f32.ln()).abs() < 1e-5);
    }

    #[test]
    fn the_place_of_one_that_ended_is_filled_by_the_next_best() {
        let mut search = beam(2, 1.0, Some(1.0));
        search.advance(&[row([0.5, 0.4, 0.1, 0.0, 0.0])]);
        let rows = [row([0.3, 0.1, 0.0, 0.0, 0.6]), row([0.0, 0.25, 0.75, 0.0, 0.0])];
        // 0.30 and 0.30 in front: [0] ends; then 0.15 for [0, 0].
        assert_eq!(search.advance(&rows).len(), 2);
        assert_eq!(search.finished.len(), 1);
        assert_eq!(search.finished[0].tokens, [0]);
        let mut alive = tokens(&search);
        alive.sort_unstable();
        assert_eq!(alive, [[0, 0], [1, 2]]);
    }

    #[test]
    fn patience_says_how_many_must_end() {
        let ending = row([0.02, 0.01, 0.01, 0.01, 0.95]);
        let steps = |patience| {
            let mut search = beam(2, patience, Some(1.0));
            let mut rows = search.advance(&[row([0.5, 0.4, 0.1, 0.0, 0.0])]).len();
            let mut steps = 1;
            while rows > 0 {
                rows = search.advance(&vec![ending.clone(); rows]).len();
                steps += 1;
            }
            (steps, search.finished.len())
        };
        assert_eq!(steps(0.5), (2, 2));
        assert_eq!(steps(1.0), (2, 2));
        assert_eq!(steps(2.0), (3, 4));
    }

    #[test]
    fn the_best_by_length_normalised_score_is_the_text() {
        let finish = |length_penalty| {
            let mut search = beam(2, 1.0, length_penalty);
            search.finished = vec![
                Hypothesis { sum_logprob: -1.0, ..Hypothesis::beginning(&[0]) },
                Hypothesis { sum_logprob: -1.5, ..Hypothesis::beginning(&[1, 2, 3]) },
            ];
            search.into_best().unwrap().tokens.len()
        };
        assert_eq!(finish(Some(1.0)), 3);
        assert_eq!(finish(Some(0.1)), 1);
    }

    #[test]
    fn without_a_length_penalty_the_best_end_is_final() {
        let mut search = beam(2, 1.0, Some(0.0));
        search.advance(&[row([0.5, 0.4, 0.1, 0.0, 0.0])]);
        let rows = [row([0.1, 0.1, 0.1, 0.0, 0.7]), row([0.25, 0.25, 0.25, 0.25, 0.0])];
        assert!(search.advance(&rows).is_empty());
        assert_eq!(search.into_best().unwrap().tokens, [0]);
    }

    #[test]
    fn at_the_last_token_all_end_as_they_are() {
        let limits = Limits { end_of_text: END as u32, max_tokens: 2 };
        let options = BeamOptions { size: 2, patience: 1.0, length_penalty: Some(1.0) };
        let mut search = Box::new(Beam::new(&[], limits, options));
        search.advance(&[row([0.5, 0.4, 0.1, 0.0, 0.0])]);
        let rows = [row([0.9, 0.1, 0.0, 0.0, 0.0]), row([0.0, 0.0, 0.5, 0.5, 0.0])];
        assert!(search.advance(&rows).is_empty());
        assert_eq!(search.finished.len(), 2);
        assert_eq!(search.into_best().unwrap().tokens, [0, 0]);
    }

    #[test]
    fn fewer_possible_tokens_than_places_are_enough() {
        let mut search = beam(5, 1.0, Some(1.0));
        assert_eq!(search.advance(&[row([0.5, 0.5, 0.0, 0.0, 0.0])]), [0, 0]);
        assert_eq!(tokens(&search), [[0], [1]]);
        assert!(search.advance(&[vec![f32::NAN; 5], vec![f32::NAN; 5]]).is_empty());
        assert_eq!(search.into_best(), None);
    }
}
