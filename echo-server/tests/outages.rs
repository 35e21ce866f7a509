//! What the server needs goes away while it works: the database, the disk, Redis, the model, its
//! clients' connections, and the server itself at the worst of times.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "as in the tests themselves")]

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, TestWorker, eventually, form, services, wav};

fn database(folder: &Folder) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    db
}

fn count(db: &rusqlite::Connection, sql: &str) -> u64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Waits until the job runs.
fn running(server: &TestServer, id: &str) {
    eventually("the job to run", || (server.job(id)["status"] == "processing").then_some(()));
}

/// Files below a folder, whatever they are called.
fn files(folder: PathBuf) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(entry.path()) } else { 1 }).sum()
}

#[test]
fn a_server_killed_between_result_and_commit_commits_once() {
    let folder = Folder::new("between");
    let variables = [
        ("ECHO_TEST_JOB_MS", "400"),
        ("ECHO_LEASE_SECONDS", "2"),
        ("ECHO_HEARTBEAT_SECONDS", "0.5"),
    ];
    let mut server = TestServer::scripted(&folder, &variables);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    running(&server, &id);
    // Nothing can be committed, so the server stops right behind the result.
    let mut db = database(&folder);
    let lock = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    eventually("the result", || (files(folder.0.join("uploads/results")) == 1).then_some(()));
    server.kill();
    drop(lock);
    assert_eq!(count(&db, "SELECT count(*) FROM jobs WHERE state = 'completed'"), 0);
    server.restart();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &2.into()), "{job}");
    assert_eq!(count(&db, "SELECT count(*) FROM jobs WHERE commits = 1"), 1);
    assert_eq!(files(folder.0.join("uploads/results")), 1);
}

#[test]
fn a_server_killed_between_commit_and_webhook_still_sends_it() {
    let folder = Folder::new("webhook");
    let receiver = Receiver::start(|_, _| answer(204, "", b""));
    let port = receiver.port.to_string();
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
        ("ECHO_TEST_JOB_MS", "300"),
    ];
    let mut server = TestServer::scripted(&folder, &variables);
    let db = database(&folder);
    let fields = [("callback_url", &*receiver.url("/hook"))];
    server.upload(&wav(0.1, 1), &fields).job_id();
    while count(&db, "SELECT count(*) FROM jobs WHERE state = 'completed'") == 0 {
        std::hint::spin_loop();
    }
    server.kill();
    // One that was under way is due again after two minutes; the clock is turned on for it.
    db.execute("UPDATE deliveries SET next_at = 0 WHERE state = 'pending'", []).unwrap();
    server.restart();
    eventually("the webhook", || {
        (count(&db, "SELECT count(*) FROM deliveries WHERE state = 'delivered'") == 1).then_some(())
    });
    assert_eq!(count(&db, "SELECT count(*) FROM deliveries"), 1);
    let ids: HashSet<_> =
        receiver.asked().iter().map(|asked| asked.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "every try is of the same event");
}

#[test]
fn a_locked_database_is_waited_for_and_then_answered_with_503() {
    let folder = Folder::new("locked");
    let server = TestServer::scripted(&folder, &[("ECHO_TEST_JOB_MS", "300")]);
    let running_job = server.upload(&wav(0.1, 100), &[]).job_id();
    running(&server, &running_job);
    let mut db = database(&folder);
    let lock = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let began = Instant::now();
    let replies = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..6)
            .map(|mark| {
                scope.spawn({
                    let server = &server;
                    move || server.upload(&wav(0.1, mark), &[])
                })
            })
            .collect();
        // What only reads goes on.
        assert_eq!(server.job(&running_job)["job_id"], *running_job);
        assert_eq!(server.get("/health/live").status, 200);
        // Writers wait one after the other, 5 s each; the first may be the worker that tells how far it is.
        std::thread::sleep(Duration::from_millis(10_500));
        lock.rollback().unwrap();
        posts.into_iter().map(|post| post.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&202), "{statuses:?}");
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{}", reply.text());
        assert_eq!(reply.json()["code"], "dependency_unavailable");
    }
    // The running job lost nothing.
    let job = server.wait(&running_job);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
}

/// A disk of a few megabytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Folder) -> Option<Self> {
        let path = folder.0.join("disk");
        std::fs::create_dir(&path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(&path);
        if command.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(path));
        }
        println!("skipped: a small disk can be mounted by root only");
        None
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![0; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_refuses_submissions_and_costs_no_job() {
    let folder = Folder::new("full");
    let Some(disk) = SmallDisk::mount(&folder) else { return };
    let variables = [
        ("DATABASE_URL", "sqlite:///disk/jobs.db"),
        ("UPLOAD_DIR", "disk/uploads"),
        ("ECHO_MIN_FREE_DISK", "0"),
        ("ECHO_TEST_JOB_MS", "1000"),
    ];
    // Dropped first, before the disk goes.
    let server = TestServer::scripted(&folder, &variables);
    let large = server.upload(&wav(300.0, 1), &[]);
    assert_eq!((large.status, &large.json()["code"]), (507, &"insufficient_storage".into()));
    assert_eq!(files(disk.0.join("uploads/parts")), 0, "nothing is left of it");
    let id = server.upload(&wav(0.1, 2), &[]).job_id();
    running(&server, &id);
    disk.fill();
    let small = server.upload(&wav(0.1, 3), &[]);
    assert_eq!((small.status, small.header("retry-after")), (507, "60"), "{}", small.text());
    assert_eq!(server.get("/api/v1/transcriptions").status, 200, "reading needs no room");
    // Long enough for the job to end, and to find no room for its result.
    std::thread::sleep(Duration::from_millis(2000));
    assert_eq!(server.job(&id)["status"], "processing");
    disk.clear();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
    assert_eq!(server.upload(&wav(0.1, 3), &[]).status, 202);
}

#[test]
fn a_result_waits_for_room_on_a_disk_that_the_database_does_not_share() {
    let folder = Folder::new("room");
    let Some(disk) = SmallDisk::mount(&folder) else { return };
    let variables =
        [("UPLOAD_DIR", "disk/uploads"), ("ECHO_MIN_FREE_DISK", "0"), ("ECHO_TEST_JOB_MS", "500")];
    let server = TestServer::scripted(&folder, &variables);
    let id = server.upload(&wav(0.1, 2), &[]).job_id();
    running(&server, &id);
    disk.fill();
    // Long enough for the job to end.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.job(&id)["status"], "processing");
    disk.clear();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
}

#[test]
fn a_result_from_elsewhere_waits_for_room_longer_than_its_lease() {
    let folder = Folder::new("elsewhere");
    let (Some(nats), Some(disk)) = (services::nats(), SmallDisk::mount(&folder)) else { return };
    let url = format!("nats://127.0.0.1:{}", nats.port);
    let variables = [
        ("UPLOAD_DIR", "disk/uploads"),
        ("ECHO_MIN_FREE_DISK", "0"),
        ("ECHO_QUEUE", "nats"),
        ("NATS_URL", &*url),
        ("ECHO_WORKER_SECRET", "a secret of workers that nobody guesses"),
        ("ECHO_LEASE_SECONDS", "2"),
        ("ECHO_HEARTBEAT_SECONDS", "0.3"),
        ("ECHO_TEST_JOB_MS", "500"),
    ];
    let server = TestServer::start(&folder, &variables);
    let at = [("ECHO_API_URL", &*server.base)];
    let _worker = TestWorker::start(&folder, &[&variables[..], &at].concat());
    let id = server.upload(&wav(0.1, 2), &[]).job_id();
    running(&server, &id);
    disk.fill();
    // The job ends, and its lease would, and be missed.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(server.job(&id)["status"], "processing");
    disk.clear();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
}

#[test]
fn a_redis_that_never_answers_delays_nobody_for_long() {
    let folder = Folder::new("hung");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().collect();
        drop(held);
    });
    let server = TestServer::scripted(&folder, &[("REDIS_URL", &*url)]);
    for mark in 0..8 {
        let began = Instant::now();
        let id = server.upload(&wav(0.1, mark), &[]).job_id();
        assert_eq!(server.wait(&id)["status"], "completed");
        let reply = server.get(&format!("/api/v1/transcription/{id}/download?format=txt"));
        assert_eq!(reply.text(), "pretended\n");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    let began = Instant::now();
    assert_eq!(server.upload(&wav(0.1, 0), &[]).status, 200, "the same is not run again");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn without_its_model_the_server_says_why_and_keeps_jobs() {
    let folder = Folder::new("model");
    std::fs::create_dir(folder.0.join("empty")).unwrap();
    let variables = [("ECHO_MODEL", "no-such-model"), ("ECHO_MODEL_DIR", "empty")];
    let server = TestServer::start(&folder, &variables);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let ready = eventually("a reason", || {
        let reply = server.get("/health/ready");
        reply.json()["checks"]["workers"]["reason"].is_string().then_some(reply)
    });
    assert_eq!((ready.status, &ready.json()["checks"]["workers"]["ok"]), (503, &false.into()));
    assert_eq!(server.get("/health/live").status, 200);
    // Pauses of 1, 2, 4, … seconds: at most three starts in four seconds.
    let (mut processes, end) = (HashSet::new(), Instant::now() + Duration::from_secs(4));
    while Instant::now() < end {
        processes.extend(server.workers());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(processes.len() <= 3, "{} starts", processes.len());
    assert_eq!(server.job(&id)["status"], "pending");
}

#[test]
fn a_diarization_model_that_is_none_is_why_no_worker_is_ready() {
    let folder = Folder::new("diarization");
    // A model that can be had has nothing to do with it: it is not asked for.
    let variables = [("ECHO_DIARIZATION_MODEL", "base"), ("ECHO_MODEL_DIR", "empty")];
    let server = TestServer::start(&folder, &variables);
    let reason = eventually("a reason", || {
        let ready = server.get("/health/ready").json();
        ready["checks"]["workers"]["reason"].as_str().map(str::to_owned)
    });
    assert!(reason.contains("option `diarization_model` is `base`"), "{reason}");
    assert!(!folder.0.join("empty").exists(), "something was asked for");
}

/// Reads events until the connection ends: their names, numbers and data.
fn read_events(
    address: &str,
    path: &str,
    last: Option<&str>,
    lines: usize,
) -> Vec<(String, String, String)> {
    let mut stream = TcpStream::connect(address).unwrap();
    let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let head = format!("GET {path} HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n{last}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut events, mut id, mut kind) = (Vec::new(), String::new(), String::new());
    for line in BufReader::new(stream.try_clone().unwrap()).lines().take(lines) {
        let Ok(line) = line else { break };
        if let Some(text) = line.strip_prefix("id: ") {
            text.clone_into(&mut id);
        } else if let Some(text) = line.strip_prefix("event: ") {
            text.clone_into(&mut kind);
        } else if let Some(text) = line.strip_prefix("data: ") {
            events.push((kind.clone(), id.clone(), text.to_owned()));
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    events
}

#[test]
fn a_reader_of_events_that_is_cut_off_again_and_again_misses_nothing() {
    let folder = Folder::new("cut");
    let variables = [("ECHO_TEST_JOB_MS", "40"), ("ECHO_TEST_SEGMENTS", "40")];
    let server = TestServer::scripted(&folder, &variables);
    let (kind, body) = form(&wav(0.1, 1), "a.wav", &[]);
    let reply = server.send("POST", "/api/v1/upload/file", &[("content-type", &kind)], &body);
    let path = format!("/api/v1/transcription/{}/events", reply.job_id());
    let address = server.base.trim_start_matches("http://");
    let (mut last, mut texts, mut connections) = (None::<String>, Vec::new(), 0);
    loop {
        connections += 1;
        assert!(connections < 500, "{texts:?}");
        // Cut in the middle of whatever comes, sometimes before anything new.
        let events = read_events(address, &path, last.as_deref(), 9 + connections % 23);
        for (kind, id, data) in &events {
            if kind == "segment" {
                let segment: Value = serde_json::from_str(data).unwrap();
                texts.push(segment["text"].as_str().unwrap().to_owned());
            }
            if !id.is_empty() {
                last = Some(id.clone());
            }
        }
        if events.iter().any(|(kind, ..)| kind == "done") {
            break;
        }
    }
    let said =
        (0..=40).map(|n| if n == 0 { "pretended".to_owned() } else { format!("pretended {n}") });
    assert_eq!(texts, said.collect::<Vec<_>>());
    assert!(connections > 3, "{connections}");
}
