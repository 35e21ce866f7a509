//! A bucket of S3, or of a service that speaks its protocol.
//!
//! Sound up to a part's length is one object from the beginning. More is sent in parts to
//! `parts/RANDOM`, because its name is its digest, which is known at the end; then it is copied to its
//! place within the bucket. Parts that never became an object are called off when the draft is
//! dropped; of those that a crash leaves a lifecycle rule of the bucket (`AbortIncompleteMultipartUpload`)
//! gets rid.
//!
//! Each request is tried again for a while when the service fails, is slow or breaks off; what is
//! still not answered then is [`super::is_away`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    RetryConfig,
};
use tokio::runtime::Handle;

use super::http::{Connector, request_time};
use super::{Chunks, KINDS, WRITE_BYTES};
use crate::clock::now_ms;
use crate::config::BucketSettings;
use crate::secrets::token;

/// The length of all parts but the last; each upload holds at most one in memory.
const PART_BYTES: usize = 8 << 20;
/// Most uploads are shorter, and hold no more than they are long.
const SHORT_BYTES: usize = 1 << 20;

/// The longest wait before the next try.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// `AWS_TIMEOUT`.
const TIMEOUT: AmazonS3ConfigKey = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);

/// Objects of a bucket under a prefix.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    store: Arc<AmazonS3>,
    prefix: String,
    /// Where drafts are called off that nobody waits for any more.
    runtime: Handle,
}

impl Bucket {
    /// Understands the settings; nothing is asked yet.
    pub(super) fn open(settings: &BucketSettings) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let builder = builder(settings);
        let roots = settings.variables.iter().find(|(name, _)| name == "AWS_CA_BUNDLE");
        let connector = Connector::new(roots.map(|(_, path)| path.expose()))?;
        // The last try may begin after half of the time that a request gets; ten tries, the default, are
        // over after three seconds.
        let retry_timeout = request_time(builder.get_config_value(&TIMEOUT).as_deref()) / 2;
        let backoff = BackoffConfig { max_backoff: MAX_PAUSE, ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: usize::MAX, retry_timeout };
        let store = builder
            .with_bucket_name(&settings.name)
            .with_retry(retry)
            .with_http_connector(connector)
            .build()
            .map_err(|error| text(&error))?;
        let runtime = Handle::try_current().map_err(|error| text(&error))?;
        Ok(Self { store: Arc::new(store), prefix: settings.prefix.clone(), runtime })
    }

    /// Whether the bucket answers.
    pub(super) async fn check(&self) -> io::Result<()> {
        // A list of what is not there: a HEAD cannot tell a missing object from a missing bucket.
        let one = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let prefix = format!("{}/", self.path("parts"));
        self.store.list_paginated(Some(&prefix), one).await.map(drop).map_err(failure)
    }

    fn path(&self, key: &str) -> Path {
        if self.prefix.is_empty() { key.into() } else { format!("{}/{key}", self.prefix).into() }
    }

    /// The key of a path of ours.
    fn key(&self, path: &Path) -> String {
        let text = path.as_ref();
        text.strip_prefix(&self.prefix).unwrap_or(text).trim_start_matches('/').to_owned()
    }

    /// Starts an object that has no name yet.
    pub(super) fn draft(&self) -> Draft {
        Draft { bucket: self.clone(), gathered: BytesMut::new(), upload: None }
    }

    /// Makes an object of a draft.
    pub(super) async fn keep(&self, mut draft: Draft, key: &str) -> io::Result<()> {
        if draft.upload.is_none() {
            let whole = PutPayload::from(std::mem::take(&mut draft.gathered).freeze());
            return self.store.put(&self.path(key), whole).await.map(drop).map_err(failure);
        }
        if !draft.gathered.is_empty() {
            draft.send().await?;
        }
        let Some(upload) = &mut draft.upload else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parts = std::mem::take(&mut upload.parts);
        let made = self.store.complete_multipart(&upload.path, &upload.id, parts).await;
        match made {
            Ok(_) => {}
            // An answer was lost: then there is no upload any more, but an object.
            Err(Error::NotFound { .. }) if self.store.head(&upload.path).await.is_ok() => {}
            Err(error) => return Err(failure(error)),
        }
        // What lies under the other name goes with the draft.
        self.store.copy(&upload.path, &self.path(key)).await.map_err(failure)
    }

    /// Makes a small object, unless it is there.
    pub(super) async fn create(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let payload = PutPayload::from(bytes.to_vec());
        match self.store.put_opts(&self.path(key), payload, PutMode::Create.into()).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            // Not every service can tell; the same name has the same meaning.
            Err(Error::NotImplemented { .. }) => self.put(key, bytes).await,
            Err(error) => Err(failure(error)),
        }
    }

    /// Makes a small object, in the place of what was there.
    pub(super) async fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let payload = PutPayload::from(bytes.to_vec());
        self.store.put(&self.path(key), payload).await.map(drop).map_err(failure)
    }

    /// A whole object.
    pub(super) async fn get(&self, key: &str) -> io::Result<Bytes> {
        let found = self.store.get(&self.path(key)).await.map_err(failure)?;
        found.bytes().await.map_err(failure)
    }

    /// The length of an object.
    pub(super) async fn size(&self, key: &str) -> io::Result<u64> {
        Ok(self.store.head(&self.path(key)).await.map_err(failure)?.size)
    }

    /// An object from `start` up to `end`.
    pub(super) async fn read(&self, key: &str, start: u64, end: u64) -> io::Result<Chunks> {
        let range = Some(GetRange::Bounded(start..end));
        let options = GetOptions { range, ..GetOptions::default() };
        let found = self.store.get_opts(&self.path(key), options).await.map_err(failure)?;
        Ok(found.into_stream().map_err(failure).boxed())
    }

    /// Removes objects; those that are not there need no removing.
    pub(super) async fn remove(&self, keys: Vec<String>) {
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let mut removed = self.store.delete_stream(stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%error, "an object could not be removed"),
            }
        }
    }

    /// Removes drafts that became an object and got no further.
    pub(super) async fn remove_old_parts(&self, older: Duration) -> io::Result<()> {
        let keys = self.list("parts", older).await?;
        if !keys.is_empty() {
            self.remove(keys).await;
        }
        Ok(())
    }

    /// Keys of all that is older.
    pub(super) async fn older(&self, than: Duration) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        for kind in KINDS {
            keys.extend(self.list(kind, than).await?);
        }
        Ok(keys)
    }

    async fn list(&self, folder: &str, older: Duration) -> io::Result<Vec<String>> {
        let age = i64::try_from(older.as_millis()).unwrap_or(i64::MAX);
        let before = now_ms().saturating_sub(age);
        let mut found = self.store.list(Some(&self.path(folder)));
        let mut keys = Vec::new();
        while let Some(object) = found.try_next().await.map_err(failure)? {
            if object.last_modified.timestamp_millis() < before {
                keys.push(self.key(&object.location));
            }
        }
        Ok(keys)
    }
}

/// What AWS's variables say; the others are not for `object_store`.
fn builder(settings: &BucketSettings) -> AmazonS3Builder {
    // Its own default is shorter than a slow line takes for a part.
    let mut builder = AmazonS3Builder::new().with_config(TIMEOUT, "60s");
    for (name, value) in &settings.variables {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value.expose());
        }
    }
    builder
}

/// What the caller can do about it: nothing was there, or try again later.
fn failure(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket") => {
            io::ErrorKind::NotFound
        }
        // Also a key that is not valid (any more): it is the operator's affair, and passes.
        _ => io::ErrorKind::NetworkDown,
    };
    io::Error::new(kind, error)
}

/// An object that has no name yet; dropped, it is called off.
#[derive(Debug)]
pub(super) struct Draft {
    bucket: Bucket,
    /// Not sent yet.
    gathered: BytesMut,
    upload: Option<Upload>,
}

/// Parts that were sent.
#[derive(Debug)]
struct Upload {
    path: Path,
    id: String,
    parts: Vec<PartId>,
}

impl Draft {
    /// Appends bytes, to be sent with the next part.
    pub(super) fn gather(&mut self, bytes: &[u8]) {
        let (len, capacity) = (self.gathered.len(), self.gathered.capacity());
        // What is short gets what it needs; what is not, the room of a part, once for all parts.
        if capacity - len < bytes.len() && len + bytes.len() > SHORT_BYTES {
            self.gathered.reserve((PART_BYTES + WRITE_BYTES).saturating_sub(len).max(bytes.len()));
        }
        self.gathered.extend_from_slice(bytes);
    }

    /// Sends a part if one is full.
    pub(super) async fn send_full(&mut self) -> io::Result<()> {
        while self.gathered.len() >= PART_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> io::Result<()> {
        let store = Arc::clone(&self.bucket.store);
        if self.upload.is_none() {
            let path = self.bucket.path(&format!("parts/{}", token()));
            let id = store.create_multipart(&path).await.map_err(failure)?;
            self.upload = Some(Upload { path, id, parts: Vec::new() });
        }
        let Some(upload) = &mut self.upload else { return Err(io::ErrorKind::InvalidInput.into()) };
        let length = PART_BYTES.min(self.gathered.len());
        let rest = self.gathered[length..].to_vec();
        let mut part = std::mem::take(&mut self.gathered);
        part.truncate(length);
        let part = part.freeze();
        let number = upload.parts.len();
        let sent = store.put_part(&upload.path, &upload.id, number, part.clone().into()).await;
        upload.parts.push(sent.map_err(failure)?);
        // The memory of this part is that of the next one.
        self.gathered = part.try_into_mut().unwrap_or_default();
        self.gathered.clear();
        self.gathered.extend_from_slice(&rest);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        let store = Arc::clone(&self.bucket.store);
        self.bucket.runtime.spawn(async move {
            // One of them is there: parts, or the object that they became.
            let _ = store.abort_multipart(&upload.path, &upload.id).await;
            let _ = store.delete(&upload.path).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    #[test]
    fn keys_and_paths_agree_under_any_prefix() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        for prefix in ["", "echo", "a/b"] {
            let settings = BucketSettings {
                name: "bucket".to_owned(),
                prefix: prefix.to_owned(),
                variables: Vec::new(),
            };
            let bucket = Bucket::open(&settings).unwrap();
            let path = bucket.path("blobs/ab/abc");
            assert!(path.as_ref().starts_with(prefix), "{path}");
            assert_eq!(bucket.key(&path), "blobs/ab/abc");
        }
    }

    #[test]
    fn a_request_takes_a_minute_unless_it_is_told_otherwise() {
        let given = |variables: &[(&str, &str)]| {
            let variables =
                variables.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
            let (name, prefix) = ("bucket".to_owned(), String::new());
            let settings = BucketSettings { name, prefix, variables: variables.collect() };
            request_time(builder(&settings).get_config_value(&TIMEOUT).as_deref())
        };
        assert_eq!(given(&[("AWS_PROFILE", "x")]), Duration::from_secs(60));
        assert_eq!(given(&[("AWS_TIMEOUT", "4s")]), Duration::from_secs(4));
        assert_eq!(given(&[("AWS_TIMEOUT", "soon")]), Duration::from_secs(60));
    }

    #[test]
    fn a_draft_grows_to_a_part_and_not_beyond() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let settings = BucketSettings {
            name: "bucket".to_owned(),
            prefix: String::new(),
            variables: Vec::new(),
        };
        let mut draft = Bucket::open(&settings).unwrap().draft();
        while draft.gathered.len() < PART_BYTES {
            draft.gather(&[7; WRITE_BYTES - 3]);
            let capacity = draft.gathered.capacity();
            assert!(capacity <= (PART_BYTES + WRITE_BYTES).max(2 * SHORT_BYTES), "{capacity}");
        }
    }
}
