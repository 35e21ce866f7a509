//! A candidate token sequence and how candidates of different lengths compare.

/// What one candidate has said, and how likely that was.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Hypothesis {
    /// The forced prefix and the tokens chosen after it, without the end of text.
    pub(super) tokens: Vec<u32>,
    /// The natural log probability of each token; 0 for those that were forced.
    pub(super) logprobs: Vec<f32>,
    /// Sum of the natural log probabilities of the chosen tokens, the end of text included.
    pub(super) sum_logprob: f32,
}

impl Hypothesis {
    /// Nothing chosen yet after a forced prefix.
    pub(super) fn beginning(prefix: &[u32]) -> Self {
        Self { tokens: prefix.to_vec(), logprobs: vec![0.0; prefix.len()], sum_logprob: 0.0 }
    }

    /// This hypothesis with one more token.
    pub(super) fn followed_by(&self, token: u32, sum_logprob: f32) -> Self {
        let mut tokens = Vec::with_capacity(self.tokens.len() + 1);
        tokens.extend_from_slice(&self.tokens);
        tokens.push(token);
        let mut logprobs = Vec::with_capacity(self.logprobs.len() + 1);
        logprobs.extend_from_slice(&self.logprobs);
        logprobs.push(sum_logprob - self.sum_logprob);
        Self { tokens, logprobs, sum_logprob }
    }

    /// The score that the best of several hypotheses is chosen by.
    ///
    /// `length_penalty` is the exponent of length, as in CTranslate2 and thus faster-whisper; 1
    /// ranks by mean log probability. Without one, Google's rule with exponent 1 divides by
    /// (5 + length) / 6, which favours short text a little more.
    pub(super) fn score(&self, length_penalty: Option<f32>) -> f32 {
        let length = self.tokens.len() as f32;
        match length_penalty {
            // Nothing said: no length to divide by.
            Some(_) if self.tokens.is_empty() => f32::NEG_INFINITY,
            Some(exponent) => self.sum_logprob / length.powf(exponent),
            None => self.sum_logprob / ((5.0 + length) / 6.0),
        }
    }

    /// The first of the hypotheses with the best score.
    pub(super) fn best(hypotheses: Vec<Self>, length_penalty: Option<f32>) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for hypothesis in hypotheses {
            let score = hypothesis.score(length_penalty);
            if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                best = Some((score, hypothesis));
            }
        }
        best.map(|(_, hypothesis)| hypothesis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: usize, sum_logprob: f32) -> Hypothesis {
        Hypothesis { sum_logprob, ..Hypothesis::beginning(&vec![1; length]) }
    }

    fn best(hypotheses: &[Hypothesis], length_penalty: Option<f32>) -> usize {
        Hypothesis::best(hypotheses.to_vec(), length_penalty).unwrap().tokens.len()
    }

    #[test]
    fn the_length_penalty_decides_between_short_and_long() {
        let candidates = [of(2, -1.0), of(10, -3.0)];
        assert_eq!(best(&candidates, Some(0.0)), 2);
        assert_eq!(best(&candidates, Some(1.0)), 10);
        // -6/7 against -18/15.
        assert_eq!(best(&candidates, None), 2);
        assert_eq!(best(&[of(2, -1.0), of(40, -3.0)], None), 40);
    }

    #[test]
    fn of_equals_the_first_wins_and_silence_loses() {
        let first = Hypothesis { sum_logprob: -1.0, ..Hypothesis::beginning(&[5]) };
        let best = Hypothesis::best(vec![of(0, 0.0), first.clone(), of(1, -1.0)], Some(1.0));
        assert_eq!(best, Some(first));
        assert_eq!(Hypothesis::best(Vec::new(), None), None);
    }
}
