//! The same network through every format, and damaged files.

mod damaged;
#[cfg(feature = "hub")]
mod downloads;
#[cfg(unix)]
mod packages;
mod published;
mod samples;
#[cfg(feature = "hub")]
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::Format;
use super::vocabulary::Vocabulary;
use super::{names, open};
use samples::Sample;

/// A folder of its own for a test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("echo-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn write_vocabulary(&self) {
        let lines = samples::tokens().join("\n") + "\n<|endoftext|>\n<|startoftranscript|>\n";
        self.write("vocabulary.txt", lines);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Opens a checkpoint of the small model and compares all of it.
fn check(path: &Path, format: Format, samples: &[Sample]) {
    let checkpoint = open(path).unwrap();
    assert_eq!(checkpoint.format, format);
    let config = &checkpoint.config;
    assert_eq!((config.d_model, config.vocab), (samples::WIDTH, samples::VOCAB), "{format:?}");
    assert_eq!((config.n_mels, config.audio_context, config.text_context), (80, 1500, 16));
    assert_eq!((config.encoder_layers, config.decoder_layers), (1, 1));
    assert_eq!((config.encoder_heads, config.decoder_heads), (1, 1));
    assert_eq!(config.alignment_heads, [(0, 0)]);
    let expected = Vocabulary::from_tokens(samples::tokens());
    assert_eq!(*checkpoint.vocabulary().unwrap(), expected, "{format:?}");
    for sample in samples {
        let tensor =
            checkpoint.weights.get(&names::canonical(&sample.name), &sample.shape).unwrap();
        assert_eq!(tensor.to_f32().unwrap(), sample.values, "{} in {format:?}", sample.name);
    }
}

#[test]
fn every_format_gives_the_same_network() {
    let samples = samples::whisper();
    let files = [
        ("f32", Format::Safetensors, samples::safetensors(&samples, "F32")),
        ("f16", Format::Safetensors, samples::safetensors(&samples, "F16")),
        ("bf16", Format::Safetensors, samples::safetensors(&samples, "BF16")),
        ("ct2", Format::CTranslate2, samples::ctranslate2(&samples, 32)),
        ("ct2-int8", Format::CTranslate2, samples::ctranslate2(&samples, 8)),
        ("ct2-int16", Format::CTranslate2, samples::ctranslate2(&samples, 16)),
        ("ggml", Format::Ggml, samples::ggml(&samples, false)),
        ("ggml-q8_0", Format::Ggml, samples::ggml(&samples, true)),
        ("gguf", Format::Gguf, samples::gguf(&samples)),
        ("pt", Format::PyTorch, samples::pytorch(&samples, false)),
        ("pt-columns", Format::PyTorch, samples::pytorch(&samples, true)),
    ];
    for (name, format, bytes) in files {
        let folder = Folder::new(&format!("format-{name}"));
        folder.write_vocabulary();
        let path = folder.write("weights", bytes);
        check(&path, format, &samples);
        check(&folder.0, format, &samples);
    }
}

#[test]
fn shards_are_read_as_one_checkpoint() {
    let samples = samples::whisper();
    let folder = Folder::new("shards");
    folder.write_vocabulary();
    let (first, second) = samples.split_at(10);
    folder.write("a.safetensors", samples::safetensors(first, "F32"));
    folder.write("b.safetensors", samples::safetensors(second, "F16"));
    let index =
        r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}"#;
    let index = folder.write("model.safetensors.index.json", index);
    check(&folder.0, Format::Safetensors, &samples);
    check(&index, Format::Safetensors, &samples);

    fs::remove_file(folder.0.join("b.safetensors")).unwrap();
    let error = open(&folder.0).err().unwrap().to_string();
    assert!(error.contains("b.safetensors") && error.contains("missing"), "{error}");
    folder.write("model.safetensors.index.json", r#"{"weight_map": {"x": "../a.safetensors"}}"#);
    let error = open(&folder.0).err().unwrap().to_string();
    assert!(error.contains("expected one in the same folder"), "{error}");
}

#[test]
fn a_folder_of_several_checkpoints_asks_which() {
    let folder = Folder::new("several");
    let error = open(&folder.0).err().unwrap().to_string();
    assert!(error.contains("no weights in a known format"), "{error}");
    folder.write("one.bin", samples::ggml(&samples::few(), false));
    folder.write("two.bin", samples::ggml(&samples::few(), false));
    let error = open(&folder.0).err().unwrap().to_string();
    assert!(error.contains("has 2 ggml files") && error.contains("one.bin, two.bin"), "{error}");
}

#[test]
fn what_is_no_checkpoint_says_why() {
    let folder = Folder::new("wrong");
    let files: [(&str, Vec<u8>, &str); 6] = [
        ("empty", vec![], "which is no known format"),
        ("text", b"hello".to_vec(), "which is no known format"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1".to_vec(), "git lfs pull"),
        (
            "old.pt",
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
            "before version 1.6",
        ),
        (
            "few",
            samples::safetensors(&samples::few(), "F32"),
            "has no tensor `model.encoder.conv1.weight`",
        ),
        ("index", b"{}".to_vec(), "weight_map"),
    ];
    for (name, bytes, expected) in files {
        let error = open(&folder.write(name, bytes)).err().unwrap();
        assert_eq!(error.kind(), crate::ErrorKind::Model);
        assert!(error.to_string().contains(expected), "`{error}` says `{expected}`");
    }
    let missing = open(&folder.0.join("missing")).err().unwrap();
    assert_eq!(missing.kind(), crate::ErrorKind::Io);
}

#[test]
fn wrong_shapes_and_absent_tensors_are_named() {
    let folder = Folder::new("shapes");
    let path = folder.write("weights", samples::safetensors(&samples::whisper(), "F32"));
    let checkpoint = open(&path).unwrap();
    let error = checkpoint.weights.get("model.encoder.conv1.bias", &[3]).unwrap_err().to_string();
    assert!(error.contains("`model.encoder.conv1.bias` has shape [64], expected [3]"), "{error}");
    let error = checkpoint.weights.get("nothing", &[3]).unwrap_err().to_string();
    assert!(error.contains("has no tensor `nothing`"), "{error}");
    let error = checkpoint.vocabulary().unwrap_err().to_string();
    assert!(error.contains("has 40 tokens but no vocabulary"), "{error}");
}

#[test]
fn configuration_files_are_heard() {
    let folder = Folder::new("config");
    folder.write("weights", samples::safetensors(&samples::whisper(), "F32"));
    folder.write("config.json", r#"{"model_type": "whisper", "encoder_attention_heads": 2, "decoder_attention_heads": 4, "alignment_heads": null}"#);
    folder.write("generation_config.json", r#"{"alignment_heads": [[0, 1], [0, 3]]}"#);
    let config = open(&folder.0).unwrap().config;
    assert_eq!((config.encoder_heads, config.decoder_heads), (2, 4));
    assert_eq!(config.alignment_heads, [(0, 1), (0, 3)]);
    // Those of a larger teacher: all heads of the upper layers serve instead.
    folder.write("generation_config.json", r#"{"alignment_heads": [[7, 0], [10, 17]]}"#);
    let heads = open(&folder.0).unwrap().config.alignment_heads;
    assert_eq!(heads, [(0, 0), (0, 1), (0, 2), (0, 3)]);
    folder.write("config.json", r#"{"model_type": "wav2vec2"}"#);
    let error = open(&folder.0).err().unwrap().to_string();
    assert!(error.contains("model_type is `wav2vec2`, expected `whisper`"), "{error}");
}
