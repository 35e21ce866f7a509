//! Engines that are handed jobs by a request each: Trigger.dev, and Modal without it.
//!
//! ```text
//! trigger: POST {TRIGGER_API_URL}/api/v1/tasks/echo-transcribe/trigger   its task asks Modal
//! modal:   POST {MODAL_WEBHOOK_URL}                                      a call on a GPU
//! ```
//!
//! A job is its identifier and where to ask for the rest: no recording, no secret. The worker claims it
//! by a signed event, so a job handed over twice runs once. See `echo-server/deploy`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Dispatcher, Promise};
use crate::app::App;
use crate::config::Config;
use crate::secrets::Secret;
use crate::store::Waiting;

/// The task of `echo-server/deploy/trigger`.
const TASK: &str = "echo-transcribe";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Requests under way at once.
const MAX_REQUESTS: usize = 16;
/// Runs whose names are remembered, to cancel them; workers hear of a cancellation by themselves, too.
const MAX_RUNS: usize = 10_000;
/// Who refused is left alone for so long, then longer.
const FIRST_REST: Duration = Duration::from_secs(1);
const MAX_REST: Duration = Duration::from_secs(60);

/// Which engine, and how it is asked.
#[derive(Debug)]
enum Engine {
    Trigger { base: String, key: Secret },
    Modal { endpoint: String, pair: Option<(Secret, Secret)> },
}

/// Jobs by requests.
#[derive(Debug)]
pub(crate) struct Push {
    engine: Engine,
    agent: ureq::Agent,
    app_url: String,
    requests: Semaphore,
    /// What the engine calls the runs of jobs, the newest last.
    runs: Mutex<VecDeque<(String, String)>>,
    rest: Mutex<Rest>,
    is_well: AtomicBool,
}

/// How long nothing is asked.
#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    last: Duration,
}

impl Push {
    /// Hands jobs to Trigger.dev.
    ///
    /// # Errors
    /// If it has no key.
    pub(crate) fn trigger(config: &Config) -> Result<Arc<Self>, String> {
        let key = config.trigger_key.clone();
        let key = key.ok_or("ECHO_QUEUE is trigger, and TRIGGER_SECRET_KEY is not set")?;
        let base = config.trigger_url.trim_end_matches('/').to_owned();
        Ok(Self::new(Engine::Trigger { base, key }, config))
    }

    /// Hands jobs to Modal.
    ///
    /// # Errors
    /// If it has no endpoint.
    pub(crate) fn modal(config: &Config) -> Result<Arc<Self>, String> {
        let endpoint = config.modal_url.clone();
        let endpoint = endpoint.ok_or("ECHO_QUEUE is modal, and MODAL_WEBHOOK_URL is not set")?;
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Ok(Self::new(Engine::Modal { endpoint, pair: config.modal_pair.clone() }, config))
    }

    fn new(engine: Engine, config: &Config) -> Arc<Self> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build();
        Arc::new(Self {
            engine,
            agent: agent.into(),
            app_url: config.app_url.clone(),
            requests: Semaphore::new(MAX_REQUESTS),
            runs: Mutex::default(),
            rest: Mutex::default(),
            is_well: AtomicBool::new(true),
        })
    }

    /// Where a job is handed over, and with what.
    fn hand_over(&self, job: &Waiting) -> (String, Value) {
        let delivery = format!("{}:{}", job.id, job.epoch + 1);
        let envelope = json!({
            "v": 1, "job_id": job.id, "delivery_id": delivery, "api_url": self.app_url,
        });
        match &self.engine {
            Engine::Trigger { base, .. } => {
                let options = json!({
                    // The same announcement twice is one run; the next lease is another one.
                    "idempotencyKey": delivery,
                    "tags": [format!("job:{}", job.id)],
                    "ttl": "24h",
                    "priority": job.priority.max(0) * 60,
                });
                let body = json!({ "payload": envelope, "options": options });
                (format!("{base}/api/v1/tasks/{TASK}/trigger"), body)
            }
            Engine::Modal { endpoint, .. } => (format!("{endpoint}/"), envelope),
        }
    }

    /// Where a run is ended, and with what.
    fn call_off(&self, run: &str) -> (String, Value) {
        match &self.engine {
            Engine::Trigger { base, .. } => (format!("{base}/api/v2/runs/{run}/cancel"), json!({})),
            Engine::Modal { endpoint, .. } => {
                (format!("{endpoint}/cancel"), json!({ "call_id": run }))
            }
        }
    }

    /// Asks the engine, and returns its answer. Blocks.
    fn ask(&self, url: &str, body: &Value) -> Result<Value, String> {
        let mut request = self.agent.post(url).header("content-type", "application/json");
        match &self.engine {
            Engine::Trigger { key, .. } => {
                request = request.header("authorization", format!("Bearer {}", key.expose()));
            }
            Engine::Modal { pair: Some((key, secret)), .. } => {
                request = request.header("modal-key", key.expose());
                request = request.header("modal-secret", secret.expose());
            }
            Engine::Modal { pair: None, .. } => {}
        }
        let mut answer = request.send(body.to_string()).map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        if !status.is_success() {
            // What it says may repeat what it was sent.
            return Err(format!("it answered with status {}", status.as_u16()));
        }
        Ok(serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default())
    }

    async fn publish(self: Arc<Self>, job: &Waiting) -> Result<(), String> {
        if lock(&self.rest).until.is_some_and(|until| Instant::now() < until) {
            return Err("it is left alone for a while".to_owned());
        }
        let closed = |_| "the server is going down".to_owned();
        let turn = self.requests.acquire().await.map_err(closed)?;
        let (url, body) = self.hand_over(job);
        let own = Arc::clone(&self);
        let asked = tokio::task::spawn_blocking(move || own.ask(&url, &body)).await;
        drop(turn);
        let asked = asked.unwrap_or_else(|error| Err(error.to_string()));
        self.is_well.store(asked.is_ok(), Ordering::Relaxed);
        match asked {
            Ok(answer) => {
                *lock(&self.rest) = Rest::default();
                let name = answer["id"].as_str().or(answer["call_id"].as_str());
                if let Some(name) = name {
                    self.remember(&job.id, name);
                }
                Ok(())
            }
            Err(reason) => {
                let mut rest = lock(&self.rest);
                rest.last = (rest.last * 2).clamp(FIRST_REST, MAX_REST);
                rest.until = Some(Instant::now() + rest.last);
                Err(reason)
            }
        }
    }

    fn remember(&self, job_id: &str, run: &str) {
        let mut runs = lock(&self.runs);
        if runs.len() >= MAX_RUNS {
            runs.pop_front();
        }
        runs.push_back((job_id.to_owned(), run.to_owned()));
    }

    fn run_of(&self, job_id: &str) -> Option<String> {
        let runs = lock(&self.runs);
        runs.iter().rev().find(|(job, _)| job == job_id).map(|(_, run)| run.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared, because requests outlive the futures that began them.
#[derive(Debug)]
pub(crate) struct Pushed(pub(crate) Arc<Push>);

impl Dispatcher for Pushed {
    fn name(&self) -> &'static str {
        match self.0.engine {
            Engine::Trigger { .. } => "trigger",
            Engine::Modal { .. } => "modal",
        }
    }

    fn prepare(&self) -> Promise<'_, Result<bool, String>> {
        Box::pin(async { Ok(false) })
    }

    fn publish<'a>(&'a self, job: &'a Waiting) -> Promise<'a, Result<(), String>> {
        Box::pin(Arc::clone(&self.0).publish(job))
    }

    fn cancel(&self, job_id: &str) {
        let Some(run) = self.0.run_of(job_id) else { return };
        let own = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let (url, body) = own.call_off(&run);
            if let Err(reason) = own.ask(&url, &body) {
                tracing::warn!(
                    run,
                    reason,
                    "a run could not be cancelled; its worker will hear of it"
                );
            }
        });
    }

    fn carry_news(self: Arc<Self>, _: Arc<App>) -> Promise<'static, ()> {
        // These engines carry jobs and nothing else: replicas read the row.
        Box::pin(std::future::pending())
    }

    fn is_reachable(&self) -> bool {
        self.0.is_well.load(Ordering::Relaxed)
    }
}
