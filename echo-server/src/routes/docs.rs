//! The description of the interface: `/openapi.json`, and a page that shows it without a network.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::auth;

/// The document, kept by hand and pinned by tests: every route is in it, and nothing else.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// The description's endpoints.
pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let router = Router::new().route("/openapi.json", get(openapi)).route("/docs", get(docs));
    if app.config.has_public_docs {
        return router;
    }
    router.layer(from_fn_with_state(Arc::clone(app), auth::require))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn docs() -> Response {
    let html = include_str!("docs.html");
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page(html)).into_response()
}

/// Writes the operations of the document into the page; no script is needed to read them.
fn page(template: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut rows = String::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let summary = operation["summary"].as_str().unwrap_or_default();
            rows.push_str(&format!(
                "<tr><td>{}</td><td><code>{}</code></td><td>{}</td></tr>\n",
                method.to_uppercase(),
                escape(path),
                escape(summary)
            ));
        }
    }
    template.replace("<!-- operations -->", &rows)
}
