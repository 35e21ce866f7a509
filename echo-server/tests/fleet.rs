//! A fleet on one machine: three replicas behind a proxy, five workers, PostgreSQL, NATS, Redis and S3 as
//! processes on loopback, killed and cut off at random while clients go on.
//!
//! `ECHO_TEST_FLEET=JOBS:SECONDS` sets how much and how long; without it a short run is made.
//! `ECHO_TEST_BUILD=PATH` is another build of the server, which the rolling update begins with and goes back to.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::fleet::{Fleet, Ground, Growth, Ledger, Random};
use support::receiver::{Receiver, answer};
use support::wire::{Mood, Wire};
use support::{TestServer, TestWorker, dialogue, eventually};

/// A process that lives so long has a slope; one that dies earlier may not be much larger at its end. In
/// a few minutes an allocator's sawtooth is steep by itself.
const LONG_LIFE: Duration = Duration::from_secs(600);
const MAX_MIB_A_MINUTE: f64 = 1.0;
const MAX_FILES_A_MINUTE: f64 = 1.0;
const MAX_MIB: u64 = 64;
const MAX_FILES: usize = 40;
/// For so long after the last fault a delivery may be waited for.
const LATE_DELIVERY: Duration = Duration::from_secs(300);

fn is_long_run() -> bool {
    std::env::var_os("ECHO_TEST_FLEET").is_some()
}

/// Jobs and seconds of the run below.
fn size() -> (u32, Duration) {
    let given = std::env::var("ECHO_TEST_FLEET").ok();
    let given = given.as_deref().and_then(|text| text.split_once(':'));
    let given = given.and_then(|(jobs, seconds)| Some((jobs.parse().ok()?, seconds.parse().ok()?)));
    let (jobs, seconds) = given.unwrap_or((60, 40));
    (jobs, Duration::from_secs(seconds))
}

/// All that may be killed or cut off. The first replica and the first worker never are killed: what
/// they hold must not grow.
struct Stage<'a> {
    fleet: &'a Fleet,
    ground: Ground,
    replicas: Vec<TestServer>,
    workers: Vec<TestWorker>,
    random: Random,
}

impl Stage<'_> {
    /// Lets something happen; says what.
    fn fault(&mut self) -> &'static str {
        match self.random.below(13) {
            0..=3 => {
                let unlucky = 1 + self.random.below(self.workers.len() as u64 - 1) as usize;
                self.workers[unlucky].kill();
                self.workers[unlucky] = self.fleet.worker();
                "worker"
            }
            4..=6 => {
                let unlucky = 1 + self.random.below(self.replicas.len() as u64 - 1) as usize;
                let base = self.replicas[unlucky].base.clone();
                self.replicas[unlucky].kill();
                self.fleet.proxy.remove(&base);
                self.replicas[unlucky] = self.fleet.replica();
                "replica"
            }
            7 => {
                self.ground.nats.kill();
                self.ground.nats.revive();
                "nats"
            }
            8 => {
                self.ground.redis.kill();
                self.ground.redis.revive();
                "redis"
            }
            9 => {
                self.ground.postgres.kill();
                self.ground.postgres.revive();
                "postgres"
            }
            10 => {
                cut(&mut self.random, &self.ground.wires.nats);
                "way to nats"
            }
            11 => {
                cut(&mut self.random, &self.ground.wires.postgres);
                "way to postgres"
            }
            _ => {
                if let Some(wire) = &self.ground.wires.bucket {
                    cut(&mut self.random, wire);
                }
                "way to s3"
            }
        }
    }

    /// Four clients submit so many jobs, spread over the time, while things happen; the jobs' ids.
    fn go_on(
        &mut self,
        jobs: u32,
        time: Duration,
        ledger: &mut Ledger,
        submit: &(dyn Fn(u32) -> (String, u32) + Sync),
    ) -> Vec<String> {
        let (marks, retries) = (AtomicU32::new(0), AtomicU32::new(0));
        let (accepted, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let began = Instant::now();
        let mut faults: HashMap<&str, u32> = HashMap::new();
        let client = || {
            loop {
                let mark = marks.fetch_add(1, Ordering::Relaxed);
                if mark >= jobs {
                    break;
                }
                let due = time.mul_f64(f64::from(mark) / f64::from(jobs));
                while began.elapsed() < due && !is_over.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                let (id, tries) = submit(mark);
                retries.fetch_add(tries - 1, Ordering::Relaxed);
                accepted.lock().unwrap().push(id);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(client);
            }
            while began.elapsed() < time {
                std::thread::park_timeout(Duration::from_millis(500 + self.random.below(2000)));
                self.look(ledger);
                *faults.entry(self.fault()).or_default() += 1;
            }
            is_over.store(true, Ordering::Relaxed);
        });
        println!("{} retries of clients, faults {faults:?}", retries.into_inner());
        accepted.into_inner().unwrap()
    }

    fn look(&self, ledger: &mut Ledger) {
        for replica in &self.replicas {
            ledger.look_at_family("replica", replica.process.id());
        }
        for worker in &self.workers {
            ledger.look_at_family("worker", worker.process.id());
        }
        for (name, service) in [("nats", &self.ground.nats), ("redis", &self.ground.redis)] {
            service.id().into_iter().for_each(|pid| ledger.look(name, pid));
        }
    }
}

/// Cuts connections, for a moment or for a while, or lets them hang.
fn cut(random: &mut Random, wire: &Wire) {
    let time = Duration::from_millis(300 + random.below(2500));
    match random.below(3) {
        0 => wire.cut(),
        1 => wire.for_a_time(Mood::Cut, time),
        _ => wire.for_a_time(Mood::Deaf, time),
    }
}

#[test]
fn whatever_is_killed_every_accepted_job_ends_once() {
    let Some((mut fleet, ground)) = Fleet::start("fleet", "300") else { return };
    let (jobs, time) = size();
    let receiver = Receiver::start(|_, _| answer(204, "", b""));
    fleet.variables.push(("ECHO_FETCH_PORTS".to_owned(), receiver.port.to_string()));
    let fleet = &fleet;
    let mut stage = Stage {
        replicas: (0..3).map(|_| fleet.replica()).collect(),
        workers: (0..5).map(|_| fleet.worker()).collect(),
        random: Random(88_172_645_463_325_252),
        fleet,
        ground,
    };
    let (callback, began) = (receiver.url("/hook"), Instant::now());
    let mut ledger = Ledger::default();
    let submit = |mark| fleet.submit(mark, &[("callback_url", &callback)]);
    let accepted = stage.go_on(jobs, time, &mut ledger, &submit);
    for id in &accepted {
        let job = fleet.wait(id);
        assert_eq!(job["status"], "completed", "{job}");
    }
    let told = audit(&mut stage.ground, &accepted, jobs);
    audit_events(&receiver, told);
    stage.look(&mut ledger);
    audit_growth(&ledger.growth(Duration::from_secs(10)));
    println!("{:.0} s", began.elapsed().as_secs_f64());
}

#[test]
fn whatever_is_killed_the_real_model_does_every_job_once() {
    let Some(store) = std::env::var("ECHO_TEST_STORE").ok() else {
        println!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
        return;
    };
    let Some((mut fleet, ground)) = Fleet::start("fleet-model", "0") else { return };
    let of_model = [("ECHO_MODEL", "base"), ("ECHO_MODEL_DIR", &store)];
    fleet.variables.extend(of_model.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let fleet = &fleet;
    let is_long = std::env::var_os("ECHO_TEST_LONG").is_some();
    let (jobs, seconds) = if is_long { (20, 90) } else { (3, 6) };
    let mut stage = Stage {
        replicas: (0..3).map(|_| fleet.replica()).collect(),
        workers: (0..2).map(|_| fleet.worker()).collect(),
        random: Random(88_172_645_463_325_252),
        fleet,
        ground,
    };
    // The same sound in a file of its own each time.
    let submit = |mark: u32| {
        let sound = [dialogue(), mark.to_le_bytes().to_vec()].concat();
        fleet.submit_sound(&sound, &[])
    };
    let text = |id: &str| {
        assert_eq!(fleet.wait(id)["status"], "completed");
        let path = format!("/api/v1/transcription/{id}/download?format=json");
        let result = fleet.ask("GET", &path, &[], b"").0.json();
        result["text"].as_str().unwrap().to_owned()
    };
    let calm = text(&submit(u32::MAX).0);
    assert!(calm.split_whitespace().count() > 20, "{calm}");
    let time = Duration::from_secs(seconds);
    let accepted = stage.go_on(jobs, time, &mut Ledger::default(), &submit);
    for id in &accepted {
        assert_eq!(text(id), calm);
    }
    let mut db = stage.ground.database();
    let mut count = |sql: &str| db.query_one(sql, &[]).unwrap().get::<_, i64>(0);
    let attempts = count("SELECT count(*) FROM attempts");
    println!("{jobs} jobs with the real model and the same text, {attempts} attempts for all");
    let wrong = "SELECT count(*) FROM jobs WHERE state = 'completed' AND commits != 1";
    assert_eq!((accepted.len() as u32, count(wrong)), (jobs, 0));
}

/// What the rows say: every job was done and told once. Returns how many were told.
fn audit(ground: &mut Ground, accepted: &[String], jobs: u32) -> i64 {
    let mut db = ground.database();
    let mut count = |sql: &str| db.query_one(sql, &[]).unwrap().get::<_, i64>(0);
    // A submission whose answer was lost has left a job that nobody waits for.
    eventually("the jobs nobody waits for", || {
        let open = "SELECT count(*) FROM jobs WHERE state IN ('pending', 'processing')";
        (count(open) == 0).then_some(())
    });
    // What a killed replica was about to deliver is due again only after two minutes.
    let undelivered = "SELECT count(*) FROM deliveries WHERE state != 'delivered'";
    let deadline = Instant::now() + if is_long_run() { LATE_DELIVERY } else { Duration::ZERO };
    while count(undelivered) > 0 && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let wrong = count("SELECT count(*) FROM jobs WHERE state != 'completed' OR commits != 1");
    let twice = count(
        "SELECT count(*) FROM (SELECT job_id FROM attempts WHERE outcome = 'completed' \
         GROUP BY job_id HAVING count(*) > 1) AS t",
    );
    let total = count("SELECT count(*) FROM jobs");
    let completed = count("SELECT count(*) FROM jobs WHERE state = 'completed'");
    let commits = count("SELECT sum(commits)::bigint FROM jobs");
    let attempts = count("SELECT count(*) FROM attempts");
    let events = count("SELECT count(DISTINCT event_id) FROM deliveries");
    let deliveries = count("SELECT count(*) FROM deliveries");
    let late = count(undelivered);
    println!(
        "{} accepted of {total} kept, {attempts} attempts, {commits} commits, {wrong} wrong, \
         {twice} done twice, {events} events in {deliveries} deliveries, {late} not delivered yet",
        accepted.len(),
    );
    assert!(late == 0 || !is_long_run(), "{late} deliveries");
    assert_eq!(accepted.iter().collect::<HashSet<_>>().len(), accepted.len());
    assert_eq!((accepted.len() as u32, wrong, twice), (jobs, 0, 0));
    assert_eq!((completed, commits, events, deliveries), (total, total, total, total));
    total - late
}

/// What the receiver heard: each job has one event, and no two have the same.
fn audit_events(receiver: &Receiver, told: i64) {
    let mut events: HashMap<String, HashSet<String>> = HashMap::new();
    let asked = receiver.asked();
    for asked in &asked {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let job = body["data"]["job_id"].as_str().unwrap().to_owned();
        events.entry(job).or_default().insert(asked.header("webhook-id").to_owned());
    }
    assert!(events.values().all(|ids| ids.len() == 1), "{events:?}");
    let ids: HashSet<_> = events.values().flatten().collect();
    println!(
        "{} events of {} jobs heard in {} messages, 0 ids of two events",
        ids.len(),
        events.len(),
        asked.len()
    );
    assert_eq!(ids.len(), events.len());
    // A killed replica may have told and not said so.
    assert!(events.len() as i64 >= told, "{} of {told}", events.len());
}

/// What processes hold does not grow.
fn audit_growth(all: &[Growth]) {
    for one in all {
        let is_long = one.lived >= LONG_LIFE;
        if is_long {
            println!(
                "{} of {:.0} s: {} → {} MiB ({:+.2} a minute), {} → {} files ({:+.2})",
                one.name,
                one.lived.as_secs_f64(),
                one.mib.0,
                one.mib.1,
                one.mib_a_minute,
                one.files.0,
                one.files.1,
                one.files_a_minute
            );
        }
        let is_steep =
            one.mib_a_minute > MAX_MIB_A_MINUTE || one.files_a_minute > MAX_FILES_A_MINUTE;
        assert!(!(is_long && is_steep), "{one:?}");
        assert!(
            one.mib.1 <= one.mib.0 + MAX_MIB && one.files.1 <= one.files.0 + MAX_FILES,
            "{one:?}"
        );
    }
    assert!(
        all.iter().any(|one| one.name == "replica") && all.iter().any(|one| one.name == "worker")
    );
    let most = |value: fn(&Growth) -> u64| all.iter().map(value).max().unwrap_or(0);
    println!(
        "{} processes of 10 s or more: at most {} MiB and {} files at their end",
        all.len(),
        most(|one| one.mib.1),
        most(|one| one.files.1 as u64)
    );
}

/// Stops a process as an orchestrator does.
fn terminate(process: &mut std::process::Child) {
    let pid = process.id().to_string();
    let told = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(told.unwrap().success() && process.wait().unwrap().success());
}

#[test]
fn a_rolling_update_fails_no_request_and_loses_no_job() {
    let Some((mut fleet, ground)) = Fleet::start("rolling", "50") else { return };
    let older: Option<PathBuf> = std::env::var_os("ECHO_TEST_BUILD").map(Into::into);
    if older.is_some() {
        // It may be from before there were buckets.
        let is_of_bucket = |name: &str| name == "ECHO_STORAGE_URL" || name.starts_with("AWS_");
        fleet.variables.retain(|(name, _)| !is_of_bucket(name));
    }
    let mut replicas: Vec<_> = (0..3).map(|_| fleet.replica_of(older.as_deref())).collect();
    let mut workers: Vec<_> = (0..2).map(|_| fleet.worker_of(older.as_deref())).collect();
    let is_over = AtomicBool::new(false);
    let (accepted, retries) = (Mutex::new(Vec::new()), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (fleet, accepted) = (&fleet, &accepted);
            let (retries, is_over) = (&retries, &is_over);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let (id, tries) = fleet.submit(client * 1_000_000 + n, &[]);
                    retries.fetch_add(tries - 1, Ordering::Relaxed);
                    accepted.lock().unwrap().push(id);
                }
            });
        }
        let some_jobs = || {
            let before = accepted.lock().unwrap().len();
            eventually("some jobs", || (accepted.lock().unwrap().len() > before + 5).then_some(()));
        };
        // There, and back to the build before, if that is another one.
        for build in [None, older.as_deref()] {
            for replica in &mut replicas {
                some_jobs();
                // The new one first, as a rolling update does it.
                let next = fleet.replica_of(build);
                some_jobs();
                fleet.proxy.remove(&replica.base);
                terminate(&mut replica.process);
                *replica = next;
            }
            for worker in &mut workers {
                some_jobs();
                let next = fleet.worker_of(build);
                terminate(&mut worker.process);
                *worker = next;
            }
            if older.is_none() {
                break;
            }
        }
        some_jobs();
        is_over.store(true, Ordering::Relaxed);
    });
    let accepted = accepted.into_inner().unwrap();
    for id in &accepted {
        assert_eq!(fleet.wait(id)["status"], "completed");
    }
    println!(
        "with {}: {} jobs, {} requests tried again",
        older.as_deref().unwrap_or(Path::new("this build")).display(),
        accepted.len(),
        retries.into_inner()
    );
    let wrong = "SELECT count(*) FROM jobs WHERE state != 'completed' OR commits != 1";
    assert_eq!(ground.database().query_one(wrong, &[]).unwrap().get::<_, i64>(0), 0);
}
