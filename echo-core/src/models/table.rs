//! The tensors of one checkpoint: where each lies in which mapped file.
//!
//! Every reader fills a [`TensorTable`]; [`Weights`] is implemented here once. An entry is checked
//! against its file when it is made, so that nothing after it can reach out of bounds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::weights::{BlockKind, Tensor, Values, Weights};
use crate::error::{Error, Result};

/// What a parser says about bytes: a value, or in words what is wrong with them.
pub(crate) type Parsed<T> = std::result::Result<T, String>;

/// The bytes of a checkpoint file.
#[derive(Debug)]
pub(crate) enum FileBytes {
    /// A file that the operating system pages in as it is read.
    Mapped(memmap2::Mmap),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or mapped.
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let size_bytes = file.metadata().map_err(|error| Error::io(path, error))?.len();
        if size_bytes == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the map is read-only and private to this process. Were another process to
        // truncate the file while it is mapped, reading past the new end would end this process
        // with SIGBUS; the store replaces files by renaming, never in place, and every program
        // that maps weights asks the same of those who write them.
        #[expect(unsafe_code, reason = "mapping a file is what keeps weights from being copied")]
        let map = unsafe { memmap2::Mmap::map(&file) };
        map.map(Self::Mapped).map_err(|error| Error::io(path, error))
    }

    /// Lets go of the memory that holds what was read of a file. It is read again where it is looked at.
    fn release(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Mapped(map) = self {
            // SAFETY: pages of a read-only map of a file hold nothing that the file does not.
            #[expect(unsafe_code, reason = "the crate cannot know that nothing is lost")]
            let released = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // Memory that is kept is no error.
            let _ = released;
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A tensor that a parser found in a file.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// The bytes of the file that hold it.
    pub(crate) range: Range<usize>,
    pub(crate) shape: Vec<usize>,
    pub(crate) coding: Coding,
}

/// How the values of an entry are stored.
#[derive(Debug, Clone)]
pub(crate) enum Coding {
    F32,
    F16,
    Bf16,
    /// Integer / divisor, one divisor a row.
    I8(Arc<[f32]>),
    /// Integer / divisor, one divisor for all.
    I16(f32),
    Blocks(BlockKind),
    /// Known but not a kind of float, such as `I64`.
    Other {
        name: &'static str,
        item_bytes: usize,
    },
}

impl Coding {
    /// Bytes of `shape`, if they can be counted and rows are whole blocks.
    pub(crate) fn size_bytes(&self, shape: &[usize]) -> Option<usize> {
        let count = shape.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim))?;
        let item_bytes = match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 | Self::I16(_) => 2,
            Self::I8(_) => 1,
            Self::Other { item_bytes, .. } => *item_bytes,
            Self::Blocks(kind) => {
                let row = shape.last().copied().unwrap_or(1);
                return (row.is_multiple_of(BlockKind::BLOCK_VALUES))
                    .then_some(count / BlockKind::BLOCK_VALUES)?
                    .checked_mul(kind.block_bytes());
            }
        };
        count.checked_mul(item_bytes)
    }
}

/// One tensor: its place, its shape, its coding.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    file: usize,
    range: Range<usize>,
    shape: Vec<usize>,
    coding: Coding,
}

impl Entry {
    /// Some rows (indices of the first dimension), which must exist.
    fn rows(&self, rows: Range<usize>) -> Parsed<Self> {
        let n_rows = self.shape.first().copied().unwrap_or(0);
        if rows.end > n_rows || rows.start > rows.end || n_rows == 0 {
            return Err(format!("has shape {:?}, expected {} rows or more", self.shape, rows.end));
        }
        let row_bytes = self.range.len() / n_rows;
        let start = self.range.start + rows.start * row_bytes;
        let mut part = self.clone();
        part.range = start..start + rows.len() * row_bytes;
        part.shape[0] = rows.len();
        if let Coding::I8(divisors) = &self.coding {
            part.coding = Coding::I8(divisors[rows].into());
        }
        Ok(part)
    }
}

/// The tensors of a checkpoint, in one file or several.
#[derive(Debug)]
pub(crate) struct TensorTable {
    model: String,
    files: Vec<FileBytes>,
    entries: BTreeMap<String, Entry>,
    /// Bytes of tensors asked for since files were last let go of.
    asked_bytes: AtomicUsize,
}

/// So much of a checkpoint stays in memory while it is read, and the tensor being read.
const RESIDENT_BYTES: usize = 16 << 20;

impl TensorTable {
    /// No tensors yet; `model` is what errors call the checkpoint.
    pub(crate) fn new(model: &str) -> Self {
        let (files, entries) = (Vec::new(), BTreeMap::new());
        Self { model: model.to_owned(), files, entries, asked_bytes: AtomicUsize::new(0) }
    }

    /// The names of all tensors, sorted.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Adds a file and the tensors that were found in it.
    pub(crate) fn add(&mut self, bytes: FileBytes, tensors: Vec<Found>) -> Parsed<()> {
        let file = self.files.len();
        for Found { name, range, shape, coding } in tensors {
            if range.start > range.end || range.end > bytes.len() {
                return Err(format!(
                    "tensor `{name}` lies at bytes {range:?} of a file of {}",
                    bytes.len()
                ));
            }
            let size_bytes = coding.size_bytes(&shape);
            let Some(size_bytes) = size_bytes.filter(|_| !shape.contains(&0)) else {
                return Err(format!("tensor `{name}` has impossible shape {shape:?}"));
            };
            if size_bytes != range.len() {
                return Err(format!(
                    "tensor `{name}` {shape:?} has {} bytes, expected {size_bytes}",
                    range.len()
                ));
            }
            if let Coding::I8(divisors) = &coding
                && Some(&divisors.len()) != shape.first()
            {
                return Err(format!(
                    "tensor `{name}` {shape:?} has {} scales, expected one a row",
                    divisors.len()
                ));
            }
            self.entries.insert(name, Entry { file, range, shape, coding });
        }
        self.files.push(bytes);
        Ok(())
    }

    /// The table under other names: each tensor under the names that `names` gives for it, with
    /// the share of its rows that goes there (`(1, 3)` is the second third).
    pub(crate) fn rename(
        mut self,
        names: impl Fn(&str) -> Vec<(String, (usize, usize))>,
    ) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (old, entry) in std::mem::take(&mut self.entries) {
            for (new, (part, parts)) in names(&old) {
                let n_rows = entry.shape.first().copied().unwrap_or(0);
                let renamed = match (parts, n_rows.is_multiple_of(parts)) {
                    (1, _) => entry.clone(),
                    (_, true) => entry
                        .rows(n_rows / parts * part..n_rows / parts * (part + 1))
                        .map_err(|reason| Error::model(&self.model, format!("`{old}` {reason}")))?,
                    (_, false) => {
                        let reason = format!(
                            "tensor `{old}` has {n_rows} rows, expected {parts} equal parts"
                        );
                        return Err(Error::model(&self.model, reason));
                    }
                };
                entries.insert(new, renamed);
            }
        }
        Ok(Self { entries, ..self })
    }

    /// Drops dimensions of one from the end of biases, which ggml stores as `[n, 1]`.
    pub(crate) fn flatten_biases(&mut self) {
        for (name, entry) in &mut self.entries {
            while name.ends_with(".bias") && entry.shape.len() > 1 && entry.shape.last() == Some(&1)
            {
                entry.shape.pop();
            }
        }
    }

    fn values(&self, name: &str, entry: &Entry) -> Result<Values<'_>> {
        let data = Cow::Borrowed(&self.files[entry.file][entry.range.clone()]);
        Ok(match &entry.coding {
            Coding::F32 => Values::F32(data),
            Coding::F16 => Values::F16(data),
            Coding::Bf16 => Values::Bf16(data),
            Coding::I8(divisors) => Values::I8 { data, divisors: divisors.to_vec() },
            Coding::I16(divisor) => Values::F32(Cow::Owned(divide_i16(&data, *divisor))),
            Coding::Blocks(kind) => Values::Blocks { kind: *kind, data },
            Coding::Other { name: coding, .. } => {
                let reason = format!("tensor `{name}` holds {coding}, expected floats");
                return Err(Error::model(&self.model, reason));
            }
        })
    }
}

impl Weights for TensorTable {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor<'_>> {
        let Some(entry) = self.entries.get(name) else {
            let reason = format!("has no tensor `{name}`, expected one of shape {shape:?}");
            return Err(Error::model(&self.model, reason));
        };
        if entry.shape != shape {
            let reason = format!("tensor `{name}` has shape {:?}, expected {shape:?}", entry.shape);
            return Err(Error::model(&self.model, reason));
        }
        // Tensors are copied as kernels want them: the file's pages would only be in memory, too.
        let asked_bytes = self.asked_bytes.fetch_add(entry.range.len(), Ordering::Relaxed);
        if asked_bytes > RESIDENT_BYTES {
            self.asked_bytes.store(0, Ordering::Relaxed);
            self.files.iter().for_each(FileBytes::release);
        }
        Ok(Tensor { shape: shape.to_vec(), values: self.values(name, entry)? })
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.entries.get(name).map(|entry| entry.shape.clone())
    }
}

/// 16-bit weights are rare enough to be stored as floats when they are read.
fn divide_i16(data: &[u8], divisor: f32) -> Vec<u8> {
    data.as_chunks::<2>()
        .0
        .iter()
        .flat_map(|bytes| (f32::from(i16::from_le_bytes(*bytes)) / divisor).to_le_bytes())
        .collect()
}
