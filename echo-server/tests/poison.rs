//! Files that are broken, made up, or made to do harm, over HTTP against the real decoder and model:
//! each is refused or ends its job with a code, the API lives, and nobody else waits for it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "as in the tests themselves")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Folder, TestServer, dialogue, wav};

/// What a job may fail with because of its file.
const CODES: [&str; 3] = ["decode_failed", "audio_too_long", "worker_lost"];

/// A file as somebody posts it.
struct Poison {
    name: String,
    bytes: Vec<u8>,
    /// What it must be answered with, where that is known by its first bytes or its making.
    expected: Option<&'static str>,
}

impl Poison {
    fn new(name: &str, bytes: Vec<u8>, expected: Option<&'static str>) -> Self {
        Self { name: name.to_owned(), bytes, expected }
    }
}

/// The files of `ECHO_TEST_AUDIO/broken`, if they are there.
fn broken() -> Vec<Poison> {
    let Some(folder) = std::env::var_os("ECHO_TEST_AUDIO") else {
        println!("skipped the broken files: set ECHO_TEST_AUDIO");
        return Vec::new();
    };
    let entries = std::fs::read_dir(std::path::Path::new(&folder).join("broken")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let poison = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap();
        let expected = match name.as_str() {
            name if name.starts_with("zero_length") => Some("empty_file"),
            name if name.starts_with("playlist") => Some("unsupported_media"),
            "html_named.mp3" | "json_named.m4a" | "text_named.wav" | "png_named.wav"
            | "sdp_named.mp3" | "ffconcat_named.wav" => Some("unsupported_media"),
            _ => None,
        };
        Poison::new(&name, bytes, expected)
    };
    files.iter().map(poison).collect()
}

/// Files that are made here.
fn made() -> Vec<Poison> {
    let zip = [b"PK\x03\x04\x14\0\0\0\x08\0".as_slice(), &[7; 4000]].concat();
    let refused = Some("unsupported_media");
    let page = b"<!DOCTYPE html><html><body>404</body></html>".to_vec();
    vec![
        Poison::new("nothing.wav", Vec::new(), Some("empty_file")),
        Poison::new("zip.wav", zip, refused),
        Poison::new("page.mp3", page, refused),
        Poison::new("zeros.bin", vec![0; 100_000], Some("decode_failed")),
        Poison::new("terabyte.wav", endless_wav(), None),
        Poison::new("samples.flac", flac(3, (1 << 36) - 1), None),
        Poison::new(
            "thousand_hours.flac",
            flac(1000 * 3600 / FRAME_SECONDS, 0),
            Some("audio_too_long"),
        ),
    ]
}

/// A recording cut off at each percent of its length, or at each tenth without `ECHO_TEST_LONG`.
fn truncated() -> Vec<Poison> {
    let whole = dialogue();
    let step = if std::env::var_os("ECHO_TEST_LONG").is_some() { 1 } else { 10 };
    let cut = |percent: usize| {
        let bytes = whole[..whole.len() * percent / 100].to_vec();
        let expected = (percent == 0).then_some("empty_file");
        Poison::new(&format!("dialogue_{percent}.opus"), bytes, expected)
    };
    (0..100).step_by(step).map(cut).collect()
}

/// A header that tells of 2^40 samples, and a second of sound.
fn endless_wav() -> Vec<u8> {
    let sound = wav(1.0, 77);
    let mut file = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
    for number in [(1_u64 << 41) + 72, 1 << 41, 1 << 40] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&[0; 4]);
    // The format as it was; the length of the data is that of `ds64`.
    file.extend_from_slice(&sound[12..40]);
    file.extend_from_slice(&[0xff; 4]);
    file.extend_from_slice(&sound[44..]);
    file
}

/// Seconds of silence in one frame of [`flac`]: 32,768 samples at 8 kHz.
const FRAME_SECONDS: u64 = 4;

/// Silence in FLAC, about 14 bytes for every four seconds, with any number of samples in its header.
fn flac(frames: u64, declared_samples: u64) -> Vec<u8> {
    const BLOCK: u16 = 32_768;
    let mut file = b"fLaC\x80\0\0\x22".to_vec();
    file.extend_from_slice(&BLOCK.to_be_bytes());
    file.extend_from_slice(&BLOCK.to_be_bytes());
    file.extend_from_slice(&[0; 6]);
    // Rate (20 bits), channels less one (3), bits less one (5), samples (36).
    let stream = (8_000 << 44) | (15 << 36) | declared_samples;
    file.extend_from_slice(&u64::to_be_bytes(stream));
    file.extend_from_slice(&[0; 16]);
    for number in 0..frames {
        let mut frame = vec![0xff, 0xf8, 0xf4, 0x08];
        let number = char::from_u32(u32::try_from(number).unwrap()).unwrap_or('\u{fffd}');
        frame.extend_from_slice(number.encode_utf8(&mut [0; 4]).as_bytes());
        frame.push(crc(&frame, 8, 0x07) as u8);
        // One subframe: constant, of value 0.
        frame.extend_from_slice(&[0, 0, 0]);
        let check = crc(&frame, 16, 0x8005) as u16;
        frame.extend_from_slice(&check.to_be_bytes());
        file.extend_from_slice(&frame);
    }
    file
}

/// The checksums of FLAC.
fn crc(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
    let top = 1 << (bits - 1);
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << (bits - 8), |sum, _| {
            let shifted = sum << 1;
            (if sum & top == 0 { shifted } else { shifted ^ polynomial }) & ((top << 1) - 1)
        })
    })
}

/// Posts short jobs of its own, one after the other, and asks whether the API lives: the longest times.
fn somebody_else(server: &TestServer, is_over: &AtomicBool) -> (u32, Duration, Duration) {
    let (mut jobs, mut slowest_job, mut slowest_answer) = (0, Duration::ZERO, Duration::ZERO);
    while !is_over.load(Ordering::Acquire) {
        let began = Instant::now();
        let reply = server.upload(&wav(1.0, 1_000_000 + jobs), &[("word_timestamps", "false")]);
        assert_eq!(reply.status, 202, "{}", reply.text());
        let job = server.wait(&reply.job_id());
        // Whoever else is ill: this one had nothing, and nothing was taken from it.
        assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
        slowest_job = slowest_job.max(began.elapsed());
        let asked = Instant::now();
        assert_eq!(server.get("/health/live").status, 200);
        slowest_answer = slowest_answer.max(asked.elapsed());
        jobs += 1;
    }
    (jobs, slowest_job, slowest_answer)
}

/// Posts a file and waits for what becomes of it.
fn give(server: &TestServer, poison: &Poison) -> String {
    let fields = [("beam_size", "1"), ("word_timestamps", "false"), ("language", "en")];
    let reply = server.upload(&poison.bytes, &fields);
    let name = &poison.name;
    if !(200..300).contains(&reply.status) {
        assert!([413, 415, 422].contains(&reply.status), "{name}: {}", reply.text());
        return reply.json()["code"].as_str().unwrap().to_owned();
    }
    let job = server.wait(&reply.job_id());
    if job["status"] == "completed" {
        assert!(job["result"]["segments"].is_array(), "{name}: {job}");
        return "completed".to_owned();
    }
    let code = job["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(job["status"] == "failed" && CODES.contains(&&*code), "{name}: {job}");
    assert!(!job["error"]["message"].as_str().unwrap().is_empty(), "{name}: {job}");
    code
}

#[test]
fn poisoned_files_harm_nobody() {
    let folder = Folder::new("poisoned");
    let variables = [
        ("ECHO_WORKER_SLOTS", "2"),
        ("ECHO_WORKER_THREADS", "1"),
        ("ECHO_WORKER_MEMORY", "4GB"),
        ("ECHO_MAX_AUDIO_SECONDS", "3600"),
        ("ECHO_STALL_SECONDS", "120"),
    ];
    let Some(server) = TestServer::with_model(&folder, &variables) else { return };
    let mut all = broken();
    all.extend(made());
    all.extend(truncated());
    // A recording that is whole, to be sure that sound is heard at all.
    all.push(Poison::new("dialogue.opus", dialogue(), Some("completed")));
    let is_over = AtomicBool::new(false);
    let (outcomes, (jobs, slowest_job, slowest_answer)) = std::thread::scope(|scope| {
        let other = scope.spawn(|| somebody_else(&server, &is_over));
        let outcomes: Vec<_> = all.iter().map(|poison| give(&server, poison)).collect();
        is_over.store(true, Ordering::Release);
        (outcomes, other.join().unwrap())
    });
    let mut counts = BTreeMap::<&str, Vec<&str>>::new();
    for (poison, outcome) in all.iter().zip(&outcomes) {
        counts.entry(outcome).or_default().push(&poison.name);
    }
    for (outcome, names) in &counts {
        println!("{outcome}: {} ({})", names.len(), names.join(" "));
    }
    println!(
        "{} files; somebody else's {jobs} jobs took at most {slowest_job:.1?}, \
         /health/live at most {slowest_answer:.1?}",
        all.len()
    );
    for (poison, outcome) in all.iter().zip(&outcomes) {
        assert!(poison.expected.is_none_or(|code| code == outcome), "{}: {outcome}", poison.name);
    }
    assert!(jobs > 0 && slowest_job < Duration::from_secs(60), "{slowest_job:?}");
    assert!(slowest_answer < Duration::from_secs(5), "{slowest_answer:?}");
    let metrics = server.get("/metrics").text();
    let faults = metrics.lines().filter(|line| line.contains("status=\"5")).collect::<Vec<_>>();
    assert!(faults.is_empty(), "{faults:?}");
}
