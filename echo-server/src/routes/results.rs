//! Results read from where they lie: at hand, or in storage.

use bytes::Bytes;

use crate::app::App;
use crate::error::Problem;
use crate::job::{Job, State};
use crate::upload::unread;

/// The result of a completed job, as JSON text.
///
/// # Errors
/// Why there is none.
pub(super) async fn result_of(app: &App, job: &Job) -> Result<Bytes, Problem> {
    match job.state {
        State::Completed => {}
        State::Failed => {
            let reason = job.error.as_ref().map_or("it failed", |error| &error.message);
            return Err(Problem::new(409, "job_failed", reason));
        }
        State::Cancelled => return Err(Problem::new(409, "job_cancelled", "it was cancelled")),
        State::Pending | State::Processing => {
            let problem = Problem::new(409, "not_ready", "the transcription is not done yet");
            let problem =
                problem.with("job_status", job.state.as_str()).with("progress", job.progress);
            return Err(problem.retry_after(2));
        }
    }
    let gone = || Problem::new(410, "result_expired", "the result was erased");
    let key = job.cache_key.as_deref().ok_or_else(gone)?;
    if let Some(result) = app.cache.get(key).await {
        app.metrics.add("cache_requests_total", &[("result", "hit")], 1.0);
        return Ok(result);
    }
    app.metrics.add("cache_requests_total", &[("result", "miss")], 1.0);
    match app.files.result(key).await {
        Ok(result) => {
            app.cache.put(key, result.clone()).await;
            Ok(result)
        }
        Err(error) => Err(unread(error, gone)),
    }
}
