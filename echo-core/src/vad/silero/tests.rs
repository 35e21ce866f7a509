//! Silero beside its reference, and on input that no microphone makes.

use std::f64::consts::TAU;
use std::path::Path;

use super::*;
use crate::options::VadOptions;
use crate::timeline::Region;
use crate::vad::regions::regions;

fn probabilities(samples: &[f32]) -> Vec<f32> {
    Silero::new().unwrap().probabilities(samples, &mut |_| Ok(())).unwrap().values
}

fn read(path: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = file.tensor(name).unwrap().shape().to_vec();
    tensor(&file, name, &shape).unwrap()
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let difference = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The FFT rounds otherwise than the convolution; the LSTM carries that on but does not amplify it.
    assert!(difference <= 1e-4, "{difference:e}");
}

/// Something like vowels: harmonics of a gliding pitch under moving formants, in syllables, with a
/// pause now and then. Rounded to 16 bits, so that every machine makes the same samples.
fn synthetic_voice(samples: usize) -> Vec<f32> {
    let mut phase = 0.0;
    let sample = |at: usize| {
        let time = at as f64 / 16_000.0;
        let wave = |rate: f64, shift: f64| (TAU * rate * time + shift).sin();
        let pitch = 130.0 + 25.0 * wave(0.7, 0.0);
        phase += TAU * pitch / 16_000.0;
        let formants = [
            (500.0 + 250.0 * wave(2.1, 0.0), 90.0),
            (1500.0 + 500.0 * wave(1.3, 1.0), 120.0),
            (2500.0, 160.0),
        ];
        let is_pause = time % 2.5 >= 1.7;
        let loudness = if is_pause { 0.0 } else { wave(2.0, 0.0).max(0.0).sqrt() };
        let harmonic = |k: f64| {
            let near = |&(center, width): &(f64, f64)| {
                1.0 / (1.0 + ((k * pitch - center) / width).powi(2))
            };
            formants.iter().map(near).sum::<f64>() * (k * phase).sin() / k.sqrt()
        };
        let value: f64 = (1..=30).map(|k| harmonic(f64::from(k))).sum();
        ((loudness * value * 4000.0 + 0.5).floor() / 32768.0) as f32
    };
    (0..samples).map(sample).collect()
}

#[test]
fn probabilities_equal_the_golden_ones() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/silero_synthetic.safetensors");
    let found = probabilities(&synthetic_voice(5 * 16_000 + 100));
    assert_near(&found, &read(&path, "probabilities"));
}

#[test]
fn probabilities_equal_the_reference() {
    let Some(folder) = std::env::var_os("ECHO_TEST_REFERENCE") else {
        eprintln!("skipped: set ECHO_TEST_REFERENCE");
        return;
    };
    let folder = Path::new(&folder);
    let audio = crate::audio::Audio::load(folder.join("sample.wav").as_path()).unwrap();
    // The clip of the reference: 10 s to 20 s.
    let found = probabilities(&audio.samples()[160_000..320_000]);
    assert_near(&found, &read(&folder.join("silero.safetensors"), "probs"));
}

#[test]
fn silence_is_no_speech() {
    let silero = Silero::new().unwrap();
    let options = VadOptions::default();
    for samples in [0, 1, 511, 513, 600 * 16_000] {
        let silence = vec![0.0; samples];
        let probabilities = silero.probabilities(&silence, &mut |_| Ok(())).unwrap();
        let regions = regions(&probabilities, silence.len(), &options);
        assert_eq!(regions, Vec::<Region>::new());
    }
}

#[test]
fn samples_that_are_no_numbers_spoil_nothing_after_them() {
    let mut samples = synthetic_voice(32_000);
    let clean = probabilities(&samples);
    for (at, bad) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate() {
        samples[1000 + at] = bad;
    }
    let found = probabilities(&samples);
    assert!((found[60] - clean[60]).abs() < 0.1);
    samples[1000] = f32::MAX;
    assert!(probabilities(&samples).iter().all(|p| (0.0..=1.0).contains(p)));
}

#[test]
fn progress_rises_to_one_and_can_stop_the_work() {
    let silero = Silero::new().unwrap();
    let samples = vec![0.0; 300 * 16_000];
    let mut reports = Vec::new();
    silero
        .probabilities(&samples, &mut |done| {
            reports.push(done);
            Ok(())
        })
        .unwrap();
    assert!(reports.len() > 1 && reports.is_sorted());
    assert_eq!(reports.last(), Some(&1.0));
    let stopped = silero.probabilities(&samples, &mut |_| Err(Error::Cancelled));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}
