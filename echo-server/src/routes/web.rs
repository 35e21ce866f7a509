//! The web page: files of `echo-server/web`, which are part of the program.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::error::Problem;
use crate::secrets::sha256_hex;

// Written by `build.rs`: name and bytes of each file of `web`.
include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

/// `/` and what it refers to.
pub(super) fn router(app: &App) -> Router<Arc<App>> {
    if !app.config.has_ui {
        return Router::new();
    }
    Router::new().route("/", get(index)).route("/assets/{*path}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(&path, &headers)
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some((_, bytes)) = WEB_FILES.iter().find(|(known, _)| *known == name) else {
        return Problem::new(404, "not_found", "there is no such file").into_response();
    };
    let kind = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    // Asked about at each visit, sent again only after an update of the program.
    let etag = format!("\"{}\"", sha256_hex(bytes));
    let fixed = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, etag.as_str())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    (fixed, [(header::CONTENT_TYPE, kind)], *bytes).into_response()
}
