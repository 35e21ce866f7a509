//! Every container and codec of the audio test set, against the recording they were all made from.
//!
//! The set is found through `ECHO_TEST_AUDIO`; its `manifest.json` says what each file holds.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests too")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use echo_core::audio::{Audio, AudioOptions, AudioSource, Channels, RawEncoding};
use echo_core::{Error, ErrorKind};
use serde_json::Value;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// The sentence that most files hold, and how long its recording is.
const SENTENCE: &str = "Mr. Quilter";
const SENTENCE_SECONDS: f64 = 5.855;

/// Durations and starts may differ by this much.
const TOLERANCE_SECONDS: f64 = 0.02;

/// Encoder delay, in milliseconds, where the container does not say how long it is: a video player
/// does not cut it either. 1,024 samples of AAC, 481 of MP2, 1,105 of MP3, 256 of AC-3.
const UNTOLD_DELAYS_MS: [(&str, f64); 8] = [
    ("aac_adts.aac", 23.2),
    ("aac_fragmented.mp4", 23.2),
    ("video/h264_aac.flv", 23.2),
    ("video/late_audio_2s.mp4", 1_999.2),
    ("video/mpeg4_mp3.avi", 25.1),
    ("mp2_48k.mp2", 10.0),
    ("mp3_vbr_no_xing.mp3", 25.1),
    ("ac3_48k.ac3", 5.3),
];

/// Files whose duration in the manifest is another thing than the length of their sound.
const DURATIONS: [(&str, f64); 9] = [
    // The picture is longer.
    ("video/h264_aac.flv", 5.898),
    ("video/two_audio_tracks.mkv", 5.878),
    // Guessed from the bit rate of the first frames.
    ("aac_adts.aac", 5.898),
    ("real_sonnet_1.aac", 9.033),
    ("real_amr_wb.amr", 4.06),
    ("mp3_vbr_no_xing.mp3", 5.904),
    ("video/mpeg4_mp3.avi", 5.904),
    // With the encoder's delay, which the file says to cut.
    ("real_jfk_44k.m4a", 11.0),
    ("real_sonnet_1.mp4", 8.995),
];

/// How files begin that cannot be decoded, and the name that the error gives them.
const UNSUPPORTED: [(&[u8], &str); 3] =
    [(b"#!AMR\n\x3c", "AMR"), (b"MAC \x96\x0f", "Monkey's Audio"), (b"\x7f\xfe\x80\x01", "DTS")];

/// Without a header, a file needs a hint.
const HEADERLESS: [&str; 1] = ["raw_s16le_16k.pcm"];

/// Decoders that are not symphonia's, and what they are fed with.
const MUTATED: [&str; 7] = [
    "g722.g722",
    "ogg_speex.spx",
    "real_8_channels.m4a",
    "real_amr_wb.amr",
    "tta.tta",
    "wavpack.wv",
    "wma2.wma",
];

/// See `eight_channels_of_aac_speak_one_after_the_other`, in seconds.
const EIGHT_CHANNEL_CENTRES: [f64; 8] = [0.412, 1.429, 2.311, 5.338, 3.136, 4.153, 6.29, 7.418];

fn test_set() -> Option<PathBuf> {
    let folder = std::env::var_os("ECHO_TEST_AUDIO").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set ECHO_TEST_AUDIO");
    }
    folder
}

/// The entries of the manifest in a folder of the set, by their names there.
fn entries(folder: &str) -> Vec<(String, PathBuf, Value)> {
    let Some(root) = test_set() else { return Vec::new() };
    let manifest = std::fs::read(root.join("manifest.json")).unwrap();
    let manifest: Vec<Value> = serde_json::from_slice(&manifest).unwrap();
    let entries = manifest.into_iter().filter_map(|entry| {
        let file = entry["file"].as_str()?.to_owned();
        let name = file.strip_prefix(folder)?.strip_prefix('/')?.to_owned();
        Some((name, root.join(&file), entry))
    });
    let entries: Vec<_> = entries.collect();
    assert!(!entries.is_empty(), "the manifest has no {folder}");
    entries
}

fn listed<T: Copy>(list: &[(&str, T)], name: &str) -> Option<T> {
    list.iter().find(|(listed, _)| *listed == name).map(|(_, value)| *value)
}

fn recording() -> Option<Audio> {
    Some(Audio::load(test_set()?.join("formats/wav_s16_16k.wav")).unwrap())
}

/// How much later than in the recording the sentence is heard, in milliseconds, and how alike the
/// two are (1: but for loudness the same). The delay is searched around the one expected.
fn delay_ms(recording: &Audio, audio: &Audio, expected_ms: f64) -> (f64, f64) {
    const SEARCH_SAMPLES: i64 = 640;
    let around = (expected_ms * SAMPLE_RATE_HZ / 1_000.0) as i64;
    // Two seconds of speech.
    let reference = &recording.samples()[24_000..56_000];
    let mut best = (0, 0.0);
    for delay in around - SEARCH_SAMPLES..=around + SEARCH_SAMPLES {
        let start = usize::try_from(24_000 + delay).unwrap_or(0);
        let Some(heard) = audio.samples().get(start..start + reference.len()) else { continue };
        let scale = (dot(reference, reference) * dot(heard, heard)).sqrt();
        let likeness = dot(reference, heard) / scale.max(1e-9);
        if likeness > best.1 {
            best = (delay, likeness);
        }
    }
    (best.0 as f64 * 1_000.0 / SAMPLE_RATE_HZ, f64::from(best.1))
}

/// Sixteen sums at once, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

#[test]
fn every_format_holds_the_same_sentence_at_the_same_time() {
    let Some(recording) = recording() else { return };
    let mut failures = Vec::new();
    for (name, path, entry) in entries("formats") {
        if HEADERLESS.contains(&name.as_str()) {
            continue;
        }
        let audio = match Audio::load(&path) {
            Ok(audio) => audio,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let duration = audio.duration();
        let told = entry["seconds"].as_f64().unwrap();
        let is_sentence = entry["reference"].as_str().is_some_and(|r| r.starts_with(SENTENCE));
        let mut allowed = vec![told];
        allowed.extend(listed(&DURATIONS, &name));
        // The manifest rounds, and for lossy codecs counts the encoder's padding.
        allowed.extend(is_sentence.then_some(SENTENCE_SECONDS));
        if !allowed.iter().any(|seconds| (seconds - duration).abs() <= TOLERANCE_SECONDS) {
            failures.push(format!("{name}: {duration:.3} s, expected {told}"));
        }
        if !is_sentence {
            continue;
        }
        let expected_ms = listed(&UNTOLD_DELAYS_MS, &name).unwrap_or(0.0);
        let (delay_ms, likeness) = delay_ms(&recording, &audio, expected_ms);
        // Telephone bandwidth and 24 kbit/s leave 0.87 of the waveform, Speex leaves 0.80: it keeps
        // what is heard, and the reference decoder does not come closer.
        let least = if name == "ogg_speex.spx" { 0.79 } else { 0.85 };
        if (delay_ms - expected_ms).abs() > 5.0 || likeness < least {
            failures.push(format!("{name}: {delay_ms:.1} ms late, likeness {likeness:.3}"));
        }
        let is_antiphase = name == "wav_stereo_antiphase.wav";
        if audio.warnings().is_empty() == is_antiphase {
            failures.push(format!("{name}: warnings {:?}", audio.warnings()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn lossless_formats_are_sample_for_sample_the_recording() {
    let Some(recording) = recording() else { return };
    let folder = test_set().unwrap().join("formats");
    for name in [
        "aifc_sowt.aifc",
        "alac_m4a.m4a",
        "caf_alac.caf",
        "flac_in_ogg.oga",
        "mka_flac.mka",
        "rf64.wav",
        "tta.tta",
        "w64.w64",
        "wav_chunks_odd.wav",
        "wav_f32_16k.wav",
        "wav_s32_16k.wav",
        "wav_stereo_antiphase.wav",
        "wav_stereo_right_only.wav",
        "wav_streamed_ffffffff.wav",
        "wav_streamed_zero.wav",
        "wavpack.wv",
        "video/h264_pcm.mov",
    ] {
        let audio = Audio::load(folder.join(name)).unwrap();
        assert!(audio.samples() == recording.samples(), "{name} differs");
    }
    let raw = AudioSource::raw(folder.join("raw_s16le_16k.pcm"), 16_000, 1, RawEncoding::S16Le);
    assert!(Audio::load(raw).unwrap().samples() == recording.samples());
}

#[test]
fn what_cannot_be_decoded_is_named() {
    for (begin, codec) in UNSUPPORTED {
        let error = Audio::load([begin, &[0; 4_096]].concat()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Audio);
        let message = error.to_string();
        assert!(message.contains(codec) && message.contains("ffmpeg"), "{message}");
    }
    let Some(root) = test_set() else { return };
    for name in HEADERLESS {
        let error = Audio::load(root.join("formats").join(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Audio, "{error}");
    }
}

#[test]
fn a_format_without_a_header_is_known_by_its_name_or_by_what_the_caller_says() {
    let Some(root) = test_set() else { return };
    let path = root.join("formats/g722.g722");
    let by_name = Audio::load(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(Audio::load(bytes.clone()).unwrap_err().kind(), ErrorKind::Audio);
    let told = |rate| AudioSource::raw(bytes.clone(), rate, 1, RawEncoding::G722);
    assert_eq!(Audio::load(told(16_000)).unwrap(), by_name);
    assert_eq!(Audio::load(told(8_000)).unwrap_err().kind(), ErrorKind::Audio);
}

#[test]
fn eight_channels_of_aac_speak_one_after_the_other() {
    let Some(root) = test_set() else { return };
    let mut options = AudioOptions::default();
    options.channels = Channels::Each;
    let path = root.join("formats/real_8_channels.m4a");
    let channels = Audio::load_channels(path, &options).unwrap();
    // Front left, front right, centre, low frequencies (silent), back left and right, side left
    // and right: the middle of the time that each is heard at, as decoded by ffmpeg 5.1.
    let centre = |audio: &Audio| {
        let energies = audio.samples().iter().map(|s| f64::from(*s) * f64::from(*s));
        let (weight, moment) = energies.enumerate().fold((0.0, 0.0), |(weight, moment), (n, e)| {
            (weight + e, moment + e * n as f64 / SAMPLE_RATE_HZ)
        });
        moment / f64::max(weight, 1e-9)
    };
    let centres: Vec<f64> = channels.iter().map(centre).collect();
    for (centre, expected) in centres.iter().zip(EIGHT_CHANNEL_CENTRES) {
        assert!((centre - expected).abs() < 0.01, "{centres:?}");
    }
}

/// Damaged in a few places or cut, a file is decoded in part or refused; no decoder panics.
#[test]
fn damage_never_stops_a_decoder() {
    let Some(root) = test_set() else { return };
    let mut seed = 11_u64;
    let mut random = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % limit
    };
    for name in MUTATED {
        let whole = std::fs::read(root.join("formats").join(name)).unwrap();
        let head = &whole[..whole.len().min(40_000)];
        for _ in 0..150 {
            let mut bytes = head.to_vec();
            for _ in 0..1 + random(12) {
                // Headers are hit as often as what follows them.
                let place = if random(2) == 0 { random(200) } else { random(bytes.len()) };
                bytes[place] ^= 1 << random(8);
            }
            if random(4) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            let begun = Instant::now();
            let source = match name {
                "g722.g722" => AudioSource::raw(bytes, 16_000, 1, RawEncoding::G722),
                _ => bytes.into(),
            };
            let said = match Audio::load(source) {
                Ok(audio) => audio.warnings().join(", "),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Audio, "{name}: {error}");
                    error.to_string()
                }
            };
            // What is said of a panic that was caught.
            assert!(!said.contains("its decoder failed"), "{name}: {said}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        }
    }
}

#[test]
fn a_track_and_a_channel_can_be_chosen() {
    let Some(recording) = recording() else { return };
    let formats = test_set().unwrap().join("formats");
    let mut options = AudioOptions::default();
    options.track = Some(0);
    let tone = Audio::load_channels(formats.join("video/two_audio_tracks.mkv"), &options).unwrap();
    assert!(delay_ms(&recording, &tone[0], 0.0).1 < 0.1, "track 0 is the tone");
    options.track = Some(2);
    let error = Audio::load_channels(formats.join("video/two_audio_tracks.mkv"), &options);
    assert!(matches!(error, Err(Error::Option { option: "track", .. })));

    let mut options = AudioOptions::default();
    options.channels = Channels::Each;
    let each = Audio::load_channels(formats.join("wav_stereo_right_only.wav"), &options).unwrap();
    assert_eq!(each.len(), 2);
    assert!(each[0].samples().iter().all(|sample| *sample == 0.0));
    assert!(each[1].samples() == recording.samples());
    options.channels = Channels::One(2);
    let error = Audio::load_channels(formats.join("wav_stereo_right_only.wav"), &options);
    assert!(matches!(error, Err(Error::Option { option: "channels", .. })));
}

#[test]
fn broken_files_behave_as_the_manifest_says() {
    let Some(recording) = recording() else { return };
    let mut failures = Vec::new();
    for (name, path, entry) in entries("broken") {
        let expected = entry["expect"].as_str().unwrap();
        let begun = Instant::now();
        let outcome = Audio::load(&path);
        if begun.elapsed() > Duration::from_secs(20) {
            failures.push(format!("{name}: took {:?}", begun.elapsed()));
        }
        let must_fail = expected.starts_with("a typed decode error")
            || expected.starts_with("typed error; an image")
            || expected.starts_with("typed \"no audio stream\"");
        let audio = match outcome {
            Ok(_) if must_fail => {
                failures.push(format!("{name}: was decoded, expected {expected}"));
                continue;
            }
            Ok(audio) => audio,
            Err(error) => {
                let is_allowed = must_fail || expected.contains("typed");
                if !is_allowed || error.kind() != ErrorKind::Audio {
                    failures.push(format!("{name}: {error}, expected {expected}"));
                }
                continue;
            }
        };
        if !audio.samples().iter().all(|sample| (-1.0..=1.0).contains(sample)) {
            failures.push(format!("{name}: samples out of range"));
        }
        let must_warn = expected.contains("truncation warning");
        if must_warn && audio.warnings().is_empty() {
            failures.push(format!("{name}: no warning"));
        }
        let is_whole = expected.contains("whole text") || expected.starts_with("text (");
        if is_whole && name != "truncated_head.mp3" {
            let (delay_ms, likeness) = delay_ms(&recording, &audio, 0.0);
            if delay_ms.abs() > 1.0 || likeness < 0.95 {
                failures.push(format!("{name}: {delay_ms:.1} ms late, likeness {likeness:.3}"));
            }
        }
        if audio.duration() > 31.0 {
            failures.push(format!("{name}: {} s", audio.duration()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_same_file_is_the_same_sound_from_a_path_from_bytes_and_from_a_reader() {
    let Some(root) = test_set() else { return };
    let path = root.join("formats/mp3_vbr_44k_stereo.mp3");
    let bytes = std::fs::read(&path).unwrap();
    let from_path = Audio::load(path).unwrap();
    assert_eq!(Audio::load(bytes.clone()).unwrap(), from_path);
    let reader = AudioSource::reader(std::io::Cursor::new(bytes));
    assert_eq!(Audio::load(reader).unwrap(), from_path);
}
