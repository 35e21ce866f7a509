//! `GET /transcription/{job_id}/download`: a result in the format asked for.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use echo_core::Transcript;
use echo_core::formats::OutputFormat;
use serde::Deserialize;

use super::results::result_of;
use super::transcription::wait_for;
use crate::app::App;
use crate::auth::{Caller, READ};
use crate::error::{Answer, Problem};
use crate::job::Job;

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct Download {
    format: Option<String>,
    profile: Option<String>,
    speaker_labels: Option<bool>,
    max_line_width: Option<usize>,
    max_lines: Option<usize>,
    highlight_words: Option<bool>,
    offset_seconds: Option<f64>,
    disposition: Option<String>,
}

/// Writes the transcript down.
pub(super) async fn download(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Download>,
) -> Answer {
    caller.may(READ)?;
    let format = format(&query)?;
    let job = wait_for(&app, &caller, &id, std::time::Duration::ZERO, |_| true).await?;
    let result = result_of(&app, &job).await?;
    caller.audit(&app, "download", &id).await;
    let is_plain_json = format == OutputFormat::Json && query.offset_seconds.is_none();
    let body = if is_plain_json && query.speaker_labels != Some(false) {
        result.to_vec()
    } else {
        render(&result, format, &job, &query)?
    };
    Ok(attachment(body, format, &job, &query))
}

fn format(query: &Download) -> Result<OutputFormat, Problem> {
    let name = query.format.as_deref().unwrap_or("json");
    let unsupported = || {
        let detail = format!("`{name}` is none of txt, json, srt, vtt, tsv and rttm");
        Problem::new(400, "unsupported_format", detail)
    };
    match (name, query.profile.as_deref()) {
        ("json", Some("whisperx")) | ("whisperx", None) => Ok(OutputFormat::WhisperxJson),
        (_, Some(_)) => Err(Problem::new(400, "bad_query", "the profile whisperx is of json only")),
        ("txt" | "json" | "srt" | "vtt" | "tsv" | "rttm", None) => {
            name.parse().map_err(|_| unsupported())
        }
        _ => Err(unsupported()),
    }
}

fn render(
    result: &[u8],
    format: OutputFormat,
    job: &Job,
    query: &Download,
) -> Result<Vec<u8>, Problem> {
    let mut transcript: Transcript = serde_json::from_slice(result).map_err(|error| {
        tracing::error!(job.id = %job.id, %error, "a result could not be understood");
        Problem::internal()
    })?;
    if query.speaker_labels == Some(false) {
        without_speakers(&mut transcript);
    }
    if let Some(offset) = query.offset_seconds {
        let fits = offset.is_finite() && offset.abs() <= 360_000.0;
        let refuse = || Problem::new(400, "bad_query", "offset_seconds is at most 100 hours");
        shift(&mut transcript, fits.then_some(offset).ok_or_else(refuse)?);
    }
    let mut subtitle = job.options.subtitle;
    subtitle.max_line_width = query.max_line_width.unwrap_or(subtitle.max_line_width);
    subtitle.max_lines = query.max_lines.unwrap_or(subtitle.max_lines);
    subtitle.highlight_words = query.highlight_words.unwrap_or(subtitle.highlight_words);
    if !subtitle.fits() {
        let detail = "max_line_width is 8 to 200 and max_lines 1 to 4";
        return Err(Problem::new(400, "bad_query", detail));
    }
    let mut body = Vec::new();
    let writer = format.writer_with(subtitle.cues());
    transcript.write(writer, &mut body).map_err(|error| {
        tracing::error!(job.id = %job.id, %error, "a result could not be written");
        Problem::internal()
    })?;
    Ok(body)
}

fn without_speakers(transcript: &mut Transcript) {
    for segment in &mut transcript.segments {
        segment.speaker = None;
        segment.words.iter_mut().for_each(|word| word.speaker = None);
    }
}

/// Moves all times; none becomes negative.
fn shift(transcript: &mut Transcript, offset: f64) {
    let moved = |time: &mut f64| *time = (*time + offset).max(0.0);
    for segment in &mut transcript.segments {
        moved(&mut segment.start);
        moved(&mut segment.end);
        for word in &mut segment.words {
            moved(&mut word.start);
            moved(&mut word.end);
        }
    }
    for turn in &mut transcript.turns {
        moved(&mut turn.start);
        moved(&mut turn.end);
    }
}

fn attachment(body: Vec<u8>, format: OutputFormat, job: &Job, query: &Download) -> Response {
    let kind = match query.disposition.as_deref() {
        Some("inline") => "inline",
        _ => "attachment",
    };
    let name = format!("{kind}; filename=\"transcription-{}.{}\"", job.id, format.extension());
    let mut response = ([(header::CONTENT_TYPE, format.media_type())], body).into_response();
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    if let Ok(etag) = HeaderValue::from_str(&job.etag()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
