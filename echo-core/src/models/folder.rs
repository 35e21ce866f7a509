//! Which files of a folder are the checkpoint.
//!
//! Formats are told by the first bytes of a file, names only settle ties: the snapshot of a hub
//! repository may hold the same weights as safetensors and as a pickle, whole and in shards.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{ctranslate2, ggml, gguf, pytorch, safetensors};
use crate::error::{Error, Result};

/// Bytes that tell a format.
const HEAD_BYTES: usize = 64;

/// Longest JSON or text file that is read: large-v3's `tokenizer.json` has 2.5 MB.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// More files than a folder of models has; beyond them nobody meant this folder.
const MAX_FILES: usize = 10_000;

/// A file format of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    /// In the order in which a folder that has several of them is read.
    Safetensors,
    CTranslate2,
    Gguf,
    Ggml,
    PyTorch,
}

impl Format {
    /// The format whose files begin with `head`.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(&ggml::MAGIC) {
            Some(Self::Ggml)
        } else if head.starts_with(&gguf::MAGIC) {
            Some(Self::Gguf)
        } else if pytorch::is_model(head) {
            Some(Self::PyTorch)
        } else if ctranslate2::is_model(head) {
            Some(Self::CTranslate2)
        } else if safetensors::is_model(head) {
            Some(Self::Safetensors)
        } else {
            None
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::CTranslate2 => "CTranslate2",
            Self::Gguf => "GGUF",
            Self::Ggml => "ggml",
            Self::PyTorch => "PyTorch",
        }
    }
}

/// The files of a checkpoint: one, or its shards.
pub(crate) fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    if fs::metadata(path).map_err(|error| Error::io(path, error))?.is_dir() {
        return choose(path);
    }
    // An index of shards is the only text that stands for weights.
    if read_head(path)?.trim_ascii_start().first() == Some(&b'{') {
        return shards(path);
    }
    Ok(vec![path.to_owned()])
}

/// The whole of a small file, if there is such a file.
pub(crate) fn read_text(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io(path, error))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let reason = format!("has more than {MAX_TEXT_BYTES} bytes");
        return Err(Error::model(path.display().to_string(), reason));
    }
    Ok(Some(bytes))
}

fn choose(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |reason: String| Error::model(folder.display().to_string(), reason);
    let mut indices = Vec::new();
    let mut found: Vec<(Format, PathBuf)> = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    for (index, entry) in entries.enumerate() {
        if index == MAX_FILES {
            return Err(failed(format!("has more than {MAX_FILES} files, so it is no model")));
        }
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        if !path.is_file() {
            continue;
        }
        if path.to_string_lossy().ends_with(".index.json") {
            indices.push(path);
        } else if let Some(format) = Format::of(&read_head(&path)?) {
            found.push((format, path));
        }
    }
    found.sort();
    indices.sort();
    let Some(best) = found.first().map(|(format, _)| *format) else {
        return Err(failed(
            "has no weights in a known format: safetensors, CTranslate2, ggml, GGUF or PyTorch"
                .to_owned(),
        ));
    };
    let mut files: Vec<PathBuf> = Vec::new();
    files.extend(found.into_iter().filter(|(format, _)| *format == best).map(|(_, path)| path));
    // The plain name, then a whole file, before shards of perhaps another precision.
    let named = |names: &[&str], path: &Path| {
        path.file_name().is_some_and(|name| names.iter().any(|&known| name == known))
    };
    let usual = ["model.safetensors", "pytorch_model.bin", "model.bin"];
    if let Some(path) = files.iter().find(|path| named(&usual, path)) {
        return Ok(vec![path.clone()]);
    }
    let usual = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
    if let Some(index) = indices.iter().find(|path| named(&usual, path)).or(indices.first()) {
        return shards(index);
    }
    if files.len() > 1 {
        let names: Vec<_> =
            files.iter().filter_map(|path| path.file_name()?.to_str()).take(8).collect();
        let names = names.join(", ");
        return Err(failed(format!(
            "has {} {} files, expected one; name the file: {names}",
            files.len(),
            best.as_str()
        )));
    }
    Ok(files)
}

fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let failed = |reason| Error::model(index.display().to_string(), reason);
    let folder = index.parent().unwrap_or(Path::new("."));
    let bytes = read_text(index)?.unwrap_or_default();
    let names = safetensors::shards(&bytes).map_err(failed)?;
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => Err(failed(format!("names `{}`, which is missing", missing.display()))),
        None => Ok(files),
    }
}

fn read_head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head))
        .map_err(|error| Error::io(path, error))?;
    Ok(head)
}
