//! Loading a model and starting work on it.

use std::path::PathBuf;

use echo_core::formats::Json;
use echo_core::{
    CancelToken, Error, ModelStore, Request, Result, TranscribeOptions, Transcriber, Transcript,
};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::error::OrRaise;
use crate::job::{Events, Job};
use crate::source::{Failure, Source, Sources};

/// A loaded model.
#[pyclass(frozen, module = "echo._echo")]
#[derive(Debug)]
pub(crate) struct Native {
    transcriber: Transcriber,
}

/// Loads a model; events `download` and, with a [`Native`], `done`.
#[pyfunction]
#[pyo3(signature = (model, *, device, compute_type, threads, batch_size, aligner, diarization_model, cache, offline))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python, and each a builder's method")]
pub(crate) fn load(
    py: Python<'_>,
    model: String,
    device: &str,
    compute_type: &str,
    threads: Option<usize>,
    batch_size: Option<usize>,
    aligner: Option<String>,
    diarization_model: Option<String>,
    cache: Option<PathBuf>,
    offline: Option<bool>,
) -> PyResult<Job> {
    let cancel = CancelToken::new();
    let mut builder = Transcriber::builder()
        .model(model)
        .device(device.parse().or_raise(py)?)
        .compute_type(compute_type.parse().or_raise(py)?)
        .model_store(store(cache, offline))
        .cancel_with(cancel.clone());
    if let Some(threads) = threads {
        builder = builder.threads(threads);
    }
    if let Some(windows) = batch_size {
        builder = builder.batch_size(windows);
    }
    if let Some(aligner) = aligner {
        builder = builder.aligner(aligner);
    }
    if let Some(model) = diarization_model {
        builder = builder.diarization_model(model);
    }
    Job::start(py, cancel, move |events| {
        // The callback outlives this frame by its type, so it gets its own end of the channel.
        let (report, reports) = std::sync::mpsc::channel();
        let loading = std::thread::scope(|scope| {
            let builder = builder.on_download(move |download| {
                let _ = report.send(crate::models::seen(download));
            });
            let loading = scope.spawn(|| builder.build());
            for download in reports {
                events.send("download", move |py| download.into_py_any(py))?;
            }
            loading.join().map_err(|_| crashed("loading a model"))?
        });
        let transcriber = loading?;
        events.send("done", move |py| Native { transcriber }.into_py_any(py))
    })
}

fn crashed(context: &'static str) -> Error {
    Error::Inference { context, source: "its thread panicked".into() }
}

/// The store in a folder, or the user's; online unless told or the environment says so.
pub(crate) fn store(cache: Option<PathBuf>, offline: Option<bool>) -> ModelStore {
    let store = cache.map_or_else(ModelStore::default, ModelStore::at);
    match offline {
        Some(offline) => store.offline(offline),
        None => store,
    }
}

/// Options from a JSON object of names and values, all checked.
fn options(json: &str) -> Result<TranscribeOptions> {
    let mut options = TranscribeOptions::default();
    let values: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|error| Error::Option {
            option: "options",
            value: error.to_string(),
            expected: "a JSON object",
        })?;
    for (name, value) in values {
        options.set(&name, value)?;
    }
    options.validate()?;
    Ok(options)
}

#[pymethods]
impl Native {
    /// Transcribes; events `progress` if wanted, and `done` with JSON.
    fn transcribe(
        &self,
        py: Python<'_>,
        source: &Source,
        options_json: &str,
        with_progress: bool,
    ) -> PyResult<Job> {
        let run = self.run(py, source, options_json, with_progress)?;
        Job::start(py, run.cancel.clone(), move |events| {
            let transcript = run.request(events)?.run()?;
            events.send("done", json_of(&transcript)?)
        })
    }

    /// Transcribes; events `progress` if wanted, `segment` with JSON, and `done` with JSON.
    fn segments(
        &self,
        py: Python<'_>,
        source: &Source,
        options_json: &str,
        with_progress: bool,
    ) -> PyResult<Job> {
        let run = self.run(py, source, options_json, with_progress)?;
        Job::start(py, run.cancel.clone(), move |events| {
            let mut segments = run.request(events)?.segments()?;
            for segment in segments.by_ref() {
                let json = serde_json::to_string(&segment?).map_err(not_written)?;
                events.send("segment", move |py| json.into_py_any(py))?;
            }
            events.send("done", json_of(&segments.finish()?)?)
        })
    }

    /// Transcribes what an iterator of sources yields; events `transcript` with an index and JSON,
    /// `refused` with an index and an exception, and `done`.
    fn transcribe_many(
        &self,
        py: Python<'_>,
        sources: Py<PyAny>,
        options_json: &str,
    ) -> PyResult<Job> {
        let options = options(options_json).or_raise(py)?;
        let transcriber = self.transcriber.clone();
        let cancel = CancelToken::new();
        Job::start(py, cancel.clone(), move |events| {
            let failure = Failure::default();
            let sources = Sources::new(sources, Failure::clone(&failure));
            for (index, result) in transcriber.transcribe_many_until(sources, options, &cancel)? {
                match result {
                    Ok(transcript) => {
                        let json = json_of(&transcript)?;
                        events.send("transcript", move |py| (index, json(py)?).into_py_any(py))?;
                    }
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    Err(error) => events.send("refused", move |py| {
                        (index, crate::error::exception(py, &error)).into_py_any(py)
                    })?,
                }
            }
            let raised = failure.lock().ok().and_then(|mut failure| failure.take());
            events.send("done", move |py| raised.map_or(Ok(py.None()), Err))
        })
    }

    /// Tells the language; event `done` with a list of codes and probabilities, likeliest first.
    fn detect_language(&self, py: Python<'_>, source: &Source) -> PyResult<Job> {
        let (input, transcriber) = (source.take()?, self.transcriber.clone());
        let cancel = CancelToken::new();
        Job::start(py, cancel.clone(), move |events| {
            let table = transcriber.detect_language_until(input.open()?, &cancel)?;
            let table: Vec<(&str, f32)> =
                table.into_iter().map(|(language, p)| (language.code(), p)).collect();
            events.send("done", move |py| table.into_py_any(py))
        })
    }

    /// The name of the model.
    #[getter]
    fn model(&self) -> &str {
        self.transcriber.model()
    }

    /// The device that was chosen.
    #[getter]
    fn device(&self) -> String {
        self.transcriber.device().to_string()
    }

    /// The number format that was chosen.
    #[getter]
    fn compute_type(&self) -> &'static str {
        self.transcriber.compute_type().as_str()
    }

    /// Whether the model knows languages other than English.
    #[getter]
    fn is_multilingual(&self) -> bool {
        self.transcriber.is_multilingual()
    }
}

impl Native {
    fn run(
        &self,
        py: Python<'_>,
        source: &Source,
        options_json: &str,
        with_progress: bool,
    ) -> PyResult<Run> {
        Ok(Run {
            transcriber: self.transcriber.clone(),
            options: options(options_json).or_raise(py)?,
            input: source.take()?,
            cancel: CancelToken::new(),
            with_progress,
        })
    }
}

/// Everything that a worker needs for one run.
struct Run {
    transcriber: Transcriber,
    input: crate::source::Input,
    options: TranscribeOptions,
    cancel: CancelToken,
    with_progress: bool,
}

impl Run {
    fn request(self, events: &Events) -> Result<Request<'_>> {
        let token = self.cancel.clone();
        let request = self
            .transcriber
            .request(self.input.open()?)
            .options(self.options)
            .cancel_with(self.cancel);
        if !self.with_progress {
            return Ok(request);
        }
        Ok(request.on_progress(move |progress| {
            let seen = (progress.stage.as_str(), progress.fraction);
            if events.send("progress", move |py| seen.into_py_any(py)).is_err() {
                token.cancel();
            }
        }))
    }
}

/// The transcript as JSON, as the core writes it.
fn json_of(
    transcript: &Transcript,
) -> Result<impl for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + use<>> {
    let mut json = Vec::new();
    transcript.write(Json::default(), &mut json).map_err(not_written)?;
    let json = String::from_utf8(json).map_err(not_written)?;
    Ok(move |py: Python<'_>| json.into_py_any(py))
}

fn not_written(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Inference { context: "writing JSON", source: Box::new(error) }
}
