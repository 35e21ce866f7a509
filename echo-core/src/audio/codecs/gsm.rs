//! GSM 06.10 full rate, 13 kbit/s: the codec of early mobile phones, of voice mail and call logs.
//!
//! A frame of 160 samples is a lattice filter (8 log area ratios) driven by a sum of its own past
//! (long-term prediction) and 13 pulses in each of 4 parts. All arithmetic is in 16 bits with
//! saturation, as ETSI EN 300 961 (GSM 06.10) section 5.3 lays down; numbers below are its tables.

use super::{Decoder, Fault, Frames, Packet};

const FRAME_SAMPLES: usize = 160;
const PART_SAMPLES: usize = 40;
/// The furthest the long-term prediction looks back.
const MAX_LAG: usize = 120;

/// Bits of the log area ratios.
const RATIO_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];
/// Table 4.1: offset B, least code, and 1/A scaled, of each ratio.
const RATIO_CODES: [(i16, i16, i16); 8] = [
    (0, -32, 13_107),
    (0, -32, 13_107),
    (2_048, -16, 13_107),
    (-2_560, -16, 13_107),
    (94, -8, 19_223),
    (-1_792, -8, 17_476),
    (-341, -4, 31_454),
    (-1_144, -4, 29_708),
];
/// Table 4.3b: gains of the long-term prediction.
const LAG_GAINS: [i16; 4] = [3_277, 11_469, 21_299, 32_767];
/// Table 4.6: mantissas of the pulses.
const PULSE_FACTORS: [i16; 8] = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767];

/// Two frames in 65 bytes, least significant bit first, as WAV files hold them.
pub(super) struct Microsoft {
    sample_rate_hz: u32,
    state: State,
}

impl Microsoft {
    const BLOCK_BYTES: usize = 65;

    pub(super) fn new(sample_rate_hz: u32) -> Self {
        Self { sample_rate_hz, state: State::default() }
    }
}

impl Decoder for Microsoft {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = self.sample_rate_hz;
        frames.channels.resize_with(1, Vec::new);
        for block in packet.data.chunks_exact(Self::BLOCK_BYTES) {
            let mut bits = Bits { bytes: block, position: 0 };
            for _ in 0..2 {
                let samples = self.state.decode(&Parameters::read(&mut bits));
                frames.channels[0].extend(samples.map(|s| f32::from(s) / 32_768.0));
            }
        }
        Ok(())
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    position: u32,
}

impl Bits<'_> {
    /// The next `count` bits; zeros behind the end.
    fn take(&mut self, count: u32) -> i16 {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.bytes.get(self.position as usize / 8).copied().unwrap_or(0);
            value |= i16::from(byte >> (self.position % 8) & 1) << bit;
            self.position += 1;
        }
        value
    }
}

/// What a frame holds.
struct Parameters {
    ratios: [i16; 8],
    parts: [Part; 4],
}

struct Part {
    lag: i16,
    gain: i16,
    grid: i16,
    largest: i16,
    pulses: [i16; 13],
}

impl Parameters {
    fn read(bits: &mut Bits<'_>) -> Self {
        let ratios = RATIO_BITS.map(|count| bits.take(count));
        let parts = std::array::from_fn(|_| Part {
            lag: bits.take(7),
            gain: bits.take(2),
            grid: bits.take(2),
            largest: bits.take(6),
            pulses: std::array::from_fn(|_| bits.take(3)),
        });
        Self { ratios, parts }
    }
}

/// What a decoder remembers from frame to frame.
struct State {
    /// The last residual samples, newest last.
    residual: [i16; MAX_LAG],
    lag: usize,
    ratios: [i16; 8],
    lattice: [i16; 9],
    deemphasis: i16,
}

impl Default for State {
    fn default() -> Self {
        let (residual, ratios, lattice) = ([0; MAX_LAG], [0; 8], [0; 9]);
        Self { residual, lag: 40, ratios, lattice, deemphasis: 0 }
    }
}

impl State {
    fn decode(&mut self, parameters: &Parameters) -> [i16; FRAME_SAMPLES] {
        let mut samples = [0; FRAME_SAMPLES];
        for (part, residual) in parameters.parts.iter().zip(samples.chunks_exact_mut(PART_SAMPLES))
        {
            self.long_term(part, residual);
        }
        self.short_term(&parameters.ratios, &mut samples);
        for sample in &mut samples {
            self.deemphasis = sample.saturating_add(product(self.deemphasis, 28_180));
            *sample = self.deemphasis.saturating_add(self.deemphasis) & !7;
        }
        samples
    }

    /// Section 5.3.1 and 5.3.2: pulses on their grid, and the past.
    fn long_term(&mut self, part: &Part, residual: &mut [i16]) {
        let pulses = part.pulses();
        let grid = part.grid as usize;
        for (index, pulse) in pulses.into_iter().enumerate() {
            residual[grid + 3 * index] = pulse;
        }
        if (40..=MAX_LAG as i16).contains(&part.lag) {
            self.lag = part.lag as usize;
        }
        let gain = LAG_GAINS[part.gain as usize];
        for (index, sample) in residual.iter_mut().enumerate() {
            // A lag is never shorter than a part.
            let past = self.residual[MAX_LAG - self.lag + index];
            *sample = sample.saturating_add(product(gain, past));
        }
        self.residual.copy_within(PART_SAMPLES.., 0);
        self.residual[MAX_LAG - PART_SAMPLES..].copy_from_slice(residual);
    }

    /// Section 5.3.4: the filter, whose ratios glide from the last frame's over 40 samples.
    fn short_term(&mut self, codes: &[i16; 8], samples: &mut [i16; FRAME_SAMPLES]) {
        let mut ratios = [0; 8];
        for ((ratio, code), (offset, least, scale)) in ratios.iter_mut().zip(codes).zip(RATIO_CODES)
        {
            let raised = ((code + least) << 10).saturating_sub(offset << 1);
            let scaled = product(scale, raised);
            *ratio = scaled.saturating_add(scaled);
        }
        let last = std::mem::replace(&mut self.ratios, ratios);
        let glide = |weight: fn(i16, i16) -> i16| -> [i16; 8] {
            std::array::from_fn(|index| reflection(weight(last[index], ratios[index])))
        };
        let spans = [
            (0..13, glide(|old, new| (old >> 2).saturating_add(new >> 2).saturating_add(old >> 1))),
            (13..27, glide(|old, new| (old >> 1).saturating_add(new >> 1))),
            (
                27..40,
                glide(|old, new| (old >> 2).saturating_add(new >> 2).saturating_add(new >> 1)),
            ),
            (40..FRAME_SAMPLES, glide(|_, new| new)),
        ];
        for (span, reflections) in spans {
            for sample in &mut samples[span] {
                let mut value = *sample;
                for index in (0..8).rev() {
                    let reflection = reflections[index];
                    value = value.saturating_sub(product(reflection, self.lattice[index]));
                    self.lattice[index + 1] =
                        self.lattice[index].saturating_add(product(reflection, value));
                }
                self.lattice[0] = value;
                *sample = value;
            }
        }
    }
}

impl Part {
    /// Section 4.2.16: amplitudes of the pulses, from their largest.
    fn pulses(&self) -> [i16; 13] {
        let mut exponent = if self.largest > 15 { (self.largest >> 3) - 1 } else { 0 };
        let mut mantissa = self.largest - (exponent << 3);
        if mantissa == 0 {
            (exponent, mantissa) = (-4, 7);
        } else {
            while mantissa <= 7 {
                mantissa = mantissa << 1 | 1;
                exponent -= 1;
            }
            mantissa -= 8;
        }
        let factor = PULSE_FACTORS[mantissa as usize];
        let shift = 6 - exponent;
        let half = (1_i16 << shift) >> 1;
        self.pulses.map(|code| {
            let scaled = product(factor, ((code << 1) - 7) << 12);
            scaled.saturating_add(half) >> shift
        })
    }
}

/// Section 5.3.3: a log area ratio as a reflection coefficient.
fn reflection(ratio: i16) -> i16 {
    let size = ratio.saturating_abs();
    let coefficient = match size {
        0..11_059 => size << 1,
        11_059..20_070 => size + 11_059,
        _ => (size >> 2).saturating_add(26_112),
    };
    if ratio < 0 { -coefficient } else { coefficient }
}

/// The rounded product of two fractions.
fn product(a: i16, b: i16) -> i16 {
    let rounded = (i32::from(a) * i32::from(b) + (1 << 14)) >> 15;
    rounded.min(i32::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bits_decode_without_overflow() {
        let mut decoder = Microsoft::new(8_000);
        let mut frames = Frames::default();
        let mut seed = 1_u32;
        for _ in 0..500 {
            let block = (0..65).map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            });
            let packet = Packet::untimed(0, block.collect::<Vec<u8>>());
            decoder.decode(&packet, &mut frames).unwrap();
            assert_eq!(frames.len(), 320);
        }
        decoder.decode(&Packet::untimed(0, vec![0; 64]), &mut frames).unwrap();
        assert_eq!(frames.len(), 0);
    }
}
