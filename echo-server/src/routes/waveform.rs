//! `GET /transcription/{job_id}/waveform`: the recording as a line to be drawn.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::query::{Path, Query};
use super::transcription::wait_for;
use crate::app::App;
use crate::auth::{Caller, READ};
use crate::error::{Answer, Problem};
use crate::upload::unread;
use crate::waveform::{DEFAULT_POINTS, MAX_POINTS, Waveform};

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct Drawn {
    points: Option<usize>,
}

/// Shows the amplitudes, as soon as a worker has decoded the recording.
pub(super) async fn waveform(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Drawn>,
) -> Answer {
    caller.may(READ)?;
    let points = query.points.unwrap_or(DEFAULT_POINTS);
    if !(1..=MAX_POINTS).contains(&points) {
        let detail = format!("points is 1 to {MAX_POINTS}");
        return Err(Problem::new(400, "bad_query", detail));
    }
    let job = wait_for(&app, &caller, &id, Duration::ZERO, |_| true).await?;
    let gone = || Problem::new(410, "result_expired", "the recording is not here");
    let is_over = job.state.is_final();
    let hash = job.blob_hash.as_deref();
    let Some(hash) = hash else { return Err(if is_over { gone() } else { not_ready() }) };
    let missing = || match is_over {
        true => Problem::new(404, "not_found", "there is no waveform of this recording"),
        false => not_ready(),
    };
    let json = app.files.waveform(hash).await.map_err(|error| unread(error, missing))?;
    let whole: Waveform = serde_json::from_slice(&json).map_err(|error| {
        tracing::error!(job.id = %job.id, %error, "a waveform could not be understood");
        Problem::internal()
    })?;
    Ok(Json(whole.thinned(points)).into_response())
}

fn not_ready() -> Problem {
    Problem::new(409, "not_ready", "the recording is not decoded yet").retry_after(2)
}
