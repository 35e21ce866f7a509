use super::super::greedy::Greedy;
use super::super::prompt::Prompts;
use super::*;
use crate::options::DecodeOptions;
use crate::progress::CancelToken;
use crate::whisper::fake::FakeNetwork;
use crate::whisper::tokenizer::{Tokenizer, small};

fn options() -> DecodeOptions {
    DecodeOptions { without_timestamps: true, ..DecodeOptions::default() }
}

fn prompt(tokenizer: &Tokenizer, previous: &[u32]) -> Prompt {
    let prompts = Prompts::new(tokenizer, 448, crate::Task::Transcribe, &options()).unwrap();
    prompts.prompt(crate::Language::ENGLISH, previous, true).unwrap()
}

fn rules(tokenizer: &Tokenizer) -> Rules {
    Rules::new(tokenizer, tokenizer.special.end as usize, &options()).unwrap()
}

fn window<'a>(tokenizer: &Tokenizer, index: usize, prompt: &'a Prompt) -> Window<'a> {
    let limits = Limits { end_of_text: tokenizer.special.end_of_text, max_tokens: 20 };
    Window { index, prompt, search: Box::new(Greedy::new(&[], limits)) }
}

#[test]
fn windows_with_different_prompts_are_decoded_together_and_leave_when_done() {
    let tokenizer = small();
    // Window 1 says two letters, window 2 five.
    let network = FakeNetwork::saying(&tokenizer, |window, prompt| {
        assert_eq!(prompt.len() > 2, window == 2.0, "each hears its own prompt");
        b"abcde"[..if window == 1.0 { 2 } else { 5 }].iter().map(|&b| u32::from(b)).collect()
    });
    let encoded = network.encode(FakeNetwork::windows(&[2.0, 1.0]), &CancelToken::new()).unwrap();
    let (short, long) = (prompt(&tokenizer, &[]), prompt(&tokenizer, &[7, 8, 9]));
    let windows = vec![window(&tokenizer, 1, &short), window(&tokenizer, 0, &long)];
    let cancel = CancelToken::new();
    let outcomes = run(&network, &encoded, windows, &rules(&tokenizer), &cancel).unwrap();
    let texts: Vec<String> = outcomes.iter().map(|o| tokenizer.decode(&o.best.tokens)).collect();
    assert_eq!(texts, ["ab", "abcde"]);
    assert_eq!(*network.steps.lock().unwrap(), [2, 2, 2, 1, 1, 1]);
}

#[test]
fn the_no_speech_probability_is_read_where_the_transcript_starts() {
    let tokenizer = small();
    let special = tokenizer.special;
    let network = FakeNetwork::new(&tokenizer, move |_, tokens| {
        let mut logits = vec![f32::NEG_INFINITY; special.end as usize];
        // A quarter after the start of transcript, nothing anywhere else.
        let at_start = tokens.last() == Some(&special.start_of_transcript());
        logits[special.no_speech() as usize] = if at_start { 0.0 } else { -30.0 };
        logits[97] = 3.0_f32.ln();
        logits
    });
    let encoded = network.encode(FakeNetwork::windows(&[0.0]), &CancelToken::new()).unwrap();
    let prompt = prompt(&tokenizer, &[7, 8]);
    let windows = vec![window(&tokenizer, 0, &prompt)];
    let cancel = CancelToken::new();
    let outcomes = run(&network, &encoded, windows, &rules(&tokenizer), &cancel).unwrap();
    assert!((outcomes[0].no_speech_prob - 0.25).abs() < 1e-6);
    assert_eq!(outcomes[0].best.tokens, [97; 20]);
}

#[test]
fn a_cancelled_search_stops_before_the_next_step() {
    let tokenizer = small();
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let network = FakeNetwork::saying(&tokenizer, move |_, _| {
        token.cancel();
        vec![97; 10]
    });
    let encoded = network.encode(FakeNetwork::windows(&[0.0]), &CancelToken::new()).unwrap();
    let prompt = prompt(&tokenizer, &[]);
    let windows = vec![window(&tokenizer, 0, &prompt)];
    let error = run(&network, &encoded, windows, &rules(&tokenizer), &cancel).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Cancelled);
    assert_eq!(network.steps.lock().unwrap().len(), 1);
}

#[test]
fn logits_that_are_not_numbers_are_an_error() {
    let tokenizer = small();
    let vocab = tokenizer.special.end as usize;
    for broken in [vec![f32::NAN; vocab], vec![0.0; vocab - 1]] {
        let network = FakeNetwork::new(&tokenizer, move |_, _| broken.clone());
        let encoded = network.encode(FakeNetwork::windows(&[0.0]), &CancelToken::new()).unwrap();
        let prompt = prompt(&tokenizer, &[]);
        let windows = vec![window(&tokenizer, 0, &prompt)];
        let error = run(&network, &encoded, windows, &rules(&tokenizer), &CancelToken::new());
        assert_eq!(error.unwrap_err().kind(), crate::ErrorKind::Inference);
    }
}
