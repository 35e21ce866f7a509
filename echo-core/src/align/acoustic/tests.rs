//! Aligners in folders, on tiny networks of random weights: what they load, and that times fit.

use std::path::PathBuf;

use super::*;
use crate::align::interpolate;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/alignment").join(file)
}

const LETTERS: &str = "|abcdefghijklmnopqrstuvwxyz";

/// A folder with a network and a table of labels.
fn folder(flavour: &str, name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("echo-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["model.safetensors", "config.json"] {
        std::fs::copy(data(flavour).join(file), folder.join(file)).unwrap();
    }
    let mut table: serde_json::Map<String, serde_json::Value> =
        LETTERS.chars().zip(4..).map(|(letter, label)| (letter.into(), label.into())).collect();
    table.insert("<pad>".into(), 0.into());
    std::fs::write(folder.join("vocab.json"), serde_json::to_vec(&table).unwrap()).unwrap();
    folder
}

fn segments() -> Vec<Segment> {
    let first = Segment::new(0.5, 1.4, "One, two three-and 4");
    let second = Segment::new(1.5, 2.6, "five ♪ six 1999.");
    vec![first, second]
}

fn sound(seconds: f64) -> Vec<f32> {
    let n = (seconds * SAMPLE_RATE_HZ) as usize;
    (0..n).map(|at| ((at * at % 997) as f32 / 997.0 - 0.5) * 0.2).collect()
}

#[test]
fn every_word_is_placed_in_order() {
    for flavour in ["wav2vec2_tiny_base", "wav2vec2_tiny_xlsr"] {
        let folder = folder(flavour, &format!("order-{flavour}"));
        let aligner = Acoustic::load("tiny", &folder, 2).unwrap();
        let mut segments = segments();
        let english = Language::ENGLISH;
        let cancel = CancelToken::new();
        aligner.align(&sound(3.0), &mut segments, english, 0.0, &cancel).unwrap();
        interpolate::complete(&mut segments, english, 0.0);
        let words: Vec<&Word> = segments.iter().flat_map(|segment| &segment.words).collect();
        let texts: Vec<&str> = words.iter().map(|word| &*word.text).collect();
        assert_eq!(texts, ["One,", "two", "three-and", "4", "five", "♪", "six", "1999."]);
        let aligned = |word: &&&Word| word.timing == Timing::Aligned && word.probability.is_some();
        assert_eq!(words.iter().filter(aligned).count(), 7, "all but the notes");
        assert_eq!(words[5].timing, Timing::Interpolated);
        let mut now = 0.0;
        for word in words {
            assert!(now <= word.start && word.start <= word.end && word.end <= 3.0);
            now = word.end;
        }
        for segment in &segments {
            assert_eq!(segment.start, segment.words[0].start);
            assert_eq!(segment.end, segment.words.last().unwrap().end);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn too_much_text_for_the_sound_is_spread_over_its_segment() {
    let folder = folder("wav2vec2_tiny_base", "short");
    let aligner = Acoustic::load("tiny", &folder, 1).unwrap();
    for seconds in [0.0, 0.01, 0.2] {
        let mut segments = vec![Segment::new(0.0, 0.2, "far too many words for so little sound")];
        let english = Language::ENGLISH;
        let cancel = CancelToken::new();
        aligner.align(&sound(seconds), &mut segments, english, 0.0, &cancel).unwrap();
        interpolate::complete(&mut segments, english, 0.0);
        assert_eq!(segments[0].words.len(), 8);
        assert!(segments[0].words.iter().all(|word| word.timing == Timing::Interpolated));
        let mut now = 0.0;
        for word in &segments[0].words {
            assert!(now <= word.start && word.start < word.end && word.end <= 0.2, "{word:?}");
            now = word.end;
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn sound_that_is_no_number_spoils_nothing() {
    let folder = folder("wav2vec2_tiny_xlsr", "nan");
    let aligner = Acoustic::load("tiny", &folder, 1).unwrap();
    let mut samples = sound(3.0);
    samples[20_000] = f32::NAN;
    samples[20_001] = f32::INFINITY;
    let mut segments = segments();
    let cancel = CancelToken::new();
    aligner.align(&samples, &mut segments, Language::ENGLISH, 0.0, &cancel).unwrap();
    assert_eq!(segments[0].words[0].timing, Timing::Aligned);
    cancel.cancel();
    let outcome = aligner.align(&samples, &mut segments, Language::ENGLISH, 0.0, &cancel);
    assert!(matches!(outcome, Err(Error::Cancelled)));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn wrong_models_are_refused_with_the_reason() {
    let refused = |path: &Path| Acoustic::load("wrong", path, 1).unwrap_err().to_string();
    let whisper = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-random");
    assert!(refused(&whisper).contains("CTC head"), "{}", refused(&whisper));
    assert!(refused(Path::new("/nowhere")).contains("/nowhere"));
    let folder = folder("wav2vec2_tiny_base", "acoustic-wrong");
    std::fs::write(folder.join("vocab.json"), b"{\"<pad>\": 0, \"|\": 1}").unwrap();
    assert!(refused(&folder).contains("no letters"));
    std::fs::remove_file(folder.join("vocab.json")).unwrap();
    assert!(refused(&folder).contains("vocab.json"));
    std::fs::remove_dir_all(folder).unwrap();
}
