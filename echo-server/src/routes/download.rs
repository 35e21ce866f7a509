//! `GET /transcription/{job_id}/download` and `/audio`: a result in the format asked for, and the recording.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use echo_core::Transcript;
use echo_core::formats::OutputFormat;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::query::{Path, Query};
use super::results::result_of;
use super::transcription::{is_known, wait_for};
use crate::app::App;
use crate::auth::{Caller, READ};
use crate::error::{Answer, Problem};
use crate::job::{Job, Subtitle};
use crate::store::{Lease, StoreError};
use crate::upload::unread;

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
    disposition: Option<Disposition>,
}

/// What a browser does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Disposition {
    /// Keeps it as a file.
    Attachment,
    /// Shows it.
    Inline,
}

/// Writes the transcript down.
pub(super) async fn download(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Download>,
    headers: HeaderMap,
) -> Answer {
    caller.may(READ)?;
    let format = format(&query)?;
    check(&query)?;
    let job = wait_for(&app, &caller, &id, Duration::ZERO, |_| true).await?;
    let result = result_of(&app, &job).await?;
    if is_known(&headers, &job.etag()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, job.etag())]).into_response());
    }
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

/// Whether all that may be asked of any format fits, also where this one has no use for it.
fn check(query: &Download) -> Result<(), Problem> {
    let bad = |detail: &str| Err(Problem::new(400, "bad_query", detail));
    if query.offset_seconds.is_some_and(|offset| !offset.is_finite() || offset.abs() > 360_000.0) {
        return bad("offset_seconds is at most 100 hours");
    }
    if subtitle(Subtitle::default(), query).fits() {
        return Ok(());
    }
    bad("max_line_width is 8 to 200 and max_lines 1 to 4")
}

/// How subtitles are cut: as the query says, else as the job does.
fn subtitle(of_job: Subtitle, query: &Download) -> Subtitle {
    Subtitle {
        max_line_width: query.max_line_width.unwrap_or(of_job.max_line_width),
        max_lines: query.max_lines.unwrap_or(of_job.max_lines),
        highlight_words: query.highlight_words.unwrap_or(of_job.highlight_words),
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
        shift(&mut transcript, offset);
    }
    let mut body = Vec::new();
    let writer = format.writer_with(subtitle(job.options.subtitle, query).cues());
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
    let kind = match query.disposition {
        Some(Disposition::Inline) => "inline",
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

/// Sends the recording back, or a range of it.
pub(super) async fn audio(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    caller.may(READ)?;
    let job = wait_for(&app, &caller, &id, Duration::ZERO, |_| true).await?;
    recording(&app, &job, &headers).await
}

/// Sends the recording to the worker that holds the job's lease: `Bearer EPOCH.TOKEN`.
pub(super) async fn leased_audio(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let lease = lease_of(&headers)?;
    let job = app.db.call(move |store| store.leased(&lease)).await?;
    // A run that was handed over is of another job by now, and of the same sound.
    let job = job.ok_or(StoreError::Fenced)?;
    tracing::debug!(job.id = %job.id, asked = %id, "a worker fetches its sound");
    recording(&app, &job, &headers).await
}

/// Sends what earlier attempts have done to the worker that holds the job's lease, part by part.
pub(super) async fn leased_checkpoint(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let lease = lease_of(&headers)?;
    let parts = app.db.call(move |store| store.checkpoints(&lease)).await?;
    tracing::debug!(asked = %id, parts = parts.len(), "a worker fetches what is done");
    let raw = |part: String| RawValue::from_string(part).unwrap_or_default();
    Ok(axum::Json(parts.into_iter().map(raw).collect::<Vec<_>>()).into_response())
}

/// The lease that a worker shows.
fn lease_of(headers: &HeaderMap) -> Result<Lease, Problem> {
    let refuse = || Problem::new(401, "unauthorized", "expected the lease of the job");
    let text = headers.get(header::AUTHORIZATION).and_then(|text| text.to_str().ok());
    let lease = text.and_then(|text| text.strip_prefix("Bearer ")?.split_once('.'));
    let (epoch, token) = lease.ok_or_else(refuse)?;
    Ok(Lease::from_token(epoch.parse().map_err(|_| refuse())?, token))
}

async fn recording(app: &App, job: &Job, headers: &HeaderMap) -> Answer {
    let gone = || Problem::new(410, "result_expired", "the recording is not here");
    let hash = job.blob_hash.as_deref().ok_or_else(gone)?;
    let size = app.files.blob_size(hash).await.map_err(|error| unread(error, gone))?;
    let range = headers.get(header::RANGE).and_then(|text| range(text.to_str().ok()?, size));
    let (start, end) = range.unwrap_or((0, size));
    let chunks = app.files.read_blob(hash, start, end).await;
    let chunks = chunks.map_err(|error| unread(error, gone))?;
    let mut response = Response::new(Body::from_stream(chunks));
    // The type that the bytes have, never one that the client claimed.
    let kind = job.source.media_type.as_deref().unwrap_or("application/octet-stream");
    let mut fields = vec![
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, (end - start).to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_DISPOSITION, "inline".to_owned()),
    ];
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        fields.push((header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1)));
    }
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(|_| gone())?);
    }
    Ok(response)
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-n`, as start and end within the size.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(start), Some(last)) => (start, last.saturating_add(1).min(size)),
        (Some(start), None) if last.is_empty() => (start, size),
        (None, Some(count)) if first.is_empty() => (size.saturating_sub(count), size),
        _ => return None,
    };
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_within_the_file() {
        assert_eq!(range("bytes=0-99", 50), Some((0, 50)));
        assert_eq!(range("bytes=10-", 50), Some((10, 50)));
        assert_eq!(range("bytes=-10", 50), Some((40, 50)));
        for bad in ["bytes=50-", "bytes=5-4", "bytes=-", "lines=1-2", "bytes=0-1,3-4"] {
            assert_eq!(range(bad, 50), None, "{bad}");
        }
    }
}
