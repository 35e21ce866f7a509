//! The network against the reference implementation, on random weights and on real ones.

use std::path::{Path, PathBuf};

use super::*;
use crate::audio::Audio;
use crate::features::mel::{HOP_SAMPLES, LogMel};
use crate::models::weights::testing::TestWeights;
use crate::progress::CancelToken;

const CPU: Choice =
    Choice { device: crate::device::Device::Cpu, compute: crate::device::ComputeType::F32 };

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Sizes of the random network in `tests/data/tiny-random`.
fn tiny_config(heads: usize) -> WhisperConfig {
    WhisperConfig {
        n_mels: 80,
        audio_context: 1500,
        d_model: 64,
        encoder_heads: heads,
        encoder_layers: 2,
        text_context: 64,
        decoder_heads: heads,
        decoder_layers: 2,
        vocab: 1000,
        alignment_heads: Vec::new(),
    }
}

fn tiny<B: Backend>(backend: B, heads: usize) -> Whisper<B> {
    let weights = TestWeights::read(&data("tiny-random/model.safetensors"));
    Whisper::load(backend, tiny_config(heads), &weights).unwrap()
}

/// One test for each backend from one body.
macro_rules! on_each_backend {
    ($($body:ident),* $(,)?) => {
        mod candle {
            $(#[test]
            fn $body() {
                super::$body(crate::kernels::tests::reference);
            })*
        }
        mod cpu {
            $(#[test]
            fn $body() {
                super::$body(|| {
                    crate::kernels::cpu::Cpu::new(crate::ComputeType::F32, 2).unwrap()
                });
            })*
        }
    };
}

on_each_backend! {
    random_network_equals_the_reference,
    hypotheses_do_not_disturb_each_other,
    alignment_is_a_distribution_over_frames,
    alignment_equals_the_reference,
    impossible_steps_are_errors,
    base_equals_the_reference,
    base_hears_real_speech_as_the_reference_does,
}

/// Features of noise, by a congruential generator.
fn noise(seed: u32) -> Mel {
    let mut state = seed;
    let value = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / 2_147_483_648.0 - 1.0) as f32
    };
    Mel { n_mels: 80, values: (0..80 * 3000).map(value).collect() }
}

const NOISE_SEED: u32 = 2024;
const TOKENS: [u32; 12] = [5, 17, 999, 0, 250, 250, 731, 64, 128, 3, 512, 42];
/// f32 sums over a few hundred values; the reference differs from f64 by 4e-6.
const TOLERANCE: f32 = 1e-4;

fn assert_close(ours: &[f32], reference: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), reference.len());
    let difference = ours.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= tolerance, "differs by {difference:e}, at most {tolerance:e}");
}

/// Logits after every one of `tokens`, given in steps of the given sizes.
fn logits(network: &dyn Network, encoded: &Encoded, tokens: &[u32], steps: &[usize]) -> Vec<f32> {
    let mut session = network.session(encoded, &[0]).unwrap();
    let mut logits = Vec::new();
    let mut rest = tokens;
    for &step in steps {
        let (now, later) = rest.split_at(step);
        let wanted: Vec<_> = (0..step).map(|token| (0, token)).collect();
        logits.extend(session.step(&[now], &wanted).unwrap().concat());
        rest = later;
    }
    assert!(rest.is_empty());
    logits
}

fn random_network_equals_the_reference<B: Backend>(backend: fn() -> B) {
    let reference = TestWeights::read(&data("tiny-random/reference.safetensors"));
    let mel = noise(NOISE_SEED);
    assert_eq!(mel.values[..8], reference.values("mel_head"));
    assert_eq!(mel.values[mel.values.len() - 8..], reference.values("mel_tail"));
    for heads in [1, 2] {
        let network = tiny(backend(), heads);
        let encoded = network.run_encoder(std::slice::from_ref(&mel), &CancelToken::new()).unwrap();
        let encoded = network.backend.to_host(&encoded).unwrap();
        let rows: Vec<f32> = encoded.chunks(64).step_by(50).flatten().copied().collect();
        assert_close(&rows, &reference.values(&format!("encoder_heads{heads}")), TOLERANCE);

        let encoded = network.encode(vec![mel.clone()], &CancelToken::new()).unwrap();
        let expected = reference.values(&format!("logits_heads{heads}"));
        for steps in [&[12][..], &[1; 12], &[5, 1, 1, 4, 1]] {
            assert_close(&logits(&network, &encoded, &TOKENS, steps), &expected, TOLERANCE);
        }
    }
}

fn hypotheses_do_not_disturb_each_other<B: Backend>(backend: fn() -> B) {
    let network = tiny(backend(), 2);
    let mut mels = [noise(NOISE_SEED), noise(7), noise(8)];
    if network.hears_short_windows() {
        mels[1].shorten(701);
    }
    let encoded = network.encode(mels.to_vec(), &CancelToken::new()).unwrap();
    let alone: Vec<Encoded> = mels
        .iter()
        .map(|mel| network.encode(vec![mel.clone()], &CancelToken::new()).unwrap())
        .collect();
    let expected = |window: usize, tokens: &[u32]| {
        let all = logits(&network, &alone[window], tokens, &[tokens.len()]);
        all[all.len() - 1000..].to_vec()
    };
    // Prompts of different lengths, windows out of order, window 1 with two hypotheses.
    let mut session = network.session(&encoded, &[1, 0, 1]).unwrap();
    let prompts: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6]];
    let first = session.step(&prompts, &[(2, 1), (0, 2), (1, 0)]).unwrap();
    assert_close(&first[0], &expected(1, prompts[2]), TOLERANCE);
    assert_close(&first[1], &expected(1, prompts[0]), TOLERANCE);
    assert_close(&first[2], &expected(0, prompts[1]), TOLERANCE);
    // Hypotheses split, die and change places.
    session.select(&[2, 0, 0, 2]).unwrap();
    let second = session.step(&[&[7], &[8], &[9], &[10]], &[(0, 0), (1, 0), (2, 0), (3, 0)]);
    let second = second.unwrap();
    assert_close(&second[0], &expected(1, &[5, 6, 7]), TOLERANCE);
    assert_close(&second[1], &expected(1, &[1, 2, 3, 8]), TOLERANCE);
    assert_close(&second[2], &expected(1, &[1, 2, 3, 9]), TOLERANCE);
    assert_close(&second[3], &expected(1, &[5, 6, 10]), TOLERANCE);
}

fn alignment_is_a_distribution_over_frames<B: Backend>(backend: fn() -> B) {
    let network = tiny(backend(), 2);
    let encoded = network.encode(vec![noise(NOISE_SEED)], &CancelToken::new()).unwrap();
    let mut session = network.session(&encoded, &[0, 0]).unwrap();
    let weights = session.alignment(&[&TOKENS[..3], &TOKENS]).unwrap();
    let lengths: Vec<usize> = weights.iter().map(Vec::len).collect();
    // Two heads of the last layer.
    assert_eq!(lengths, [2 * 3 * FRAMES, 2 * TOKENS.len() * FRAMES]);
    for row in weights.iter().flat_map(|weights| weights.chunks(FRAMES)) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4);
    }
    let mut alone = network.session(&encoded, &[0]).unwrap();
    let alone = alone.alignment(&[&TOKENS]).unwrap();
    assert_close(&weights[1], &alone[0], TOLERANCE);
}

fn impossible_steps_are_errors<B: Backend>(backend: fn() -> B) {
    let network = tiny(backend(), 1);
    let encoded = network.encode(vec![noise(1)], &CancelToken::new()).unwrap();
    assert!(network.session(&encoded, &[1]).is_err(), "no such window");
    let mut session = network.session(&encoded, &[0]).unwrap();
    assert!(session.step(&[&[1000]], &[]).is_err(), "no such token");
    assert!(session.step(&[&[1], &[2]], &[]).is_err(), "no such row");
    assert!(session.step(&[&[1]], &[(0, 1)]).is_err(), "no such position");
    assert!(session.step(&[&[1; 65]], &[]).is_err(), "beyond the context");
    assert!(session.step(&[&[1; 64]], &[(0, 63)]).is_ok(), "the whole context");
    assert!(session.step(&[&[1]], &[]).is_err(), "beyond the context");
    assert!(session.select(&[1]).is_err(), "no such parent");
    assert!(
        network
            .encode(vec![Mel { n_mels: 128, values: vec![0.0; 128 * 3000] }], &CancelToken::new())
            .is_err()
    );
    let none = network.encode(Vec::new(), &CancelToken::new()).unwrap();
    assert!(network.session(&none, &[]).is_ok());
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let weights = TestWeights::read(&data("tiny-random/model.safetensors"));
    let load = |config| super::load(config, &weights, CPU, None).err();
    let deeper = WhisperConfig { decoder_layers: 3, ..tiny_config(1) };
    assert!(load(deeper).unwrap().to_string().contains("model.decoder.layers.2."));
    let larger = WhisperConfig { vocab: 1001, ..tiny_config(1) };
    assert!(load(larger).unwrap().to_string().contains("embed_tokens"));
    let elsewhere = WhisperConfig { alignment_heads: vec![(2, 0)], ..tiny_config(1) };
    assert!(load(elsewhere).unwrap().to_string().contains("alignment head"));
    assert!(load(tiny_config(1)).is_none());
}

fn alignment_equals_the_reference<B: Backend>(backend: fn() -> B) {
    let reference = TestWeights::read(&data("tiny-random/attention.safetensors"));
    let weights = TestWeights::read(&data("tiny-random/model.safetensors"));
    // Heads in an order of their own, from both layers.
    let alignment_heads = vec![(1, 1), (0, 0), (1, 0)];
    let config = WhisperConfig { alignment_heads: alignment_heads.clone(), ..tiny_config(2) };
    let network = Whisper::load(backend(), config, &weights).unwrap();
    let encoded = network.encode(vec![noise(NOISE_SEED)], &CancelToken::new()).unwrap();
    let ours = network.session(&encoded, &[0]).unwrap().alignment(&[&TOKENS]).unwrap().remove(0);
    let matrix = TOKENS.len() * FRAMES;
    for (ours, (layer, head)) in ours.chunks(matrix).zip(alignment_heads) {
        let ours: Vec<f32> = ours.iter().copied().step_by(25).collect();
        let layer = reference.values(&format!("layer{layer}"));
        assert_close(&ours, &layer[head * ours.len()..][..ours.len()], TOLERANCE);
    }
}

/// The real network `base`, from the model store that `ECHO_TEST_STORE` names.
fn base<B: Backend>(backend: B) -> Option<Whisper<B>> {
    let Some(folder) = std::env::var_os("ECHO_TEST_STORE") else {
        println!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
        return None;
    };
    let checkpoint = crate::models::open(&Path::new(&folder).join("base")).ok()?;
    // The reference's alignment is that of all later heads.
    let config = WhisperConfig { alignment_heads: Vec::new(), ..checkpoint.config };
    Some(Whisper::load(backend, config, &*checkpoint.weights).unwrap())
}

fn base_equals_the_reference<B: Backend>(backend: fn() -> B) {
    const TOKENS: [u32; 7] = [50_258, 50_259, 50_359, 50_363, 400, 370, 11];
    let Some(network) = base(backend()) else { return };
    let reference = TestWeights::read(&data("whisper_base.safetensors"));
    let mel = LogMel::new(80).window(&crate::features::mel::tests::signal(), 0, 500, None);

    let encoded = network.run_encoder(std::slice::from_ref(&mel), &CancelToken::new()).unwrap();
    let encoded = network.backend.to_host(&encoded).unwrap();
    let rows: Vec<f32> = encoded.chunks(512).step_by(100).flatten().copied().collect();
    assert_close(&rows, &reference.values("encoder"), 5e-4);

    let encoded = network.encode(vec![mel], &CancelToken::new()).unwrap();
    let logits = logits(&network, &encoded, &TOKENS, &[4, 1, 1, 1]);
    let logits = logits.chunks(51_865).flat_map(|row| row.iter().copied().step_by(50));
    assert_close(&logits.collect::<Vec<f32>>(), &reference.values("logits"), 1e-3);

    let alignment =
        network.session(&encoded, &[0]).unwrap().alignment(&[&TOKENS]).unwrap().remove(0);
    let alignment: Vec<f32> = alignment.into_iter().step_by(25).collect();
    assert_close(&alignment, &reference.values("alignment"), TOLERANCE);
}

fn base_hears_real_speech_as_the_reference_does<B: Backend>(backend: fn() -> B) {
    let Some(network) = base(backend()) else { return };
    let Some(folder) = std::env::var_os("ECHO_TEST_AUDIO") else {
        println!("skipped: set ECHO_TEST_AUDIO to a folder with asr/english/jfk.flac");
        return;
    };
    let audio = Audio::load(Path::new(&folder).join("asr/english/jfk.flac")).unwrap();
    let frames_used = audio.samples().len() / HOP_SAMPLES;
    let mel = LogMel::new(80).window(audio.samples(), 0, frames_used, None);
    let encoded = network.encode(vec![mel], &CancelToken::new()).unwrap();
    let logits = logits(&network, &encoded, &[50_258, 50_259, 50_359], &[3]);
    let logits = &logits[2 * 51_865..];
    // openai-whisper 20250625 in f32 on the same file, resampled by libswresample to 16 bits:
    // another resampler and no rounding move logits by hundredths.
    let expected = [(50_363, 18.582_93), (50_364, 18.375_67), (50_379, 13.909_99)];
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    assert_eq!(order[..2], [50_363, 50_364]);
    for (token, logit) in expected {
        assert!((logits[token] - logit).abs() < 0.1, "token {token}: {}", logits[token]);
    }
}

/// What `base` makes of a mel on whatever backend: the encoder's output.
struct EncodedBase<'a>(&'a Mel);

impl Opened for EncodedBase<'_> {
    type Output = Option<Vec<f32>>;

    fn with<B: Backend>(self, backend: B) -> Self::Output {
        let network = base(backend)?;
        let encoded =
            network.run_encoder(std::slice::from_ref(self.0), &CancelToken::new()).unwrap();
        Some(network.backend.to_host(&encoded).unwrap())
    }
}

#[test]
fn half_floats_on_a_gpu_change_the_encoder_little() {
    use crate::device::ComputeType;
    let gpus = select::gpus();
    if gpus.is_empty() {
        println!("skipped: no GPU is compiled in and present");
    }
    let mel = LogMel::new(80).window(&crate::features::mel::tests::signal(), 0, 500, None);
    for device in gpus {
        let encode = |choice| select::open(choice, None, (512, 8), EncodedBase(&mel)).unwrap();
        let Some(exact) = encode(CPU) else { return };
        // A bf16 has 3 bits less than an f16: eight times its error, and as much again to spare.
        for (compute, most) in
            [(ComputeType::F32, 2e-4), (ComputeType::F16, 2e-3), (ComputeType::Bf16, 4e-2)]
        {
            let Some(found) = encode(Choice { device, compute }) else { return };
            let square = |value: f32| f64::from(value) * f64::from(value);
            let error: f64 = exact.iter().zip(&found).map(|(&a, &b)| square(a - b)).sum();
            let size: f64 = exact.iter().map(|&a| square(a)).sum();
            let relative = (error / size).sqrt();
            println!("{device}, {compute}: the encoder differs by {relative:.2e} of its size");
            assert!(relative < most, "{device}, {compute}: {relative:e}");
        }
    }
}
