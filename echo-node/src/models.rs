//! The catalogue and the store of models.

use echo_core::{CancelToken, ModelStore, Result, StoredModel};
use napi_derive::napi;
use serde_json::{Value, json};

use crate::event::Event;
use crate::job::{Events, Job};
use crate::transcriber::{seen, store};

/// The models known by name, as JSON.
#[napi]
pub fn catalog() -> String {
    let entries: Vec<Value> = echo_core::catalog()
        .iter()
        .map(|entry| {
            json!({
                "name": entry.name,
                "aliases": entry.aliases,
                "licence": entry.licence,
                "size_bytes": entry.size_bytes,
                "is_multilingual": entry.is_multilingual,
                "repository": entry.repository,
            })
        })
        .collect();
    Value::Array(entries).to_string()
}

/// The models in the store; event `done` with a list.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn list_models(cache: Option<String>) -> napi::Result<Job> {
    start(cache, None, |store, events| {
        let models: Vec<Value> = store.list()?.into_iter().map(described).collect();
        events.send(Event::new("done", &Value::Array(models)))
    })
}

/// Where a model is on this machine; event `done` with its path.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn model_path(name: String, cache: Option<String>) -> napi::Result<Job> {
    start(cache, None, move |store, events| {
        let path = store.path(&name)?.display().to_string();
        events.send(Event::new("done", &json!(path)))
    })
}

/// Downloads a model; events `download` and, with the model, `done`.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn pull(name: String, cache: Option<String>, offline: Option<bool>) -> napi::Result<Job> {
    start(cache, offline, move |store, events| {
        let mut heard = Ok(());
        let model = store.pull(&name, |download| {
            if heard.is_ok() {
                heard = events.send(seen(download));
            }
        })?;
        events.send(Event::new("done", &described(model)))
    })
}

/// Compares a model's files with their hashes; event `done`.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn verify(name: String, cache: Option<String>) -> napi::Result<Job> {
    start(cache, None, move |store, events| {
        store.verify(&name)?;
        events.send(Event::done())
    })
}

/// Deletes a model from the store; event `done` with whether it was there.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn remove(name: String, cache: Option<String>) -> napi::Result<Job> {
    start(cache, None, move |store, events| {
        let was_there = store.remove(&name)?;
        events.send(Event::new("done", &json!(was_there)))
    })
}

fn described(model: StoredModel) -> Value {
    json!({
        "name": model.name,
        "path": model.path.display().to_string(),
        "source": model.source,
        "size_bytes": model.size_bytes,
    })
}

fn start<W>(cache: Option<String>, offline: Option<bool>, work: W) -> napi::Result<Job>
where
    W: FnOnce(&ModelStore, &Events) -> Result<()> + Send + 'static,
{
    let cancel = CancelToken::new();
    let store = store(cache.as_deref(), offline).cancel_with(&cancel);
    Job::start(cancel, move |events| work(&store, events))
}
