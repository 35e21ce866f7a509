//! Checkpoints of networks other than Whisper: tensors by name, and the folder they lie in.

use std::path::{Path, PathBuf};

use super::folder::{self, Format};
use super::table::{FileBytes, TensorTable};
use super::weights::Weights;
use super::{pytorch, safetensors};
use crate::error::{Error, Result};

/// The tensors of a checkpoint.
pub(crate) struct Tensors {
    pub(crate) weights: Box<dyn Weights>,
    /// Where files that go with the weights are.
    pub(crate) folder: PathBuf,
}

/// Opens a checkpoint called `name` in messages: a safetensors or PyTorch file, or a folder with one.
/// Tensors are known by what `rename` makes of their names.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, [`Error::Model`] if it is of another format.
pub(crate) fn open_tensors(
    name: &str,
    path: &Path,
    rename: impl Fn(&str) -> String,
) -> Result<Tensors> {
    let mut table = TensorTable::new(name);
    let files = folder::weight_files(path)?;
    for file in &files {
        let failed = |reason: String| Error::model(name, format!("{}: {reason}", file.display()));
        let bytes = FileBytes::map(file)?;
        let head = &bytes[..bytes.len().min(64)];
        match Format::of(head) {
            Some(Format::Safetensors) => {
                let tensors = safetensors::parse(&bytes).map_err(failed)?;
                table.add(bytes, tensors).map_err(failed)?;
            }
            Some(Format::PyTorch) => {
                let model = pytorch::parse(&bytes).map_err(failed)?;
                let ordered = FileBytes::Owned(model.ordered_bytes);
                table.add(ordered, model.ordered).map_err(failed)?;
                table.add(bytes, model.tensors).map_err(failed)?;
            }
            Some(other) => {
                let other = other.as_str();
                return Err(failed(format!("is {other}, expected safetensors or PyTorch")));
            }
            None => {
                return Err(failed("is of no known format, expected safetensors".to_owned()));
            }
        }
    }
    let weights = Box::new(table.rename(|name| vec![(rename(name), (0, 1))])?);
    let folder = files.first().and_then(|file| file.parent()).unwrap_or(Path::new("."));
    Ok(Tensors { weights, folder: folder.to_owned() })
}
