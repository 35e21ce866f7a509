//! Long recordings whose processes die on the way: the next attempt goes on from a checkpoint.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking, and say what they saw"
)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use echo_core::Audio;
use serde_json::Value;
use support::{Folder, TestServer, dialogue, eventually, pretended, segments_told, services, wav};

/// Segments that the scripted worker says beyond its first one: a second of sound each.
const MORE_SEGMENTS: u32 = 24;
const VARIABLES: [(&str, &str); 5] = [
    ("ECHO_TEST_JOB_MS", "150"),
    ("ECHO_TEST_SEGMENTS", "24"),
    ("ECHO_CHECKPOINT_SECONDS", "4"),
    ("ECHO_LEASE_SECONDS", "2"),
    ("ECHO_HEARTBEAT_SECONDS", "0.3"),
];

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Ways to lose a worker in the middle of its job, and the attempts that a job has had after it.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Worker,
    Server,
    Drain,
}

impl Loss {
    fn happens(self, server: &mut TestServer) {
        match self {
            Self::Worker => server.workers().into_iter().for_each(|pid| signal(pid, "KILL")),
            Self::Server => {
                server.kill();
                server.restart();
            }
            Self::Drain => {
                signal(server.process.id(), "TERM");
                assert!(server.process.wait().unwrap().success());
                server.restart();
            }
        }
    }

    fn attempts(self) -> u64 {
        match self {
            Self::Worker | Self::Server => 2,
            Self::Drain => 1,
        }
    }
}

/// Jobs on a server whose database answers `count`, each lost once after two checkpoints.
fn every_loss(server: &mut TestServer, count: &mut dyn FnMut(&str) -> u64) {
    for (mark, loss) in [Loss::Worker, Loss::Server, Loss::Drain].into_iter().enumerate() {
        let id = server.upload(&wav(0.1, mark as u32), &[]).job_id();
        eventually("two checkpoints", || {
            (count("SELECT count(*) FROM checkpoints") >= 2).then_some(())
        });
        loss.happens(server);
        let job = server.wait(&id);
        assert_eq!(job["status"], "completed", "{loss:?}: {job}");
        assert_eq!(job["attempt"], loss.attempts(), "{loss:?}: {job}");
        assert_eq!(segments_told(server, &id), pretended(MORE_SEGMENTS), "{loss:?}");
        // The worker pretends a tenth of a second for each segment that it says.
        let busy_seconds = job["usage"]["busy_seconds"].as_f64().unwrap();
        assert!(busy_seconds <= 0.1 * 17.0 + 1e-9, "{loss:?}: {busy_seconds} s for what was left");
        assert_eq!(count("SELECT count(*) FROM checkpoints"), 0, "{loss:?}");
    }
}

fn sqlite(folder: &Folder) -> impl FnMut(&str) -> u64 {
    let database = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    move |sql| database.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_lost_job_goes_on_from_its_checkpoint() {
    let folder = Folder::new("resume");
    let variables = [&VARIABLES[..], &[("ECHO_DRAIN_SECONDS", "0.1")]].concat();
    let mut server = TestServer::scripted(&folder, &variables);
    every_loss(&mut server, &mut sqlite(&folder));
}

#[test]
fn a_lost_job_goes_on_from_its_checkpoint_in_postgres() {
    let Some(database) = services::postgres() else { return };
    let folder = Folder::new("resume-pg");
    let url = services::postgres_url(&database);
    let more = [("ECHO_DRAIN_SECONDS", "0.1"), ("DATABASE_URL", url.as_str())];
    let mut server = TestServer::scripted(&folder, &[&VARIABLES[..], &more].concat());
    let plain = url.replace("+asyncpg", "");
    let mut client = postgres::Client::connect(&plain, postgres::NoTls).unwrap();
    let mut count = |sql: &str| client.query_one(sql, &[]).unwrap().get::<_, i64>(0).unsigned_abs();
    every_loss(&mut server, &mut count);
}

#[test]
fn what_cannot_go_on_begins_anew_and_says_so() {
    let folder = Folder::new("anew");
    let server = TestServer::scripted(&folder, &VARIABLES);
    let mut count = sqlite(&folder);
    let id = server.upload(&wav(0.1, 1), &[("initial_prompt", "forget")]).job_id();
    eventually("two checkpoints", || {
        (count("SELECT count(*) FROM checkpoints") >= 2).then_some(())
    });
    server.workers().into_iter().for_each(|pid| signal(pid, "KILL"));
    assert_eq!(server.wait(&id)["status"], "completed");
    let told = segments_told(&server, &id);
    assert_eq!(told[0], "restart");
    assert_eq!(told[1..], pretended(MORE_SEGMENTS));
}

/// Minutes of sound in which no two stretches are the same, with many pauses.
fn minutes() -> Vec<u8> {
    let samples = Audio::load(dialogue());
    let samples = samples.unwrap().into_samples();
    let mut bytes = wav(0.0, 0);
    bytes.truncate(44);
    for louder in 0..6_u8 {
        let gain = 20_000.0 + 2_000.0 * f32::from(louder);
        let quantised = samples.iter().map(|sample| (sample * gain) as i16);
        bytes.extend(quantised.flat_map(i16::to_le_bytes));
    }
    let size = u32::try_from(bytes.len()).unwrap();
    bytes[4..8].copy_from_slice(&(size - 8).to_le_bytes());
    bytes[40..44].copy_from_slice(&(size - 44).to_le_bytes());
    bytes
}

const OPTIONS: [(&str, &str); 2] = [("beam_size", "1"), ("vad", r#"{"chunk_seconds": 6}"#)];

fn result(server: &TestServer, id: &str) -> String {
    let reply = server.get(&format!("/api/v1/transcription/{id}/download?format=json"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

fn texts(result: &str) -> Vec<String> {
    let result: Value = serde_json::from_str(result).unwrap();
    let segments = result["segments"].as_array().unwrap();
    segments.iter().map(|segment| segment["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_recording_that_was_heard_in_two_attempts_has_the_same_transcript() {
    let folder = Folder::new("whole");
    let without = [("ECHO_CHECKPOINT_SECONDS", "0")];
    let Some(server) = TestServer::with_model(&folder, &without) else { return };
    let recording = minutes();
    let id = server.upload(&recording, &OPTIONS).job_id();
    let job = server.wait(&id);
    let whole_seconds = job["usage"]["busy_seconds"].as_f64().unwrap();
    let whole = result(&server, &id);
    assert_eq!(sqlite(&folder)("SELECT count(*) FROM checkpoints"), 0);
    drop(server);

    for loss in [Loss::Worker, Loss::Drain] {
        let folder = Folder::new("halves");
        let variables = [
            ("ECHO_CHECKPOINT_SECONDS", "10"),
            ("ECHO_LEASE_SECONDS", "5"),
            ("ECHO_HEARTBEAT_SECONDS", "0.5"),
            ("ECHO_DRAIN_SECONDS", "0.1"),
        ];
        let Some(mut server) = TestServer::with_model(&folder, &variables) else { return };
        let mut count = sqlite(&folder);
        let id = server.upload(&recording, &OPTIONS).job_id();
        let reached = |count: &mut dyn FnMut(&str) -> u64| {
            count("SELECT CAST(COALESCE(MAX(reached_s), 0) AS INTEGER) FROM checkpoints")
        };
        eventually("half of it", || (reached(&mut count) >= 80).then_some(()));
        loss.happens(&mut server);
        let began = Instant::now();
        let job = server.wait(&id);
        assert_eq!(
            (&job["status"], &job["attempt"]),
            (&"completed".into(), &loss.attempts().into())
        );
        let rest_seconds = job["usage"]["busy_seconds"].as_f64().unwrap();
        println!(
            "{loss:?} after 80 s of 182: {rest_seconds:.1} s of work were left of {whole_seconds:.1} s, \
             done {:.1} s later",
            began.elapsed().as_secs_f64(),
        );
        assert_eq!(result(&server, &id), whole, "{loss:?}");
        let metrics = server.get("/metrics").text();
        let resumed = metrics.lines().find_map(|line| {
            line.strip_prefix("echo_resumed_audio_seconds_total ")?.trim().parse::<f64>().ok()
        });
        assert!(resumed.is_some_and(|seconds| seconds >= 80.0), "{resumed:?}");
        // Told once, in the order of the transcript; those of the last second come with the result.
        let (told, all) = (segments_told(&server, &id), texts(&whole));
        assert!(all.starts_with(&told) && told.len() > all.len() / 2, "{told:?}");
        assert_eq!(count("SELECT count(*) FROM checkpoints"), 0);
    }
}
