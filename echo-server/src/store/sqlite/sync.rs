//! One flush of the write-ahead log for all transactions that wait for one.
//!
//! With `synchronous = FULL` every commit flushes the log while it holds the only writing connection,
//! and a flush takes longer than the transaction. Here a commit only writes the log (`NORMAL`), lets
//! the next one begin, and then waits for a flush that began after it. One thread flushes for all that
//! wait, so the promise is that of `FULL` and its price is shared: whoever got an answer finds its
//! change on the disk. Changes are in the log in their order, so no change outlives one before it, and
//! SQLite itself flushes the log before it moves changes to the database's file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// The log and how far it is on the disk.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    progress: Mutex<Progress>,
    flushed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// Held open: the log is one file for as long as the writing connection is open.
    file: Option<File>,
    committed: u64,
    flushed: u64,
    is_flushing: bool,
    /// What was not flushed may be lost although the next flush succeeds, so none is believed again.
    is_broken: bool,
}

impl Log {
    /// The log of a database's file.
    pub(super) fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), progress: Mutex::default(), flushed: Condvar::new() }
    }

    /// Counts a commit. Called while the writing connection is held, so numbers are in order.
    pub(super) fn committed(&self) -> u64 {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.committed += 1;
        progress.committed
    }

    /// Whether what the database shows may be lost with the next power cut.
    pub(super) fn is_broken(&self) -> bool {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).is_broken
    }

    /// Waits until a commit is on the disk.
    ///
    /// # Errors
    /// If the log could not be flushed, now or ever before.
    pub(super) fn flush(&self, commit: u64) -> io::Result<()> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if progress.is_broken {
                return Err(broken());
            }
            if progress.flushed >= commit {
                return Ok(());
            }
            if progress.is_flushing {
                let waited = self.flushed.wait(progress);
                progress = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            progress.is_flushing = true;
            let (until, file) = (progress.committed, progress.file.take());
            drop(progress);
            let done = file.map_or_else(|| File::open(&self.path), Ok).and_then(|file| {
                file.sync_data()?;
                Ok(file)
            });
            progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.is_flushing = false;
            self.flushed.notify_all();
            match done {
                Ok(file) => {
                    progress.file = Some(file);
                    progress.flushed = until;
                }
                Err(error) => {
                    progress.is_broken = true;
                    return Err(error);
                }
            }
        }
    }
}

/// Only a restart, which reads what is really there, helps.
pub(super) fn broken() -> io::Error {
    io::Error::other("the log of the database could not be flushed: restart the server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_flushed_by_whoever_comes_first_and_a_failure_is_not_forgotten() {
        let folder = std::env::temp_dir().join(format!("echo-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let database = folder.join("jobs.db");
        std::fs::write(folder.join("jobs.db-wal"), b"log").unwrap();
        let log = Log::of(&database);
        let commits: Vec<u64> = (0..8).map(|_| log.committed()).collect();
        std::thread::scope(|scope| {
            for commit in &commits {
                scope.spawn(|| log.flush(*commit).unwrap());
            }
        });
        assert_eq!(log.progress.lock().unwrap().flushed, 8);
        let missing = Log::of(&folder.join("none.db"));
        let commit = missing.committed();
        assert!(missing.flush(commit).is_err());
        std::fs::write(folder.join("none.db-wal"), b"log").unwrap();
        assert!(missing.flush(commit).is_err() && missing.is_broken());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
