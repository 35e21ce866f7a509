//! Sampling: tokens drawn by their probability at a temperature, several times over.
//!
//! A higher temperature flattens the distribution, so that a text that went wrong comes out
//! differently. Of the drawn hypotheses the likeliest is kept, by its probability at temperature 1.
//! The generator is `SplitMix64` (Steele, Lea and Flood, 2014), seeded for each hypothesis by itself:
//! what is drawn for a window does not depend on the windows decoded with it.

use super::hypothesis::Hypothesis;
use super::search::{Limits, Search};
use crate::kernels::logits;
use crate::kernels::rank::Ranked;

/// A small generator of random numbers.
#[derive(Debug, Clone)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose numbers depend on all of `seeds`.
    pub(super) fn new(seeds: &[u64]) -> Self {
        let mut generator = Self(0);
        for seed in seeds {
            generator.0 ^= seed;
            generator.0 = generator.next();
        }
        generator
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Hypotheses drawn independently of each other.
#[derive(Debug)]
pub(super) struct Sample {
    limits: Limits,
    temperature: f32,
    length_penalty: Option<f32>,
    alive: Vec<Hypothesis>,
    /// The generator of each hypothesis alive.
    generators: Vec<SplitMix64>,
    finished: Vec<Hypothesis>,
    has_started: bool,
}

impl Sample {
    /// As many hypotheses as there are generators, all beginning with `prefix`.
    pub(super) fn new(
        prefix: &[u32],
        limits: Limits,
        temperature: f32,
        length_penalty: Option<f32>,
        generators: Vec<SplitMix64>,
    ) -> Self {
        let start = Hypothesis::beginning(prefix);
        Self {
            limits,
            temperature,
            length_penalty,
            alive: vec![start],
            generators,
            finished: Vec::new(),
            has_started: false,
        }
    }
}

impl Search for Sample {
    fn alive(&self) -> &[Hypothesis] {
        &self.alive
    }

    /// All: any token can be drawn.
    fn wanted(&self) -> Option<usize> {
        None
    }

    fn advance_ranked(&mut self, _rows: &[Ranked]) -> Vec<usize> {
        Vec::new()
    }

    fn advance(&mut self, rows: &[Vec<f32>]) -> Vec<usize> {
        let mut hypotheses = std::mem::take(&mut self.alive);
        if !self.has_started {
            // All begin with the same words, which the network heard once.
            self.has_started = true;
            if let Some(start) = hypotheses.pop() {
                hypotheses = vec![start; self.generators.len()];
            }
        }
        let mut parents = Vec::with_capacity(hypotheses.len());
        let generators = std::mem::take(&mut self.generators);
        for (index, (mut hypothesis, mut generator)) in
            hypotheses.into_iter().zip(generators).enumerate()
        {
            let parent = index.min(rows.len() - 1);
            let row = &rows[parent];
            let Some(token) = draw(row, self.temperature, generator.unit()) else { continue };
            let logprob = row[token] - logits::log_sum_exp(row);
            if self.limits.push(&mut hypothesis, token as u32, logprob) {
                self.finished.push(hypothesis);
            } else {
                self.alive.push(hypothesis);
                self.generators.push(generator);
                parents.push(parent);
            }
        }
        parents
    }

    fn into_best(self: Box<Self>) -> Option<Hypothesis> {
        Hypothesis::best(self.finished, self.length_penalty)
    }
}

/// The token at which the running sum of probabilities passes `unit`, from 0 to below 1.
fn draw(row: &[f32], temperature: f32, unit: f64) -> Option<usize> {
    let highest = logits::highest(row);
    if highest == logits::NEVER || highest.is_nan() {
        return None;
    }
    let scale = 1.0 / temperature;
    let weight = |logit: f32| {
        if logit == logits::NEVER { 0.0 } else { f64::from(logits::exp((logit - highest) * scale)) }
    };
    let total: f64 = row.iter().map(|&logit| weight(logit)).sum();
    let wanted = unit * total;
    let mut sum = 0.0;
    let mut last = None;
    for (token, &logit) in row.iter().enumerate() {
        let weight = weight(logit);
        if weight > 0.0 {
            last = Some(token);
            sum += weight;
            if sum > wanted {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { end_of_text: 3, max_tokens: 50 };

    fn run(temperature: f32, seed: u64) -> Hypothesis {
        let generators = (0..5).map(|index| SplitMix64::new(&[seed, index])).collect();
        let mut search = Box::new(Sample::new(&[], LIMITS, temperature, Some(1.0), generators));
        let mut rows = 1;
        while rows > 0 {
            rows = search.advance(&vec![vec![1.0, 2.0, logits::NEVER, 0.0]; rows]).len();
        }
        search.into_best().unwrap()
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs for seed 1234567, from the authors' reference code.
        let mut generator = SplitMix64(1_234_567);
        assert_eq!(generator.next(), 6_457_827_717_110_365_317);
        assert_eq!(generator.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn tokens_are_drawn_by_their_probability() {
        let row = [0.0, 3.0_f32.ln(), logits::NEVER, 0.0];
        let mut counts = [0; 4];
        let mut generator = SplitMix64::new(&[1]);
        for _ in 0..10_000 {
            counts[draw(&row, 1.0, generator.unit()).unwrap()] += 1;
        }
        // Probabilities 0.2, 0.6, 0, 0.2; three standard deviations are at most 147.
        for (count, expected) in counts.into_iter().zip([2000_i32, 6000, 0, 2000]) {
            assert!((count - expected).abs() < 150, "{counts:?}");
        }
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn a_low_temperature_draws_the_likeliest() {
        for step in 1..100 {
            assert_eq!(draw(&[1.0, 2.0, 0.0], 0.01, f64::from(step) / 100.0), Some(1));
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_text() {
        assert_eq!(run(1.0, 7), run(1.0, 7));
        assert_ne!(run(1.0, 7), run(1.0, 8));
    }

    #[test]
    fn all_ends_and_the_likeliest_is_kept() {
        let generators = vec![SplitMix64::new(&[1]); 2];
        let mut search = Box::new(Sample::new(&[9], LIMITS, 1.0, Some(1.0), generators));
        // One row is heard at first, two afterwards.
        assert_eq!(search.advance(&[vec![0.0, 5.0, 0.0, logits::NEVER]]), [0, 0]);
        assert_eq!(search.alive().len(), 2);
        let end = |likely| vec![logits::NEVER, logits::NEVER, 0.0, likely];
        let rows = [end(30.0), end(40.0)];
        assert!(search.advance(&rows).is_empty());
        assert_eq!(search.into_best().unwrap().tokens.len(), 2);
    }

    #[test]
    fn nothing_is_drawn_from_what_is_not_a_number() {
        assert_eq!(draw(&[f32::NAN; 3], 1.0, 0.5), None);
        assert_eq!(draw(&[logits::NEVER; 3], 1.0, 0.5), None);
    }
}
