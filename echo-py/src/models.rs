//! The catalogue and the store of models.

use std::path::PathBuf;

use echo_core::{CancelToken, Download, ModelStore, Result, StoredModel};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::error::OrRaise;
use crate::job::{Events, Job};
use crate::transcriber::store;

/// A report of a download: model, source, file, bytes that are here, bytes of the whole.
pub(crate) type SeenDownload = (String, String, String, u64, Option<u64>);

/// A model in the store: name, path, source, bytes.
type SeenModel = (String, PathBuf, String, u64);

/// A model of the catalogue: name, other names, licence, bytes, whether it is multilingual,
/// repository.
type SeenEntry = (&'static str, Vec<&'static str>, &'static str, u64, bool, &'static str);

pub(crate) fn seen(download: &Download) -> SeenDownload {
    (
        download.model.clone(),
        download.source.clone(),
        download.file.clone(),
        download.done_bytes,
        download.total_bytes,
    )
}

fn seen_model(model: StoredModel) -> SeenModel {
    (model.name, model.path, model.source, model.size_bytes)
}

/// The models known by name.
#[pyfunction]
pub(crate) fn catalog() -> Vec<SeenEntry> {
    let seen = |entry: &echo_core::CatalogEntry| {
        let aliases = entry.aliases.to_vec();
        let (name, size_bytes) = (entry.name, entry.size_bytes);
        (name, aliases, entry.licence, size_bytes, entry.is_multilingual, entry.repository)
    };
    echo_core::catalog().iter().map(seen).collect()
}

/// The folder that models are in.
#[pyfunction]
pub(crate) fn store_root(cache: Option<PathBuf>) -> PathBuf {
    store(cache, None).root().to_owned()
}

/// The models in the store.
#[pyfunction]
pub(crate) fn list_models(py: Python<'_>, cache: Option<PathBuf>) -> PyResult<Vec<SeenModel>> {
    let models = py.detach(|| store(cache, None).list()).or_raise(py)?;
    Ok(models.into_iter().map(seen_model).collect())
}

/// Where a model is on this machine.
#[pyfunction]
pub(crate) fn model_path(py: Python<'_>, name: &str, cache: Option<PathBuf>) -> PyResult<PathBuf> {
    py.detach(|| store(cache, None).path(name)).or_raise(py)
}

/// Deletes a model from the store; says whether it was there.
#[pyfunction]
pub(crate) fn remove(py: Python<'_>, name: &str, cache: Option<PathBuf>) -> PyResult<bool> {
    py.detach(|| store(cache, None).remove(name)).or_raise(py)
}

/// Downloads a model; events `download` and, with the model, `done`.
#[pyfunction]
pub(crate) fn pull(
    py: Python<'_>,
    name: String,
    cache: Option<PathBuf>,
    offline: Option<bool>,
) -> PyResult<Job> {
    start(py, store(cache, offline), move |store, events| {
        let mut heard = Ok(());
        let model = store.pull(&name, |download| {
            let seen = seen(download);
            if heard.is_ok() {
                heard = events.send("download", move |py| seen.into_py_any(py));
            }
        })?;
        let model = seen_model(model);
        events.send("done", move |py| model.into_py_any(py))
    })
}

/// Compares a model's files with their hashes; event `done`.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, name: String, cache: Option<PathBuf>) -> PyResult<Job> {
    start(py, store(cache, None), move |store, events| {
        store.verify(&name)?;
        events.send("done", |py| Ok(py.None()))
    })
}

fn start<W>(py: Python<'_>, store: ModelStore, work: W) -> PyResult<Job>
where
    W: FnOnce(&ModelStore, &Events) -> Result<()> + Send + 'static,
{
    let cancel = CancelToken::new();
    let store = store.cancel_with(&cancel);
    Job::start(py, cancel, move |events| work(&store, events))
}
