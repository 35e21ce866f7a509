//! Outbound webhooks: rows of the database, tried until their receiver has them or time is up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::sign;
use crate::app::App;
use crate::clock::{now_ms, rfc3339};
use crate::job::{Callback, Job, State};
use crate::outbound::{self, Blocked, Policy, Sent, Url};
use crate::secrets::{random, unseal};
use crate::store::{DeliveryState, Due, Tried, Try};

/// Pauses after each failed try: the schedule of the specification, 75 h in all.
const SCHEDULE_SECONDS: [i64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest that a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A delivery that was taken and not reported on, because the server died, is due again after this.
const TAKEN_MS: i64 = 120_000;
/// Tries at once, and tries at once of one host.
const MAX_TRIES: usize = 64;
const MAX_PER_HOST: usize = 4;
/// The longest text that goes along.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Sends what is due until the server drains.
pub async fn deliver(app: Arc<App>) {
    let turns = Arc::new(Semaphore::new(MAX_TRIES));
    let mut hosts: HashMap<String, Arc<Semaphore>> = HashMap::new();
    while app.is_running() {
        let free = u32::try_from(turns.available_permits()).unwrap_or(1).min(16);
        let due = app.db.call(move |store| {
            let now = now_ms();
            store.due_deliveries(free, now, now + TAKEN_MS)
        });
        let due = due.await.unwrap_or_default();
        let is_idle = due.is_empty();
        hosts.retain(|_, turns| turns.available_permits() < MAX_PER_HOST);
        for delivery in due {
            let host =
                delivery.job.callback.as_ref().and_then(|callback| Url::parse(&callback.url));
            let host = host.map(|url| url.authority()).unwrap_or_default();
            let own = Arc::clone(
                hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(MAX_PER_HOST))),
            );
            let (app, turns) = (Arc::clone(&app), Arc::clone(&turns));
            tokio::spawn(async move {
                // A slow host fills its own queue and nobody else's.
                let _own = own.acquire_owned().await;
                let _turn = turns.acquire_owned().await;
                attempt(&app, &delivery).await;
            });
        }
        if is_idle {
            tokio::select! {
                () = app.hub.deliveries.notified() => {}
                () = app.pause(Duration::from_secs(1)) => {}
            }
        }
    }
}

async fn attempt(app: &App, due: &Due) {
    let Some(callback) = &due.job.callback else { return };
    let (at, began) = (now_ms(), Instant::now());
    let outcome = send(app, due, callback, at).await;
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, error) = match &outcome {
        Ok(sent) => (Some(sent.status), None),
        Err(why) => (None, Some((*why).to_owned())),
    };
    let (state, wait_ms) = judge(&outcome, due.tries);
    let label = state.as_str();
    app.metrics.add("webhook_deliveries_total", &[("outcome", label)], 1.0);
    tracing::info!(job.id = %due.job.id, delivery = %due.id, ?status, error = error.as_deref(), outcome = label, latency_ms, "webhook sent");
    let note = Try { at: rfc3339(at), status, latency_ms, error };
    let tried = Tried { note, state, next_at: wait_ms.map(|wait| now_ms() + wait) };
    let id = due.id.clone();
    let kept = app.db.call(move |store| store.delivery_tried(&id, &tried, now_ms())).await;
    if let Err(error) = kept {
        tracing::warn!(%error, "a delivery will be tried again: its outcome could not be kept");
    }
}

/// What comes after a try: the delivery's state, and the pause before the next one.
fn judge(outcome: &Result<Sent, &'static str>, tries: u32) -> (DeliveryState, Option<i64>) {
    let mut wait = next_try_ms(tries);
    match outcome {
        Ok(Sent { status: 200..=299, .. }) => return (DeliveryState::Delivered, None),
        // The receiver is gone for good.
        Ok(Sent { status: 410, .. }) => return (DeliveryState::Stopped, None),
        Err("fetch_blocked") => return (DeliveryState::Failed, None),
        Ok(Sent { status: 429 | 502 | 503 | 504, retry_after_seconds: Some(seconds) }) => {
            let asked = i64::try_from(*seconds).unwrap_or(i64::MAX).clamp(1, 86_400) * 1000;
            wait = wait.map(|wait| wait.max(asked));
        }
        _ => {}
    }
    if wait.is_some() { (DeliveryState::Pending, wait) } else { (DeliveryState::Failed, None) }
}

/// The pause after the try number `tries`, counted from 0, a fifth shorter or longer by chance.
pub fn next_try_ms(tries: u32) -> Option<i64> {
    let seconds = SCHEDULE_SECONDS.get(tries as usize)?;
    let [chance] = random::<1>();
    Some(seconds * (800 + i64::from(chance) * 400 / 255))
}

async fn send(app: &App, due: &Due, callback: &Callback, at: i64) -> Result<Sent, &'static str> {
    let url = Url::parse(&callback.url).ok_or("fetch_blocked")?;
    if !url.is_https && !app.config.has_insecure_callbacks {
        return Err("fetch_blocked");
    }
    let target = Policy::new(&app.config).resolve(url).await.map_err(|why| match why {
        Blocked::Denied => "fetch_blocked",
        Blocked::Unknown => "host not known",
    })?;
    let secret = match &callback.sealed_secret {
        Some(sealed) => unseal(&app.master_key, sealed).ok_or("the master key has changed")?,
        None => app.webhook_secret.clone(),
    };
    let body = body(app, due, callback, at).await.to_string();
    let seconds = at / 1000;
    let signature = sign::signature(&secret, &due.event_id, seconds, body.as_bytes());
    let mut headers = HeaderMap::new();
    let pairs = [
        ("webhook-id", due.event_id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    for (name, value) in pairs {
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| "bad header")?);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    outbound::post(&target, headers, body.into(), TIMEOUT).await
}

async fn body(app: &App, due: &Due, callback: &Callback, at: i64) -> Value {
    let job = &due.job;
    let path = format!("{}/api/v1/transcription/{}", app.config.app_url, job.id);
    let mut data = json!({
        "job_id": job.id,
        "status": due.event,
        "external_id": job.external_id,
        "metadata": job.metadata,
        "duration_seconds": job.source.duration_seconds,
        "usage": job.usage,
        "error": job.error,
        "result_url": path,
        "download": {
            "srt": format!("{path}/download?format=srt"),
            "vtt": format!("{path}/download?format=vtt"),
            "txt": format!("{path}/download?format=txt"),
        },
    });
    if let Some(fields) = data.as_object_mut()
        && let Some(result) = result(app, job).await
    {
        fields.insert("language".into(), result["language"].clone());
        let text = result["text"].as_str().unwrap_or_default();
        if callback.include_result && text.len() <= MAX_TEXT_BYTES {
            fields.insert("text".into(), json!(text));
        }
    }
    json!({ "type": format!("transcription.{}", due.event), "timestamp": rfc3339(at), "data": data })
}

async fn result(app: &App, job: &Job) -> Option<Value> {
    let key = job.cache_key.as_deref().filter(|_| job.state == State::Completed)?;
    serde_json::from_slice(&app.files.result(key).await.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(status: u16, retry_after_seconds: Option<u64>) -> Result<Sent, &'static str> {
        Ok(Sent { status, retry_after_seconds })
    }

    #[test]
    fn tries_follow_the_schedule_and_end() {
        let total: i64 = SCHEDULE_SECONDS.iter().sum();
        assert_eq!(total, 75 * 3600 + 35 * 60 + 5);
        for (tries, seconds) in SCHEDULE_SECONDS.iter().enumerate() {
            let wait = next_try_ms(tries as u32).unwrap();
            assert!((seconds * 800..=seconds * 1200).contains(&wait));
        }
        assert_eq!(next_try_ms(9), None);
        assert_eq!(judge(&sent(500, None), 9), (DeliveryState::Failed, None));
    }

    #[test]
    fn the_receivers_answer_decides() {
        assert_eq!(judge(&sent(204, None), 0), (DeliveryState::Delivered, None));
        assert_eq!(judge(&sent(410, None), 0), (DeliveryState::Stopped, None));
        assert_eq!(judge(&Err("fetch_blocked"), 0), (DeliveryState::Failed, None));
        assert_eq!(judge(&sent(503, Some(3600)), 0), (DeliveryState::Pending, Some(3_600_000)));
        let (state, wait) = judge(&sent(302, None), 0);
        assert_eq!((state, wait.is_some()), (DeliveryState::Pending, true));
    }
}
