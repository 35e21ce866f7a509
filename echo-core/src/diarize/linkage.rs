//! Agglomerative clustering: the two nearest clusters become one until none are near.
//!
//! Distances between all pairs lie in half a matrix of f32 and are updated as clusters merge
//! (Lance and Williams 1967); each cluster keeps its nearest one among those behind it, so that a
//! merge costs a pass over the clusters and a pass over the few whose nearest one it took. Time and
//! memory grow with the square of the items, so callers bound their number.
//!
//! Merges are numbered as in `scipy`'s `linkage`: items are `0..n`, merge `m` makes cluster `n + m`.

/// How far two clusters are from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// The distance of their centroids; distances given are squared Euclidean ones.
    Centroid,
    /// The mean distance of their members.
    Average,
}

/// Two clusters that became one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Merge {
    /// The lower number of the two.
    pub(crate) left: usize,
    pub(crate) right: usize,
    /// How far apart they were.
    pub(crate) height: f32,
}

/// Distances of all pairs of `n` items, each once.
#[derive(Debug, Clone)]
pub(crate) struct Distances {
    n: usize,
    values: Vec<f32>,
}

impl Distances {
    /// Asks `distance(a, b)` for each pair with `a < b`.
    pub(crate) fn between(n: usize, mut distance: impl FnMut(usize, usize) -> f32) -> Self {
        let mut values = Vec::with_capacity(n * n.saturating_sub(1) / 2);
        for a in 0..n {
            values.extend((a + 1..n).map(|b| distance(a, b)));
        }
        Self { n, values }
    }

    fn index(&self, a: usize, b: usize) -> usize {
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        a * (2 * self.n - a - 1) / 2 + b - a - 1
    }

    /// The distance of two different items.
    pub(crate) fn get(&self, a: usize, b: usize) -> f32 {
        self.values[self.index(a, b)]
    }
}

/// Merges until one cluster is left; `weights` are how many each item stands for.
pub(crate) fn merges(mut distances: Distances, weights: &[f32], linkage: Linkage) -> Vec<Merge> {
    let n = distances.n;
    let mut weights = weights.to_vec();
    // Slot `s` holds cluster `names[s]`; a merged cluster takes the slot of its right half.
    let mut names: Vec<usize> = (0..n).collect();
    let mut live: Vec<usize> = (0..n).collect();
    let mut nearest: Vec<(f32, usize)> =
        (0..n).map(|at| nearest_of(&distances, &live, at)).collect();
    let mut merges = Vec::with_capacity(n.saturating_sub(1));
    while live.len() > 1 {
        let first = live.iter().copied().min_by(|&a, &b| nearest[a].0.total_cmp(&nearest[b].0));
        let Some(gone) = first else { break };
        let (height, kept) = nearest[gone];
        if kept == gone {
            break; // distances that are no numbers lead nowhere
        }
        let (left, right) = (names[gone].min(names[kept]), names[gone].max(names[kept]));
        merges.push(Merge { left, right, height });
        live.retain(|&slot| slot != gone);
        for &other in live.iter().filter(|&&other| other != kept) {
            let value = updated(&distances, &weights, linkage, [gone, kept, other], height);
            let at = distances.index(kept, other);
            distances.values[at] = value;
        }
        weights[kept] += weights[gone];
        names[kept] = n + merges.len() - 1;
        for &slot in &live {
            let (distance, neighbour) = nearest[slot];
            if slot == kept || neighbour == gone || neighbour == kept {
                nearest[slot] = nearest_of(&distances, &live, slot);
            } else if slot < kept {
                let value = distances.get(slot, kept);
                if value < distance {
                    nearest[slot] = (value, kept);
                }
            }
        }
    }
    merges
}

/// The distance of `other` from the union of `gone` and `kept`, which are `apart`.
fn updated(
    distances: &Distances,
    weights: &[f32],
    linkage: Linkage,
    [gone, kept, other]: [usize; 3],
    apart: f32,
) -> f32 {
    let both = weights[gone] + weights[kept];
    let (a, b) = (weights[gone] / both, weights[kept] / both);
    let mean = a * distances.get(gone, other) + b * distances.get(kept, other);
    match linkage {
        Linkage::Average => mean,
        Linkage::Centroid => mean - a * b * apart,
    }
}

/// The nearest live slot behind `slot`.
fn nearest_of(distances: &Distances, live: &[usize], slot: usize) -> (f32, usize) {
    let behind = live.iter().copied().filter(|&other| other > slot);
    let mut nearest = (f32::INFINITY, slot);
    for other in behind {
        let distance = distances.get(slot, other);
        if distance < nearest.0 {
            nearest = (distance, other);
        }
    }
    nearest
}

/// Cuts the tree: clusters whose merges all lie at or below `threshold`, as labels in the order of
/// their first item.
pub(crate) fn cut(n: usize, merges: &[Merge], threshold: f32) -> Vec<usize> {
    // Heights may fall from a merge to the next one above it, so the highest within counts.
    let mut highest: Vec<f32> = vec![0.0; n + merges.len()];
    let mut is_joined = vec![false; merges.len()];
    for (at, merge) in merges.iter().enumerate() {
        let below = highest[merge.left].max(highest[merge.right]);
        highest[n + at] = merge.height.max(below);
        is_joined[at] = highest[n + at] <= threshold;
    }
    labels(n, merges, &is_joined)
}

/// Cuts the tree into `count` clusters: the first merges, up to where so many are left.
pub(crate) fn cut_into(n: usize, merges: &[Merge], count: usize) -> Vec<usize> {
    let joined = n.saturating_sub(count.max(1));
    let is_joined: Vec<bool> = (0..merges.len()).map(|at| at < joined).collect();
    labels(n, merges, &is_joined)
}

fn labels(n: usize, merges: &[Merge], is_joined: &[bool]) -> Vec<usize> {
    // From the top down, each cluster knows the highest joined merge that it is part of.
    let mut roots: Vec<usize> = (0..n + merges.len()).collect();
    for (at, merge) in merges.iter().enumerate().rev() {
        if is_joined[at] {
            let root = roots[n + at];
            (roots[merge.left], roots[merge.right]) = (root, root);
        }
    }
    let mut known = Vec::new();
    (0..n)
        .map(|item| {
            let found = known.iter().position(|&root| root == roots[item]);
            found.unwrap_or_else(|| {
                known.push(roots[item]);
                known.len() - 1
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_line(points: &[f32], linkage: Linkage) -> Vec<Merge> {
        let distances = Distances::between(points.len(), |a, b| {
            let apart = (points[a] - points[b]).abs();
            if linkage == Linkage::Centroid { apart * apart } else { apart }
        });
        merges(distances, &vec![1.0; points.len()], linkage)
    }

    #[test]
    fn the_nearest_merge_first_and_distances_are_those_of_means() {
        let found = on_a_line(&[0.0, 1.0, 10.0, 12.0], Linkage::Average);
        let heights: Vec<f32> = found.iter().map(|merge| merge.height).collect();
        assert_eq!(heights, [1.0, 2.0, 10.5]);
        assert_eq!((found[2].left, found[2].right), (4, 5));
        let found = on_a_line(&[0.0, 1.0, 10.0, 12.0], Linkage::Centroid);
        let heights: Vec<f32> = found.iter().map(|merge| merge.height.sqrt()).collect();
        assert_eq!(heights, [1.0, 2.0, 10.5]);
    }

    #[test]
    fn weights_are_items_that_were_merged_before() {
        // 0 three times and 4 once are on average 9 from 10; once each 8.
        let points = [0.0f32, 4.0, 10.0];
        let distances = Distances::between(3, |a, b| (points[a] - points[b]).abs());
        assert_eq!(merges(distances, &[3.0, 1.0, 1.0], Linkage::Average)[1].height, 9.0);
    }

    #[test]
    fn cuts_give_labels_in_order_of_first_item() {
        let found = on_a_line(&[10.0, 0.0, 12.0, 1.0], Linkage::Average);
        assert_eq!(cut(4, &found, 3.0), [0, 1, 0, 1]);
        assert_eq!(cut(4, &found, 1.0), [0, 1, 2, 1]);
        assert_eq!(cut_into(4, &found, 1), [0, 0, 0, 0]);
        assert_eq!(cut_into(4, &found, 3), [0, 1, 2, 1]);
        assert_eq!(cut(1, &[], 0.5), [0]);
        assert!(cut(0, &[], 0.5).is_empty());
    }
}
