//! Sound and results as files or objects: whole or not there, named by what is in them.
//!
//! ```text
//! parts/RANDOM               being written
//! blobs/aa/SHA256            sound
//! results/aa/KEY.json        transcripts
//! waveforms/aa/SHA256.json   what sound looks like
//! ```
//!
//! The names are the same in a folder (`disk.rs`) and in a bucket of S3 (`bucket.rs`), and all that is
//! decided is decided here: what is hashed, what is kept under which name, what is removed. A folder
//! is there with a bucket, too: it holds secrets, uploads in pieces and sound while it is worked at.

mod bucket;
mod disk;
mod http;

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::config::Storage;
use crate::secrets::hex;
use crate::store::Orphans;
use bucket::Bucket;
use disk::Disk;

pub use disk::AtHand;

/// What is written at once; a few of these are all that an upload to a folder holds in memory.
const WRITE_BYTES: usize = 64 * 1024;
/// What is kept of a file's beginning.
const HEAD_BYTES: usize = 512;
/// Kinds of things that are kept; each is a folder.
const KINDS: [&str; 3] = ["blobs", "results", "waveforms"];

/// Bytes of a recording as they come.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Sound and results, in a folder or in a bucket.
#[derive(Debug, Clone)]
pub struct Files {
    disk: Disk,
    bucket: Option<Bucket>,
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

/// Something that lies in storage: its place and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Folder and file, or the key of the object.
    pub key: String,
    /// A digest or the key of a result.
    pub name: String,
}

/// Whether storage could not be reached, which passes; as opposed to what is not there or full.
pub fn is_away(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NetworkDown
}

impl Files {
    /// Opens the folder, made if it is not there, and the bucket if there is to be one.
    ///
    /// # Errors
    /// If the folder cannot be made or written, or the settings of the bucket cannot be understood.
    /// A bucket that cannot be reached is no error: [`Files::check`] tells.
    pub fn open(root: &Path, storage: &Storage) -> io::Result<Self> {
        let disk = Disk::open(root)?;
        let bucket = match storage {
            Storage::Folder => None,
            Storage::Bucket(settings) => Some(Bucket::open(settings).map_err(io::Error::other)?),
        };
        Ok(Self { disk, bucket })
    }

    /// Whether what is kept can be reached now.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> io::Result<()> {
        match &self.bucket {
            None => self.free_bytes().map(drop),
            Some(bucket) => bucket.check().await,
        }
    }

    /// Starts writing sound whose name is not known yet.
    ///
    /// # Errors
    /// The file system's.
    pub async fn part(&self) -> io::Result<Part> {
        let draft = match &self.bucket {
            None => Draft::File(self.disk.draft().await?),
            Some(bucket) => Draft::Object(bucket.draft()),
        };
        let sink = Sink { draft, hasher: Sha256::new() };
        let (buffer, head) = (Vec::with_capacity(WRITE_BYTES), Vec::new());
        Ok(Part { sink: Some(sink), buffer, size_bytes: 0, head })
    }

    /// Keeps sound under its digest.
    ///
    /// # Errors
    /// Those of the file system, or [`is_away`].
    pub async fn keep(&self, mut part: Part) -> io::Result<Blob> {
        part.spill().await?;
        let Some(Sink { draft, hasher }) = part.sink.take() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let hash = hex(&hasher.finalize());
        let key = blob_key(&hash);
        match (draft, &self.bucket) {
            (Draft::File(draft), _) => self.disk.keep(draft, &key).await?,
            (Draft::Object(draft), Some(bucket)) => bucket.keep(draft, &key).await?,
            (Draft::Object(_), None) => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(Blob { hash, size_bytes: part.size_bytes, head: std::mem::take(&mut part.head) })
    }

    /// Keeps the sound in a file of the folder; where it is kept as a file, without moving its bytes.
    ///
    /// # Errors
    /// As [`Files::keep`].
    pub async fn keep_file(&self, path: &Path) -> io::Result<Blob> {
        let mut file = File::open(path).await?;
        let mut buffer = vec![0; WRITE_BYTES];
        if self.bucket.is_some() {
            let mut part = self.part().await?;
            loop {
                let count = file.read(&mut buffer).await?;
                let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                    return self.keep(part).await;
                };
                part.write(bytes).await?;
            }
        }
        let (mut hasher, mut head, mut size_bytes) = (Sha256::new(), Vec::new(), 0);
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
        self.disk.link(path, &blob_key(&hash)).await?;
        Ok(Blob { hash, size_bytes, head })
    }

    /// Keeps a result under its key; the same result twice does no harm.
    ///
    /// # Errors
    /// As [`Files::keep`].
    pub async fn keep_result(&self, key: &str, json: &[u8]) -> io::Result<()> {
        match &self.bucket {
            None => self.disk.put(&result_key(key), json).await,
            Some(bucket) => bucket.create(&result_key(key), json).await,
        }
    }

    /// Keeps the waveform of sound.
    ///
    /// # Errors
    /// As [`Files::keep`].
    pub async fn keep_waveform(&self, hash: &str, json: &[u8]) -> io::Result<()> {
        self.put(&waveform_key(hash), json).await
    }

    /// The result under a key.
    ///
    /// # Errors
    /// As [`Files::keep`], and that it is not there.
    pub async fn result(&self, key: &str) -> io::Result<Bytes> {
        self.get(&result_key(key)).await
    }

    /// The waveform of sound.
    ///
    /// # Errors
    /// As [`Files::result`].
    pub async fn waveform(&self, hash: &str) -> io::Result<Bytes> {
        self.get(&waveform_key(hash)).await
    }

    /// Keeps a small thing whole, in the place of what was there.
    async fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        match &self.bucket {
            None => self.disk.put(key, bytes).await,
            Some(bucket) => bucket.put(key, bytes).await,
        }
    }

    /// The whole of a small thing.
    async fn get(&self, key: &str) -> io::Result<Bytes> {
        match &self.bucket {
            None => self.disk.get(key).await,
            Some(bucket) => bucket.get(key).await,
        }
    }

    /// How long the sound of this digest is, in bytes.
    ///
    /// # Errors
    /// As [`Files::result`].
    pub async fn blob_size(&self, hash: &str) -> io::Result<u64> {
        match &self.bucket {
            None => self.disk.size(&blob_key(hash)).await,
            Some(bucket) => bucket.size(&blob_key(hash)).await,
        }
    }

    /// The bytes of sound from `start` up to `end`.
    ///
    /// # Errors
    /// As [`Files::result`].
    pub async fn read_blob(&self, hash: &str, start: u64, end: u64) -> io::Result<Chunks> {
        match &self.bucket {
            None => self.disk.read(&blob_key(hash), start, end).await,
            Some(bucket) => bucket.read(&blob_key(hash), start, end).await,
        }
    }

    /// Sound as a file of this machine, for as long as what is returned lives. Sound from a bucket is
    /// fetched into the folder, which must have `spare_bytes` left afterwards.
    ///
    /// # Errors
    /// As [`Files::result`], and that the disk is too full.
    pub async fn at_hand(&self, hash: &str, spare_bytes: u64) -> io::Result<AtHand> {
        let key = blob_key(hash);
        let Some(bucket) = &self.bucket else { return Ok(self.disk.at_hand(&key)) };
        let size_bytes = bucket.size(&key).await?;
        if self.free_bytes()? < size_bytes.saturating_add(spare_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let chunks = bucket.read(&key, 0, size_bytes).await?;
        self.disk.fetch(chunks, hash).await
    }

    /// Removes what no row needs; what is not there needs no removing.
    pub async fn remove(&self, orphans: &Orphans) {
        let blobs = orphans.blobs.iter().map(|hash| blob_key(hash));
        let waveforms = orphans.blobs.iter().map(|hash| waveform_key(hash));
        let results = orphans.results.iter().map(|key| result_key(key));
        self.remove_keys(blobs.chain(waveforms).chain(results).collect()).await;
    }

    /// Removes things by their keys.
    pub async fn remove_keys(&self, keys: Vec<String>) {
        match &self.bucket {
            None => self.disk.remove(&keys).await,
            Some(bucket) => bucket.remove(keys).await,
        }
    }

    /// Removes parts that nobody has written to for so long; a crash leaves them.
    ///
    /// # Errors
    /// As [`Files::keep`].
    pub async fn remove_old_parts(&self, older: Duration) -> io::Result<()> {
        self.disk.remove_old_parts(older).await?;
        if let Some(bucket) = &self.bucket {
            bucket.remove_old_parts(older).await?;
        }
        Ok(())
    }

    /// All sound, waveforms and results that are older.
    ///
    /// # Errors
    /// As [`Files::keep`].
    pub async fn older(&self, age: Duration) -> io::Result<Vec<Kept>> {
        let keys = match &self.bucket {
            None => self.disk.older(age).await?,
            Some(bucket) => bucket.older(age).await?,
        };
        let named = |key: String| {
            let name = key.rsplit('/').next().unwrap_or_default();
            Kept { name: name.trim_end_matches(".json").to_owned(), key }
        };
        Ok(keys.into_iter().map(named).collect())
    }

    /// Bytes that may still be written to the folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

/// Where the sound of this digest lies.
fn blob_key(hash: &str) -> String {
    format!("blobs/{}/{hash}", folder(hash))
}

/// Where the result of this key lies.
fn result_key(key: &str) -> String {
    format!("results/{}/{key}.json", folder(key))
}

/// Where the waveform of the sound of this digest lies.
fn waveform_key(hash: &str) -> String {
    format!("waveforms/{}/{hash}.json", folder(hash))
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

/// Runs what waits for the disk, or counts long, where it stops nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Sound while it is being written; dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Part {
    /// With those who write at the moment, if anybody does.
    sink: Option<Sink>,
    buffer: Vec<u8>,
    size_bytes: u64,
    head: Vec<u8>,
}

/// Where the bytes of a part go.
#[derive(Debug)]
struct Sink {
    draft: Draft,
    hasher: Sha256,
}

/// What becomes sound when it is kept, and nothing when it is dropped.
#[derive(Debug)]
enum Draft {
    File(disk::Draft),
    Object(bucket::Draft),
}

impl Part {
    /// Appends bytes.
    ///
    /// # Errors
    /// Those of the file system, or [`is_away`].
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
            match &mut sink.draft {
                Draft::File(draft) => draft.write(&buffer)?,
                Draft::Object(draft) => draft.gather(&buffer),
            }
            buffer.clear();
            Ok((sink, buffer))
        });
        let (mut sink, buffer) = written.await?;
        if let Draft::Object(draft) = &mut sink.draft {
            draft.send_full().await?;
        }
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
