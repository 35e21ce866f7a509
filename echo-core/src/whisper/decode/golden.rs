//! Token sequences of each decoding mode against faster-whisper, with the real weights of `base`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::prompt::Prompts;
use super::*;
use crate::audio::Audio;
use crate::features::mel::{HOP_SAMPLES, LogMel};
use crate::kernels::select::Choice;
use crate::models;
use crate::whisper::model;
use crate::{ComputeType, Device, Language, Task};

#[derive(Deserialize)]
struct Golden {
    clips: std::collections::BTreeMap<String, Clip>,
}

#[derive(Deserialize)]
struct Clip {
    file: PathBuf,
    seconds_used: f64,
    language: Language,
    modes: std::collections::BTreeMap<String, Mode>,
}

#[derive(Deserialize)]
struct Mode {
    options: Options,
    initial_tokens: Vec<u32>,
    tokens: Vec<u32>,
    avg_logprob: f32,
    no_speech_prob: f32,
    compression_ratio: f32,
}

/// The options of a run, by their names in openai/whisper.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Options {
    task: Task,
    beam_size: Option<usize>,
    patience: Option<f32>,
    length_penalty: Option<f32>,
    without_timestamps: bool,
    prompt: Option<String>,
    prefix: Option<String>,
}

impl Options {
    fn decode_options(&self) -> DecodeOptions {
        DecodeOptions {
            beam_size: self.beam_size.unwrap_or(1),
            patience: self.patience.unwrap_or(1.0),
            length_penalty: Some(self.length_penalty.unwrap_or(1.0)),
            without_timestamps: self.without_timestamps,
            initial_prompt: self.prompt.clone(),
            prefix: self.prefix.clone(),
            temperatures: vec![0.0],
            ..DecodeOptions::default()
        }
    }
}

fn folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: set {variable}");
    }
    folder
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("tests/data/decoding/faster_whisper_base.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Tokens to change, drop and add to come from one sequence to the other.
fn edits(ours: &[u32], reference: &[u32], is_same: impl Fn(u32, u32) -> bool) -> usize {
    let mut row: Vec<usize> = (0..=reference.len()).collect();
    for (index, &token) in ours.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, &other) in reference.iter().enumerate() {
            let changed = diagonal + usize::from(!is_same(token, other));
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[reference.len()]
}

/// Decodes the clip in every mode and compares.
fn agrees_with_faster_whisper(name: &str) {
    let (Some(models), Some(audio)) = (folder("ECHO_TEST_STORE"), folder("ECHO_TEST_AUDIO")) else {
        return;
    };
    let checkpoint = models::open(&models.join("base")).unwrap();
    let config = checkpoint.config.clone();
    let texts = checkpoint.vocabulary().unwrap().iter();
    let tokenizer = Tokenizer::new("base", texts, &config).unwrap();
    let n_mels = config.n_mels;
    let choice = Choice { device: Device::Cpu, compute: ComputeType::F32 };
    let network = model::load(config, &*checkpoint.weights, choice, None).unwrap();

    let clip = &golden().clips[name];
    let sound = Audio::load(audio.join(&clip.file)).unwrap();
    let n_samples = (clip.seconds_used * 16_000.0) as usize;
    let samples = &sound.samples()[..n_samples.min(sound.samples().len())];
    let mel = LogMel::new(n_mels).window(samples, 0, samples.len() / HOP_SAMPLES, None);
    let cancel = CancelToken::new();
    let encoded = network.encode(&[mel], &cancel).unwrap();

    for (mode, expected) in &clip.modes {
        let options = expected.options.decode_options();
        let task = expected.options.task;
        let prompts = Prompts::new(&tokenizer, 448, task, &options).unwrap();
        let prompt = prompts.prompt(clip.language, &prompts.initial, true).unwrap();
        assert_eq!(prompt.tokens, expected.initial_tokens, "{name}, {mode}: prompt");
        let decoder = Decoder::new(&*network, &tokenizer, &options).unwrap();
        let job = Job { window: 0, prompt, seed: 0 };
        let decoded = decoder.decode(&encoded, &[job], &cancel).unwrap().remove(0);
        // The reference hears the clip through another resampler, rounded to 16 bits. That moves
        // logits by hundredths, a time by a frame or two where several are as likely, and a token
        // or two of a hundred where two hypotheses of a beam are; given the reference's samples,
        // all tokens are equal, and these numbers within 2e-4 and 2e-5.
        let is_same = |ours: u32, reference: u32| {
            let are_times = [ours, reference].iter().all(|&t| tokenizer.special.is_timestamp(t));
            ours == reference || are_times && ours.abs_diff(reference) <= 2
        };
        let edits = edits(&decoded.tokens, &expected.tokens, is_same);
        let most = expected.tokens.len() / 50;
        assert!(edits <= most, "{name}, {mode}: {:?}, {:?}", decoded.tokens, expected.tokens);
        let close = |ours: f32, reference: f32, tolerance: f32, what: &str| {
            let difference = (ours - reference).abs();
            assert!(difference < tolerance, "{name}, {mode}: {what} {ours}, {reference}");
        };
        close(decoded.avg_logprob, expected.avg_logprob, 0.02, "avg_logprob");
        close(decoded.no_speech_prob, expected.no_speech_prob, 0.01, "no_speech_prob");
        // zlib-rs finds other matches than zlib: a few bytes of a hundred.
        let ratio = expected.compression_ratio;
        close(decoded.compression_ratio, ratio, 0.03 * ratio + 0.01, "compression_ratio");
    }
}

#[test]
fn english_decodes_as_in_faster_whisper_in_every_mode() {
    agrees_with_faster_whisper("jfk");
}

#[test]
fn german_decodes_as_in_faster_whisper_in_every_mode() {
    agrees_with_faster_whisper("de");
}
