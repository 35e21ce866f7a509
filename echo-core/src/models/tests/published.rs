//! Real checkpoints, when a folder of them is given.

use std::path::PathBuf;

use super::super::vocabulary::Vocabulary;
use super::super::weights::Tensor;
use super::super::{Checkpoint, open};

/// The folder of real checkpoints, or word that there is none.
fn models() -> Option<PathBuf> {
    let folder = std::env::var_os("ECHO_TEST_MODELS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set ECHO_TEST_MODELS to a folder of checkpoints");
    }
    folder
}

const NAMES: [&str; 8] = [
    "model.encoder.conv1.weight",
    "model.encoder.embed_positions.weight",
    "model.encoder.layers.5.self_attn.k_proj.weight",
    "model.decoder.embed_tokens.weight",
    "model.decoder.embed_positions.weight",
    "model.decoder.layers.3.encoder_attn.v_proj.weight",
    "model.decoder.layers.3.self_attn.v_proj.bias",
    "model.decoder.layer_norm.bias",
];

fn tensor<'a>(checkpoint: &'a Checkpoint, name: &str) -> Tensor<'a> {
    let shape = checkpoint.weights.shape(name).unwrap();
    checkpoint.weights.get(name, &shape).unwrap()
}

/// Root of the mean squared difference over that of the reference.
fn relative_error(reference: &[f32], other: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = reference.iter().zip(other).map(|(a, b)| square(a - b)).sum();
    let size: f64 = reference.iter().map(|&a| square(a)).sum();
    (difference / size).sqrt()
}

#[test]
fn base_is_the_same_through_every_format() {
    let Some(folder) = models() else { return };
    let base = folder.join("base");
    let reference = open(&base.join("hf")).unwrap();
    assert_eq!(reference.config.alignment_heads.len(), 8);
    assert_eq!(*reference.vocabulary().unwrap(), Vocabulary::embedded(51_865).unwrap());
    // The weights were published as f16. The rest allows for twice the rounding error seen: a tensor
    // of 16 bits has one scale for all and 10 bits of it in use, blocks have 4 to 8 bits.
    let files = [
        ("hf-f32", 0.0),
        ("hf-sharded-f32", 0.0),
        ("ct2", 0.0),
        ("ct2-float32", 0.0),
        ("ct2-int8", 0.02),
        ("ct2-int8-converter", 0.02),
        ("ct2-int16", 0.01),
        ("openai.pt", 0.0),
        ("ggml-f16.bin", 0.0),
        ("ggml-bf16.bin", 0.004),
        ("ggml-q8_0.bin", 0.01),
        ("ggml-q5_1.bin", 0.06),
        ("ggml-q5_0.bin", 0.06),
        ("ggml-q4_1.bin", 0.12),
        ("ggml-q4_0.bin", 0.12),
    ];
    for (file, tolerance) in files {
        let checkpoint = open(&base.join(file)).unwrap();
        assert_eq!(checkpoint.config, reference.config, "{file}");
        assert_eq!(checkpoint.vocabulary().unwrap(), reference.vocabulary().unwrap(), "{file}");
        for name in NAMES {
            let expected = tensor(&reference, name);
            let found = tensor(&checkpoint, name);
            assert_eq!(found.shape, expected.shape, "{name} of {file}");
            let error = relative_error(&expected.to_f32().unwrap(), &found.to_f32().unwrap());
            assert!(error <= tolerance, "{name} of {file} differs by {error}");
        }
    }
}

#[test]
fn the_english_model_has_its_own_vocabulary_and_heads() {
    let Some(folder) = models() else { return };
    for file in ["ct2", "hf", "openai.pt", "ggml-f16.bin"] {
        let checkpoint = open(&folder.join("tiny.en").join(file)).unwrap();
        assert!(!checkpoint.config.is_multilingual());
        assert_eq!(*checkpoint.vocabulary().unwrap(), Vocabulary::embedded(51_864).unwrap());
        let heads = &checkpoint.config.alignment_heads;
        assert_eq!(*heads, [(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]);
    }
}
