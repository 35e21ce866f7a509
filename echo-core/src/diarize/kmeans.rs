//! A given number of clusters: k-means of unit vectors.
//!
//! Centres start at vectors drawn far from each other (k-means++, Arthur and Vassilvitskii 2007) and
//! move to the mean of the vectors nearest to them until nothing changes. The best of three starts
//! counts. The seed is fixed, so that a recording always gives the same speakers; scikit-learn's draws
//! cannot be repeated.

use super::cluster::{dot, mean};

const STARTS: usize = 3;
/// Moves after which a start is good enough.
const MAX_MOVES: usize = 100;
const SEED: u64 = 42;

/// The cluster of each of the vectors, of `count` clusters, some of which may be empty.
///
/// # Panics
/// If there are no vectors or no clusters.
pub(crate) fn kmeans(vectors: &[Vec<f32>], count: usize) -> Vec<usize> {
    assert!(!vectors.is_empty() && count > 0, "something to cluster");
    let mut random = Random(SEED);
    let mut best = (f64::INFINITY, vec![0; vectors.len()]);
    for _ in 0..STARTS {
        let mut centers = spread(vectors, count, &mut random);
        let mut found = assigned(vectors, &centers);
        for _ in 0..MAX_MOVES {
            for (cluster, center) in centers.iter_mut().enumerate() {
                let labelled = vectors.iter().zip(&found.1);
                let members = labelled.filter(|(_, label)| **label == cluster);
                let mut members = members.map(|(vector, _)| &**vector).peekable();
                if members.peek().is_some() {
                    *center = mean(members);
                }
            }
            let next = assigned(vectors, &centers);
            let is_settled = next.1 == found.1;
            found = next;
            if is_settled {
                break;
            }
        }
        if found.0 < best.0 {
            best = found;
        }
    }
    best.1
}

/// Vectors to start from: each one drawn by its squared distance from those drawn before.
fn spread(vectors: &[Vec<f32>], count: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let mut centers = vec![vectors[random.below(vectors.len())].clone()];
    let mut nearest = vec![f64::INFINITY; vectors.len()];
    while centers.len() < count {
        let last = &centers[centers.len() - 1];
        for (distance, vector) in nearest.iter_mut().zip(vectors) {
            *distance = distance.min(apart(vector, last));
        }
        let mut left = random.fraction() * nearest.iter().sum::<f64>();
        let drawn = nearest.iter().position(|&distance| {
            left -= distance;
            left < 0.0
        });
        centers.push(vectors[drawn.unwrap_or(vectors.len() - 1)].clone());
    }
    centers
}

/// The sum of squared distances to the nearest centres, and which these are.
fn assigned(vectors: &[Vec<f32>], centers: &[Vec<f32>]) -> (f64, Vec<usize>) {
    let squares: Vec<f32> = centers.iter().map(|center| dot(center, center)).collect();
    let mut total = 0.0;
    let nearest = |vector: &Vec<f32>| {
        let mut best = (f32::INFINITY, 0);
        for (at, (center, square)) in centers.iter().zip(&squares).enumerate() {
            let distance = square - 2.0 * dot(vector, center);
            if distance < best.0 {
                best = (distance, at);
            }
        }
        total += f64::from(dot(vector, vector) + best.0);
        best.1
    };
    let labels = vectors.iter().map(nearest).collect();
    (total, labels)
}

fn apart(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, count: usize) -> usize {
        ((self.fraction() * count as f64) as usize).min(count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_apart_are_found_and_there_may_be_fewer_places_than_clusters() {
        let directions = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let vectors: Vec<Vec<f32>> = (0..60)
            .map(|at| {
                let mut vector = directions[at % 3].to_vec();
                vector[(at + 1) % 3] += (at % 7) as f32 * 0.01;
                vector
            })
            .collect();
        let labels = kmeans(&vectors, 3);
        assert!(labels.iter().enumerate().all(|(at, label)| *label == labels[at % 3]));
        let mut three = labels[..3].to_vec();
        three.sort_unstable();
        assert_eq!(three, [0, 1, 2]);
        assert_eq!(kmeans(&vectors, 3), labels, "the same draws every time");
        assert_eq!(kmeans(&vectors, 1), [0; 60]);
        let same = vec![vec![1.0, 0.0]; 4];
        assert!(kmeans(&same, 3).iter().all(|&label| label < 3));
    }
}
