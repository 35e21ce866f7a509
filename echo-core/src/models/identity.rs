//! Which weights a model is made of, told by a sample of their bytes.
//!
//! Files of models have gigabytes, so a digest of all of it would cost more than loading does. Two
//! models of the same size differ in every tensor that was trained further; a sample spread over the
//! whole file meets all of the large ones.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::folder;
use super::table::FileBytes;
use crate::error::Result;

/// Places looked at in each file, and what is read at each.
const PLACES: usize = 256;
const PLACE_BYTES: usize = 64;

/// A digest of the weights that lie at `path`: equal for equal files, wherever they lie.
///
/// # Errors
/// As opening the model.
pub(crate) fn identity(path: &Path) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    for file in folder::weight_files(path)? {
        let bytes = FileBytes::map(&file)?;
        hasher.update((bytes.len() as u64).to_le_bytes());
        let step = (bytes.len() / PLACES).max(PLACE_BYTES);
        for place in bytes.chunks(step) {
            hasher.update(&place[..place.len().min(PLACE_BYTES)]);
        }
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_are_the_same_wherever_they_lie_and_others_are_not() {
        let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-random");
        let folder = std::env::temp_dir().join(format!("echo-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let copy = folder.join("model.safetensors");
        let mut bytes = std::fs::read(published.join("model.safetensors")).unwrap();
        std::fs::write(&copy, &bytes).unwrap();
        let copied = identity(&copy).unwrap();
        // Training further changes all of a tensor.
        let half = bytes.len() / 2;
        bytes[half..].iter_mut().for_each(|byte| *byte ^= 1);
        std::fs::write(&copy, &bytes).unwrap();
        let trained = identity(&copy).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(copied, identity(&published).unwrap());
        assert_ne!(copied, trained);
    }
}
