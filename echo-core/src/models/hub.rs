//! The Hugging Face Hub: what a repository has, and its files.
//!
//! `GET /api/models/{repo}/revision/{revision}?blobs=true` gives the commit, and for each file its
//! size and hash (SHA-256 of large files, git's SHA-1 of small ones); `GET
//! /{repo}/resolve/{commit}/{file}` gives the file, usually by way of another host. Downloads go to
//! `FILE.partial` and continue where they were cut off, if the server still has the same version;
//! the hash is taken at the end over the whole file. `HF_ENDPOINT` and `HF_TOKEN` are honoured.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sha1::{Digest, Sha1};

use super::cache;
use super::failure::Failure;
use super::http::{Client, Patience, Reply, Request};
use super::meter::Meter;
use crate::error::Error;
use crate::progress::CancelToken;

const MAX_LISTING_BYTES: usize = 16 << 20;

/// Attempts in a row that bring nothing.
const MAX_ATTEMPTS: u32 = 4;

/// Where the hub is and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: String,
    pub(crate) token: Option<String>,
    pub(crate) patience: Patience,
}

impl Settings {
    /// As the environment says.
    pub(crate) fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or("https://huggingface.co".to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, token: variable("HF_TOKEN"), patience: Patience::default() }
    }
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Its path in the repository.
    pub(crate) path: String,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) hash: Option<Hash>,
}

/// What a file's content must hash to, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the content, as git names it.
    GitBlob(String),
}

impl RemoteFile {
    fn sha256(&self) -> Option<String> {
        match &self.hash {
            Some(Hash::Sha256(sha256)) => Some(sha256.clone()),
            _ => None,
        }
    }
}

impl Hash {
    /// The hub's tags are hashes: SHA-256 of large files, git's of small ones.
    fn from_etag(etag: &str) -> Option<Self> {
        let hex = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        match hex.len() {
            64 if is_hex => Some(Self::Sha256(hex)),
            40 if is_hex => Some(Self::GitBlob(hex)),
            _ => None,
        }
    }
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
}

/// A client of the hub.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    settings: Settings,
    client: Client,
}

impl Hub {
    pub(crate) fn new(settings: Settings) -> Self {
        let client = Client::new(settings.patience);
        Self { settings, client }
    }

    /// The files of a repository at a branch, tag or commit.
    pub(crate) fn list(
        &self,
        repository: &str,
        revision: &str,
        cancel: &CancelToken,
    ) -> Result<Listing, Failure> {
        let endpoint = &self.settings.endpoint;
        let revision = revision.replace('/', "%2F"); // such as refs/pr/1
        let url = format!("{endpoint}/api/models/{repository}/revision/{revision}?blobs=true");
        let request = Request { url, token: self.settings.token.clone(), ..Request::default() };
        let mut attempt = 0;
        loop {
            // Without a connection there is another place to try, so this one gets one chance.
            let reply = self.client.get(&request, cancel)?;
            match reply.status {
                200 => return parse_listing(&reply.body(MAX_LISTING_BYTES, cancel)?),
                status if is_passing(status) && attempt < MAX_ATTEMPTS => {
                    self.wait(attempt, cancel)?;
                    attempt += 1;
                }
                status => return Err(Failure::Status(status)),
            }
        }
    }

    /// Downloads a file and verifies it. Gives its SHA-256 where that was what it was verified by.
    pub(crate) fn download(
        &self,
        place: (&str, &str),
        file: &RemoteFile,
        target: &Path,
        meter: &mut Meter<'_>,
        cancel: &CancelToken,
    ) -> Result<Option<String>, Failure> {
        if target.is_file() && file.hash.is_some() && matches(target, file, cancel)? {
            meter.at(fs::metadata(target).map_or(0, |metadata| metadata.len()));
            return Ok(file.sha256());
        }
        let (repository, commit) = place;
        let endpoint = &self.settings.endpoint;
        let url = format!("{endpoint}/{repository}/resolve/{commit}/{}", escape(&file.path));
        let partial = beside(target, ".partial");
        let mut file = file.clone();
        let mut has_started_over = false;
        loop {
            self.complete(&url, &partial, &mut file, meter, cancel)?;
            if file.hash.is_some() && matches(&partial, &file, cancel)? {
                break;
            }
            cache::remove(&partial)?;
            if has_started_over {
                return Err(Failure::Wrong(match file.hash {
                    Some(_) => format!("{} does not have the hash it should have", file.path),
                    None => format!("{} comes without a hash to verify it by", file.path),
                }));
            }
            // Perhaps the part of an earlier attempt was of another version: once more, whole.
            has_started_over = true;
        }
        cache::remove(&beside(target, ".etag"))?;
        fs::rename(&partial, target).map_err(|error| Error::io(target, error))?;
        Ok(file.sha256())
    }

    /// Appends to a partial file until the server says that it is whole.
    fn complete(
        &self,
        url: &str,
        partial: &Path,
        file: &mut RemoteFile,
        meter: &mut Meter<'_>,
        cancel: &CancelToken,
    ) -> Result<(), Failure> {
        let mut attempt = 0;
        loop {
            let start = fs::metadata(partial).map_or(0, |metadata| metadata.len());
            meter.at(start);
            if start > 0 && Some(start) == file.size_bytes {
                return Ok(());
            }
            let tried = self.attempt((url, start), partial, file, meter, cancel);
            let now = fs::metadata(partial).map_or(0, |metadata| metadata.len());
            if now > start {
                attempt = 0;
            }
            let is_whole = file.size_bytes.is_none_or(|size_bytes| now >= size_bytes);
            match tried {
                Ok(()) if is_whole => return Ok(()),
                Err(Failure::Status(416)) => cache::remove(partial)?, // longer than the file is
                Ok(()) | Err(Failure::Network(_)) if attempt < MAX_ATTEMPTS => {}
                Err(Failure::Status(status)) if is_passing(status) && attempt < MAX_ATTEMPTS => {}
                Ok(()) => return Err(Failure::Wrong(format!("{} is cut short", file.path))),
                Err(failure) => return Err(failure),
            }
            self.wait(attempt, cancel)?;
            attempt += 1;
        }
    }

    /// One request for what is missing from a byte on.
    fn attempt(
        &self,
        (url, start): (&str, u64),
        partial: &Path,
        file: &mut RemoteFile,
        meter: &mut Meter<'_>,
        cancel: &CancelToken,
    ) -> Result<(), Failure> {
        let etag_file = partial.with_extension("etag");
        let etag = fs::read_to_string(&etag_file).ok();
        let token = self.settings.token.clone();
        let request = Request { url: url.to_owned(), token, from_byte: start, etag };
        let reply = self.client.get(&request, cancel)?;
        let is_continued = match reply.status {
            200 => false,
            206 if starts_at(&reply, start) => true,
            206 => return Err(Failure::Wrong("the server sent another range".to_owned())),
            status => return Err(Failure::Status(status)),
        };
        file.hash = file.hash.take().or(reply.content_hash.as_deref().and_then(Hash::from_etag));
        // A weak tag does not promise the same bytes, and could not be sent back.
        if let Some(etag) = reply.etag.as_deref().filter(|etag| !etag.starts_with("W/")) {
            fs::write(&etag_file, etag).map_err(|error| Error::io(&etag_file, error))?;
        }
        let failed = |error| Failure::Fatal(Error::io(partial, error));
        let mut options = File::options();
        options.create(true).write(true).append(is_continued).truncate(!is_continued);
        let mut output = options.open(partial).map_err(failed)?;
        let mut written = if is_continued { start } else { 0 };
        let mut reported = Instant::now();
        while let Some(piece) = reply.piece(cancel)? {
            output.write_all(&piece).map_err(failed)?;
            written += piece.len() as u64;
            if reported.elapsed() >= Duration::from_millis(50) {
                meter.at(written);
                reported = Instant::now();
            }
        }
        output.sync_all().map_err(failed)?;
        meter.at(written);
        Ok(())
    }

    /// Waits before another attempt.
    fn wait(&self, attempt: u32, cancel: &CancelToken) -> Result<(), Failure> {
        let until = Instant::now() + self.settings.patience.backoff * 2_u32.pow(attempt.min(6));
        while Instant::now() < until {
            cancel.check()?;
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(left.min(Duration::from_millis(20)));
        }
        Ok(())
    }
}

/// Statuses that may be others a little later.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a partial answer begins where it was asked to.
fn starts_at(reply: &Reply, start: u64) -> bool {
    let range = reply.content_range.as_deref().and_then(|range| range.strip_prefix("bytes "));
    let first = range.and_then(|range| range.split('-').next());
    first.and_then(|first| first.trim().parse().ok()) == Some(start)
}

/// Whether a file has the size and the hash that were announced.
fn matches(path: &Path, file: &RemoteFile, cancel: &CancelToken) -> Result<bool, Failure> {
    let size_bytes = fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    if file.size_bytes.is_some_and(|expected| expected != size_bytes) {
        return Ok(false);
    }
    Ok(match &file.hash {
        None => true,
        Some(Hash::Sha256(expected)) => cache::sha256_of(path, cancel)? == *expected,
        Some(Hash::GitBlob(expected)) => {
            let mut hash = Sha1::new_with_prefix(format!("blob {size_bytes}\0"));
            cache::read_all(path, cancel, |piece| hash.update(piece))?;
            cache::hex(&hash.finalize()) == *expected
        }
    })
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// A path as part of an address.
fn escape(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let escaped =
        |byte: u8| if keep(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    path.bytes().map(escaped).collect()
}

fn parse_listing(json: &[u8]) -> Result<Listing, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        sha: String,
        #[serde(default)]
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sibling {
        rfilename: String,
        size: Option<u64>,
        blob_id: Option<String>,
        lfs: Option<Lfs>,
    }
    #[derive(Deserialize)]
    struct Lfs {
        sha256: Option<String>,
        size: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(json)
        .map_err(|error| Failure::Wrong(format!("the hub's answer is not understood: {error}")))?;
    let is_hex = |text: &String| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if answer.sha.len() != 40 || !is_hex(&answer.sha) {
        return Err(Failure::Wrong(format!("the hub names the commit `{}`", answer.sha)));
    }
    let files = answer.siblings.into_iter().map(|sibling| {
        let sha256 = sibling.lfs.as_ref().and_then(|lfs| lfs.sha256.clone());
        let sha256 = sha256.filter(|hash| hash.len() == 64 && is_hex(hash));
        let blob = sibling.blob_id.filter(|hash| hash.len() == 40 && is_hex(hash));
        let hash = match (sha256, &sibling.lfs) {
            (Some(sha256), _) => Some(Hash::Sha256(sha256.to_ascii_lowercase())),
            // The blob of a large file is its pointer, not its content.
            (None, Some(_)) => None,
            (None, None) => blob.map(|blob| Hash::GitBlob(blob.to_ascii_lowercase())),
        };
        let size_bytes = sibling.size.or(sibling.lfs.and_then(|lfs| lfs.size));
        RemoteFile { path: sibling.rfilename, size_bytes, hash }
    });
    Ok(Listing { commit: answer.sha, files: files.collect() })
}
