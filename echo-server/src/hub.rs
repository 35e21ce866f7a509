//! News about jobs within this process: who waits for a job is woken when its row changed.
//!
//! News carry no content. Whoever is woken reads the row, which is the only truth; news that are
//! missed cost a later look, never a wrong one.

use std::time::Duration;

use tokio::sync::{Notify, broadcast};

/// News kept for slow listeners; who misses more looks at its row anyway.
const BACKLOG: usize = 1024;

/// Spreads news.
#[derive(Debug)]
pub struct Hub {
    /// Jobs, and whether this process changed them.
    jobs: broadcast::Sender<(String, bool)>,
    /// Woken when a job may be waiting to be run.
    pub work: Notify,
    /// Woken when a source may be waiting to be fetched.
    pub fetch: Notify,
    /// Woken when a delivery may be due.
    pub deliveries: Notify,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            jobs: broadcast::channel(BACKLOG).0,
            work: Notify::new(),
            fetch: Notify::new(),
            deliveries: Notify::new(),
        }
    }
}

impl Hub {
    /// Tells that the row of a job changed.
    pub fn changed(&self, job_id: &str) {
        // Nobody may be listening.
        let _ = self.jobs.send((job_id.to_owned(), true));
    }

    /// Tells what another replica told.
    pub fn heard(&self, job_id: &str) {
        let _ = self.jobs.send((job_id.to_owned(), false));
    }

    /// Jobs that this process changed, for the other replicas.
    pub fn own_news(&self) -> OwnNews {
        OwnNews { jobs: self.jobs.subscribe() }
    }

    /// Starts listening, before the row is read for the first time.
    pub fn listen(&self) -> Listener {
        Listener { jobs: self.jobs.subscribe() }
    }
}

/// Hears about changed rows.
#[derive(Debug)]
pub struct Listener {
    jobs: broadcast::Receiver<(String, bool)>,
}

impl Listener {
    /// Waits until the row of a job may have changed, or so long.
    pub async fn changed(&mut self, job_id: &str, at_most: Duration) {
        let news = async {
            loop {
                match self.jobs.recv().await {
                    Ok((id, _)) if id != job_id => {}
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(at_most, news).await;
    }
}

/// Hears which rows this process changed.
#[derive(Debug)]
pub struct OwnNews {
    jobs: broadcast::Receiver<(String, bool)>,
}

impl OwnNews {
    /// The next one; those that were missed are passed over. `None` when there will be none.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            match self.jobs.recv().await {
                Ok((id, true)) => return Some(id),
                Ok((_, false)) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
