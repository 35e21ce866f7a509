//! Which vectors are one voice.
//!
//! Vectors of enough speech are clustered from the bottom up ([`linkage`](super::linkage)); clusters
//! too small to be speakers are given up, and then every vector, also of little speech, goes to the
//! speaker whose centroid is nearest by cosine (pyannote.audio `pipelines/clustering.py`).
//!
//! The mean cosine between two sets of unit vectors is the product of their means, so vectors may be
//! merged beforehand without changing what average linkage does above that. Recordings with more
//! than [`MAX_ITEMS`] vectors are therefore first merged in stretches of that length, up to a
//! distance well below that of two speakers: time grows linearly with length, and memory stays
//! below 34 MB.

use super::linkage::{self, Distances, Linkage};

/// Most vectors whose distances are kept at once.
const MAX_ITEMS: usize = 4096;
/// How much below the threshold vectors may be merged beforehand.
const EARLY: f32 = 0.6;

/// A vector of a voice.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    pub(crate) embedding: Vec<f32>,
    /// Whether it was made of enough speech to found a cluster.
    pub(crate) is_trusted: bool,
}

/// Rules of clustering.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) linkage: Linkage,
    /// Clusters farther apart are different speakers: 1 minus the cosine for average linkage, the
    /// distance of unit vectors for centroid linkage.
    pub(crate) threshold: f32,
    /// A speaker has at least so many vectors, or a tenth of all if those are fewer.
    pub(crate) min_size: usize,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Clusters {
    /// The speaker of each vector.
    pub(crate) labels: Vec<usize>,
    /// The mean vector of each speaker.
    pub(crate) centroids: Vec<Vec<f32>>,
}

/// Vectors that stand for one: their sum, as unit vectors, and their number.
#[derive(Debug, Clone)]
struct Bundle {
    sum: Vec<f32>,
    weight: f32,
    members: Vec<usize>,
}

impl Bundle {
    /// One vector.
    fn new(at: usize, embedding: &[f32]) -> Self {
        Self { sum: unit(embedding), weight: 1.0, members: vec![at] }
    }
}

/// Clusters voices.
pub(crate) fn cluster(voices: &[Voice], settings: &Settings) -> Clusters {
    let mut trusted: Vec<usize> = (0..voices.len()).filter(|&at| voices[at].is_trusted).collect();
    if trusted.is_empty() {
        trusted = (0..voices.len()).collect();
    }
    if trusted.is_empty() {
        return Clusters::default();
    }
    let bundles: Vec<Bundle> =
        trusted.iter().map(|&at| Bundle::new(at, &voices[at].embedding)).collect();
    let bundles = reduced(bundles, settings);
    let groups = speakers_of(&bundles, settings, trusted.len());
    let mut groups = with_small(&bundles, groups, voices);
    // Ties of votes go to the first, so to who speaks most.
    let weight = |group: &[usize]| group.iter().map(|&at| bundles[at].weight).sum::<f32>();
    groups.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    let centroids: Vec<Vec<f32>> =
        groups.iter().map(|group| centroid(&bundles, group, voices)).collect();
    let directions: Vec<Vec<f32>> = centroids.iter().map(|centroid| unit(centroid)).collect();
    let labels = voices.iter().map(|voice| nearest(&voice.embedding, &directions)).collect();
    Clusters { labels, centroids }
}

/// Groups of vectors by centroid linkage, of any size, at most `most` of them: which group each is of.
/// Clusters whose centroids, of unit vectors, are nearer than `threshold` are one group.
pub(crate) fn near_groups(embeddings: &[&[f32]], threshold: f32, most: usize) -> Vec<usize> {
    let linkage = Linkage::Centroid;
    let settings = Settings { linkage, threshold, min_size: 1, least: 1, most };
    let bundle = |(at, embedding): (usize, &&[f32])| Bundle::new(at, embedding);
    let bundles = reduced(embeddings.iter().enumerate().map(bundle).collect(), &settings);
    let merges = tree(&bundles, linkage);
    let mut groups = linkage::cut(bundles.len(), &merges, threshold * threshold);
    if groups.iter().any(|&group| group >= most) {
        groups = linkage::cut_into(bundles.len(), &merges, most);
    }
    let mut labels = vec![0; embeddings.len()];
    for (bundle, group) in bundles.iter().zip(groups) {
        bundle.members.iter().for_each(|&at| labels[at] = group);
    }
    labels
}

/// The mean vector of the members of some bundles.
fn centroid(bundles: &[Bundle], group: &[usize], voices: &[Voice]) -> Vec<f32> {
    let members = group.iter().flat_map(|&at| &bundles[at].members);
    mean(members.map(|&at| &*voices[at].embedding))
}

/// Gives each small cluster to the large one with the nearest centroid.
fn with_small(bundles: &[Bundle], found: Grouped, voices: &[Voice]) -> Vec<Vec<usize>> {
    let Grouped { mut large, small } = found;
    let directions: Vec<Vec<f32>> =
        large.iter().map(|group| unit(&centroid(bundles, group, voices))).collect();
    for group in small {
        large[nearest(&centroid(bundles, &group, voices), &directions)].extend(group);
    }
    large
}

/// The direction nearest to a vector; the first of equals.
fn nearest(vector: &[f32], directions: &[Vec<f32>]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (at, direction) in directions.iter().enumerate() {
        let likeness = dot(vector, direction);
        if likeness > best.1 {
            best = (at, likeness);
        }
    }
    best.0
}

/// Merges stretches of bundles until there are few enough to cluster at once.
fn reduced(mut bundles: Vec<Bundle>, settings: &Settings) -> Vec<Bundle> {
    // Unit vectors that are `d` apart have a cosine of 1 - d²/2.
    let threshold = match settings.linkage {
        Linkage::Average => settings.threshold,
        Linkage::Centroid => settings.threshold * settings.threshold / 2.0,
    };
    while bundles.len() > MAX_ITEMS {
        let before = bundles.len();
        let mut merged = Vec::new();
        for stretch in bundles.chunks(MAX_ITEMS) {
            let merges = tree(stretch, Linkage::Average);
            let mut labels = linkage::cut(stretch.len(), &merges, threshold * EARLY);
            let found = labels.iter().max().map_or(0, |last| last + 1);
            // Voices this varied are merged further, or there would be no end.
            if found > stretch.len() / 2 {
                labels = linkage::cut_into(stretch.len(), &merges, stretch.len() / 2);
            }
            merged.extend(joined(stretch, &labels));
        }
        bundles = merged;
        if bundles.len() >= before {
            break;
        }
    }
    bundles
}

/// One bundle for each label.
fn joined(bundles: &[Bundle], labels: &[usize]) -> Vec<Bundle> {
    let count = labels.iter().max().map_or(0, |last| last + 1);
    let mut merged: Vec<Option<Bundle>> = vec![None; count];
    for (bundle, &label) in bundles.iter().zip(labels) {
        match &mut merged[label] {
            Some(into) => {
                into.sum.iter_mut().zip(&bundle.sum).for_each(|(sum, value)| *sum += value);
                into.weight += bundle.weight;
                into.members.extend_from_slice(&bundle.members);
            }
            empty => *empty = Some(bundle.clone()),
        }
    }
    merged.into_iter().flatten().collect()
}

fn tree(bundles: &[Bundle], linkage: Linkage) -> Vec<linkage::Merge> {
    let means: Vec<Vec<f32>> = bundles
        .iter()
        .map(|bundle| bundle.sum.iter().map(|value| value / bundle.weight).collect())
        .collect();
    let distances = Distances::between(bundles.len(), |a, b| match linkage {
        Linkage::Average => 1.0 - dot(&means[a], &means[b]),
        Linkage::Centroid => {
            means[a].iter().zip(&means[b]).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
        }
    });
    let weights: Vec<f32> = bundles.iter().map(|bundle| bundle.weight).collect();
    linkage::merges(distances, &weights, linkage)
}

/// Clusters of bundles, those large enough to be speakers and the rest.
struct Grouped {
    /// Never empty.
    large: Vec<Vec<usize>>,
    small: Vec<Vec<usize>>,
}

/// The bundles of each speaker; `voices` is how many vectors they hold.
fn speakers_of(bundles: &[Bundle], settings: &Settings, voices: usize) -> Grouped {
    let n = bundles.len();
    let tenth = (voices as f64 * 0.1).round_ties_even() as usize;
    let min_weight = settings.min_size.min(tenth.max(1)) as f32;
    let merges = tree(bundles, settings.linkage);
    let threshold = match settings.linkage {
        Linkage::Average => settings.threshold,
        Linkage::Centroid => settings.threshold * settings.threshold,
    };
    let grouped = |labels: Vec<usize>| -> Grouped {
        let count = labels.iter().max().map_or(0, |last| last + 1);
        let mut groups = vec![Vec::new(); count];
        for (at, label) in labels.into_iter().enumerate() {
            groups[label].push(at);
        }
        let weight = |group: &[usize]| group.iter().map(|&at| bundles[at].weight).sum::<f32>();
        let (large, small) = groups.into_iter().partition(|group| weight(group) >= min_weight);
        Grouped { large, small }
    };
    let mut groups = grouped(linkage::cut(n, &merges, threshold));
    let wanted = groups.large.len().clamp(settings.least, settings.most.max(settings.least));
    if groups.large.len() != wanted {
        let count = count_for(bundles, &merges, (min_weight, threshold), wanted);
        groups = grouped(linkage::cut_into(n, &merges, count));
    }
    if groups.large.is_empty() {
        groups = Grouped { large: vec![(0..n).collect()], small: Vec::new() };
    }
    groups
}

/// How many clusters of any size the tree is to be cut into, so that those large enough are as
/// near to `wanted` as they can be, by the cut nearest to the threshold.
fn count_for(
    bundles: &[Bundle],
    merges: &[linkage::Merge],
    (min_weight, threshold): (f32, f32),
    wanted: usize,
) -> usize {
    let n = bundles.len();
    let mut weights: Vec<f32> = bundles.iter().map(|bundle| bundle.weight).collect();
    let mut large = weights.iter().filter(|&&weight| weight >= min_weight).count();
    let mut best = (large.abs_diff(wanted), f32::INFINITY, n);
    for (at, merge) in merges.iter().enumerate() {
        let (left, right) = (weights[merge.left], weights[merge.right]);
        weights.push(left + right);
        large += usize::from(left + right >= min_weight);
        large -= usize::from(left >= min_weight) + usize::from(right >= min_weight);
        let found = (large.abs_diff(wanted), (merge.height - threshold).abs(), n - at - 1);
        if (found.0, found.1) < (best.0, best.1) {
            best = found;
        }
    }
    best.2
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums, so that they are formed side by side.
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a8.0.iter().zip(b8.0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a8.1.iter().zip(b8.1).map(|(a, b)| a * b).sum::<f32>()
}

/// The vector at length 1; one without a length as it is.
pub(crate) fn unit(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt();
    let scale = if length > 0.0 && length.is_finite() { 1.0 / length } else { 1.0 };
    vector.iter().map(|value| value * scale).collect()
}

/// The mean of vectors.
pub(crate) fn mean<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sums: Vec<f64> = Vec::new();
    let mut count = 0.0;
    for vector in vectors {
        sums.resize(vector.len(), 0.0);
        sums.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value));
        count += 1.0;
    }
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segmentation::testing::{largest_difference, reference, tensor};
    use crate::segmentation::{LOCAL_SPEAKERS, WINDOW_FRAMES};

    const AVERAGE: Settings = Settings {
        linkage: Linkage::Average,
        threshold: 0.6,
        min_size: 4,
        least: 1,
        most: usize::MAX,
    };

    /// Unit vectors near `speakers` directions, in turns, `spread` apart from each other.
    fn voices(count: usize, speakers: usize, spread: f32) -> Vec<Voice> {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count)
            .map(|at| {
                let mut embedding: Vec<f32> = (0..32).map(|_| noise() * spread).collect();
                embedding[at % speakers] += 1.0;
                Voice { embedding, is_trusted: true }
            })
            .collect()
    }

    #[test]
    fn the_recipe_of_pyannote_gives_its_clusters() {
        let Some(golden) = reference("diarization_30s.safetensors") else { return };
        let bits = tensor(&golden, "segmentations");
        let embeddings = tensor(&golden, "embeddings");
        let clusters = tensor(&golden, "hard_clusters");
        let mut voices = Vec::new();
        let mut wanted = Vec::new();
        for (at, embedding) in embeddings.chunks_exact(192).enumerate() {
            if embedding[0].is_nan() {
                continue;
            }
            let frames = bits[at / 3 * WINDOW_FRAMES * LOCAL_SPEAKERS..]
                .chunks_exact(LOCAL_SPEAKERS)
                .take(WINDOW_FRAMES);
            let alone = frames.filter(|f| f[at % 3] > 0.5 && f.iter().sum::<f64>() < 1.5).count();
            // Alone for a fifth of the window.
            let is_trusted = alone as f64 >= 0.2 * WINDOW_FRAMES as f64;
            let embedding = embedding.iter().map(|&value| value as f32).collect();
            voices.push(Voice { embedding, is_trusted });
            wanted.push(clusters[at] as usize);
        }
        let settings = Settings {
            linkage: Linkage::Centroid,
            threshold: 0.704_565_5,
            min_size: 12,
            ..AVERAGE
        };
        let found = cluster(&voices, &settings);
        // Numbers of clusters are arbitrary: the reference's first one is our other one, or not.
        let golden_centroids = tensor(&golden, "centroids");
        assert_eq!(found.centroids.len(), 2);
        let is_swapped = found.labels[0] != wanted[0];
        let renamed: Vec<usize> =
            found.labels.iter().map(|&label| label ^ usize::from(is_swapped)).collect();
        assert_eq!(renamed, wanted);
        for (label, centroid) in found.centroids.iter().enumerate() {
            let theirs = label ^ usize::from(is_swapped);
            let difference = largest_difference(centroid, &golden_centroids[theirs * 192..][..192]);
            assert!(difference < 1e-3, "centroid {label}: {difference:e}");
        }
    }

    #[test]
    fn as_many_speakers_as_there_are_voices() {
        for speakers in [1, 2, 5] {
            let found = cluster(&voices(60, speakers, 0.1), &AVERAGE);
            assert_eq!(found.centroids.len(), speakers);
            assert!(found.labels.iter().enumerate().all(|(at, &label)| label == at % speakers));
        }
        assert_eq!(cluster(&[], &AVERAGE), Clusters::default());
    }

    #[test]
    fn bounds_are_kept_where_there_are_voices_for_them() {
        let voices = voices(60, 4, 0.1);
        let count =
            |least, most| cluster(&voices, &Settings { least, most, ..AVERAGE }).centroids.len();
        assert_eq!([count(1, 2), count(1, 1), count(4, 9), count(6, 6)], [2, 1, 4, 6]);
        // Sixty vectors in clusters of four or more.
        assert!(count(40, 50) <= 15);
    }

    #[test]
    fn a_voice_of_little_speech_founds_nothing_but_belongs_somewhere() {
        let mut voices = voices(40, 2, 0.1);
        let mut odd = voices[1].clone();
        odd.embedding[7] += 5.0;
        odd.is_trusted = false;
        voices.push(odd);
        let found = cluster(&voices, &AVERAGE);
        assert_eq!((found.centroids.len(), found.labels[40]), (2, 1));
    }

    #[test]
    fn more_voices_than_are_compared_at_once_find_the_same_speakers() {
        let found = cluster(&voices(MAX_ITEMS + 1500, 3, 0.1), &AVERAGE);
        assert_eq!(found.centroids.len(), 3);
        assert!(found.labels.iter().enumerate().all(|(at, &label)| label == at % 3));
    }
}
