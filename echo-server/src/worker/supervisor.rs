//! Keeps one worker process alive and gives it jobs.
//!
//! The supervisor knows which job its process has, so the death of the process frees the lease at
//! once. A process that has stopped giving signs of life loses its lease by time and is killed; one
//! that lives but gets nowhere is killed after `ECHO_STALL_SECONDS`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use super::lifecycle::{self, Outcome, until};
use super::pool::SlotState;
use super::recording;
use super::{Event, Order, Process};
use crate::app::{App, Drain};
use crate::clock::now_ms;
use crate::job::Phase;
use crate::live::{LiveEvent, LiveInput, Session};
use crate::store::{Claim, Claimed, Report, StoreError};
use crate::waveform::Waveform;

/// A worker that was told to stop its job and has not is killed after this.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// How often a running job's row is looked at, news or not.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long a result waits for a database or a disk that is away.
const COMMIT_PATIENCE: Duration = Duration::from_secs(600);
const COMMIT_PAUSE: Duration = Duration::from_millis(500);
/// Pauses between starts of a worker that does not start.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A start that lasted so long was no failed start.
const SETTLED: Duration = Duration::from_secs(60);

/// Runs worker number `slot` until the server drains.
pub async fn supervise(app: Arc<App>, slot: usize) {
    let mut backoff = MIN_BACKOFF;
    while app.is_running() {
        app.pool.set(slot, SlotState::Starting);
        let started = Instant::now();
        let reason = match Worker::start(&app, slot).await {
            Ok(mut worker) => {
                let had_work = worker.serve(&app).await;
                worker.bury(&app).await;
                if had_work || started.elapsed() > SETTLED {
                    backoff = MIN_BACKOFF;
                }
                "the worker process ended".to_owned()
            }
            Err(reason) => reason,
        };
        if !app.is_running() {
            return;
        }
        tracing::warn!(slot, %reason, "worker is started again");
        if !matches!(app.pool.slots().get(slot), Some(SlotState::Unready(_))) {
            app.pool.set(slot, SlotState::Unready(reason));
        }
        app.pause(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

/// A worker process and what it is known as.
struct Worker {
    slot: usize,
    owner: String,
    process: Process,
}

/// What a worker does next.
enum Work {
    Job(Box<Claimed>),
    Live(Session),
}

impl Worker {
    async fn start(app: &App, slot: usize) -> Result<Self, String> {
        let (process, device) = Process::start(&app.config, app.worker_program.as_deref()).await?;
        let pid = process.id();
        tracing::info!(slot, pid, %device, "worker is ready");
        Ok(Self { slot, owner: format!("local-{slot}-{pid}-{}", now_ms()), process })
    }

    /// Gives jobs to the process until it is gone or the server drains; says whether it had any.
    async fn serve(&mut self, app: &App) -> bool {
        let mut had_work = false;
        loop {
            app.pool.set(self.slot, SlotState::Free);
            let Some(work) = self.claim(app).await else { return had_work };
            app.pool.set(self.slot, SlotState::Busy);
            had_work = true;
            let claimed = match work {
                Work::Job(claimed) => *claimed,
                Work::Live(session) => match self.attend(app, session).await {
                    Ok(()) => continue,
                    Err(reason) => {
                        tracing::warn!(reason, "worker is ended in a live session");
                        return had_work;
                    }
                },
            };
            let job_id = claimed.job.id.clone();
            app.hub.changed(&job_id);
            tracing::info!(job.id = %job_id, attempt = claimed.job.attempt, "job started");
            if let Err(reason) = self.run(app, claimed).await {
                tracing::warn!(job.id = %job_id, reason, "worker is ended");
                return had_work;
            }
        }
    }

    /// What to do next; `None` when the process died or the server drains.
    async fn claim(&mut self, app: &App) -> Option<Work> {
        loop {
            if !app.is_running() {
                return None;
            }
            let (owner, lease) = (self.owner.clone(), app.config.lease);
            let resumes = !app.config.checkpoint.is_zero();
            let claimed = app.db.call(move |store| {
                let now = now_ms();
                let claim = Claim { owner: &owner, until: until(now, lease), resumes };
                store.claim(Phase::Run, &claim, now)
            });
            match claimed.await {
                Ok(Some(claimed)) => {
                    // There may be more for the others.
                    app.hub.work.notify_one();
                    return Some(Work::Job(Box::new(claimed)));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "no job could be claimed"),
            }
            tokio::select! {
                () = app.hub.work.notified() => {}
                () = app.pause(Duration::from_secs(1)) => {}
                session = app.desk.next() => return Some(Work::Live(session)),
                event = self.process.next() => if event.is_err() { return None },
            }
        }
    }

    /// Carries one live session; an error means that the process is of no more use.
    async fn attend(&mut self, app: &App, session: Session) -> Result<(), &'static str> {
        let Session { options, mut input, events, .. } = session;
        self.process.tell(&Order::Live(options)).await.map_err(|_| "it hears no more")?;
        let (mut has_client, mut moved) = (true, Instant::now());
        loop {
            tokio::select! {
                event = self.process.next() => match event.map_err(|_| "it died")? {
                    Event::Live(event) => {
                        moved = Instant::now();
                        let is_end = matches!(event, LiveEvent::Done { .. });
                        // Nobody may listen any more, or read too slowly to be waited for.
                        let _ = events.try_send(event);
                        if is_end {
                            return Ok(());
                        }
                    }
                    _ if moved.elapsed() > app.config.stall => return Err("it got nowhere"),
                    _ => {}
                },
                next = input.recv(), if has_client => {
                    let order = match next {
                        Some(LiveInput::Audio(bytes)) => Order::Audio(STANDARD.encode(bytes)),
                        Some(LiveInput::Finalize) => Order::Finalize,
                        Some(LiveInput::Stop) => Order::Stop,
                        // The client has gone: what is being decoded is for nobody.
                        None => {
                            self.process.tell(&Order::Cancel).await.map_err(|_| "it hears no more")?;
                            Order::Stop
                        }
                    };
                    has_client = !matches!(order, Order::Stop);
                    self.process.tell(&order).await.map_err(|_| "it hears no more")?;
                }
            }
        }
    }

    /// Runs one job; an error means that the process is of no more use.
    async fn run(&mut self, app: &App, claimed: Claimed) -> Result<(), &'static str> {
        let hash = claimed.job.blob_hash.clone().unwrap_or_default();
        let recording = match recording::at_hand(app, &claimed, &mut self.process).await? {
            Ok(recording) => recording,
            Err(outcome) => return self.end(app, &claimed, outcome).await,
        };
        let order = Order::Run {
            path: recording.path().to_owned(),
            options: Box::new(claimed.job.options.clone()),
            max_audio_seconds: app.config.max_audio_seconds,
            checkpoint_seconds: app.config.checkpoint.as_secs_f64(),
            done: lifecycle::done_before(app, &claimed).await,
        };
        self.process.tell(&order).await.map_err(|_| "it hears no more")?;
        let lease = &claimed.lease;
        let mut job_id = claimed.job.id.clone();
        let mut news = app.hub.listen();
        let mut look = tokio::time::interval(WATCH_INTERVAL);
        let (mut moved, mut progress) = (Instant::now(), -1.0);
        let mut cancelled: Option<Instant> = None;
        let mut untold = Report::default();
        loop {
            tokio::select! {
                event = self.process.next() => {
                    let report = match event.map_err(|_| "it died")? {
                        Event::Waveform(waveform) => keep_waveform(app, &hash, &waveform).await,
                        Event::Completed { result, busy_seconds } => {
                            let json = result.get().to_owned();
                            return self.end(app, &claimed, Outcome::Completed { json, busy_seconds }).await;
                        }
                        Event::Failed { error } => return self.end(app, &claimed, Outcome::Failed(error)).await,
                        // Nobody asked for it by DELETE: the server is going down.
                        Event::Cancelled if app.drain_phase() == Drain::Releasing => {
                            return self.end(app, &claimed, Outcome::Released).await;
                        }
                        Event::Cancelled => return self.end(app, &claimed, Outcome::Cancelled).await,
                        event => event.into_report(),
                    };
                    if let Some(fraction) = report.progress
                        && (fraction > progress || report.segments.is_some())
                    {
                        (progress, moved) = (fraction, Instant::now());
                    }
                    untold.add(report);
                    match lifecycle::report(app, lease, untold.clone()).await {
                        Ok(renewed) => (job_id, untold) = (renewed.job_id, Report::default()),
                        Err(StoreError::Fenced) => return Err("it lost its lease"),
                        // The lease lives on for a while; the next sign of life tries again, with all of it.
                        Err(error) => tracing::warn!(%error, "a lease could not be renewed"),
                    }
                }
                () = async { tokio::select! { () = news.changed(&job_id, MAX_BACKOFF) => {}, _ = look.tick() => {} } } => {
                    let wanted = self.is_wanted(app, &claimed).await?;
                    if cancelled.is_some_and(|since| since.elapsed() > CANCEL_PATIENCE) {
                        return Err("it did not stop");
                    }
                    if !wanted && cancelled.is_none() {
                        cancelled = Some(Instant::now());
                        self.process.tell(&Order::Cancel).await.map_err(|_| "it hears no more")?;
                    }
                    if moved.elapsed() > app.config.stall {
                        return Err("it got nowhere");
                    }
                }
            }
        }
    }

    /// Whether the job shall go on; an error if the lease was lost.
    async fn is_wanted(&self, app: &App, claimed: &Claimed) -> Result<bool, &'static str> {
        let lease = claimed.lease.clone();
        match app.db.call(move |store| store.leased(&lease)).await {
            Ok(Some(job)) => Ok(!job.is_cancel_requested && app.drain_phase() != Drain::Releasing),
            Ok(None) => Err("it lost its lease"),
            Err(_) => Ok(true),
        }
    }

    /// Writes down how a job ended; tries again while the database or the disk does not let it.
    async fn end(
        &self,
        app: &App,
        claimed: &Claimed,
        outcome: Outcome,
    ) -> Result<(), &'static str> {
        let deadline = Instant::now() + COMMIT_PATIENCE;
        loop {
            match lifecycle::end(app, &claimed.lease, outcome.clone()).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Fenced) => {
                    app.metrics.add("fenced_commits_total", &[], 1.0);
                    return Err("it lost its lease");
                }
                Err(StoreError::Unavailable | StoreError::Busy | StoreError::Full)
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(COMMIT_PAUSE).await;
                    // The work is not thrown away while the lease can be held.
                    let _ = lifecycle::report(app, &claimed.lease, Report::default()).await;
                }
                Err(_) => return Err("its result could not be committed"),
            }
        }
    }

    /// Ends the process and what it held.
    async fn bury(self, app: &App) {
        self.process.bury().await;
        let owner = self.owner;
        if let Err(error) = app.db.call(move |store| store.lose(&owner, now_ms())).await {
            tracing::warn!(%error, "a dead worker's lease will run out by itself");
        }
        if let Err(error) = lifecycle::sweep(app).await {
            tracing::warn!(%error, "a dead worker's job waits for the next sweep");
        }
    }
}

/// Keeps what is only drawn: without it nothing is wrong.
async fn keep_waveform(app: &App, hash: &str, waveform: &Waveform) -> Report {
    let json = serde_json::to_vec(waveform).unwrap_or_default();
    if let Err(error) = app.files.keep_waveform(hash, &json).await {
        tracing::warn!(%error, "a waveform could not be kept");
    }
    Report::default()
}
