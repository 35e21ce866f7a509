//! A folder: files written in `parts`, flushed to the disk, renamed, and their folders flushed, before
//! a row may speak of them.
//!
//! Beside a bucket it holds `spool/RANDOM`, sound while a worker of this machine works at it. Such a
//! file is locked by the process that needs it; one that nobody holds was left by a crash.

use std::io::{self, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Chunks, KINDS, blocking};
use crate::secrets::{hex, token};

/// What is read of a recording at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// A fetched file is locked long before it is so old.
const LOCKED_BY: Duration = Duration::from_secs(60);

/// A folder of files.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Opens the folder, made if it is not there.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        for folder in KINDS.iter().chain(&["parts", "spool"]) {
            std::fs::create_dir_all(root.join(folder))?;
        }
        // A worker is told paths, and may run elsewhere.
        Ok(Self { root: root.canonicalize()? })
    }

    /// Starts a file that has no name yet.
    pub(super) async fn draft(&self) -> io::Result<Draft> {
        let path = self.root.join("parts").join(token());
        let file = File::options().write(true).create_new(true).open(&path).await?;
        Ok(Draft { path: Some(path), file: file.into_std().await })
    }

    /// Moves a file to its place, for good.
    pub(super) async fn keep(&self, mut draft: Draft, key: &str) -> io::Result<()> {
        let place = self.root.join(key);
        blocking(move || {
            draft.file.sync_data()?;
            let Some(path) = &draft.path else { return Err(io::ErrorKind::InvalidInput.into()) };
            settle(path, &place)?;
            // It lies elsewhere by now, and is not removed with the draft.
            drop(draft.path.take());
            Ok(())
        })
        .await
    }

    /// Gives a file that lies on the same disk one more place.
    pub(super) async fn link(&self, path: &Path, key: &str) -> io::Result<()> {
        let link = self.root.join("parts").join(token());
        // Where there are no hard links, a copy does.
        if fs::hard_link(path, &link).await.is_err() {
            fs::copy(path, &link).await?;
            File::open(&link).await?.sync_all().await?;
        }
        let place = self.root.join(key);
        blocking(move || settle(&link, &place)).await
    }

    /// Writes a small file whole, in the place of what was there.
    pub(super) async fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, place) = (self.root.join("parts").join(token()), self.root.join(key));
        let mut file = File::options().write(true).create_new(true).open(&path).await?;
        let written = async {
            file.write_all(bytes).await?;
            file.flush().await?;
            file.sync_data().await?;
            let path = path.clone();
            blocking(move || settle(&path, &place)).await
        };
        let written = written.await;
        if written.is_err() {
            let _ = fs::remove_file(&path).await;
        }
        written
    }

    /// A whole file.
    pub(super) async fn get(&self, key: &str) -> io::Result<Bytes> {
        fs::read(self.root.join(key)).await.map(Bytes::from)
    }

    /// The length of a file.
    pub(super) async fn size(&self, key: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.root.join(key)).await?.len())
    }

    /// A file from `start` up to `end`.
    pub(super) async fn read(&self, key: &str, start: u64, end: u64) -> io::Result<Chunks> {
        let mut file = File::open(self.root.join(key)).await?;
        file.seek(SeekFrom::Start(start)).await?;
        let chunks = stream::try_unfold(file.take(end.saturating_sub(start)), |mut file| async {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            let read = file.read_buf(&mut chunk).await?;
            Ok((read > 0).then(|| (chunk.freeze(), file)))
        });
        Ok(chunks.boxed())
    }

    /// A file where it lies.
    pub(super) fn at_hand(&self, key: &str) -> AtHand {
        AtHand { path: self.root.join(key), lock: None }
    }

    /// Writes sound from elsewhere into a file that lives as long as it is needed.
    pub(super) async fn fetch(&self, mut chunks: Chunks, hash: &str) -> io::Result<AtHand> {
        let path = self.root.join("spool").join(token());
        let mut file = File::options().write(true).create_new(true).open(&path).await?;
        let lock = file.try_clone().await?.into_std().await;
        // Removed with it, also if what follows fails or is not waited for.
        let at_hand = AtHand { path, lock: Some(lock) };
        if let Some(lock) = &at_hand.lock {
            flock(lock, FlockOperation::NonBlockingLockExclusive)?;
        }
        let mut hasher = Sha256::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            let hashed = chunk.clone();
            hasher = blocking(move || {
                hasher.update(&hashed);
                Ok(hasher)
            })
            .await?;
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        if hex(&hasher.finalize()) != hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the sound has changed"));
        }
        Ok(at_hand)
    }

    /// Removes files; those that are not there need no removing.
    pub(super) async fn remove(&self, keys: &[String]) {
        for key in keys {
            if let Err(error) = fs::remove_file(self.root.join(key)).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(key, %error, "a file could not be removed");
            }
        }
    }

    /// Removes parts that nobody has written to for so long, and what workers fetched and left.
    pub(super) async fn remove_old_parts(&self, older: Duration) -> io::Result<()> {
        let root = self.root.clone();
        blocking(move || {
            for entry in std::fs::read_dir(root.join("parts"))? {
                let entry = entry?;
                if age(&entry)? >= older {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
            for entry in std::fs::read_dir(root.join("spool"))? {
                let entry = entry?;
                let path = entry.path();
                let is_left = age(&entry)? >= LOCKED_BY
                    && std::fs::File::open(&path).is_ok_and(|file| {
                        flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                    });
                if is_left {
                    let _ = std::fs::remove_file(path);
                }
            }
            Ok(())
        })
        .await
    }

    /// Keys of all that is older.
    pub(super) async fn older(&self, than: Duration) -> io::Result<Vec<String>> {
        let root = self.root.clone();
        blocking(move || {
            let mut keys = Vec::new();
            for kind in KINDS {
                for folder in std::fs::read_dir(root.join(kind))? {
                    for entry in std::fs::read_dir(folder?.path())? {
                        let entry = entry?;
                        let path = entry.path();
                        if age(&entry)? > than
                            && let Some(key) = path.strip_prefix(&root).ok().and_then(Path::to_str)
                        {
                            keys.push(key.to_owned());
                        }
                    }
                }
            }
            Ok(keys)
        })
        .await
    }

    /// Bytes that may still be written.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let about = rustix::fs::statvfs(&self.root)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }
}

/// How long nobody has written to a file.
fn age(entry: &std::fs::DirEntry) -> io::Result<Duration> {
    Ok(entry.metadata()?.modified()?.elapsed().unwrap_or_default())
}

/// Moves a finished part to its place, for good.
fn settle(part: &Path, place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    std::fs::create_dir_all(folder)?;
    std::fs::rename(part, place)?;
    std::fs::File::open(folder)?.sync_all()
}

/// A file that has no name yet; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    path: Option<PathBuf>,
    file: std::fs::File,
}

impl Draft {
    /// Appends bytes. Blocks.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Sound as a file of this machine. One that was fetched from elsewhere is removed when this is dropped.
#[derive(Debug)]
pub struct AtHand {
    path: PathBuf,
    /// Of a fetched file: nobody else removes it while this is held.
    lock: Option<std::fs::File>,
}

impl AtHand {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AtHand {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_fetched_lives_as_long_as_it_is_needed() {
        let root = std::env::temp_dir().join(format!("echo-spool-{}", std::process::id()));
        let disk = Disk::open(&root).unwrap();
        let chunks =
            || stream::iter([Ok(Bytes::from_static(b"so")), Ok(Bytes::from_static(b"und"))]);
        let hash = hex(&Sha256::digest(b"sound"));
        let count = || std::fs::read_dir(root.join("spool")).unwrap().count();
        let at_hand = disk.fetch(chunks().boxed(), &hash).await.unwrap();
        assert_eq!(std::fs::read(at_hand.path()).unwrap(), b"sound");
        let long_ago = std::time::SystemTime::now() - 2 * LOCKED_BY;
        at_hand.lock.as_ref().unwrap().set_modified(long_ago).unwrap();
        disk.remove_old_parts(Duration::ZERO).await.unwrap();
        assert_eq!(count(), 1, "somebody needs it");
        // As a crash leaves it.
        let left = root.join("spool/left");
        std::fs::write(&left, b"sound").unwrap();
        std::fs::File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
        disk.remove_old_parts(Duration::ZERO).await.unwrap();
        assert_eq!(count(), 1, "nobody needs the other");
        drop(at_hand);
        assert_eq!(count(), 0);
        let other = hex(&Sha256::digest(b"other"));
        assert!(disk.fetch(chunks().boxed(), &other).await.is_err());
        assert_eq!(count(), 0);
        std::fs::remove_dir_all(root).unwrap();
    }
}
