//! How workers on other machines learn that there is work.
//!
//! A queue delivers wake-ups and nothing else: the row decides who may run a job, how often it was
//! tried and what became of it. Whatever a queue loses is published again, whatever it delivers twice
//! is refused by the fence.

mod nats;
mod outbox;
mod push;

use std::pin::Pin;
use std::sync::Arc;

pub(crate) use nats::{Nats, QUEUES, STREAM, cancel_subject, connect};
pub(crate) use outbox::publish;
pub(crate) use push::{Push, Pushed};

use crate::app::App;
use crate::store::Waiting;

/// What a method of [`Dispatcher`] returns.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells workers elsewhere of jobs.
pub trait Dispatcher: Send + Sync + std::fmt::Debug {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Makes sure that the queue is there; says whether all that was published before may be gone.
    fn prepare(&self) -> Promise<'_, Result<bool, String>>;

    /// Announces a job; done when the queue has it for good.
    fn publish<'a>(&'a self, job: &'a Waiting) -> Promise<'a, Result<(), String>>;

    /// Tells the worker of a job that it shall stop. Workers hear of it anyway, a little later.
    fn cancel(&self, job_id: &str);

    /// Carries news of this process to other replicas and theirs to it, for ever.
    fn carry_news(self: Arc<Self>, app: Arc<App>) -> Promise<'static, ()>;

    /// Whether the queue can be reached now.
    fn is_reachable(&self) -> bool;
}
