//! G.722: 16 kHz speech in 64 kbit/s, the wideband codec of telephones.
//!
//! Two half bands, each coded by the difference to a prediction from its own past, in steps that
//! follow the loudness (ADPCM): 6 bits for the lower, 2 for the upper one in every byte. A filter
//! bank of 24 taps joins them. Source: ITU-T G.722, sections 3 to 6; names of blocks are its own.

use super::{Decoder, Fault, Frames, Packet};

/// G.722 in one channel.
pub(super) struct G722 {
    low: Band,
    high: Band,
    /// The last sums and differences of the bands, newest last.
    history: [i32; 24],
}

/// The rate that is decoded to, whatever a header says.
const SAMPLE_RATE_HZ: u32 = 16_000;

/// Taps of the filter bank, every second one; the others are these backwards.
const BANK_TAPS: [i32; 12] = [3, -11, 12, 32, -210, 951, 3_876, -805, 362, -156, 53, -11];

/// Values of the lower band's codes: 6 bits for the output, their upper 4 for the prediction.
const LOW_VALUES_6: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192,
    -10_232, -9_360, -8_576, -7_856, -7_192, -6_576, -6_000, -5_456, -4_944, -4_464, -4_008,
    -3_576, -3_168, -2_776, -2_400, -2_032, -1_688, -1_360, -1_040, -728, 24_808, 21_904, 19_008,
    16_704, 14_984, 13_512, 12_280, 11_192, 10_232, 9_360, 8_576, 7_856, 7_192, 6_576, 6_000,
    5_456, 4_944, 4_464, 4_008, 3_576, 3_168, 2_776, 2_400, 2_032, 1_688, 1_360, 1_040, 728, 432,
    136, -432, -136,
];
const LOW_VALUES_4: [i32; 16] = [
    0, -20_456, -12_896, -8_968, -6_288, -4_240, -2_584, -1_200, 20_456, 12_896, 8_968, 6_288,
    4_240, 2_584, 1_200, 0,
];
const HIGH_VALUES: [i32; 4] = [-7_408, -1_616, 7_408, 1_616];

/// How codes change the logarithm of the step.
const LOW_STEPS: [i32; 16] =
    [-60, 3_042, 1_198, 538, 334, 172, 58, -30, 3_042, 1_198, 538, 334, 172, 58, -30, -60];
const HIGH_STEPS: [i32; 4] = [798, -214, 798, -214];

/// 2,048 · 2^(n / 32): an octave of steps.
const OCTAVE: [i32; 32] = [
    2_048, 2_093, 2_139, 2_186, 2_233, 2_282, 2_332, 2_383, 2_435, 2_489, 2_543, 2_599, 2_656,
    2_714, 2_774, 2_834, 2_896, 2_960, 3_025, 3_091, 3_158, 3_228, 3_298, 3_371, 3_444, 3_520,
    3_597, 3_676, 3_756, 3_838, 3_922, 4_008,
];

impl Default for G722 {
    fn default() -> Self {
        // The least steps of both bands.
        let low = Band { step: 32, ..Band::default() };
        let high = Band { step: 8, ..Band::default() };
        Self { low, high, history: [0; 24] }
    }
}

impl Decoder for G722 {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = SAMPLE_RATE_HZ;
        frames.channels.resize_with(1, Vec::new);
        frames.channels.truncate(1);
        for code in &packet.data {
            let samples = self.decode_code(*code);
            frames.channels[0].extend(samples.map(|sample| sample as f32 / 32_768.0));
        }
        Ok(())
    }
}

impl G722 {
    fn decode_code(&mut self, code: u8) -> [i32; 2] {
        let (low_code, high_code) = (usize::from(code & 0x3f), usize::from(code >> 6));
        let difference = (self.low.step * LOW_VALUES_6[low_code]) >> 15;
        let low = (self.low.prediction + difference).clamp(-16_384, 16_383);
        let coarse = low_code >> 2;
        let difference = (self.low.step * LOW_VALUES_4[coarse]) >> 15;
        self.low.adapt_step(LOW_STEPS[coarse], 18_432, 8);
        self.low.adapt(difference);

        let difference = (self.high.step * HIGH_VALUES[high_code]) >> 15;
        let high = (self.high.prediction + difference).clamp(-16_384, 16_383);
        self.high.adapt_step(HIGH_STEPS[high_code], 22_528, 10);
        self.high.adapt(difference);
        self.join(low, high)
    }

    /// Two samples from one of each band.
    fn join(&mut self, low: i32, high: i32) -> [i32; 2] {
        self.history.copy_within(2.., 0);
        self.history[22] = low + high;
        self.history[23] = low - high;
        let (mut first, mut second) = (0, 0);
        for (tap, pair) in self.history.as_chunks::<2>().0.iter().enumerate() {
            second += pair[0] * BANK_TAPS[tap];
            first += pair[1] * BANK_TAPS[11 - tap];
        }
        [first, second].map(|sum| (sum >> 11).clamp(-32_768, 32_767))
    }
}

/// The predictor and the step of a band.
#[derive(Default)]
struct Band {
    prediction: i32,
    zero_prediction: i32,
    step: i32,
    log_step: i32,
    /// Newest first: reconstructed samples, and partial ones of which only the signs matter.
    samples: [i32; 2],
    partials: [i32; 2],
    poles: [i32; 2],
    differences: [i32; 6],
    zeros: [i32; 6],
}

impl Band {
    /// Blocks LOGSCL and SCALEL, LOGSCH and SCALEH.
    fn adapt_step(&mut self, change: i32, limit: i32, shift: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + change).clamp(0, limit);
        let mantissa = OCTAVE[(self.log_step >> 6 & 31) as usize];
        let shift = shift - (self.log_step >> 11);
        let step = if shift < 0 { mantissa << -shift } else { mantissa >> shift };
        self.step = step << 2;
    }

    /// Block 4: moves the predictor on by one sample.
    fn adapt(&mut self, difference: i32) {
        let sample = saturate(self.prediction + difference);
        let partial = saturate(self.zero_prediction + difference);
        self.adapt_poles(partial);
        self.adapt_zeros(difference);
        self.samples = [sample, self.samples[0]];
        self.partials = [partial, self.partials[0]];
        // Products of 15-bit fractions with doubled samples, each rounded down by itself.
        let product = |factor: i32, sample: i32| (factor * saturate(sample + sample)) >> 15;
        let poles =
            product(self.poles[0], self.samples[0]) + product(self.poles[1], self.samples[1]);
        let zeros = self.zeros.iter().zip(self.differences);
        self.zero_prediction = saturate(zeros.map(|(zero, past)| product(*zero, past)).sum());
        self.prediction = saturate(saturate(poles) + self.zero_prediction);
    }

    /// Blocks UPPOL1 and UPPOL2, which look at signs only; a zero counts as positive.
    fn adapt_poles(&mut self, partial: i32) {
        let is_opposite = |past: i32| (partial < 0) != (past < 0);
        let first = saturate(self.poles[0] << 2);
        let first = if is_opposite(self.partials[0]) { first } else { -first };
        let mut second = first.min(32_767) >> 7;
        second += if is_opposite(self.partials[1]) { -128 } else { 128 };
        second += (self.poles[1] * 32_512) >> 15;
        let second = second.clamp(-12_288, 12_288);
        let step = if is_opposite(self.partials[0]) { -192 } else { 192 };
        let limit = saturate(15_360 - second);
        let first = saturate(step + ((self.poles[0] * 32_640) >> 15)).clamp(-limit, limit);
        self.poles = [first, second];
    }

    /// Block UPZERO.
    fn adapt_zeros(&mut self, difference: i32) {
        let size = if difference == 0 { 0 } else { 128 };
        for (zero, past) in self.zeros.iter_mut().zip(self.differences) {
            let step = if (difference < 0) != (past < 0) { -size } else { size };
            *zero = saturate(step + ((*zero * 32_640) >> 15));
        }
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
    }
}

/// Holds a value in 16 bits.
fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_decode_to_two_samples_each() {
        let mut seed = 3_u32;
        let data: Vec<u8> = (0..40_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let mut frames = Frames::default();
        for code in [0x00, 0x3f, 0x80, 0xff] {
            let packet = Packet::untimed(0, [data.clone(), vec![code; 10_000]].concat());
            G722::default().decode(&packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 100_000);
            assert!(frames.channels[0].iter().all(|sample| sample.abs() <= 1.0));
        }
    }
}
