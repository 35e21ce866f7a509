//! Decoding against faster-whisper, with the real weights of `base`: the token sequences of each
//! mode on one window, the walk through a long recording, and batched windows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::batched::{self, Chunk, Standing, Step};
use super::config::WhisperConfig;
use super::decode::prompt::Prompts;
use super::decode::{Decoder, Job};
use super::network::{Encoded, Network, Session};
use super::{Recognizer, sequential};
use crate::audio::Audio;
use crate::error::Result;
use crate::features::mel::{HOP_SAMPLES, Mel};
use crate::kernels::select::Choice;
use crate::options::{DecodeOptions, TranscribeOptions};
use crate::progress::CancelToken;
use crate::threads::Threads;
use crate::timeline::Region;
use crate::transcript::Segment;
use crate::{ComputeType, Device, Language, Task, models};

#[derive(Deserialize)]
struct Golden {
    clips: BTreeMap<String, Clip>,
    sequential: Sequential,
    batched: Batched,
}

#[derive(Deserialize)]
struct Clip {
    files: Vec<PathBuf>,
    seconds_used: f64,
    language: Language,
    modes: BTreeMap<String, Mode>,
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

#[derive(Deserialize)]
struct Sequential {
    files: Vec<PathBuf>,
    runs: BTreeMap<String, Vec<Said>>,
}

#[derive(Deserialize)]
struct Batched {
    files: Vec<PathBuf>,
    spans: Vec<(f64, f64)>,
    runs: BTreeMap<String, Vec<Said>>,
}

/// A segment of the reference.
#[derive(Deserialize)]
struct Said {
    start: f64,
    end: f64,
    tokens: Vec<u32>,
    avg_logprob: f32,
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

/// `base` and the folder of recordings, if both are at hand.
fn base() -> Option<(Recognizer, PathBuf)> {
    let folder = |variable: &str| {
        let folder = std::env::var_os(variable).map(PathBuf::from);
        if folder.is_none() {
            println!("skipped: set {variable}");
        }
        folder
    };
    let (models, audio) = (folder("ECHO_TEST_STORE")?, folder("ECHO_TEST_AUDIO")?);
    let checkpoint = models::open(&models.join("base")).unwrap();
    let choice = Choice { device: Device::Cpu, compute: ComputeType::F32 };
    Some((Recognizer::load(&checkpoint, choice, None, &Threads::default()).unwrap(), audio))
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("tests/data/decoding/faster_whisper_base.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Recordings one after the other.
fn samples(audio: &Path, files: &[PathBuf]) -> Vec<f32> {
    let load = |file: &PathBuf| Audio::load(audio.join(file)).unwrap().samples().to_vec();
    files.iter().flat_map(load).collect()
}

fn assert_close(ours: f32, reference: f32, tolerance: f32, what: &str) {
    assert!((ours - reference).abs() < tolerance, "{what}: {ours}, the reference {reference}");
}

/// Decodes the clip in every mode and compares: all tokens are equal. The German clip has another
/// sample rate and goes through another resampler there, which moves its numbers by thousandths.
fn modes_agree(name: &str) {
    let Some((recognizer, audio)) = base() else { return };
    let (network, tokenizer) = (&*recognizer.network, &recognizer.tokenizer);
    let clip = &golden().clips[name];
    let samples = samples(&audio, &clip.files);
    assert_eq!(samples.len(), (clip.seconds_used * 16_000.0).round() as usize);
    let mel = recognizer.log_mel.window(&samples, 0, samples.len() / HOP_SAMPLES, None);
    let cancel = CancelToken::new();
    let encoded = network.encode(vec![mel], &cancel).unwrap();
    for (mode, expected) in &clip.modes {
        let options = expected.options.decode_options();
        let task = expected.options.task;
        let prompts = Prompts::new(tokenizer, 448, task, &options).unwrap();
        let prompt = prompts.prompt(clip.language, &prompts.initial, true).unwrap();
        assert_eq!(prompt.tokens, expected.initial_tokens, "{name}, {mode}: prompt");
        let decoder = Decoder::new(network, tokenizer, &options).unwrap();
        let job = Job { window: 0, prompt, seed: 0 };
        let decoded = decoder.decode(&encoded, &[job], &cancel).unwrap().remove(0);
        let what = |number: &str| format!("{name}, {mode}: {number}");
        assert_eq!(decoded.tokens, expected.tokens, "{}", what("tokens"));
        assert_close(decoded.avg_logprob, expected.avg_logprob, 0.01, &what("avg_logprob"));
        let no_speech = expected.no_speech_prob;
        assert_close(decoded.no_speech_prob, no_speech, 0.01, &what("no_speech_prob"));
        // zlib-rs finds other matches than zlib: a few bytes of a hundred.
        let (ours, ratio) = (decoded.compression_ratio, expected.compression_ratio);
        assert_close(ours, ratio, 0.03 * ratio + 0.01, &what("compression_ratio"));
    }
}

#[test]
fn english_decodes_as_in_faster_whisper_in_every_mode() {
    modes_agree("jfk");
}

#[test]
fn german_decodes_as_in_faster_whisper_in_every_mode() {
    modes_agree("de");
}

#[test]
fn a_full_window_decodes_as_in_faster_whisper_in_every_mode() {
    modes_agree("reading");
}

/// Options of a run named `beam5_…`, without temperature fallback.
fn run_options(name: &str) -> TranscribeOptions {
    let beam_size = if name.starts_with("beam5") { 5 } else { 1 };
    let decode = DecodeOptions {
        beam_size,
        temperatures: vec![0.0],
        condition_on_previous_text: name.contains("condition_true"),
        without_timestamps: name.contains("without_timestamps"),
        ..DecodeOptions::default()
    };
    TranscribeOptions { decode, ..TranscribeOptions::default() }
}

/// The same segments, but that ours end with the recording of so many seconds.
fn assert_said(
    recognizer: &Recognizer,
    ours: &[Segment],
    reference: &[Said],
    seconds: f64,
    name: &str,
) {
    let end_of_text = recognizer.tokenizer.special.end_of_text;
    let text = |tokens: &[u32]| -> Vec<u32> {
        tokens.iter().copied().filter(|&token| token < end_of_text).collect()
    };
    for (ours, said) in ours.iter().zip(reference) {
        let decoding = ours.decoding.as_ref().unwrap();
        assert_eq!(decoding.tokens, text(&said.tokens), "{name}");
        assert_close(decoding.avg_logprob, said.avg_logprob, 1e-3, name);
        assert_close(ours.start as f32, said.start as f32, 1e-3, name);
        assert_close(ours.end as f32, said.end.min(seconds) as f32, 1e-3, name);
    }
    assert_eq!(ours.len(), reference.len(), "{name}: segments");
}

#[test]
fn a_long_recording_is_walked_through_as_in_faster_whisper() {
    let Some((recognizer, audio)) = base() else { return };
    let golden = golden().sequential;
    let samples = samples(&audio, &golden.files);
    let seconds = samples.len() as f64 / 16_000.0;
    let all = [Region::new(0.0, seconds)];
    for (name, reference) in &golden.runs {
        let mut found = Vec::new();
        let mut on_window = |_: f64, mut segments: Vec<Segment>| {
            found.append(&mut segments);
            Ok(())
        };
        let (options, cancel) = (run_options(name), CancelToken::new());
        let language = Language::ENGLISH;
        let on_window: &mut sequential::OnWindow<'_> = &mut on_window;
        let source = sequential::Source { samples: &samples, clips: &all, speech: &[], language };
        sequential::transcribe(&recognizer, &source, &options, on_window, &cancel).unwrap();
        assert_said(&recognizer, &found, reference, seconds, name);
    }
}

/// A network that hears all of the silence behind the sound, as the reference does.
struct Whole(Box<dyn Network>);

impl Network for Whole {
    fn config(&self) -> &WhisperConfig {
        self.0.config()
    }

    fn encode(&self, mels: Vec<Mel>, cancel: &CancelToken) -> Result<Encoded> {
        self.0.encode(mels, cancel)
    }

    fn session<'a>(
        &'a self,
        encoded: &'a Encoded,
        windows: &[usize],
    ) -> Result<Box<dyn Session + 'a>> {
        self.0.session(encoded, windows)
    }
}

#[test]
fn batched_windows_say_what_they_say_in_faster_whisper() {
    let Some((mut recognizer, audio)) = base() else { return };
    recognizer.network = Box::new(Whole(recognizer.network));
    let golden = golden().batched;
    let samples = samples(&audio, &golden.files);
    let seconds = samples.len() as f64 / 16_000.0;
    let chunk = |&(start, end): &(f64, f64)| Chunk {
        samples: &samples,
        span: Region::new(start, end),
        language: Language::ENGLISH,
        is_first: start == 0.0,
        speech: &[],
        sounds: &[],
    };
    let chunks: Vec<Chunk<'_>> = golden.spans.iter().map(chunk).collect();
    for (name, reference) in &golden.runs {
        let mut found = Vec::new();
        let mut on_step = |step: Step<'_>| {
            if let Step::Chunk(_, mut segments) = step {
                found.append(&mut segments);
            }
            Ok(())
        };
        let (options, cancel) = (run_options(name), CancelToken::new());
        let start = (8, Standing::default());
        batched::transcribe(&recognizer, &chunks, &options, start, &mut on_step, &cancel).unwrap();
        assert_said(&recognizer, &found, reference, seconds, name);
    }
}
