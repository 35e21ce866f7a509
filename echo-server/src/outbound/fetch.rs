//! Sources fetched from URLs: the phase `fetch` of a job, under the same leases as its run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::client;
use super::policy::{Blocked, Policy, Target};
use super::url::Url;
use crate::app::{App, Drain};
use crate::clock::now_ms;
use crate::job::{JobError, Phase};
use crate::secrets::unseal;
use crate::storage::Part;
use crate::store::{Claim, Claimed, Fetched, Report, StoreError};
use crate::upload::{Pace, media_type};
use crate::worker::{self, Outcome, announce, until};

const MAX_HOPS: usize = 5;

/// Where a source is fetched from; sealed in the row, because it may hold secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Origin {
    /// The whole URL.
    pub url: String,
    /// Headers for its host.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// Fetches sources until the server drains.
pub async fn fetch_sources(app: Arc<App>) {
    loop {
        let Ok(turn) = Arc::clone(&app.fetches).acquire_owned().await else { return };
        if !app.is_running() {
            return;
        }
        let lease = app.config.lease;
        let claimed = app.db.call(move |store| {
            let now = now_ms();
            store.claim(
                Phase::Fetch,
                &Claim { owner: "fetch", until: until(now, lease), resumes: false },
                now,
            )
        });
        match claimed.await {
            Ok(Some(claimed)) => {
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    run(&app, claimed).await;
                    drop(turn);
                    // Its tenant may have more.
                    app.hub.fetch.notify_one();
                });
            }
            _ => tokio::select! {
                () = app.hub.fetch.notified() => {}
                () = app.pause(Duration::from_secs(1)) => {}
            },
        }
    }
}

/// Fetches one source while its lease holds.
async fn run(app: &App, claimed: Claimed) {
    let fetched = tokio::select! {
        fetched = timeout(app.config.fetch_timeout, fetch(app, &claimed)) => {
            fetched.unwrap_or_else(|_| Err(JobError::passing("fetch_timeout", "it took too long")))
        }
        outcome = keep_lease(app, &claimed) => {
            if let Some(outcome) = outcome {
                finish(app, &claimed, outcome).await;
            }
            return;
        }
    };
    match fetched {
        Ok(blob) => {
            let lease = claimed.lease.clone();
            match app.db.call(move |store| store.fetched(&lease, &blob, now_ms())).await {
                Ok(job) => announce(app, &job),
                Err(error) => {
                    tracing::warn!(job.id = %claimed.job.id, %error, "a fetched source was lost")
                }
            }
        }
        Err(error) => finish(app, &claimed, Outcome::Failed(error)).await,
    }
}

async fn finish(app: &App, claimed: &Claimed, outcome: Outcome) {
    if let Err(error) = worker::end(app, &claimed.lease, outcome).await {
        tracing::warn!(job.id = %claimed.job.id, %error, "a fetch could not be ended");
    }
}

/// Prolongs the lease until the job is to end; `None` if the lease was lost.
async fn keep_lease(app: &App, claimed: &Claimed) -> Option<Outcome> {
    let mut news = app.hub.listen();
    loop {
        tokio::select! {
            () = news.changed(&claimed.job.id, app.config.heartbeat) => {}
            () = app.drained(Drain::Releasing) => return Some(Outcome::Released),
        }
        match worker::report(app, &claimed.lease, Report::default()).await {
            Ok(renewed) if renewed.is_cancel_requested => return Some(Outcome::Cancelled),
            Err(StoreError::Fenced) => return None,
            _ => {}
        }
    }
}

async fn fetch(app: &App, claimed: &Claimed) -> Result<Fetched, JobError> {
    let sealed = claimed.job.source.sealed.as_deref().unwrap_or_default();
    let origin: Option<Origin> =
        unseal(&app.master_key, sealed).and_then(|text| serde_json::from_str(text.expose()).ok());
    let origin = origin.ok_or_else(|| {
        JobError::lasting("fetch_failed", "the address cannot be read: the master key has changed")
    })?;
    let response = follow(app, &origin).await?;
    let declared = response.headers().get(header::CONTENT_LENGTH);
    let declared: Option<u64> = declared.and_then(|text| text.to_str().ok()?.parse().ok());
    if declared.is_some_and(|size| size > app.config.max_file_bytes) {
        return Err(too_large(app));
    }
    let mut part = app.files.part().await.map_err(|_| disk())?;
    receive(app, response.into_body(), &mut part, claimed).await?;
    if declared.is_some_and(|size| size != part.size_bytes()) {
        return Err(JobError::passing("fetch_failed", "the answer ended early"));
    }
    if part.size_bytes() == 0 {
        return Err(JobError::lasting("fetch_failed", "the answer is empty"));
    }
    let kind = media_type(part.head()).map_err(|what| {
        JobError::lasting(
            "unsupported_media",
            format!("the file is {what}, expected sound or video"),
        )
    })?;
    let blob = app.files.keep(part).await.map_err(|_| disk())?;
    Ok(Fetched {
        cache_key: app.cache_key(&claimed.job.tenant, &blob.hash, &claimed.job.options),
        hash: blob.hash,
        size_bytes: blob.size_bytes,
        media_type: kind.to_owned(),
    })
}

async fn receive(
    app: &App,
    mut body: hyper::body::Incoming,
    part: &mut Part,
    claimed: &Claimed,
) -> Result<(), JobError> {
    let (mut told, mut pace) = (Instant::now(), Pace::new());
    loop {
        let frame = pace.wait(body.frame()).await;
        let frame =
            frame.map_err(|_| JobError::passing("fetch_timeout", "nothing came for 30 s"))?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|_| JobError::passing("fetch_failed", "the answer broke off"))?;
        let Some(data) = frame.data_ref() else { continue };
        if part.size_bytes() + data.len() as u64 > app.config.max_file_bytes {
            return Err(too_large(app));
        }
        let slow = |_| JobError::passing("fetch_timeout", "it came slower than 4 KiB/s");
        pace.got(data.len()).map_err(slow)?;
        part.write(data).await.map_err(|_| disk())?;
        if told.elapsed() > Duration::from_secs(1) {
            told = Instant::now();
            let report = Report { stage: Some("fetching".to_owned()), ..Report::default() };
            // A lost lease is noticed by who keeps it.
            let _ = worker::report(app, &claimed.lease, report).await;
        }
    }
}

/// Asks, and asks on where redirects lead, each step checked like the first.
async fn follow(
    app: &App,
    origin: &Origin,
) -> Result<axum::http::Response<hyper::body::Incoming>, JobError> {
    let policy = Policy::new(&app.config);
    let blocked = || JobError::lasting("fetch_blocked", "the address is not allowed");
    let mut url = Url::parse(&origin.url).ok_or_else(blocked)?;
    let first = url.origin();
    for _ in 0..=MAX_HOPS {
        let target: Target = policy.resolve(url.clone()).await.map_err(|why| match why {
            Blocked::Denied => blocked(),
            Blocked::Unknown => JobError::passing("fetch_failed", "the host is not known"),
        })?;
        let headers = if url.origin() == first { own_headers(origin) } else { HeaderMap::new() };
        let response = client::get(&target, headers).await.map_err(|why| match why {
            "timeout" => JobError::passing("fetch_timeout", "there was no answer in time"),
            _ => JobError::passing("fetch_failed", "there was no answer"),
        })?;
        let status = response.status().as_u16();
        match status {
            200 => return Ok(response),
            301 | 302 | 303 | 307 | 308 => {
                let location = response.headers().get(header::LOCATION);
                let next = location.and_then(|text| url.join(text.to_str().ok()?));
                let next = next.ok_or_else(blocked)?;
                if url.is_https && !next.is_https {
                    return Err(blocked());
                }
                url = next;
            }
            408 | 429 | 500..=599 => {
                return Err(JobError::passing(
                    "fetch_http_status",
                    format!("the status is {status}"),
                ));
            }
            _ => {
                return Err(JobError::lasting(
                    "fetch_http_status",
                    format!("the status is {status}"),
                ));
            }
        }
    }
    Err(JobError::lasting("fetch_failed", "more than 5 redirects"))
}

fn own_headers(origin: &Origin) -> HeaderMap {
    let pairs = origin.headers.iter().filter_map(|(name, value)| {
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
    });
    pairs.collect()
}

fn too_large(app: &App) -> JobError {
    let message = format!("more than {} bytes", app.config.max_file_bytes);
    JobError::lasting("fetch_too_large", message)
}

fn disk() -> JobError {
    JobError::passing("insufficient_storage", "the file could not be written")
}
