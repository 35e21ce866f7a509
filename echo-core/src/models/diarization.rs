//! The parts of a diarization model that lie in one folder, as pyannote publishes them.
//!
//! ```text
//! segmentation/pytorch_model.bin   who of a few local speakers is heard in each frame of a window
//! embedding/pytorch_model.bin      a voice as a vector
//! plda/xvec_transform.npz          where such a vector lies among all voices
//! plda/plda.npz                    how voices differ
//! ```
//!
//! Networks may be checkpoints of any format and name that [`open_tensors`] knows.

use std::path::Path;

use super::npz::Npz;
use super::tensors::open_tensors;
use super::weights::Weights;
use crate::error::{Error, Result};

const SEGMENTATION: &str = "segmentation";
const EMBEDDING: &str = "embedding";
const TRANSFORM: &str = "plda/xvec_transform.npz";
const PLDA: &str = "plda/plda.npz";

/// What is taken of a repository.
#[cfg(feature = "hub")]
pub(crate) const FILES: [&str; 4] =
    ["segmentation/pytorch_model.bin", "embedding/pytorch_model.bin", TRANSFORM, PLDA];

/// What lies in such a folder.
pub(crate) struct DiarizationModel {
    pub(crate) segmentation: Box<dyn Weights>,
    pub(crate) embedding: Box<dyn Weights>,
    pub(crate) transform: Npz,
    pub(crate) plda: Npz,
}

/// Opens the folder at `path` of the model called `name`.
///
/// # Errors
/// [`Error::Model`] naming the part that is missing or cannot be read.
pub(crate) fn open_diarization(name: &str, path: &Path) -> Result<DiarizationModel> {
    check(name, path)?;
    let part = |part: &str| path.join(part);
    let network = |folder: &str| -> Result<Box<dyn Weights>> {
        let bare = |name: &str| {
            let name = name.strip_prefix("state_dict/").unwrap_or(name);
            // pyannote wraps the network of wespeaker.
            name.strip_prefix("resnet.").unwrap_or(name).to_owned()
        };
        Ok(open_tensors(&format!("{name}/{folder}"), &part(folder), bare)?.weights)
    };
    Ok(DiarizationModel {
        segmentation: network(SEGMENTATION)?,
        embedding: network(EMBEDDING)?,
        transform: Npz::open(&part(TRANSFORM))?,
        plda: Npz::open(&part(PLDA))?,
    })
}

/// Makes sure that the folder at `path` has all parts.
///
/// # Errors
/// [`Error::Model`] naming the one that is missing.
pub(super) fn check(name: &str, path: &Path) -> Result<()> {
    let parts = [SEGMENTATION, EMBEDDING, TRANSFORM, PLDA];
    match parts.iter().find(|part| !path.join(part).exists()) {
        None => Ok(()),
        Some(part) => {
            let reason = format!("has no `{part}` in {}; {}", path.display(), layout());
            Err(Error::model(name, reason))
        }
    }
}

/// What the parts are, for whoever gave something else.
pub(super) fn layout() -> String {
    format!(
        "a diarization model is a folder with {SEGMENTATION}, {EMBEDDING}, {TRANSFORM} and {PLDA}"
    )
}
