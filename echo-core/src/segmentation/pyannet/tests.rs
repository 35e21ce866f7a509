//! `PyanNet` beside its reference, layer by layer, and on sound that no microphone makes.

use super::super::testing::{largest_difference, reference, sample, tensor, weights};
use super::super::{WINDOW_FRAMES, powerset};
use super::*;

fn network() -> Option<PyanNet> {
    network_in(ComputeType::F32)
}

fn network_in(compute: ComputeType) -> Option<PyanNet> {
    let weights = weights("segmentation-3.0")?;
    Some(PyanNet::load(weights.as_ref(), Head::Powerset, compute).unwrap())
}

/// `(rows, columns)` to `(columns, rows)`.
fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    let rows = values.len() / columns;
    (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect()
}

const CLIP: Group = Group { start: 160_000, step: 16_000, count: 1 };

#[test]
fn every_layer_equals_the_reference() {
    let (Some(golden), Some(sample), Some(network)) =
        (reference("segmentation3.safetensors"), sample(), network())
    else {
        return;
    };
    let features = network.features(&sample, CLIP);
    let wanted = transposed(&tensor(&golden, "sincnet_out"), WINDOW_FRAMES);
    let difference = largest_difference(&features, &wanted);
    assert!(difference < 1e-3, "filters and convolutions: {difference:e}");

    let hidden = network.recurrent(&features, 1);
    let wanted = tensor(&golden, "lstm_out_first_64_frames");
    let difference = largest_difference(&hidden[..64 * 256], &wanted);
    assert!(difference < 1e-3, "LSTM, first frames: {difference:e}");
    let wanted = tensor(&golden, "lstm_out_last_64_frames");
    let difference = largest_difference(&hidden[(WINDOW_FRAMES - 64) * 256..], &wanted);
    assert!(difference < 1e-3, "LSTM, last frames: {difference:e}");

    let found = network.classify(&hidden, 1);
    // f32 against f64 of the reference itself: 1.4e-4.
    let difference = largest_difference(&found, &tensor(&golden, "log_probs"));
    assert!(difference < 1e-3, "log probabilities: {difference:e}");
    let members = tensor(&golden, "multilabel");
    for (frame, classes) in found.chunks_exact(CLASSES).enumerate() {
        let bits = powerset::likeliest(classes);
        for speaker in 0..3 {
            let wanted = members[frame * 3 + speaker] > 0.5;
            assert_eq!(bits >> speaker & 1 == 1, wanted, "frame {frame}, speaker {speaker}");
        }
    }
}

#[test]
fn probabilities_of_the_network_that_detects_equal_the_reference() {
    let (Some(golden), Some(sample), Some(weights)) =
        (reference("whisperx_vad.safetensors"), sample(), weights("whisperx-vad"))
    else {
        return;
    };
    let network = PyanNet::load(weights.as_ref(), Head::Speakers, ComputeType::F32).unwrap();
    assert_eq!(Head::Speakers.window_frames(), 293);
    // The reference's clip, its first 5 s.
    let group = Group { start: CLIP.start, step: 40_000, count: 2 };
    let found = network.run(&sample, group);
    let wanted = tensor(&golden, "window0_scores");
    let difference = largest_difference(&found[..293 * 3], &wanted);
    assert!(difference < 1e-4, "probabilities: {difference:e}");
}

#[test]
fn filters_equal_the_reference() {
    let (Some(golden), Some(weights)) =
        (reference("segmentation3.safetensors"), weights("segmentation-3.0"))
    else {
        return;
    };
    let get = |name: &str, shape: &[usize]| {
        let name = format!("sincnet.conv1d.0.filterbank.{name}");
        weights.get(&name, shape).unwrap().to_f32().unwrap()
    };
    let found = sinc_filters(Bands {
        lows: &get("low_hz_", &[BANDS, 1]),
        widths: &get("band_hz_", &[BANDS, 1]),
        times: &get("n_", &[1, HALF_FILTER]),
        window: &get("window_", &[HALF_FILTER]),
    });
    let difference = largest_difference(&found, &tensor(&golden, "sinc_filters"));
    // The reference computes sines of large angles in f32.
    assert!(difference < 1e-4, "{difference:e}");
}

#[test]
fn a_window_in_a_group_is_what_it_is_alone() {
    let (Some(sample), Some(network)) = (sample(), network()) else { return };
    let together = network.run(&sample, Group { start: 0, step: 16_000, count: 22 });
    for window in [0, 7, 21] {
        let alone = network.run(&sample, Group { start: window * 16_000, step: 10, count: 1 });
        let each = WINDOW_FRAMES * CLASSES;
        let wanted: Vec<f64> = alone.iter().map(|&value| f64::from(value)).collect();
        let difference = largest_difference(&together[window * each..][..each], &wanted);
        assert!(difference < 1e-3, "window {window}: {difference:e}");
    }
}

#[test]
fn the_fastest_format_hears_the_same_speakers() {
    let (Some(sample), Some(exact), Some(fastest)) =
        (sample(), network(), network_in(ComputeType::Auto))
    else {
        return;
    };
    let group = Group { start: 0, step: 16_000, count: 22 };
    let [wanted, found] = [exact, fastest].map(|network| network.run(&sample, group));
    let frames = wanted.chunks_exact(CLASSES).zip(found.chunks_exact(CLASSES));
    let (all, same) = frames.fold((0, 0), |(all, same), (wanted, found)| {
        (all + 1, same + usize::from(powerset::likeliest(wanted) == powerset::likeliest(found)))
    });
    assert!(1000 * (all - same) <= 5 * all, "{same} of {all} frames");
}

#[test]
fn any_samples_give_probabilities() {
    let Some(network) = network() else { return };
    let odd: Vec<f32> =
        (0..50_000).map(|at| [f32::NAN, f32::INFINITY, -1e30, 0.0, 1e-40][at % 5]).collect();
    for samples in [&odd[..], &[], &[0.5]] {
        let found = network.run(samples, Group { start: 0, step: 16_000, count: 1 });
        for classes in found.chunks_exact(CLASSES) {
            let sum: f32 = classes.iter().map(|value| value.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-3, "{classes:?}");
        }
    }
}
