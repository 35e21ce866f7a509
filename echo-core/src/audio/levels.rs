//! Samples that no microphone made: not-a-number, infinity, values beyond full scale.
//!
//! NaN must not reach the resampler, whose transform would spread it over a tenth of a second.
//! Values beyond ±1 are common and harmless: lossy codecs overshoot by a few per cent, and floats
//! may hold integers. Few are clipped, many mean that the whole is scaled.

/// 2^31: the largest number that integer samples stored as floats can reach.
const LARGEST_SENSIBLE: f32 = 2_147_483_648.0;

/// The share of samples beyond full scale up to which they are clipped.
const CLIPPED_SHARE: f64 = 1e-3;

/// Overshoot up to this factor is clipped, however often it happens.
const CLIPPED_PEAK: f32 = 1.5;

/// Replaces NaN by 0 and what no format can hold by full scale.
pub(super) fn remove_nonsense(samples: &mut [f32]) {
    for sample in samples {
        if sample.is_nan() {
            *sample = 0.0;
        } else if sample.abs() > LARGEST_SENSIBLE {
            *sample = sample.signum();
        }
    }
}

/// Clips or scales to -1 … 1; says so if it had to scale.
pub(super) fn bring_into_range(samples: &mut [f32]) -> Option<String> {
    let mut peak = 0.0_f32;
    let mut beyond_count = 0_usize;
    for sample in samples.iter() {
        peak = peak.max(sample.abs());
        beyond_count += usize::from(sample.abs() > 1.0);
    }
    let beyond_share = beyond_count as f64 / samples.len().max(1) as f64;
    if peak <= CLIPPED_PEAK || beyond_share <= CLIPPED_SHARE {
        if peak > 1.0 {
            samples.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
        }
        return None;
    }
    samples.iter_mut().for_each(|sample| *sample /= peak);
    Some(format!("samples reach {peak:.1} times full scale and were scaled down"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_becomes_silence_or_full_scale() {
        let mut samples = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.25, 1e30];
        remove_nonsense(&mut samples);
        assert_eq!(samples, [0.0, 1.0, -1.0, 0.25, 1.0]);
    }

    #[test]
    fn overshoot_is_clipped_and_integers_are_scaled() {
        let mut overshoot = [0.5, 1.2, -1.1, 0.0];
        assert_eq!(bring_into_range(&mut overshoot), None);
        assert_eq!(overshoot, [0.5, 1.0, -1.0, 0.0]);

        let mut integers = [16_384.0, -32_768.0, 0.0, 8_192.0];
        assert!(bring_into_range(&mut integers).is_some());
        assert_eq!(integers, [0.5, -1.0, 0.0, 0.25]);
    }

    #[test]
    fn one_broken_float_does_not_silence_the_rest() {
        let mut samples = vec![0.5; 10_000];
        samples[77] = 1e6;
        assert_eq!(bring_into_range(&mut samples), None);
        assert_eq!((samples[76], samples[77]), (0.5, 1.0));
    }
}
