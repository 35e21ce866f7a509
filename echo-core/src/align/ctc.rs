//! Placing known labels in time: the best path of connectionist temporal classification (CTC).
//!
//! A network gives each frame a probability of every label and of a blank. Between the labels of a text
//! stand optional blanks, which makes `2 n + 1` states; a path stays, goes on, or skips a blank
//! between two labels that differ, and has to explain every frame. The best one is found by Viterbi
//! (Graves et al., 2006; the same path as torchaudio's `forced_align`, ties included).
//!
//! Characters that the network does not know stand as a wildcard, which fits whatever is spoken: its
//! column is the likeliest label of each frame, a little less likely than that label itself, so that a
//! letter that is known prefers its own place.

use std::ops::Range;

/// Log probabilities, `(frames, labels)`, with the wildcard as last label.
#[derive(Debug, Clone)]
pub(crate) struct Emission {
    n_labels: usize,
    blank: usize,
    values: Vec<f32>,
}

/// How much less likely a wildcard is than the likeliest label, as a natural logarithm. It has to lose
/// against a letter in its place, and to win against a letter elsewhere, which costs several.
const WILDCARD_HANDICAP: f32 = 0.1;

impl Emission {
    /// From logits `(frames, labels)` of a network whose blank is `blank`.
    pub(crate) fn from_logits(logits: &[f32], n_labels: usize, blank: usize) -> Self {
        let mut emission = Self { n_labels: n_labels + 1, blank, values: Vec::new() };
        emission.values.reserve(logits.len() + logits.len() / n_labels.max(1));
        for row in logits.chunks_exact(n_labels.max(1)) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = row.iter().map(|logit| (logit - highest).exp()).sum();
            let log_sum = highest + sum.ln();
            emission.push(row.iter().map(|logit| logit - log_sum), WILDCARD_HANDICAP);
        }
        emission
    }

    /// Adds a frame of log probabilities.
    fn push(&mut self, row: impl Iterator<Item = f32>, handicap: f32) {
        let mut likeliest = f32::NEG_INFINITY;
        for (label, value) in row.enumerate() {
            if label != self.blank {
                likeliest = likeliest.max(value);
            }
            self.values.push(value);
        }
        self.values.push(likeliest - handicap);
    }

    /// The label of the wildcard.
    pub(crate) fn wildcard(&self) -> usize {
        self.n_labels - 1
    }

    pub(crate) fn n_frames(&self) -> usize {
        self.values.len() / self.n_labels
    }

    fn at(&self, frame: usize, label: usize) -> f32 {
        self.values[frame * self.n_labels + label]
    }
}

/// Where one label is said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    /// Its frames, blanks after it not included.
    pub(crate) frames: Range<usize>,
    /// The mean probability of the label over them.
    pub(crate) probability: f32,
}

/// The frames of each label on the best path; `None` if there are too few frames for the labels, or
/// a label that the network does not have.
pub(crate) fn align(emission: &Emission, labels: &[usize]) -> Option<Vec<Placed>> {
    let states = best_path(emission, labels)?;
    let mut placed: Vec<Placed> = Vec::with_capacity(labels.len());
    for (frame, state) in states.into_iter().enumerate() {
        let Some(index) = label_of(state) else { continue };
        let probability = emission.at(frame, labels[index]).exp();
        match placed.get_mut(index) {
            Some(label) => {
                label.frames.end = frame + 1;
                label.probability += probability;
            }
            None => placed.push(Placed { frames: frame..frame + 1, probability }),
        }
    }
    for label in &mut placed {
        label.probability /= label.frames.len() as f32;
    }
    (placed.len() == labels.len()).then_some(placed)
}

/// Which label a state stands for; even states are blanks.
fn label_of(state: usize) -> Option<usize> {
    (!state.is_multiple_of(2)).then_some(state / 2)
}

/// The state of each frame on the best path.
fn best_path(emission: &Emission, labels: &[usize]) -> Option<Vec<usize>> {
    let n_frames = emission.n_frames();
    let repeats = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let is_known = |label: &usize| *label < emission.n_labels && *label != emission.blank;
    if labels.is_empty() || n_frames < labels.len() + repeats || !labels.iter().all(is_known) {
        return None;
    }
    let n_states = 2 * labels.len() + 1;
    let symbol = |state: usize| label_of(state).map_or(emission.blank, |index| labels[index]);
    // A label may follow another one at once unless they are the same.
    let may_skip = |state: usize| {
        state >= 3 && label_of(state).is_some_and(|index| labels[index] != labels[index - 1])
    };
    let mut scores = vec![f32::NEG_INFINITY; n_states];
    let mut next = scores.clone();
    scores[0] = emission.at(0, emission.blank);
    scores[1] = emission.at(0, labels[0]);
    // Steps back: 0 stays, 1 comes from the state before, 2 from the one before that.
    let mut steps = vec![0_u8; n_frames * n_states];
    for frame in 1..n_frames {
        let steps = &mut steps[frame * n_states..(frame + 1) * n_states];
        for state in 0..n_states {
            let stay = scores[state];
            let advance = if state >= 1 { scores[state - 1] } else { f32::NEG_INFINITY };
            let skip = if may_skip(state) { scores[state - 2] } else { f32::NEG_INFINITY };
            let (best, step) = if skip > advance && skip > stay {
                (skip, 2)
            } else if advance > stay && advance > skip {
                (advance, 1)
            } else {
                (stay, 0)
            };
            next[state] = best + emission.at(frame, symbol(state));
            steps[state] = step;
        }
        std::mem::swap(&mut scores, &mut next);
    }
    let mut state =
        if scores[n_states - 1] > scores[n_states - 2] { n_states - 1 } else { n_states - 2 };
    if !scores[state].is_finite() {
        return None;
    }
    let mut path = vec![0; n_frames];
    for frame in (0..n_frames).rev() {
        path[frame] = state;
        state -= usize::from(steps[frame * n_states + state]);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weights::testing::TestWeights;

    /// The synthetic emission of the reference, with its wildcard column as asked.
    fn emission(reference: &TestWeights, star: Option<f32>) -> Emission {
        let mut emission = Emission { n_labels: 33, blank: 0, values: Vec::new() };
        for row in reference.values("log_probs").chunks(32) {
            emission.push(row.iter().copied(), 0.0);
            if let (Some(star), Some(last)) = (star, emission.values.last_mut()) {
                *last = star;
            }
        }
        emission
    }

    fn reference() -> TestWeights {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/alignment/ctc.safetensors");
        TestWeights::read(std::path::Path::new(file))
    }

    #[test]
    fn paths_and_scores_equal_the_reference() {
        let reference = reference();
        let tokens = reference.values("tokens");
        let labels: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
        for (name, star) in [("maxcolumn", None), ("star", Some(0.0))] {
            let emission = emission(&reference, star);
            let states = best_path(&emission, &labels).unwrap();
            let path = states.iter().map(|&s| label_of(s).map_or(0, |index| labels[index]));
            let path: Vec<f32> = path.map(|label| label as f32).collect();
            assert_eq!(path, reference.values(&format!("forced_align_{name}_path")));
            let scores = reference.values(&format!("forced_align_{name}_scores"));
            for (frame, (label, score)) in path.iter().zip(scores).enumerate() {
                assert_eq!(emission.at(frame, *label as usize), score);
            }
        }
    }

    #[test]
    fn labels_lie_where_they_were_put() {
        // he|all|42|to, each label's first frame and length, with 42 unknown to the network.
        let schedule = [
            (25, 2),
            (29, 2),
            (34, 3),
            (42, 2),
            (46, 1),
            (49, 2),
            (54, 3),
            (61, 14),
            (78, 12),
            (93, 3),
            (104, 2),
            (110, 4),
        ];
        let reference = reference();
        let tokens = reference.values("tokens");
        let labels: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
        let logits = reference.values("log_probs");
        let emission = Emission::from_logits(&logits, 32, 0);
        let placed = align(&emission, &labels).unwrap();
        let found: Vec<_> = placed.iter().map(|p| (p.frames.start, p.frames.len())).collect();
        assert_eq!(found, schedule);
        assert!(placed.iter().all(|label| label.probability > 0.8));
        // One wildcard for the whole number reaches from its first sound to its last.
        let joined: Vec<usize> = [&labels[..8], &labels[9..]].concat();
        let placed = align(&emission, &joined).unwrap();
        assert_eq!(placed[7].frames.start, 61);
        assert_eq!(placed[8].frames.start, 93);
    }

    #[test]
    fn what_cannot_be_placed_is_not() {
        let emission = Emission::from_logits(&[0.0; 12], 3, 0);
        assert_eq!(emission.n_frames(), 4);
        assert!(align(&emission, &[1, 2, 1, 2]).is_some());
        assert!(align(&emission, &[1, 2, 1, 2, 1]).is_none(), "too long");
        assert!(align(&emission, &[1, 1, 1]).is_none(), "repeats need blanks between");
        assert!(align(&emission, &[]).is_none());
        assert!(align(&emission, &[0]).is_none(), "the blank is no label");
        assert!(align(&emission, &[9]).is_none(), "no such label");
        let nothing = Emission::from_logits(&[], 3, 0);
        assert!(align(&nothing, &[1]).is_none());
        let broken = Emission::from_logits(&[f32::NAN; 12], 3, 0);
        assert!(align(&broken, &[1]).is_none());
    }
}
