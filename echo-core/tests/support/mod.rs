//! What the tests on real weights and recordings share.
#![allow(dead_code, reason = "each test program uses its own part")]
#![expect(clippy::print_stderr, reason = "a test that goes without something says so")]

use std::path::PathBuf;
use std::sync::OnceLock;

use echo_core::{ComputeType, Device, ModelStore, Transcriber};

/// The bundled dialogue.
pub(crate) fn dialogue() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/media/dialogue.opus")
}

/// What is said in it.
pub(crate) const DIALOGUE: &str = "good morning and welcome to the show today we talk about bees \
    thank you i have kept bees for twenty years on a roof in the middle of the city \
    on a roof do they find enough flowers there \
    more than in the country there are gardens parks and trees along every street \
    and how much honey do you take in a good summer \
    about thirty kilograms from each hive the rest stays with the bees for the winter \
    thank you very much for your visit";

/// A transcriber on real `base` weights, if they are at hand, in f32.
pub(crate) fn base() -> Option<&'static Transcriber> {
    static BASE: OnceLock<Option<Transcriber>> = OnceLock::new();
    BASE.get_or_init(|| {
        let transcriber = load_base(ComputeType::F32);
        if transcriber.is_none() {
            eprintln!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
        }
        transcriber
    })
    .as_ref()
}

/// Loads `base` anew.
pub(crate) fn load_base(compute_type: ComputeType) -> Option<Transcriber> {
    let store = ModelStore::at(std::env::var_os("ECHO_TEST_STORE")?).offline(true);
    let builder = Transcriber::builder().model("base").model_store(store).device(Device::Cpu);
    builder.compute_type(compute_type).build().ok()
}

/// A folder of recordings with references, if one is named.
pub(crate) fn recordings() -> Option<PathBuf> {
    let folder = std::env::var_os("ECHO_TEST_AUDIO").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set ECHO_TEST_AUDIO to a folder of recordings with a manifest.json");
    }
    folder
}

/// Lower-case words with common numerals spelled as digits.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(|word| match word {
            "twenty" => "20".to_owned(),
            "thirty" => "30".to_owned(),
            word => word.to_owned(),
        })
        .collect()
}

/// Substitutions, deletions and insertions between two word sequences.
pub(crate) fn edits(reference: &[String], hypothesis: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=hypothesis.len()).collect();
    for (index, word) in reference.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in hypothesis.iter().enumerate() {
            let substituted = diagonal + usize::from(word != other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[hypothesis.len()]
}
