//! Arithmetic on one vector of logits, `(vocab)`.
//!
//! A decoder step looks at 50,000 logits for each hypothesis, several times; the loops below are
//! written in lanes so that the compiler turns them into vector instructions, and `exp` is a
//! polynomial (relative error below 2e-7) because the library's is a call for each element.

/// A score that is never chosen.
pub(crate) const NEVER: f32 = f32::NEG_INFINITY;

const LANES: usize = 16;

/// The highest logit; [`NEVER`] if there is none.
pub(crate) fn highest(logits: &[f32]) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [NEVER; LANES];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(NEVER, |highest, &logit| highest.max(logit))
}

/// The first index of the highest logit, unless all are [`NEVER`].
pub(crate) fn index_of_highest(logits: &[f32]) -> Option<usize> {
    let highest = highest(logits);
    if highest == NEVER { None } else { logits.iter().position(|&logit| logit == highest) }
}

/// `ln(sum(exp(logits)))`: what turns logits into log probabilities; [`NEVER`] for no chance at all.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f32 {
    let highest = highest(logits);
    if highest == NEVER {
        return NEVER;
    }
    highest + sum_exp(logits, highest, 1.0).ln()
}

/// `sum(exp((logits - highest) * scale))`.
pub(crate) fn sum_exp(logits: &[f32], highest: f32, scale: f32) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += exp((logit - highest) * scale);
        }
    }
    lanes.iter().sum::<f32>()
        + rest.iter().map(|&logit| exp((logit - highest) * scale)).sum::<f32>()
}

/// `exp(x)` for x up to 0; below -87 it is nearly 0 instead of 0.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    // ln 2 in two parts, so that the remainder is exact.
    let r = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let series = 1.987_569_2e-4_f32;
    let series = series * r + 1.398_2e-3;
    let series = series * r + 8.333_452e-3;
    let series = series * r + 4.166_579_6e-2;
    let series = series * r + 1.666_666_5e-1;
    let series = series * r + 0.5;
    let fraction = series * r * r + r + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    fraction * scale
}

/// The `count` highest logits with their indices, highest first; never one that is [`NEVER`].
pub(crate) fn highest_few(logits: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut few: Vec<(usize, f32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return few;
    }
    let mut threshold = NEVER;
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut consider = |index: usize, logit: f32, threshold: &mut f32| {
        if logit > *threshold {
            let place = few.partition_point(|&(_, other)| other >= logit);
            few.insert(place, (index, logit));
            few.truncate(count);
            if few.len() == count {
                *threshold = few[count - 1].1;
            }
        }
    };
    for (index, chunk) in chunks.iter().enumerate() {
        // Few chunks hold anything high enough; the others cost one vector comparison.
        let mut any = false;
        for &logit in chunk {
            any |= logit > threshold;
        }
        if any {
            for (lane, &logit) in chunk.iter().enumerate() {
                consider(index * LANES + lane, logit, &mut threshold);
            }
        }
    }
    for (lane, &logit) in rest.iter().enumerate() {
        consider(chunks.len() * LANES + lane, logit, &mut threshold);
    }
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 to 999 shuffled, from -30 up: every third is never chosen.
    fn logits() -> Vec<f32> {
        (0..1000_u32)
            .map(|i| i * 617 % 1000)
            .map(|i| if i % 3 == 0 { NEVER } else { i as f32 * 0.04 - 30.0 })
            .collect()
    }

    #[test]
    fn exp_agrees_with_the_library() {
        for step in 0..87_000 {
            let x = -step as f32 * 1e-3;
            let (fast, exact) = (f64::from(exp(x)), f64::from(x).exp());
            // A few roundings of 6e-8 each.
            assert!((fast / exact - 1.0).abs() < 3e-7, "{x}: {fast} {exact}");
        }
        assert!(exp(NEVER) < 1e-37);
    }

    #[test]
    fn log_sum_exp_agrees_with_f64() {
        let logits = logits();
        let exact = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((f64::from(log_sum_exp(&logits)) - exact).abs() < 1e-6);
        assert_eq!(log_sum_exp(&[NEVER; 20]), NEVER);
        assert_eq!(log_sum_exp(&[]), NEVER);
    }

    #[test]
    fn the_highest_few_are_those_of_a_full_sort() {
        let logits = logits();
        let mut sorted: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
        sorted.retain(|&(_, logit)| logit != NEVER);
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        for count in [0, 1, 2, 10, 666, 5000] {
            assert_eq!(highest_few(&logits, count), sorted[..count.min(sorted.len())], "{count}");
        }
        assert_eq!(index_of_highest(&logits), Some(sorted[0].0));
        assert_eq!(highest(&logits), sorted[0].1);
    }

    #[test]
    fn of_equals_the_first_comes_first() {
        assert_eq!(index_of_highest(&[0.0, 2.0, 2.0]), Some(1));
        assert_eq!(highest_few(&[1.0, 2.0, 2.0, 1.0], 3), [(1, 2.0), (2, 2.0), (0, 1.0)]);
    }

    #[test]
    fn what_is_not_a_number_is_never_chosen() {
        assert_eq!(index_of_highest(&[f32::NAN, f32::NAN]), None);
        assert_eq!(highest_few(&[f32::NAN, 1.0], 2), [(1, 1.0)]);
    }
}
