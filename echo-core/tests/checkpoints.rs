//! Runs that stop and go on, on real weights: the same to the last bit, and nothing is heard twice.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what they lack"
)]

mod support;

use std::sync::OnceLock;

use echo_core::audio::Audio;
use echo_core::{
    CancelToken, Channels, Checkpoint, ComputeType, Device, Diarization, Error, Mode, ModelStore,
    TranscribeOptions, Transcriber, Transcript,
};
use support::dialogue;

/// `base` with few windows at once, so that a minute has several batches.
fn transcriber() -> Option<&'static Transcriber> {
    static BASE: OnceLock<Option<Transcriber>> = OnceLock::new();
    BASE.get_or_init(|| {
        let Some(store) = std::env::var_os("ECHO_TEST_STORE") else {
            eprintln!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
            return None;
        };
        let store = ModelStore::at(store).offline(true);
        let builder = Transcriber::builder().model("base").model_store(store);
        builder.device(Device::Cpu).compute_type(ComputeType::F32).batch_size(3).build().ok()
    })
    .as_ref()
}

/// The dialogue several times, in pieces of a sentence or two.
fn source() -> Audio {
    let samples = Audio::load(dialogue()).unwrap().into_samples().repeat(3);
    Audio::from_samples(samples, 16_000).unwrap()
}

fn options() -> TranscribeOptions {
    let mut options = TranscribeOptions::default();
    options.decode.beam_size = 1;
    options.vad.max_chunk_seconds = 7.0;
    options.words = true;
    options
}

/// A run to its end, and its checkpoints as they would be kept.
fn whole(transcriber: &Transcriber, options: &TranscribeOptions) -> (Transcript, Vec<String>) {
    let mut parts = Vec::new();
    let request = transcriber.request(source()).options(options.clone());
    let request = request.on_checkpoint(|part| parts.push(serde_json::to_string(&part).unwrap()));
    (request.run().unwrap(), parts)
}

/// One checkpoint of several that were kept.
fn joined(parts: &[String]) -> Checkpoint {
    let mut parts = parts.iter().map(|part| serde_json::from_str::<Checkpoint>(part).unwrap());
    let mut all = parts.next().unwrap();
    for part in parts {
        assert!(all.append(part));
    }
    all
}

#[test]
fn a_run_goes_on_from_any_checkpoint_as_if_it_had_not_stopped() {
    let Some(transcriber) = transcriber() else { return };
    let options = options();
    let (transcript, parts) = whole(transcriber, &options);
    assert!(parts.len() >= 4, "{} batches", parts.len());
    let plain = transcriber.request(source()).options(options.clone()).run().unwrap();
    assert_eq!(plain, transcript, "telling what is done changes nothing");
    let json = serde_json::to_string(&transcript).unwrap();
    let mut reached = 0.0;
    for n_done in 1..=parts.len() {
        let checkpoint = joined(&parts[..n_done]);
        assert!(checkpoint.reached() >= reached && checkpoint.reached() <= transcript.duration);
        reached = checkpoint.reached();
        let mut later = Vec::new();
        let request = transcriber.request(source()).options(options.clone());
        let request = request.resume_from(checkpoint).on_refused(|reason| panic!("{reason}"));
        let request =
            request.on_checkpoint(|part| later.push(serde_json::to_string(&part).unwrap()));
        let mut segments = request.segments().unwrap();
        let yielded: Vec<_> = segments.by_ref().map(Result::unwrap).collect();
        let resumed = segments.finish().unwrap();
        assert_eq!(resumed, transcript, "after {n_done} of {} batches", parts.len());
        assert_eq!(serde_json::to_string(&resumed).unwrap(), json);
        assert_eq!(yielded, transcript.segments);
        // What was done is not done again, and the rest is told in the same parts.
        assert_eq!(later, parts[n_done..], "after {n_done} of {} batches", parts.len());
    }
    assert!(reached > 0.9 * transcript.duration, "{reached} of {}", transcript.duration);
}

#[test]
fn a_run_that_was_stopped_goes_on_with_its_speakers() {
    let Some(transcriber) = transcriber() else { return };
    let mut options = options();
    options.diarize = Some(Diarization::new());
    let request = transcriber.request(source()).options(options.clone());
    let transcript = match request.run() {
        Err(Error::Model { reason, .. }) => {
            eprintln!("skipped: {reason}");
            return;
        }
        outcome => outcome.unwrap(),
    };
    let token = CancelToken::new();
    let mut done: Option<Checkpoint> = None;
    let mut n_parts = 0;
    let request = transcriber.request(source()).options(options.clone()).cancel_with(token.clone());
    let request = request.on_checkpoint(|next| {
        match &mut done {
            Some(done) => assert!(done.append(next)),
            None => done = Some(next),
        }
        n_parts += 1;
        if n_parts == 2 {
            token.cancel();
        }
    });
    assert!(matches!(request.run(), Err(Error::Cancelled)));
    let request = transcriber.request(source()).options(options).resume_from(done.unwrap());
    assert_eq!(request.run().unwrap(), transcript);
}

#[test]
fn a_checkpoint_of_anything_else_is_refused() {
    let Some(transcriber) = transcriber() else { return };
    let mut part = None;
    let token = CancelToken::new();
    let request = transcriber.request(source()).options(options()).cancel_with(token.clone());
    let request = request.on_checkpoint(|next| {
        part = part.take().or(Some(next));
        token.cancel();
    });
    assert!(matches!(request.run(), Err(Error::Cancelled)));
    let part = part.unwrap();
    // What is refused is stopped: that it is done anew is shown by others.
    let is_refused = |audio: Audio, options: TranscribeOptions| {
        let (token, mut refused) = (CancelToken::new(), false);
        let request = transcriber.request(audio).options(options).cancel_with(token.clone());
        let request = request.resume_from(part.clone()).on_refused(|_| {
            refused = true;
            token.cancel();
        });
        let outcome = request.on_checkpoint(|_| token.cancel()).run();
        refused && matches!(outcome, Err(Error::Cancelled) | Ok(_))
    };
    assert!(!is_refused(source(), options()));
    let changed = |change: fn(&mut TranscribeOptions)| {
        let mut options = options();
        change(&mut options);
        options
    };
    assert!(is_refused(source(), changed(|options| options.decode.beam_size = 2)));
    assert!(is_refused(source(), changed(|options| options.sentences = true)));
    assert!(is_refused(source(), changed(|options| options.mode = Mode::Sequential)));
    assert!(is_refused(source(), changed(|options| options.channels = Channels::Each)));
    let quieter: Vec<f32> = source().samples().iter().map(|sample| sample * 0.999).collect();
    assert!(is_refused(Audio::from_samples(quieter, 16_000).unwrap(), options()));
    assert!(is_refused(Audio::from_samples(vec![0.0; 16_000], 16_000).unwrap(), options()));
}
