//! The transactional outbox: rows that wait and were not announced are announced.
//!
//! A row says when it was announced. It does so only after the queue has it, so a crash in between
//! announces it twice, which does no harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::Dispatcher;
use crate::app::App;
use crate::clock::now_ms;

/// Rows announced at once.
const BATCH: u32 = 256;
/// Other replicas' rows, and rows whose time has come, are looked for so often.
const INTERVAL: Duration = Duration::from_millis(500);
/// The queue is looked after so often.
const CARE_INTERVAL: Duration = Duration::from_secs(5);
/// A job that nobody has claimed for so long is announced again.
const FORGOTTEN_MS: i64 = 10 * 60 * 1000;

/// Announces jobs until the server is gone; a draining server still does, for the others.
pub(crate) async fn publish(app: Arc<App>, queue: Arc<dyn Dispatcher>) {
    let mut cared: Option<Instant> = None;
    while app.is_running() {
        if cared.is_none_or(|at| at.elapsed() > CARE_INTERVAL) {
            cared = match care(&app, &*queue).await {
                Ok(()) => Some(Instant::now()),
                Err(error) => {
                    tracing::warn!(%error, "the queue cannot be used: jobs wait");
                    None
                }
            };
        }
        let is_more = cared.is_some()
            && match announce(&app, &*queue).await {
                Ok(count) => count == BATCH as usize,
                Err(error) => {
                    tracing::warn!(%error, "jobs could not be announced");
                    cared = None;
                    false
                }
            };
        if !is_more {
            tokio::select! {
                () = app.hub.work.notified() => {}
                () = app.pause(INTERVAL) => {}
            }
        }
    }
}

async fn care(app: &App, queue: &dyn Dispatcher) -> Result<(), String> {
    if queue.prepare().await? {
        let forgotten = app.db.call(|store| store.forget_announcements(None, now_ms()));
        let count = forgotten.await.map_err(|error| error.to_string())?;
        tracing::info!(count, queue = queue.name(), "the queue is new: waiting jobs are announced");
    }
    let forgotten = app.db.call(|store| {
        let now = now_ms();
        store.forget_announcements(Some(now - FORGOTTEN_MS), now)
    });
    forgotten.await.map(drop).map_err(|error| error.to_string())
}

async fn announce(app: &App, queue: &dyn Dispatcher) -> Result<usize, String> {
    let waiting = app.db.call(|store| store.unannounced(BATCH, now_ms()));
    let waiting = waiting.await.map_err(|error| error.to_string())?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let published = join_all(waiting.iter().map(|job| queue.publish(job))).await;
    let (mut done, mut failed) = (Vec::new(), None);
    for (job, published) in waiting.iter().zip(published) {
        match published {
            Ok(()) => done.push(job.clone()),
            Err(error) => failed = Some(error),
        }
    }
    app.metrics.add("jobs_announced_total", &[], done.len() as f64);
    let kept = app.db.call(move |store| store.announced(&done, now_ms()));
    kept.await.map_err(|error| error.to_string())?;
    failed.map_or(Ok(waiting.len()), Err)
}
