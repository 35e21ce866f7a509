//! What needs no loaded model: transcripts as text and files, decoding of audio, the command line.

use echo_core::formats::{CueOptions, OutputFormat};
use echo_core::{
    Audio, AudioOptions, CancelToken, Diarization, Diarizer, Error, Result, TranscribeOptions,
    Transcript,
};
use napi_derive::napi;
use serde_json::json;

use crate::event::{Event, described, to_json};
use crate::job::Job;
use crate::source::{Input, SourceObject};
use crate::transcriber::{from_json, store};

/// What a function found, or why not.
#[napi(object, object_from_js = false)]
#[derive(Debug)]
pub struct Answer {
    /// What it found.
    pub value: Option<String>,
    /// Why not: an error as JSON.
    pub failure: Option<String>,
}

impl From<Result<String>> for Answer {
    fn from(result: Result<String>) -> Self {
        match result {
            Ok(value) => Self { value: Some(value), failure: None },
            Err(error) => Self { value: None, failure: Some(described(&error).to_string()) },
        }
    }
}

/// The names of options of a transcription.
#[napi]
pub fn option_names() -> Vec<&'static str> {
    TranscribeOptions::names().collect()
}

/// The whole text of a transcript.
#[napi]
pub fn text(transcript_json: String) -> Answer {
    Transcript::from_json(&transcript_json).map(|transcript| transcript.text()).into()
}

/// A transcript in a format.
#[napi]
pub fn format(transcript_json: String, format: String, cues_json: String) -> Answer {
    let written = || {
        let format: OutputFormat = format.parse()?;
        let cues: CueOptions = from_json(&cues_json)?;
        let mut text = Vec::new();
        Transcript::from_json(&transcript_json)?
            .write(format.writer_with(cues), &mut text)
            .map_err(|source| Error::Io { path: "memory".into(), source })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    written().into()
}

/// Writes a transcript to a file, in the format given or in the one that its name tells; event
/// `done`.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn save(
    transcript_json: String,
    path: String,
    format: Option<String>,
    cues_json: String,
) -> napi::Result<Job> {
    Job::start(CancelToken::new(), move |events| {
        let format = match format {
            Some(format) => format.parse()?,
            None => OutputFormat::from_path(&path)?,
        };
        let cues: CueOptions = from_json(&cues_json)?;
        Transcript::from_json(&transcript_json)?.save_as(&path, format.writer_with(cues))?;
        events.send(Event::done())
    })
}

/// Reads a file of subtitles or JSON; event `done` with the transcript.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn load_transcript(path: String) -> napi::Result<Job> {
    Job::start(CancelToken::new(), move |events| {
        events.send(Event::written("done", to_json(&Transcript::load(&path)?)?))
    })
}

/// Reads text as SRT, VTT or JSON; answers with JSON.
#[napi]
pub fn parse_transcript(text: String, format: String) -> Answer {
    let read = || {
        let transcript = match format.parse()? {
            OutputFormat::Srt => Transcript::from_srt(&text),
            OutputFormat::Vtt => Transcript::from_vtt(&text),
            _ => Transcript::from_json(&text),
        };
        to_json(&transcript?)
    };
    read().into()
}

/// Decodes a source; event `done` with its samples, 16 kHz mono, and its warnings.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn load_audio(source: SourceObject) -> napi::Result<Job> {
    let input = Input::from(source);
    let cancel = CancelToken::new();
    Job::start(cancel.clone(), move |events| {
        let stop = &mut |_| if cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) };
        let mut audio = Audio::load_with(input.open()?, &AudioOptions::default(), stop)?;
        let audio = audio.pop().unwrap_or_default();
        let warnings = audio.warnings().to_vec();
        events.send(Event::samples(audio.into_samples(), &warnings))
    })
}

/// Tells speakers apart without a recogniser; event `done` with a transcript of turns.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn diarize(
    source: SourceObject,
    options_json: String,
    model: Option<String>,
    cache: Option<String>,
    offline: Option<bool>,
) -> napi::Result<Job> {
    let input = Input::from(source);
    let cancel = CancelToken::new();
    let mut diarizer = Diarizer::at(store(cache.as_deref(), offline)).cancel_with(&cancel);
    if let Some(model) = model {
        diarizer = diarizer.model(model);
    }
    Job::start(cancel, move |events| {
        let options: Diarization = from_json(&options_json)?;
        let transcript = diarizer.turns(input.open()?, &options)?;
        events.send(Event::written("done", to_json(&transcript)?))
    })
}

/// The command line: takes the program's arguments, its name first; event `done` with its exit code.
///
/// # Errors
/// If no thread can be started.
#[napi]
pub fn run_command(arguments: Vec<String>) -> napi::Result<Job> {
    Job::start(CancelToken::new(), move |events| {
        let code = echo_core::cli::run(arguments);
        events.send(Event::new("done", &json!(code)))
    })
}
