//! Loading a model and starting work on it.

use echo_core::formats::Json;
use echo_core::{
    CancelToken, Download, Error, ModelStore, Request, Result, TranscribeOptions, Transcriber,
    Transcript,
};
use napi_derive::napi;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::event::{Event, described, to_json};
use crate::job::{Events, Job};
use crate::source::{Input, SourceObject};

/// A loaded model.
#[napi]
#[derive(Debug)]
pub struct NativeTranscriber {
    /// `None` after it was closed, for the collector is in no hurry to free a model.
    transcriber: Option<Transcriber>,
}

/// What loading takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LoadOptions {
    model: Option<String>,
    device: Option<String>,
    compute_type: Option<String>,
    threads: Option<usize>,
    batch_size: Option<usize>,
    aligner: Option<String>,
    diarization_model: Option<String>,
    cache: Option<String>,
    offline: Option<bool>,
}

/// Loads a model; events `download` and, with the model, `done`.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn load(options_json: String) -> napi::Result<Job> {
    let cancel = CancelToken::new();
    Job::start(cancel.clone(), move |events| {
        let options: LoadOptions = from_json(&options_json)?;
        let store = store(options.cache.as_deref(), options.offline);
        let mut builder = Transcriber::builder().model_store(store).cancel_with(cancel);
        if let Some(model) = options.model {
            builder = builder.model(model);
        }
        if let Some(device) = options.device {
            builder = builder.device(device.parse()?);
        }
        if let Some(compute_type) = options.compute_type {
            builder = builder.compute_type(compute_type.parse()?);
        }
        if let Some(threads) = options.threads {
            builder = builder.threads(threads);
        }
        if let Some(windows) = options.batch_size {
            builder = builder.batch_size(windows);
        }
        if let Some(aligner) = options.aligner {
            builder = builder.aligner(aligner);
        }
        if let Some(model) = options.diarization_model {
            builder = builder.diarization_model(model);
        }
        let (report, reports) = std::sync::mpsc::channel();
        // The callback outlives this frame by its type, so it gets its own end of a channel.
        let loading = std::thread::scope(|scope| {
            let builder = builder.on_download(move |download| {
                let _ = report.send(download.clone());
            });
            let loading = scope.spawn(|| builder.build());
            for download in reports {
                events.send(seen(&download))?;
            }
            let crash = || "its thread panicked".into();
            loading.join().map_err(|_| Error::Inference { context: "loading", source: crash() })?
        });
        events.send(Event::loaded(loading?))
    })
}

/// A report of a download.
pub(crate) fn seen(download: &Download) -> Event {
    Event::new(
        "download",
        &json!({
            "model": download.model,
            "source": download.source,
            "file": download.file,
            "done_bytes": download.done_bytes,
            "total_bytes": download.total_bytes,
        }),
    )
}

/// The store in a folder, or the user's; online unless told or the environment says so.
pub(crate) fn store(cache: Option<&str>, offline: Option<bool>) -> ModelStore {
    let store = cache.map_or_else(ModelStore::default, ModelStore::at);
    match offline {
        Some(offline) => store.offline(offline),
        None => store,
    }
}

/// Options as JSON wrote them.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::Option {
        option: "options",
        value: error.to_string(),
        expected: "an object of options",
    })
}

/// Options from names and values, all checked.
fn options(json: &str) -> Result<TranscribeOptions> {
    let mut options = TranscribeOptions::default();
    for (name, value) in from_json::<Map<String, Value>>(json)? {
        options.set(&name, value)?;
    }
    options.validate()?;
    Ok(options)
}

impl NativeTranscriber {
    pub(crate) fn new(transcriber: Transcriber) -> Self {
        Self { transcriber: Some(transcriber) }
    }

    fn get(&self) -> napi::Result<&Transcriber> {
        let closed = || napi::Error::from_reason("the transcriber is closed");
        self.transcriber.as_ref().ok_or_else(closed)
    }

    fn run(
        &self,
        source: SourceObject,
        options_json: String,
        with_progress: bool,
    ) -> napi::Result<Run> {
        let (transcriber, input) = (self.get()?.clone(), source.into());
        Ok(Run { transcriber, input, options_json, cancel: CancelToken::new(), with_progress })
    }
}

#[napi]
impl NativeTranscriber {
    /// Transcribes; events `progress` if wanted, and `done` with the transcript.
    ///
    /// # Errors
    /// If it was closed, or no thread can be started.
    #[napi]
    pub fn transcribe(
        &self,
        source: SourceObject,
        options_json: String,
        with_progress: bool,
    ) -> napi::Result<Job> {
        let run = self.run(source, options_json, with_progress)?;
        Job::start(run.cancel.clone(), move |events| {
            let transcript = run.request(events)?.run()?;
            events.send(Event::written("done", json_of(&transcript)?))
        })
    }

    /// Transcribes; events `progress` if wanted, `segment`, and `done` with the transcript.
    ///
    /// # Errors
    /// If it was closed, or no thread can be started.
    #[napi]
    pub fn segments(
        &self,
        source: SourceObject,
        options_json: String,
        with_progress: bool,
    ) -> napi::Result<Job> {
        let run = self.run(source, options_json, with_progress)?;
        Job::start(run.cancel.clone(), move |events| {
            let mut segments = run.request(events)?.segments()?;
            for segment in segments.by_ref() {
                events.send(Event::written("segment", to_json(&segment?)?))?;
            }
            events.send(Event::written("done", json_of(&segments.finish()?)?))
        })
    }

    /// Transcribes many sources; events `transcript`, with the transcript, and `refused`, with an
    /// error, in the order of the sources, and `done`.
    ///
    /// # Errors
    /// If it was closed, or no thread can be started.
    #[napi]
    pub fn transcribe_many(
        &self,
        sources: Vec<SourceObject>,
        options_json: String,
    ) -> napi::Result<Job> {
        let transcriber = self.get()?.clone();
        let inputs: Vec<Input> = sources.into_iter().map(Input::from).collect();
        let cancel = CancelToken::new();
        Job::start(cancel.clone(), move |events| {
            let options = options(&options_json)?;
            // Wrong samples are a wrong argument: nothing is begun.
            let sources = inputs.into_iter().map(Input::open).collect::<Result<Vec<_>>>()?;
            for (_, result) in transcriber.transcribe_many_until(sources, options, &cancel)? {
                events.send(match result {
                    Ok(transcript) => Event::written("transcript", json_of(&transcript)?),
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    Err(error) => Event::new("refused", &described(&error)),
                })?;
            }
            events.send(Event::done())
        })
    }

    /// Tells the language; event `done` with a list of codes and probabilities, likeliest first.
    ///
    /// # Errors
    /// If it was closed, or no thread can be started.
    #[napi]
    pub fn detect_language(&self, source: SourceObject) -> napi::Result<Job> {
        let (transcriber, input) = (self.get()?.clone(), Input::from(source));
        let cancel = CancelToken::new();
        Job::start(cancel.clone(), move |events| {
            let table = transcriber.detect_language_until(input.open()?, &cancel)?;
            let table: Vec<(&str, f32)> =
                table.into_iter().map(|(language, p)| (language.code(), p)).collect();
            events.send(Event::written("done", to_json(&table)?))
        })
    }

    /// The name of the model.
    ///
    /// # Errors
    /// If it was closed.
    #[napi(getter)]
    pub fn model(&self) -> napi::Result<String> {
        Ok(self.get()?.model().to_owned())
    }

    /// The device that was chosen.
    ///
    /// # Errors
    /// If it was closed.
    #[napi(getter)]
    pub fn device(&self) -> napi::Result<String> {
        Ok(self.get()?.device().to_string())
    }

    /// The number format that was chosen.
    ///
    /// # Errors
    /// If it was closed.
    #[napi(getter)]
    pub fn compute_type(&self) -> napi::Result<&'static str> {
        Ok(self.get()?.compute_type().as_str())
    }

    /// Whether the model knows languages other than English.
    ///
    /// # Errors
    /// If it was closed.
    #[napi(getter)]
    pub fn is_multilingual(&self) -> napi::Result<bool> {
        Ok(self.get()?.is_multilingual())
    }

    /// Frees the model as soon as no run uses it.
    #[napi]
    pub fn close(&mut self) {
        self.transcriber = None;
    }
}

/// Everything that a worker needs for one run.
struct Run {
    transcriber: Transcriber,
    input: Input,
    options_json: String,
    cancel: CancelToken,
    with_progress: bool,
}

impl Run {
    fn request(self, events: &Events) -> Result<Request<'_>> {
        let token = self.cancel.clone();
        let request = self
            .transcriber
            .request(self.input.open()?)
            .options(options(&self.options_json)?)
            .cancel_with(self.cancel);
        if !self.with_progress {
            return Ok(request);
        }
        Ok(request.on_progress(move |progress| {
            let seen = json!({ "stage": progress.stage.as_str(), "fraction": progress.fraction });
            if events.send(Event::new("progress", &seen)).is_err() {
                token.cancel();
            }
        }))
    }
}

/// The transcript as JSON, as the core writes it.
fn json_of(transcript: &Transcript) -> Result<String> {
    let failed = |source| Error::Inference { context: "writing JSON", source };
    let mut json = Vec::new();
    transcript.write(Json::default(), &mut json).map_err(|error| failed(error.into()))?;
    String::from_utf8(json).map_err(|error| failed(error.into()))
}
