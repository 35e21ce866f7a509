//! What a transcriber does whatever the text: on a network of random weights, with OpenAI's words.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::audio::Audio;
use crate::options::{Diarization, VadModel, VadOptions};
use crate::progress::Progress;

/// A folder with a model and a store, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("echo-{test}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("model")).unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-random");
        std::fs::copy(data.join("config.json"), path.join("model/config.json")).unwrap();
        let device = candle_core::Device::Cpu;
        let mut tensors =
            candle_core::safetensors::load(data.join("model.safetensors"), &device).unwrap();
        // As many tokens as `base` has: the tokenizer is then the one compiled in.
        let name = "model.decoder.embed_tokens.weight";
        let rows = candle_core::Tensor::zeros((51_865, 64), tensors[name].dtype(), &device);
        tensors.insert(name.to_owned(), rows.unwrap());
        candle_core::safetensors::save(&tensors, path.join("model/model.safetensors")).unwrap();
        Self(path)
    }

    fn store(&self) -> ModelStore {
        ModelStore::at(self.0.join("models"))
    }

    fn builder(&self, store: ModelStore) -> Builder {
        let model = self.0.join("model").display().to_string();
        Transcriber::builder().model(model).model_store(store).device(Device::Cpu).threads(1)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn silence() -> Audio {
    Audio::from_samples(vec![0.0; 1600], 16_000).unwrap()
}

#[cfg(unix)]
#[test]
fn a_token_that_stopped_no_loading_does_not_stop_the_networks_of_later_runs() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new("later-networks");
    let python = folder.0.join("python");
    // Asked for the first time, it fails; then it goes on until it is stopped.
    let script =
        "[ -e \"$0.ran\" ] && exec sleep 600\n: >\"$0.ran\"\necho nothing here >&2\nexit 1";
    std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut store = folder.store();
    store.pythons = vec![python];
    let loading = CancelToken::new();
    let transcriber = folder.builder(store).cancel_with(loading.clone()).build().unwrap();
    loading.cancel();
    let mut options = TranscribeOptions::default();
    options.vad = VadOptions { model: VadModel::Pyannote, ..options.vad };
    let run = |cancel: CancelToken| {
        let request = transcriber.request(silence()).options(options.clone());
        request.cancel_with(cancel).run().unwrap_err()
    };
    let error = run(CancelToken::new()).to_string();
    assert!(error.contains("nothing here"), "it was asked for, but `{error}`");

    let stopped = CancelToken::new();
    let later = stopped.clone();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        later.cancel();
    });
    let error = run(stopped);
    assert!(matches!(error, Error::Cancelled), "the run's token stops what it downloads: {error}");
    stopping.join().unwrap();
}

#[test]
fn what_diarization_lacks_is_known_before_anything_is_done() {
    let folder = Folder::new("lacking");
    let transcriber = folder.builder(folder.store().offline(true)).build().unwrap();
    let mut reports: Vec<Progress> = Vec::new();
    let options = TranscribeOptions { diarize: Some(Diarization::new()), ..Default::default() };
    let request = transcriber.request(silence()).options(options);
    let error = request.on_progress(|report| reports.push(report)).run().unwrap_err();
    assert!(error.to_string().contains("segmentation-3.0"), "{error}");
    assert_eq!(reports, []);
}

#[test]
fn a_model_that_does_something_else_is_refused_before_anything_is_asked_for() {
    let folder = Folder::new("other-use");
    let path = folder.0.join("model").display().to_string();
    // Offline, the model itself would be what is missing.
    let refusal = |change: &dyn Fn(Builder) -> Builder| {
        let builder = Transcriber::builder().model_store(folder.store().offline(true));
        change(builder.model("base")).build().unwrap_err().to_string()
    };
    for (name, expected) in [
        ("base", "option `diarization_model` is `base`, expected campplus, community-1, or"),
        ("segmentation-3.0", "option `diarization_model` is `segmentation-3.0`, expected campplus"),
        ("owner/name/file.bin", "option `diarization_model` is `owner/name/file.bin`, expected"),
        ("comunity-1", "`comunity-1`: is no name of the catalogue"),
        (&path, "has no `segmentation` in"),
    ] {
        let error = refusal(&|builder| builder.diarization_model(name));
        assert!(error.contains(expected), "{error}");
        let error = refusal(&|builder| builder.diarization_model(name).with_diarizer());
        assert!(error.contains(expected), "{error}");
    }
    let error = refusal(&|builder| builder.diarization_model("owner/name").with_diarizer());
    assert!(error.contains("`owner/name`: is not in"), "{error}");
    for (name, expected) in [
        ("base", "option `aligner` is `base`, expected a hub repository, a folder or a file of"),
        ("wav2vec", "`wav2vec`: is no name of the catalogue"),
    ] {
        let error = refusal(&|builder| builder.aligner(name));
        assert!(error.contains(expected), "{error}");
    }
    assert!(refusal(&|builder| builder.diarization_model("cam++")).contains("`base`: is not in"));
}

/// How many of endless silent sources are taken for the first result, and that result.
fn taken_for_one(options: TranscribeOptions, cancel: &CancelToken) -> (usize, Result<Transcript>) {
    let folder = Folder::new(&format!("many-{}", cancel.is_cancelled()));
    let store = folder.store().offline(true);
    let transcriber = folder.builder(store).batch_size(2).build().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let sources = std::iter::repeat_with(move || {
        assert!(count.fetch_add(1, Ordering::Relaxed) < 1000, "there is no end");
        silence()
    });
    let mut results = transcriber.transcribe_many_until(sources, options, cancel).unwrap();
    let (index, result) = results.next().unwrap();
    assert_eq!(index, 0);
    (taken.load(Ordering::Relaxed), result)
}

#[test]
fn a_cancelled_batch_takes_no_more_sources() {
    let cancel = CancelToken::new();
    cancel.cancel();
    let (taken, result) = taken_for_one(TranscribeOptions::default(), &cancel);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(taken, 1);
}

#[test]
fn sources_without_speech_do_not_pile_up() {
    let (taken, result) = taken_for_one(TranscribeOptions::default(), &CancelToken::new());
    assert_eq!(result.unwrap().segments.len(), 0);
    assert!(taken <= 8, "{taken} were taken for the first");
}
