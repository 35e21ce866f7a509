//! Bodies of requests to files: multipart in any order of fields, or the bare bytes.
//!
//! Nothing is believed and little is held: bytes stream to the disk as they come, a sender that is
//! too slow or sends too much is cut off, and what the bytes are is told from the bytes.

mod meter;
mod pace;
pub(crate) mod resumable;
mod sniff;

use std::time::Duration;

use axum::body::Body;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::{App, Drain};
use crate::error::Problem;
use crate::job::TextField;
use crate::storage::{Blob, Part, is_away};
use meter::Meter;

pub(crate) use pace::{Gathering, Pace, gather};
pub(crate) use sniff::media_type;

/// How long a body waits for its turn to be read.
pub(crate) const QUEUE: Duration = Duration::from_secs(10);
/// How long and how far a refused body is read on.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 4 << 20;
/// More than there are options and hotwords.
const MAX_PARTS: usize = 256;
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// What came in a body.
#[derive(Debug)]
pub(crate) struct Received {
    /// The file.
    pub(crate) blob: Blob,
    /// What the client calls it.
    pub(crate) filename: Option<String>,
    /// What it is.
    pub(crate) media_type: &'static str,
    /// All other fields.
    pub(crate) fields: Vec<TextField>,
}

/// Checks what can be checked before a body is read, and waits for a turn to read it.
///
/// # Errors
/// The reason to refuse the request, with the connection closed.
pub(crate) async fn admit(app: &App, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Problem> {
    if app.drain_phase() >= Drain::Refusing {
        let problem = Problem::new(503, "draining", "the server is going down");
        return Err(problem.retry_after(5).closing());
    }
    let free = app.files.free_bytes().unwrap_or(u64::MAX);
    if free < app.config.min_free_disk_bytes {
        let problem = Problem::new(507, "insufficient_storage", "the disk is nearly full");
        return Err(problem.retry_after(60).closing());
    }
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > most_bytes(app)) {
        return Err(too_large(app).closing());
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let detail = "send the file as it is, without Content-Encoding";
        return Err(Problem::new(415, "content_encoding_not_supported", detail).closing());
    }
    match timeout(QUEUE, std::sync::Arc::clone(&app.uploads).acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => {
            let problem = Problem::new(503, "too_many_uploads", "too many uploads at once");
            Err(problem.retry_after(2).closing())
        }
    }
}

/// The longest body: boundaries and fields of a form come on top of the file.
fn most_bytes(app: &App) -> u64 {
    app.config.max_file_bytes.saturating_add(1 << 20)
}

/// Reads a body to the disk. The permit of [`admit`] must be held meanwhile.
///
/// # Errors
/// What is wrong with the body.
pub(crate) async fn receive(app: &App, request: Request) -> Result<Received, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_form =
        kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data"));
    let (part, filename, fields) = if is_form {
        let (parts, body) = request.into_parts();
        let (meter, body) = Meter::of(body, most_bytes(app), too_large(app));
        let form = Multipart::from_request(Request::from_parts(parts, body), &()).await;
        let bad = |error: MultipartRejection| {
            Problem::new(400, "bad_multipart", error.body_text()).closing()
        };
        read_form(app, form.map_err(bad)?, &meter).await?
    } else {
        (read_bare(app, request.into_body()).await?, None, Vec::new())
    };
    let media_type = sound_type(part.size_bytes(), part.head())?;
    let blob = app.files.keep(part).await.map_err(disk)?;
    app.metrics.add("upload_bytes_total", &[], blob.size_bytes as f64);
    Ok(Received { blob, filename, media_type, fields })
}

type Form = (Part, Option<String>, Vec<TextField>);

async fn read_form(app: &App, mut form: Multipart, meter: &Meter) -> Result<Form, Problem> {
    let (mut file, mut filename, mut fields) = (None, None, Vec::new());
    for count in 0.. {
        let Some(mut field) = meter.wait(form.next_field()).await? else { break };
        meter.part();
        if count >= MAX_PARTS {
            return Err(Problem::new(400, "bad_multipart", format!("more than {MAX_PARTS} parts"))
                .closing());
        }
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            if file.is_some() {
                return Err(Problem::new(422, "conflicting_field", "more than one file").closing());
            }
            filename = field.file_name().map(clean_filename);
            let mut part = app.files.part().await.map_err(disk)?;
            while let Some(chunk) = meter.wait(field.chunk()).await? {
                if let Err(problem) = append(app, &mut part, &chunk).await {
                    meter.over();
                    linger(&mut field).await;
                    return Err(problem);
                }
            }
            file = Some(part);
        } else {
            let mut text = Vec::new();
            while let Some(chunk) = meter.wait(field.chunk()).await? {
                if text.len() + chunk.len() > MAX_FIELD_BYTES {
                    let detail = format!("the field `{name}` is longer than 64 KiB");
                    return Err(Problem::new(413, "body_too_large", detail).closing());
                }
                text.extend_from_slice(&chunk);
            }
            let text = String::from_utf8(text).map_err(|_| {
                Problem::new(400, "bad_multipart", format!("`{name}` is not UTF-8"))
            })?;
            fields.push((name, text));
        }
        meter.gap();
    }
    let missing = || Problem::new(422, "missing_file", "the form has no part named `file`");
    Ok((file.ok_or_else(missing)?, filename, fields))
}

async fn read_bare(app: &App, body: Body) -> Result<Part, Problem> {
    let mut part = app.files.part().await.map_err(disk)?;
    let mut stream = body.into_data_stream();
    let mut pace = Pace::new();
    while let Some(chunk) = pace.wait(stream.next()).await? {
        let chunk = chunk.map_err(|_| aborted())?;
        pace.got(chunk.len())?;
        if let Err(problem) = append(app, &mut part, &chunk).await {
            linger(&mut stream).await;
            return Err(problem);
        }
    }
    Ok(part)
}

/// Reads on for a moment after a refusal: whoever is still sending when the connection is closed sees
/// a broken pipe instead of the answer.
pub(crate) async fn linger<E>(body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin)) {
    let read = async {
        let mut left_bytes = LINGER_BYTES;
        while let Some(Ok(chunk)) = body.next().await
            && chunk.len() < left_bytes
        {
            left_bytes -= chunk.len();
        }
    };
    let _ = timeout(LINGER, read).await;
}

async fn append(app: &App, part: &mut Part, chunk: &[u8]) -> Result<(), Problem> {
    if part.size_bytes() + chunk.len() as u64 > app.config.max_file_bytes {
        return Err(too_large(app).closing());
    }
    part.write(chunk).await.map_err(disk)
}

/// What the bytes are, if they may be sound.
pub(crate) fn sound_type(size_bytes: u64, head: &[u8]) -> Result<&'static str, Problem> {
    if size_bytes == 0 {
        return Err(Problem::new(422, "empty_file", "the file is empty"));
    }
    media_type(head).map_err(|what| {
        let detail = format!("the file is {what}, expected sound or video");
        Problem::new(415, "unsupported_media", detail)
    })
}

/// More than the server takes.
pub(crate) fn too_large(app: &App) -> Problem {
    let detail = format!("more than {} bytes", app.config.max_file_bytes);
    Problem::new(413, "file_too_large", detail).with("limit_bytes", app.config.max_file_bytes)
}

fn bad_form(error: &axum::extract::multipart::MultipartError) -> Problem {
    tracing::debug!(%error, "a form could not be read");
    Problem::new(400, "bad_multipart", error.body_text()).closing()
}

/// A body that was cut off.
pub(crate) fn aborted() -> Problem {
    Problem::new(400, "upload_aborted", "the body ended early").closing()
}

/// What a client is told when a file cannot be read: that it is gone, or to ask again.
pub(crate) fn unread(error: std::io::Error, gone: impl FnOnce() -> Problem) -> Problem {
    if error.kind() == std::io::ErrorKind::NotFound {
        return gone();
    }
    tracing::error!(%error, "a file could not be read");
    if is_away(&error) { away() } else { Problem::internal() }
}

fn away() -> Problem {
    Problem::new(503, "dependency_unavailable", "the storage cannot be reached").retry_after(5)
}

/// What a client is told when a file cannot be written.
pub(crate) fn disk(error: std::io::Error) -> Problem {
    tracing::error!(%error, "a file could not be written");
    if is_away(&error) {
        return away().closing();
    }
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Problem::new(507, "insufficient_storage", "the disk is full")
            .retry_after(60)
            .closing();
    }
    Problem::internal()
}

/// A name to show: at most 255 bytes, without folders, control characters and changes of direction.
pub(crate) fn clean_filename(name: &str) -> String {
    let is_bidi = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut clean = String::new();
    for c in name.chars().filter(|c| !c.is_control() && !is_bidi(*c)) {
        if clean.len() + c.len_utf8() > 255 {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filename_is_no_path_and_plays_no_tricks() {
        assert_eq!(clean_filename("../../etc/pass\u{0}wd"), "passwd");
        assert_eq!(clean_filename(r"C:\x\reunião.mp3"), "reunião.mp3");
        assert_eq!(clean_filename("gpj\u{202e}exe"), "gpjexe");
        assert!(clean_filename(&"ã".repeat(300)).len() <= 255);
    }
}
