//! Reference activations and real weights for the tests of diarization, where they are at hand.

use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};

use crate::models::weights::Weights;
use crate::models::{ModelStore, open_tensors};

/// A file of the folder of reference activations.
pub(crate) fn reference(file: &str) -> Option<Vec<u8>> {
    let Some(folder) = std::env::var_os("ECHO_TEST_REFERENCE") else {
        eprintln!("skipped: set ECHO_TEST_REFERENCE to the folder of reference activations");
        return None;
    };
    Some(std::fs::read(PathBuf::from(folder).join(file)).unwrap())
}

/// A tensor of a safetensors file, whatever its numbers, as f64.
pub(crate) fn tensor(file: &[u8], name: &str) -> Vec<f64> {
    let file = SafeTensors::deserialize(file).unwrap();
    let view = file.tensor(name).unwrap();
    let data = view.data();
    match view.dtype() {
        Dtype::U8 => data.iter().map(|&value| f64::from(value)).collect(),
        Dtype::I32 => {
            data.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect()
        }
        Dtype::F32 => {
            data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
        }
        Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// The 30 s sample of the reference: 16-bit mono at 16 kHz behind a header of 44 bytes.
pub(crate) fn sample() -> Option<Vec<f32>> {
    let bytes = reference("sample.wav")?;
    let data = bytes.windows(4).position(|four| four == b"data").unwrap() + 8;
    let samples = bytes[data..].as_chunks().0.iter();
    Some(samples.map(|&b| f32::from(i16::from_le_bytes(b)) / 32768.0).collect())
}

/// The weights of a network from the store of the tests.
pub(crate) fn weights(name: &str) -> Option<Box<dyn Weights>> {
    let store = std::env::var_os("ECHO_TEST_STORE").map(|root| ModelStore::at(root).offline(true));
    let Some(path) = store.and_then(|store| store.path(name).ok()) else {
        eprintln!("skipped: set ECHO_TEST_STORE to a model folder that holds `{name}`");
        return None;
    };
    let bare = |name: &str| name.strip_prefix("state_dict/").unwrap_or(name).to_owned();
    Some(open_tensors(name, &path, bare).unwrap().weights)
}

/// The largest difference.
#[track_caller]
pub(crate) fn largest_difference(found: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let differences = found.iter().zip(wanted).map(|(&f, &w)| (f64::from(f) - w).abs());
    differences.fold(0.0, f64::max)
}
