//! Golden text: one dialogue in every format, whole files, reviewed like code.
//!
//! After a change that is meant, `ECHO_UPDATE_SNAPSHOTS=1` writes them anew; the difference belongs
//! into a commit of its own.

use std::path::Path;

use echo_core::Transcript;
use echo_core::formats::{
    CueOptions, Format, Json, OutputFormat, Srt, Tsv, Txt, Vtt, WhisperxJson,
};

/// The dialogue is itself kept as a snapshot: what is read from JSON is written back unchanged.
fn dialogue() -> Transcript {
    Transcript::load(folder().join("dialogue.json")).expect("the snapshot is a transcript")
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"))
}

fn assert_snapshot(name: &str, format: impl Format) {
    let mut bytes = Vec::new();
    dialogue().write(format, &mut bytes).expect("a vector takes every byte");
    let path = folder().join(name);
    if std::env::var_os("ECHO_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &bytes).expect("the folder of snapshots can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&bytes), expected, "{name}");
}

#[test]
fn json_is_as_documented() {
    assert_snapshot("dialogue.json", Json::default().pretty(true));
    assert_snapshot("dialogue.line.json", Json::default());
}

#[test]
fn whisperx_json_has_the_keys_of_whisperx() {
    assert_snapshot("dialogue.whisperx.json", WhisperxJson::default().pretty(true));
}

#[test]
fn plain_text_and_tables() {
    assert_snapshot("dialogue.txt", Txt);
    assert_snapshot("dialogue.tsv", Tsv);
}

#[test]
fn subtitles_without_options() {
    assert_snapshot("dialogue.srt", Srt::default());
    assert_snapshot("dialogue.vtt", Vtt::default());
}

#[test]
fn subtitles_of_two_short_lines() {
    assert_snapshot("dialogue.short.srt", Srt::default().max_line_chars(24).max_lines(2));
    assert_snapshot("dialogue.short.vtt", Vtt::default().max_line_chars(24).max_lines(2));
}

#[test]
fn subtitles_that_show_the_word_that_is_said() {
    assert_snapshot("dialogue.words.srt", Srt::default().highlight_words(true));
    assert_snapshot("dialogue.words.vtt", Vtt::default().highlight_words(true));
    assert_snapshot("dialogue.stamps.vtt", Vtt::default().word_timestamps(true));
}

#[test]
fn a_writer_from_a_name_writes_the_same() {
    for format in OutputFormat::ALL {
        let (mut by_name, mut by_value) = (Vec::new(), Vec::new());
        let transcript = dialogue();
        transcript.write(format.writer(), &mut by_name).expect("a vector takes every byte");
        let writer = format.writer_with(CueOptions::default());
        transcript.write(&*writer, &mut by_value).expect("a vector takes every byte");
        assert_eq!(by_name, by_value);
    }
}
