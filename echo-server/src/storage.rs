//! Sound and results as files: whole or not there, named by what is in them.
//!
//! ```text
//! parts/RANDOM          being written
//! blobs/aa/SHA256       sound
//! results/aa/KEY.json   transcripts
//! waveforms/aa/SHA256.json   what sound looks like
//! ```
//!
//! A file is written in `parts`, flushed to the disk, renamed, and its folder flushed, before a row
//! may speak of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::secrets::{hex, token};
use crate::store::Orphans;

/// What is written at once; a few of these are all that an upload holds in memory.
const WRITE_BYTES: usize = 64 * 1024;
/// What is kept of a file's beginning.
const HEAD_BYTES: usize = 512;

/// The folder of sound and results.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

/// Sound that lies in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub hash: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its first bytes, which say what it is.
    pub head: Vec<u8>,
}

impl Files {
    /// Opens the folder, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn open(root: &Path) -> io::Result<Self> {
        for folder in ["parts", "blobs", "results", "waveforms"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        // A worker is told paths, and may run elsewhere.
        Ok(Self { root: root.canonicalize()? })
    }

    /// Starts writing sound whose name is not known yet.
    ///
    /// # Errors
    /// The file system's.
    pub async fn part(&self) -> io::Result<Part> {
        let path = self.root.join("parts").join(token());
        let file = File::options().write(true).create_new(true).open(&path).await?;
        let sink = Sink { file: file.into_std().await, hasher: Sha256::new() };
        let (buffer, head) = (Vec::with_capacity(WRITE_BYTES), Vec::new());
        Ok(Part { path: Some(path), sink: Some(sink), buffer, size_bytes: 0, head })
    }

    /// Where the sound of this digest lies.
    pub fn blob_path(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(folder(hash)).join(hash)
    }

    /// Where the result of this key lies.
    pub fn result_path(&self, key: &str) -> PathBuf {
        self.root.join("results").join(folder(key)).join(format!("{key}.json"))
    }

    /// Where the waveform of the sound of this digest lies.
    fn waveform_path(&self, hash: &str) -> PathBuf {
        self.root.join("waveforms").join(folder(hash)).join(format!("{hash}.json"))
    }

    /// Keeps sound under its digest.
    ///
    /// # Errors
    /// The file system's.
    pub async fn keep(&self, mut part: Part) -> io::Result<Blob> {
        part.spill().await?;
        let (Some(sink), Some(path)) = (part.sink.take(), &part.path) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let files = self.clone();
        let path = path.clone();
        let hash = blocking(move || {
            sink.file.sync_data()?;
            let hash = hex(&sink.hasher.finalize());
            settle(&path, &files.blob_path(&hash))?;
            Ok(hash)
        });
        let hash = hash.await?;
        part.path = None;
        Ok(Blob { hash, size_bytes: part.size_bytes, head: std::mem::take(&mut part.head) })
    }

    /// Keeps the sound in a file that lies on the same disk, without moving it.
    ///
    /// # Errors
    /// The file system's.
    pub async fn keep_file(&self, path: &Path) -> io::Result<Blob> {
        let mut file = File::open(path).await?;
        let (mut hasher, mut head, mut size_bytes) = (Sha256::new(), Vec::new(), 0);
        let mut buffer = vec![0; WRITE_BYTES];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            extend_head(&mut head, &buffer[..count]);
            size_bytes += count as u64;
        }
        file.sync_all().await?;
        let hash = hex(&hasher.finalize());
        let link = self.root.join("parts").join(token());
        // Where there are no hard links, a copy does.
        if fs::hard_link(path, &link).await.is_err() {
            fs::copy(path, &link).await?;
            File::open(&link).await?.sync_all().await?;
        }
        let place = self.blob_path(&hash);
        blocking(move || settle(&link, &place)).await?;
        Ok(Blob { hash, size_bytes, head })
    }

    /// Keeps a result under its key; the same result twice does no harm.
    ///
    /// # Errors
    /// The file system's.
    pub async fn keep_result(&self, key: &str, json: &[u8]) -> io::Result<()> {
        self.keep_json(self.result_path(key), json).await
    }

    /// Keeps the waveform of sound.
    ///
    /// # Errors
    /// The file system's.
    pub async fn keep_waveform(&self, hash: &str, json: &[u8]) -> io::Result<()> {
        self.keep_json(self.waveform_path(hash), json).await
    }

    async fn keep_json(&self, place: PathBuf, json: &[u8]) -> io::Result<()> {
        let path = self.root.join("parts").join(token());
        let mut file = File::options().write(true).create_new(true).open(&path).await?;
        let written = async {
            file.write_all(json).await?;
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

    /// The result under a key.
    ///
    /// # Errors
    /// The file system's.
    pub async fn result(&self, key: &str) -> io::Result<Bytes> {
        fs::read(self.result_path(key)).await.map(Bytes::from)
    }

    /// The waveform of sound.
    ///
    /// # Errors
    /// The file system's.
    pub async fn waveform(&self, hash: &str) -> io::Result<Vec<u8>> {
        fs::read(self.waveform_path(hash)).await
    }

    /// Removes what no row needs; what is not there needs no removing.
    pub async fn remove(&self, orphans: &Orphans) {
        let blobs = orphans.blobs.iter().map(|hash| self.blob_path(hash));
        let waveforms = orphans.blobs.iter().map(|hash| self.waveform_path(hash));
        let results = orphans.results.iter().map(|key| self.result_path(key));
        for path in blobs.chain(waveforms).chain(results) {
            if let Err(error) = fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a file could not be removed");
            }
        }
    }

    /// Removes parts that nobody has written to for so long; a crash leaves them.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove_old_parts(&self, older: std::time::Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(self.root.join("parts"))? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age >= older && std::fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The names of all sound, waveforms and results, with their ages.
    ///
    /// # Errors
    /// The file system's.
    pub fn names(&self) -> io::Result<Vec<(PathBuf, String, std::time::Duration)>> {
        let mut names = Vec::new();
        for kind in ["blobs", "results", "waveforms"] {
            for folder in std::fs::read_dir(self.root.join(kind))? {
                for entry in std::fs::read_dir(folder?.path())? {
                    let entry = entry?;
                    let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let name = name.trim_end_matches(".json").to_owned();
                    names.push((entry.path(), name, age));
                }
            }
        }
        Ok(names)
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// The file system's.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let about = rustix::fs::statvfs(&self.root)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }
}

/// The first two characters of a name: no folder gets too many files.
fn folder(name: &str) -> &str {
    name.get(..2).unwrap_or("__")
}

/// Takes bytes into the first ones that say what a file is.
fn extend_head(head: &mut Vec<u8>, bytes: &[u8]) {
    let missing = HEAD_BYTES.saturating_sub(head.len()).min(bytes.len());
    head.extend_from_slice(&bytes[..missing]);
}

/// Moves a finished part to its place, for good.
fn settle(part: &Path, place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    std::fs::create_dir_all(folder)?;
    std::fs::rename(part, place)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Runs what waits for the disk, or counts long, where it stops nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Sound while it is being written; dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Part {
    path: Option<PathBuf>,
    /// With those who write at the moment, if anybody does.
    sink: Option<Sink>,
    buffer: Vec<u8>,
    size_bytes: u64,
    head: Vec<u8>,
}

/// Where the bytes of a part go.
#[derive(Debug)]
struct Sink {
    file: std::fs::File,
    hasher: Sha256,
}

impl Part {
    /// Appends bytes.
    ///
    /// # Errors
    /// The file system's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        extend_head(&mut self.head, bytes);
        self.size_bytes += bytes.len() as u64;
        for bytes in bytes.chunks(WRITE_BYTES) {
            if self.buffer.len() + bytes.len() > WRITE_BYTES {
                self.spill().await?;
            }
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Writes what has gathered.
    async fn spill(&mut self) -> io::Result<()> {
        let Some(mut sink) = self.sink.take() else {
            return Err(io::Error::other("an earlier write failed"));
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = blocking(move || {
            sink.hasher.update(&buffer);
            sink.file.write_all(&buffer)?;
            buffer.clear();
            Ok((sink, buffer))
        });
        let (sink, buffer) = written.await?;
        (self.sink, self.buffer) = (Some(sink), buffer);
        Ok(())
    }

    /// The first bytes, up to 512.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}
