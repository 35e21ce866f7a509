//! The threads that stages share which compute in parallel by rayon.
//!
//! The recogniser's kernels have a pool of their own ([`kernels`](crate::kernels)); features, voice
//! activity and speakers work on these. A stage enters them for each stretch of work and reports
//! progress outside, so that callbacks need not be `Send`.

use std::sync::Arc;

use crate::error::{Error, Result};

/// Threads of a given number, or the process's own. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    own: Option<Arc<rayon::ThreadPool>>,
}

impl Threads {
    /// So many threads; `None` takes rayon's global ones, one for each processor.
    ///
    /// # Errors
    /// [`Error::Inference`] if the system starts no more threads.
    pub(crate) fn new(count: Option<usize>) -> Result<Self> {
        let start = |count| {
            let name = |index| format!("echo-stage-{index}");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(name);
            pool.build().map(Arc::new).map_err(|error| Error::inference("threads", error))
        };
        Ok(Self { own: count.map(start).transpose()? })
    }

    /// How many work at once.
    pub(crate) fn count(&self) -> usize {
        match &self.own {
            Some(pool) => pool.current_num_threads(),
            None => rayon::current_num_threads(),
        }
    }

    /// Does parallel work on these threads and waits for it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.own {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// Whether so many threads may be asked for.
///
/// # Errors
/// [`Error::Option`] if not.
pub(crate) fn check_threads(count: Option<usize>) -> Result<()> {
    match count {
        Some(count @ (0 | 1025..)) => Err(Error::Option {
            option: "threads",
            value: count.to_string(),
            expected: "1 to 1024",
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stays_on_as_many_threads_as_were_asked_for() {
        let threads = Threads::new(Some(3)).unwrap();
        assert_eq!(threads.count(), 3);
        assert_eq!(threads.run(rayon::current_num_threads), 3);
    }

    #[test]
    fn without_a_number_the_global_threads_work() {
        let threads = Threads::default();
        assert_eq!(threads.count(), rayon::current_num_threads());
    }
}
