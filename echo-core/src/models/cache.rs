//! The folder of downloaded models: what lies where, and how it gets there whole.
//!
//! ```text
//! ROOT/base/{manifest.json, model.bin, …}     a model: complete, every file was verified
//! ROOT/base.partial/{model.bin.partial, …}    a download that is under way or was cut off
//! ROOT/base.lock                              held by the process that downloads or removes
//! ```
//!
//! Files are verified in the partial folder; renaming that folder is the last step, so whatever
//! bears a model's own name is complete. The manifest lists sizes and hashes.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::progress::CancelToken;

const MANIFEST: &str = "manifest.json";

/// How often a process that waits for another one looks again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// What a stored model consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The name it was asked for by.
    pub(crate) model: String,
    /// Where it came from, in words.
    pub(crate) source: String,
    /// Its files.
    pub(crate) files: Vec<StoredFile>,
}

/// A file of a stored model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
}

/// One model's place in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Where it lies once it is complete.
    pub(crate) folder: PathBuf,
    /// Where it is put together.
    pub(crate) partial: PathBuf,
    lock: PathBuf,
}

/// The right to change a slot, until it is dropped.
#[derive(Debug)]
pub(crate) struct SlotGuard(File);

impl Slot {
    /// The slot of `key`, which is a plain file name.
    pub(crate) fn new(root: &Path, key: &str) -> Self {
        let beside = |suffix: &str| root.join(format!("{key}{suffix}"));
        Self { folder: root.join(key), partial: beside(".partial"), lock: beside(".lock") }
    }

    /// What lies there, if it is complete: every file has its size. Contents were verified when
    /// they arrived and are verified again by [`verify`](Self::verify).
    pub(crate) fn manifest(&self) -> Option<Manifest> {
        let bytes = fs::read(self.folder.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
        let is_there = |file: &StoredFile| {
            let metadata = fs::metadata(self.folder.join(&file.name));
            is_inside(&file.name) && metadata.is_ok_and(|found| found.len() == file.size_bytes)
        };
        (!manifest.files.is_empty() && manifest.files.iter().all(is_there)).then_some(manifest)
    }

    /// Waits until no other process or thread changes the slot.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or [`Error::Io`] if the folder cannot be written.
    pub(crate) fn lock(&self, cancel: &CancelToken) -> Result<SlotGuard> {
        let failed = |error| Error::io(&self.lock, error);
        create_folder(self.lock.parent().unwrap_or(Path::new(".")))?;
        let file = File::options().create(true).append(true).open(&self.lock).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(SlotGuard(file)),
                Err(TryLockError::WouldBlock) => {
                    cancel.check()?;
                    thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Makes the partial folder the model: the last step of a download.
    pub(crate) fn finish(&self, _guard: &SlotGuard, manifest: &Manifest) -> Result<()> {
        let json = serde_json::to_vec_pretty(manifest)
            .map_err(|error| Error::inference("writing a manifest", error))?;
        let path = self.partial.join(MANIFEST);
        write_synced(&path, &json)?;
        // Leftovers: etags, wheels, files of another revision.
        let entries = fs::read_dir(&self.partial).map_err(|error| Error::io(&path, error))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_listed = manifest.files.iter().any(|file| *first_part(&file.name) == name);
            if !is_listed && name != MANIFEST {
                remove(&entry.path())?;
            }
        }
        remove(&self.folder)?;
        fs::rename(&self.partial, &self.folder).map_err(|error| Error::io(&self.folder, error))
    }

    /// Reads every file and compares it with the manifest.
    pub(crate) fn verify(&self, manifest: &Manifest, cancel: &CancelToken) -> Result<()> {
        for file in &manifest.files {
            let path = self.folder.join(&file.name);
            let found = sha256_of(&path, cancel)?;
            if found != file.sha256 {
                let reason = format!("{} has SHA-256 {found}, expected {}", file.name, file.sha256);
                return Err(Error::model(&manifest.model, reason));
            }
        }
        Ok(())
    }

    /// Deletes the model and what there is of a download. Says whether there was anything.
    pub(crate) fn clear(&self, _guard: &SlotGuard) -> Result<bool> {
        let was_there = self.folder.exists() || self.partial.exists();
        remove(&self.folder)?;
        remove(&self.partial)?;
        Ok(was_there)
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        // Closing the file releases the lock as well; this only says so.
        drop(self.0.unlock());
    }
}

/// Whether a name is that of a file in the same folder, on every system.
pub(crate) fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(allowed)
}

/// Whether a path is that of a file in a folder or in folders of it, its parts plain.
pub(crate) fn is_inside(path: &str) -> bool {
    path.split('/').all(is_plain)
}

/// What of a path lies in the folder itself.
fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// A folder with its parents.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Error::io(path, error))
}

/// Deletes a file or a folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Writes a small file so that it survives a power cut.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| Error::io(path, error))
}

/// The SHA-256 of a file in hexadecimal.
pub(crate) fn sha256_of(path: &Path, cancel: &CancelToken) -> Result<String> {
    let mut hash = Sha256::new();
    read_all(path, cancel, |piece| hash.update(piece))?;
    Ok(hex(&hash.finalize()))
}

/// Feeds a file to a hash, piece by piece.
pub(crate) fn read_all(
    path: &Path,
    cancel: &CancelToken,
    mut take: impl FnMut(&[u8]),
) -> Result<()> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path, error)),
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
