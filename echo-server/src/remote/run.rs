//! One job under way: what its process tells goes to the API, what the API tells goes to the process.

use std::path::Path;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Agent;
use super::api::Refusal;
use super::slot::{Claim, blocking};
use super::source::Delivery;
use crate::app::Drain;
use crate::waveform::Waveform;
use crate::worker::{Event, Order, Part, Process};

/// A process that was told to stop its job and has not is killed after this.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// How often time is looked at.
const TICK: Duration = Duration::from_millis(100);

/// A claimed job.
pub(super) struct Run<'a> {
    pub(super) agent: &'a Agent,
    pub(super) worker_id: &'a str,
    pub(super) claim: &'a Claim,
    pub(super) delivery: &'a Delivery,
}

/// How a job left its process.
#[derive(Debug)]
pub(super) enum Ended {
    /// With an event of this kind, which the API is told.
    Told(&'static str, Value),
    /// Nobody wants to know.
    Unwanted,
}

/// What is to be told with the next report.
#[derive(Default)]
struct News {
    progress: Option<f64>,
    stage: Option<String>,
    segments: Vec<Value>,
    first_segment: Option<u64>,
    checkpoints: Vec<Part>,
    is_restart: bool,
}

/// What is known while a job runs.
pub(super) struct Watch {
    news: News,
    report: Option<JoinHandle<Result<Value, Refusal>>>,
    /// The last time the API took a report.
    heard: Instant,
    reported: Instant,
    moved: Instant,
    cancelled: Option<Instant>,
    /// The cancellation is ours: we are going down.
    is_released: bool,
}

impl Run<'_> {
    /// Runs the job in the process until it ends there or nobody wants it; its sound lies at `path`
    /// meanwhile.
    pub(super) async fn watch(
        &self,
        process: &mut Process,
        path: &Path,
        mut cancellations: Option<Subscriber>,
    ) -> Ended {
        let mut watch = Watch::new();
        let ended = match self.order(process, path, &mut cancellations, &mut watch).await {
            Ok(order) => self.follow(process, &order, cancellations, &mut watch).await,
            Err(ended) => ended,
        };
        if matches!(ended, Ended::Told(kind, _) if kind != "completed") {
            self.hand_in(watch).await;
        }
        ended
    }

    async fn follow(
        &self,
        process: &mut Process,
        order: &Order,
        mut cancellations: Option<Subscriber>,
        watch: &mut Watch,
    ) -> Ended {
        if process.tell(order).await.is_err() {
            return self.lost();
        }
        watch.moved = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        let mut drawing = None;
        loop {
            let mut is_cancelled = false;
            tokio::select! {
                event = process.next() => match event {
                    Ok(event @ (Event::Progress { .. } | Event::Restarted { .. })) => watch.note(event),
                    Ok(Event::Waveform(waveform)) => drawing = Some(self.draw(&waveform)),
                    Ok(event) => if let Some(ended) = watch.end(event) {
                        // Nothing may be said of a job that is over.
                        if let Some(drawing) = drawing { let _ = drawing.await; }
                        return ended;
                    },
                    Err(_) => return self.lost(),
                },
                Some(_) = next(&mut cancellations) => is_cancelled = true,
                _ = tick.tick() => {}
            }
            match self.report(watch).await {
                Ok(is_wanted) => is_cancelled |= !is_wanted,
                Err(()) => return Ended::Unwanted,
            }
            if self.agent.drain_phase() == Drain::Releasing && watch.cancelled.is_none() {
                (is_cancelled, watch.is_released) = (true, true);
            }
            if is_cancelled && watch.cancelled.is_none() {
                watch.cancelled = Some(Instant::now());
                if process.tell(&Order::Cancel).await.is_err() {
                    return self.lost();
                }
            }
            if let Some(ended) = self.out_of_time(watch) {
                return ended;
            }
        }
    }

    /// Tells what the recording looks like; without it nothing is wrong.
    fn draw(&self, waveform: &Waveform) -> JoinHandle<Result<Value, Refusal>> {
        let data = self.claim.event(json!({ "waveform": waveform }));
        let (api, patience) = (self.agent.api.clone(), self.agent.config.lease / 4);
        tokio::spawn(blocking(move || api.send_within("waveform", &data, patience)))
    }

    pub(super) fn lost(&self) -> Ended {
        Ended::Told("lost", json!({ "worker_id": self.worker_id }))
    }

    /// Whether the API took nothing for so long that somebody else has the job by now.
    pub(super) fn is_lease_over(&self, watch: &Watch) -> bool {
        let is_over = watch.heard.elapsed().as_secs_f64() > self.claim.lease_seconds;
        if is_over {
            tracing::warn!(job.id = %self.claim.job_id, "the lease ran out: the work is dropped");
        }
        is_over
    }

    fn out_of_time(&self, watch: &Watch) -> Option<Ended> {
        if self.is_lease_over(watch) {
            return Some(Ended::Unwanted);
        }
        if watch.cancelled.is_some_and(|since| since.elapsed() > CANCEL_PATIENCE) {
            return Some(self.lost());
        }
        if watch.moved.elapsed() > self.agent.config.stall {
            tracing::warn!(job.id = %self.claim.job_id, "the worker got nowhere");
            return Some(self.lost());
        }
        None
    }

    /// Takes the answer to the last report and sends the next one, if it is time; says whether the
    /// job is wanted, or that the lease is lost.
    pub(super) async fn report(&self, watch: &mut Watch) -> Result<bool, ()> {
        let mut is_wanted = true;
        if let Some(report) = watch.report.take_if(|report| report.is_finished()) {
            match report.await {
                Ok(Ok(answer)) => {
                    watch.heard = watch.reported;
                    is_wanted = answer["cancel_requested"] != true;
                }
                Ok(Err(Refusal::Unwanted)) => return Err(()),
                Ok(Err(reason)) => tracing::warn!(?reason, "a report was not taken"),
                Err(error) => tracing::warn!(%error, "a report was not sent"),
            }
        }
        let is_due = watch.reported.elapsed() >= self.agent.config.heartbeat;
        let is_news = watch.news.progress.is_some() || watch.news.is_restart;
        if watch.report.is_none() && (is_due || is_news) {
            watch.reported = Instant::now();
            watch.report = Some(self.send(std::mem::take(&mut watch.news)));
            self.delivery.progress().await;
        }
        Ok(is_wanted)
    }

    fn send(&self, news: News) -> JoinHandle<Result<Value, Refusal>> {
        let kind = if news.checkpoints.is_empty() { "progress" } else { "checkpoint" };
        let (api, data) = (self.agent.api.clone(), self.claim.event(news.into_json()));
        // What is not taken until the lease ends needs no telling.
        let patience = Duration::from_secs_f64(self.claim.lease_seconds.clamp(0.1, 3600.0));
        tokio::spawn(blocking(move || api.send_within(kind, &data, patience)))
    }

    /// Tells what is done before it tells of an end without a result: the next attempt goes on from it.
    async fn hand_in(&self, mut watch: Watch) {
        if let Some(report) = watch.report.take() {
            let _ = report.await;
        }
        if !watch.news.checkpoints.is_empty() {
            let _ = self.send(watch.news).await;
        }
    }

    /// Tells the API how the job ended, until it has heard.
    pub(super) async fn tell_end(&self, ended: Ended) {
        let Ended::Told(kind, data) = ended else { return };
        let (api, data) = (self.agent.api.clone(), self.claim.event(data));
        let mut told = tokio::spawn(blocking(move || api.send(kind, &data)));
        let told = loop {
            tokio::select! {
                told = &mut told => break told,
                () = tokio::time::sleep(self.agent.config.heartbeat) => {
                    // It may wait for a disk that is full. Nothing depends on the answer.
                    drop(self.send(News::default()));
                    self.delivery.progress().await;
                }
            }
        };
        match told {
            Ok(Ok(_)) => tracing::info!(job.id = %self.claim.job_id, kind, "job ended"),
            Ok(Err(Refusal::Unwanted)) => {
                tracing::warn!(job.id = %self.claim.job_id, kind, "the lease was lost meanwhile");
            }
            other => tracing::error!(job.id = %self.claim.job_id, ?other, "an end was not told"),
        }
    }
}

pub(super) async fn next(cancellations: &mut Option<Subscriber>) -> Option<()> {
    match cancellations {
        Some(subscriber) => subscriber.next().await.map(drop),
        None => std::future::pending().await,
    }
}

impl News {
    fn into_json(self) -> Value {
        let mut data = json!({ "progress": self.progress, "stage": self.stage });
        let Some(fields) = data.as_object_mut() else { return data };
        if !self.segments.is_empty() {
            fields.insert("segments".into(), json!(self.segments));
            fields.insert("first_segment".into(), json!(self.first_segment));
        }
        if !self.checkpoints.is_empty() {
            fields.insert("checkpoints".into(), json!(self.checkpoints));
        }
        if self.is_restart {
            fields.insert("restart".into(), json!(true));
        }
        data
    }
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            news: News::default(),
            report: None,
            heard: now,
            reported: now,
            moved: now,
            cancelled: None,
            is_released: false,
        }
    }

    fn note(&mut self, event: Event) {
        let Event::Progress { progress, stage, segments, first_segment, checkpoint } = event else {
            self.news = News { is_restart: true, ..News::default() };
            return;
        };
        let segments: Vec<Value> = serde_json::from_str(segments.get()).unwrap_or_default();
        if self.news.progress.is_none_or(|known| progress > known) || !segments.is_empty() {
            self.moved = Instant::now();
        }
        self.news.progress = Some(progress);
        self.news.stage = Some(stage);
        if self.news.segments.is_empty() {
            self.news.first_segment = first_segment;
        }
        self.news.segments.extend(segments);
        self.news.checkpoints.extend(checkpoint);
    }

    /// How the job ended, if this event ends it.
    fn end(&self, event: Event) -> Option<Ended> {
        let (kind, data) = match event {
            Event::Completed { result, busy_seconds } => {
                let usage = json!({ "busy_seconds": busy_seconds });
                // Checked by the API, which keeps it.
                let result: Value = serde_json::from_str(result.get()).unwrap_or_default();
                ("completed", json!({ "result": result, "usage": usage }))
            }
            Event::Failed { error } => ("failed", json!({ "error": error })),
            Event::Cancelled if self.is_released => ("released", json!({})),
            Event::Cancelled => ("cancelled", json!({})),
            _ => return None,
        };
        Some(Ended::Told(kind, data))
    }
}
