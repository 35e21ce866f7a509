//! `/uploads`: the protocol tus 1.0 (core, creation, expiration, termination, checksum).
//!
//! A client that was cut off asks with `HEAD` how far it came and sends the rest with `PATCH`. A newer
//! request for an upload ends an older one: its connection died, and the server has not noticed yet.
//! See <https://tus.io/protocols/resumable-upload>.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use sha2::Digest;

use super::query::Path;
use crate::app::App;
use crate::auth::{Caller, WRITE};
use crate::clock::http_date;
use crate::error::{Answer, Problem};
use crate::room;
use crate::upload::resumable::{About, Piece, Standing, Turn};
use crate::upload::{self, Pace, clean_filename, disk};

const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
const PIECE_TYPE: &str = "application/offset+octet-stream";
const MAX_METADATA_BYTES: usize = 4096;

/// What the server can do.
pub(super) async fn options(State(app): State<Arc<App>>) -> Response {
    let most = app.config.max_file_bytes.to_string();
    let headers = [
        ("tus-resumable", "1.0.0"),
        ("tus-version", "1.0.0"),
        ("tus-extension", "creation,expiration,termination,checksum"),
        ("tus-checksum-algorithm", "sha1,sha256"),
        ("tus-max-size", &most),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Starts an upload.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer {
    caller.may(WRITE)?;
    check_version(&headers)?;
    room::check(&app, &caller, 1).await?;
    drop(upload::admit(&app, &headers).await?);
    let length = number(&headers, "upload-length")?
        .ok_or_else(|| Problem::new(400, "bad_query", "Upload-Length is missing"))?;
    if length == 0 {
        return Err(Problem::new(422, "empty_file", "the file is empty"));
    }
    if length > app.config.max_file_bytes {
        return Err(upload::too_large(&app));
    }
    let metadata = match headers.get("upload-metadata") {
        Some(value) => value.to_str().map_err(|_| bad_metadata("is not ASCII"))?,
        None => "",
    };
    let filename = filename(metadata)?;
    let about = About {
        tenant: caller.tenant,
        length,
        filename,
        metadata: metadata.to_owned(),
        job_id: None,
    };
    let (id, standing) = app.resumable.create(&about).await.map_err(disk)?;
    let mut response = answer(StatusCode::CREATED, &standing);
    let location = format!("/api/v1/uploads/{id}");
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert("location", location);
    }
    Ok(response)
}

/// Everything about one upload: the method says what.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    caller.may(WRITE)?;
    check_version(request.headers())?;
    // For clients behind proxies that let only GET and POST through.
    let method = match text(request.headers(), "x-http-method-override") {
        Some(name) if request.method() == Method::POST => name.parse().unwrap_or_default(),
        _ => request.method().clone(),
    };
    match method {
        Method::HEAD => show(&app, &caller, &id).await,
        Method::PATCH => append(&app, &caller, &id, request).await,
        Method::DELETE => remove(&app, &caller, &id).await,
        _ => Err(super::not_allowed().await),
    }
}

async fn show(app: &App, caller: &Caller, id: &str) -> Answer {
    // Whoever asks has given up on what it was sending; what has come is counted first.
    let (turn, standing) = open(app, caller, id).await?;
    drop(turn);
    let mut response = answer(StatusCode::OK, &standing);
    let length = HeaderValue::from(standing.about.length);
    response.headers_mut().insert("upload-length", length);
    if let Ok(metadata) = HeaderValue::from_str(&standing.about.metadata)
        && !metadata.is_empty()
    {
        response.headers_mut().insert("upload-metadata", metadata);
    }
    Ok(response)
}

async fn append(app: &App, caller: &Caller, id: &str, request: Request) -> Answer {
    if text(request.headers(), "content-type") != Some(PIECE_TYPE) {
        let detail = format!("Content-Type has to be {PIECE_TYPE}");
        return Err(Problem::new(415, "unsupported_media", detail).closing());
    }
    let place = upload::admit(app, request.headers()).await?;
    let (mut turn, standing) = open(app, caller, id).await?;
    let given = number(request.headers(), "upload-offset")?;
    if given != Some(standing.offset) {
        return Err(mismatch(&standing).closing());
    }
    let checksum = Checksum::of(request.headers())?;
    if standing.offset == standing.about.length {
        return Ok(answer(StatusCode::NO_CONTENT, &standing));
    }
    let piece = app.resumable.append(id, standing.offset).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::WouldBlock { busy() } else { disk(error) }
    })?;
    let (_, body) = request.into_parts();
    let received = receive(piece, body, checksum, &mut turn, standing.about.length).await;
    drop((turn, place));
    received?;
    let after = app.resumable.standing(id).await.map_err(disk)?.ok_or_else(not_found)?;
    app.metrics.add("upload_bytes_total", &[], (after.offset - standing.offset) as f64);
    Ok(answer(StatusCode::NO_CONTENT, &after))
}

/// Reads a piece. What has come before something went wrong stays, unless it had a checksum.
async fn receive(
    mut piece: Piece,
    body: Body,
    mut checksum: Option<Checksum>,
    turn: &mut Turn,
    length: u64,
) -> Result<(), Problem> {
    let mut stream = body.into_data_stream();
    let mut pace = Pace::new();
    let ended = loop {
        let chunk = tokio::select! {
            chunk = pace.wait(stream.next()) => chunk,
            () = turn.wanted_elsewhere() => break Err(busy().closing()),
        };
        let chunk = match chunk {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_))) => break Err(upload::aborted()),
            Ok(None) => break Ok(()),
            Err(problem) => break Err(problem),
        };
        if piece.offset() + chunk.len() as u64 > length {
            let detail = "more bytes than Upload-Length";
            break Err(Problem::new(413, "body_too_large", detail).closing());
        }
        if let Err(error) = piece.write(&chunk).await {
            break Err(disk(error));
        }
        if let Some(checksum) = &mut checksum {
            checksum.update(&chunk);
        }
        if let Err(problem) = pace.got(chunk.len()) {
            break Err(problem);
        }
    };
    let Some(checksum) = checksum else {
        piece.keep().await.map_err(disk)?;
        return ended;
    };
    if ended.is_ok() && checksum.fits() {
        piece.keep().await.map_err(disk)?;
        return Ok(());
    }
    piece.undo().await.map_err(disk)?;
    ended?;
    Err(Problem::new(460, "digest_mismatch", "the bytes are not those of Upload-Checksum"))
}

async fn remove(app: &App, caller: &Caller, id: &str) -> Answer {
    let (turn, _) = open(app, caller, id).await?;
    app.resumable.remove(id).await.map_err(disk)?;
    drop(turn);
    Ok((StatusCode::NO_CONTENT, [("tus-resumable", VERSION)]).into_response())
}

/// The upload of this name, if it is the caller's and not over, with the right to write to it.
pub(super) async fn open(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<(Turn, Standing), Problem> {
    let find = async || {
        let found = app.resumable.standing(id).await.map_err(disk)?;
        found.filter(|upload| upload.about.tenant == caller.tenant).ok_or_else(not_found)
    };
    if find().await?.is_expired() {
        return Err(Problem::new(410, "upload_expired", "the upload is over: start anew"));
    }
    let turn = app.resumable.turn(id).await.ok_or_else(busy)?;
    Ok((turn, find().await?))
}

fn answer(status: StatusCode, standing: &Standing) -> Response {
    let headers = [
        ("tus-resumable", VERSION),
        ("upload-offset", HeaderValue::from(standing.offset)),
        ("cache-control", HeaderValue::from_static("no-store")),
    ];
    let mut response = (status, headers).into_response();
    if let Ok(date) = HeaderValue::from_str(&http_date(standing.expires_at)) {
        response.headers_mut().insert("upload-expires", date);
    }
    response
}

fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get("tus-resumable").is_some_and(|version| version == VERSION) {
        return Ok(());
    }
    Err(Problem::new(412, "bad_query", "send Tus-Resumable: 1.0.0").closing())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let bad = || Problem::new(400, "bad_query", format!("{name} is no number")).closing();
    number.map(Some).ok_or_else(bad)
}

/// The file's name in `Upload-Metadata: filename QQ==,filetype QQ==`.
fn filename(metadata: &str) -> Result<Option<String>, Problem> {
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(bad_metadata("is longer than 4096 bytes"));
    }
    let mut found = None;
    for pair in metadata.split(',').filter(|_| !metadata.is_empty()) {
        let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad_metadata("has a pair without a name"));
        }
        let value = STANDARD.decode(value).map_err(|_| bad_metadata("is not in base64"))?;
        if found.is_none() && matches!(name, "filename" | "name") {
            let name = clean_filename(&String::from_utf8_lossy(&value));
            found = Some(name).filter(|name| !name.is_empty());
        }
    }
    Ok(found)
}

fn bad_metadata(detail: &str) -> Problem {
    Problem::new(400, "bad_query", format!("Upload-Metadata {detail}"))
}

/// What the bytes of a piece have to give.
enum Checksum {
    Sha1(sha1::Sha1, Vec<u8>),
    Sha256(sha2::Sha256, Vec<u8>),
}

impl Checksum {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(given) = text(headers, "upload-checksum") else { return Ok(None) };
        let bad = || {
            let detail = "Upload-Checksum is `sha1` or `sha256` and a digest in base64";
            Problem::new(400, "bad_query", detail).closing()
        };
        let (name, digest) = given.trim().split_once(' ').ok_or_else(bad)?;
        let digest = STANDARD.decode(digest.trim()).map_err(|_| bad())?;
        match name {
            "sha1" => Ok(Some(Self::Sha1(sha1::Sha1::new(), digest))),
            "sha256" => Ok(Some(Self::Sha256(sha2::Sha256::new(), digest))),
            _ => Err(bad()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher, _) => hasher.update(bytes),
            Self::Sha256(hasher, _) => hasher.update(bytes),
        }
    }

    fn fits(self) -> bool {
        match self {
            Self::Sha1(hasher, digest) => hasher.finalize().as_slice() == digest,
            Self::Sha256(hasher, digest) => hasher.finalize().as_slice() == digest,
        }
    }
}

pub(super) fn mismatch(standing: &Standing) -> Problem {
    let detail = format!("{} of {} bytes are here", standing.offset, standing.about.length);
    let problem = Problem::new(409, "upload_offset_mismatch", detail);
    problem.with("offset", standing.offset).with("length", standing.about.length)
}

fn busy() -> Problem {
    Problem::new(423, "upload_busy", "another request writes to this upload").retry_after(1)
}

pub(super) fn not_found() -> Problem {
    Problem::new(404, "not_found", "there is no such upload")
}
