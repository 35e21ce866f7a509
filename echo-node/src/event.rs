//! What workers say, as JavaScript hears it.

use echo_core::{Error, Result, Transcriber};
use napi::bindgen_prelude::Float32Array;
use napi_derive::napi;
use serde_json::{Value, json};

use crate::transcriber::NativeTranscriber;

/// What a worker says: a word for its kind, and what goes with it.
#[derive(Debug)]
pub(crate) struct Event {
    kind: &'static str,
    json: String,
    object: Option<Held>,
}

/// What JSON cannot carry.
#[derive(Debug)]
enum Held {
    Transcriber(Transcriber),
    Samples(Vec<f32>),
}

/// An event in JavaScript.
#[napi(object, object_from_js = false)]
#[expect(missing_debug_implementations, reason = "arrays of napi-rs have none")]
pub struct SeenEvent {
    /// `progress`, `download`, `segment`, `transcript`, `refused`, `failed` or `done`.
    pub kind: &'static str,
    /// What goes with it, as JSON.
    pub json: String,
    /// A loaded model.
    pub transcriber: Option<NativeTranscriber>,
    /// Decoded sound.
    pub samples: Option<Float32Array>,
}

impl Event {
    /// An event whose JSON is written already.
    pub(crate) fn written(kind: &'static str, json: String) -> Self {
        Self { kind, json, object: None }
    }

    pub(crate) fn new(kind: &'static str, value: &Value) -> Self {
        Self::written(kind, value.to_string())
    }

    /// The end of a job that was done for its effects.
    pub(crate) fn done() -> Self {
        Self::written("done", "null".to_owned())
    }

    pub(crate) fn loaded(transcriber: Transcriber) -> Self {
        Self { object: Some(Held::Transcriber(transcriber)), ..Self::done() }
    }

    pub(crate) fn samples(samples: Vec<f32>, warnings: &[String]) -> Self {
        let object = Some(Held::Samples(samples));
        Self { object, ..Self::new("done", &json!(warnings)) }
    }

    /// The end of a job that failed.
    pub(crate) fn failed(error: &Error) -> Self {
        Self::new("failed", &described(error))
    }

    /// As JavaScript sees it.
    pub(crate) fn seen(self) -> SeenEvent {
        let (mut transcriber, mut samples) = (None, None);
        match self.object {
            Some(Held::Transcriber(loaded)) => transcriber = Some(NativeTranscriber::new(loaded)),
            Some(Held::Samples(decoded)) => samples = Some(Float32Array::new(decoded)),
            None => {}
        }
        SeenEvent { kind: self.kind, json: self.json, transcriber, samples }
    }
}

/// An error as data: its code, its message with its causes, the file it is about.
pub(crate) fn described(error: &Error) -> Value {
    let path = match error {
        Error::Io { path, .. } => Some(path.display().to_string()),
        _ => None,
    };
    json!({ "code": error.kind().code(), "message": error.describe(), "path": path })
}

/// A value as JSON.
///
/// # Errors
/// [`Error::Inference`] for a value that JSON cannot hold.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Inference { context: "writing JSON", source: error.into() })
}
