//! Outbound webhooks: rows of the database, tried until their receiver has them or time is up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::{secrets, sign};
use crate::app::App;
use crate::clock::{now_ms, rfc3339};
use crate::job::{Callback, Job, State, batch_json};
use crate::outbound::{self, Blocked, Policy, Sent, Url};
use crate::secrets::{Secret, random, unseal};
use crate::store::{About, Batch, DeliveryState, Due, Tried, Try};
use crate::trace::TRACEPARENT;

/// Pauses after each failed try: the schedule of the specification, 75 h in all.
const SCHEDULE_SECONDS: [i64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest that a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A delivery that was taken and not reported on, because the server died, is due again after this.
const TAKEN_MS: i64 = 120_000;
/// Tries at once, and tries at once of one host.
const MAX_TRIES: usize = 64;
const MAX_PER_HOST: usize = 4;
/// Deliveries that wait for a turn here, and those of one host; more wait in the database.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_PER_HOST: usize = 64;
/// The longest that they wait here: they are tried well before they would be taken again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer each next one waits there, and the longest.
const PUT_OFF_MS: i64 = 1000;
const MAX_PUT_OFF_MS: i64 = 60_000;
/// The longest text that goes along.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Sends what is due until the server drains.
pub async fn deliver(app: Arc<App>) {
    let turns = Arc::new(Semaphore::new(MAX_TRIES));
    let room = Arc::new(Semaphore::new(MAX_WAITING));
    let mut hosts: HashMap<String, Host> = HashMap::new();
    while app.is_running() {
        let free = u32::try_from(room.available_permits()).unwrap_or(1).min(16);
        let due = app.db.call(move |store| {
            let now = now_ms();
            store.due_deliveries(free, now, now + TAKEN_MS)
        });
        let due = due.await.unwrap_or_default();
        let is_idle = due.is_empty();
        hosts.retain(|_, host| host.room.available_permits() < MAX_WAITING_PER_HOST);
        let mut refused = Vec::new();
        for delivery in due {
            let host = delivery.about.callback().and_then(|callback| Url::parse(&callback.url));
            let host = host.map(|url| url.authority()).unwrap_or_default();
            let host = hosts.entry(host).or_default();
            let Some(place) = host.place(&room) else {
                refused.push((delivery, now_ms() + host.put_off_ms()));
                continue;
            };
            let (app, turns, own) = (Arc::clone(&app), Arc::clone(&turns), Arc::clone(&host.turns));
            tokio::spawn(async move {
                let turn = async { (own.acquire().await, turns.acquire().await) };
                match timeout(PATIENCE, turn).await {
                    Ok(_turn) => attempt(&app, &delivery).await,
                    Err(_) => put_off(&app, vec![(delivery, now_ms() + PUT_OFF_MS)]).await,
                }
                drop(place);
            });
        }
        put_off(&app, refused).await;
        if is_idle {
            tokio::select! {
                () = app.hub.deliveries.notified() => {}
                () = app.pause(Duration::from_secs(1)) => {}
            }
        }
    }
}

/// A receiver that is told something now: a slow one fills its own room and nobody else's.
struct Host {
    turns: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// Deliveries that were refused since it last had room.
    refused: i64,
}

impl Default for Host {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(MAX_PER_HOST));
        Self { turns, room: Arc::new(Semaphore::new(MAX_WAITING_PER_HOST)), refused: 0 }
    }
}

impl Host {
    /// Where a delivery may wait for its turn.
    fn place(&mut self, room: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let any = Arc::clone(room).try_acquire_owned().ok()?;
        self.refused = 0;
        Some([own, any])
    }

    /// How long the next one that is refused waits: many are not looked at again all the time.
    fn put_off_ms(&mut self) -> i64 {
        self.refused += 1;
        (self.refused * PUT_OFF_MS).min(MAX_PUT_OFF_MS)
    }
}

/// Gives deliveries back that had no turn.
async fn put_off(app: &App, until: Vec<(Due, i64)>) {
    if until.is_empty() {
        return;
    }
    let kept = app.db.call(move |store| store.put_off_deliveries(&until, now_ms())).await;
    if let Err(error) = kept {
        tracing::warn!(%error, "deliveries wait longer: they could not be given back");
    }
}

async fn attempt(app: &App, due: &Due) {
    let Some(callback) = due.about.callback() else { return };
    let (at, began) = (now_ms(), Instant::now());
    let mut span = app.traces.callback(due.about.traceparent(), host_of(callback));
    span.set("job.id", due.about.id().to_owned());
    span.set("callback.event", due.event.clone());
    span.set("callback.attempt", i64::from(due.tries) + 1);
    let outcome = send(app, due, callback, at, span.context()).await;
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, error) = match &outcome {
        Ok(sent) => (Some(sent.status), None),
        Err(why) => (None, Some((*why).to_owned())),
    };
    match &outcome {
        Ok(sent) => span.set("http.response.status_code", i64::from(sent.status)),
        Err(why) => span.fail(*why),
    }
    drop(span);
    let (state, wait_ms) = judge(&outcome, due.tries);
    let label = state.as_str();
    app.metrics.add("webhook_deliveries_total", &[("outcome", label)], 1.0);
    tracing::info!(job.id = %due.about.id(), delivery = %due.id, ?status, error = error.as_deref(), outcome = label, latency_ms, "webhook sent");
    let tried = Tried {
        id: due.id.clone(),
        tries: due.tries,
        note: Try { at: rfc3339(at), status, latency_ms, error },
        state,
        next_at: wait_ms.map(|wait| now_ms() + wait),
    };
    let kept = app.db.call(move |store| store.delivery_tried(&tried, now_ms())).await;
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

/// What signs for a tenant now.
async fn secrets_of(app: &App, tenant: &str, at: i64) -> Result<Vec<Secret>, &'static str> {
    let own = tenant.to_owned();
    let rotation = app.db.call(move |store| store.rotation(&own)).await;
    let rotation = rotation.map_err(|_| "the secret cannot be read")?;
    Ok(secrets::signing(&app.webhook_secret, tenant, &rotation, at))
}

/// The host alone: the rest of an address may hold secrets.
fn host_of(callback: &Callback) -> String {
    Url::parse(&callback.url).map(|url| url.host).unwrap_or_default()
}

async fn send(
    app: &App,
    due: &Due,
    callback: &Callback,
    at: i64,
    traceparent: Option<String>,
) -> Result<Sent, &'static str> {
    let url = Url::parse(&callback.url).ok_or("fetch_blocked")?;
    if !url.is_https && !app.config.has_insecure_callbacks {
        return Err("fetch_blocked");
    }
    let target = Policy::new(&app.config).resolve(url).await.map_err(|why| match why {
        Blocked::Denied => "fetch_blocked",
        Blocked::Unknown => "host not known",
    })?;
    let secrets = match &callback.sealed_secret {
        Some(sealed) => vec![unseal(&app.master_key, sealed).ok_or("the master key has changed")?],
        None => secrets_of(app, due.about.tenant(), at).await?,
    };
    let body = body(app, due, callback, at).await.to_string();
    let seconds = at / 1000;
    let signature = sign::signatures(&secrets, &due.event_id, seconds, body.as_bytes());
    let mut headers = HeaderMap::new();
    let pairs = [
        ("webhook-id", due.event_id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    for (name, value) in pairs.into_iter().chain(traceparent.map(|text| (TRACEPARENT, text))) {
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| "bad header")?);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    outbound::post(&target, headers, body.into(), TIMEOUT).await
}

async fn body(app: &App, due: &Due, callback: &Callback, at: i64) -> Value {
    let (kind, data) = match &due.about {
        About::Job(job) => ("transcription", job_data(app, job, &due.event, callback).await),
        About::Batch(batch) => ("batch", batch_data(app, batch)),
    };
    json!({ "type": format!("{kind}.{}", due.event), "timestamp": rfc3339(at), "data": data })
}

fn batch_data(app: &App, batch: &Batch) -> Value {
    let mut data = batch_json(batch);
    data.insert(
        "result_url".to_owned(),
        json!(format!("{}/api/v1/batch/{}", app.config.app_url, batch.id)),
    );
    data.remove("links");
    Value::Object(data)
}

async fn job_data(app: &App, job: &Job, event: &str, callback: &Callback) -> Value {
    let path = format!("{}/api/v1/transcription/{}", app.config.app_url, job.id);
    let mut data = json!({
        "job_id": job.id,
        "status": event,
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
    data
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
