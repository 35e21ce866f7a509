//! The description of the interface: `/openapi.json`, what is said in live sessions, event streams
//! and callbacks (`/asyncapi.yaml`), and a page that shows the first without a network.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::yaml;
use crate::app::App;
use crate::auth;
use crate::config::Config;

/// The document, kept by hand and pinned by tests: every route is in it, and nothing else.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// What is said beside requests and answers, kept by hand; tests compare it with what is said.
const ASYNCAPI: &str = include_str!("../../asyncapi.json");

/// The description's endpoints.
pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let router = Router::new()
        .route("/openapi.json", get(openapi))
        .route("/openapi.yaml", get(openapi_yaml))
        .route("/asyncapi.yaml", get(asyncapi_yaml))
        .route("/docs", get(docs));
    if app.config.has_public_docs {
        return router;
    }
    router.layer(from_fn_with_state(Arc::clone(app), auth::require))
}

async fn openapi(State(app): State<Arc<App>>) -> Response {
    axum::Json(of(&app.config)).into_response()
}

async fn openapi_yaml(State(app): State<Arc<App>>) -> Response {
    as_yaml(&of(&app.config))
}

async fn asyncapi_yaml() -> Response {
    as_yaml(&serde_json::from_str(ASYNCAPI).unwrap_or_default())
}

fn as_yaml(document: &Value) -> Response {
    // RFC 9512.
    ([(header::CONTENT_TYPE, "application/yaml")], yaml::of(document)).into_response()
}

/// The document with what only a running server knows: its models, its limit of size, whether it
/// asks who calls.
fn of(config: &Config) -> Value {
    let mut document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    let schemas = &mut document["components"]["schemas"];
    schemas["Options"]["properties"]["model"]["enum"] = json!([config.model, null]);
    schemas["OpenAiModel"]["enum"] = json!(super::openai::names(&config.model));
    let create = &mut document["paths"]["/api/v1/uploads"]["post"];
    create["parameters"][1]["schema"]["maximum"] = json!(config.max_file_bytes);
    if config.has_auth() {
        document["security"] = json!([{ "bearer": [] }]);
    }
    document
}

async fn docs() -> Response {
    let html = include_str!("docs.html");
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page(html)).into_response()
}

/// Writes the operations of the document into the page; no script is needed to read them.
fn page(template: &str) -> String {
    let document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    #[test]
    fn the_document_of_a_running_server_names_what_it_has() {
        let given = [("ECHO_MODEL", "tiny"), ("MAX_FILE_SIZE", "2KB")];
        let given: Given =
            given.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let document = of(&Config::from_given(&given).unwrap());
        let found = |path: &str| document.pointer(path).unwrap();
        let options = "/components/schemas/Options/properties";
        assert_eq!(*found(&format!("{options}/model/enum")), json!(["tiny", null]));
        assert_eq!(found("/components/schemas/OpenAiModel/enum")[1], "whisper-1");
        let length = found("/paths/~1api~1v1~1uploads/post/parameters/1");
        assert_eq!(
            (&length["name"], &length["schema"]["maximum"]),
            (&json!("Upload-Length"), &json!(2048))
        );
        // Nothing was added at a place that is not there.
        assert_eq!(found(&format!("{options}/model/type"))[0], "string");
        assert_eq!(found("/components/schemas/OpenAiModel/type"), "string");
        assert_eq!(found("/security").as_array().unwrap().len(), 2);
    }
}
