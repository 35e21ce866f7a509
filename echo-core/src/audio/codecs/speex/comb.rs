//! The comb filter of Speex: adds to a stretch of excitation what lies one pitch before it and one
//! pitch after it (or two before), where that is alike, and keeps its loudness.
//!
//! Source: `filters.c` of the reference implementation (`multicomb`), whose numbers these are.

use super::filters::loudness;
use super::narrowband::EXCITATION_SAMPLES;

const LENGTH: usize = 80;

/// Pitches up to this have the next period within reach.
const MAX_AHEAD: usize = 40;

/// Filters that shift by a quarter, a half, and three quarters of a sample.
const SHIFTS: [[f32; 7]; 3] = [
    [-0.011_915, 0.046_995, -0.152_373, 0.614_108, 0.614_108, -0.152_373, 0.046_995],
    [-0.032_485_5, 0.085_976_8, -0.204_298_6, 0.964_029_7, 0.208_642, -0.030_205_4, -0.006_364_6],
    [-0.006_364_6, -0.030_205_4, 0.208_642, 0.964_029_7, -0.204_298_6, 0.085_976_8, -0.032_485_5],
];

/// Writes the strengthened stretch that begins at `at`.
pub(super) fn strengthen(
    excitation: &[f32; EXCITATION_SAMPLES],
    at: usize,
    pitch: usize,
    strength: f32,
    strengthened: &mut [f32],
) {
    let now = &excitation[at..at + LENGTH];
    let is_long = pitch > MAX_AHEAD;
    let other = if is_long { at - 2 * pitch } else { at + pitch };
    let size = dot(now, now);
    let least_gain = 0.4 * strength + 0.07;
    let slope = 0.5 + 1.72 * (least_gain - 0.07);
    let shares = if is_long { [0.7, 0.3] } else { [0.6, 0.6] };
    strengthened.copy_from_slice(now);
    for (start, share) in [at - pitch, other].into_iter().zip(shares) {
        let repeated = best_shift(excitation, at, start);
        let size = (1.0 + size).sqrt();
        let repeated_size = (1_000.0 + dot(&repeated, &repeated)).sqrt();
        let likeness = (dot(&repeated, now) / size / repeated_size).min(1.0);
        let gain = least_gain / (1.0 - slope * likeness * likeness).max(least_gain);
        let scale = share * gain * size / repeated_size;
        for (sample, repeated) in strengthened.iter_mut().zip(repeated) {
            *sample += scale * repeated;
        }
    }
    let new = loudness(strengthened).max(1.0);
    let scale = loudness(now).max(1.0).min(new) / new;
    strengthened.iter_mut().for_each(|sample| *sample *= scale);
}

/// The stretch near `start` that is most like the one at `at`, to a fraction of a sample.
fn best_shift(excitation: &[f32; EXCITATION_SAMPLES], at: usize, start: usize) -> [f32; LENGTH] {
    let now = &excitation[at..at + LENGTH];
    let whole: [f32; 7] =
        std::array::from_fn(|shift| dot(now, &excitation[start + shift - 3..][..LENGTH]));
    let mut best = (whole[0], None, 0);
    for (shift, likeness) in whole.into_iter().enumerate() {
        if likeness > best.0 {
            best = (likeness, None, shift);
        }
    }
    for filter in &SHIFTS {
        for shift in 0..7 {
            let taps = 3_usize.saturating_sub(shift)..(10 - shift).min(7);
            let likeness: f32 = taps.map(|tap| filter[tap] * whole[shift + tap - 3]).sum();
            if likeness > best.0 {
                best = (likeness, Some(filter), shift);
            }
        }
    }
    let first = start + best.2 - 3;
    std::array::from_fn(|index| match best.1 {
        None => excitation[first + index],
        Some(filter) => (0..7).map(|tap| excitation[first + index + tap - 3] * filter[tap]).sum(),
    })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
