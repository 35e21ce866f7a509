//! Word times on made-up attention, and beside openai-whisper with the real weights of `base`.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::kernels::select::Choice;
use crate::models;
use crate::threads::Threads;
use crate::transcript::Decoding;
use crate::whisper::tokenizer::small;
use crate::{ComputeType, Device};

fn segment(tokenizer: &Tokenizer, text: &str) -> Segment {
    let mut segment = Segment::new(0.0, 10.0, text.trim());
    let tokens = tokenizer.encode(text).unwrap();
    segment.decoding = Some(Decoding { tokens, ..Decoding::default() });
    segment
}

/// Attention that looks at frames `looks[token]` while it predicts each token and then the end.
fn fit(looks: &[std::ops::Range<usize>], n_frames: usize) -> Fit {
    let mut values = vec![-0.1; looks.len() * n_frames];
    for (row, look) in values.chunks_mut(n_frames).zip(looks) {
        row[look.clone()].fill(1.0);
    }
    Fit { n_frames, values }
}

/// Words of " hello world." with one token a letter or so, each 10 frames long from frame 50 on.
fn placed(speech: &[Region], shift: impl Fn(usize) -> usize) -> (Segment, Vec<(String, f64, f64)>) {
    placed_in(Excerpt::whole(Region::new(100.0, 110.0)), speech, shift)
}

/// The same in what a window hears.
fn placed_in(
    excerpt: Excerpt,
    speech: &[Region],
    shift: impl Fn(usize) -> usize,
) -> (Segment, Vec<(String, f64, f64)>) {
    let tokenizer = small();
    let mut segments = [segment(&tokenizer, " lo world.")];
    let tokens = segments[0].decoding.as_ref().unwrap().tokens.clone();
    let looks: Vec<_> = (0..=tokens.len()).map(|t| shift(t)..shift(t + 1)).collect();
    let mut window = Window {
        index: 0,
        limit: excerpt.span().end,
        excerpt,
        language: Language::ENGLISH,
        samples: &[],
        speech,
        segments: &mut segments,
        logprobs: vec![vec![0.5_f32.ln(); tokens.len()]],
    };
    let told = Told { tokens: Vec::new(), predictions: 0..tokens.len() + 1 };
    place(&tokenizer, &mut window, &told, &fit(&looks, 500));
    let [segment] = segments;
    let words = segment.words.iter().map(|w| (w.text.clone(), w.start, w.end)).collect();
    (segment, words)
}

#[test]
fn words_behind_a_silence_that_was_left_out_lie_behind_it() {
    let sounds = [Region::new(100.0, 101.15), Region::new(104.6, 114.0)];
    let excerpt = Excerpt::new(Region::new(100.0, 114.0), &sounds);
    // " lo" is before the join at 1.4 s of the window, " world." behind it.
    let (segment, words) = placed_in(excerpt, &sounds, |token| 50 + 10 * token);
    assert_eq!(words, [("lo".into(), 101.24, 101.4), ("world.".into(), 104.54, 105.44)]);
    assert_eq!((segment.start, segment.end), (101.24, 105.44));
}

#[test]
fn words_lie_where_attention_looks() {
    // Tokens: " ", "lo", " w", "o", "r", "l", "d", ".".
    let (segment, words) = placed(&[], |token| 50 + 10 * token);
    assert_eq!(words, [("lo".into(), 101.24, 101.44), ("world.".into(), 101.44, 102.44)]);
    assert_eq!((segment.start, segment.end), (101.24, 102.44));
    assert!(segment.words.iter().all(|word| word.timing == Timing::Attention));
    assert!((segment.words[0].probability.unwrap() - 0.5).abs() < 1e-6);
}

#[test]
fn a_pause_belongs_to_no_word() {
    // Two seconds of silence between the words, which attention gives to the second.
    let shift = |token| if token <= 2 { 50 + 10 * token } else { 150 + 10 * token };
    let (_, with_pause) = placed(&[], shift);
    let speech = [Region::new(101.0, 101.2), Region::new(103.5, 105.0)];
    let (_, words) = placed(&speech, shift);
    assert!(with_pause[1].1 < 103.0);
    assert_eq!(words[0].2, 101.44);
    assert_eq!(words[1].1, 103.44);
}

#[test]
fn frames_without_speech_are_left_out() {
    let span = Excerpt::whole(Region::new(10.0, 11.0));
    let speech = [Region::new(0.0, 9.9), Region::new(10.6, 10.615), Region::new(20.0, 21.0)];
    let frames = speech_frames(&span, &speech, 50);
    assert_eq!(frames, (0..5).chain(25..41).collect::<Vec<_>>());
    assert_eq!(speech_frames(&span, &[], 50).len(), 50);
    assert_eq!(speech_frames(&span, &[Region::new(0.0, 5.0)], 50).len(), 50);
}

#[derive(Deserialize)]
struct Golden {
    clips: std::collections::BTreeMap<String, Clip>,
}

#[derive(Deserialize)]
struct Clip {
    file: String,
    language: Language,
    tokens: Vec<u32>,
    words: Vec<(String, f64, f64)>,
}

/// `base` and the folder of recordings, where both are at hand.
fn base() -> Option<(Recognizer, std::path::PathBuf)> {
    let folders = ["ECHO_TEST_STORE", "ECHO_TEST_AUDIO"].map(std::env::var_os);
    let [Some(store), Some(audio)] = folders else {
        println!("skipped: set ECHO_TEST_STORE and ECHO_TEST_AUDIO");
        return None;
    };
    let checkpoint = models::open(&Path::new(&store).join("base")).ok()?;
    let choice = Choice { device: Device::Cpu, compute: ComputeType::F32 };
    Some((Recognizer::load(&checkpoint, choice, None, &Threads::default()).unwrap(), audio.into()))
}

#[test]
fn tokens_begin_where_the_reference_says() {
    let Some((recognizer, folder)) = base() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/alignment/words_base.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tokenizer = &recognizer.tokenizer;
    for clip in golden.clips.values() {
        let audio = crate::audio::Audio::load(folder.join(&clip.file).as_path()).unwrap();
        let samples = audio.samples();
        let mel = recognizer.log_mel.window(samples, 0, samples.len() / 160, None);
        let cancel = CancelToken::new();
        let encoded = recognizer.network.encode(vec![mel], &cancel).unwrap();
        let mut segments = [Segment::new(0.0, audio.duration(), "")];
        let tokens = clip.tokens.clone();
        segments[0].decoding = Some(Decoding { tokens, ..Decoding::default() });
        let window = Window {
            index: 0,
            excerpt: Excerpt::whole(Region::new(0.0, audio.duration())),
            limit: audio.duration(),
            language: clip.language,
            samples,
            speech: &[],
            segments: &mut segments,
            logprobs: Vec::new(),
        };
        let told = Told::new(tokenizer, &window, Task::Transcribe, 448);
        let mut session = recognizer.network.session(&encoded, &[0]).unwrap();
        let attention = session.alignment(&[&told.tokens]).unwrap();
        let fit = Fit::new(&attention[0], told.tokens.len(), FRAMES, n_frames(&window.excerpt));
        let frames: Vec<usize> = (0..fit.n_frames).collect();
        let onsets = fit.select(told.predictions.clone(), &frames).onsets();
        let (text, pieces) = tokenizer.pieces(&clip.tokens);
        let (mut byte, mut worst) = (0, 0.0_f64);
        for (word, start, end) in &clip.words {
            let first = pieces.iter().find(|piece| piece.bytes.start == byte).unwrap();
            byte += word.len();
            let last = pieces.iter().find(|piece| piece.bytes.end == byte).unwrap();
            let ours = [onsets[first.tokens.start], onsets[last.tokens.end]];
            for (ours, theirs) in ours.into_iter().zip([start, end]) {
                worst = worst.max((ours as f64 * SECONDS_PER_FRAME - theirs).abs());
            }
        }
        assert_eq!(byte, text.len());
        // One frame: resamplers differ, and a path may turn a frame earlier.
        assert!(worst < 0.021, "{}: {worst} s", clip.file);
    }
}
