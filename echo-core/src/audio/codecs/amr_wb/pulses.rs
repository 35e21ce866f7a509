//! Pulses of AMR-WB: up to six in each of four interleaved tracks, told as one number a track.
//!
//! A number for several pulses is made of numbers for fewer of them in halves of the track
//! (3GPP TS 26.190, section 5.8.2).

/// Samples of a part.
pub(super) const PART_SAMPLES: usize = 64;

/// Bits of the number for so many pulses in a track of 16 places.
pub(super) const TRACK_BITS: [usize; 7] = [0, 5, 9, 13, 16, 20, 22];

/// Sets the pulses of one part: how many in each track, and the numbers of the tracks.
pub(super) fn place(counts: &[usize], codes: &[usize]) -> [f32; PART_SAMPLES] {
    let mut samples = [0.0; PART_SAMPLES];
    // Two tracks of 32 places at the lowest rate, else four of 16.
    let spacing = counts.len();
    let place_bits = if spacing == 2 { 5 } else { 4 };
    for (track, (count, code)) in counts.iter().zip(codes).enumerate() {
        let mut add = |place: usize, sign: f32| samples[place * spacing + track] += sign;
        pulses(*count, *code, place_bits, 0, &mut add);
    }
    samples
}

/// Bits `first..first + count` of a number.
fn bits(code: usize, first: usize, count: usize) -> usize {
    code >> first & ((1 << count) - 1)
}

/// Sets `count` pulses among `2^m` places from `offset` on.
fn pulses(count: usize, code: usize, m: usize, offset: usize, add: &mut impl FnMut(usize, f32)) {
    match count {
        1 => add(bits(code, 0, m) + offset, sign(bits(code, m, 1))),
        2 => two(code, m, offset, add),
        3 => {
            // Two of them in one half, which the number names.
            let half = bits(code, 2 * m - 1, 1) << (m - 1);
            two(bits(code, 0, 2 * m - 1), m - 1, offset + half, add);
            pulses(1, bits(code, 2 * m, m + 1), m, offset, add);
        }
        4 => four(code, m, offset, add),
        5 => {
            let half = bits(code, 5 * m - 1, 1) << (m - 1);
            pulses(3, bits(code, 2 * m + 1, 3 * m - 2), m - 1, offset + half, add);
            two(bits(code, 0, 2 * m + 1), m, offset, add);
        }
        6 => six(code, m, offset, add),
        _ => {}
    }
}

fn sign(bit: usize) -> f32 {
    if bit == 1 { -1.0 } else { 1.0 }
}

/// The order of two pulses tells whether their signs differ.
fn two(code: usize, m: usize, offset: usize, add: &mut impl FnMut(usize, f32)) {
    let (first, second) = (bits(code, m, m), bits(code, 0, m));
    let first_sign = sign(bits(code, 2 * m, 1));
    let second_sign = if first > second { -first_sign } else { first_sign };
    add(first + offset, first_sign);
    add(second + offset, second_sign);
}

fn four(code: usize, m: usize, offset: usize, add: &mut impl FnMut(usize, f32)) {
    let upper = offset + (1 << (m - 1));
    match bits(code, 4 * m - 2, 2) {
        // All in one half, two of them in one quarter.
        0 => {
            let half = offset + (bits(code, 4 * m - 3, 1) << (m - 1));
            let quarter = bits(code, 2 * m - 3, 1) << (m - 2);
            two(bits(code, 0, 2 * m - 3), m - 2, half + quarter, add);
            two(bits(code, 2 * m - 2, 2 * m - 1), m - 1, half, add);
        }
        1 => {
            pulses(1, bits(code, 3 * m - 2, m), m - 1, offset, add);
            pulses(3, bits(code, 0, 3 * m - 2), m - 1, upper, add);
        }
        2 => {
            two(bits(code, 2 * m - 1, 2 * m - 1), m - 1, offset, add);
            two(bits(code, 0, 2 * m - 1), m - 1, upper, add);
        }
        _ => {
            pulses(3, bits(code, m, 3 * m - 2), m - 1, offset, add);
            pulses(1, bits(code, 0, m), m - 1, upper, add);
        }
    }
}

fn six(code: usize, m: usize, offset: usize, add: &mut impl FnMut(usize, f32)) {
    let half = 1 << (m - 1);
    let more = bits(code, 6 * m - 5, 1) << (m - 1);
    let (more, fewer) = (offset + more, offset + half - more);
    match bits(code, 6 * m - 4, 2) {
        kind @ 0..=1 => {
            let single = if kind == 0 { more } else { fewer };
            pulses(1, bits(code, 0, m), m - 1, single, add);
            pulses(5, bits(code, m, 5 * m - 5), m - 1, more, add);
        }
        2 => {
            two(bits(code, 0, 2 * m - 1), m - 1, fewer, add);
            four(bits(code, 2 * m - 1, 4 * m - 4), m - 1, more, add);
        }
        _ => {
            pulses(3, bits(code, 3 * m - 2, 3 * m - 2), m - 1, offset, add);
            pulses(3, bits(code, 0, 3 * m - 2), m - 1, offset + half, add);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_sets_its_pulses_inside_its_track() {
        for (count, bits) in TRACK_BITS.into_iter().enumerate() {
            for code in 0..1 << bits {
                let mut size = 0.0;
                pulses(count, code, 4, 0, &mut |place, sign: f32| {
                    assert!(place < 16);
                    size += sign.abs();
                });
                assert_eq!(size as usize, count);
            }
        }
    }
}
