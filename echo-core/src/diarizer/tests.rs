//! A diarization model in a folder: the real segmentation with a ResNet34 and a PLDA made by formula.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use super::*;
use crate::audio::Audio;
use crate::diarize::testing::{noise, resnet34_tensors};
use crate::models::npz_testing::npz;
use crate::options::Clustering;
use crate::segmentation::testing::sample;

/// A folder of its own for a test, removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn store() -> Option<ModelStore> {
    let store = std::env::var_os("ECHO_TEST_STORE").map(|root| ModelStore::at(root).offline(true));
    let store = store.filter(|store| store.path("segmentation-3.0").is_ok());
    if store.is_none() {
        eprintln!("skipped: set ECHO_TEST_STORE to a model folder that holds `segmentation-3.0`");
    }
    store
}

fn write_network(path: &Path) {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = resnet34_tensors()
        .into_iter()
        .map(|(name, shape, values)| (format!("resnet.{name}"), shape, bytes(&values)))
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

/// A model that is laid out as community-1.
fn model(store: &ModelStore, test: &str) -> Folder {
    let folder = std::env::temp_dir().join(format!("echo-{test}-{}", std::process::id()));
    for part in ["segmentation", "embedding", "plda"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    let segmentation = store.path("segmentation-3.0").unwrap();
    fs::copy(segmentation, folder.join("segmentation/pytorch_model.bin")).unwrap();
    write_network(&folder.join("embedding/model.safetensors"));
    let lda: Vec<f64> = noise(256 * 128, 7).iter().map(|value| value / 8.0).collect();
    let tr: Vec<f64> = (0..128 * 128).map(|at| f64::from(u8::from(at % 129 == 0))).collect();
    let psi: Vec<f64> = (0..128).map(|at| 3.0 / f64::from(1 + at)).collect();
    let zeros = [0.0; 256];
    let transform = npz(&[
        ("mean1", &[256], &zeros),
        ("mean2", &[128], &zeros[..128]),
        ("lda", &[256, 128], &lda),
    ]);
    fs::write(folder.join("plda/xvec_transform.npz"), transform).unwrap();
    let plda =
        npz(&[("mu", &[128], &zeros[..128]), ("tr", &[128, 128], &tr), ("psi", &[128], &psi)]);
    fs::write(folder.join("plda/plda.npz"), plda).unwrap();
    Folder(folder)
}

fn named(store: &ModelStore, folder: &Folder) -> Diarizer {
    Diarizer::at(store.clone()).model(folder.0.to_str().unwrap())
}

fn with(clustering: Clustering) -> Diarization {
    Diarization { clustering, ..Diarization::new() }
}

#[test]
fn a_folder_laid_out_as_community_1_tells_turns() {
    let (Some(store), Some(samples)) = (store(), sample()) else { return };
    let folder = model(&store, "community");
    let diarizer = named(&store, &folder);
    diarizer.load(|_| {}).unwrap();
    let audio = || Audio::from_samples(samples.clone(), 16_000).unwrap();
    // The voices of a network made by formula tell nobody apart, but speech is found all the same.
    let duration = |transcript: &Transcript| {
        transcript.turns.iter().map(|turn| turn.end - turn.start).sum::<f64>()
    };
    for options in [Diarization::new(), with(Clustering::Vbx), with(Clustering::Average)] {
        let transcript = diarizer.turns(audio(), &options).unwrap();
        assert!(!transcript.speakers.is_empty());
        assert!(duration(&transcript) > 15.0, "{:?}", transcript.turns);
        let voices = transcript.speaker_embeddings.values();
        assert!(voices.into_iter().all(|voice| voice.len() == 256));
    }
    let two = diarizer.turns(audio(), &Diarization::new().speakers(2..=2)).unwrap();
    assert_eq!(two.speakers.len(), 2);
    // Less than a window has no voice to start from.
    let clip = Audio::from_samples(samples[160_000..190_000].to_vec(), 16_000).unwrap();
    assert!(diarizer.turns(clip, &Diarization::new()).unwrap().speakers.len() <= 1);
}

#[test]
fn what_a_folder_lacks_is_named_with_where_it_was_looked_for() {
    let Some(store) = store() else { return };
    let folder = model(&store, "parts");
    fs::remove_file(folder.0.join("plda/plda.npz")).unwrap();
    let error = named(&store, &folder).load(|_| {}).unwrap_err();
    assert!(matches!(error, crate::Error::Model { .. }));
    let expected = format!("has no `plda/plda.npz` in {}", folder.0.display());
    assert!(error.to_string().contains(&expected), "{error}");
    let bare = Folder(folder.0.join("plda"));
    let error = named(&store, &bare).load(|_| {}).unwrap_err().to_string();
    assert!(error.contains("has no `segmentation`"), "{error}");
}

#[test]
fn a_model_that_does_something_else_is_refused_before_it_is_asked_for() {
    let store = ModelStore::at("nowhere").offline(true);
    let load = |name: &str| Diarizer::at(store.clone()).model(name).load(|_| {}).unwrap_err();
    let error = load("base").to_string();
    assert!(
        error.starts_with("option `diarization_model` is `base`, expected campplus"),
        "{error}"
    );
    assert!(load("community-1").to_string().contains("`community-1`: is not in nowhere"));
}

#[test]
fn vbx_without_a_plda_says_what_has_one() {
    let Some(store) = store().filter(|store| store.path("campplus").is_ok()) else { return };
    let silence = Audio::from_samples(vec![0.0; 16_000], 16_000).unwrap();
    let error = Diarizer::at(store).turns(silence, &with(Clustering::Vbx)).unwrap_err().to_string();
    assert!(error.starts_with("option `clustering` is vbx, expected auto, average"), "{error}");
    assert!(error.contains("`community-1`"), "{error}");
}
