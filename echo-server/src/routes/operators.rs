//! What operators ask for: who works, and that this server goes down in order.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::app::{App, Drain};
use crate::auth::{ADMIN, Caller};
use crate::clock::now_ms;
use crate::error::Answer;
use crate::worker::SlotState;

/// Workers that began no attempt for so long, and have none under way, are not shown.
const SHOWN_MS: i64 = 3600 * 1000;

/// Lists the processes of this server, and all workers that the database has heard of lately.
pub(super) async fn workers(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.may(ADMIN)?;
    let seen = app.db.call(|store| store.workers(now_ms() - SHOWN_MS)).await?;
    let slots = app.pool.slots();
    let slots: Vec<Value> =
        slots.iter().enumerate().map(|(slot, state)| shown(slot, state)).collect();
    Ok(axum::Json(json!({ "items": seen, "slots": slots })).into_response())
}

fn shown(slot: usize, state: &SlotState) -> Value {
    let (state, reason) = match state {
        SlotState::Starting => ("starting", None),
        SlotState::Free => ("free", None),
        SlotState::Busy => ("busy", None),
        SlotState::Unready(reason) => ("unready", Some(reason)),
    };
    json!({ "slot": slot, "state": state, "reason": reason })
}

/// Lets the server go down as SIGTERM does.
pub(super) async fn drain(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.may(ADMIN)?;
    caller.audit(&app, "drain", "server").await;
    if app.drain_phase() == Drain::Running {
        app.stop.notify_one();
    }
    Ok((StatusCode::ACCEPTED, axum::Json(json!({ "status": "draining" }))).into_response())
}
