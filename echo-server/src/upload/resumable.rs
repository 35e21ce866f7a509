//! Uploads in pieces: bytes at offsets, in a folder each, until they are a whole file.
//!
//! ```text
//! resumable/ID/about.json     whose it is, how long it will be, what it became
//! resumable/ID/data           the bytes so far; its length is the offset
//! ```
//!
//! The length of the file is the only offset there is: whatever dies, what was written stays and is
//! counted. A piece that has a checksum counts when the checksum fits and is cut off again otherwise.
//! An upload that nobody has written to for a day is removed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{OwnedMutexGuard, watch};

use crate::clock::now_ms;
use crate::secrets::token;

/// An upload ends so long after its last byte.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a request waits for another one to let go of an upload.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of an upload beside its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    /// Whose it is.
    pub(crate) tenant: String,
    /// How long it will be.
    pub(crate) length: u64,
    /// What the client calls it.
    pub(crate) filename: Option<String>,
    /// The client's notes, given back as they came.
    pub(crate) metadata: String,
    /// What it has become.
    pub(crate) job_id: Option<String>,
}

/// An upload as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// What is known of it.
    pub(crate) about: About,
    /// Bytes that are here.
    pub(crate) offset: u64,
    /// When it ends, in milliseconds since 1970.
    pub(crate) expires_at: i64,
}

impl Standing {
    /// Whether nobody may go on with it.
    pub(crate) fn is_expired(&self) -> bool {
        self.expires_at <= now_ms()
    }
}

/// The folder of uploads in pieces.
#[derive(Debug)]
pub struct Resumable {
    root: PathBuf,
    locks: Mutex<HashMap<String, Weak<Lock>>>,
}

/// One request at a time writes to an upload.
#[derive(Debug, Default)]
struct Lock {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How many requests have wanted it.
    wanted: watch::Sender<u64>,
}

/// The right to write to an upload, which ends when somebody else wants it.
#[derive(Debug)]
pub(crate) struct Turn {
    wanted: watch::Receiver<u64>,
    _lock: Arc<Lock>,
    _held: OwnedMutexGuard<()>,
}

impl Turn {
    /// Waits until another request wants the upload: the client has given up on this one.
    pub(crate) async fn wanted_elsewhere(&mut self) {
        // The sender lives as long as the lock, which is held here.
        let _ = self.wanted.changed().await;
    }
}

impl Resumable {
    /// Opens the folder, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = root.join("resumable");
        std::fs::create_dir_all(&root)?;
        Ok(Self { root: root.canonicalize()?, locks: Mutex::default() })
    }

    /// Starts an upload and names it.
    pub(crate) async fn create(&self, about: &About) -> io::Result<(String, Standing)> {
        let id = token();
        let folder = self.root.join(&id);
        fs::create_dir(&folder).await?;
        let data = File::create_new(folder.join("data")).await?;
        data.sync_all().await?;
        self.write_about(&id, about).await?;
        File::open(&self.root).await?.sync_all().await?;
        let standing = Standing { about: about.clone(), offset: 0, expires_at: expiry(now_ms()) };
        Ok((id, standing))
    }

    /// How an upload stands; `None` if there is none of this name.
    pub(crate) async fn standing(&self, id: &str) -> io::Result<Option<Standing>> {
        // A name from a URL becomes a path only if it is one of ours.
        let is_ours = id.len() <= 64
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !is_ours || id.is_empty() {
            return Ok(None);
        }
        let text = match fs::read(self.about_path(id)).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let about: About = serde_json::from_slice(&text)?;
        // The data of what has become a job lies elsewhere.
        let path = if about.job_id.is_some() { self.about_path(id) } else { self.data_path(id) };
        let metadata = fs::metadata(path).await?;
        let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
        let modified = i64::try_from(modified.unwrap_or_default().as_millis()).unwrap_or(i64::MAX);
        let offset = if about.job_id.is_some() { about.length } else { metadata.len() };
        Ok(Some(Standing { offset, expires_at: expiry(modified), about }))
    }

    /// Waits for the right to write; whoever has it is asked to stop.
    pub(crate) async fn turn(&self, id: &str) -> Option<Turn> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(Lock::default());
                locks.insert(id.to_owned(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.wanted.send_modify(|count| *count += 1);
        let wanted = lock.wanted.subscribe();
        let turn = Arc::clone(&lock.turn).lock_owned();
        let held = tokio::time::timeout(PATIENCE, turn).await.ok()?;
        Some(Turn { wanted, _lock: lock, _held: held })
    }

    /// Opens an upload for bytes after `offset`, which must be its end.
    pub(crate) async fn append(&self, id: &str, offset: u64) -> io::Result<Piece> {
        let mut file = OpenOptions::new().write(true).open(self.data_path(id)).await?;
        let standard = file.try_clone().await?.into_std().await;
        // Another server on the same disk has no part in the lock of this one.
        rustix::fs::flock(&standard, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        Ok(Piece { file, began: offset, written: 0 })
    }

    /// Where the bytes of an upload lie.
    pub(crate) fn data_path(&self, id: &str) -> PathBuf {
        self.root.join(id).join("data")
    }

    /// Notes what an upload has become; its bytes lie elsewhere by now.
    pub(crate) async fn became(&self, id: &str, about: &About, job_id: &str) -> io::Result<()> {
        let about = About { job_id: Some(job_id.to_owned()), ..about.clone() };
        self.write_about(id, &about).await?;
        fs::remove_file(self.data_path(id)).await
    }

    /// Removes an upload.
    pub(crate) async fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.root.join(id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes uploads that have ended.
    ///
    /// # Errors
    /// The file system's.
    pub async fn remove_expired(&self) -> io::Result<usize> {
        let (mut folders, mut removed) = (fs::read_dir(&self.root).await?, 0);
        while let Some(folder) = folders.next_entry().await? {
            let name = folder.file_name().to_string_lossy().into_owned();
            let is_over = match self.standing(&name).await {
                Ok(Some(standing)) => standing.is_expired(),
                // A crash while it was made or removed has left half of it.
                _ => folder.metadata().await?.modified()?.elapsed().unwrap_or_default() > LIFETIME,
            };
            if is_over {
                self.remove(&name).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn about_path(&self, id: &str) -> PathBuf {
        self.root.join(id).join("about.json")
    }

    async fn write_about(&self, id: &str, about: &About) -> io::Result<()> {
        let folder = self.root.join(id);
        let draft = folder.join("about.new");
        let mut file = File::create(&draft).await?;
        file.write_all(&serde_json::to_vec(about)?).await?;
        file.sync_data().await?;
        fs::rename(draft, self.about_path(id)).await?;
        File::open(folder).await?.sync_all().await
    }
}

/// Bytes being appended to an upload.
#[derive(Debug)]
pub(crate) struct Piece {
    file: File,
    began: u64,
    written: u64,
}

impl Piece {
    /// Appends bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Where the next byte goes.
    pub(crate) fn offset(&self) -> u64 {
        self.began + self.written
    }

    /// Makes sure that the bytes outlive a crash, and says where the next one goes.
    pub(crate) async fn keep(mut self) -> io::Result<u64> {
        self.file.flush().await?;
        self.file.sync_data().await?;
        Ok(self.offset())
    }

    /// Takes the bytes back.
    pub(crate) async fn undo(mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.set_len(self.began).await
    }
}

fn expiry(modified_ms: i64) -> i64 {
    modified_ms.saturating_add(i64::try_from(LIFETIME.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            tenant: "ana".into(),
            length: 6,
            filename: None,
            metadata: String::new(),
            job_id: None,
        }
    }

    #[tokio::test]
    async fn what_was_written_is_counted_and_what_was_taken_back_is_not() {
        let root = std::env::temp_dir().join(format!("echo-resumable-{}", std::process::id()));
        let uploads = Resumable::open(&root).unwrap();
        let (id, _) = uploads.create(&about()).await.unwrap();
        let mut piece = uploads.append(&id, 0).await.unwrap();
        piece.write(b"abc").await.unwrap();
        assert!(uploads.append(&id, 3).await.is_err(), "two writers");
        assert_eq!(piece.keep().await.unwrap(), 3);
        let mut piece = uploads.append(&id, 3).await.unwrap();
        piece.write(b"xxx").await.unwrap();
        piece.undo().await.unwrap();
        assert_eq!(uploads.standing(&id).await.unwrap().unwrap().offset, 3);
        for other in ["", "..", "../x", "a/b", "nobody"] {
            assert!(uploads.standing(other).await.unwrap().is_none(), "{other}");
        }
        assert_eq!(uploads.remove_expired().await.unwrap(), 0);
        uploads.became(&id, &about(), "job").await.unwrap();
        let standing = uploads.standing(&id).await.unwrap().unwrap();
        assert_eq!((standing.offset, standing.about.job_id.as_deref()), (6, Some("job")));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[tokio::test]
    async fn a_second_request_gets_the_turn_of_the_first() {
        let root = std::env::temp_dir().join(format!("echo-turns-{}", std::process::id()));
        let uploads = Arc::new(Resumable::open(&root).unwrap());
        let mut first = uploads.turn("a").await.unwrap();
        let writer = tokio::spawn(async move { first.wanted_elsewhere().await });
        assert!(uploads.turn("a").await.is_some());
        writer.await.unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }
}
