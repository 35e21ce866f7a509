//! One worker process of this machine, and the jobs it gets one after the other.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Agent;
use super::api::Refusal;
use super::run::{Ended, Run};
use super::source::{Delivery, Source};
use crate::app::Drain;
use crate::job::JobOptions;
use crate::worker::Process;

const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A queue that cannot be asked is asked again after this.
const QUEUE_PAUSE: Duration = Duration::from_millis(500);
/// A process that lived so long did not fail to start.
const SETTLED: Duration = Duration::from_secs(60);

/// What the API gives with a lease.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claim {
    pub(super) job_id: String,
    pub(super) epoch: i64,
    pub(super) lease_token: String,
    pub(super) lease_seconds: f64,
    pub(super) options: Box<JobOptions>,
    pub(super) audio_sha256: String,
    pub(super) max_audio_seconds: f64,
    /// The trace that the job is part of.
    traceparent: Option<String>,
    /// Seconds of sound between checkpoints; 0 if the API wants none.
    #[serde(default)]
    pub(super) checkpoint_seconds: f64,
    /// Until when earlier attempts have done the sound.
    #[serde(default)]
    pub(super) resume_from_s: f64,
}

/// Keeps worker number `slot` alive until the agent drains.
pub(super) async fn keep(agent: Arc<Agent>, slot: usize) {
    let mut backoff = MIN_BACKOFF;
    let mut source = Source::new(agent.nats.clone());
    while agent.drain_phase() == Drain::Running {
        let started = Instant::now();
        match Process::start(&agent.config, agent.program.as_deref()).await {
            Ok((process, device)) => {
                tracing::info!(slot, %device, "worker is ready");
                let had_work = serve(&agent, slot, process, &mut source).await;
                if had_work || started.elapsed() > SETTLED {
                    backoff = MIN_BACKOFF;
                }
            }
            Err(reason) => tracing::warn!(slot, %reason, "a worker did not start"),
        }
        if agent.drain_phase() == Drain::Running {
            let mut drain = agent.drain.clone();
            let stopped = drain.wait_for(|phase| *phase > Drain::Running);
            let _ = tokio::time::timeout(backoff, stopped).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }
}

/// Gives jobs to a process until it is of no more use; says whether it had any.
async fn serve(agent: &Agent, slot: usize, mut process: Process, source: &mut Source) -> bool {
    let worker_id = format!("{}-{slot}-{}", agent.name, process.id());
    let mut had_work = false;
    while agent.drain_phase() == Drain::Running {
        let delivery = match source.next().await {
            Ok(Some(delivery)) => delivery,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "no job can be had");
                tokio::time::sleep(QUEUE_PAUSE).await;
                continue;
            }
        };
        if !process.is_alive() || agent.drain_phase() > Drain::Running {
            delivery.give_back().await;
            break;
        }
        had_work = true;
        if !job(agent, slot, &worker_id, &mut process, source, &delivery).await {
            break;
        }
    }
    process.bury().await;
    had_work
}

/// Does one announced job; says whether the process is still of use.
async fn job(
    agent: &Agent,
    slot: usize,
    worker_id: &str,
    process: &mut Process,
    source: &Source,
    delivery: &Delivery,
) -> bool {
    let claim = match claim(agent, worker_id, &delivery.job_id).await {
        Ok(claim) => claim,
        Err(Refusal::Unwanted) => {
            delivery.done().await;
            return true;
        }
        Err(Refusal::Wrong(reason) | Refusal::Unreachable(reason)) => {
            tracing::warn!(job.id = %delivery.job_id, %reason, "a job could not be claimed");
            tokio::time::sleep(QUEUE_PAUSE).await;
            delivery.give_back().await;
            return true;
        }
    };
    tracing::info!(job.id = %claim.job_id, slot, "job started");
    // Before the sound comes: who cancels in between is heard.
    let cancellations = source.cancellations(&claim.job_id).await;
    let path = agent.folder.join(format!("{slot}"));
    let run = Run { agent, worker_id, claim: &claim, delivery };
    let ended = run.watch(process, &path, cancellations).await;
    let _ = tokio::fs::remove_file(&path).await;
    let is_of_use = matches!(ended, Ended::Told(kind, _) if kind != "lost") && process.is_alive();
    run.tell_end(ended).await;
    delivery.done().await;
    is_of_use
}

async fn claim(agent: &Agent, worker_id: &str, job_id: &str) -> Result<Claim, Refusal> {
    let api = agent.api.clone();
    let data = json!({ "job_id": job_id, "worker_id": worker_id, "resumes": true });
    // While it waits for an answer the announcement is this worker's; another one may have it sooner.
    let patience = agent.config.lease / 2;
    let answer = blocking(move || api.send_within("started", &data, patience)).await?;
    serde_json::from_value(answer).map_err(|error| Refusal::Wrong(error.to_string()))
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::Unreachable(error.to_string())))
}

impl Claim {
    /// The lease as the API asks for it.
    pub(super) fn lease(&self) -> String {
        format!("{}.{}", self.epoch, self.lease_token)
    }

    /// An event of this job, as its lease allows.
    pub(super) fn event(&self, mut data: Value) -> Value {
        if let Some(fields) = data.as_object_mut() {
            fields.insert("job_id".into(), json!(self.job_id));
            fields.insert("epoch".into(), json!(self.epoch));
            fields.insert("lease_token".into(), json!(self.lease_token));
            fields.insert("traceparent".into(), json!(self.traceparent));
        }
        data
    }
}
