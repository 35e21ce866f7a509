//! The endpoints. A handler extracts, calls and answers.

mod download;
mod health;
mod layers;
mod list;
mod results;
mod transcription;
mod upload;
mod web;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::app::App;
use crate::auth;
use crate::error::Problem;

/// All endpoints.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let api = Router::new()
        .route("/upload/file", post(upload::file))
        .route("/transcription/{job_id}", get(transcription::show).delete(transcription::remove))
        .route("/transcription/{job_id}/download", get(download::download))
        .route("/transcriptions", get(list::list))
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::clone(app), auth::require));
    Router::new()
        .nest("/api/v1", api)
        .merge(health::router())
        .merge(web::router(app))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(layers::harden))
        .layer(from_fn_with_state(Arc::clone(app), layers::observe))
        .with_state(Arc::clone(app))
}

async fn not_found() -> Problem {
    Problem::new(404, "not_found", "there is nothing here")
}

async fn not_allowed() -> Problem {
    Problem::new(405, "method_not_allowed", "this is not done with that method")
}
