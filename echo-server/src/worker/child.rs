//! The worker process: loads the model, runs jobs, tells how far it is.
//!
//! The main thread transcribes; one thread hears orders, so that a cancellation reaches the decoder in
//! the middle of a step; one thread gives signs of life.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use echo_core::audio::TooLong;
use echo_core::{
    Audio, AudioOptions, AudioSource, CancelToken, Checkpoint, Error, ErrorKind, ModelStore, Stage,
    Transcriber, Transcript,
};
use serde_json::value::{RawValue, to_raw_value};

use super::reporter::{REPORT_INTERVAL, Reporter, joined};
use super::{Event, Hello, Order, listen};
use crate::job::{ChannelUse, JobError, JobOptions};
use crate::waveform::Waveform;

/// The share of a run that decoding is, as echo-core counts it.
const DECODING_SHARE: f64 = 0.02;

/// Runs the worker until its server is gone.
///
/// # Errors
/// If the first line is no greeting or the model cannot be loaded; the server was told.
pub fn run() -> Result<(), String> {
    let mut lines = io::stdin().lock().lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let Ok(Order::Hello(hello)) = serde_json::from_str(&first) else {
        return Err("expected a greeting on standard input: `serve` starts workers".to_owned());
    };
    drop(lines);
    limit_memory(hello.memory_bytes);
    let (jobs, orders) = channel();
    std::thread::spawn(move || hear_orders(&jobs));
    let transcriber = match load(&hello) {
        Ok(transcriber) => transcriber,
        Err(error) => {
            tell(&Event::Unready { message: error.describe() });
            return Err(error.describe());
        }
    };
    tell(&Event::Ready {
        device: transcriber.device().to_string(),
        is_multilingual: transcriber.is_multilingual(),
    });
    let heartbeat = Duration::from_millis(hello.heartbeat_ms.max(10));
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(heartbeat);
            tell(&Event::Heartbeat);
        }
    });
    work(&transcriber, &orders);
    Ok(())
}

/// A job as the main thread gets it.
pub(super) struct Task {
    /// What to do.
    pub(super) order: Order,
    /// Tells to stop doing it.
    pub(super) cancel: CancelToken,
}

/// Hears orders; exits the process when the server is gone, whatever the decoder is doing.
#[expect(clippy::exit, reason = "the decoder cannot be waited for: nobody wants what it makes")]
fn hear_orders(jobs: &Sender<Task>) {
    let mut current = CancelToken::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Order::Cancel) => current.cancel(),
            Ok(Order::Hello(_)) | Err(_) => tracing::error!("an order was not understood"),
            Ok(order) => {
                if matches!(order, Order::Run { .. } | Order::Live(_)) {
                    current = CancelToken::new();
                }
                if jobs.send(Task { order, cancel: current.clone() }).is_err() {
                    break;
                }
            }
        }
    }
    std::process::exit(0);
}

fn work(transcriber: &Transcriber, orders: &Receiver<Task>) {
    while let Ok(Task { order, cancel }) = orders.recv() {
        let (path, options, max_audio_seconds, reporter, done) = match order {
            Order::Run { path, options, max_audio_seconds, checkpoint_seconds, done } => {
                let from = joined(&done);
                let mut reporter = Reporter::new(checkpoint_seconds, from.as_ref());
                if from.is_none() && !done.is_empty() {
                    reporter.restart("its checkpoints cannot be read");
                }
                (path, options, max_audio_seconds, reporter, from)
            }
            Order::Live(session) => {
                listen::attend(transcriber, &session, &cancel, orders);
                continue;
            }
            // The end of a session that was over already.
            _ => continue,
        };
        let started = Instant::now();
        // Enforced while it is decoded: a small file may stand for days of silence.
        let source = || AudioSource::from(path.clone()).max_seconds(max_audio_seconds);
        let run = decode(&source, &options, &cancel)
            .and_then(|source| transcribe(transcriber, source, &options, done, reporter, &cancel));
        let event = match run {
            Ok(transcript) => match to_raw_value(&transcript) {
                Ok(result) => {
                    let busy_seconds = started.elapsed().as_secs_f64();
                    Event::Completed { result, busy_seconds }
                }
                Err(error) => {
                    Event::Failed { error: JobError::passing("engine_failed", error.to_string()) }
                }
            },
            Err(Error::Cancelled) => Event::Cancelled,
            Err(error) if TooLong::is_why(&error) => {
                let message = format!("more than {max_audio_seconds:.0} s of sound");
                Event::Failed { error: JobError::lasting("audio_too_long", message) }
            }
            Err(error) => Event::Failed { error: job_error(&error) },
        };
        tell(&event);
    }
}

fn load(hello: &Hello) -> Result<Transcriber, Error> {
    let mut builder = Transcriber::builder()
        .model(&hello.model)
        .diarization_model(&hello.diarization_model)
        .device(hello.device.parse()?)
        .compute_type(hello.compute_type.parse()?);
    if let Some(folder) = &hello.model_dir {
        builder = builder.model_store(ModelStore::at(folder));
    }
    if hello.threads > 0 {
        builder = builder.threads(hello.threads);
    }
    builder.build()
}

/// Decodes here what the run would decode, to tell what it looks like.
fn decode(
    source: &dyn Fn() -> AudioSource,
    options: &JobOptions,
    cancel: &CancelToken,
) -> Result<AudioSource, Error> {
    let mut told = Instant::now();
    let mut progress = |fraction: f64| {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if told.elapsed() >= REPORT_INTERVAL {
            told = Instant::now();
            let (progress, stage) = (fraction * DECODING_SHARE, Stage::Decoding.as_str());
            let (stage, segments) = (stage.to_owned(), no_segments());
            let (first_segment, checkpoint) = (None, None);
            tell(&Event::Progress { progress, stage, segments, first_segment, checkpoint });
        }
        Ok(())
    };
    let mut channels = Audio::load_with(source(), &AudioOptions::default(), &mut progress)?;
    let audio = channels.pop().unwrap_or_default();
    tell(&Event::Waveform(Waveform::of(audio.samples(), audio.duration())));
    // A run of each channel by itself decodes them once more: what is drawn is the mix of them.
    Ok(if options.channels == ChannelUse::Split { source() } else { audio.into() })
}

fn no_segments() -> Box<RawValue> {
    to_raw_value(&[(); 0]).unwrap_or_default()
}

/// Does a job from where earlier attempts left it, and tells of it all the while.
fn transcribe(
    transcriber: &Transcriber,
    source: AudioSource,
    options: &JobOptions,
    done: Option<Checkpoint>,
    reporter: Reporter,
    cancel: &CancelToken,
) -> Result<Transcript, Error> {
    let has_checkpoints = reporter.has_checkpoints();
    let reporter = RefCell::new(reporter);
    let mut request = transcriber
        .request(source)
        .options(options.to_core())
        .cancel_with(cancel.clone())
        .on_progress(|progress| reporter.borrow_mut().progress(progress));
    if has_checkpoints {
        request = request.on_checkpoint(|next| reporter.borrow_mut().checkpoint(next));
    }
    if let Some(done) = done {
        request = request.resume_from(done);
        request = request.on_refused(|reason| reporter.borrow_mut().restart(reason));
    }
    let mut segments = request.segments()?;
    for segment in segments.by_ref() {
        match segment {
            Ok(segment) => reporter.borrow_mut().segment(segment),
            Err(error) => {
                // Whoever tries again shall have all that is done.
                reporter.borrow_mut().tell_done();
                return Err(error);
            }
        }
    }
    segments.finish()
}

/// What a client is told about an error of the library; paths of this machine are left out.
fn job_error(error: &Error) -> JobError {
    match error.kind() {
        ErrorKind::Audio => {
            let reason = match error {
                Error::Audio { reason, .. } => reason.clone(),
                _ => "the sound cannot be read".to_owned(),
            };
            JobError::lasting("decode_failed", reason)
        }
        ErrorKind::Option => JobError::lasting("invalid_option", error.to_string()),
        ErrorKind::Model => JobError::passing("model_load_failed", error.to_string()),
        ErrorKind::Io => JobError::passing("engine_failed", "a file could not be read"),
        _ => JobError::passing("engine_failed", error.to_string()),
    }
}

/// Writes one line. A server that is gone cannot be told; the other thread ends the process.
pub(super) fn tell(event: &Event) {
    static STDOUT: Mutex<()> = Mutex::new(());
    let Ok(mut line) = serde_json::to_vec(event) else { return };
    line.push(b'\n');
    let turn = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    drop(turn);
}

/// No core dumps of people's recordings, and no more memory than allowed.
fn limit_memory(bytes: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    let mut limits = vec![(Resource::Core, limit(0))];
    if bytes > 0 {
        limits.push((Resource::As, limit(bytes)));
    }
    for (resource, limit) in limits {
        if let Err(error) = setrlimit(resource, limit) {
            tracing::warn!(%error, ?resource, "a limit of the worker could not be set");
        }
    }
}
