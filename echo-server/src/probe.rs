//! What health probes look at: database and storage, looked at once for all who ask.
//!
//! A probe must be answered soon, above all when there is much to do, and asking the database takes a
//! place in its queue. So what was seen is good for a second; after that the next question makes
//! somebody look again, and is itself answered from what was seen, unless that is too old to be told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::store::Load;

/// For so long nobody looks again.
const FRESH: Duration = Duration::from_secs(1);
/// For so long what was seen is told.
const STALE: Duration = Duration::from_secs(5);

/// What takes longer to answer is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// How much is to do, if the database says it.
    pub load: Option<Load>,
    /// Room on the disk, if there is a disk.
    pub free_bytes: Option<u64>,
    /// Whether sound and results can be reached.
    pub has_storage: bool,
}

/// Looks, and remembers.
#[derive(Debug, Default)]
pub struct Probe {
    last: Mutex<Option<(Instant, Sight)>>,
    is_looking: AtomicBool,
}

impl Probe {
    /// What is seen, or was seen a moment ago.
    pub async fn look(&self, app: &Arc<App>) -> Sight {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Some((at, sight)) if at.elapsed() < FRESH => sight,
            Some((at, sight)) if at.elapsed() < STALE => {
                if !self.is_looking.swap(true, Ordering::AcqRel) {
                    let app = Arc::clone(app);
                    tokio::spawn(async move {
                        app.probe.again(&app).await;
                        app.probe.is_looking.store(false, Ordering::Release);
                    });
                }
                sight
            }
            _ => self.again(app).await,
        }
    }

    async fn again(&self, app: &App) -> Sight {
        let began = Instant::now();
        let load = tokio::time::timeout(PATIENCE, app.db.call(|store| store.load("")));
        let stored = tokio::time::timeout(PATIENCE, app.files.check());
        let (load, stored) = tokio::join!(load, stored);
        let sight = Sight {
            load: load.ok().and_then(Result::ok),
            free_bytes: app.files.free_bytes().ok(),
            has_storage: matches!(stored, Ok(Ok(()))),
        };
        // As old as the question: an answer that took long says little about now.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, sight));
        sight
    }
}
