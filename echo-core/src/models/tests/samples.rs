//! A small random Whisper, written in every format.

use std::io::{Cursor, Write};

use half::f16;
use zip::write::SimpleFileOptions;

pub(super) const WIDTH: usize = 64;
pub(super) const VOCAB: usize = 40;
const TEXT_CONTEXT: usize = 16;

/// A tensor under OpenAI's name.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Numbers that look random and are the same everywhere (`SplitMix64`).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// The tokens of the small model: 32 plain ones of 40.
pub(super) fn tokens() -> Vec<String> {
    (b'A'..b'A' + 32).map(|byte| char::from(byte).to_string()).collect()
}

/// One layer on either side; values are exact in every float format.
pub(super) fn whisper() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut random = Random(1);
    let mut add = |name: String, shape: &[usize]| {
        let len = shape.iter().product();
        let values = (0..len).map(|_| random.below(256) as f32 / 64.0 - 2.0).collect();
        samples.push(Sample { name, shape: shape.to_vec(), values });
    };
    add("encoder.conv1.weight".into(), &[WIDTH, 80, 3]);
    add("encoder.conv1.bias".into(), &[WIDTH]);
    add("encoder.conv2.weight".into(), &[WIDTH, WIDTH, 3]);
    add("encoder.conv2.bias".into(), &[WIDTH]);
    add("encoder.positional_embedding".into(), &[1500, WIDTH]);
    add("decoder.positional_embedding".into(), &[TEXT_CONTEXT, WIDTH]);
    add("decoder.token_embedding.weight".into(), &[VOCAB, WIDTH]);
    for norm in ["encoder.ln_post", "decoder.ln"] {
        add(format!("{norm}.weight"), &[WIDTH]);
        add(format!("{norm}.bias"), &[WIDTH]);
    }
    let sides: [(&str, &[&str]); 2] =
        [("encoder", &["attn"]), ("decoder", &["attn", "cross_attn"])];
    for (side, attentions) in sides {
        let block = format!("{side}.blocks.0");
        for attention in attentions {
            for part in ["query", "key", "value", "out"] {
                add(format!("{block}.{attention}.{part}.weight"), &[WIDTH, WIDTH]);
                if part != "key" {
                    add(format!("{block}.{attention}.{part}.bias"), &[WIDTH]);
                }
            }
            add(format!("{block}.{attention}_ln.weight"), &[WIDTH]);
            add(format!("{block}.{attention}_ln.bias"), &[WIDTH]);
        }
        add(format!("{block}.mlp.0.weight"), &[4 * WIDTH, WIDTH]);
        add(format!("{block}.mlp.0.bias"), &[4 * WIDTH]);
        add(format!("{block}.mlp.2.weight"), &[WIDTH, 4 * WIDTH]);
        add(format!("{block}.mlp.2.bias"), &[WIDTH]);
        add(format!("{block}.mlp_ln.weight"), &[WIDTH]);
        add(format!("{block}.mlp_ln.bias"), &[WIDTH]);
    }
    samples
}

/// A few small tensors, for the tests that damage files.
pub(super) fn few() -> Vec<Sample> {
    let sample = |name: &str, shape: &[usize]| {
        let values = vec![0.5; shape.iter().product()];
        Sample { name: name.to_owned(), shape: shape.to_vec(), values }
    };
    vec![
        sample("encoder.conv1.bias", &[4]),
        sample("encoder.blocks.0.attn.query.weight", &[2, 32]),
        sample("decoder.ln.weight", &[3]),
    ]
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// safetensors under Hugging Face's names; `dtype` is `F32`, `F16` or `BF16`.
pub(super) fn safetensors(samples: &[Sample], dtype: &str) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for sample in samples {
        let start = data.len();
        match dtype {
            "F32" => data.extend(floats(&sample.values)),
            "F16" => data.extend(halves(&sample.values)),
            _ => {
                for value in &sample.values {
                    data.extend(half::bf16::from_f32(*value).to_le_bytes());
                }
            }
        }
        let info = serde_json::json!({
            "dtype": dtype, "shape": sample.shape, "data_offsets": [start, data.len()]
        });
        header.insert(super::names::canonical(&sample.name), info);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// ggml; matrices as `q8_0` if `quantised`, else as f16.
pub(super) fn ggml(samples: &[Sample], quantised: bool) -> Vec<u8> {
    let mut bytes = b"lmgg".to_vec();
    for size in [VOCAB, 1500, WIDTH, 1, 1, TEXT_CONTEXT, WIDTH, 1, 1, 80, 1, 80, 2] {
        bytes.extend((size as u32).to_le_bytes());
    }
    bytes.extend(floats(&[0.25; 160]));
    bytes.extend((tokens().len() as u32).to_le_bytes());
    for token in tokens() {
        bytes.extend((token.len() as u32).to_le_bytes());
        bytes.extend(token.as_bytes());
    }
    for sample in samples {
        let mut shape = sample.shape.clone();
        if sample.name.contains("conv") && sample.name.ends_with("bias") {
            shape.push(1); // as whisper.cpp's converter does
        }
        let is_matrix = shape.len() > 1 && shape.last() != Some(&1);
        let kind = match (is_matrix, quantised && shape.len() == 2) {
            (false, _) => 0_u32,
            (true, false) => 1,
            (true, true) => 8,
        };
        for field in [shape.len() as u32, sample.name.len() as u32, kind] {
            bytes.extend(field.to_le_bytes());
        }
        for dim in shape.iter().rev() {
            bytes.extend((*dim as u32).to_le_bytes());
        }
        bytes.extend(sample.name.as_bytes());
        bytes.extend(match kind {
            0 => floats(&sample.values),
            1 => halves(&sample.values),
            _ => q8_0(&sample.values),
        });
    }
    bytes
}

/// Values that are whole 64ths of a small range are exact with a scale of 1/64.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in values.chunks(32) {
        bytes.extend(f16::from_f32(1.0 / 64.0).to_le_bytes());
        bytes.extend(block.iter().map(|value| ((value * 64.0) as i8).cast_unsigned()));
    }
    bytes
}

/// GGUF, version 3, f32 under Hugging Face's names.
pub(super) fn gguf(samples: &[Sample]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = [b"GGUF", &3_u32.to_le_bytes()[..]].concat();
    bytes.extend((samples.len() as u64).to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    bytes.extend(
        [text("general.alignment"), 4_u32.to_le_bytes().into(), 64_u32.to_le_bytes().into()]
            .concat(),
    );
    bytes.extend([text("general.name"), 8_u32.to_le_bytes().into(), text("small")].concat());
    bytes
        .extend([text("numbers"), 9_u32.to_le_bytes().into(), 5_u32.to_le_bytes().into()].concat());
    bytes.extend([2_u64.to_le_bytes().to_vec(), vec![7; 8]].concat());
    let mut data = Vec::new();
    for sample in samples {
        bytes.extend(text(&super::names::canonical(&sample.name)));
        bytes.extend((sample.shape.len() as u32).to_le_bytes());
        for dim in sample.shape.iter().rev() {
            bytes.extend((*dim as u64).to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        data.extend(floats(&sample.values));
        data.resize(data.len().next_multiple_of(64), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend(data);
    bytes
}

/// A PyTorch archive as OpenAI publishes them. Every matrix is stored in columns if `transposed`.
pub(super) fn pytorch(samples: &[Sample], transposed: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: String, bytes: &[u8]| {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    };
    let mut pickle = Pickle(b"\x80\x02}(".to_vec());
    pickle.text("dims").code(b"}(");
    for (name, size) in [("n_audio_head", 1), ("n_text_head", 1)] {
        pickle.text(name).int(size);
    }
    pickle.code(b"u").text("model_state_dict").code(b"}(");
    for (key, sample) in samples.iter().enumerate() {
        let is_turned = transposed && sample.shape.len() == 2;
        let (values, strides) = if is_turned { turn(sample) } else { straight(sample) };
        pickle.text(&sample.name).code(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.text("storage").code(b"ctorch\nHalfStorage\n").text(&key.to_string());
        pickle.text("cpu").int(values.len()).code(b"tQK\0(");
        for &size in &sample.shape {
            pickle.int(size);
        }
        pickle.code(b"t(");
        for &size in &strides {
            pickle.int(size);
        }
        pickle.code(b"t\x89ccollections\nOrderedDict\n)RtR");
        entry(format!("small/data/{key}"), &halves(&values));
    }
    pickle.code(b"uu.");
    entry("small/data.pkl".into(), &pickle.0);
    entry("small/version".into(), b"3\n");
    archive.finish().unwrap().into_inner()
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn code(&mut self, code: &[u8]) -> &mut Self {
        self.0.extend_from_slice(code);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.code(b"X").code(&(text.len() as u32).to_le_bytes()).code(text.as_bytes())
    }

    fn int(&mut self, number: usize) -> &mut Self {
        self.code(b"J").code(&(number as u32).to_le_bytes())
    }
}

fn straight(sample: &Sample) -> (Vec<f32>, Vec<usize>) {
    let strides =
        (0..sample.shape.len()).map(|dim| sample.shape[dim + 1..].iter().product()).collect();
    (sample.values.clone(), strides)
}

fn turn(sample: &Sample) -> (Vec<f32>, Vec<usize>) {
    let (rows, columns) = (sample.shape[0], sample.shape[1]);
    let values = (0..rows * columns).map(|at| sample.values[at % rows * columns + at / rows]);
    (values.collect(), vec![1, rows])
}

/// CTranslate2; matrices as integers of `bits` (8 or 16), or all as f32 (32).
pub(super) fn ctranslate2(samples: &[Sample], bits: u32) -> Vec<u8> {
    let mut variables: Vec<(String, Vec<u32>, u8, Vec<u8>)> = Vec::new();
    for (name, shape, values) in stacked(samples) {
        let dims: Vec<u32> = shape.iter().map(|&dim| dim as u32).collect();
        let scaled = values.iter().map(|value| value * 64.0);
        let scale = 64.0_f32.to_le_bytes();
        match (bits, shape.len()) {
            (8, 2..) => {
                let data = scaled.map(|value| (value as i8).cast_unsigned()).collect();
                variables.push((format!("{name}_scale"), vec![dims[0]], 0, scale.repeat(shape[0])));
                variables.push((name, dims, 1, data));
            }
            (16, 2..) => {
                let data = scaled.flat_map(|value| (value as i16).to_le_bytes()).collect();
                variables.push((format!("{name}_scale"), vec![], 0, scale.to_vec()));
                variables.push((name, dims, 2, data));
            }
            _ => variables.push((name, dims, 0, floats(&values))),
        }
    }
    for side in ["encoder", "decoder"] {
        variables.push((format!("{side}/num_heads"), vec![], 2, vec![1, 0]));
    }
    let text =
        |text: &str| [&(text.len() as u16 + 1).to_le_bytes()[..], text.as_bytes(), &[0]].concat();
    let mut bytes = [&6_u32.to_le_bytes()[..], &text("WhisperSpec"), &3_u32.to_le_bytes()].concat();
    bytes.extend((variables.len() as u32).to_le_bytes());
    for (name, dims, kind, data) in variables {
        bytes.extend(text(&name));
        bytes.push(dims.len() as u8);
        dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
        bytes.push(kind);
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
    }
    let alias = samples.iter().any(|sample| sample.name == "decoder.token_embedding.weight");
    bytes.extend(u32::from(alias).to_le_bytes());
    if alias {
        bytes.extend(
            [text("decoder/projection/weight"), text("decoder/embeddings/weight")].concat(),
        );
    }
    bytes
}

/// Samples under CTranslate2's names, queries, keys and values stacked.
fn stacked(samples: &[Sample]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut stacks: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for sample in samples {
        let renames = [
            ("positional_embedding", "position_encodings/encodings"),
            ("token_embedding.weight", "embeddings/weight"),
            (".ln_post.", "/layer_norm/"),
            ("decoder.ln.", "decoder/layer_norm/"),
            (".blocks.0.", "/layer_0/"),
            ("cross_attn_ln.", "attention/layer_norm/"),
            ("attn_ln.", "self_attention/layer_norm/"),
            ("mlp_ln.", "ffn/layer_norm/"),
            ("mlp.0.", "ffn/linear_0/"),
            ("mlp.2.", "ffn/linear_1/"),
            ("cross_attn.query.", "attention/linear_0/"),
            ("cross_attn.key.", "attention/linear_1/"),
            ("cross_attn.value.", "attention/linear_1/"),
            ("cross_attn.out.", "attention/linear_2/"),
            ("attn.query.", "self_attention/linear_0/"),
            ("attn.key.", "self_attention/linear_0/"),
            ("attn.value.", "self_attention/linear_0/"),
            ("attn.out.", "self_attention/linear_1/"),
        ];
        let mut name = sample.name.clone();
        for (from, to) in renames {
            name = name.replace(from, to);
        }
        name = name.replace('.', "/");
        if name.contains("layer_norm") {
            name = name.replace("/weight", "/gamma").replace("/bias", "/beta");
        }
        match stacks.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, shape, values)) => {
                shape[0] += sample.shape[0];
                values.extend(&sample.values);
            }
            None => stacks.push((name.clone(), sample.shape.clone(), sample.values.clone())),
        }
        if sample.name.ends_with("attn.key.weight") {
            // Keys have no bias: zeros between those of query and value.
            let bias = name.replace("/weight", "/bias");
            match stacks.iter_mut().find(|(known, ..)| *known == bias) {
                Some((_, shape, values)) => {
                    shape[0] += sample.shape[0];
                    values.extend(vec![0.0; sample.shape[0]]);
                }
                None => stacks.push((bias, vec![sample.shape[0]], vec![0.0; sample.shape[0]])),
            }
        }
    }
    stacks
}
