//! What a frame of AMR-WB tells, taken from its bits.

use super::order::{BITS_0, BITS_1, BITS_2, BITS_3, BITS_4, BITS_5, BITS_6, BITS_7, BITS_8};
use super::pulses::{self, PART_SAMPLES, TRACK_BITS};
use super::spectra::{SPECTRUM_HIGH, SPECTRUM_LOW};
use super::tables::{
    COARSE_REST_1, COARSE_REST_2, COARSE_REST_3, GAINS_6, GAINS_7, REST_1, REST_2, REST_3, REST_4,
    REST_5,
};

pub(super) const ORDER: usize = 16;
pub(super) const PART_COUNT: usize = 4;

const MIN_LAG: usize = 34;
pub(super) const MAX_LAG: usize = 231;

/// Rates: the places of their bits, and pulses in each track.
const MODES: [(&[u16], &[usize]); 9] = [
    (&BITS_0, &[1, 1]),
    (&BITS_1, &[1, 1, 1, 1]),
    (&BITS_2, &[2, 2, 2, 2]),
    (&BITS_3, &[3, 3, 2, 2]),
    (&BITS_4, &[3, 3, 3, 3]),
    (&BITS_5, &[4, 4, 4, 4]),
    (&BITS_6, &[5, 5, 4, 4]),
    (&BITS_7, &[6, 6, 6, 6]),
    (&BITS_8, &[6, 6, 6, 6]),
];

/// The highest rate tells how loud the upper band is.
const UPPER_GAINS: [f32; 16] = [
    3_624.0, 4_673.0, 5_597.0, 6_479.0, 7_425.0, 8_378.0, 9_324.0, 10_264.0, 11_210.0, 12_206.0,
    13_391.0, 14_844.0, 16_770.0, 19_655.0, 24_289.0, 32_728.0,
];

/// A frame of 20 ms.
pub(super) struct Parameters {
    /// Which of the two lowest rates this is, whose few pulses need help.
    pub(super) sparse_rate: Option<usize>,
    pub(super) is_speech: bool,
    /// The immittance spectrum against the mean and the last frame, in 32,768ths.
    pub(super) spectrum: [f32; ORDER],
    pub(super) parts: [Part; PART_COUNT],
}

/// A quarter of a frame.
pub(super) struct Part {
    /// The pitch in whole samples, and quarters from -3 to 3.
    pub(super) lag: usize,
    pub(super) lag_quarters: i32,
    /// Whether the past is taken as it is, not filtered.
    pub(super) is_plain: bool,
    pub(super) pulses: [f32; PART_SAMPLES],
    pub(super) pitch_gain: f32,
    /// Against a prediction.
    pub(super) pulse_gain: f32,
    pub(super) upper_gain: Option<f32>,
}

struct Bits<'a> {
    order: std::slice::Iter<'a, u16>,
    frame: &'a [u8],
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        self.order.by_ref().take(count).fold(0, |value, place| {
            let byte = self.frame.get(usize::from(*place) / 8).copied().unwrap_or(0);
            value << 1 | usize::from(byte >> (7 - place % 8) & 1)
        })
    }
}

impl Parameters {
    /// Reads a frame at a rate, 0 to 8.
    pub(super) fn read(mode: usize, frame: &[u8]) -> Option<Self> {
        let (order, counts) = *MODES.get(mode)?;
        let mut bits = Bits { order: order.iter(), frame };
        let is_speech = bits.take(1) == 1;
        let spectrum = read_spectrum(&mut bits, mode == 0);
        let mut base = MIN_LAG;
        let parts = std::array::from_fn(|part| read_part(&mut bits, mode, counts, part, &mut base));
        let sparse_rate = (mode <= 1).then_some(mode);
        Some(Self { sparse_rate, is_speech, spectrum, parts })
    }
}

/// Bytes of a frame at a rate.
pub(super) fn frame_bytes(mode: usize) -> Option<usize> {
    MODES.get(mode).map(|(order, _)| order.len().div_ceil(8))
}

fn read_spectrum(bits: &mut Bits<'_>, is_coarse: bool) -> [f32; ORDER] {
    let mut spectrum = [0.0; ORDER];
    let mut add = |table: &[i16], first: usize, width: usize, count_bits: usize| {
        let row = bits.take(count_bits) * width;
        for (value, step) in spectrum[first..first + width].iter_mut().zip(&table[row..]) {
            *value += f32::from(*step);
        }
    };
    add(&SPECTRUM_LOW, 0, 9, 8);
    add(&SPECTRUM_HIGH, 9, 7, 8);
    if is_coarse {
        add(&COARSE_REST_1, 0, 5, 7);
        add(&COARSE_REST_2, 5, 4, 7);
        add(&COARSE_REST_3, 9, 7, 6);
    } else {
        add(&REST_1, 0, 3, 6);
        add(&REST_2, 3, 3, 7);
        add(&REST_3, 6, 3, 7);
        add(&REST_4, 9, 3, 5);
        add(&REST_5, 12, 4, 5);
    }
    spectrum
}

fn read_part(
    bits: &mut Bits<'_>,
    mode: usize,
    counts: &[usize],
    part: usize,
    base: &mut usize,
) -> Part {
    let (lag, lag_quarters) = if mode <= 1 {
        let is_own = part == 0 || (part == 2 && mode == 1);
        read_coarse_lag(bits, is_own, base)
    } else {
        read_lag(bits, part.is_multiple_of(2), base)
    };
    // The lower rates always filter.
    let is_plain = mode > 1 && bits.take(1) == 1;
    let mut codes = [0; 4];
    for (code, count) in codes.iter_mut().zip(counts) {
        *code = bits.take(TRACK_BITS[*count] + usize::from(mode == 0));
    }
    let (gains, gain_bits): (&[i16], _) = if mode <= 1 { (&GAINS_6, 6) } else { (&GAINS_7, 7) };
    let row = bits.take(gain_bits) * 2;
    let upper_gain = (mode == 8).then(|| UPPER_GAINS[bits.take(4)] / 16_384.0);
    Part {
        lag,
        lag_quarters,
        is_plain,
        pulses: pulses::place(counts, &codes),
        pitch_gain: f32::from(gains[row]) / 16_384.0,
        pulse_gain: f32::from(gains[row + 1]) / 2_048.0,
        upper_gain,
    }
}

/// A pitch of its own in 9 bits, finer the shorter; or near the last one in 6 bits.
fn read_lag(bits: &mut Bits<'_>, is_own: bool, base: &mut usize) -> (usize, i32) {
    if !is_own {
        let code = bits.take(6);
        let whole = (code + 1) >> 2;
        return (whole + *base, code as i32 - (whole << 2) as i32);
    }
    let code = bits.take(9);
    let (lag, quarters) = match code {
        0..376 => {
            let lag = (code + 137) >> 2;
            (lag, code as i32 - (lag << 2) as i32 + 136)
        }
        376..440 => {
            let lag = (code + 257 - 376) >> 1;
            (lag, (code as i32 - (lag << 1) as i32 + 256 - 376) * 2)
        }
        _ => (code - 280, 0),
    };
    set_base(base, lag, quarters);
    (lag, quarters)
}

/// The same in 8 bits and 5 bits.
fn read_coarse_lag(bits: &mut Bits<'_>, is_own: bool, base: &mut usize) -> (usize, i32) {
    if !is_own {
        let code = bits.take(5);
        let whole = (code + 1) >> 1;
        return (whole + *base, (code as i32 - (whole << 1) as i32) * 2);
    }
    let code = bits.take(8);
    let (lag, quarters) = if code < 116 {
        let lag = (code + 69) >> 1;
        (lag, (code as i32 - (lag << 1) as i32 + 68) * 2)
    } else {
        (code - 24, 0)
    };
    set_base(base, lag, quarters);
    (lag, quarters)
}

/// From where the next part counts.
fn set_base(base: &mut usize, lag: usize, quarters: i32) {
    let below = lag.saturating_sub(8 + usize::from(quarters < 0));
    *base = below.clamp(MIN_LAG, MAX_LAG - 15);
}
