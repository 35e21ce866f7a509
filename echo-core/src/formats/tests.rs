//! Properties of writers and readers together, on seeded random transcripts and broken files.

use std::path::PathBuf;

use unicode_width::UnicodeWidthStr;

use super::*;
use crate::transcript::{Decoding, Timing, Word};

/// `SplitMix64`: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % limit as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// In whole milliseconds, as the schema has it.
    fn later(&mut self, now: f64, most_ms: usize) -> f64 {
        ((now * 1000.0).round() + self.below(most_ms) as f64) / 1000.0
    }

    fn transcript(&mut self) -> Transcript {
        const WORDS: &[&str] = &[
            "the",
            "Müller's",
            "42",
            "well-known,",
            "今日は",
            "ですね。",
            "a<b",
            "&amp;",
            "x&y",
            "Ende.",
            "\"so\"",
            "안녕",
            "สวัสดี",
            "é",
            "{sic}",
            "->",
            "[Music]",
            "WEBVTT",
            "NOTE",
            "Donaudampfschifffahrtsgesellschaftskapitän",
            "👩‍👩‍👧",
            "…",
        ];
        let speakers = ["SPEAKER_00", "Anna & Bo"];
        let mut now = 0.0;
        let mut segments = Vec::new();
        for _ in 0..self.below(6) {
            let start = self.later(now, 5000);
            let mut words = Vec::new();
            now = start;
            for _ in 0..1 + self.below(20) {
                let from = self.later(now, 3000);
                now = self.later(from, 900);
                let mut word = Word::new(from, now, self.pick(WORDS));
                word.probability = Some(self.below(1000) as f32 / 1000.0);
                word.timing = Timing::Aligned;
                words.push(word);
            }
            let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            let mut segment = Segment::new(start, now, texts.join(" "));
            if self.below(3) > 0 {
                let speaker = SpeakerId(self.pick(&speakers).to_string());
                words.iter_mut().for_each(|word| word.speaker = Some(speaker.clone()));
                segment.speaker = Some(speaker);
            }
            if self.below(3) > 0 {
                segment.words = words;
                segment.decoding = Some(Decoding {
                    tokens: vec![50364, 7],
                    avg_logprob: -(self.below(1000) as f32) / 777.0,
                    ..Decoding::default()
                });
            }
            segments.push(segment);
        }
        assemble(segments)
    }
}

fn written(transcript: &Transcript, format: impl Format) -> String {
    let mut bytes = Vec::new();
    transcript.write(format, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What subtitles keep of a transcript.
fn shown(transcript: &Transcript) -> Vec<(u64, u64, String, Option<SpeakerId>)> {
    let ms = clock::milliseconds;
    let segments = transcript.segments.iter();
    segments.map(|s| (ms(s.start), ms(s.end), s.text.clone(), s.speaker.clone())).collect()
}

#[test]
fn json_brings_back_the_same_transcript() {
    let mut random = Random(1);
    for round in 0..500 {
        let transcript = random.transcript();
        let json = written(&transcript, Json::default().pretty(round % 2 == 0));
        assert_eq!(Transcript::from_json(&json).unwrap(), transcript);
    }
}

#[test]
fn subtitles_bring_back_texts_times_and_speakers() {
    let mut random = Random(2);
    for _ in 0..500 {
        let transcript = random.transcript();
        let srt = written(&transcript, Srt::default());
        assert_eq!(shown(&Transcript::from_srt(&srt).unwrap()), shown(&transcript), "{srt}");
        // Where a line broke cannot be told from where a space was, in languages that have none.
        let unspaced = |transcript: &Transcript| {
            let mut shown = shown(transcript);
            shown.iter_mut().for_each(|cue| cue.2 = cue.2.replace(' ', ""));
            shown
        };
        let lines = written(&transcript, Srt::default().max_line_chars(20));
        let back = Transcript::from_srt(&lines).unwrap();
        assert_eq!(unspaced(&back), unspaced(&transcript), "{lines}");
        // A cue of no length is a millisecond long in WebVTT, which has no empty cues.
        let mut transcript = transcript;
        for segment in &mut transcript.segments {
            segment.end = segment.end.max(segment.start + 0.001);
        }
        for has_stamps in [false, true] {
            let vtt = written(&transcript, Vtt::default().word_timestamps(has_stamps));
            assert_eq!(shown(&Transcript::from_vtt(&vtt).unwrap()), shown(&transcript), "{vtt}");
        }
    }
}

#[test]
fn whisperx_json_brings_back_words_and_speakers() {
    let mut random = Random(3);
    for _ in 0..300 {
        let transcript = random.transcript();
        let json = written(&transcript, WhisperxJson::default());
        let back = Transcript::from_json(&json).unwrap();
        assert_eq!(shown(&back), shown(&transcript));
        assert!(back.words().eq(transcript.words()), "{json}");
    }
}

#[test]
fn timestamps_in_webvtt_bring_back_starts_of_words() {
    let mut first = Segment::new(1.0, 3.0, "One two, three.");
    first.words = vec![
        Word::new(1.0, 1.5, "One"),
        Word::new(1.75, 2.0, "two,"),
        Word::new(2.0, 2.5, "three."),
    ];
    let vtt = written(&assemble(vec![first]), Vtt::default().word_timestamps(true));
    assert!(vtt.ends_with("<c>One</c> <00:00:01.750><c>two,</c> <00:00:02.000><c>three.</c>\n\n"));
    let back = Transcript::from_vtt(&vtt).unwrap();
    let words: Vec<(f64, &str)> = back.words().map(|w| (w.start, w.text.as_str())).collect();
    assert_eq!(words, [(1.0, "One"), (1.75, "two,"), (2.0, "three.")]);
}

#[test]
fn cues_keep_every_limit_and_every_character() {
    let mut random = Random(4);
    for _ in 0..1000 {
        let transcript = random.transcript();
        let options = CueOptions {
            max_line_chars: [None, Some(1 + random.below(50))][random.below(2)],
            max_lines: [None, Some(1 + random.below(3))][random.below(2)],
            highlight_words: random.below(2) == 0,
            ..CueOptions::default()
        };
        for segment in &transcript.segments {
            let cues = cues::cues(segment, &options);
            let mut now = clock::milliseconds(segment.start);
            let mut text = String::new();
            for cue in &cues {
                assert!(now <= cue.start && cue.start <= cue.end, "{cues:?}");
                now = cue.end;
                let most_lines = options.max_lines.unwrap_or(usize::MAX);
                assert!(cue.lines.len() <= most_lines, "{options:?} {cue:?}");
                for line in cue.render(|span| span.text.clone()).lines() {
                    // One cluster may be wider than the line itself.
                    let fits = line.width() <= options.most_columns().max(2);
                    assert!(fits, "{options:?} {line}");
                    text.push_str(&line.replace(' ', ""));
                }
                let frames = cue.frames(options.highlight_words);
                assert_eq!((frames[0].0, frames[frames.len() - 1].1), (cue.start, cue.end));
                assert!(frames.windows(2).all(|pair| pair[0].1 == pair[1].0));
            }
            assert!(now <= clock::milliseconds(segment.end));
            assert_eq!(text, segment.text.replace(' ', ""));
        }
    }
}

#[test]
fn a_cue_ends_where_the_speaker_changes_or_pauses() {
    let mut segment = Segment::new(0.0, 9.0, "Are you there? Yes. And now?");
    let times = [(0.0, 0.3), (0.3, 0.5), (0.5, 1.0), (1.2, 1.6), (8.0, 8.4), (8.4, 9.0)];
    for ((start, end), text) in times.into_iter().zip(segment.text.split(' ')) {
        let mut word = Word::new(start, end, text);
        word.speaker = Some(SpeakerId(if text == "Yes." { "B" } else { "A" }.into()));
        segment.words.push(word);
    }
    let cues = cues::cues(&segment, &CueOptions::default());
    let found: Vec<(u64, u64, &str)> =
        cues.iter().map(|cue| (cue.start, cue.end, cue.speaker.unwrap().0.as_str())).collect();
    assert_eq!(found, [(0, 1000, "A"), (1200, 1600, "B"), (8000, 9000, "A")]);
}

#[test]
fn text_without_words_shares_the_time_by_width() {
    let segment = Segment::new(10.0, 20.0, "aaaa bbbb cccc dddd eeee");
    let options =
        CueOptions { max_line_chars: Some(9), max_lines: Some(1), ..CueOptions::default() };
    let cues = cues::cues(&segment, &options);
    let times: Vec<(u64, u64)> = cues.iter().map(|cue| (cue.start, cue.end)).collect();
    assert_eq!(times.len(), 3);
    assert!(times.iter().all(|(start, end)| start % 2000 == 0 && end % 2000 == 0), "{times:?}");
    assert_eq!((times[0].0, times[2].1), (10_000, 20_000));
}

#[test]
fn words_that_the_text_lacks_do_no_harm() {
    let mut segment = Segment::new(0.0, 4.0, "one two three four");
    segment.words = ["uno", "two", "tres", "quattro", "four", "five", ""]
        .iter()
        .enumerate()
        .map(|(at, text)| Word::new(at as f64 * 0.5, at as f64 * 0.5 + 0.4, *text))
        .collect();
    let options =
        CueOptions { max_line_chars: Some(5), max_lines: Some(1), ..CueOptions::default() };
    let texts: Vec<String> = cues::cues(&segment, &options)
        .iter()
        .map(|cue| cue.render(|span| span.text.clone()))
        .collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
}

#[test]
fn ten_thousand_broken_files_end_no_reader() {
    type Reader = fn(&str) -> Result<Transcript>;
    type Writer = fn(&Transcript) -> String;
    let readers: [(Reader, Writer); 5] = [
        (Transcript::from_srt, |t| written(t, Srt::default().highlight_words(true))),
        (Transcript::from_vtt, |t| written(t, Vtt::default().word_timestamps(true))),
        (Transcript::from_vtt, |t| format!("NOTE x\n\n{}", written(t, Vtt::default()))),
        (Transcript::from_json, |t| written(t, Json::default())),
        (Transcript::from_json, |t| written(t, WhisperxJson::default())),
    ];
    let mut random = Random(5);
    for (read, write) in readers {
        let mut read_anyway = 0;
        for _ in 0..10_000 {
            let mut bytes = write(&random.transcript()).into_bytes();
            for _ in 0..1 + random.below(8) {
                mutate(&mut bytes, &mut random);
            }
            let Ok(transcript) = read(&String::from_utf8_lossy(&bytes)) else { continue };
            read_anyway += 1;
            assert!(transcript.segments.iter().all(|s| s.start <= s.end && s.start >= 0.0));
            assert!(transcript.words().all(|w| w.start <= w.end && w.start >= 0.0));
            // What was read can be written, whatever it is.
            for format in OutputFormat::ALL {
                written(&transcript, format.writer_with(CueOptions::default()));
            }
        }
        assert!(read_anyway < 10_000);
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const PIECES: &[&[u8]] = &[
        b"\n\n",
        b"-->",
        b"00:00:01,000 --> 00:00:00,000\n",
        b"<",
        b"</",
        b"&#",
        b";",
        b"\0",
        b"\r",
        b"99999999999:00:00,0",
        b"{\\",
        b"[",
        b"]: ",
        b"1e999",
        b"-1",
        b"\"",
        b"{",
        b"null",
        b"<v ",
        b"<00:00:00.000>",
        b"\xff",
        "\u{2028}".as_bytes(),
        b"NOTE\n",
        b"WEBVTT",
        b"3\n",
    ];
    let at = random.below(bytes.len() + 1);
    let to = (at + random.below(20)).min(bytes.len());
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..to)),
        2 => drop(bytes.splice(at..at, random.pick(PIECES).iter().copied())),
        3 => {
            let copy = bytes[at..to].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        _ if at < bytes.len() => bytes[at] = random.below(256) as u8,
        _ => {}
    }
}

/// A folder of its own for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("echo-formats-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_saved_file_is_loaded_by_its_content() {
    let folder = Folder::new("save");
    let transcript = Random(6).transcript();
    for name in ["a.srt", "a.vtt", "a.json", "a.whisperx.json"] {
        let path = folder.0.join(name);
        transcript.save(&path).unwrap();
        assert_eq!(shown(&Transcript::load(&path).unwrap()), shown(&transcript), "{name}");
        let unnamed = folder.0.join("unnamed");
        std::fs::rename(&path, &unnamed).unwrap();
        assert_eq!(shown(&Transcript::load(&unnamed).unwrap()), shown(&transcript), "{name}");
    }
    assert_eq!(folder.names(), ["unnamed"]);
}

#[test]
fn the_longest_name_a_file_can_have_is_written() {
    let folder = Folder::new("long");
    let name = format!("{}.srt", "a".repeat(251));
    Transcript::new(0.0).save(folder.0.join(&name)).unwrap();
    assert_eq!(folder.names(), [name]);
}

#[test]
fn what_a_killed_process_of_the_same_number_left_is_in_nobodys_way() {
    let folder = Folder::new("left");
    let left = |save: u32| format!(".echo-{}-{save}.part", std::process::id());
    for save in 0..100 {
        std::fs::write(folder.0.join(left(save)), "half").unwrap();
    }
    Transcript::new(0.0).save(folder.0.join("a.srt")).unwrap();
    assert_eq!(folder.names().len(), 101);
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    struct Broken;
    impl Format for Broken {
        fn write(&self, _: &Transcript, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        }
    }
    let folder = Folder::new("fail");
    let path = folder.0.join("a.srt");
    std::fs::write(&path, "old").unwrap();
    let error = Transcript::new(0.0).save_as(&path, Broken).unwrap_err();
    assert!(error.to_string().ends_with("a.srt: disk full"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(folder.names(), ["a.srt"]);
    let elsewhere = folder.0.join("missing/a.srt");
    let error = Transcript::new(0.0).save(elsewhere).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Io);
}
