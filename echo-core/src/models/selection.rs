//! Which files of a repository are the model.
//!
//! Repositories hold the same weights in several formats, and pictures and logs besides. One format
//! is taken, and what belongs to it; or all parts of a diarization model.

use super::cache;
use super::diarization;
use super::failure::Failure;
use super::hub::RemoteFile;

/// Small files that go with weights of any format.
const COMPANIONS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocabulary.json",
    "vocabulary.txt",
];

/// Longest companion that is taken.
const MAX_COMPANION_BYTES: u64 = 32 << 20;

/// The files to download: `wanted` alone if it is named, else all parts of a diarization model, else
/// `weights`, or the weights found, and the small files that go with them, unless the parts were what
/// is wanted.
pub(crate) fn choose(
    files: &[RemoteFile],
    weights: Option<&str>,
    wanted: Option<&str>,
    wants_parts: bool,
) -> Result<Vec<RemoteFile>, Failure> {
    let find = |path: &str| files.iter().find(|file| file.path == path).cloned();
    let missing = |path: &str| Failure::Wrong(format!("has no file {path}"));
    if let Some(wanted) = wanted {
        return Ok(vec![find(wanted).ok_or_else(|| missing(wanted))?]);
    }
    let parts: Vec<RemoteFile> = diarization::FILES.into_iter().filter_map(find).collect();
    if weights.is_none() && parts.len() == diarization::FILES.len() {
        return Ok(parts);
    }
    if wants_parts
        && weights.is_none()
        && let Some(part) = diarization::FILES.iter().find(|part| find(part).is_none())
    {
        return Err(Failure::Wrong(format!("has no `{part}`; {}", diarization::layout())));
    }
    let mut chosen = match weights {
        Some(weights) => vec![find(weights).ok_or_else(|| missing(weights))?],
        None => find_weights(files)?,
    };
    for companion in COMPANIONS {
        let is_small =
            |file: &RemoteFile| file.size_bytes.is_none_or(|size| size <= MAX_COMPANION_BYTES);
        chosen.extend(find(companion).filter(is_small));
    }
    if !chosen
        .iter()
        .any(|file| matches!(&*file.path, "tokenizer.json" | "vocabulary.json" | "vocabulary.txt"))
    {
        chosen.extend(find("vocab.json"));
    }
    Ok(chosen)
}

fn find_weights(files: &[RemoteFile]) -> Result<Vec<RemoteFile>, Failure> {
    let plain: Vec<&RemoteFile> = files.iter().filter(|file| cache::is_plain(&file.path)).collect();
    for (whole, index, prefix, suffix) in [
        ("model.safetensors", "model.safetensors.index.json", "model-", ".safetensors"),
        ("model.bin", "", "", ""),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-", ".bin"),
    ] {
        if let Some(file) = plain.iter().find(|file| file.path == whole) {
            return Ok(vec![(*file).clone()]);
        }
        if let Some(index) = plain.iter().find(|file| file.path == index) {
            let is_shard =
                |file: &&&RemoteFile| file.path.starts_with(prefix) && file.path.ends_with(suffix);
            let shards = plain.iter().filter(is_shard).map(|file| (*file).clone());
            return Ok(std::iter::once((*index).clone()).chain(shards).collect());
        }
    }
    let is_weights = |file: &&&RemoteFile| {
        [".gguf", ".safetensors", ".bin", ".pt"].iter().any(|suffix| file.path.ends_with(suffix))
    };
    let found: Vec<&&RemoteFile> = plain.iter().filter(is_weights).collect();
    match found[..] {
        [only] => Ok(vec![(*only).clone()]),
        [] => Err(Failure::Wrong("has no weights in a known format".to_owned())),
        _ => {
            let names: Vec<_> = found.iter().take(8).map(|file| file.path.as_str()).collect();
            let names = names.join(", ");
            let count = found.len();
            Err(Failure::Wrong(format!(
                "has {count} checkpoints; name one, as owner/name/FILE: {names}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str], weights: Option<&str>, wanted: Option<&str>) -> Vec<String> {
        let file =
            |path: &&str| RemoteFile { path: (*path).to_owned(), size_bytes: Some(9), hash: None };
        let files: Vec<RemoteFile> = paths.iter().map(file).collect();
        match choose(&files, weights, wanted, false) {
            Ok(files) => files.into_iter().map(|file| file.path).collect(),
            Err(failure) => vec![format!("{failure:?}")],
        }
    }

    #[test]
    fn one_format_is_taken_with_what_belongs_to_it() {
        let openai = [
            "README.md",
            "model.safetensors",
            "pytorch_model.bin",
            "flax_model.msgpack",
            "config.json",
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "model.fp32-00001-of-00002.safetensors",
        ];
        assert_eq!(
            names(&openai, None, None),
            ["model.safetensors", "config.json", "tokenizer.json"]
        );
        assert_eq!(names(&openai, None, Some("vocab.json")), ["vocab.json"]);
        let systran = ["model.bin", "config.json", "vocabulary.txt", "tokenizer.json"];
        assert_eq!(names(&systran, Some("model.bin"), None).len(), 4);
        let sharded = [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "config.json",
            "vocab.json",
        ];
        assert_eq!(names(&sharded, None, None).len(), 5);
        let community = [
            "README.md",
            "config.yaml",
            "plda/plda.npz",
            "plda/xvec_transform.npz",
            "embedding/pytorch_model.bin",
            "segmentation/pytorch_model.bin",
        ];
        assert_eq!(names(&community, None, None), diarization::FILES);
        let ggml = ["ggml-tiny.bin", "ggml-base.bin"];
        assert!(names(&ggml, None, None)[0].contains("has 2 checkpoints; name one"));
        assert_eq!(names(&ggml, None, Some("ggml-base.bin")), ["ggml-base.bin"]);
        assert!(names(&["README.md"], None, None)[0].contains("no weights"));
        assert!(names(&["../model.bin"], None, None)[0].contains("no weights"));
    }
}
