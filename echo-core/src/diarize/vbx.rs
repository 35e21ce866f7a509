//! VBx: speakers as a mixture whose members are given up when nothing speaks for them.
//!
//! Each vector, in the space of [`Plda`], is of one of a few speakers, each speaker is a point there of
//! which only a distribution is known, and speakers have shares in the recording. Variational Bayes
//! goes to and fro between the speakers' distributions and the vectors' probabilities
//! (*responsibilities*) until the bound on the probability of it all no longer grows. [`FA`] says how
//! much a vector counts (those of overlapping windows say much the same), [`FB`] how dear a speaker
//! is. Agglomerative clustering with a small distance gives the first speakers, too many of them; the
//! shares of those that are not needed fall to nothing.
//!
//! Then each vector of a window goes to the speaker with the nearest centroid, no two of them to one.
//! Where the caller's bounds say otherwise than what was found, [`kmeans`] finds as many as it must,
//! and who goes where is free. Source: pyannote.audio `utils/vbx.py` and `pipelines/clustering.py`
//! with the parameters of community-1; Landini et al. 2022, of which the hidden Markov model is left
//! out, as there.
//!
//! Memory is that of the vectors' features and responsibilities, at most [`MAX_SPEAKERS`] a vector;
//! time is linear in the vectors but for the first clustering, see [`cluster`](super::cluster).

use super::cluster::{self, Voice, mean, unit};
use super::kmeans;
use super::plda::Plda;

/// Unit vectors whose clusters' centroids are nearer than this start as one speaker.
pub(crate) const THRESHOLD: f32 = 0.6;
const FA: f64 = 0.07;
const FB: f64 = 0.8;
const ITERATIONS: usize = 20;
/// The bound grows by less than this in the end.
const MIN_GAIN: f64 = 1e-4;
/// How sure the first responsibilities are: e^7 to 1.
const FIRST_CERTAINTY: f64 = 7.0;
/// Speakers with a smaller share are none.
const MIN_SHARE: f64 = 1e-7;
/// Most speakers to start with.
const MAX_SPEAKERS: usize = 512;

/// What is asked of the clustering.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) threshold: f32,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Speakers {
    /// The speaker of each vector; `None` where all others of its window are nearer to one.
    pub(crate) labels: Vec<Option<usize>>,
    /// The mean vector of each speaker.
    pub(crate) centroids: Vec<Vec<f32>>,
}

/// Clusters voices; `windows` says which window each is of, those of one window following each other.
pub(crate) fn speakers(
    voices: &[Voice],
    windows: &[usize],
    plda: &Plda,
    settings: &Settings,
) -> Speakers {
    let trusted: Vec<&[f32]> =
        voices.iter().filter(|voice| voice.is_trusted).map(|voice| &*voice.embedding).collect();
    if trusted.len() < 2 {
        if voices.is_empty() {
            return Speakers::default();
        }
        let centroids = vec![mean(voices.iter().map(|voice| &*voice.embedding))];
        return Speakers { labels: vec![Some(0); voices.len()], centroids };
    }
    let first = cluster::near_groups(&trusted, settings.threshold, MAX_SPEAKERS);
    let double = |vector: &[f32]| vector.iter().copied().map(f64::from).collect::<Vec<_>>();
    let features: Vec<f64> =
        trusted.iter().flat_map(|vector| plda.features(&double(vector))).collect();
    let mixture = Mixture::fit(features, &plda.phi, &first);
    let mut centroids = mixture.centroids(&trusted);
    let most = settings.most.clamp(1, trusted.len());
    let wanted = centroids.len().clamp(settings.least.min(most), most);
    let is_forced = centroids.len() != wanted;
    if is_forced {
        let units: Vec<Vec<f32>> = trusted.iter().map(|vector| unit(vector)).collect();
        let labels = kmeans::kmeans(&units, wanted);
        let members = |speaker: usize| {
            let labelled = trusted.iter().zip(&labels);
            labelled.filter(move |(_, label)| **label == speaker).map(|(&vector, _)| vector)
        };
        let found = (0..wanted).filter(|&speaker| members(speaker).next().is_some());
        centroids = found.map(|speaker| mean(members(speaker))).collect();
    }
    let directions: Vec<Vec<f32>> = centroids.iter().map(|centroid| unit(centroid)).collect();
    let mut labels = Vec::with_capacity(voices.len());
    while labels.len() < voices.len() {
        let first = labels.len();
        let of_window = windows[first..].iter().take_while(|&&window| window == windows[first]);
        let rows: Vec<Vec<f32>> = voices[first..first + of_window.count()]
            .iter()
            .map(|voice| {
                let voice = unit(&voice.embedding);
                directions.iter().map(|direction| cluster::dot(&voice, direction)).collect()
            })
            .collect();
        if is_forced {
            labels.extend(rows.iter().map(|row| ranked(row).first().copied()));
        } else {
            labels.extend(one_to_one(&rows));
        }
    }
    Speakers { labels, centroids }
}

/// Speakers by the numbers of a row, the largest first and of equals the lower.
fn ranked(row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    order
}

/// A speaker for each row, no speaker twice, so that as many rows as can be have one and the sum of
/// their numbers is largest. There are few rows, so all ways are tried.
fn one_to_one(rows: &[Vec<f32>]) -> Vec<Option<usize>> {
    // A row needs no more choices than there are rows: the others take all but one of them at most.
    let choices: Vec<Vec<usize>> =
        rows.iter().map(|row| ranked(row).into_iter().take(rows.len()).collect()).collect();
    let mut ways: Vec<Vec<Option<usize>>> = vec![Vec::new()];
    for choices in &choices {
        let mut longer = Vec::new();
        for way in &ways {
            let free = choices.iter().map(|&choice| Some(choice));
            let free = free.filter(|choice| !way.contains(choice)).chain([None]);
            longer.extend(free.map(|choice| [&way[..], &[choice]].concat()));
        }
        ways = longer;
    }
    let worth = |way: &Vec<Option<usize>>| {
        let given = rows.iter().zip(way).filter_map(|(row, choice)| choice.map(|at| row[at]));
        // A cosine is at least -1, so that each row more is worth more than any change of the others.
        given.map(|likeness| f64::from(likeness) + 1e3).sum::<f64>()
    };
    ways.into_iter().max_by(|a, b| worth(a).total_cmp(&worth(b))).unwrap_or_default()
}

/// The probabilities of speakers.
#[derive(Debug)]
struct Mixture {
    /// `(vectors, speakers)`
    responsibilities: Vec<f64>,
    /// The speakers' shares.
    shares: Vec<f64>,
}

impl Mixture {
    /// Fits a mixture to `(vectors, dimensions)`, starting from a speaker for each vector.
    fn fit(mut features: Vec<f64>, phi: &[f64], first: &[usize]) -> Self {
        let (dimensions, ratio) = (phi.len(), FA / FB);
        let count = first.iter().max().map_or(0, |last| last + 1);
        let rest = 1.0 / (FIRST_CERTAINTY.exp() + (count - 1) as f64);
        let mut responsibilities = vec![rest; first.len() * count];
        for (row, &speaker) in responsibilities.chunks_exact_mut(count).zip(first) {
            row[speaker] = FIRST_CERTAINTY.exp() * rest;
        }
        let mut shares = vec![1.0 / count as f64; count];
        let roots: Vec<f64> = phi.iter().map(|phi| phi.sqrt()).collect();
        let constants: Vec<f64> = features
            .chunks_exact_mut(dimensions)
            .map(|x| {
                let square: f64 = x.iter().map(|x| x * x).sum();
                x.iter_mut().zip(&roots).for_each(|(x, root)| *x *= root);
                -0.5 * (square + dimensions as f64 * std::f64::consts::TAU.ln())
            })
            .collect();
        let mut bound = f64::NEG_INFINITY;
        for _ in 0..ITERATIONS {
            let mut totals = vec![0.0; count];
            let mut alphas = vec![0.0; count * dimensions]; // (speakers, dimensions)
            for (x, row) in features.chunks_exact(dimensions).zip(responsibilities.chunks(count)) {
                let speakers = alphas.chunks_exact_mut(dimensions).zip(&mut totals);
                for (&share, (alpha, total)) in row.iter().zip(speakers) {
                    *total += share;
                    alpha.iter_mut().zip(x).for_each(|(alpha, x)| *alpha += share * x);
                }
            }
            let mut terms = vec![0.0; count];
            let mut penalty = 0.0;
            for (at, alpha) in alphas.chunks_exact_mut(dimensions).enumerate() {
                for (alpha, phi) in alpha.iter_mut().zip(phi) {
                    let variance = 1.0 / (1.0 + ratio * totals[at] * phi);
                    *alpha *= ratio * variance;
                    terms[at] -= 0.5 * (variance + *alpha * *alpha) * phi;
                    penalty += variance.ln() - variance - *alpha * *alpha + 1.0;
                }
            }
            let logs: Vec<f64> = shares.iter().map(|share| (share + 1e-8).ln()).collect();
            let mut likelihood = 0.0;
            shares.fill(0.0);
            let vectors = features.chunks_exact(dimensions).zip(&constants);
            for ((x, constant), row) in vectors.zip(responsibilities.chunks_exact_mut(count)) {
                for (at, alpha) in alphas.chunks_exact(dimensions).enumerate() {
                    row[at] = FA * (dot(x, alpha) + terms[at] + constant) + logs[at];
                }
                likelihood += normalise(row);
                shares.iter_mut().zip(row).for_each(|(share, value)| *share += *value);
            }
            let total: f64 = shares.iter().sum();
            shares.iter_mut().for_each(|share| *share /= total);
            let before = std::mem::replace(&mut bound, likelihood + FB * 0.5 * penalty);
            if bound - before < MIN_GAIN {
                break;
            }
        }
        Self { responsibilities, shares }
    }

    /// The mean vector of each speaker that has a share.
    fn centroids(&self, vectors: &[&[f32]]) -> Vec<Vec<f32>> {
        let count = self.shares.len();
        let kept = (0..count).filter(|&speaker| self.shares[speaker] > MIN_SHARE);
        let centroid = |speaker: usize| -> Vec<f32> {
            let mut sums = vec![0.0; vectors.first().map_or(0, |vector| vector.len())];
            let mut total = 0.0;
            for (vector, row) in vectors.iter().zip(self.responsibilities.chunks_exact(count)) {
                let share = row[speaker];
                total += share;
                sums.iter_mut().zip(*vector).for_each(|(sum, &x)| *sum += share * f64::from(x));
            }
            sums.iter().map(|sum| (sum / total) as f32).collect()
        };
        kept.map(centroid).collect()
    }
}

/// Logarithms become probabilities; gives the logarithm of their sum.
fn normalise(row: &mut [f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|value| (value - largest).exp()).sum();
    let log = largest + sum.ln();
    row.iter_mut().for_each(|value| *value = (*value - log).exp());
    log
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums, so that they are formed side by side.
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a8.0.iter().zip(b8.0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a8.1.iter().zip(b8.1).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests;
