//! What a worker asks of the API: claims, reports, results and sound, over HTTP alone.
//!
//! Messages are signed with the worker secret and carry an identifier, so that one whose answer was
//! lost is sent again and counts once. They are sent again while the API or its database is away.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::{now_ms, parse_rfc3339, rfc3339};
use crate::config::Config;
use crate::secrets::{Secret, hex};
use crate::trace::TRACEPARENT;
use crate::webhook::sign;

/// A message that was not answered is sent again for so long.
const PATIENCE: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);
const AUDIO_TIMEOUT: Duration = Duration::from_secs(1800);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer to an event.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// The longest checkpoint: a day of speech has some 30 MB.
const MAX_CHECKPOINT_BYTES: u64 = 256 << 20;
const CHUNK_BYTES: usize = 64 * 1024;

/// With these codes the API says that nobody wants the work. The same status without any of them is
/// of somebody who stands between, and passes.
const UNWANTED: [&str; 4] = ["job_not_found", "stale_lease", "job_gone", "result_expired"];

/// Why a message was not taken.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// The lease is lost, the job is over or not there: nobody wants this work.
    Unwanted,
    /// The API does not understand or believe this worker.
    Wrong(String),
    /// It was not reached for too long.
    Unreachable(String),
}

/// The API as a worker sees it.
#[derive(Debug, Clone)]
pub(super) struct Api {
    base: String,
    secret: Secret,
    agent: ureq::Agent,
    /// The API's clock less ours.
    ahead_ms: Arc<AtomicI64>,
}

impl Api {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let missing = |name: &str| format!("{name} is not set: a worker needs it");
        let secret = config.worker_secret.clone().ok_or_else(|| missing("ECHO_WORKER_SECRET"))?;
        let base = config.api_url.clone().ok_or_else(|| missing("ECHO_API_URL"))?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .build();
        Ok(Self { base, secret, agent: agent.into(), ahead_ms: Arc::default() })
    }

    /// Sends an event until it is answered, and returns the answer. Blocks.
    pub(super) fn send(&self, kind: &str, data: &Value) -> Result<Value, Refusal> {
        self.send_within(kind, data, PATIENCE)
    }

    /// As [`Api::send`], with less patience.
    pub(super) fn send_within(
        &self,
        kind: &str,
        data: &Value,
        patience: Duration,
    ) -> Result<Value, Refusal> {
        let id = format!("msg_{}", Uuid::now_v7().simple());
        let (deadline, mut pause) = (Instant::now() + patience, FIRST_PAUSE);
        loop {
            let reason = match self.try_send(&id, kind, data) {
                Ok((200..=299, answer)) => return Ok(answer),
                Ok((_, answer)) if is_unwanted(&answer) => return Err(Refusal::Unwanted),
                Ok((401, answer)) if self.corrects_clock(&answer) => continue,
                Ok((status @ (404 | 408..=410 | 425 | 429 | 500..=599), _)) => {
                    format!("status {status}")
                }
                Ok((status, answer)) => {
                    let detail = answer["detail"].as_str().unwrap_or_default();
                    return Err(Refusal::Wrong(format!("status {status}: {detail}")));
                }
                Err(reason) => reason,
            };
            tracing::debug!(kind, reason, "a message is sent again");
            if Instant::now() + pause > deadline {
                return Err(Refusal::Unreachable(reason));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn try_send(&self, id: &str, kind: &str, data: &Value) -> Result<(u16, Value), String> {
        let at_ms = now_ms() + self.ahead_ms.load(Ordering::Relaxed);
        let message = json!({
            "type": format!("transcription.{kind}"),
            "timestamp": rfc3339(at_ms),
            "data": data,
        });
        let body = message.to_string();
        let seconds = at_ms / 1000;
        let mut request = self
            .agent
            .post(format!("{}/api/v1/webhooks/transcription", self.base))
            .config()
            .timeout_global(Some(EVENT_TIMEOUT))
            .build()
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string())
            .header(
                "webhook-signature",
                sign::signature(&self.secret, id, seconds, body.as_bytes()),
            );
        if let Some(parent) = data["traceparent"].as_str() {
            request = request.header(TRACEPARENT, parent);
        }
        let mut answer = request.send(body).map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Whether the API told its time and ours differs from it.
    fn corrects_clock(&self, answer: &Value) -> bool {
        let Some(time) = answer["server_time"].as_str().and_then(parse_rfc3339) else {
            return false;
        };
        let ahead_ms = time - now_ms();
        let known = self.ahead_ms.swap(ahead_ms, Ordering::Relaxed);
        known.abs_diff(ahead_ms) > 1000
    }

    /// Fetches the sound of a claimed job into a file, checked by its digest, until nobody waits for
    /// it any more. Blocks.
    pub(super) fn fetch(
        &self,
        job_id: &str,
        lease: &str,
        hash: &str,
        file: &File,
        is_over: &AtomicBool,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let reason = match self.try_fetch(job_id, lease, file, is_over) {
                Ok(found) if found == hash => return Ok(()),
                Ok(_) => "the sound was cut short".to_owned(),
                Err(Refusal::Unreachable(reason)) => reason,
                Err(refusal) => return Err(refusal),
            };
            if is_over.load(Ordering::Relaxed) || Instant::now() + pause > deadline {
                return Err(Refusal::Unreachable(reason));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// What earlier attempts have done of a claimed job. Blocks.
    pub(super) fn checkpoint(
        &self,
        job_id: &str,
        lease: &str,
    ) -> Result<Vec<Box<RawValue>>, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::Unreachable(error.to_string());
        let request = self
            .agent
            .get(format!("{}/api/v1/worker/jobs/{job_id}/checkpoint", self.base))
            .config()
            .timeout_global(Some(EVENT_TIMEOUT))
            .build()
            .header("authorization", format!("Bearer {lease}"));
        let mut answer = request.call().map_err(|error| failed(&error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(Refusal::Unreachable(format!("status {status}")));
        }
        let text = answer.body_mut().with_config().limit(MAX_CHECKPOINT_BYTES).read_to_string();
        serde_json::from_str(&text.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }

    /// Fetches the sound once; its digest.
    fn try_fetch(
        &self,
        job_id: &str,
        lease: &str,
        mut file: &File,
        is_over: &AtomicBool,
    ) -> Result<String, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::Unreachable(error.to_string());
        let request = self
            .agent
            .get(format!("{}/api/v1/worker/jobs/{job_id}/audio", self.base))
            .config()
            .timeout_global(Some(AUDIO_TIMEOUT))
            .build()
            .header("authorization", format!("Bearer {lease}"));
        let mut answer = request.call().map_err(|error| failed(&error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
            let answer = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
            return Err(if is_unwanted(&answer) {
                Refusal::Unwanted
            } else {
                Refusal::Unreachable(format!("status {status}"))
            });
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(|error| failed(&error))?;
        let (mut reader, mut hasher) = (answer.body_mut().as_reader(), Sha256::new());
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if is_over.load(Ordering::Relaxed) {
                return Err(Refusal::Unreachable("nobody waits for it".to_owned()));
            }
            let read = reader.read(&mut chunk).map_err(|error| failed(&error))?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            file.write_all(bytes).map_err(|error| failed(&error))?;
        }
        Ok(hex(&hasher.finalize()))
    }
}

fn is_unwanted(answer: &Value) -> bool {
    answer["code"].as_str().is_some_and(|code| UNWANTED.contains(&code))
}
