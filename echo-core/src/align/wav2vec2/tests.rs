//! Both layouts beside the reference, on tiny networks of random weights.

use std::path::{Path, PathBuf};

use super::*;
use crate::align::ctc::{self, Emission};
use crate::models::weights::testing::TestWeights;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/alignment").join(file)
}

/// The reference's clip: 3 s of speech, 16 bits a sample as two bytes each.
fn clip() -> Vec<f32> {
    let bytes = TestWeights::read(&data("clip.safetensors")).values("samples");
    bytes.chunks(2).map(|pair| (pair[0] * 256.0 + pair[1] - 32_768.0) / 32_768.0).collect()
}

fn network(flavour: &str) -> Wav2Vec2 {
    let weights = TestWeights::read(&data(&format!("{flavour}/model.safetensors")));
    let weights = weights.0.into_iter().map(|(name, tensor)| (names::canonical(&name), tensor));
    let json = std::fs::read(data(&format!("{flavour}/config.json"))).unwrap();
    Wav2Vec2::load(flavour, &TestWeights(weights.collect()), Some(&json)).unwrap()
}

fn equals_the_reference(flavour: &str, samples: &[f32]) {
    let network = network(flavour);
    let reference = TestWeights::read(&data(&format!("{flavour}/reference.safetensors")));
    let expected = reference.values("logits");
    for threads in [1, 3] {
        let logits = network.logits(samples, threads, &CancelToken::new()).unwrap();
        assert_eq!(logits.len(), expected.len());
        let worst = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // f32 in another order over up to 1,500 values; logits reach 12.
        assert!(worst < 1e-3, "{flavour}: {worst}");
    }
    let logits = network.logits(samples, 1, &CancelToken::new()).unwrap();
    let emission = Emission::from_logits(&logits, network.n_labels(), 0);
    let labels: Vec<usize> = reference.values("targets").iter().map(|&t| t as usize).collect();
    let placed = ctc::align(&emission, &labels).unwrap();
    let mut path = vec![0.0; emission.n_frames()];
    for (placed, &label) in placed.iter().zip(&labels) {
        path[placed.frames.clone()].fill(label as f32);
    }
    assert_eq!(path, reference.values("forced_align_path"));
}

#[test]
fn the_base_layout_equals_the_reference() {
    equals_the_reference("wav2vec2_tiny_base", &clip());
}

#[test]
fn the_large_layout_equals_the_reference() {
    let mut samples = clip();
    crate::align::acoustic::normalise(&mut samples);
    equals_the_reference("wav2vec2_tiny_xlsr", &samples);
}

#[test]
fn blocks_of_a_long_recording_fit_together() {
    let network = network("wav2vec2_tiny_base");
    let samples: Vec<f32> = clip().iter().cycle().take(48_000 * 2 + 777).copied().collect();
    let frames = network.n_frames(samples.len());
    assert_eq!(frames, (samples.len() - 400) / 320 + 1);
    let logits = network.logits(&samples, 2, &CancelToken::new()).unwrap();
    assert_eq!(logits.len(), frames * network.n_labels());
    assert!(logits.iter().all(|logit| logit.is_finite()));
}

#[test]
fn too_little_sound_is_no_frame() {
    let network = network("wav2vec2_tiny_xlsr");
    for n in [0, 1, 399] {
        assert!(network.logits(&vec![0.1; n], 2, &CancelToken::new()).unwrap().is_empty());
    }
    let one = network.logits(&[0.0; 400], 2, &CancelToken::new()).unwrap();
    assert_eq!(one.len(), network.n_labels());
}

#[test]
fn other_checkpoints_are_refused_with_what_they_lack() {
    let load = |weights: &TestWeights, json: Option<&[u8]>| {
        Wav2Vec2::load("other", weights, json).unwrap_err().to_string()
    };
    let none = TestWeights([].into());
    assert!(load(&none, None).contains("lm_head.weight"));
    assert!(load(&none, Some(b"{")).contains("config.json"));
    let weights = TestWeights::read(&data("wav2vec2_tiny_base/model.safetensors"));
    let rename = |(name, tensor): (String, _)| (names::canonical(&name), tensor);
    let mut weights = TestWeights(weights.0.into_iter().map(rename).collect());
    weights.0.remove("encoder.layers.1.final_layer_norm.weight");
    let json = std::fs::read(data("wav2vec2_tiny_base/config.json")).unwrap();
    assert!(load(&weights, Some(&json)).contains("final_layer_norm"));
}
