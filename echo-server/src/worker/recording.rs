//! The recording of a claimed job as a file of this machine, while the lease is held.

use std::time::Duration;

use tokio::time::{Instant, interval_at, sleep};

use super::lifecycle::{self, Outcome};
use super::process::Process;
use crate::app::{App, Drain};
use crate::job::JobError;
use crate::storage::AtHand;
use crate::store::{Claimed, Report, StoreError};

/// How long a storage that is away, or a disk that is full, is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(500);

/// Fetches the recording if it lies elsewhere; or says how the attempt ends without it. An error means
/// that the process is of no more use.
pub(super) async fn at_hand(
    app: &App,
    claimed: &Claimed,
    process: &mut Process,
) -> Result<Result<AtHand, Outcome>, &'static str> {
    let heartbeat = app.config.heartbeat;
    let mut beat = interval_at(Instant::now() + heartbeat, heartbeat);
    let mut fetched = std::pin::pin!(fetch(app, claimed));
    loop {
        tokio::select! {
            fetched = &mut fetched => return Ok(fetched.map_err(Outcome::Failed)),
            event = process.next() => drop(event.map_err(|_| "it died")?),
            _ = beat.tick() => {
                match lifecycle::report(app, &claimed.lease, Report::default()).await {
                    Ok(renewed) if renewed.is_cancel_requested => return Ok(Err(Outcome::Cancelled)),
                    Err(StoreError::Fenced) => return Err("it lost its lease"),
                    _ if app.drain_phase() == Drain::Releasing => return Ok(Err(Outcome::Released)),
                    _ => {}
                }
            }
        }
    }
}

async fn fetch(app: &App, claimed: &Claimed) -> Result<AtHand, JobError> {
    let hash = claimed.job.blob_hash.as_deref().unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match app.files.at_hand(hash, app.config.min_free_disk_bytes).await {
            Ok(recording) => return Ok(recording),
            Err(error) => error,
        };
        if error.kind() == std::io::ErrorKind::NotFound {
            return Err(JobError::lasting("engine_failed", "the recording is not here any more"));
        }
        tracing::warn!(job.id = %claimed.job.id, %error, "a recording cannot be had yet");
        if Instant::now() >= deadline {
            return Err(JobError::passing("engine_failed", "the recording could not be read"));
        }
        sleep(PAUSE).await;
    }
}
