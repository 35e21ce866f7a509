//! PyTorch's `.pt` and `.bin`: a zip archive of a pickle and one stored entry a storage.
//!
//! `NAME/data.pkl` describes the tensors as views of `NAME/data/KEY`, which lie uncompressed in
//! the archive and are used where they lie. Views that are not contiguous are copied into order.
//! OpenAI's checkpoints hold `{"dims": …, "model_state_dict": …}`, Hugging Face's a state dict.
//! Files of before PyTorch 1.6 (no archive) are refused.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, View};
use super::table::{Coding, Found, Parsed};

/// Most entries of an archive: large-v3 has 1,260.
const MAX_ENTRIES: usize = 100_000;

/// What a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Model {
    /// Tensors that lie in the file as they are, by the path of their keys.
    pub(crate) tensors: Vec<Found>,
    /// Values of the tensors that had to be put in order, one after the other.
    pub(crate) ordered_bytes: Vec<u8>,
    /// Those tensors, as ranges of `ordered_bytes`.
    pub(crate) ordered: Vec<Found>,
    /// Integers by the path of their keys, such as `dims/n_audio_head`.
    pub(crate) numbers: HashMap<String, i64>,
}

/// Whether these are the first bytes of a zip archive.
pub(crate) fn is_model(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

/// Whether these are the first bytes of a PyTorch file from before it used archives.
pub(crate) fn is_legacy(head: &[u8]) -> bool {
    // The pickle of the integer 0x1950a86a20f9469cfc6c.
    head.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
}

/// Reads the archive's directory and its pickle.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<Model> {
    let invalid = |error: zip::result::ZipError| format!("is no valid zip archive: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(invalid)?;
    if archive.len() > MAX_ENTRIES {
        return Err(format!(
            "archive of {} entries, expected at most {MAX_ENTRIES}",
            archive.len()
        ));
    }
    let mut storages = HashMap::new();
    let mut contents = None;
    for index in 0..archive.len() {
        let mut entry = archive.by_index_raw(index).map_err(invalid)?;
        let name = entry.name().map_err(invalid)?.into_owned();
        if let Some((_, key)) = name.split_once("/data/") {
            let range = entry.data_start().and_then(|start| {
                let start = usize::try_from(start).ok()?;
                Some(start..start.checked_add(usize::try_from(entry.size()).ok()?)?)
            });
            let range = range.filter(|range| range.end <= bytes.len());
            let is_stored = entry.compression() == CompressionMethod::Stored;
            let Some(range) =
                range.filter(|_| is_stored && entry.size() == entry.compressed_size())
            else {
                return Err(format!(
                    "entry `{name}` is compressed or cut short, expected it stored"
                ));
            };
            storages.insert(key.to_owned(), range);
        } else if name.ends_with("/data.pkl") {
            let mut pickle = Vec::new();
            let limit = pickle::MAX_BYTES as u64 + 1;
            let read = entry.by_ref().take(limit).read_to_end(&mut pickle);
            read.map_err(|error| format!("entry `{name}` cannot be read: {error}"))?;
            contents = Some(pickle::parse(&pickle)?);
        }
    }
    let Some(contents) = contents else {
        return Err(
            "is a zip archive without `data.pkl`, so it is no PyTorch checkpoint".to_owned()
        );
    };
    gather(bytes, &storages, contents)
}

fn gather(
    bytes: &[u8],
    storages: &HashMap<String, Range<usize>>,
    contents: pickle::Contents,
) -> Parsed<Model> {
    let mut model = Model {
        tensors: Vec::new(),
        ordered_bytes: Vec::new(),
        ordered: Vec::new(),
        numbers: contents.numbers,
    };
    for view in contents.tensors {
        let (coding, item_bytes) = coding(&view)?;
        if view.shape.is_empty() || view.shape.contains(&0) {
            continue;
        }
        let Some(storage) = storages.get(&view.storage) else {
            return Err(format!("tensor `{}` lies in a missing entry {}", view.path, view.storage));
        };
        let is_ordered = is_contiguous(&view);
        let Some(range) = view_range(&view, storage, item_bytes) else {
            return Err(format!(
                "tensor `{}` {:?} at item {} reaches past its storage of {} bytes",
                view.path,
                view.shape,
                view.offset,
                storage.len()
            ));
        };
        if !is_ordered {
            let start = model.ordered_bytes.len();
            put_in_order(&bytes[range], &view, item_bytes, &mut model.ordered_bytes);
            // Overlapping views could otherwise make much of little.
            if model.ordered_bytes.len() > bytes.len() {
                return Err("has more values in overlapping views than it has bytes".to_owned());
            }
            let range = start..model.ordered_bytes.len();
            model.ordered.push(Found { name: view.path, range, shape: view.shape, coding });
        } else {
            model.tensors.push(Found { name: view.path, range, shape: view.shape, coding });
        }
    }
    Ok(model)
}

fn coding(view: &View) -> Parsed<(Coding, usize)> {
    let other = |name, item_bytes| Ok((Coding::Other { name, item_bytes }, item_bytes));
    match view.storage_class.as_str() {
        "FloatStorage" => Ok((Coding::F32, 4)),
        "HalfStorage" => Ok((Coding::F16, 2)),
        "BFloat16Storage" => Ok((Coding::Bf16, 2)),
        "DoubleStorage" => other("f64", 8),
        "LongStorage" => other("64-bit integers", 8),
        "IntStorage" => other("32-bit integers", 4),
        "ShortStorage" => other("16-bit integers", 2),
        "CharStorage" | "ByteStorage" | "BoolStorage" => other("8-bit integers", 1),
        class => Err(format!("tensor `{}` is of unknown class `{class}`", view.path)),
    }
}

fn is_contiguous(view: &View) -> bool {
    let mut expected = 1_usize;
    view.shape.iter().zip(&view.strides).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == expected;
        expected = expected.saturating_mul(dim);
        fits
    })
}

/// The bytes of the file between the first and the last item of a view, if its storage has them
/// and the view repeats none of them.
fn view_range(view: &View, storage: &Range<usize>, item_bytes: usize) -> Option<Range<usize>> {
    let (mut last, mut count) = (0_usize, 1_usize);
    for (&dim, &stride) in view.shape.iter().zip(&view.strides) {
        last = last.checked_add((dim - 1).checked_mul(stride)?)?;
        count = count.checked_mul(dim)?;
    }
    let span_bytes = last.checked_add(1)?.checked_mul(item_bytes)?;
    let start = view.offset.checked_mul(item_bytes)?;
    let fits = start.checked_add(span_bytes)? <= storage.len() && count <= last + 1;
    fits.then(|| storage.start + start..storage.start + start + span_bytes)
}

/// Appends the items of a view in row-major order.
fn put_in_order(bytes: &[u8], view: &View, item_bytes: usize, ordered: &mut Vec<u8>) {
    let mut index = vec![0; view.shape.len()];
    loop {
        let item: usize = index.iter().zip(&view.strides).map(|(at, stride)| at * stride).sum();
        ordered.extend_from_slice(&bytes[item * item_bytes..(item + 1) * item_bytes]);
        let Some(dim) = (0..index.len()).rev().find(|&dim| index[dim] + 1 < view.shape[dim]) else {
            return;
        };
        index[dim] += 1;
        index[dim + 1..].fill(0);
    }
}
