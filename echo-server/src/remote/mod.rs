//! `echo-server worker`: a worker on another machine.
//!
//! ```text
//! NATS ──job id──► agent ──claim, reports, result──► API ──► database
//!                    │ ▲                              ▲
//!        stdin/stdout│ │                              │ sound, by the lease
//!                    ▼ │                              │
//!                  worker process ◄───────────────────┘ as a file
//! ```
//!
//! It dials out only, to NATS and to the API, and has no credential of the database. What it may do
//! with a job is what the lease allows that the API gave it.

mod api;
mod run;
mod slot;
mod sound;
mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::{Drain, test_worker};
use crate::config::Config;
use crate::queue;
use api::Api;

/// Jobs are given back within this time, of which a process has the most to stop.
const GOODBYE: Duration = Duration::from_secs(15);

/// What the slots of a worker share.
#[derive(Debug)]
struct Agent {
    config: Config,
    api: Api,
    nats: async_nats::Client,
    /// Where sound lies while it is worked at.
    folder: PathBuf,
    /// The worker's program, if it is another one; only tests of debug builds have one.
    program: Option<PathBuf>,
    /// Which worker this is, among all.
    name: String,
    drain: watch::Receiver<Drain>,
}

impl Agent {
    fn drain_phase(&self) -> Drain {
        *self.drain.borrow()
    }
}

/// Works until `stop` is done, then finishes what is under way or gives it back.
///
/// # Errors
/// If the configuration names no API or no secret, or NATS cannot be understood.
pub async fn work(config: Config, stop: impl Future<Output = ()>) -> Result<(), String> {
    let name = format!("{}-{}", host_name(), std::process::id());
    let folder = std::env::temp_dir().join(format!("echo-worker-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (drain, phase) = watch::channel(Drain::Running);
    let agent = Arc::new(Agent {
        api: Api::new(&config)?,
        nats: queue::connect(&config, &name).await?,
        folder: folder.clone(),
        program: test_worker(),
        name,
        drain: phase,
        config,
    });
    tracing::info!(worker = %agent.name, slots = agent.config.worker_slots, "working");
    let mut slots = tokio::task::JoinSet::new();
    for slot in 0..agent.config.worker_slots {
        slots.spawn(slot::keep(Arc::clone(&agent), slot));
    }
    stop.await;
    tracing::info!("draining");
    drain.send_replace(Drain::Refusing);
    let mut idle = std::pin::pin!(async { while slots.join_next().await.is_some() {} });
    if tokio::time::timeout(agent.config.drain, &mut idle).await.is_err() {
        drain.send_replace(Drain::Releasing);
        if tokio::time::timeout(GOODBYE, idle).await.is_err() {
            tracing::warn!("a job could not be given back");
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

/// The name of this machine, for people who look for a worker.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "worker".to_owned() } else { name.to_owned() }
}
