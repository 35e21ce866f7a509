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
    let part = |part: &str| {
        let found = path.join(part);
        match found.exists() {
            true => Ok(found),
            false => {
                let reason = format!(
                    "has no `{part}` in {}; a diarization model is a folder with {SEGMENTATION}, \
                     {EMBEDDING}, {TRANSFORM} and {PLDA}",
                    path.display()
                );
                Err(Error::model(name, reason))
            }
        }
    };
    let network = |folder: &str| -> Result<Box<dyn Weights>> {
        let bare = |name: &str| {
            let name = name.strip_prefix("state_dict/").unwrap_or(name);
            // pyannote wraps the network of wespeaker.
            name.strip_prefix("resnet.").unwrap_or(name).to_owned()
        };
        Ok(open_tensors(&format!("{name}/{folder}"), &part(folder)?, bare)?.weights)
    };
    Ok(DiarizationModel {
        segmentation: network(SEGMENTATION)?,
        embedding: network(EMBEDDING)?,
        transform: Npz::open(&part(TRANSFORM)?)?,
        plda: Npz::open(&part(PLDA)?)?,
    })
}
