//! What needs no loaded model: transcripts as text and files, decoding of audio, the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use echo_core::formats::{CueOptions, OutputFormat};
use echo_core::{
    Audio, AudioOptions, CancelToken, Diarization, Diarizer, Error, Result, TranscribeOptions,
    Transcript,
};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::de::DeserializeOwned;

use crate::error::OrRaise;
use crate::job::Job;
use crate::source::Source;
use crate::transcriber::store;

/// The names of options of a transcription.
#[pyfunction]
pub(crate) fn option_names() -> Vec<&'static str> {
    TranscribeOptions::names().collect()
}

/// The whole text of a transcript.
#[pyfunction]
pub(crate) fn text(py: Python<'_>, transcript_json: &str) -> PyResult<String> {
    Ok(Transcript::from_json(transcript_json).or_raise(py)?.text())
}

/// A transcript in a format.
#[pyfunction]
pub(crate) fn format(
    py: Python<'_>,
    transcript_json: &str,
    format: &str,
    cues_json: &str,
) -> PyResult<String> {
    let cues: CueOptions = from_json("cues", cues_json).or_raise(py)?;
    let written = py.detach(|| {
        let format: OutputFormat = format.parse()?;
        let mut text = Vec::new();
        let transcript = Transcript::from_json(transcript_json)?;
        let written = transcript.write(format.writer_with(cues), &mut text);
        written.map_err(|source| Error::Io { path: "memory".into(), source })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    });
    written.or_raise(py)
}

/// Writes a transcript to a file, in the format given or in the one that its name tells.
#[pyfunction]
pub(crate) fn save(
    py: Python<'_>,
    transcript_json: &str,
    path: PathBuf,
    format: Option<&str>,
    cues_json: &str,
) -> PyResult<()> {
    let cues: CueOptions = from_json("cues", cues_json).or_raise(py)?;
    let saved = py.detach(|| {
        let format = format.map_or_else(|| OutputFormat::from_path(&path), str::parse)?;
        Transcript::from_json(transcript_json)?.save_as(&path, format.writer_with(cues))
    });
    saved.or_raise(py)
}

/// Options as JSON wrote them.
fn from_json<T: DeserializeOwned>(option: &'static str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::Option {
        option,
        value: error.to_string(),
        expected: "options of their types",
    })
}

/// Reads a file of subtitles or JSON; answers with JSON.
#[pyfunction]
pub(crate) fn load_transcript(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    to_json(&py.detach(|| Transcript::load(path)).or_raise(py)?)
}

/// Reads `SubRip` subtitles; answers with JSON.
#[pyfunction]
pub(crate) fn from_srt(py: Python<'_>, text: &str) -> PyResult<String> {
    to_json(&Transcript::from_srt(text).or_raise(py)?)
}

/// Reads WebVTT subtitles; answers with JSON.
#[pyfunction]
pub(crate) fn from_vtt(py: Python<'_>, text: &str) -> PyResult<String> {
    to_json(&Transcript::from_vtt(text).or_raise(py)?)
}

fn to_json(transcript: &Transcript) -> PyResult<String> {
    serde_json::to_string(transcript)
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
}

/// Decodes a source; event `done` with the bytes of its samples, 16 kHz mono, and its warnings.
#[pyfunction]
pub(crate) fn load_audio(py: Python<'_>, source: &Source) -> PyResult<Job> {
    let input = source.take()?;
    let cancel = CancelToken::new();
    Job::start(py, cancel.clone(), move |events| {
        let stop = &mut |_| if cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) };
        let mut audio = Audio::load_with(input.open()?, &AudioOptions::default(), stop)?;
        let audio = audio.pop().unwrap_or_default();
        events.send("done", move |py| {
            let samples = audio.samples();
            let bytes = PyBytes::new_with(py, size_of_val(samples), |bytes| {
                let quads = bytes.as_chunks_mut::<{ size_of::<f32>() }>().0;
                for (quad, sample) in quads.iter_mut().zip(samples) {
                    *quad = sample.to_ne_bytes();
                }
                Ok(())
            })?;
            (bytes, audio.warnings()).into_py_any(py)
        })
    })
}

/// Tells speakers apart without a recogniser; event `done` with a transcript of turns as JSON.
#[pyfunction]
pub(crate) fn diarize(
    py: Python<'_>,
    source: &Source,
    options_json: &str,
    model: Option<String>,
    cache: Option<PathBuf>,
    offline: Option<bool>,
) -> PyResult<Job> {
    let options: Diarization = from_json("diarize", options_json).or_raise(py)?;
    let input = source.take()?;
    let cancel = CancelToken::new();
    let mut diarizer = Diarizer::at(store(cache, offline)).cancel_with(&cancel);
    if let Some(model) = model {
        diarizer = diarizer.model(model);
    }
    Job::start(py, cancel, move |events| {
        let transcript = diarizer.turns(input.open()?, &options)?;
        events.send("done", move |py| to_json(&transcript)?.into_py_any(py))
    })
}

/// The command line: takes the program's arguments, its name first, and answers with its exit code.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| echo_core::cli::run(arguments))
}
