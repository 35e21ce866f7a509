//! One job under way: what its process tells goes to the API, what the API tells goes to the process.

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
use crate::worker::{Event, Order, Process};

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
}

/// What is known while a job runs.
struct Watch {
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
    /// Runs the job in the process until it ends there or nobody wants it.
    pub(super) async fn watch(
        &self,
        process: &mut Process,
        order: Order,
        mut cancellations: Option<Subscriber>,
    ) -> Ended {
        if process.tell(&order).await.is_err() {
            return self.lost();
        }
        let now = Instant::now();
        let mut watch = Watch {
            news: News::default(),
            report: None,
            heard: now,
            reported: now,
            moved: now,
            cancelled: None,
            is_released: false,
        };
        let mut tick = tokio::time::interval(TICK);
        loop {
            let mut is_cancelled = false;
            tokio::select! {
                event = process.next() => match event {
                    Ok(Event::Progress { progress, stage, segments }) => {
                        watch.note(progress, stage, segments.get());
                    }
                    Ok(event) => if let Some(ended) = watch.end(event) { return ended },
                    Err(_) => return self.lost(),
                },
                Some(_) = next(&mut cancellations) => is_cancelled = true,
                _ = tick.tick() => {}
            }
            match self.report(&mut watch).await {
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
            if let Some(ended) = self.out_of_time(&watch) {
                return ended;
            }
        }
    }

    fn lost(&self) -> Ended {
        Ended::Told("lost", json!({ "worker_id": self.worker_id }))
    }

    fn out_of_time(&self, watch: &Watch) -> Option<Ended> {
        if watch.heard.elapsed().as_secs_f64() > self.claim.lease_seconds {
            // Somebody else has it by now.
            tracing::warn!(job.id = %self.claim.job_id, "the lease ran out: the work is dropped");
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
    async fn report(&self, watch: &mut Watch) -> Result<bool, ()> {
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
        if watch.report.is_none() && (is_due || watch.news.progress.is_some()) {
            watch.reported = Instant::now();
            let news = std::mem::take(&mut watch.news);
            let mut data = json!({ "progress": news.progress, "stage": news.stage });
            if let Some(fields) = data.as_object_mut().filter(|_| !news.segments.is_empty()) {
                fields.insert("segments".into(), json!(news.segments));
            }
            let (api, data) = (self.agent.api.clone(), self.claim.event(data));
            // What is not taken until the lease ends needs no telling.
            let patience = Duration::from_secs_f64(self.claim.lease_seconds.clamp(0.1, 3600.0));
            let send = move || api.send_within("progress", &data, patience);
            watch.report = Some(tokio::spawn(blocking(send)));
            self.delivery.progress().await;
        }
        Ok(is_wanted)
    }

    /// Tells the API how the job ended, until it has heard.
    pub(super) async fn tell_end(&self, ended: Ended) {
        let Ended::Told(kind, data) = ended else { return };
        let (api, data) = (self.agent.api.clone(), self.claim.event(data));
        let mut told = tokio::spawn(blocking(move || api.send(kind, &data)));
        let told = loop {
            tokio::select! {
                told = &mut told => break told,
                () = tokio::time::sleep(self.agent.config.heartbeat) => self.delivery.progress().await,
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

async fn next(cancellations: &mut Option<Subscriber>) -> Option<()> {
    match cancellations {
        Some(subscriber) => subscriber.next().await.map(drop),
        None => std::future::pending().await,
    }
}

impl Watch {
    fn note(&mut self, progress: f64, stage: String, segments: &str) {
        let segments: Vec<Value> = serde_json::from_str(segments).unwrap_or_default();
        if self.news.progress.is_none_or(|known| progress > known) || !segments.is_empty() {
            self.moved = Instant::now();
        }
        self.news.progress = Some(progress);
        self.news.stage = Some(stage);
        self.news.segments.extend(segments);
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
