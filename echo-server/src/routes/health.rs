//! Probes and metrics.
//!
//! `live` says that this process answers; it never depends on workers, so that nobody restarts a
//! server because it works. `ready` says whether new work is welcome.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::app::{App, Drain};
use crate::auth::{self, ADMIN, Caller};
use crate::error::Problem;
use crate::metrics::label_text;
use crate::probe::Sight;
use crate::worker::SlotState;

/// The endpoints of operators.
pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let identified = from_fn_with_state(Arc::clone(app), auth::require);
    Router::new()
        .route("/health", get(summary))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics).layer(identified))
}

async fn live() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

async fn summary(State(app): State<Arc<App>>) -> Response {
    axum::Json(checks(&app).await.1).into_response()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let (is_ready, checks) = checks(&app).await;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(checks)).into_response()
}

async fn checks(app: &Arc<App>) -> (bool, Value) {
    let Sight { load, free_bytes, has_storage } = app.probe.look(app).await;
    let has_room = free_bytes.is_some_and(|free| free >= app.config.min_free_disk_bytes);
    let slots = app.pool.slots();
    let free_slots = slots.iter().filter(|slot| **slot == SlotState::Free).count();
    let reason = slots.iter().find_map(|slot| match slot {
        SlotState::Unready(reason) => Some(reason.clone()),
        _ => None,
    });
    let is_draining = app.drain_phase() > Drain::Running;
    // A queue that can be reached has workers, or will: jobs wait for them there.
    let is_reachable = app.queue.as_ref().map(|queue| queue.is_reachable());
    let has_workers = app.pool.is_ready() || is_reachable == Some(true);
    let is_ready = load.is_some() && has_storage && has_room && has_workers && !is_draining;
    let status = match (is_draining, is_ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not_ready",
    };
    let has_database = load.is_some();
    let load = load.unwrap_or_default();
    let document = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "checks": {
            "database": if has_database { "ok" } else { "failed" },
            "storage": if has_storage { "ok" } else { "failed" },
            "disk": { "free_bytes": free_bytes, "ok": has_room },
            "queue": { "backend": app.queue.as_ref().map_or("embedded", |queue| queue.name()), "reachable": is_reachable, "pending": load.pending, "processing": load.processing },
            "workers": { "slots_total": slots.len(), "slots_free": free_slots, "ok": has_workers, "reason": reason },
            "cache": app.cache.describe(),
        },
    });
    (is_ready, document)
}

/// The metrics alone, for everybody who reaches `ECHO_METRICS_ADDR`.
pub(super) fn metrics_router(app: &Arc<App>) -> Router {
    let answer = async |State(app): State<Arc<App>>| figures(&app).await;
    Router::new().route("/metrics", get(answer)).with_state(Arc::clone(app))
}

/// Open where everything is; else for operators, because it tells how much all tenants do.
async fn metrics(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    if auth::is_required(&app) {
        caller.may(ADMIN)?;
    }
    Ok(figures(&app).await)
}

async fn figures(app: &App) -> Response {
    let counts = app.db.call(|store| store.counts()).await.unwrap_or_default();
    let jobs: Vec<_> = counts
        .iter()
        .map(|(state, count)| (label_text(&[("state", state)]), *count as f64))
        .collect();
    let pending =
        counts.iter().find(|(state, _)| state == "pending").map_or(0, |(_, count)| *count);
    let slots = app.pool.slots();
    let slot_count = |name: &str, is: fn(&SlotState) -> bool| {
        (label_text(&[("state", name)]), slots.iter().filter(|slot| is(slot)).count() as f64)
    };
    let plain = |value: f64| vec![(String::new(), value)];
    let in_flight = app.config.max_concurrent_uploads - app.uploads.available_permits();
    let text = app.metrics.render(&[
        ("jobs", jobs),
        (
            "worker_slots",
            vec![
                slot_count("free", |slot| *slot == SlotState::Free),
                slot_count("busy", |slot| *slot == SlotState::Busy),
                slot_count("unready", |slot| {
                    matches!(slot, SlotState::Unready(_) | SlotState::Starting)
                }),
            ],
        ),
        ("backlog_estimate_seconds", plain(app.pool.wait_seconds(pending) as f64)),
        ("uploads_in_flight", plain(in_flight as f64)),
        ("disk_free_bytes", plain(app.files.free_bytes().unwrap_or(0) as f64)),
        ("build_info", vec![(label_text(&[("version", env!("CARGO_PKG_VERSION"))]), 1.0)]),
    ]);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text).into_response()
}
