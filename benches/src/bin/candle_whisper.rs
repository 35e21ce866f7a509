//! The Whisper of candle-transformers on one file: the plainest peer in Rust.
//!
//! `candle_whisper --model DIR --audio FILE [--language en] [--runs N] [--threads N]`, where DIR is a
//! Hugging Face folder (config.json, model.safetensors, tokenizer.json). Greedy, windows of 30 s one
//! after the other, no timestamps, no fallback; every step computes all tokens again, because that
//! network keeps no cache of self-attention. Prints one JSON line with the keys of run_peer.py.
#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::path::Path;
use std::time::Instant;

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::whisper::{self, Config, audio, model::Whisper};
use echo_benches::arguments::Arguments;
use echo_benches::{Result, median, peak_rss_mb, process_cpu_s, spectrum};
use echo_core::Audio;
use tokenizers::Tokenizer;

/// Text tokens of one window at most, as in the reference: half of the decoder's context.
const MAX_TOKENS: usize = 224;

fn main() -> Result<()> {
    let options = ["model", "audio", "language", "runs", "threads", "beam", "precision"];
    let arguments = Arguments::parse(std::env::args().skip(1), &options, &[])?;
    let threads: usize = arguments.value("threads", 1)?;
    rayon_threads(threads);
    let start = Instant::now();
    let audio = Audio::load(arguments.required("audio")?)?;
    let decode_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut peer = Peer::load(Path::new(arguments.required("model")?))?;
    let load_s = start.elapsed().as_secs_f64();
    let language: String = arguments.value("language", "en".to_owned())?;
    let (mut walls_s, mut cpus_s, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.value("runs", 1)? {
        let (start, cpu_s) = (Instant::now(), process_cpu_s());
        texts = peer.transcribe(audio.samples(), &language)?;
        walls_s.push(start.elapsed().as_secs_f64());
        cpus_s.push(process_cpu_s() - cpu_s);
    }
    let line = serde_json::json!({
        "peer": "candle-transformers", "precision": "float32", "beam": 1, "threads": threads,
        "audio_s": audio.duration(), "decode_s": decode_s, "import_s": 0.0, "load_s": load_s,
        "first_s": [null], "wall_s": walls_s, "cpu_s": cpus_s, "wall_median": median(&walls_s),
        "cpu_median": median(&cpus_s), "speed_x": audio.duration() / median(&walls_s),
        "rss_mb": peak_rss_mb(), "n_segments": texts.len(), "text": texts.concat().trim(),
    });
    println!("{line}");
    Ok(())
}

struct Peer {
    network: Whisper,
    config: Config,
    tokenizer: Tokenizer,
    mel_filters: Vec<f32>,
    suppressed: Tensor, // (vocab), minus infinity where a token must not be said
}

impl Peer {
    fn load(folder: &Path) -> Result<Self> {
        let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
        let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))
            .map_err(|error| error.to_string())?;
        let bytes = std::fs::read(folder.join("model.safetensors"))?;
        let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)?;
        let network = Whisper::load(&weights, config.clone())?;
        let end = token(&tokenizer, whisper::EOT_TOKEN)?;
        let is_special = |index: u32| index > end || config.suppress_tokens.contains(&index);
        let penalties: Vec<f32> = (0..config.vocab_size as u32)
            .map(|index| if is_special(index) { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let suppressed = Tensor::new(penalties, &Device::Cpu)?;
        let mel_filters = spectrum::mel_filters(config.num_mel_bins);
        Ok(Self { network, config, tokenizer, mel_filters, suppressed })
    }

    /// The text of every window.
    fn transcribe(&mut self, samples: &[f32], language: &str) -> Result<Vec<String>> {
        samples.chunks(whisper::N_SAMPLES).map(|window| self.window(window, language)).collect()
    }

    fn window(&mut self, samples: &[f32], language: &str) -> Result<String> {
        let mut padded = samples.to_vec();
        padded.resize(whisper::N_SAMPLES, 0.0);
        let n_mels = self.config.num_mel_bins;
        let mel = audio::pcm_to_mel(&self.config, &padded, &self.mel_filters);
        let frames = mel.len() / n_mels;
        let mel = Tensor::from_vec(mel, (1, n_mels, frames), &Device::Cpu)?; // (batch, n_mels, frames)
        let mel = mel.narrow(2, 0, whisper::N_FRAMES.min(frames))?;
        let encoded = self.network.encoder.forward(&mel, true)?; // (batch, frames, d_model)

        let language = format!("<|{language}|>");
        let prompt = [
            whisper::SOT_TOKEN,
            language.as_str(),
            whisper::TRANSCRIBE_TOKEN,
            whisper::NO_TIMESTAMPS_TOKEN,
        ];
        let mut tokens =
            prompt.iter().map(|name| token(&self.tokenizer, name)).collect::<Result<Vec<u32>>>()?;
        let end = token(&self.tokenizer, whisper::EOT_TOKEN)?;
        for step in 0..MAX_TOKENS {
            let input = Tensor::new(tokens.as_slice(), &Device::Cpu)?.unsqueeze(0)?; // (batch, tokens)
            let hidden = self.network.decoder.forward(&input, &encoded, step == 0)?;
            let last = hidden.i((..1, tokens.len() - 1..))?; // (batch, 1, d_model)
            let logits = self.network.decoder.final_linear(&last)?.i(0)?.i(0)?; // (vocab)
            let best = (logits + &self.suppressed)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
            if best == end {
                break;
            }
            tokens.push(best);
        }
        let text = self.tokenizer.decode(&tokens[prompt.len()..], true);
        Ok(text.map_err(|error| error.to_string())?)
    }
}

fn token(tokenizer: &Tokenizer, name: &str) -> Result<u32> {
    Ok(tokenizer.token_to_id(name).ok_or_else(|| format!("the tokenizer has no {name}"))?)
}

/// Candle takes its thread count from the environment, at the first use of its pool.
fn rayon_threads(threads: usize) {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}
