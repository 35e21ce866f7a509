//! Each reader of model files on any bytes, and what must hold of its answer; for fuzzing and tests.

use std::io::Cursor;

use super::config::{Hints, WhisperConfig};
use super::table::{FileBytes, Found, Parsed, TensorTable};
use super::weights::Weights;
use super::{Vocabulary, ctranslate2, ggml, gguf, names, npz, pickle, pytorch, safetensors};

pub(crate) fn read_safetensors(bytes: &[u8]) {
    drop(safetensors::shards(bytes));
    check(bytes, safetensors::parse(bytes));
}

pub(crate) fn read_gguf(bytes: &[u8]) {
    check(bytes, gguf::parse(bytes));
}

pub(crate) fn read_ggml(bytes: &[u8]) {
    check(bytes, ggml::parse(bytes).map(|model| model.tensors));
}

pub(crate) fn read_ctranslate2(bytes: &[u8]) {
    let Ok(model) = ctranslate2::parse(bytes) else { return };
    let mut table = TensorTable::new("fuzzed");
    if table.add(FileBytes::Owned(bytes.to_vec()), model.tensors).is_ok()
        && let Ok(table) = table.rename(ctranslate2::whisper_names)
    {
        check_table(table);
    }
}

pub(crate) fn read_pytorch(bytes: &[u8]) {
    let Ok(model) = pytorch::parse(bytes) else { return };
    assert!(model.ordered_bytes.len() <= bytes.len(), "much was made of little");
    check(&model.ordered_bytes, Ok(model.ordered));
    check(bytes, Ok(model.tensors));
}

pub(crate) fn read_pickle(bytes: &[u8]) {
    drop(pickle::parse(bytes));
}

pub(crate) fn read_npz(bytes: &[u8]) {
    let Ok(arrays) = npz::read(Cursor::new(bytes)) else { return };
    arrays.values().for_each(check_array);
}

pub(crate) fn read_npy(bytes: &[u8]) {
    let Ok(array) = npz::parse(bytes) else { return };
    assert!(array.values.len() <= bytes.len(), "much was made of little");
    check_array(&array);
}

/// An array that was accepted has as many values as its shape says.
fn check_array(array: &npz::Array) {
    let count: usize = array.shape.iter().product();
    assert_eq!(array.values.len(), count, "values of {:?}", array.shape);
}

/// Vocabulary and configuration files; returns what could be read as a vocabulary.
pub(crate) fn read_json(bytes: &[u8]) -> Vec<Vocabulary> {
    drop(Hints::default().add_json(bytes));
    let readers =
        [Vocabulary::from_tokenizer_json, Vocabulary::from_vocab_json, Vocabulary::from_lines];
    let read: Vec<Vocabulary> = readers.iter().filter_map(|read| read(bytes).ok()).collect();
    for vocabulary in &read {
        assert_eq!(vocabulary.iter().count(), vocabulary.len());
        assert_eq!(vocabulary.token(vocabulary.len()), None);
    }
    read
}

fn check(bytes: &[u8], found: Parsed<Vec<Found>>) {
    let mut table = TensorTable::new("fuzzed");
    let Ok(found) = found else { return };
    if table.add(FileBytes::Owned(bytes.to_vec()), found).is_ok()
        && let Ok(table) = table.rename(|name| vec![(names::canonical(name), (0, 1))])
    {
        check_table(table);
    }
}

/// Every tensor that was accepted has as many values as its shape says.
fn check_table(mut table: TensorTable) {
    table.flatten_biases();
    drop(WhisperConfig::from_weights("fuzzed", &table, &Hints::default()));
    let names: Vec<String> = table.names().map(str::to_owned).collect();
    for name in names {
        let shape = table.shape(&name).expect("a name in the table has a shape");
        let Ok(tensor) = table.get(&name, &shape) else { continue };
        if let Ok(values) = tensor.to_f32() {
            assert_eq!(values.len(), tensor.len(), "values of `{name}` {shape:?}");
        }
    }
}
