//! From cross-attention to the frame at which each token is said.
//!
//! Weights are `(heads, tokens, frames)` probabilities. Over the frames of the window that hold sound
//! they are made to sum to 1, standardised over the tokens (so that a frame on which every token
//! dwells tells nothing), smoothed by a median of 7 frames and averaged over the heads. Dynamic time
//! warping then finds the cheapest monotone path through `(tokens, frames)`; ties are broken as in the
//! reference. Source: `find_alignment` and `dtw_cpu` in openai/whisper's timing.py.
//!
//! Frames without speech are taken out before the path is sought: a path has to give every frame to
//! some token, and would give a pause to a word.

/// Frames over which the median is taken.
const MEDIAN_FRAMES: usize = 7;

/// Frames filtered at once, so that the compiler can use vectors.
const LANES: usize = 8;

/// How well each token fits each frame, `(tokens, frames)`; higher is better.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit {
    pub(super) n_frames: usize,
    /// Row after row.
    pub(super) values: Vec<f32>,
}

impl Fit {
    /// From probabilities `(heads, n_tokens, stride)`, of which the first `n_frames` of each row count.
    pub(super) fn new(weights: &[f32], n_tokens: usize, stride: usize, n_frames: usize) -> Self {
        let n_frames = n_frames.min(stride);
        let mut mean = vec![0.0; n_tokens * n_frames];
        let per_head = n_tokens * stride;
        if mean.is_empty() || per_head == 0 {
            return Self { n_frames, values: mean };
        }
        let n_heads = (weights.len() / per_head).max(1);
        let mut head = vec![0.0; n_tokens * n_frames];
        let mut smooth = vec![0.0; n_frames];
        for weights in weights.chunks_exact(per_head) {
            for (row, weights) in head.chunks_exact_mut(n_frames).zip(weights.chunks_exact(stride))
            {
                let sum: f32 = weights[..n_frames].iter().sum();
                let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                for (value, weight) in row.iter_mut().zip(weights) {
                    *value = weight * scale;
                }
            }
            standardise_columns(&mut head, n_frames);
            for (mean, row) in mean.chunks_exact_mut(n_frames).zip(head.chunks_exact(n_frames)) {
                median_filter(row, &mut smooth);
                for (mean, value) in mean.iter_mut().zip(&smooth) {
                    *mean += value / n_heads as f32;
                }
            }
        }
        Self { n_frames, values: mean }
    }

    /// The rows of some tokens, at some frames only.
    pub(super) fn select(&self, tokens: std::ops::Range<usize>, frames: &[usize]) -> Self {
        let rows = tokens.filter_map(|token| self.values.get(token * self.n_frames..));
        let values =
            rows.flat_map(|row| frames.iter().filter_map(|&frame| row.get(frame).copied()));
        Self { n_frames: frames.len(), values: values.collect() }
    }

    /// The frame at which each token begins, by the best monotone path.
    pub(super) fn onsets(&self) -> Vec<usize> {
        let mut onsets = Vec::new();
        for (token, frame) in self.path() {
            if token == onsets.len() {
                onsets.push(frame);
            }
        }
        onsets
    }

    /// The best monotone path as (token, frame), from the first of both to the last of both.
    fn path(&self) -> Vec<(usize, usize)> {
        let n_frames = self.n_frames;
        let n_tokens = self.values.len().checked_div(n_frames).unwrap_or(0);
        if n_tokens == 0 {
            return Vec::new();
        }
        // Costs of the row above and of this one; column 0 lies before the first frame.
        let mut above = vec![f32::INFINITY; n_frames + 1];
        above[0] = 0.0;
        let mut row = vec![f32::INFINITY; n_frames + 1];
        let mut moves = Vec::with_capacity(self.values.len());
        for fit in self.values.chunks_exact(n_frames) {
            row[0] = f32::INFINITY;
            for (frame, fit) in fit.iter().enumerate() {
                let (both, token, time) = (above[frame], above[frame + 1], row[frame]);
                let (cost, step) = if both < token && both < time {
                    (both, Move::Both)
                } else if token < both && token < time {
                    (token, Move::Token)
                } else {
                    (time, Move::Frame)
                };
                row[frame + 1] = cost - fit;
                moves.push(step);
            }
            std::mem::swap(&mut above, &mut row);
        }
        let (mut token, mut frame) = (n_tokens - 1, n_frames - 1);
        let mut path = vec![(token, frame)];
        while token > 0 || frame > 0 {
            let step = match (token, frame) {
                (0, _) => Move::Frame,
                (_, 0) => Move::Token,
                _ => moves[token * n_frames + frame],
            };
            match step {
                Move::Both => (token, frame) = (token - 1, frame - 1),
                Move::Token => token -= 1,
                Move::Frame => frame -= 1,
            }
            path.push((token, frame));
        }
        path.reverse();
        path
    }
}

/// Where a path came from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Move {
    Both,
    Token,
    Frame,
}

/// Brings each frame's values to mean 0 and deviation 1 over the tokens.
fn standardise_columns(values: &mut [f32], n_frames: usize) {
    let n_tokens = (values.len() / n_frames) as f32;
    let mut mean = vec![0.0_f32; n_frames];
    for row in values.chunks_exact(n_frames) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += value / n_tokens;
        }
    }
    let mut scale = vec![0.0_f32; n_frames];
    for row in values.chunks_exact(n_frames) {
        for ((scale, value), mean) in scale.iter_mut().zip(row).zip(&mean) {
            *scale += (value - mean) * (value - mean) / n_tokens;
        }
    }
    for scale in &mut scale {
        // A frame on which all tokens dwell alike says nothing.
        *scale = if *scale > 0.0 { scale.sqrt().recip() } else { 0.0 };
    }
    for row in values.chunks_exact_mut(n_frames) {
        for ((value, mean), scale) in row.iter_mut().zip(&mean).zip(&scale) {
            *value = (*value - mean) * scale;
        }
    }
}

/// The median of the [`MEDIAN_FRAMES`] around each value, the row mirrored at its ends; a row too
/// short to be mirrored stays as it is.
fn median_filter(row: &[f32], out: &mut [f32]) {
    const REACH: usize = MEDIAN_FRAMES / 2;
    if row.len() <= REACH {
        out.copy_from_slice(row);
        return;
    }
    let last = row.len() - 1;
    let mirrored = |at: usize| {
        let at = at.abs_diff(REACH);
        row[if at > last { 2 * last - at } else { at }]
    };
    let padded: Vec<f32> = (0..row.len() + 2 * REACH).map(mirrored).collect();
    for (at, out) in out.chunks_mut(LANES).enumerate() {
        let mut lanes = [[0.0; LANES]; MEDIAN_FRAMES];
        for (shift, lane) in lanes.iter_mut().enumerate() {
            let from = &padded[at * LANES + shift..];
            for (value, from) in lane.iter_mut().zip(from) {
                *value = *from;
            }
        }
        let median = median_of_7(lanes);
        out.copy_from_slice(&median[..out.len()]);
    }
}

/// The median of each lane, by a network of 13 comparisons (N. Devillard, "Fast median search", 1998).
fn median_of_7(mut p: [[f32; LANES]; MEDIAN_FRAMES]) -> [f32; LANES] {
    const PAIRS: [(usize, usize); 13] = [
        (0, 5),
        (0, 3),
        (1, 6),
        (2, 4),
        (0, 1),
        (3, 5),
        (2, 6),
        (2, 3),
        (3, 6),
        (4, 5),
        (1, 4),
        (1, 3),
        (3, 4),
    ];
    for (low, high) in PAIRS {
        let (lows, highs) = (p[low], p[high]);
        for (lane, (a, b)) in lows.into_iter().zip(highs).enumerate() {
            (p[low][lane], p[high][lane]) = if a < b { (a, b) } else { (b, a) };
        }
    }
    p[3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weights::testing::TestWeights;

    #[test]
    fn the_network_of_comparisons_finds_every_median() {
        // A network that sorts zeros and ones sorts everything.
        for bits in 0..128_u32 {
            let p = std::array::from_fn(|at| [((bits >> at) & 1) as f32; LANES]);
            let median = if bits.count_ones() >= 4 { 1.0 } else { 0.0 };
            assert_eq!(median_of_7(p), [median; LANES], "{bits:#b}");
        }
    }

    #[test]
    fn the_median_is_taken_of_a_mirrored_row() {
        let row: Vec<f32> = (0..11).map(|at| ((at * 7) % 11) as f32).collect();
        let mut out = vec![0.0; row.len()];
        median_filter(&row, &mut out);
        for (at, &median) in out.iter().enumerate() {
            let mirrored = |i: i64| {
                row[if i < 0 {
                    -i
                } else if i > 10 {
                    20 - i
                } else {
                    i
                } as usize]
            };
            let mut around: Vec<f32> = (-3..=3).map(|d| mirrored(at as i64 + d)).collect();
            around.sort_by(f32::total_cmp);
            assert_eq!(median, around[3], "at {at}");
        }
        let mut short = [0.0; 3];
        median_filter(&[3.0, 1.0, 2.0], &mut short);
        assert_eq!(short, [3.0, 1.0, 2.0]);
    }

    #[test]
    fn matrix_and_path_equal_the_reference() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/alignment/dtw.safetensors");
        let reference = TestWeights::read(std::path::Path::new(file));
        let (n_tokens, n_frames) = (18, 220);
        let mut weights = reference.values("qk");
        for row in weights.chunks_mut(n_frames) {
            let highest = row.iter().copied().fold(f32::MIN, f32::max);
            row.iter_mut().for_each(|value| *value = (*value - highest).exp());
        }
        let fit = Fit::new(&weights, n_tokens, n_frames, n_frames);
        let worst = fit.values.iter().zip(reference.values("matrix"));
        let worst = worst.map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
        // f32 sums over 220 frames and 18 tokens, of values up to 4.
        assert!(worst < 1e-4, "{worst}");
        let path = fit.path();
        let path: Vec<(f32, f32)> = path.iter().map(|&(t, f)| (t as f32, f as f32)).collect();
        let tokens = reference.values("text_indices");
        let frames = reference.values("time_indices");
        assert_eq!(path, tokens.into_iter().zip(frames).collect::<Vec<_>>());
        let onsets: Vec<f32> = fit.onsets().into_iter().map(|frame| frame as f32 / 50.0).collect();
        assert_eq!(onsets, reference.values("jump_times_s"));
    }

    #[test]
    fn a_path_exists_whatever_the_numbers() {
        for (n_tokens, n_frames) in [(1, 1), (5, 1), (1, 5), (7, 3)] {
            for value in [0.0, f32::NAN, f32::INFINITY] {
                let fit = Fit::new(&vec![value; n_tokens * n_frames], n_tokens, n_frames, n_frames);
                let onsets = fit.onsets();
                assert_eq!(onsets.len(), n_tokens);
                assert!(onsets.is_sorted());
            }
        }
        assert!(Fit::new(&[], 0, 10, 10).onsets().is_empty());
        assert!(Fit::new(&[1.0; 6], 3, 2, 0).onsets().is_empty());
    }
}
