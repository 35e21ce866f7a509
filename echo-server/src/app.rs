//! All that a running server has, shared by handlers and background tasks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};

use crate::auth::UsedTickets;
use crate::cache::ResultCache;
use crate::clock::Moment;
use crate::config::{Config, Database, Queue};
use crate::db::Db;
use crate::hub::Hub;
use crate::limits::Limits;
use crate::live::Desk;
use crate::metrics::Metrics;
use crate::probe::Probe;
use crate::queue::{Dispatcher, Nats, Push, Pushed};
use crate::room::Room;
use crate::secrets::{Secret, sha256_hex, token};
use crate::storage::Files;
use crate::store::{PostgresStore, SqliteStore, Store};
use crate::trace::Traces;
use crate::upload::resumable::Resumable;
use crate::worker::{Pool, SlotState};

/// Changes whenever the same options may give another transcript of the same sound.
const PIPELINE_VERSION: &str = concat!("echo-", env!("CARGO_PKG_VERSION"));
/// Sources fetched at once.
const MAX_FETCHES: usize = 8;
/// Long messages of workers read at once: each may be as long as the longest result.
const MAX_LONG_MESSAGES: usize = 8;

/// How far the server is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It is not.
    Running,
    /// It is not ready any more, but still answers everything.
    Announced,
    /// It takes no new work, and starts none.
    Refusing,
    /// It gives running jobs back.
    Releasing,
}

/// A running server.
#[derive(Debug)]
pub struct App {
    /// What it was told.
    pub config: Config,
    /// Its jobs.
    pub db: Db,
    /// Its sound and results.
    pub files: Files,
    /// Its uploads in pieces.
    pub resumable: Resumable,
    /// News within it.
    pub hub: Hub,
    /// Live sessions that want a worker.
    pub desk: Desk,
    /// Its workers.
    pub pool: Pool,
    /// What tells workers on other machines of jobs, if there are such.
    pub queue: Option<Arc<dyn Dispatcher>>,
    /// What its clocks showed at the last look for lost leases.
    pub clock: Arc<Mutex<Moment>>,
    /// What its probes saw.
    pub probe: Probe,
    /// Its counters.
    pub metrics: Metrics,
    /// What it tells of what it does.
    pub traces: Traces,
    /// How often tenants may ask.
    pub limits: Limits,
    /// Whether there is room for more jobs.
    pub room: Room,
    /// Its results, kept at hand.
    pub cache: ResultCache,
    /// Bodies that may be read at once.
    pub uploads: Arc<Semaphore>,
    /// Sources that may be fetched at once.
    pub fetches: Arc<Semaphore>,
    /// Long messages of workers that may be read at once.
    pub messages: Semaphore,
    /// Signs inbound webhooks.
    pub worker_secret: Secret,
    /// Signs outbound webhooks.
    pub webhook_secret: Secret,
    /// Seals secrets in the database.
    pub master_key: Secret,
    /// Tickets that are good only once.
    pub used_tickets: UsedTickets,
    /// The worker's program, if it is another one; only tests of debug builds have one.
    pub worker_program: Option<PathBuf>,
    /// Told when somebody asks by the API that the server goes down.
    pub stop: Notify,
    drain: watch::Sender<Drain>,
}

impl App {
    /// Opens database and storage.
    ///
    /// # Errors
    /// A sentence about what could not be opened.
    pub fn open(config: Config) -> Result<Arc<Self>, String> {
        let cannot = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
            format!("{what} {} cannot be opened: {error}", path.display())
        };
        let files = Files::open(&config.upload_dir, &config.storage)
            .map_err(|error| cannot("the folder", &config.upload_dir, &error))?;
        let resumable = Resumable::open(&config.upload_dir)
            .map_err(|error| cannot("the folder", &config.upload_dir, &error))?;
        let store = open_store(&config)?;
        let queue: Option<Arc<dyn Dispatcher>> = match config.queue {
            Queue::Embedded => None,
            Queue::Trigger => Some(Arc::new(Pushed(Push::trigger(&config)?))),
            Queue::Modal => Some(Arc::new(Pushed(Push::modal(&config)?))),
            Queue::Nats => {
                let runtime = tokio::runtime::Handle::current();
                let opened = tokio::task::block_in_place(|| runtime.block_on(Nats::open(&config)));
                Some(Arc::new(opened?))
            }
        };
        let secret = |given: &Option<Secret>, name: &str| match given {
            Some(secret) => Ok(secret.clone()),
            None => kept_secret(&config.upload_dir.join(name)),
        };
        Ok(Arc::new(Self {
            worker_secret: secret(&config.worker_secret, ".worker-secret")?,
            webhook_secret: secret(&config.webhook_secret, ".webhook-secret")?,
            master_key: secret(&config.master_key, ".master-key")?,
            db: Db::new(store),
            files,
            resumable,
            hub: Hub::default(),
            desk: Desk::default(),
            pool: Pool::new(if queue.is_some() { 0 } else { config.worker_slots }),
            queue,
            clock: Arc::new(Mutex::new(Moment::now())),
            probe: Probe::default(),
            metrics: Metrics::default(),
            traces: Traces::open(config.collector_url.as_deref())?,
            limits: Limits::default(),
            room: Room::default(),
            cache: ResultCache::new(&config.redis_url, config.cache_ttl),
            uploads: Arc::new(Semaphore::new(config.max_concurrent_uploads)),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            messages: Semaphore::new(MAX_LONG_MESSAGES),
            used_tickets: UsedTickets::default(),
            worker_program: test_worker(),
            stop: Notify::new(),
            drain: watch::Sender::new(Drain::Running),
            config,
        }))
    }

    /// Where the result of this sound with these options lies.
    pub fn cache_key(
        &self,
        tenant: &str,
        blob_hash: &str,
        options: &crate::job::JobOptions,
    ) -> String {
        let scope = if self.config.is_cache_global { "" } else { tenant };
        let options_text = options.canonical();
        let mut parts = vec![scope, blob_hash, &options_text, PIPELINE_VERSION];
        if options.diarize {
            parts.push(&self.config.diarization_model);
        }
        sha256_hex(parts.join("\n"))
    }

    /// Tells whoever runs a job that its row says to stop.
    pub fn ask_to_stop(&self, job_id: &str) {
        self.hub.changed(job_id);
        if let Some(queue) = &self.queue {
            queue.cancel(job_id);
        }
    }

    /// Whether it holds no lease: no worker is busy, and no source is being fetched.
    pub fn is_idle(&self) -> bool {
        !self.pool.slots().contains(&SlotState::Busy)
            && self.fetches.available_permits() == MAX_FETCHES
    }

    /// How far the server is on its way down.
    pub fn drain_phase(&self) -> Drain {
        *self.drain.borrow()
    }

    /// Whether new jobs may be started.
    pub fn is_running(&self) -> bool {
        self.drain_phase() < Drain::Refusing
    }

    /// Goes a step on the way down.
    pub fn drain(&self, phase: Drain) {
        self.drain.send_if_modified(|now| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        });
    }

    /// Waits so long, or until the server takes no new work.
    pub async fn pause(&self, time: Duration) {
        let mut drain = self.drain.subscribe();
        let refusing = drain.wait_for(|phase| *phase >= Drain::Refusing);
        let _ = tokio::time::timeout(time, refusing).await;
    }

    /// Waits until the server has come so far on its way down.
    pub async fn drained(&self, phase: Drain) {
        let mut drain = self.drain.subscribe();
        // The sender lives in `self`, so the wait ends only with the phase.
        let _ = drain.wait_for(|now| *now >= phase).await;
    }
}

fn open_store(config: &Config) -> Result<Arc<dyn Store>, String> {
    let cannot = |what: &str, error: &dyn std::error::Error| {
        let cause = error.source().map(ToString::to_string);
        let reason = cause.unwrap_or_else(|| error.to_string());
        format!("the database {what} cannot be opened: {reason}")
    };
    let sqlite = |path: Option<&Path>, shown: &str| -> Result<Arc<dyn Store>, String> {
        let store = SqliteStore::open(path, config.is_migrated);
        Ok(Arc::new(store.map_err(|error| cannot(shown, &error))?))
    };
    match &config.database {
        Database::File(path) => sqlite(Some(path), &path.display().to_string()),
        Database::Memory => sqlite(None, "in memory"),
        Database::Postgres(url) => {
            // Its client blocks, and has a runtime of its own.
            let opened = tokio::task::block_in_place(|| {
                PostgresStore::open(url.expose(), config.is_migrated)
            });
            Ok(Arc::new(opened.map_err(|error| cannot("of PostgreSQL", &error))?))
        }
    }
}

/// A secret in a file that only its owner can read, made at first need.
fn kept_secret(path: &Path) -> Result<Secret, String> {
    if let Ok(text) = std::fs::read_to_string(path)
        && !text.trim().is_empty()
    {
        return Ok(Secret::new(text.trim()));
    }
    let written = write_once(path, &token());
    let kept = written.and_then(|()| std::fs::read_to_string(path));
    let secret = kept.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(Secret::new(secret.trim()))
}

/// Makes a file whole, unless another process has: replicas that start together keep one secret.
fn write_once(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension(token());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
    let made = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Tests put another program in the place of the worker; a release build does not look.
pub(crate) fn test_worker() -> Option<PathBuf> {
    if cfg!(debug_assertions) { std::env::var_os("ECHO_TEST_WORKER").map(Into::into) } else { None }
}
