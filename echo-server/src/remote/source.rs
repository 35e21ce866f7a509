//! Jobs from NATS, as a worker takes them: one at a time, urgent ones first.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{self, AckKind, Message};
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use serde::Deserialize;

use crate::queue::{QUEUES, STREAM, cancel_subject};

/// How long one question waits for a job; urgent ones are asked for in between.
const WAIT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);

/// The queue as a worker sees it.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    consumers: Vec<Consumer<pull::Config>>,
}

/// A job that was announced, until it is acknowledged.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) job_id: String,
    message: Message,
}

#[derive(Deserialize)]
struct Announcement {
    job_id: String,
}

impl Source {
    /// Jobs of this server of NATS.
    pub(super) fn new(client: Client) -> Self {
        Self { client, consumers: Vec::new() }
    }

    /// The next job, if one comes soon.
    ///
    /// # Errors
    /// If the queue cannot be asked, or is not there yet.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>, String> {
        if self.consumers.is_empty() {
            self.consumers = self.consumers().await?;
        }
        let found = self.ask().await;
        if found.is_err() {
            // It may have been made anew.
            self.consumers.clear();
        }
        found
    }

    async fn consumers(&self) -> Result<Vec<Consumer<pull::Config>>, String> {
        let mut jobs = jetstream::new(self.client.clone());
        jobs.set_timeout(TIMEOUT);
        let stream = jobs.get_stream(STREAM).await.map_err(|error| error.to_string())?;
        let mut consumers = Vec::new();
        for queue in QUEUES {
            let consumer = stream.get_consumer(queue).await;
            consumers.push(consumer.map_err(|error| error.to_string())?);
        }
        Ok(consumers)
    }

    async fn ask(&self) -> Result<Option<Delivery>, String> {
        let last = self.consumers.len().saturating_sub(1);
        for (number, consumer) in self.consumers.iter().enumerate() {
            // The last queue is waited at, the others only looked at.
            let mut messages = if number == last {
                let asked = consumer.batch().max_messages(1).expires(WAIT).messages().await;
                asked.map_err(|error| error.to_string())?
            } else {
                let asked = consumer.fetch().max_messages(1).messages().await;
                asked.map_err(|error| error.to_string())?
            };
            let next = async { messages.next().await.transpose() };
            let next = tokio::time::timeout(WAIT + TIMEOUT, next).await;
            let next = next.map_err(|_| "the queue does not answer".to_owned())?;
            if let Some(message) = next.map_err(|error| error.to_string())? {
                return Ok(delivery(message).await);
            }
        }
        Ok(None)
    }

    /// Hears whether a job shall be stopped.
    pub(super) async fn cancellations(&self, job_id: &str) -> Option<Subscriber> {
        self.client.subscribe(cancel_subject(job_id)).await.ok()
    }
}

async fn delivery(message: Message) -> Option<Delivery> {
    match serde_json::from_slice::<Announcement>(&message.payload) {
        Ok(Announcement { job_id }) => Some(Delivery { job_id, message }),
        Err(error) => {
            tracing::warn!(%error, "a message is not of a job");
            let _ = message.ack_with(AckKind::Term).await;
            None
        }
    }
}

impl Delivery {
    /// The job is being worked at: it is not delivered to anybody else for a while.
    pub(super) async fn progress(&self) {
        let _ = self.message.ack_with(AckKind::Progress).await;
    }

    /// The job needs no delivering any more. If that is not heard it is delivered once more, and the
    /// API refuses it.
    pub(super) async fn done(&self) {
        let _ = self.message.ack().await;
    }

    /// Somebody else shall have it.
    pub(super) async fn give_back(&self) {
        let _ = self.message.ack_with(AckKind::Nak(None)).await;
    }
}
