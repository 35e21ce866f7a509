//! 10,000 damaged files for each parser: an answer or an error, never a panic, in bounded memory.

use super::super::table::{FileBytes, Found, Parsed, TensorTable};
use super::super::{ctranslate2, ggml, gguf, pickle, pytorch, safetensors};
use super::samples::{self, Random};
use crate::models::Vocabulary;

const MUTATIONS: u64 = 10_000;

/// Damages a file in one to eight places.
fn damage(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at.max(1)),
            3 => drop(bytes.drain(at..(at + random.below(16)).min(bytes.len()))),
            4 => {
                let piece = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                // Sizes are what parsers believe: the most telling values of 1 to 8 bytes.
                let sizes = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 40];
                let size = sizes[random.below(sizes.len())].to_le_bytes();
                let end = (at + [1, 2, 4, 8][random.below(4)]).min(bytes.len());
                bytes[at..end].copy_from_slice(&size[..end - at]);
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// Peak memory of this process so far, where the system tells it.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Parses damaged copies of `good`; most must be refused, and memory must stay small.
fn survives(good: &[u8], parse: impl Fn(&[u8]) -> Parsed<()>) {
    parse(good).unwrap();
    let mut refused = 0;
    for seed in 0..MUTATIONS {
        let bytes = damage(good, &mut Random(seed));
        refused += u64::from(parse(&bytes).is_err());
    }
    assert!(refused > MUTATIONS / 4, "only {refused} of {MUTATIONS} damaged files are refused");
    assert!(refused < MUTATIONS, "damage is too heavy to get past the first check");
    assert!(peak_bytes() < 1 << 30, "{} bytes at the peak", peak_bytes());
}

/// Adds the tensors to a table, as opening does.
fn tabulate(bytes: &[u8], tensors: Vec<Found>) -> Parsed<()> {
    TensorTable::new("damaged").add(FileBytes::Owned(bytes.to_vec()), tensors)
}

#[test]
fn damaged_safetensors_are_survived() {
    let good = samples::safetensors(&samples::few(), "F16");
    survives(&good, |bytes| tabulate(bytes, safetensors::parse(bytes)?));
}

#[test]
fn damaged_ctranslate2_is_survived() {
    for bits in [8, 16] {
        let good = samples::ctranslate2(&samples::few(), bits);
        survives(&good, |bytes| tabulate(bytes, ctranslate2::parse(bytes)?.tensors));
    }
}

#[test]
fn damaged_ggml_is_survived() {
    let good = samples::ggml(&samples::few(), true);
    survives(&good, |bytes| tabulate(bytes, ggml::parse(bytes)?.tensors));
}

#[test]
fn damaged_gguf_is_survived() {
    let good = samples::gguf(&samples::few());
    survives(&good, |bytes| tabulate(bytes, gguf::parse(bytes)?));
}

#[test]
fn damaged_archives_are_survived() {
    for transposed in [false, true] {
        let good = samples::pytorch(&samples::few(), transposed);
        survives(&good, |bytes| {
            let model = pytorch::parse(bytes)?;
            tabulate(&model.ordered_bytes, model.ordered)?;
            tabulate(bytes, model.tensors)
        });
    }
}

#[test]
fn damaged_pickles_are_survived() {
    let archive = samples::pytorch(&samples::few(), false);
    let start = archive.windows(4).position(|bytes| bytes == b"\x80\x02}(").unwrap();
    let length = archive[start..].windows(3).position(|bytes| bytes == b"uu.").unwrap() + 3;
    let good = archive[start..start + length].to_vec();
    survives(&good, |bytes| pickle::parse(bytes).map(drop));
}

#[test]
fn damaged_vocabularies_are_survived() {
    let json = r#"{"model": {"vocab": {"!": 0, "ĠÃ©": 1, "ĀĊ": 2, "<|endoftext|>": 3}},
        "added_tokens": [{"id": 3, "content": "<|endoftext|>"}]}"#;
    survives(json.as_bytes(), |bytes| Vocabulary::from_tokenizer_json(bytes).map(drop));
    let json = r#"{"!": 0, "ĠÃ©": 1, "ĀĊ": 2, "<|endoftext|>": 3, "<|en|>": 4}"#;
    survives(json.as_bytes(), |bytes| Vocabulary::from_vocab_json(bytes).map(drop));
    let lines = "!\nĠÃ©\nĀĊ\n<|endoftext|>\n";
    survives(lines.as_bytes(), |bytes| Vocabulary::from_lines(bytes).map(drop));
}

#[test]
fn a_pickle_cannot_make_much_of_little() {
    // A million nested tuples, a million empty ones, and one long key recalled a million times.
    let nested = [&b"\x80\x02)"[..], &[0x85; 1 << 20], b"."].concat();
    let many = [&b"\x80\x02"[..], &[b')'; 3 << 20], b"."].concat();
    let key = vec![b'k'; 1 << 20];
    let length = (key.len() as u32).to_le_bytes();
    let pairs = b"h\0K\x01".repeat(1 << 19);
    let keys = [&b"\x80\x02}(X"[..], &length, &key, b"q\0K\x01", &pairs, b"u."].concat();
    for bytes in [nested, many, keys] {
        assert!(bytes.len() <= pickle::MAX_BYTES);
        drop(pickle::parse(&bytes));
    }
    assert!(peak_bytes() < 1 << 30, "{} bytes at the peak", peak_bytes());
    // A dictionary that contains itself.
    let cycle = b"\x80\x02}q\0(X\x01\0\0\0ah\0u.";
    assert!(pickle::parse(cycle).unwrap().tensors.is_empty());
}

#[test]
fn a_pickle_runs_nothing() {
    let call = b"\x80\x02cos\nsystem\n(X\x05\0\0\0falsetR.";
    assert!(pickle::parse(call).unwrap().tensors.is_empty());
}
