//! Filters that both bands of Speex share: line spectral pairs, synthesis, the filter bank.

use std::f32::consts::PI;

/// Numbers that sound like noise, the same in every decoder.
pub(super) struct Noise {
    state: u32,
}

impl Default for Noise {
    fn default() -> Self {
        Self { state: 1_000 }
    }
}

impl Noise {
    /// The next one, from -scale / 2 to scale / 2.
    pub(super) fn next(&mut self, scale: f32) -> f32 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f32::from_bits(0x3f80_0000 | self.state & 0x007f_ffff) - 1.5) * scale
    }
}

/// The root of the mean square, never 0.
pub(super) fn loudness(samples: &[f32]) -> f32 {
    let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
    (0.1 + energy / samples.len() as f32).sqrt()
}

/// Line spectral pairs on the way from one frame's to the next one's, at least `margin` apart.
pub(super) fn interpolate<const N: usize>(
    old: &[f32; N],
    new: &[f32; N],
    part: usize,
    part_count: usize,
    margin: f32,
) -> [f32; N] {
    let share = (1.0 + part as f32) / part_count as f32;
    let mut pairs: [f32; N] = std::array::from_fn(|index| {
        ((1.0 - share) * old[index] + share * new[index]).clamp(margin, PI - margin)
    });
    for index in 1..N - 1 {
        pairs[index] = pairs[index].max(pairs[index - 1] + margin);
        if pairs[index] > pairs[index + 1] - margin {
            pairs[index] = 0.5 * (pairs[index] + pairs[index + 1] - margin);
        }
    }
    pairs
}

/// The coefficients of the prediction filter that line spectral pairs stand for: the mean of a
/// polynomial with the even pairs as roots and one with the odd pairs.
pub(super) fn prediction<const N: usize>(pairs: &[f32; N]) -> [f32; N] {
    let mut sum = [0.0; N];
    for (first, sign) in [(0, 1.0), (1, -1.0)] {
        // At most 10 pairs: 12 coefficients.
        let mut polynomial = [0.0_f32; 12];
        polynomial[0] = 1.0;
        polynomial[1] = sign;
        for (index, pair) in pairs.iter().skip(first).step_by(2).enumerate() {
            let middle = -2.0 * pair.cos();
            for at in (1..=2 * index + 3).rev() {
                let before = if at > 1 { polynomial[at - 2] } else { 0.0 };
                polynomial[at] += middle * polynomial[at - 1] + before;
            }
        }
        for (sum, coefficient) in sum.iter_mut().zip(&polynomial[1..]) {
            *sum += 0.5 * coefficient;
        }
    }
    sum
}

/// Runs samples through the filter, whose state is `memory`.
pub(super) fn synthesize<const N: usize>(
    samples: &mut [f32],
    prediction: &[f32; N],
    memory: &mut [f32; N],
) {
    for sample in samples {
        let value = *sample + memory[0];
        memory.copy_within(1.., 0);
        memory[N - 1] = 0.0;
        for (memory, coefficient) in memory.iter_mut().zip(prediction) {
            *memory -= coefficient * value;
        }
        *sample = value;
    }
}

/// Taps of the filter bank.
pub(super) const BANK_TAPS: usize = 64;

/// Half of them; the other half is the same backwards.
const BANK: [f32; BANK_TAPS / 2] = [
    3.596189e-05,
    -0.000_112_351_5,
    -0.000_110_458_7,
    0.000_279_027_7,
    0.000_229_843_8,
    -0.000_595_356_3,
    -0.000_382_363_1,
    0.001_138_26,
    0.000_530_853_9,
    -0.001_986_177,
    -0.000_624_372_4,
    0.003_235_877,
    0.000_574_315_9,
    -0.004_989_147,
    -0.000_258_476_7,
    0.007_367_171,
    -0.000_485_793_5,
    -0.010_506_89,
    0.001_894_714,
    0.014_593_96,
    -0.004_313_674,
    -0.019_943_65,
    0.008_287_56,
    0.027_160_55,
    -0.014_853_97,
    -0.037_649_73,
    0.026_447,
    0.055_432_45,
    -0.050_954_87,
    -0.097_790_96,
    0.138_236_3,
    0.460_098_1,
];

/// Joins two half bands into samples at twice their rate.
#[derive(Default)]
pub(super) struct FilterBank {
    /// The last samples of both bands, oldest first.
    low: Vec<f32>,
    high: Vec<f32>,
}

impl FilterBank {
    pub(super) fn join(&mut self, low: &[f32], high: &[f32]) -> Vec<f32> {
        const PAST: usize = BANK_TAPS / 2 - 1;
        self.low.resize(PAST, 0.0);
        self.high.resize(PAST, 0.0);
        self.low.extend_from_slice(low);
        self.high.extend_from_slice(high);
        let mut joined = Vec::with_capacity(low.len() * 2);
        for now in PAST..self.low.len() {
            let (mut even, mut odd) = (0.0, 0.0);
            for tap in 0..=PAST {
                let (low, high) = (self.low[now - tap], self.high[now - tap]);
                even += tap_at(2 * tap) * (low - high);
                odd += tap_at(2 * tap + 1) * (low + high);
            }
            joined.extend([2.0 * even, 2.0 * odd]);
        }
        self.low.drain(..low.len());
        self.high.drain(..low.len());
        joined
    }
}

fn tap_at(index: usize) -> f32 {
    BANK[index.min(BANK_TAPS - 1 - index)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_at_equal_distances_are_a_flat_filter() {
        let pairs = std::array::from_fn::<f32, 10, _>(|index| PI * (index + 1) as f32 / 11.0);
        for coefficient in prediction(&pairs) {
            assert!(coefficient.abs() < 1e-5, "{coefficient}");
        }
    }

    #[test]
    fn the_bank_joins_a_low_band_into_the_same_sound_at_twice_the_rate() {
        let tone = |step: f32, count: usize| -> Vec<f32> {
            (0..count).map(|n| (n as f32 * step).sin()).collect()
        };
        let mut bank = FilterBank::default();
        let joined = bank.join(&tone(0.2, 400), &[0.0; 400]);
        // The filter delays by half its length: 31.5 samples.
        let expected: Vec<f32> = (0..800).map(|n| ((n as f32 - 0.5) * 0.1).sin()).collect();
        let difference =
            (100..700).map(|n| (joined[n + 31] - expected[n]).abs()).fold(0.0, f32::max);
        assert!(difference < 0.02, "{difference}");
    }
}
