//! What the fuzz targets of `fuzz/` call: each parser on any bytes, and what must hold of its answer.
//!
//! Compiled for fuzzing and for this crate's own tests only, which run the kept corpus. Besides not
//! panicking, a parser that accepts bytes must keep what its types promise.

use std::io;

use crate::audio::{Audio, AudioOptions};
use crate::formats::{Format, Json, OutputFormat, Srt, Vtt};
use crate::models::fuzzing as models;
use crate::options::Channels;
use crate::transcript::Transcript;
use crate::whisper::config::WhisperConfig;
use crate::whisper::tokenizer::Tokenizer;

/// Any bytes as a recording, with all its channels mixed and then each by itself.
pub fn audio(bytes: &[u8]) {
    let each = AudioOptions { channels: Channels::Each, ..AudioOptions::default() };
    for options in [AudioOptions::default(), each] {
        match Audio::load_channels(bytes.to_vec(), &options) {
            Ok(channels) => {
                for sample in channels.iter().flat_map(Audio::samples) {
                    assert!((-1.0..=1.0).contains(sample), "a sample is {sample}");
                }
            }
            Err(error) => assert!(!error.to_string().is_empty(), "an error says something"),
        }
    }
}

/// Any bytes as SubRip subtitles.
pub fn srt(bytes: &[u8]) {
    subtitles(bytes, Transcript::from_srt, &Srt::default());
}

/// Any bytes as WebVTT subtitles.
pub fn vtt(bytes: &[u8]) {
    subtitles(bytes, Transcript::from_vtt, &Vtt::default());
}

/// Any bytes as a transcript in JSON, Echo's or WhisperX's.
pub fn json(bytes: &[u8]) {
    subtitles(bytes, Transcript::from_json, &Json::default());
}

/// What was read holds its promises, can be written in every format, and read again in its own.
fn subtitles(bytes: &[u8], read: fn(&str) -> crate::Result<Transcript>, format: &dyn Format) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(transcript) = read(&text) else { return };
    for segment in &transcript.segments {
        let is_ordered = 0.0 <= segment.start && segment.start <= segment.end;
        assert!(is_ordered && segment.end.is_finite(), "from {} to {}", segment.start, segment.end);
    }
    for other in OutputFormat::ALL {
        transcript.write(other.writer(), io::sink()).expect("a sink takes everything");
    }
    let mut written = Vec::new();
    transcript.write(format, &mut written).expect("memory takes everything");
    let written = String::from_utf8(written).expect("transcripts are written as UTF-8");
    if let Err(error) = read(&written) {
        panic!("{error} in what was written:\n{written}");
    }
}

/// Any bytes as CTranslate2's `model.bin`.
pub fn ctranslate2(bytes: &[u8]) {
    models::read_ctranslate2(bytes);
}

/// Any bytes as whisper.cpp's `ggml-*.bin`.
pub fn ggml(bytes: &[u8]) {
    models::read_ggml(bytes);
}

/// Any bytes as GGUF.
pub fn gguf(bytes: &[u8]) {
    models::read_gguf(bytes);
}

/// Any bytes as safetensors, and as the index of its shards.
pub fn safetensors(bytes: &[u8]) {
    models::read_safetensors(bytes);
}

/// Any bytes as NumPy's archive, and as an array in one.
pub fn npz(bytes: &[u8]) {
    models::read_npz(bytes);
    models::read_npy(bytes);
}

/// Any bytes as PyTorch's archive, and as the pickle in one.
pub fn pytorch(bytes: &[u8]) {
    models::read_pytorch(bytes);
    models::read_pickle(bytes);
}

/// Any bytes as the vocabulary of a tokenizer, in each of its files, and as a configuration.
pub fn tokenizer(bytes: &[u8]) {
    /// Ids that are not text: 99 languages, the rest and the times.
    const N_SPECIAL: usize = 99 + 8 + 1501;
    let text = "Ein kurzer Text, l\u{e9}g\u{e8}rement \u{266a} (\u{65e5}\u{672c}) 'tis 1,234";
    for vocabulary in models::read_json(bytes) {
        let config = WhisperConfig {
            n_mels: 80,
            audio_context: 1500,
            d_model: 64,
            encoder_heads: 1,
            encoder_layers: 1,
            text_context: 448,
            decoder_heads: 1,
            decoder_layers: 1,
            vocab: vocabulary.len() + N_SPECIAL,
            alignment_heads: Vec::new(),
        };
        let Ok(tokenizer) = Tokenizer::new("fuzzed", vocabulary.iter(), &config) else { continue };
        drop(tokenizer.non_speech_tokens());
        if let Ok(tokens) = tokenizer.encode(text) {
            let is_text = |&token: &u32| (token as usize) < vocabulary.len();
            assert!(tokens.iter().all(is_text), "{tokens:?} of {}", vocabulary.len());
            tokenizer.decode(&tokens);
        }
    }
}

/// Lets panics of other crates unwind to where this crate expects them, and ends the process at
/// once for its own.
pub fn tolerate_guarded_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_foreign = panic.location().is_some_and(|place| place.file().contains("/registry/"));
        if !is_foreign {
            report(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    /// Far more than any kept input takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Damaged copies of each target's inputs; more by `ECHO_TEST_MUTATIONS`.
    const N_MUTATIONS: usize = 500;

    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let mut inputs: Vec<_> =
            paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} holds inputs", folder.display());
        inputs
    }

    fn run(parse: fn(&[u8]), bytes: &[u8], name: &str) {
        let start = Instant::now();
        parse(bytes);
        assert!(start.elapsed() < PATIENCE, "{name} took {:?}", start.elapsed());
    }

    fn run_corpus(target: &str, parse: fn(&[u8])) {
        for (path, bytes) in corpus(target) {
            run(parse, &bytes, &path.display().to_string());
        }
    }

    /// Bytes changed, cut out, repeated and cut off at random, the same in every run.
    fn run_mutations(target: &str, parse: fn(&[u8])) {
        let asked = std::env::var("ECHO_TEST_MUTATIONS").ok();
        let n_mutations = asked.map_or(N_MUTATIONS, |n| n.parse().unwrap());
        let inputs = corpus(target);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % below.max(1)
        };
        for number in 0..n_mutations {
            let (path, bytes) = &inputs[number % inputs.len()];
            let mut bytes = bytes.clone();
            for _ in 0..=random(8) {
                let at = random(bytes.len());
                let end = (at + 1 + random(64)).min(bytes.len());
                match random(6) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..end)),
                    2 => bytes.extend_from_within(at..end),
                    3 => bytes[at..end].fill([0, 0xff][random(2)]),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = random(256) as u8),
                }
            }
            run(parse, &bytes, &format!("mutation {number} of {}", path.display()));
        }
    }

    macro_rules! targets {
        ($($target:ident),*) => {$(
            mod $target {
                #[test]
                fn corpus_is_parsed_or_refused() {
                    super::run_corpus(stringify!($target), super::super::$target);
                }

                #[test]
                fn damaged_inputs_are_parsed_or_refused() {
                    super::run_mutations(stringify!($target), super::super::$target);
                }
            }
        )*};
    }

    targets!(audio, ctranslate2, ggml, gguf, json, npz, pytorch, safetensors, srt, tokenizer, vtt);
}
