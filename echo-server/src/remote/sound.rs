//! The sound of a claimed job as a file of this machine, while the lease is held.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::Subscriber;
use serde_json::json;
use serde_json::value::RawValue;

use super::api::Refusal;
use super::run::{Ended, Run, Watch, next};
use super::slot::{Claim, blocking};
use crate::app::Drain;
use crate::worker::{Order, Process};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Ends a download with whoever waits for it.
struct Leash(Arc<AtomicBool>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Run<'_> {
    /// Fetches what the process needs for the job; or says how the attempt ends without it.
    pub(super) async fn order(
        &self,
        process: &mut Process,
        path: &Path,
        cancellations: &mut Option<Subscriber>,
        watch: &mut Watch,
    ) -> Result<Order, Ended> {
        let is_over = Arc::new(AtomicBool::new(false));
        let _leash = Leash(Arc::clone(&is_over));
        let mut fetched = std::pin::pin!(self.fetch(path, is_over));
        let mut tick = tokio::time::interval(TICK);
        loop {
            let mut is_cancelled = false;
            tokio::select! {
                fetched = &mut fetched => {
                    let done = fetched.map_err(|refusal| self.without_sound(&refusal))?;
                    let Claim { max_audio_seconds, checkpoint_seconds, .. } = *self.claim;
                    let (path, options) = (path.to_owned(), self.claim.options.clone());
                    return Ok(Order::Run { path, options, max_audio_seconds, checkpoint_seconds, done });
                }
                event = process.next() => drop(event.map_err(|_| self.lost())?),
                Some(()) = next(cancellations) => is_cancelled = true,
                _ = tick.tick() => {}
            }
            is_cancelled |= !self.report(watch).await.map_err(|()| Ended::Unwanted)?;
            if is_cancelled {
                return Err(Ended::Told("cancelled", json!({})));
            }
            if self.agent.drain_phase() == Drain::Releasing {
                return Err(Ended::Told("released", json!({})));
            }
            if self.is_lease_over(watch) {
                return Err(Ended::Unwanted);
            }
        }
    }

    /// Writes the sound to the file; what earlier attempts have done of it.
    async fn fetch(
        &self,
        path: &Path,
        is_over: Arc<AtomicBool>,
    ) -> Result<Vec<Box<RawValue>>, Refusal> {
        // Opened once: who comes too late writes to a file that is gone, and not to the next job's.
        let file = File::create(path).map_err(|error| Refusal::Unreachable(error.to_string()))?;
        let (api, claim) = (self.agent.api.clone(), self.claim.clone());
        let sound =
            move || api.fetch(&claim.job_id, &claim.lease(), &claim.audio_sha256, &file, &is_over);
        blocking(sound).await?;
        Ok(self.done_before().await)
    }

    /// What earlier attempts have done. Without it the work is done again, and nothing is wrong.
    async fn done_before(&self) -> Vec<Box<RawValue>> {
        let reached_s = self.claim.resume_from_s;
        if reached_s <= 0.0 {
            return Vec::new();
        }
        let (api, claim) = (self.agent.api.clone(), self.claim.clone());
        let fetched = blocking(move || api.checkpoint(&claim.job_id, &claim.lease())).await;
        tracing::info!(reached_s, is_known = fetched.is_ok(), "job goes on from a checkpoint");
        fetched.unwrap_or_default()
    }

    fn without_sound(&self, refusal: &Refusal) -> Ended {
        tracing::warn!(job.id = %self.claim.job_id, ?refusal, "the sound of a job cannot be had");
        match refusal {
            Refusal::Unwanted => Ended::Unwanted,
            Refusal::Wrong(_) | Refusal::Unreachable(_) => Ended::Told("released", json!({})),
        }
    }
}
