use super::prompt::Prompts;
use super::*;
use crate::progress::CancelToken;
use crate::whisper::fake::{FakeNetwork, sure_of};
use crate::whisper::tokenizer::small;
use crate::{Language, Task};

/// Decodes one job a window.
fn decode(
    tokenizer: &Tokenizer,
    network: &FakeNetwork,
    options: &DecodeOptions,
    names: &[f32],
) -> Vec<Decoded> {
    let encoded = network.encode(FakeNetwork::windows(names), &CancelToken::new()).unwrap();
    let prompts = Prompts::new(tokenizer, 448, Task::Transcribe, options).unwrap();
    let prompt = prompts.prompt(Language::ENGLISH, &[], true).unwrap();
    let job = |window| Job { window, prompt: prompt.clone(), seed: window as u64 };
    let jobs: Vec<Job> = (0..names.len()).map(job).collect();
    let decoder = Decoder::new(network, tokenizer, options).unwrap();
    decoder.decode(&encoded, &jobs, &CancelToken::new()).unwrap()
}

/// `<|0.00|> text <|1.00|>`.
fn timed(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let begin = tokenizer.special.timestamp_begin;
    let mut tokens = vec![begin];
    tokens.extend(tokenizer.encode(text).unwrap());
    tokens.push(begin + 50);
    tokens
}

#[test]
fn greedy_and_beams_say_what_the_network_is_sure_of() {
    let tokenizer = small();
    let answer = timed(&tokenizer, " hello");
    let said = answer.clone();
    let network = FakeNetwork::saying(&tokenizer, move |_, _| said.clone());
    for beam_size in [1, 5] {
        let options = DecodeOptions { beam_size, ..DecodeOptions::default() };
        let decoded = decode(&tokenizer, &network, &options, &[0.0]);
        assert_eq!(decoded[0].tokens, answer, "beam size {beam_size}");
        assert_eq!(decoded[0].temperature, 0.0);
        assert!(decoded[0].avg_logprob > -0.01, "{}", decoded[0].avg_logprob);
    }
}

#[test]
fn only_the_windows_that_fail_are_tried_again() {
    let tokenizer = small();
    let special = tokenizer.special;
    let words = timed(&tokenizer, " hello world");
    let expected = words.clone();
    // Window 1 speaks; window 2 repeats itself as long as it says what is likeliest.
    let network = FakeNetwork::new(&tokenizer, move |window, tokens| {
        if window == 1.0 {
            return sure_of(&special, &words, &tokens[1..]);
        }
        let mut logits = vec![f32::NEG_INFINITY; special.end as usize];
        logits[special.timestamp_begin as usize] = 0.0;
        logits[usize::from(b'a')..=usize::from(b'z')].fill(0.9);
        logits[usize::from(b'x')] = 1.0;
        logits
    });
    let options = DecodeOptions {
        beam_size: 1,
        best_of: 2,
        logprob_threshold: None,
        ..DecodeOptions::default()
    };
    let decoded = decode(&tokenizer, &network, &options, &[2.0, 1.0]);
    assert_eq!(decoded[1].tokens, expected);
    assert_eq!(decoded[1].temperature, 0.0);
    assert!(decoded[0].temperature > 0.0);
    assert!(decoded[0].compression_ratio < 2.4, "{}", decoded[0].compression_ratio);
    // The first attempt has both windows, the others one window with two samples.
    let prompts = network.prompts.lock().unwrap().len();
    assert!((3..=7).contains(&prompts), "{prompts}");
    assert_eq!(*network.encoded.lock().unwrap(), [2], "the encoder ran once");
}

#[test]
fn when_all_temperatures_fail_the_likeliest_is_kept() {
    let tokenizer = small();
    let special = tokenizer.special;
    // Never sure: every token has the same chance.
    let network = FakeNetwork::new(&tokenizer, move |_, _| vec![0.0; special.end as usize]);
    let options = DecodeOptions {
        beam_size: 1,
        temperatures: vec![0.0, 0.5, 1.0],
        max_new_tokens: Some(4),
        without_timestamps: true,
        ..DecodeOptions::default()
    };
    let decoded = decode(&tokenizer, &network, &options, &[0.0]);
    assert_eq!(decoded[0].last_temperature, 1.0);
    assert!(decoded[0].avg_logprob < -1.0);
}

#[test]
fn samples_do_not_depend_on_the_other_windows() {
    let tokenizer = small();
    let vocab = tokenizer.special.end as usize;
    let network = FakeNetwork::new(&tokenizer, move |window, tokens| {
        (0..vocab).map(|token| ((token * 7 + tokens.len()) % 13) as f32 * window).collect()
    });
    let options = DecodeOptions {
        temperatures: vec![1.0],
        max_new_tokens: Some(12),
        without_timestamps: true,
        ..DecodeOptions::default()
    };
    let together = decode(&tokenizer, &network, &options, &[0.2, 0.3]);
    let alone = decode(&tokenizer, &network, &options, &[0.2]);
    assert_eq!(together[0], alone[0]);
    let other_seed = DecodeOptions { seed: 1, ..options };
    assert_ne!(decode(&tokenizer, &network, &other_seed, &[0.2])[0].tokens, alone[0].tokens);
}

#[test]
fn a_forced_beginning_is_part_of_the_text() {
    let tokenizer = small();
    let network = FakeNetwork::saying(&tokenizer, |_, _| b"??abc".map(u32::from).to_vec());
    let options = DecodeOptions {
        prefix: Some("x".into()),
        without_timestamps: true,
        beam_size: 1,
        ..DecodeOptions::default()
    };
    let decoded = decode(&tokenizer, &network, &options, &[0.0]);
    assert_eq!(tokenizer.decode(&decoded[0].tokens), " xabc");
}

#[test]
fn a_device_that_ranks_finds_the_same_text() {
    let tokenizer = small();
    let vocab = tokenizer.special.end as usize;
    // Every beginning has its own scattered logits; times are as likely as text.
    let network = |ranks: bool| {
        let mut network = FakeNetwork::new(&tokenizer, move |window, tokens| {
            let said = tokens.iter().fold(window as u64, |hash, &t| {
                hash.wrapping_mul(31).wrapping_add(u64::from(t) + 7)
            });
            let scattered =
                |token: u64| token.wrapping_add(said).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            (0..vocab as u64).map(|token| scattered(token) as f32 / 3e6).collect()
        });
        network.ranks = ranks;
        network
    };
    for beam_size in [1, 5] {
        let options = DecodeOptions {
            beam_size,
            temperatures: vec![0.0],
            max_new_tokens: Some(30),
            no_repeat_ngram_size: 3,
            ..DecodeOptions::default()
        };
        let windows = [0.0, 1.0, 2.0];
        let expected = decode(&tokenizer, &network(false), &options, &windows);
        let found = decode(&tokenizer, &network(true), &options, &windows);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.tokens, expected.tokens, "beam size {beam_size}");
            assert!((found.avg_logprob - expected.avg_logprob).abs() < 1e-4);
            assert!((found.no_speech_prob - expected.no_speech_prob).abs() < 1e-5);
        }
    }
}
