//! Power spectra as Whisper takes them, for comparing decoders and for peers that want a filter bank.
//!
//! Frames of 400 samples every 160 at 16 kHz (25 ms, 10 ms) under a Hann window; 201 bins of 40 Hz.

use realfft::RealFftPlanner;

use crate::Result;

/// Samples of one frame.
pub const N_FFT: usize = 400;
/// Samples from one frame to the next.
pub const HOP_SAMPLES: usize = 160;
/// Bins of one frame.
pub const N_BINS: usize = N_FFT / 2 + 1;
/// The sample rate of everything here.
pub const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// The power of every bin, `(frames, N_BINS)`; frames that do not fit are left out.
///
/// # Errors
/// Those of the transform, which has none for these sizes.
pub fn power(samples: &[f32]) -> Result<Vec<[f32; N_BINS]>> {
    let transform = RealFftPlanner::<f32>::new().plan_fft_forward(N_FFT);
    let window: Vec<f32> = (0..N_FFT)
        .map(|n| {
            let phase = std::f64::consts::TAU * n as f64 / N_FFT as f64;
            (0.5 - 0.5 * phase.cos()) as f32
        })
        .collect();
    let mut output = transform.make_output_vec();
    let mut frames = Vec::new();
    for frame in samples.windows(N_FFT).step_by(HOP_SAMPLES) {
        let mut input: Vec<f32> = frame.iter().zip(&window).map(|(x, w)| x * w).collect();
        transform.process(&mut input, &mut output)?;
        let mut power = [0.0; N_BINS];
        power.iter_mut().zip(&output).for_each(|(power, bin)| *power = bin.norm_sqr());
        frames.push(power);
    }
    Ok(frames)
}

/// Slaney's mel filter bank, `(n_mels, N_BINS)` row after row: triangles of equal area, linear
/// below 1 kHz and logarithmic above, as librosa makes it.
pub fn mel_filters(n_mels: usize) -> Vec<f32> {
    let top = hz_to_mel(SAMPLE_RATE_HZ / 2.0);
    let edges_hz: Vec<f64> =
        (0..n_mels + 2).map(|edge| mel_to_hz(top * edge as f64 / (n_mels + 1) as f64)).collect();
    let mut filters = Vec::with_capacity(n_mels * N_BINS);
    for edges in edges_hz.windows(3) {
        let (low, centre, high) = (edges[0], edges[1], edges[2]);
        for bin in 0..N_BINS {
            let hz = bin as f64 * SAMPLE_RATE_HZ / N_FFT as f64;
            let weight = ((hz - low) / (centre - low)).min((high - hz) / (high - centre)).max(0.0);
            filters.push((weight * 2.0 / (high - low)) as f32);
        }
    }
    filters
}

/// Where Slaney's scale turns from linear to logarithmic.
const BREAK_HZ: f64 = 1000.0;
const BREAK_MEL: f64 = 15.0;
/// 27 steps from 1 kHz to 6.4 kHz.
const LOG_STEP: f64 = 27.0;

fn hz_to_mel(hz: f64) -> f64 {
    if hz < BREAK_HZ {
        hz * BREAK_MEL / BREAK_HZ
    } else {
        BREAK_MEL + (hz / BREAK_HZ).ln() / 6.4_f64.ln() * LOG_STEP
    }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < BREAK_MEL {
        mel * BREAK_HZ / BREAK_MEL
    } else {
        BREAK_HZ * 6.4_f64.powf((mel - BREAK_MEL) / LOG_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_stands_in_its_bin() {
        let hz = 1000.0;
        let tone: Vec<f32> =
            (0..1600).map(|n| (std::f32::consts::TAU * hz * n as f32 / 16_000.0).sin()).collect();
        for frame in power(&tone).unwrap() {
            let loudest = (0..N_BINS).max_by(|&a, &b| frame[a].total_cmp(&frame[b]));
            assert_eq!(loudest, Some(25));
        }
    }

    #[test]
    fn the_filter_bank_is_the_known_one() {
        // openai-whisper's assets/mel_filters.npz, `mel_80`: [0, 1] and the largest of row 79.
        let filters = mel_filters(80);
        assert!((filters[1] - 0.024_862_59).abs() < 1e-7, "{}", filters[1]);
        let last = filters[79 * N_BINS..].iter().copied().fold(0.0, f32::max);
        assert!((last - 0.003_164_711_9).abs() < 1e-7, "{last}");
    }
}
