//! Answers whose whole body is at hand, sent as gzip to clients that take it.
//!
//! Each form of an answer has an entity tag of its own, as strong ones must: that of the plain form
//! with `-gzip` at its end. Streams, sound and small answers go as they are.

use std::io::Write;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Less is not worth it: it fits one packet anyway.
const MIN_BYTES: u64 = 1024;
/// More is compressed on a thread that may take its time.
const QUICK_BYTES: usize = 64 * 1024;
/// What the tag of the compressed form ends with.
const MARK: &str = "-gzip\"";

/// Compresses an answer if that is wanted and of use.
pub(super) async fn gzip(mut request: Request, next: Next) -> Response {
    let is_taken = accepts_gzip(request.headers());
    rewrite(request.headers_mut(), &header::IF_NONE_MATCH, |tags| tags.replace(MARK, "\""));
    let mut response = next.run(request).await;
    let is_known = response.status() == StatusCode::NOT_MODIFIED;
    if response.status() == StatusCode::OK || is_known {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if !is_taken {
        return response;
    }
    if is_known {
        mark(response.headers_mut());
        return response;
    }
    let size = HttpBody::size_hint(response.body()).exact();
    let is_plain = !response.headers().contains_key(header::CONTENT_ENCODING);
    if response.status() != StatusCode::OK || !is_plain || size.is_none_or(|size| size < MIN_BYTES)
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        // A body that is at hand does not break.
        return Response::from_parts(parts, Body::empty());
    };
    let packed = if plain.len() <= QUICK_BYTES {
        pack(&plain)
    } else {
        let own = plain.clone();
        tokio::task::spawn_blocking(move || pack(&own)).await.ok().flatten()
    };
    let Some(packed) = packed else { return Response::from_parts(parts, Body::from(plain)) };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(header::CONTENT_LENGTH);
    mark(&mut parts.headers);
    Response::from_parts(parts, Body::from(packed))
}

fn pack(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

fn mark(headers: &mut HeaderMap) {
    rewrite(headers, &header::ETAG, |tag| match tag.strip_suffix('"') {
        Some(inner) => format!("{inner}{MARK}"),
        None => tag.to_owned(),
    });
}

fn rewrite(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> String) {
    let changed = headers.get(name).and_then(|value| value.to_str().ok()).map(change);
    if let Some(value) = changed.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(name, value);
    }
}

/// Whether `Accept-Encoding` names gzip, or everything, and not with the quality 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists =
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    let (mut named, mut any) = (None, None);
    for item in lists.flat_map(|list| list.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
        let is_wanted = quality.is_some_and(|quality: f32| quality > 0.0);
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => named = Some(is_wanted),
            "*" => any = Some(is_wanted),
            _ => {}
        }
    }
    named.or(any).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn accepts(text: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(text).unwrap());
        accepts_gzip(&headers)
    }

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        for taken in ["gzip", "br, gzip;q=0.5", "GZIP", "*", "zstd;q=1, *;q=0.1", "gzip; q=1"] {
            assert!(accepts(taken), "{taken}");
        }
        for refused in ["", "br", "identity", "gzip;q=0", "*;q=0", "gzip;q=0, *", "gzip;q=x"] {
            assert!(!accepts(refused), "{refused}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_is_packed_is_all_there() {
        let plain = b"the same words, the same words, ".repeat(500);
        let packed = pack(&plain).unwrap();
        assert!(packed.len() < plain.len() / 20);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, plain);
    }
}
