//! The network against pyannote.audio's own, on weights and features made by formula.

use super::*;
use crate::diarize::embedding::centered;
use crate::diarize::testing::{noise, resnet34_tensors};
use crate::features::fbank::{Fbank, fbank_frames};
use crate::models::weights::Tensor;
use crate::models::weights::testing::TestWeights;
use crate::segmentation::testing::{largest_difference, reference, sample, tensor};

fn network() -> ResNet34 {
    let tensors = resnet34_tensors().into_iter();
    let weights = tensors.map(|(name, shape, values)| (name, Tensor::from_f32(&shape, &values)));
    ResNet34::load(&TestWeights(weights.collect()), ComputeType::F32).unwrap()
}

/// Frames, and of each voice its first four numbers, their sum and their sum of squares, as
/// `tests/data/make_resnet34.py` prints them. The voices are heard in all frames, in 25 of 40, in the
/// first, and in none.
const GOLDEN: [(usize, [[f64; 6]; 4]); 3] = [
    (
        131,
        [
            [0.051396, 0.036603, -0.010522, -0.014018, -1.623362, 1.215555],
            [0.049801, 0.044115, -0.017441, -0.019680, -1.681118, 1.235112],
            [0.072131, 0.136466, -0.069418, -0.057479, -1.049410, 2.870342],
            [0.048278, 0.038992, 0.029705, 0.020419, -0.138293, 0.851408],
        ],
    ),
    (
        64,
        [
            [0.015111, 0.048798, -0.023190, 0.008042, -1.724537, 1.306928],
            [0.023244, 0.058854, -0.032109, 0.002120, -1.732169, 1.409717],
            [0.054162, 0.142495, -0.062169, -0.050413, -1.152800, 2.992741],
            [0.048278, 0.038992, 0.029705, 0.020419, -0.138293, 0.851408],
        ],
    ),
    (
        9,
        [
            [0.114306, 0.122263, -0.090303, -0.070754, -1.290428, 3.543609],
            [0.114306, 0.122263, -0.090303, -0.070754, -1.290428, 3.543609],
            [0.092539, 0.127063, -0.050116, -0.066329, -1.048610, 2.883572],
            [0.048278, 0.038992, 0.029705, 0.020419, -0.138293, 0.851408],
        ],
    ),
];

#[test]
fn voices_equal_the_reference_whatever_their_frames() {
    let network = network();
    for (frames, golden) in GOLDEN {
        let features: Vec<f32> =
            noise(frames * FBANK_BANDS, frames).iter().map(|value| 2.0 * *value as f32).collect();
        let mask = |is_heard: fn(usize) -> bool| (0..frames).map(is_heard).collect::<Mask>();
        let masks = [mask(|_| true), mask(|at| at % 40 < 25), mask(|at| at == 0), mask(|_| false)];
        let voices = network.embed(&features, &masks);
        for (number, (voice, golden)) in voices.iter().zip(golden).enumerate() {
            let sum: f32 = voice.iter().sum();
            let squares: f32 = voice.iter().map(|value| value * value).sum();
            let found = [&voice[..4], &[sum, squares]].concat();
            // Printed to 1e-6, and f32 over 36 convolutions; the reference divides a mean of one
            // frame by 1 + 1e-8 and takes the deviation of what that leaves.
            let difference = largest_difference(&found, &golden);
            assert!(difference < 3e-4, "voice {number} of {frames} frames: {difference:e}");
        }
        // A voice does not depend on those heard with it, but for the order of sums.
        let alone = &network.embed(&features, &masks[1..2])[0];
        let apart = alone.iter().zip(&voices[1]).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-6);
    }
}

#[test]
fn the_filterbank_equals_the_reference() {
    let (Some(golden), Some(sample)) = (reference("campplus.safetensors"), sample()) else {
        return;
    };
    let clip = &sample[160_000..320_000];
    let frames = fbank_frames(clip.len());
    let features = Fbank::new(Taper::Hamming).frames(clip, 0..frames).unwrap();
    let wanted = tensor(&golden, "fbank_wespeaker_hamming_x32768_first_200");
    let difference = largest_difference(&features[..200 * FBANK_BANDS], &wanted);
    // f32 against f64 of the reference itself: 3.4e-4.
    assert!(difference < 1e-3, "filterbank: {difference:e}");
    let own = centered(&features);
    let mean: Vec<f32> = features[..80].iter().zip(&own).map(|(all, own)| all - own).collect();
    assert!(largest_difference(&mean, &tensor(&golden, "fbank_wespeaker_mean")) < 1e-3);
}

#[test]
fn a_missing_tensor_is_named() {
    let tensors = resnet34_tensors().into_iter().filter(|(name, ..)| name != "layer3.5.bn2.bias");
    let weights = tensors.map(|(name, shape, values)| (name, Tensor::from_f32(&shape, &values)));
    let error = ResNet34::load(&TestWeights(weights.collect()), ComputeType::F32).unwrap_err();
    assert!(error.to_string().contains("layer3.5.bn2.bias"), "{error}");
}
