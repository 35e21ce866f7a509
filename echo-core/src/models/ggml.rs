//! whisper.cpp's `ggml-*.bin`: one file with sizes, mel filters, vocabulary and weights.
//!
//! ```text
//! u32 magic  i32 sizes[11]  i32 n_mels  i32 bins  f32 filters[n_mels][bins]
//! i32 tokens  tokens x { i32 length  bytes }
//! until the end: { i32 dims  i32 name length  i32 type  i32 ne[dims]  name  data }
//! ```
//!
//! `ne[0]` is the row length, so shapes are stored in reverse. Names are OpenAI's. The filters are
//! the Slaney ones that [`features`](crate::features) computes, and are skipped.
//! Source: `models/convert-pt-to-ggml.py` and `src/whisper.cpp` of whisper.cpp 1.7.

use super::bytes::Cursor;
use super::table::{Coding, Found, Parsed};
use super::weights::BlockKind;

/// `ggml` as a little-endian integer.
pub(crate) const MAGIC: [u8; 4] = *b"lmgg";

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tensors: Vec<Found>,
    /// Attention heads of the encoder and the decoder.
    pub(crate) heads: [usize; 2],
    /// Tokens in the order of their numbers, as bytes.
    pub(crate) tokens: Vec<Vec<u8>>,
}

/// Reads everything but the weights themselves.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<Model> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(4, "the magic number")? != MAGIC {
        return Err("does not begin with ggml's magic number".to_owned());
    }
    let mut sizes = [0; 11];
    for size in &mut sizes {
        *size = cursor.u32("the sizes")? as usize;
    }
    let heads = [sizes[3], sizes[7]];
    let n_mels = cursor.u32("the mel filters")? as usize;
    let n_bins = cursor.u32("the mel filters")? as usize;
    if n_mels > 1024 || n_bins > 4096 {
        return Err(format!("mel filters are {n_mels} x {n_bins}, expected 80 or 128 x 201"));
    }
    cursor.take(n_mels * n_bins * 4, "the mel filters")?;
    let n_tokens = cursor.count(4, "tokens")?;
    let mut tokens = Vec::with_capacity(n_tokens.min(1 << 18));
    for _ in 0..n_tokens {
        let length = cursor.u32("a token's length")? as usize;
        tokens.push(cursor.take(length, "a token")?.to_vec());
    }
    let mut tensors = Vec::new();
    while cursor.remaining() > 0 {
        tensors.push(tensor(&mut cursor)?);
    }
    Ok(Model { tensors, heads, tokens })
}

fn tensor(cursor: &mut Cursor<'_>) -> Parsed<Found> {
    let start = cursor.position();
    let n_dims = cursor.u32("a tensor's header")? as usize;
    let name_bytes = cursor.u32("a tensor's header")? as usize;
    let kind = cursor.u32("a tensor's header")?;
    if n_dims > 4 || name_bytes > 256 {
        return Err(format!(
            "the tensor at byte {start} has {n_dims} dimensions and a name of {name_bytes} bytes, \
             expected at most 4 and 256"
        ));
    }
    let mut shape = Vec::with_capacity(n_dims);
    for _ in 0..n_dims {
        shape.insert(0, cursor.u32("a tensor's header")? as usize);
    }
    let name = String::from_utf8_lossy(cursor.take(name_bytes, "a tensor's name")?).into_owned();
    let coding = coding(kind, &name)?;
    let Some(size_bytes) = coding.size_bytes(&shape) else {
        return Err(format!("tensor `{name}` has impossible shape {shape:?}"));
    };
    let start = cursor.position();
    cursor.take(size_bytes, &format!("tensor `{name}` {shape:?}"))?;
    Ok(Found { name, range: start..start + size_bytes, shape, coding })
}

/// The coding with a number of `enum ggml_type`.
pub(crate) fn coding(kind: u32, name: &str) -> Parsed<Coding> {
    Ok(match kind {
        0 => Coding::F32,
        1 => Coding::F16,
        2 => Coding::Blocks(BlockKind::Q4_0),
        3 => Coding::Blocks(BlockKind::Q4_1),
        6 => Coding::Blocks(BlockKind::Q5_0),
        7 => Coding::Blocks(BlockKind::Q5_1),
        8 => Coding::Blocks(BlockKind::Q8_0),
        30 => Coding::Bf16,
        _ => {
            let known = match kind {
                10..=14 => " (a k-quant)",
                16..=23 => " (an i-quant)",
                _ => "",
            };
            return Err(format!(
                "tensor `{name}` has ggml type {kind}{known}, expected f32, f16, bf16, q4_0, q4_1, \
                 q5_0, q5_1 or q8_0"
            ));
        }
    })
}
