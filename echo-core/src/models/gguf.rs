//! GGUF, versions 2 and 3, as candle's quantised Whisper checkpoints use it.
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 pairs
//! pairs x { str key  u32 type  value }         str = u64 length, bytes
//! tensors x { str name  u32 dims  u64 ne[dims]  u32 type  u64 offset }
//! padding to `general.alignment` (32)  data
//! ```
//!
//! No convention says how Whisper's sizes or vocabulary would be stored: whisper.cpp itself reads
//! no GGUF. Tensors under Hugging Face's or OpenAI's names are enough, as sizes are read off their
//! shapes and the vocabulary lies beside the file. Source: `docs/gguf.md` of ggml.

use super::bytes::Cursor;
use super::ggml;
use super::table::{Found, Parsed};

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// The tensors of a file.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<Vec<Found>> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(4, "the magic number")? != MAGIC {
        return Err("does not begin with GGUF".to_owned());
    }
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version}, expected 2 or 3"));
    }
    let n_tensors = cursor.count_u64(24, "tensors")?;
    let n_pairs = cursor.count_u64(13, "metadata")?;
    let mut alignment = 32;
    for _ in 0..n_pairs {
        let key = text(&mut cursor)?;
        let kind = cursor.u32("a metadata value's type")?;
        if key == b"general.alignment" && kind == 4 {
            alignment = cursor.u32("the alignment")? as usize;
        } else {
            skip_value(&mut cursor, kind, 0)?;
        }
    }
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(format!("alignment is {alignment}, expected a power of two"));
    }
    let mut tensors = Vec::new();
    for _ in 0..n_tensors {
        tensors.push(tensor(&mut cursor)?);
    }
    let data_start = cursor.position().next_multiple_of(alignment);
    for tensor in &mut tensors {
        let (start, end) = (tensor.range.start, tensor.range.end);
        let range = start.checked_add(data_start).zip(end.checked_add(data_start));
        let Some((start, end)) = range else {
            return Err(format!("tensor `{}` lies outside the file", tensor.name));
        };
        tensor.range = start..end;
    }
    Ok(tensors)
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Parsed<&'a [u8]> {
    let length = cursor.count_u64(1, "the bytes of a string")?;
    cursor.take(length, "a string")
}

fn skip_value(cursor: &mut Cursor<'_>, kind: u32, depth: usize) -> Parsed<()> {
    let fixed_bytes = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        8 => return text(cursor).map(drop),
        9 if depth < 2 => {
            let kind = cursor.u32("an array's type")?;
            let count = cursor.count_u64(1, "values of an array")?;
            for _ in 0..count {
                skip_value(cursor, kind, depth + 1)?;
            }
            return Ok(());
        }
        _ => return Err(format!("metadata value of unknown type {kind}")),
    };
    cursor.take(fixed_bytes, "a metadata value").map(drop)
}

/// A tensor whose range is still relative to the start of the data.
fn tensor(cursor: &mut Cursor<'_>) -> Parsed<Found> {
    let name = String::from_utf8_lossy(text(cursor)?).into_owned();
    let n_dims = cursor.u32("a tensor's header")? as usize;
    if n_dims > 4 {
        return Err(format!("tensor `{name}` has {n_dims} dimensions, expected at most 4"));
    }
    let mut shape = Vec::with_capacity(n_dims);
    for _ in 0..n_dims {
        let dim = cursor.u64("a tensor's header")?;
        shape.insert(0, usize::try_from(dim).unwrap_or(usize::MAX));
    }
    let coding = ggml::coding(cursor.u32("a tensor's header")?, &name)?;
    let start = usize::try_from(cursor.u64("a tensor's header")?).unwrap_or(usize::MAX);
    let end = coding.size_bytes(&shape).and_then(|size_bytes| start.checked_add(size_bytes));
    let Some(end) = end else {
        return Err(format!("tensor `{name}` has impossible shape {shape:?}"));
    };
    Ok(Found { name, range: start..end, shape, coding })
}
