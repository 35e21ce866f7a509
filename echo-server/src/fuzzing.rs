//! What the fuzz targets of `fuzz/` call: what comes from outside before anybody is trusted, and what
//! must hold of its answer besides not panicking.
//!
//! Compiled for fuzzing and for this crate's own tests only, which run the kept corpus.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::stream;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::app::App;
use crate::clock::now_ms;
use crate::config::{Config, Given};
use crate::job::{JobOptions, Submission};
use crate::outbound::{Policy, Url};
use crate::routes;
use crate::secrets::Secret;
use crate::store::Orphans;
use crate::upload;
use crate::webhook::sign::{signature, verify};

const MAX_FILE_BYTES: usize = 2048;
const SECRET: &str = "the secret of workers, in fuzzing";

/// A server with a database in memory and a folder of its own.
struct Ground {
    app: Arc<App>,
    router: Router,
    runtime: Runtime,
    folder: PathBuf,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("echo-server-fuzzing-{}", std::process::id()));
    let given = [
        ("DATABASE_URL", "sqlite://"),
        ("UPLOAD_DIR", &folder.to_string_lossy()),
        ("MAX_FILE_SIZE", &MAX_FILE_BYTES.to_string()),
        ("ECHO_MIN_FREE_DISK", "0"),
        ("ECHO_WORKER_SECRET", SECRET),
    ];
    let given: Given =
        given.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let config = Config::from_given(&given).expect("the variables fit");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("threads can be started");
    let app = runtime.block_on(async { App::open(config) }).expect("the folder can be made");
    Ground { router: routes::router(&app), app, runtime, folder }
});

/// Any bytes as a form with the boundary `sep`; the first one says in what pieces they come.
pub fn multipart(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first() else { return };
    let pieces = rest.chunks(1 + usize::from(*size)).map(Bytes::copy_from_slice);
    let pieces: Vec<_> = pieces.map(Ok::<_, Infallible>).collect();
    let mut request = Request::new(Body::from_stream(stream::iter(pieces)));
    let kind = HeaderValue::from_static("multipart/form-data; boundary=sep");
    request.headers_mut().insert("content-type", kind);
    let ground = &*GROUND;
    match ground.runtime.block_on(upload::receive(&ground.app, request)) {
        Ok(received) => {
            let (files, hash) = (&ground.app.files, received.blob.hash);
            let size = ground.runtime.block_on(files.blob_size(&hash));
            let size = size.expect("what was received is there");
            assert_eq!(size, received.blob.size_bytes);
            assert!((1..=MAX_FILE_BYTES as u64).contains(&size), "{size} bytes");
            let name = received.filename.unwrap_or_default();
            let is_tame = |c: char| !c.is_control() && !matches!(c, '/' | '\\');
            assert!(name.len() <= 255 && name.chars().all(is_tame), "{name:?}");
            check(routes::read_options(received.fields, "base"));
            let orphans = Orphans { blobs: vec![hash], results: Vec::new() };
            ground.runtime.block_on(files.remove(&orphans));
        }
        Err(problem) => assert!(problem.status.is_client_error(), "{problem:?}"),
    }
    let parts = std::fs::read_dir(ground.folder.join("parts")).expect("there is a folder");
    assert_eq!(parts.count(), 0, "nothing else is left");
}

/// Any text as options: a JSON object, or else lines of a form.
pub fn options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(&text) {
        check(Submission::from_map(fields, "base"));
        return;
    }
    let fields = text.lines().filter_map(|line| line.split_once('='));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    check(routes::read_options(fields, "base"));
}

/// Options that were taken survive the database, and the recogniser takes them, too.
fn check(submission: Result<Submission, crate::error::Problem>) {
    match submission {
        Ok(submission) => {
            let text = serde_json::to_string(&submission.options).expect("options can be written");
            let read: JobOptions = serde_json::from_str(&text).expect("and read again");
            assert_eq!(read, submission.options);
            submission.options.to_core().validate().expect("the recogniser takes them");
        }
        Err(problem) => assert!(problem.status.is_client_error() && !problem.detail.is_empty()),
    }
}

/// Any text as a URL and, on the next line, a reference that is followed from it.
pub fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (text, reference) = text.split_once('\n').unwrap_or((&text, ""));
    let Some(url) = Url::parse(text) else { return };
    check_url(&url);
    if let Some(next) = url.join(reference) {
        check_url(&next);
    }
}

/// A URL that was read can be written and asked for; one with a private address is not allowed.
fn check_url(url: &Url) {
    let again = Url::parse(&url.to_string());
    assert_eq!(again.as_ref(), Some(url), "{url} is read as it was written");
    assert!(Request::get(&url.path).body(()).is_ok(), "{url} can be asked for");
    assert!(HeaderValue::from_str(&url.authority()).is_ok(), "{url} has a host");
    let policy = Policy::new(&GROUND.app.config);
    let is_allowed = policy.check_form(url).is_ok();
    let Ok(address) = url.host.parse::<IpAddr>() else {
        assert!(!is_allowed || url.host != "localhost", "{url}");
        return;
    };
    let address = match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local(),
    };
    assert!(!(is_allowed && address), "{url} is private");
}

/// Any bytes as a message of a worker: identifier, time and signature on a line each, then the body.
pub fn webhook(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        if let Ok(value) = HeaderValue::from_bytes(parts.next().unwrap_or_default()) {
            headers.insert(name, value);
        }
    }
    let body = parts.next().unwrap_or_default();
    let (secret, now) = (Secret::new(SECRET), now_ms());
    assert!(verify(&secret, &headers, body, now).is_err(), "nobody knows the secret");
    let (id, at) = ("fuzzed", now / 1000);
    let signed = signature(&secret, id, at, body);
    let request = Request::post("/api/v1/webhooks/transcription")
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signed)
        .body(Body::from(body.to_vec()))
        .expect("a request can be made");
    let ground = &*GROUND;
    let answered = ground.runtime.block_on(ground.router.clone().oneshot(request));
    let status = answered.expect("a router answers").status();
    // No job is there that it could be about.
    assert!(status.is_client_error() && status != 401, "{status}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs the kept inputs of a target, and each cut off and damaged at every place.
    fn run(target: &str, parse: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            parse(&bytes);
            for at in 0..bytes.len() {
                parse(&bytes[..at]);
                let mut damaged = bytes.clone();
                damaged[at] = damaged[at].wrapping_add(1 + (at % 251) as u8);
                parse(&damaged);
            }
            count += 1;
        }
        assert!(count >= 3, "{target} has inputs");
    }

    #[test]
    fn forms_are_read_or_refused() {
        run("multipart", super::multipart);
    }

    #[test]
    fn options_are_read_or_refused() {
        run("options", super::options);
    }

    #[test]
    fn urls_are_read_or_refused() {
        run("url", super::url);
    }

    #[test]
    fn messages_of_nobody_are_refused() {
        run("webhook", super::webhook);
    }
}
