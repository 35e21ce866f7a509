//! A loaded model that transcribes: load once, use from any thread.
//!
//! [`Builder`] takes what costs load time or memory; [`Request`] takes what varies from call to call.

use std::fmt;
use std::sync::Arc;

use crate::audio::AudioSource;
use crate::device::{ComputeType, Device};
use crate::error::{Error, Result};
use crate::language::Language;
use crate::models::{Download, ModelStore};
use crate::options::TranscribeOptions;
use crate::pipeline::{Engine, EngineOptions, Many};
use crate::progress::CancelToken;
use crate::request::Request;
use crate::transcript::Transcript;

/// The model that [`Builder`] loads unless another one is named.
pub const DEFAULT_MODEL: &str = "base";

/// A loaded model that transcribes.
///
/// Cheap to clone, and every method takes `&self`: threads share one. Dropping the last clone frees
/// the memory of the model at once.
///
/// ```no_run
/// use echo_core::Transcriber;
///
/// let transcriber = Transcriber::builder().model("base").build()?;
/// let transcript = transcriber.transcribe("talk.mp3")?;
/// println!("{}", transcript.text());
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Transcriber {
    engine: Arc<Engine>,
}

impl fmt::Debug for Transcriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcriber")
            .field("model", &self.model())
            .field("device", &self.device())
            .field("compute_type", &self.compute_type())
            .finish_non_exhaustive()
    }
}

impl Transcriber {
    /// Starts choosing a model, a device and memory for batches.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Transcribes one source with default options.
    ///
    /// # Errors
    /// [`Error::Audio`] or [`Error::Io`] if the source cannot be read, [`Error::Inference`] if the
    /// network fails.
    pub fn transcribe(&self, source: impl Into<AudioSource>) -> Result<Transcript> {
        self.request(source).run()
    }

    /// Starts describing one run.
    pub fn request<'a>(&self, source: impl Into<AudioSource>) -> Request<'a> {
        Request::new(Arc::clone(&self.engine), source.into())
    }

    /// Transcribes many sources; chunks of several share a batch, so short files cost no idle work.
    ///
    /// Results come in the order of the sources, as soon as they are ready; a bad file costs one
    /// `Err`. Sources are read as results are taken. Dropping the iterator stops the work.
    ///
    /// ```no_run
    /// # let transcriber = echo_core::Transcriber::builder().build()?;
    /// let options = echo_core::TranscribeOptions::default();
    /// for (index, result) in transcriber.transcribe_many(["a.mp3", "b.mp3"], options)? {
    ///     match result {
    ///         Ok(transcript) => println!("{index}: {}", transcript.text()),
    ///         Err(error) => eprintln!("{index}: {error}"),
    ///     }
    /// }
    /// # Ok::<(), echo_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`] if an option is out of range.
    pub fn transcribe_many<I>(
        &self,
        sources: I,
        options: TranscribeOptions,
    ) -> Result<impl Iterator<Item = (usize, Result<Transcript>)> + use<I>>
    where
        I: IntoIterator,
        I::Item: Into<AudioSource>,
    {
        self.transcribe_many_until(sources, options, &CancelToken::new())
    }

    /// Like [`transcribe_many`](Self::transcribe_many), stopped by a token: sources that are not done
    /// by then are [`Error::Cancelled`].
    ///
    /// # Errors
    /// [`Error::Option`] if an option is out of range.
    pub fn transcribe_many_until<I>(
        &self,
        sources: I,
        options: TranscribeOptions,
        cancel: &CancelToken,
    ) -> Result<impl Iterator<Item = (usize, Result<Transcript>)> + use<I>>
    where
        I: IntoIterator,
        I::Item: Into<AudioSource>,
    {
        options.validate()?;
        let sources = sources.into_iter().map(Into::into);
        Ok(Many::new(Arc::clone(&self.engine), sources, options, cancel.clone()))
    }

    /// The language of a source's first speech: every language the model knows with its
    /// probability, likeliest first.
    ///
    /// # Errors
    /// Like [`transcribe`](Self::transcribe); [`Error::Model`] if the model knows English only.
    pub fn detect_language(&self, source: impl Into<AudioSource>) -> Result<Vec<(Language, f32)>> {
        self.detect_language_until(source, &CancelToken::new())
    }

    /// Like [`detect_language`](Self::detect_language), stopped by a token.
    ///
    /// # Errors
    /// Like [`detect_language`](Self::detect_language); [`Error::Cancelled`].
    pub fn detect_language_until(
        &self,
        source: impl Into<AudioSource>,
        cancel: &CancelToken,
    ) -> Result<Vec<(Language, f32)>> {
        self.engine.detect_language(source.into(), cancel)
    }

    /// The name of the model.
    pub fn model(&self) -> &str {
        self.engine.model()
    }

    /// The device that was chosen; never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.engine.device()
    }

    /// The number format that was chosen; never [`ComputeType::Auto`].
    pub fn compute_type(&self) -> ComputeType {
        self.engine.compute_type()
    }

    /// Whether the model knows languages other than English.
    pub fn is_multilingual(&self) -> bool {
        self.engine.is_multilingual()
    }
}

/// Hears how far a download is.
type OnDownload = Box<dyn FnMut(&Download) + Send>;

/// Chooses what costs load time or memory.
///
/// ```no_run
/// use echo_core::{Device, ModelStore, Transcriber};
///
/// let transcriber = Transcriber::builder()
///     .model("large-v3-turbo")
///     .device(Device::Auto)
///     .batch_size(16)
///     .model_store(ModelStore::default().offline(true))
///     .build()?;
/// # Ok::<(), echo_core::Error>(())
/// ```
#[must_use = "nothing is loaded before `build`"]
pub struct Builder {
    model: String,
    aligner: Option<String>,
    diarization_model: Option<String>,
    store: ModelStore,
    options: EngineOptions,
    on_download: Option<OnDownload>,
    cancel: CancelToken,
    beside: Beside,
}

/// What is loaded beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Beside {
    detection: bool,
    diarizer: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("model", &self.model)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            model: DEFAULT_MODEL.to_owned(),
            aligner: None,
            diarization_model: None,
            store: ModelStore::default(),
            options: EngineOptions::default(),
            on_download: None,
            cancel: CancelToken::new(),
            beside: Beside::default(),
        }
    }
}

impl Builder {
    /// A catalogue name, a hub repository id, a folder or a file. Default [`DEFAULT_MODEL`].
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Where to compute. Default [`Device::Auto`].
    pub fn device(mut self, device: Device) -> Self {
        self.options.device = device;
        self
    }

    /// In which number format. Default [`ComputeType::Auto`]. [`VadModel::Pyannote`](crate::VadModel::Pyannote) and
    /// speakers compute in f32 if this is [`ComputeType::F32`], else in bf16 where that is fastest.
    pub fn compute_type(mut self, compute_type: ComputeType) -> Self {
        self.options.compute_type = compute_type;
        self
    }

    /// Threads for work on the CPU. Default: one for each processor.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads);
        self
    }

    /// Windows decoded at once in [`Mode::Batched`](crate::Mode::Batched). Default 8.
    pub fn batch_size(mut self, windows: usize) -> Self {
        self.options.batch_size = windows;
        self
    }

    /// An acoustic model (wav2vec 2.0 with a CTC head) of the language spoken, which places words
    /// better than attention: a hub repository id, a folder or a file. Without it, a run that asks for
    /// words takes the known model of its language if the store has it, and nothing is downloaded.
    pub fn aligner(mut self, model: impl Into<String>) -> Self {
        self.aligner = Some(model.into());
        self
    }

    /// What tells speakers apart, where a run asks for them; see [`Diarizer::model`](crate::Diarizer::model).
    /// Default `campplus`.
    pub fn diarization_model(mut self, model: impl Into<String>) -> Self {
        self.diarization_model = Some(model.into());
        self
    }

    /// Where models lie and whether the network may be used. Default: the user's cache folder, online.
    pub fn model_store(mut self, store: ModelStore) -> Self {
        self.store = store;
        self
    }

    /// Loads the network of [`VadModel::Pyannote`](crate::VadModel::Pyannote) now, not when it is
    /// first asked for.
    pub fn with_pyannote(mut self) -> Self {
        self.beside.detection = true;
        self
    }

    /// Loads the networks that tell speakers apart now, not when they are first asked for.
    pub fn with_diarizer(mut self) -> Self {
        self.beside.diarizer = true;
        self
    }

    /// Called while a model is downloaded.
    pub fn on_download(mut self, callback: impl FnMut(&Download) + Send + 'static) -> Self {
        self.on_download = Some(Box::new(callback));
        self
    }

    /// Stops the downloads of [`build`](Self::build) when this token is cancelled.
    pub fn cancel_with(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// Finds, downloads if need be, and loads the model.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no such model or it cannot be had or read, [`Error::Device`] if
    /// the device cannot be used, [`Error::Option`] if a value is out of range or a model is named for
    /// what it does not do.
    pub fn build(mut self) -> Result<Transcriber> {
        self.options.validate()?;
        let mut ignore = |_: &Download| {};
        let report: &mut dyn FnMut(&Download) = match &mut self.on_download {
            Some(callback) => callback,
            None => &mut ignore,
        };
        let store = self.store.until(&self.cancel);
        // What may be refused comes before what is large.
        if let Some(aligner) = &self.aligner {
            store.check_aligner(aligner)?;
        }
        match &self.diarization_model {
            Some(model) if self.beside.diarizer => {
                store.pull_diarization(model, &mut *report)?;
            }
            Some(model) => store.check_diarization(model)?,
            None => {}
        }
        let stored = store.pull(&self.model, &mut *report)?;
        // The token is for what is done now: later runs have their own.
        let mut engine = Engine::load(&self.model, &stored.path, self.store, &self.options)?;
        if let Some(aligner) = &self.aligner {
            let stored = store.pull(aligner, &mut *report)?;
            engine.load_aligner(aligner, &stored.path)?;
        }
        if let Some(model) = self.diarization_model {
            engine.networks = engine.networks.with_diarization_model(model);
        }
        if self.beside.detection {
            engine.networks.detection(&mut *report, &self.cancel)?;
        }
        if self.beside.diarizer {
            engine.networks.diarizer(report, &self.cancel)?;
        }
        Ok(Transcriber { engine: Arc::new(engine) })
    }
}

const _: () = {
    const fn is_shared<T: Clone + Send + Sync + 'static>() {}
    is_shared::<Transcriber>();
    const fn is_send<T: Send>() {}
    is_send::<Builder>();
    is_send::<Error>();
};

#[cfg(test)]
mod tests;
