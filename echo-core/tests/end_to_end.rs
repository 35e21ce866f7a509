//! The whole way on real weights: a recording in, a transcript out.

mod support;

use std::time::{Duration, Instant};

use echo_core::audio::Audio;
use echo_core::{CancelToken, Diarization, Error, Mode, TranscribeOptions, Transcriber};
use support::{DIALOGUE, base, dialogue, edits, words};

fn options(mode: Mode, beam_size: usize) -> TranscribeOptions {
    let mut options = TranscribeOptions::default();
    options.mode = mode;
    options.decode.beam_size = beam_size;
    options
}

#[test]
fn the_dialogue_is_understood_in_every_mode() {
    let Some(transcriber) = base() else { return };
    let reference = words(DIALOGUE);
    for (mode, beam_size) in
        [(Mode::Batched, 1), (Mode::Batched, 5), (Mode::Sequential, 1), (Mode::Sequential, 5)]
    {
        let transcript =
            transcriber.request(dialogue()).options(options(mode, beam_size)).run().unwrap();
        let text = transcript.text();
        let wrong = edits(&reference, &words(&text));
        assert!(wrong <= reference.len() / 20, "{mode:?}, beam {beam_size}: {wrong} in {text}");
        assert_eq!(transcript.language.unwrap().code(), "en");
        assert!((transcript.duration - 30.28).abs() < 0.02, "{}", transcript.duration);
        assert!(transcript.segments.len() >= 4, "sentences are told apart: {text}");
        let mut before = 0.0;
        for segment in &transcript.segments {
            assert!(before <= segment.start && segment.start < segment.end, "{segment:?}");
            assert!(segment.end <= transcript.duration + 0.02, "{segment:?}");
            before = segment.start;
        }
    }
}

#[test]
fn ten_threads_share_one_transcriber() {
    let Some(transcriber) = base() else { return };
    let run = |transcriber: &Transcriber| {
        let request = transcriber.request(dialogue()).options(options(Mode::Batched, 1));
        request.run().unwrap().text()
    };
    let alone = run(transcriber);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| run(transcriber))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}

#[test]
fn segments_come_one_by_one_and_finish_with_the_same_transcript() {
    let Some(transcriber) = base() else { return };
    let whole = transcriber.request(dialogue()).run().unwrap();
    let mut segments = transcriber.request(dialogue()).segments().unwrap();
    let first = segments.next().unwrap().unwrap();
    assert_eq!(first, whole.segments[0]);
    assert_eq!(segments.finish().unwrap(), whole);
}

#[test]
fn progress_never_falls_and_ends_at_one() {
    let Some(transcriber) = base() else { return };
    let mut fractions = Vec::new();
    let request = transcriber.request(dialogue());
    request.on_progress(|progress| fractions.push(progress.fraction)).run().unwrap();
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert_eq!(fractions.last(), Some(&1.0));
    assert!(fractions.len() > 4, "{fractions:?}");
}

#[test]
fn cancelling_ends_a_run_quickly() {
    let Some(transcriber) = base() else { return };
    let minutes = Audio::load(dialogue()).unwrap().into_samples().repeat(20);
    for mode in [Mode::Batched, Mode::Sequential] {
        for wait_ms in [50, 1200, 2300] {
            let token = CancelToken::new();
            let copy = token.clone();
            let audio = Audio::from_samples(minutes.clone(), 16_000).unwrap();
            let cancelled_at = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(wait_ms));
                copy.cancel();
                Instant::now()
            });
            let request = transcriber.request(audio).options(options(mode, 5));
            let outcome = request.cancel_with(token).run();
            let ended_at = Instant::now();
            assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
            let delay = ended_at.saturating_duration_since(cancelled_at.join().unwrap());
            println!("{mode:?}, cancelled after {wait_ms} ms: {delay:?}");
            // 100 ms on an idle machine; tests share theirs. The whole run takes far longer than this.
            assert!(delay < Duration::from_secs(3), "{mode:?} after {wait_ms} ms: {delay:?}");
        }
    }
}

#[test]
fn silence_and_nothing_give_an_empty_transcript() {
    let Some(transcriber) = base() else { return };
    for seconds in [0, 1, 600] {
        for mode in [Mode::Batched, Mode::Sequential] {
            let audio = Audio::from_samples(vec![0.0; seconds * 16_000], 16_000).unwrap();
            let request = transcriber.request(audio).options(options(mode, 1));
            let transcript = request.run().unwrap();
            assert_eq!(transcript.text(), "", "{seconds} s of silence, {mode:?}");
            assert_eq!(transcript.duration, seconds as f64);
        }
    }
}

#[test]
fn many_files_give_what_each_gives_alone_and_a_bad_one_costs_itself() {
    let Some(transcriber) = base() else { return };
    let alone = transcriber.request(dialogue()).options(options(Mode::Batched, 1)).run().unwrap();
    let missing = dialogue().with_file_name("missing.wav");
    let sources = [dialogue(), missing, dialogue()];
    let results: Vec<_> =
        transcriber.transcribe_many(sources, options(Mode::Batched, 1)).unwrap().collect();
    assert_eq!(results.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(results[0].1.as_ref().unwrap().text(), alone.text());
    assert!(matches!(results[1].1, Err(Error::Io { .. })), "{:?}", results[1].1);
    assert_eq!(results[2].1.as_ref().unwrap().text(), alone.text());
}

#[test]
fn clips_hear_only_what_was_asked_for() {
    let Some(transcriber) = base() else { return };
    for mode in [Mode::Batched, Mode::Sequential] {
        let mut options = options(mode, 1);
        options.clips = vec![echo_core::Region::new(14.0, 20.0)];
        let transcript = transcriber.request(dialogue()).options(options).run().unwrap();
        let text = transcript.text().to_lowercase();
        assert!(text.contains("gardens"), "{mode:?}: {text}");
        assert!(!text.contains("honey") && !text.contains("morning"), "{mode:?}: {text}");
        for segment in &transcript.segments {
            assert!(segment.start >= 13.9 && segment.end <= 20.1, "{segment:?}");
        }
    }
}

#[test]
fn the_language_is_detected_with_its_probability() {
    let Some(transcriber) = base() else { return };
    let table = transcriber.detect_language(dialogue()).unwrap();
    assert_eq!(table[0].0.code(), "en");
    assert!(table[0].1 > 0.8);
    let sum: f32 = table.iter().map(|(_, probability)| probability).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
}

#[test]
fn speakers_of_the_dialogue_take_turns() {
    let Some(transcriber) = base() else { return };
    let request = transcriber.request(dialogue()).diarize(Diarization::new());
    let transcript = match request.run() {
        Err(Error::Model { reason, .. }) => {
            eprintln!("skipped: {reason}");
            return;
        }
        outcome => outcome.unwrap(),
    };
    let names: Vec<&str> = transcript.speakers.iter().map(|speaker| speaker.0.as_str()).collect();
    assert_eq!(names, ["SPEAKER_00", "SPEAKER_01"]);
    assert_eq!(transcript.speaker_embeddings.len(), 2);
    let mut said: Vec<(String, String)> = Vec::new();
    for segment in &transcript.segments {
        let speaker = segment.speaker.as_ref().unwrap().to_string();
        assert!(segment.words.iter().all(|word| word.speaker == segment.speaker));
        match said.last_mut().filter(|(last, _)| *last == speaker) {
            Some((_, text)) => text.push_str(&segment.text),
            None => said.push((speaker, segment.text.clone())),
        }
    }
    // Question and answer in turn, seven times.
    assert_eq!(said.len(), 7, "{said:?}");
    assert!(said[0].1.contains("welcome") && said[1].1.contains("bees"));
    assert!(said[6].0 == "SPEAKER_00" && said[6].1.contains("Thank you"));
    assert_eq!(transcript.turns.len(), 7, "{:?}", transcript.turns);
}

#[test]
fn speakers_that_cannot_be_are_refused_or_said_to_be_missing() {
    let Some(transcriber) = base() else { return };
    let run = |samples: Vec<f32>, diarization: Diarization| {
        let audio = Audio::from_samples(samples, 16_000).unwrap();
        transcriber.request(audio).diarize(diarization).run()
    };
    for (least, most) in [(0, 0), (5, 2), (1, 0)] {
        let mut diarization = Diarization::new();
        (diarization.min_speakers, diarization.max_speakers) = (Some(least), Some(most));
        let error = run(vec![0.0; 16_000], diarization).unwrap_err();
        assert!(matches!(error, Error::Option { option: "speakers", .. }), "{error}");
    }
    let silent = match run(vec![0.0; 320_000], Diarization::new().speakers(3..=3)) {
        Err(Error::Model { reason, .. }) => {
            eprintln!("skipped: {reason}");
            return;
        }
        outcome => outcome.unwrap(),
    };
    assert!(silent.segments.is_empty() && silent.turns.is_empty());
    assert_eq!(silent.warnings, ["3 speakers were asked for, 0 were heard"]);
    let dialogue = Audio::load(dialogue()).unwrap();
    // More speakers than could have spoken, and hardly anything to hear.
    for (seconds, most) in [(0.2, 1), (8.0, 9)] {
        let start = 16_000;
        let end = start + (seconds * 16_000.0) as usize;
        let samples = dialogue.samples()[start..end].to_vec();
        let transcript = run(samples, Diarization::new().speakers(9..=9)).unwrap();
        let n_speakers = transcript.speakers.len();
        assert!(n_speakers <= most, "{n_speakers} speakers in {seconds} s");
        if n_speakers < 9 {
            let warning = format!("9 speakers were asked for, {n_speakers} were heard");
            assert_eq!(transcript.warnings, [warning]);
        }
        assert!(transcript.turns.iter().all(|turn| turn.end <= seconds + 1e-3));
    }
}
