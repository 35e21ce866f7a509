//! Sound and results in a bucket of S3: the same as in a folder, also when the way there is bad.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::services::{self, Service};
use support::wire::{Mood, Wire};
use support::{Folder, Reply, TestServer, eventually, wav};

/// More than a part, and not a multiple of it.
const LARGE_SECONDS: f64 = 600.3;

/// What a service says that has too much to do.
const SLOW_DOWN: &[u8] =
    b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A server whose storage lies at the end of a wire.
struct Stage {
    server: TestServer,
    wire: Wire,
    moto: Service,
    folder: Folder,
}

impl Stage {
    fn set(name: &str, more: &[(&str, &str)]) -> Option<Self> {
        let moto = services::moto()?;
        let wire = Wire::to(moto.port);
        let folder = Folder::new(name);
        let variables = services::bucket(wire.port);
        let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<_> = variables.chain(more.iter().copied()).collect();
        let server = TestServer::scripted(&folder, &variables);
        Some(Self { server, wire, moto, folder })
    }

    fn objects(&self) -> Vec<String> {
        services::objects(&self.moto)
    }

    /// Uploads of which parts were sent and that are not over.
    fn open_uploads(&self) -> usize {
        services::ask_bucket(&self.moto, "uploads").matches("<UploadId>").count()
    }

    fn audio(&self, id: &str, range: Option<&str>) -> Reply {
        let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        self.server.send("GET", &format!("/api/v1/transcription/{id}/audio"), &headers, b"")
    }

    /// Waits until a job is completed; how it was.
    fn completed(&self, reply: &Reply) -> Value {
        assert!(matches!(reply.status, 200 | 202), "{} {}", reply.status, reply.text());
        let job = self.server.wait(&reply.job_id());
        assert_eq!(job["status"], "completed", "{job}");
        job
    }

    /// Nothing but whole things is in the bucket, and nothing that was fetched is left.
    fn is_tidy(&self) {
        eventually("drafts to be called off", || {
            let has_parts = self.objects().iter().any(|key| key.contains("/parts/"));
            (self.open_uploads() == 0 && !has_parts).then_some(())
        });
        for folder in ["parts", "spool", "blobs", "results", "waveforms"] {
            let path = self.folder.0.join("uploads").join(folder);
            eventually("an empty folder", || {
                std::fs::read_dir(&path).unwrap().next().is_none().then_some(())
            });
        }
    }
}

fn problem(reply: &Reply) -> (u16, String) {
    assert!(!reply.header("retry-after").is_empty(), "{}", reply.text());
    (reply.status, reply.json()["code"].as_str().unwrap().to_owned())
}

#[test]
fn what_is_kept_lies_in_the_bucket_until_it_is_purged() {
    let Some(stage) = Stage::set("s3", &[]) else { return };
    let server = &stage.server;
    assert_eq!(server.get("/health/ready").json()["checks"]["storage"], "ok");
    for sound in [wav(0.1, 1), wav(LARGE_SECONDS, 2)] {
        let reply = server.upload(&sound, &[]);
        let id = stage.completed(&reply)["job_id"].as_str().unwrap().to_owned();
        let kinds: Vec<_> = stage
            .objects()
            .iter()
            .filter_map(|key| Some(key.split('/').nth(1)?.to_owned()))
            .collect();
        assert_eq!(kinds, ["blobs", "results"]);
        let whole = stage.audio(&id, None);
        assert!(whole.status == 200 && whole.body == sound, "{}", whole.status);
        let part = stage.audio(&id, Some("bytes=40-99"));
        assert_eq!((part.status, &part.body[..]), (206, &sound[40..100]));
        assert_eq!(part.header("content-range"), format!("bytes 40-99/{}", sound.len()));
        assert_eq!(stage.audio(&id, Some("bytes=-7")).body, &sound[sound.len() - 7..]);
        let text = server.get(&format!("/api/v1/transcription/{id}/download?format=txt"));
        assert_eq!((text.status, text.text().trim()), (200, "pretended"));
        assert_eq!(server.get(&format!("/api/v1/transcription/{id}/waveform")).status, 404);
        let again = server.send("POST", &format!("/api/v1/transcription/{id}/retry"), &[], b"");
        let again = stage.completed(&again)["job_id"].as_str().unwrap().to_owned();
        stage.is_tidy();
        for id in [&id, &again] {
            let purged =
                server.send("DELETE", &format!("/api/v1/transcription/{id}?purge=true"), &[], b"");
            assert!(purged.status < 300, "{} {}", purged.status, purged.text());
        }
        assert_eq!(stage.objects(), [""; 0]);
        assert_eq!(stage.audio(&id, None).status, 410);
    }
}

#[test]
fn what_is_old_is_erased_from_the_bucket() {
    let times = [("ECHO_AUDIO_TTL", "0.001"), ("ECHO_RESULT_TTL", "0.001")];
    let Some(stage) = Stage::set("s3-gc", &times) else { return };
    let id = stage.completed(&stage.server.upload(&wav(0.1, 1), &[]))["job_id"].clone();
    assert_eq!(stage.objects().len(), 2);
    stage.server.run("gc");
    assert_eq!(stage.objects(), [""; 0]);
    assert_eq!(stage.audio(id.as_str().unwrap(), None).status, 410);
}

#[test]
fn the_same_file_many_times_at_once_is_one_object_and_one_run() {
    let Some(stage) = Stage::set("s3-same", &[("ECHO_TEST_JOB_MS", "1500")]) else { return };
    let sound = wav(1.0, 3);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let uploads: Vec<_> =
            (0..50).map(|_| scope.spawn(|| stage.server.upload(&sound, &[]))).collect();
        uploads.into_iter().map(|upload| upload.join().unwrap().job_id()).collect()
    });
    let runs = ids.iter().map(|id| stage.server.wait(id)).filter(|job| {
        assert_eq!(job["status"], "completed", "{job}");
        job["attempt"] == 1
    });
    assert_eq!(runs.count(), 1);
    assert_eq!(stage.objects().len(), 2, "{:?}", stage.objects());
    stage.is_tidy();
}

#[test]
fn an_upload_in_pieces_ends_in_the_bucket() {
    let Some(stage) = Stage::set("s3-tus", &[]) else { return };
    let (server, sound) = (&stage.server, wav(LARGE_SECONDS, 4));
    let tus = ("tus-resumable", "1.0.0");
    let length = sound.len().to_string();
    let made = server.send("POST", "/api/v1/uploads", &[tus, ("upload-length", &length)], b"");
    let path = made.header("location").to_owned();
    for (offset, piece) in sound.chunks(7_000_001).enumerate() {
        let offset = (offset * 7_000_001).to_string();
        let kind = ("content-type", "application/offset+octet-stream");
        let sent = server.send("PATCH", &path, &[tus, kind, ("upload-offset", &offset)], piece);
        assert_eq!(sent.status, 204, "{}", sent.text());
    }
    let body = json!({ "upload_id": path.rsplit('/').next().unwrap() }).to_string();
    let kind = [("content-type", "application/json")];
    let job = server.send("POST", "/api/v1/upload/complete", &kind, body.as_bytes());
    let id = stage.completed(&job)["job_id"].as_str().unwrap().to_owned();
    assert!(stage.audio(&id, None).body == sound, "the recording is another one");
    stage.is_tidy();
}

#[test]
fn a_bad_way_to_the_bucket_costs_tries_and_no_upload() {
    let Some(stage) = Stage::set("s3-retries", &[]) else { return };
    let whole = |sound: &[u8]| {
        let id = stage.completed(&stage.server.upload(sound, &[]))["job_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let kept = stage.audio(&id, None);
        assert!(kept.status == 200 && kept.body == sound, "{} {}", kept.status, kept.body.len());
    };
    // In the middle of parts.
    stage.wire.cut_after(&[3 << 20, 7 << 20, 200]);
    whole(&wav(LARGE_SECONDS, 5));
    assert_eq!(stage.wire.cuts(), 3);
    // Of the service itself; as long as an object is put, and at all times.
    let restless = |mood: Mood| {
        std::thread::scope(|scope| {
            scope.spawn(|| stage.wire.for_a_time(mood, Duration::from_millis(500)));
            whole(&wav(LARGE_SECONDS, 6));
        });
    };
    restless(Mood::Says(SLOW_DOWN.to_vec()));
    restless(Mood::Cut);
    stage.wire.set(Mood::Slow(Duration::from_millis(1)));
    whole(&wav(LARGE_SECONDS, 7));
    stage.wire.set(Mood::Whole);
    stage.is_tidy();
}

#[test]
fn a_bucket_that_is_busy_for_long_is_waited_for() {
    let Some(stage) = Stage::set("s3-busy", &[("AWS_TIMEOUT", "60s")]) else { return };
    // Ten tries would be over by then.
    std::thread::scope(|scope| {
        let busy = || {
            stage.wire.for_a_time(Mood::Says(SLOW_DOWN.to_vec()), Duration::from_secs(7));
        };
        scope.spawn(busy);
        stage.completed(&stage.server.upload(&wav(0.1, 1), &[]));
    });
    stage.is_tidy();
}

#[test]
fn without_the_bucket_requests_are_told_to_come_again_and_nothing_half_is_seen() {
    let Some(stage) = Stage::set("s3-away", &[("ECHO_TEST_JOB_MS", "1000")]) else { return };
    let server = &stage.server;
    let id =
        stage.completed(&server.upload(&wav(0.1, 8), &[]))["job_id"].as_str().unwrap().to_owned();
    let running = server.upload(&wav(0.1, 9), &[]).job_id();
    eventually("a running job", || (server.job(&running)["status"] == "processing").then_some(()));
    let before = stage.objects();
    // A part and what a client may still send while it is refused.
    let large = wav(340.0, 10);
    for mood in [Mood::Cut, Mood::Deaf] {
        stage.wire.set(mood);
        stage.wire.cut();
        let began = Instant::now();
        for sound in [&wav(0.1, 10), &large] {
            let reply = server.upload(sound, &[]);
            assert_eq!(problem(&reply), (503, "dependency_unavailable".to_owned()));
        }
        assert_eq!(problem(&stage.audio(&id, None)), (503, "dependency_unavailable".to_owned()));
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        let ready = eventually("a server that is not ready", || {
            Some(server.get("/health/ready")).filter(|reply| reply.status == 503)
        });
        assert_eq!(ready.json()["checks"]["storage"], "failed", "{}", ready.text());
        assert_eq!(server.get("/health/live").status, 200);
        // A result that cannot be kept is not thrown away.
        assert_eq!(server.job(&running)["status"], "processing");
    }
    assert_eq!(stage.objects(), before);
    stage.wire.mend();
    let job = server.wait(&running);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
    stage.completed(&server.upload(&wav(LARGE_SECONDS, 10), &[]));
    eventually("a ready server", || (server.get("/health/ready").status == 200).then_some(()));
    stage.is_tidy();
}

#[test]
fn a_bucket_that_is_not_there_is_told() {
    let name = ("ECHO_STORAGE_URL", "s3://nowhere/echo");
    let Some(stage) = Stage::set("s3-nowhere", &[name]) else { return };
    let ready = stage.server.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["checks"]["storage"]), (503, &json!("failed")));
    let reply = stage.server.upload(&wav(0.1, 1), &[]);
    assert_eq!(problem(&reply), (503, "dependency_unavailable".to_owned()));
}

/// Sends an upload of so many bytes that is as long as it says, or not; reads the answer.
fn send(base: &str, mark: u8, size: usize, sent: usize) -> String {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /api/v1/upload/file HTTP/1.1\r\nhost: x\r\ncontent-type: audio/wav\r\n\
         content-length: {size}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let beginning = wav(1.0, u32::from(mark));
    let piece = vec![mark; 1 << 20];
    stream.write_all(&beginning).unwrap();
    let mut left = sent - beginning.len();
    while left > 0 {
        let count = left.min(piece.len());
        stream.write_all(&piece[..count]).unwrap();
        left -= count;
    }
    if sent < size {
        return String::new();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let Some(stage) = Stage::set("s3-cut", &[]) else { return };
    for sent in [1 << 20, 9 << 20, 20 << 20] {
        send(&stage.server.base, 1, 30 << 20, sent);
    }
    // The first two parts of the last one are there for a moment.
    stage.is_tidy();
    assert_eq!(stage.objects(), [""; 0]);
}

/// Peak and present resident bytes of a process.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    (bytes("VmHWM"), bytes("VmRSS"))
}

#[test]
fn large_uploads_at_once_are_not_held_in_memory() {
    let mib: usize = if std::env::var_os("ECHO_TEST_LONG").is_some() { 300 } else { 40 };
    // The bucket is slow, not the server: it gets the time it needs.
    let Some(stage) = Stage::set("s3-memory", &[("AWS_TIMEOUT", "60s")]) else { return };
    let pid = stage.server.process.id();
    stage.completed(&stage.server.upload(&wav(0.1, 1), &[]));
    let idle = memory(pid).1;
    let began = Instant::now();
    std::thread::scope(|scope| {
        for mark in 2..6 {
            let base = &stage.server.base;
            scope.spawn(move || {
                let answer = send(base, mark, mib << 20, mib << 20);
                assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
            });
        }
    });
    let (peak, time) = (memory(pid).0, began.elapsed().as_secs_f64());
    let over = peak.saturating_sub(idle) >> 20;
    println!("4 × {mib} MiB in {time:.1} s, {over} MiB over {} MiB", idle >> 20);
    assert!(over <= 64, "{over} MiB");
    stage.is_tidy();
}
