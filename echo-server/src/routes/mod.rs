//! The endpoints. A handler extracts, calls and answers.

mod batch;
mod complete;
mod compress;
mod docs;
mod download;
mod events;
mod health;
mod idempotency;
mod keys;
mod layers;
mod list;
mod openai;
mod operators;
mod order;
mod query;
mod results;
mod retry;
mod secrets;
mod stream;
mod tickets;
mod transcription;
mod upload;
mod uploads;
mod url;
mod usage;
mod waveform;
mod web;
mod webhooks;
mod yaml;

pub use docs::OPENAPI;
#[cfg(any(fuzzing, test))]
pub(crate) use upload::read_options;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, head, post};

use crate::app::App;
use crate::auth;
use crate::error::Problem;

/// The metrics alone, for everybody who reaches them.
pub(crate) fn metrics_router(app: &Arc<App>) -> Router {
    health::metrics_router(app)
}

/// All endpoints.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let identified = || from_fn_with_state(Arc::clone(app), auth::require);
    // They read their bodies themselves, to the disk.
    let uploads = Router::new()
        .route("/upload/file", post(upload::file))
        .route("/uploads", post(uploads::create).options(uploads::options))
        .route("/uploads/{upload_id}", upload_methods())
        .layer(DefaultBodyLimit::disable());
    let api = Router::new()
        .route("/upload/url", post(url::url))
        .route("/upload/complete", post(complete::complete))
        .route("/batch", post(batch::create))
        .route("/batch/{batch_id}", get(batch::show))
        .route(
            "/transcription/{job_id}",
            get(transcription::show).delete(transcription::remove).layer(from_fn(compress::gzip)),
        )
        .route(
            "/transcription/{job_id}/download",
            get(download::download).layer(from_fn(compress::gzip)),
        )
        .route("/transcription/{job_id}/events", get(events::events))
        .route("/transcription/{job_id}/audio", get(download::audio))
        .route("/transcription/{job_id}/waveform", get(waveform::waveform))
        .route("/transcription/{job_id}/deliveries", get(webhooks::deliveries))
        .route(
            "/transcription/{job_id}/deliveries/{delivery_id}/redeliver",
            post(webhooks::redeliver),
        )
        .route("/transcription/{job_id}/retry", post(retry::retry))
        .route("/stream", get(stream::stream))
        .route("/tickets", post(tickets::issue))
        .route("/transcriptions", get(list::list))
        .route("/usage", get(usage::usage))
        .route("/models", get(openai::own_models))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{key_id}", delete(keys::revoke))
        .route("/webhook-secret", get(secrets::show))
        .route("/webhook-secret/rotate", post(secrets::rotate))
        .route("/workers", get(operators::workers))
        .route("/admin/drain", post(operators::drain))
        .layer(from_fn(layers::gather))
        .merge(uploads)
        .fallback(not_found)
        .layer(identified());
    // Workers are told apart by their signature, not by a tenant's token.
    let workers = Router::new()
        .route("/webhooks/transcription", post(webhooks::transcription))
        .route("/worker/jobs/{job_id}/audio", get(download::leased_audio))
        .route("/worker/jobs/{job_id}/checkpoint", get(download::leased_checkpoint));
    Router::new()
        .nest("/api/v1", workers.merge(api))
        .nest("/v1", openai::router().layer(identified()).layer(from_fn(openai::envelope)))
        .merge(health::router(app))
        .merge(docs::router(app).layer(from_fn(compress::gzip)))
        .merge(web::router(app).layer(from_fn(compress::gzip)))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(app), layers::share))
        .layer(from_fn(layers::harden))
        .layer(from_fn_with_state(Arc::clone(app), layers::observe))
        .with_state(Arc::clone(app))
}

/// Everything that tus does with one upload.
fn upload_methods() -> MethodRouter<Arc<App>> {
    head(uploads::one)
        .patch(uploads::one)
        .delete(uploads::one)
        .post(uploads::one)
        .options(uploads::options)
}

async fn not_found() -> Problem {
    Problem::new(404, "not_found", "there is nothing here")
}

async fn not_allowed() -> Problem {
    Problem::new(405, "method_not_allowed", "this is not done with that method")
}
