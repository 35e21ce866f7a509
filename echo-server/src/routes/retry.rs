//! `POST /transcription/{job_id}/retry`: the same recording with the same options once more.

use std::sync::Arc;

use axum::extract::State;

use super::query::Path;
use super::upload::submitted;
use crate::app::App;
use crate::auth::{Caller, WRITE};
use crate::error::{Answer, Problem};
use crate::room;
use crate::submit::submit_again;

/// Makes a new job of one that is over.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    caller.may(WRITE)?;
    room::check(&app, &caller, 1).await?;
    let tenant = caller.tenant.clone();
    let job = app.db.call(move |store| store.job(&tenant, &id)).await?;
    let job = job.ok_or_else(Problem::job_not_found)?;
    if !job.state.is_final() {
        let problem = Problem::new(409, "not_ready", "the transcription is not over");
        return Err(problem.with("job_status", job.state.as_str()).retry_after(2));
    }
    let again = submit_again(&app, &caller, &job).await?;
    Ok(submitted(&app, &again))
}
