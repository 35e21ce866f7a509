//! Networks beside the recogniser, loaded when they are first asked for.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::diarize::Diarizer;
use crate::error::Result;
use crate::models::weights::Weights;
use crate::models::{Download, ModelStore, open_tensors};
use crate::segmentation::pyannet::PyanNet;
use crate::threads::Threads;

/// Catalogue names.
const SEGMENTATION: &str = "segmentation-3.0";
const EMBEDDING: &str = "campplus";

/// What voice activity detection and diarization compute with.
#[derive(Debug)]
pub(crate) struct Networks {
    store: ModelStore,
    pub(super) threads: Threads,
    segmentation: Mutex<Option<Arc<PyanNet>>>,
    diarizer: Mutex<Option<Arc<Diarizer>>>,
}

impl Networks {
    /// Nothing loaded yet; what is missing will come from `store`, and compute on `threads`.
    pub(crate) fn new(store: ModelStore, threads: Threads) -> Self {
        Self { store, threads, segmentation: Mutex::default(), diarizer: Mutex::default() }
    }

    /// The same on other threads; what was loaded is loaded again.
    pub(crate) fn on(self, threads: Threads) -> Self {
        Self::new(self.store, threads)
    }

    /// The network that tells local speakers apart; loaded once, whoever asks first.
    pub(crate) fn segmentation(
        &self,
        on_download: &mut dyn FnMut(&Download),
    ) -> Result<Arc<PyanNet>> {
        load_once(&self.segmentation, || {
            let stored = self.store.pull(SEGMENTATION, &mut *on_download)?;
            Ok(Arc::new(PyanNet::load(tensors(SEGMENTATION, &stored.path)?.as_ref())?))
        })
    }

    /// Everything that diarization needs; loaded once, whoever asks first.
    pub(crate) fn diarizer(&self, on_download: &mut dyn FnMut(&Download)) -> Result<Arc<Diarizer>> {
        load_once(&self.diarizer, || {
            let segmentation = self.segmentation(on_download)?;
            let stored = self.store.pull(EMBEDDING, &mut *on_download)?;
            let voices = tensors(EMBEDDING, &stored.path)?;
            Ok(Arc::new(Diarizer::new(segmentation, voices.as_ref(), &self.threads)?))
        })
    }
}

/// The tensors of a checkpoint, without the keys that trainers wrap around them.
fn tensors(name: &str, path: &Path) -> Result<Box<dyn Weights>> {
    let bare = |name: &str| name.strip_prefix("state_dict/").unwrap_or(name).to_owned();
    Ok(open_tensors(name, path, bare)?.weights)
}

/// The value in a place, made by the first who finds it empty while others wait.
fn load_once<T>(
    place: &Mutex<Option<Arc<T>>>,
    load: impl FnOnce() -> Result<Arc<T>>,
) -> Result<Arc<T>> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = &*place {
        return Ok(Arc::clone(loaded));
    }
    let loaded = load()?;
    *place = Some(Arc::clone(&loaded));
    Ok(loaded)
}
