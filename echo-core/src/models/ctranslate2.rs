//! CTranslate2's `model.bin`, binary version 6 (faster-whisper).
//!
//! Little endian, packed, nothing aligned:
//!
//! ```text
//! u32 version  str spec  u32 revision  u32 count
//! count x { str name  u8 rank  u32 dims[rank]  u8 type  u32 bytes  data }
//! u32 aliases  aliases x { str alias  str target }
//! str = u16 length + 1, bytes, NUL          type: f32, i8, i16, i32, f16, bf16
//! ```
//!
//! Query, key and value are one matrix with their rows stacked, likewise key and value of
//! cross-attention. Quantised `X/weight` comes with `X/weight_scale`: value = integer / scale.
//! Source: `python/ctranslate2/specs/model_spec.py` and `src/models/model.cc` of CTranslate2 4.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bytes::Cursor;
use super::table::{Coding, Found, Parsed};

const VERSION: u32 = 6;

/// The part of a name's tensor that goes to another name: `(1, 3)` is the second third of the rows.
pub(crate) type Share = (usize, usize);

/// What a `model.bin` holds.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) tensors: Vec<Found>,
    /// Single integers, such as `encoder/num_heads`.
    pub(crate) numbers: BTreeMap<String, i64>,
}

#[derive(Clone)]
struct Variable {
    shape: Vec<usize>,
    kind: u8,
    range: Range<usize>,
}

/// Whether these are the first bytes of a `model.bin` of Whisper.
pub(crate) fn is_model(head: &[u8]) -> bool {
    const SPEC: &[u8] = b"WhisperSpec\0";
    let version = head.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    version.is_some_and(|version| version < 100) && head.get(6..6 + SPEC.len()) == Some(SPEC)
}

/// Reads the directory of a `model.bin`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<Model> {
    let mut cursor = Cursor::new(bytes);
    let version = cursor.u32("the version")?;
    if version != VERSION {
        return Err(format!("CTranslate2 binary version {version}, expected {VERSION}"));
    }
    let spec = text(&mut cursor, "the model's kind")?;
    if spec != "WhisperSpec" {
        return Err(format!("CTranslate2 model of kind `{spec}`, expected `WhisperSpec`"));
    }
    cursor.u32("the revision")?;
    let mut variables = BTreeMap::new();
    // A variable has at least a name (2), a rank, a type and a size.
    for _ in 0..cursor.count(8, "variables")? {
        let (name, variable) = variable(&mut cursor)?;
        variables.insert(name, variable);
    }
    for _ in 0..cursor.count(4, "aliases")? {
        let alias = text(&mut cursor, "an alias")?;
        let target = text(&mut cursor, "an alias's target")?;
        for suffix in ["", "_scale"] {
            if let Some(variable) = variables.get(&format!("{target}{suffix}")) {
                let variable = variable.clone();
                variables.insert(format!("{alias}{suffix}"), variable);
            } else if suffix.is_empty() {
                return Err(format!("alias `{alias}` of `{target}`, which does not exist"));
            }
        }
    }
    if cursor.remaining() > 0 {
        return Err(format!("{} bytes after the last alias, expected none", cursor.remaining()));
    }
    gather(bytes, &variables)
}

fn text(cursor: &mut Cursor<'_>, what: &str) -> Parsed<String> {
    let length = usize::from(cursor.u16(what)?);
    match cursor.take(length, what)?.split_last() {
        Some((0, bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        _ => Err(format!("{what} does not end in NUL at byte {}", cursor.position())),
    }
}

fn variable(cursor: &mut Cursor<'_>) -> Parsed<(String, Variable)> {
    let name = text(cursor, "a variable's name")?;
    let rank = cursor.u8(&name)?;
    let mut shape = Vec::with_capacity(usize::from(rank));
    for _ in 0..rank {
        shape.push(cursor.u32(&name)? as usize);
    }
    let kind = cursor.u8(&name)?;
    let size_bytes = cursor.u32(&name)? as usize;
    let start = cursor.position();
    cursor.take(size_bytes, &format!("tensor `{name}`"))?;
    Ok((name, Variable { shape, kind, range: start..start + size_bytes }))
}

fn gather(bytes: &[u8], variables: &BTreeMap<String, Variable>) -> Parsed<Model> {
    let mut model = Model { tensors: Vec::new(), numbers: BTreeMap::new() };
    for (name, variable) in variables {
        if name.ends_with("_scale") {
            continue;
        }
        if variable.shape.is_empty() {
            let number = number(&bytes[variable.range.clone()], variable.kind);
            model.numbers.extend(number.map(|number| (name.clone(), number)));
            continue;
        }
        let scales = || scales(bytes, name, variables, variable);
        let coding = match variable.kind {
            0 => Coding::F32,
            1 => Coding::I8(scales()?.into()),
            2 => Coding::I16(scales()?.first().copied().unwrap_or(1.0)),
            3 => Coding::Other { name: "i32", item_bytes: 4 },
            4 => Coding::F16,
            5 => Coding::Bf16,
            kind => {
                return Err(format!("tensor `{name}` has unknown type {kind}, expected 0 to 5"));
            }
        };
        let (range, shape) = (variable.range.clone(), variable.shape.clone());
        model.tensors.push(Found { name: name.clone(), range, shape, coding });
    }
    Ok(model)
}

/// The divisors of a quantised tensor, one for each of its rows.
fn scales(
    bytes: &[u8],
    name: &str,
    variables: &BTreeMap<String, Variable>,
    quantised: &Variable,
) -> Parsed<Vec<f32>> {
    let n_rows = quantised.shape.first().copied().unwrap_or(1);
    let found = variables.get(&format!("{name}_scale")).filter(|scale| scale.kind == 0);
    let Some(scale) = found else {
        return Err(format!("quantised tensor `{name}` has no f32 `{name}_scale`"));
    };
    let items = bytes[scale.range.clone()].as_chunks::<4>().0;
    let scales: Vec<f32> = items.iter().map(|item| f32::from_le_bytes(*item)).collect();
    match scales[..] {
        // No more rows than bytes: a header cannot ask for memory that its file does not have.
        [one] if n_rows <= quantised.range.len() => Ok(vec![one; n_rows]),
        _ if scales.len() == n_rows && quantised.kind == 1 => Ok(scales),
        _ => Err(format!("`{name}_scale` has {} values, expected 1 or {n_rows}", scales.len())),
    }
}

fn number(bytes: &[u8], kind: u8) -> Option<i64> {
    match (kind, bytes) {
        (1, &[a]) => Some(i64::from(a.cast_signed())),
        (2, &[a, b]) => Some(i64::from(i16::from_le_bytes([a, b]))),
        (3, &[a, b, c, d]) => Some(i64::from(i32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

/// The Hugging Face names that a variable goes to, and its share of the rows for each.
pub(crate) fn whisper_names(name: &str) -> Vec<(String, Share)> {
    let whole = |name: String| vec![(name, (0, 1))];
    let Some((side, rest)) = name.split_once('/') else { return Vec::new() };
    match (side, rest) {
        ("encoder" | "decoder", "position_encodings/encodings") => {
            return whole(format!("model.{side}.embed_positions.weight"));
        }
        ("decoder", "embeddings/weight" | "embeddings_0/weight") => {
            return whole("model.decoder.embed_tokens.weight".to_owned());
        }
        ("encoder" | "decoder", _) => {}
        _ => return Vec::new(),
    }
    let (place, rest) = match rest.strip_prefix("layer_").and_then(|rest| rest.split_once('/')) {
        Some((layer, rest)) if layer.bytes().all(|byte| byte.is_ascii_digit()) => {
            (format!("model.{side}.layers.{layer}"), rest)
        }
        _ => (format!("model.{side}"), rest),
    };
    let Some((module, leaf)) = rest.rsplit_once('/') else { return Vec::new() };
    let leaf = match leaf {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    };
    let parts: &[&str] = match module {
        "conv1" => &["conv1"],
        "conv2" => &["conv2"],
        "layer_norm" => &["layer_norm"],
        "self_attention/layer_norm" => &["self_attn_layer_norm"],
        "self_attention/linear_0" => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "self_attention/linear_1" => &["self_attn.out_proj"],
        "attention/layer_norm" => &["encoder_attn_layer_norm"],
        "attention/linear_0" => &["encoder_attn.q_proj"],
        "attention/linear_1" => &["encoder_attn.k_proj", "encoder_attn.v_proj"],
        "attention/linear_2" => &["encoder_attn.out_proj"],
        "ffn/layer_norm" => &["final_layer_norm"],
        "ffn/linear_0" => &["fc1"],
        "ffn/linear_1" => &["fc2"],
        _ => &[],
    };
    let shares = parts.iter().enumerate();
    shares
        // Keys have no bias; the zeros stored for it are not a tensor of Hugging Face's.
        .filter(|(_, part)| !(part.ends_with("k_proj") && leaf == "bias"))
        .map(|(index, part)| (format!("{place}.{part}.{leaf}"), (index, parts.len())))
        .collect()
}
