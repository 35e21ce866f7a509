//! Words on real weights and recordings: there, in order, inside their segments, and of the same text.

mod support;

use std::path::{Path, PathBuf};

use echo_core::{Align, Error, Mode, TranscribeOptions, Transcriber, Transcript};
use echo_core::{Timing, Word};
use support::{base, dialogue, recordings};

/// Seconds of audio that are transcribed unless `ECHO_TEST_ALL` asks for every recording.
const SECONDS_OF_AUDIO: f64 = 120.0;

fn options(mode: Mode, align: Align) -> TranscribeOptions {
    let mut options = TranscribeOptions::default();
    options.mode = mode;
    options.words = true;
    options.align = align;
    options.decode.beam_size = 1;
    options
}

/// What is true of the words of every transcript.
fn check(transcript: &Transcript, what: &str) {
    let mut now = 0.0;
    for segment in &transcript.segments {
        assert!(!segment.words.is_empty(), "{what}: no words in {segment:?}");
        let text: String = segment.text.split_whitespace().collect();
        let words: String =
            segment.words.iter().flat_map(|word| word.text.split_whitespace()).collect();
        assert_eq!(words, text, "{what}");
        for word in &segment.words {
            assert!(word.start <= word.end, "{what}: {word:?}");
            assert!(now <= word.start, "{what}: {word:?} overlaps the word before it");
            assert!(segment.start <= word.start && word.end <= segment.end, "{what}: {segment:?}");
            assert!(word.end <= transcript.duration + 0.02, "{what}: {word:?}");
            assert!(word.probability.is_none_or(|p| (0.0..=1.0).contains(&p)), "{what}: {word:?}");
            now = word.end;
        }
    }
}

fn share_of(words: &[&Word], timing: Timing) -> f64 {
    words.iter().filter(|word| word.timing == timing).count() as f64 / words.len() as f64
}

#[test]
fn words_change_no_text_and_lie_in_their_segments() {
    let Some(transcriber) = base() else { return };
    for mode in [Mode::Batched, Mode::Sequential] {
        let mut plain = options(mode, Align::Auto);
        plain.words = false;
        let plain = transcriber.request(dialogue()).options(plain).run().unwrap();
        assert!(plain.words().next().is_none());
        for align in [Align::Auto, Align::Attention, Align::None] {
            let request = transcriber.request(dialogue()).options(options(mode, align));
            let transcript = request.run().unwrap();
            assert_eq!(transcript.text(), plain.text(), "{mode:?} {align:?}");
            check(&transcript, "dialogue");
            let words: Vec<&Word> = transcript.words().collect();
            let timing =
                if align == Align::None { Timing::Interpolated } else { Timing::Attention };
            assert_eq!(share_of(&words, timing), 1.0, "{mode:?} {align:?}");
        }
    }
}

#[test]
fn streamed_segments_have_their_words() {
    let Some(transcriber) = base() else { return };
    let request =
        || transcriber.request(dialogue()).options(options(Mode::Batched, Align::Auto)).words(true);
    let whole = request().run().unwrap();
    let segments: Vec<_> = request().segments().unwrap().map(Result::unwrap).collect();
    assert_eq!(segments, whole.segments);
    assert!(segments.iter().all(|segment| !segment.words.is_empty()));
    let sources = [dialogue(), dialogue()];
    let many = transcriber.transcribe_many(sources, options(Mode::Batched, Align::Auto)).unwrap();
    for (_, transcript) in many {
        let transcript = transcript.unwrap();
        check(&transcript, "many");
        assert_eq!(transcript.text(), whole.text());
    }
}

/// Recordings below `asr/`, every so many of them, up to some seconds.
fn some_recordings(folder: &Path) -> Vec<PathBuf> {
    let manifest = std::fs::read(folder.join("manifest.json")).expect("a manifest");
    let manifest: Vec<serde_json::Value> =
        serde_json::from_slice(&manifest).expect("a list of recordings");
    let clips = manifest.iter().filter_map(|entry| {
        let file = entry["file"].as_str().filter(|file| file.starts_with("asr/"))?;
        Some((folder.join(file), entry["seconds"].as_f64()?))
    });
    let clips: Vec<(PathBuf, f64)> = clips.collect();
    let all: f64 = clips.iter().map(|(_, seconds)| seconds).sum();
    if std::env::var_os("ECHO_TEST_ALL").is_some() {
        return clips.into_iter().map(|(file, _)| file).collect();
    }
    let mut left = SECONDS_OF_AUDIO;
    let step = (all / SECONDS_OF_AUDIO / 4.0).ceil().max(1.0) as usize;
    let short = clips.into_iter().filter(|(_, seconds)| *seconds < 30.0).step_by(step);
    let fits = |(_, seconds): &(PathBuf, f64)| {
        left -= seconds;
        left > 0.0
    };
    short.take_while(fits).map(|(file, _)| file).collect()
}

#[test]
fn every_recording_has_ordered_words() {
    let (Some(transcriber), Some(folder)) = (base(), recordings()) else { return };
    for file in some_recordings(&folder) {
        let what = file.display().to_string();
        let request = transcriber.request(file).options(options(Mode::Batched, Align::Auto));
        check(&request.run().unwrap(), &what);
    }
}

#[test]
fn acoustic_models_that_cannot_be_used_say_why() {
    let Some(transcriber) = base() else { return };
    let failed = |options: TranscribeOptions| {
        transcriber.request(dialogue()).options(options).run().unwrap_err()
    };
    let error = failed(options(Mode::Batched, Align::Ctc));
    assert!(matches!(error, Error::Model { .. }), "{error}");
    assert!(error.to_string().contains("wav2vec2-base-960h"), "{error}");
    let mut translated = options(Mode::Batched, Align::Ctc);
    translated.task = echo_core::Task::Translate;
    assert!(matches!(failed(translated), Error::Option { option: "align", .. }));
    let wrong = Transcriber::builder()
        .model(std::env::var("ECHO_TEST_STORE").unwrap() + "/base")
        .aligner("/nowhere/at all")
        .build();
    assert!(matches!(wrong, Err(Error::Model { .. })), "{wrong:?}");
}
