//! The store for asynchronous code: each call goes to a thread that may block.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::store::{Result, Store, StoreError};

/// Calls under way at once; more wait here, where waiting costs no thread.
const MAX_CALLS: usize = 32;

/// A call that takes longer is not waited for: a database that hangs answers nobody, for hours maybe.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// A shared store.
#[derive(Clone)]
pub struct Db {
    store: Arc<dyn Store>,
    calls: Arc<Semaphore>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// Shares a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    /// Runs `work` on a thread that may block. Once begun it is finished, even if nobody waits.
    ///
    /// # Errors
    /// Those of `work`, or [`StoreError::Unavailable`] if it takes too long.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Database(error);
        let calls = Arc::clone(&self.calls);
        let store = Arc::clone(&self.store);
        let done = async move {
            let call = calls.acquire_owned().await.map_err(|error| failed(error.into()))?;
            let done = tokio::task::spawn_blocking(move || {
                let done = work(&*store);
                drop(call);
                done
            });
            done.await.map_err(|error| failed(error.into()))?
        };
        tokio::time::timeout(MAX_WAIT, done).await.unwrap_or(Err(StoreError::Unavailable))
    }
}
