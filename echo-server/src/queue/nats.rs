//! NATS: jobs by JetStream, news and cancellations by plain subjects.
//!
//! ```text
//! echo.jobs.gpu, echo.jobs.interactive   the stream ECHO_JOBS, a durable pull consumer each
//! echo.news.<job>                        its row changed: other replicas wake who waits for it
//! echo.cancel.<job>                      its worker shall stop
//! ```
//!
//! A message is `{"v":1,"job_id":"…"}`, without addresses and secrets. Nothing newer than version 2.9
//! of the server is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use serde_json::json;

use super::{Dispatcher, Promise};
use crate::app::App;
use crate::config::Config;
use crate::store::Waiting;

/// The stream of jobs.
pub(crate) const STREAM: &str = "ECHO_JOBS";
/// Where jobs are announced.
const JOBS: &str = "echo.jobs";
/// Queues in the order in which workers ask them.
pub(crate) const QUEUES: [&str; 2] = ["interactive", "gpu"];
const NEWS: &str = "echo.news";

/// The same announcement twice within this time is one.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_UNACKNOWLEDGED: i64 = 20_000;
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Where the cancellation of a job is told.
pub(crate) fn cancel_subject(job_id: &str) -> String {
    format!("echo.cancel.{job_id}")
}

/// Jobs by NATS.
#[derive(Debug)]
pub(crate) struct Nats {
    client: Client,
    jobs: Context,
    replicas: usize,
    ack_wait: Duration,
    /// When the stream that is known was made, in nanoseconds; another one is empty.
    stream_made: AtomicI64,
}

/// Connects, now or as soon as the server is there, and again whenever it was gone.
///
/// # Errors
/// If address or credentials cannot be understood.
pub(crate) async fn connect(config: &Config, name: &str) -> Result<Client, String> {
    let mut options = ConnectOptions::new()
        .name(name)
        .no_echo()
        .retry_on_initial_connect()
        .ping_interval(Duration::from_secs(10))
        .reconnect_delay_callback(|attempts| {
            let delay = Duration::from_millis(50 * u64::try_from(attempts).unwrap_or(20).min(20));
            delay.min(MAX_RECONNECT_DELAY)
        });
    if let Some(path) = &config.nats_creds {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("NATS_CREDS {}: {error}", path.display()))?;
        options = options.credentials(&text).map_err(|error| format!("NATS_CREDS: {error}"))?;
    }
    let client = options.connect(config.nats_url.as_str()).await;
    client.map_err(|error| format!("NATS_URL: {error}"))
}

impl Nats {
    /// Connects.
    ///
    /// # Errors
    /// As [`connect`].
    pub(crate) async fn open(config: &Config) -> Result<Self, String> {
        let client = connect(config, "echo-server").await?;
        let mut jobs = jetstream::new(client.clone());
        jobs.set_timeout(ANSWER_TIMEOUT);
        Ok(Self {
            client,
            jobs,
            replicas: config.nats_replicas,
            ack_wait: config.lease,
            stream_made: AtomicI64::new(0),
        })
    }

    async fn prepare(&self) -> Result<bool, String> {
        let stream = self.jobs.get_or_create_stream(StreamConfig {
            name: STREAM.to_owned(),
            subjects: vec![format!("{JOBS}.*")],
            retention: RetentionPolicy::WorkQueue,
            num_replicas: self.replicas,
            duplicate_window: DUPLICATE_WINDOW,
            ..StreamConfig::default()
        });
        let stream = stream.await.map_err(|error| error.to_string())?;
        for queue in QUEUES {
            let consumer = stream.create_consumer(pull::Config {
                durable_name: Some(queue.to_owned()),
                filter_subject: format!("{JOBS}.{queue}"),
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.ack_wait,
                // How often a job is tried is counted in its row.
                max_deliver: -1,
                max_ack_pending: MAX_UNACKNOWLEDGED,
                ..pull::Config::default()
            });
            consumer.await.map_err(|error| error.to_string())?;
        }
        let made = stream.cached_info().created.unix_timestamp_nanos();
        let made = i64::try_from(made).unwrap_or(i64::MAX);
        Ok(self.stream_made.swap(made, Ordering::Relaxed) != made)
    }

    async fn publish(&self, job: &Waiting) -> Result<(), String> {
        let queue = if job.priority > 0 { "interactive" } else { "gpu" };
        let text = json!({ "v": 1, "job_id": job.id, "queue": queue }).to_string();
        let message = PublishMessage::build()
            .message_id(format!("{}:{}", job.id, job.epoch + 1))
            .payload(text.into());
        let sent = self.jobs.send_publish(format!("{JOBS}.{queue}"), message).await;
        sent.map_err(|error| error.to_string())?.await.map(drop).map_err(|error| error.to_string())
    }
}

impl Dispatcher for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn prepare(&self) -> Promise<'_, Result<bool, String>> {
        Box::pin(self.prepare())
    }

    fn publish<'a>(&'a self, job: &'a Waiting) -> Promise<'a, Result<(), String>> {
        Box::pin(self.publish(job))
    }

    fn cancel(&self, job_id: &str) {
        let (client, subject) = (self.client.clone(), cancel_subject(job_id));
        tokio::spawn(async move {
            let _ = client.publish(subject, "".into()).await;
        });
    }

    fn carry_news(self: Arc<Self>, app: Arc<App>) -> Promise<'static, ()> {
        Box::pin(carry_news(self.client.clone(), app))
    }

    fn is_reachable(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

async fn carry_news(client: Client, app: Arc<App>) {
    let mut own = app.hub.own_news();
    loop {
        let mut others = match client.subscribe(format!("{NEWS}.*")).await {
            Ok(others) => others,
            Err(error) => {
                tracing::warn!(%error, "news of other replicas cannot be heard");
                app.pause(MAX_RECONNECT_DELAY).await;
                continue;
            }
        };
        loop {
            tokio::select! {
                message = others.next() => match message {
                    Some(message) => {
                        if let Some((_, id)) = message.subject.as_str().rsplit_once('.') {
                            app.hub.heard(id);
                        }
                    }
                    None => break,
                },
                // News that are missed cost a later look.
                Some(id) = own.next() => {
                    let _ = client.publish(format!("{NEWS}.{id}"), "".into()).await;
                }
            }
        }
    }
}
