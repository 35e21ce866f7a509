//! Networks beside the recogniser, loaded when they are first asked for.

use std::path::Path;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::Duration;

use crate::device::ComputeType;
use crate::diarize::Diarizer;
use crate::error::Result;
use crate::models::weights::Weights;
use crate::models::{self, Download, ModelKind, ModelStore, open_diarization, open_tensors};
use crate::options::VadModel;
use crate::progress::CancelToken;
use crate::segmentation::pyannet::{Head, PyanNet};
use crate::threads::Threads;
use crate::vad::pyannote::Pyannote;
use crate::vad::silero::Silero;
use crate::vad::{Probabilities, Vad};

/// Catalogue names.
const SEGMENTATION: &str = "segmentation-3.0";
/// With [`SEGMENTATION`] the diarization model of who names none.
const EMBEDDING: &str = "campplus";
const DETECTION: &str = "whisperx-vad";

/// How often a run that waits for another one's load looks at its token.
const POLL: Duration = Duration::from_millis(20);

/// What voice activity detection and diarization compute with.
#[derive(Debug)]
pub(crate) struct Networks {
    store: ModelStore,
    diarization_model: String,
    compute: ComputeType,
    pub(super) threads: Threads,
    detection: Mutex<Option<Arc<PyanNet>>>,
    diarizer: Mutex<Option<Arc<Diarizer>>>,
}

impl Networks {
    /// Nothing loaded yet; what is missing will come from `store`, and compute on `threads`: in f32, or
    /// for any other type in what is fastest.
    pub(crate) fn new(store: ModelStore, compute: ComputeType, threads: Threads) -> Self {
        let diarization_model = EMBEDDING.to_owned();
        let (detection, diarizer) = (Mutex::default(), Mutex::default());
        Self { store, diarization_model, compute, threads, detection, diarizer }
    }

    /// The same with a diarization model: a network of embeddings in the catalogue, or what has all
    /// parts.
    pub(crate) fn with_diarization_model(self, model: String) -> Self {
        Self { diarization_model: model, diarizer: Mutex::default(), ..self }
    }

    /// The same on other threads; what was loaded is loaded again.
    pub(crate) fn on(self, threads: Threads) -> Self {
        Self::new(self.store, self.compute, threads).with_diarization_model(self.diarization_model)
    }

    /// The network of [`VadModel::Pyannote`]; loaded once, whoever asks first.
    pub(crate) fn detection(
        &self,
        on_download: &mut dyn FnMut(&Download),
        cancel: &CancelToken,
    ) -> Result<Arc<PyanNet>> {
        let store = self.store.until(cancel);
        load_once(&self.detection, cancel, || {
            network(&store, DETECTION, Head::Speakers, self.compute, on_download)
        })
    }

    /// Everything that diarization needs; loaded once, whoever asks first.
    pub(crate) fn diarizer(
        &self,
        on_download: &mut dyn FnMut(&Download),
        cancel: &CancelToken,
    ) -> Result<Arc<Diarizer>> {
        let store = self.store.until(cancel);
        load_once(&self.diarizer, cancel, || {
            let (name, threads) = (self.diarization_model.as_str(), &self.threads);
            let compute = self.compute;
            if models::find(name).is_some_and(|entry| entry.kind == ModelKind::Embedding) {
                let head = Head::Powerset;
                let segmentation = network(&store, SEGMENTATION, head, compute, &mut *on_download)?;
                let voices = tensors(name, &store.pull(name, on_download)?.path)?;
                let diarizer = Diarizer::campplus(segmentation, voices.as_ref(), compute, threads)?;
                return Ok(Arc::new(diarizer));
            }
            let stored = store.pull_diarization(name, on_download)?;
            let model = open_diarization(name, &stored.path)?;
            let segmentation = PyanNet::load(model.segmentation.as_ref(), Head::Powerset, compute)?;
            let (voices, plda) = (model.embedding.as_ref(), [&model.transform, &model.plda]);
            let segmentation = Arc::new(segmentation);
            Ok(Arc::new(Diarizer::resnet34(segmentation, voices, plda, compute, threads)?))
        })
    }

    /// How likely speech is in each frame of 16 kHz mono `samples`, or `None` where nothing is to
    /// tell it from silence.
    pub(super) fn speech_probabilities(
        &self,
        model: VadModel,
        silero: &Silero,
        samples: &[f32],
        progress: &mut dyn FnMut(f64) -> Result<()>,
        cancel: &CancelToken,
    ) -> Result<Option<Probabilities>> {
        match model {
            VadModel::Silero => silero.probabilities(samples, progress).map(Some),
            VadModel::Pyannote => {
                let network = self.detection(&mut |_| {}, cancel)?;
                Pyannote::new(network, &self.threads).probabilities(samples, progress).map(Some)
            }
            VadModel::None => Ok(None),
        }
    }
}

fn network(
    store: &ModelStore,
    name: &str,
    head: Head,
    compute: ComputeType,
    on_download: &mut dyn FnMut(&Download),
) -> Result<Arc<PyanNet>> {
    let stored = store.pull(name, on_download)?;
    Ok(Arc::new(PyanNet::load(tensors(name, &stored.path)?.as_ref(), head, compute)?))
}

/// The tensors of a checkpoint, without the keys that trainers wrap around them.
fn tensors(name: &str, path: &Path) -> Result<Box<dyn Weights>> {
    let bare = |name: &str| name.strip_prefix("state_dict/").unwrap_or(name).to_owned();
    Ok(open_tensors(name, path, bare)?.weights)
}

/// The value in a place, made by the first who finds it empty while others wait, which may take as
/// long as a download.
fn load_once<T>(
    place: &Mutex<Option<Arc<T>>>,
    cancel: &CancelToken,
    load: impl FnOnce() -> Result<Arc<T>>,
) -> Result<Arc<T>> {
    let mut place = loop {
        match place.try_lock() {
            Ok(place) => break place,
            // Whoever panicked while it loaded left nothing half done behind.
            Err(TryLockError::Poisoned(place)) => break place.into_inner(),
            Err(TryLockError::WouldBlock) => {
                cancel.check()?;
                thread::sleep(POLL);
            }
        }
    };
    if let Some(loaded) = &*place {
        return Ok(Arc::clone(loaded));
    }
    let loaded = load()?;
    *place = Some(Arc::clone(&loaded));
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn who_waits_for_another_load_can_be_stopped_and_else_has_what_it_loaded() {
        let place = Mutex::new(None);
        let stopped = CancelToken::new();
        stopped.cancel();
        let never = || -> Result<Arc<i32>> { unreachable!("another one loads it") };
        let wait = |cancel: &CancelToken| load_once(&place, cancel, never);
        thread::scope(|scope| {
            let mut waiting = None;
            let loaded = load_once(&place, &stopped, || {
                waiting = Some(scope.spawn(|| wait(&CancelToken::new())));
                let outcome = scope.spawn(|| wait(&stopped)).join().unwrap();
                assert!(matches!(outcome, Err(Error::Cancelled)));
                Ok(Arc::new(7))
            });
            assert_eq!(*loaded.unwrap(), 7);
            assert_eq!(*waiting.unwrap().join().unwrap().unwrap(), 7);
        });
    }
}
