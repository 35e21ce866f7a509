//! Hugging Face's safetensors: a JSON header and the values behind it.
//!
//! `u64` header length, the header `{"name": {"dtype", "shape", "data_offsets"}}`, the values. The
//! `safetensors` crate checks that offsets neither overlap nor leave gaps. A sharded checkpoint is
//! a `*.safetensors.index.json` with a `weight_map` from tensor to file.

use std::collections::BTreeSet;

use safetensors::{Dtype, SafeTensors};

use super::table::{Coding, Found, Parsed};

/// Longest header that is read: large-v3's is 150 kB, and JSON takes tens of times its size.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// Most files of one checkpoint.
const MAX_SHARDS: usize = 1000;

/// Whether these are the first bytes of a file of this format.
pub(crate) fn is_model(head: &[u8]) -> bool {
    head.get(8) == Some(&b'{')
        && head
            .first_chunk::<8>()
            .is_some_and(|bytes| (2..=MAX_HEADER_BYTES).contains(&u64::from_le_bytes(*bytes)))
}

/// The tensors of a file.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<Vec<Found>> {
    let header_bytes = bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if !(2..=MAX_HEADER_BYTES).contains(&header_bytes) {
        return Err(format!("header of {header_bytes} bytes, expected at most {MAX_HEADER_BYTES}"));
    }
    let (header_bytes, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|error| format!("is no valid safetensors file: {error}"))?;
    let data_start = 8 + header_bytes;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        let other = |name, item_bytes| Coding::Other { name, item_bytes };
        let coding = match info.dtype {
            Dtype::F32 => Coding::F32,
            Dtype::F16 => Coding::F16,
            Dtype::BF16 => Coding::Bf16,
            Dtype::F64 => other("f64", 8),
            Dtype::I64 | Dtype::U64 => other("64-bit integers", 8),
            Dtype::I32 | Dtype::U32 => other("32-bit integers", 4),
            Dtype::I16 | Dtype::U16 => other("16-bit integers", 2),
            Dtype::I8 | Dtype::U8 | Dtype::BOOL => other("8-bit integers", 1),
            // Kinds that no speech model uses; a network that asks for one hears that it is absent.
            _ => continue,
        };
        if info.shape.contains(&0) {
            continue;
        }
        let (start, end) = info.data_offsets;
        let range = data_start + start..data_start + end;
        tensors.push(Found { name, range, shape: info.shape.clone(), coding });
    }
    Ok(tensors)
}

/// The files of a sharded checkpoint: plain names in the folder of the index.
pub(crate) fn shards(index: &[u8]) -> Parsed<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index =
        serde_json::from_slice(index).map_err(|error| format!("is no index of shards: {error}"))?;
    let files: BTreeSet<String> = index.weight_map.into_values().collect();
    let is_plain = |file: &String| {
        !file.is_empty() && !file.contains(['/', '\\', ':', '\0']) && !file.starts_with('.')
    };
    if let Some(file) = files.iter().find(|file| !is_plain(file)) {
        return Err(format!("names the file `{file}`, expected one in the same folder"));
    }
    if files.is_empty() || files.len() > MAX_SHARDS {
        return Err(format!("names {} files, expected 1 to {MAX_SHARDS}", files.len()));
    }
    Ok(files)
}
