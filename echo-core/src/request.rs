//! One run: its source, its options, its progress and how to stop it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::audio::AudioSource;
use crate::error::{Error, Result};
use crate::language::Language;
use crate::options::{Align, Diarization, Task, TranscribeOptions};
use crate::pipeline::{Checkpoint, Engine, Event, Resume};
use crate::progress::{CancelToken, Progress};
use crate::transcript::{Segment, Transcript};

/// Segments decoded ahead of the reader of [`Segments`].
const READ_AHEAD: usize = 64;

/// One run of a [`Transcriber`](crate::Transcriber), described step by step.
///
/// ```no_run
/// use echo_core::Transcriber;
///
/// let transcriber = Transcriber::builder().build()?;
/// let transcript = transcriber
///     .request("interview.mp4")
///     .language("de".parse()?)
///     .on_progress(|progress| eprint!("\r{:3.0} %", progress.fraction * 100.0))
///     .run()?;
/// transcript.save("interview.srt")?;
/// # Ok::<(), echo_core::Error>(())
/// ```
#[must_use = "nothing happens before `run` or `segments`"]
pub struct Request<'a> {
    engine: Arc<Engine>,
    source: AudioSource,
    options: TranscribeOptions,
    resume: Resume,
    listeners: Listeners<'a>,
    cancel: CancelToken,
}

type OnRefused<'a> = Box<dyn FnMut(&str) + 'a>;

/// Who hears what of a run.
#[derive(Default)]
struct Listeners<'a> {
    progress: Option<Box<dyn FnMut(Progress) + 'a>>,
    checkpoint: Option<Box<dyn FnMut(Checkpoint) + 'a>>,
    refused: Option<OnRefused<'a>>,
}

impl Listeners<'_> {
    /// Tells an event to who wants to hear it; a segment is handed back.
    fn tell(&mut self, event: Event) -> Option<Segment> {
        match event {
            Event::Segment(segment) => return Some(segment),
            Event::Progress(progress) => {
                self.progress.iter_mut().for_each(|callback| callback(progress));
            }
            Event::Checkpoint(checkpoint) => {
                if let Some(callback) = &mut self.checkpoint {
                    callback(*checkpoint);
                }
            }
            Event::Refused(reason) => {
                self.refused.iter_mut().for_each(|callback| callback(reason));
            }
        }
        None
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("source", &self.source)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<'a> Request<'a> {
    pub(crate) fn new(engine: Arc<Engine>, source: AudioSource) -> Self {
        Self {
            engine,
            source,
            options: TranscribeOptions::default(),
            resume: Resume::default(),
            listeners: Listeners::default(),
            cancel: CancelToken::new(),
        }
    }

    /// Replaces every option.
    pub fn options(mut self, options: TranscribeOptions) -> Self {
        self.options = options;
        self
    }

    /// The language spoken; without it the language is detected.
    pub fn language(mut self, language: Language) -> Self {
        self.options.language = Some(language);
        self
    }

    /// Writes down an English translation.
    pub fn translate(mut self) -> Self {
        self.options.task = Task::Translate;
        self
    }

    /// Finds the words of every segment, with their times.
    pub fn words(mut self, words: bool) -> Self {
        self.options.words = words;
        self
    }

    /// How the times of words are found; asks for words, too.
    pub fn align(mut self, align: Align) -> Self {
        self.options.words = true;
        self.options.align = align;
        self
    }

    /// Context for the first window: names, spelling, style.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.options.decode.initial_prompt = Some(prompt.into());
        self
    }

    /// Tells speakers apart by their voices: words and segments say who speaks, and
    /// [`Transcript::turns`] when. Lazily yielded segments are without speakers, because those are
    /// known when all has been heard.
    pub fn diarize(mut self, diarization: Diarization) -> Self {
        self.options.diarize = Some(diarization);
        self
    }

    /// Called on this thread as the work goes on; may borrow what surrounds it.
    pub fn on_progress(mut self, callback: impl FnMut(Progress) + 'a) -> Self {
        self.listeners.progress = Some(Box::new(callback));
        self
    }

    /// Called on this thread after each batch of windows, with what it added to what is done: see
    /// [`Checkpoint`]. Never called in [`Mode::Sequential`](crate::Mode::Sequential), where a window
    /// depends on all before it, nor with [`Channels::Each`](crate::Channels::Each).
    pub fn on_checkpoint(mut self, callback: impl FnMut(Checkpoint) + 'a) -> Self {
        self.listeners.checkpoint = Some(Box::new(callback));
        self.resume.is_told = true;
        self
    }

    /// Goes on from where an earlier run with the same source, options and model stood. The result is
    /// the same to the last bit as that of a run without it, and the same segments are yielded.
    ///
    /// A checkpoint of anything else is refused, and all of the work is done.
    pub fn resume_from(mut self, checkpoint: Checkpoint) -> Self {
        self.resume.from = Some(checkpoint);
        self
    }

    /// Called on this thread if the checkpoint of [`resume_from`](Self::resume_from) is refused, with
    /// the reason, before the first segment.
    pub fn on_refused(mut self, callback: impl FnMut(&str) + 'a) -> Self {
        self.listeners.refused = Some(Box::new(callback));
        self
    }

    /// Stops the run when this token is cancelled.
    pub fn cancel_with(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// Does the whole work and returns the transcript.
    ///
    /// # Errors
    /// [`Error::Option`] if an option is out of range, [`Error::Audio`] or [`Error::Io`] if the
    /// source cannot be read, [`Error::Cancelled`] if the token was cancelled.
    pub fn run(self) -> Result<Transcript> {
        self.options.validate()?;
        let mut listeners = self.listeners;
        let mut events = |event: Event| {
            listeners.tell(event);
            Ok(())
        };
        self.engine.run(self.source, &self.options, self.resume, &mut events, &self.cancel)
    }

    /// Starts the work on a thread of its own and yields segments as they are decoded.
    ///
    /// Stop early by dropping the iterator: that cancels the work.
    ///
    /// ```no_run
    /// # let transcriber = echo_core::Transcriber::builder().build()?;
    /// for segment in transcriber.request("talk.mp3").segments()? {
    ///     println!("{}", segment?.text);
    /// }
    /// # Ok::<(), echo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`] if an option is out of range. Later errors come out of the iterator.
    pub fn segments(self) -> Result<Segments<'a>> {
        self.options.validate()?;
        let Self { engine, source, options, resume, listeners, cancel } = self;
        let cancel = cancel.child();
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let token = cancel.clone();
        let work = move || {
            let mut events =
                |event: Event| sender.send(Message::Event(event)).map_err(|_| Error::Cancelled);
            let outcome = engine.run(source, &options, resume, &mut events, &token);
            // Nobody listens after a drop, and then nobody needs the outcome either.
            let _ = sender.send(Message::Done(outcome));
        };
        let worker = std::thread::Builder::new()
            .name("echo-transcribe".to_owned())
            .spawn(work)
            .map_err(|error| Error::inference("starting a thread", error))?;
        Ok(Segments { receiver, cancel, listeners, worker: Some(worker), outcome: None })
    }
}

/// What the worker of [`Segments`] sends.
enum Message {
    Event(Event),
    Done(Result<Transcript>),
}

/// Segments as they are decoded, in order of time.
///
/// After an `Err` there is nothing more. [`finish`](Self::finish) does the rest of the work and
/// returns the whole transcript.
pub struct Segments<'a> {
    receiver: Receiver<Message>,
    cancel: CancelToken,
    listeners: Listeners<'a>,
    worker: Option<JoinHandle<()>>,
    outcome: Option<Result<Transcript>>,
}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments").finish_non_exhaustive()
    }
}

impl Segments<'_> {
    /// Does the rest of the work and returns the whole transcript, segments already yielded included.
    ///
    /// # Errors
    /// The error that ended the work, if it was not yielded before.
    pub fn finish(mut self) -> Result<Transcript> {
        for segment in self.by_ref() {
            segment?;
        }
        self.outcome.take().unwrap_or(Err(Error::Cancelled))
    }

    /// Waits for the next message; `None` after the last one.
    fn receive(&mut self) -> Option<Message> {
        if self.outcome.is_some() { None } else { self.receiver.recv().ok() }
    }
}

impl Iterator for Segments<'_> {
    type Item = Result<Segment>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.receive()? {
                Message::Event(event) => {
                    if let Some(segment) = self.listeners.tell(event) {
                        return Some(Ok(segment));
                    }
                }
                Message::Done(Ok(transcript)) => self.outcome = Some(Ok(transcript)),
                Message::Done(Err(error)) => {
                    self.outcome = Some(Err(Error::Cancelled));
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Drop for Segments<'_> {
    fn drop(&mut self) {
        self.cancel.cancel();
        // A worker that waits for room in the channel must be let go before it is joined.
        while self.receiver.try_recv().is_ok() {}
        let (_, closed) = sync_channel(0);
        self.receiver = closed;
        if let Some(worker) = self.worker.take() {
            // A panic in the worker was reported by its own thread.
            let _ = worker.join();
        }
    }
}
