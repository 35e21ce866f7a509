//! A fleet on one machine: three replicas behind a proxy, five workers, PostgreSQL, NATS and Redis as
//! processes on loopback, killed at random while clients go on.
//!
//! `ECHO_TEST_FLEET=JOBS:SECONDS` sets how much and how long; without it a short run is made.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::proxy::Proxy;
use support::receiver::{Receiver, answer};
use support::services::{self, Service};
use support::{Folder, Reply, TestServer, TestWorker, eventually, form, try_send, wav};

const SECRET: &str = "a secret of workers that nobody guesses";

struct Fleet {
    proxy: Proxy,
    folder: Folder,
    variables: Vec<(String, String)>,
}

/// What the fleet stands on.
struct Ground {
    postgres: Service,
    nats: Service,
    redis: Service,
}

impl Fleet {
    fn start(name: &str, job_ms: &str) -> Option<(Self, Ground)> {
        let (postgres, nats, redis) =
            (services::postgres()?, services::nats()?, services::redis()?);
        let ground = Ground { postgres, nats, redis };
        let nats_url = format!("nats://127.0.0.1:{}", ground.nats.port);
        let redis_url = format!("redis://127.0.0.1:{}", ground.redis.port);
        let proxy = Proxy::start();
        let variables = [
            ("DATABASE_URL", services::postgres_url(&ground.postgres)),
            ("ECHO_QUEUE", "nats".to_owned()),
            ("NATS_URL", nats_url),
            ("REDIS_URL", redis_url),
            ("ECHO_API_URL", proxy.base.clone()),
            ("ECHO_WORKER_SECRET", SECRET.to_owned()),
            ("ECHO_LEASE_SECONDS", "4".to_owned()),
            ("ECHO_HEARTBEAT_SECONDS", "0.5".to_owned()),
            ("ECHO_MAX_ATTEMPTS", "50".to_owned()),
            ("ECHO_MAX_PENDING", "100000".to_owned()),
            ("ECHO_DRAIN_SECONDS", "1".to_owned()),
            ("ECHO_TEST_JOB_MS", job_ms.to_owned()),
            ("ECHO_ALLOW_INSECURE_CALLBACKS", "true".to_owned()),
            ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Some((Self { proxy, folder: Folder::new(name), variables }, ground))
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// One more replica, which the proxy knows.
    fn replica(&self) -> TestServer {
        let server = TestServer::start(&self.folder, &self.variables());
        self.proxy.add(&server.base);
        server
    }

    fn worker(&self) -> TestWorker {
        TestWorker::start(&self.folder, &self.variables())
    }

    /// Asks until there is an answer that is no failure; says how often it was asked.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (Reply, u32) {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut tries = 0;
        let reply = eventually("an answer", || {
            tries += 1;
            let reply = try_send(&self.proxy.base, method, path, &headers, body).ok()?;
            // 409 of a key: the first try is still being worked at, or its server died of it.
            (reply.status < 500 && reply.status != 429 && reply.status != 409).then_some(reply)
        });
        (reply, tries)
    }

    /// Submits a job that differs from all others; says its id and how often it was tried.
    fn submit(&self, mark: u32, fields: &[(&str, &str)]) -> (String, u32) {
        let (kind, body) = form(&wav(0.05, mark), "a.wav", fields);
        let headers = [("content-type", kind.as_str())];
        let (reply, tries) = self.ask("POST", "/api/v1/upload/file", &headers, &body);
        assert!(matches!(reply.status, 200 | 202), "{} {}", reply.status, reply.text());
        (reply.job_id(), tries)
    }

    fn wait(&self, id: &str) -> Value {
        eventually("the end of a job", || {
            let path = format!("/api/v1/transcription/{id}?wait=5&include=none");
            let job = self.ask("GET", &path, &[], b"").0.json();
            let status = job["status"].as_str().unwrap_or_default();
            ["completed", "failed", "cancelled"].contains(&status).then_some(job)
        })
    }
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Jobs and seconds of the run below.
fn size() -> (u32, Duration) {
    let given = std::env::var("ECHO_TEST_FLEET").ok();
    let given = given.as_deref().and_then(|text| text.split_once(':'));
    let given = given.and_then(|(jobs, seconds)| Some((jobs.parse().ok()?, seconds.parse().ok()?)));
    let (jobs, seconds) = given.unwrap_or((60, 40));
    (jobs, Duration::from_secs(seconds))
}

/// Resident bytes and open files of a process.
fn resources(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    (kib.unwrap_or(0) * 1024, files)
}

#[test]
fn whatever_is_killed_every_accepted_job_ends_once() {
    let Some((mut fleet, mut ground)) = Fleet::start("fleet", "300") else { return };
    let (jobs, time) = size();
    let receiver = Receiver::start(|_, _| answer(204, "", b""));
    fleet.variables.push(("ECHO_FETCH_PORTS".to_owned(), receiver.port.to_string()));
    // The first one is never killed: what it holds must not grow.
    let mut replicas: Vec<TestServer> = (0..3).map(|_| fleet.replica()).collect();
    let mut workers: Vec<TestWorker> = (0..5).map(|_| fleet.worker()).collect();
    let steady = replicas[0].process.id();
    let (callback, marks) = (receiver.url("/hook"), AtomicU32::new(0));
    let (accepted, retries) = (Mutex::new(Vec::new()), AtomicU32::new(0));
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut faults: HashMap<&str, u32> = HashMap::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (fleet, callback) = (&fleet, &callback);
            let (marks, accepted, retries, is_over) = (&marks, &accepted, &retries, &is_over);
            scope.spawn(move || {
                loop {
                    let mark = marks.fetch_add(1, Ordering::Relaxed);
                    if mark >= jobs {
                        break;
                    }
                    // Spread over the time of the run.
                    while began.elapsed() < time.mul_f64(f64::from(mark) / f64::from(jobs))
                        && !is_over.load(Ordering::Relaxed)
                    {
                        std::thread::park_timeout(Duration::from_millis(20));
                    }
                    let (id, tries) = fleet.submit(mark, &[("callback_url", callback)]);
                    retries.fetch_add(tries - 1, Ordering::Relaxed);
                    accepted.lock().unwrap().push(id);
                }
            });
        }
        let mut random = Random(88_172_645_463_325_252);
        while began.elapsed() < time {
            std::thread::park_timeout(Duration::from_millis(500 + random.below(2000)));
            samples.push(resources(steady));
            let kind = match random.below(10) {
                0..=3 => {
                    let unlucky = random.below(workers.len() as u64) as usize;
                    workers[unlucky].kill();
                    workers[unlucky] = fleet.worker();
                    "worker"
                }
                4..=6 => {
                    let unlucky = 1 + random.below(2) as usize;
                    let base = replicas[unlucky].base.clone();
                    replicas[unlucky].kill();
                    fleet.proxy.remove(&base);
                    replicas[unlucky] = fleet.replica();
                    "replica"
                }
                7 => {
                    ground.nats.kill();
                    ground.nats.revive();
                    "nats"
                }
                8 => {
                    ground.redis.kill();
                    ground.redis.revive();
                    "redis"
                }
                _ => {
                    ground.postgres.kill();
                    ground.postgres.revive();
                    "postgres"
                }
            };
            *faults.entry(kind).or_default() += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let accepted = accepted.into_inner().unwrap();
    for id in &accepted {
        let job = fleet.wait(id);
        assert_eq!(job["status"], "completed", "{job}");
    }
    let url = services::postgres_url(&ground.postgres).replace("+asyncpg", "");
    let mut db = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let mut count = |sql: &str| db.query_one(sql, &[]).unwrap().get::<_, i64>(0);
    // A submission whose answer was lost has left a job that nobody waits for.
    eventually("the jobs nobody waits for", || {
        let open = "SELECT count(*) FROM jobs WHERE state IN ('pending', 'processing')";
        (count(open) == 0).then_some(())
    });
    let wrong = count("SELECT count(*) FROM jobs WHERE state != 'completed' OR commits != 1");
    let twice = count(
        "SELECT count(*) FROM (SELECT job_id FROM attempts WHERE outcome = 'completed' \
         GROUP BY job_id HAVING count(*) > 1) AS t",
    );
    let total = count("SELECT count(*) FROM jobs");
    let commits = count("SELECT sum(commits)::bigint FROM jobs");
    let attempts = count("SELECT count(*) FROM attempts");
    let events = count("SELECT count(DISTINCT event_id) FROM deliveries");
    let deliveries = count("SELECT count(*) FROM deliveries");
    let (first, last) = (samples[samples.len() / 3], samples[samples.len() - 1]);
    println!(
        "{} accepted of {total} kept, {attempts} attempts, {commits} commits, {wrong} wrong, \
         {twice} done twice, {deliveries} deliveries, {} retries of clients, faults {faults:?}, \
         resident {} → {} MiB, files {} → {}, {:.0} s",
        accepted.len(),
        retries.into_inner(),
        first.0 >> 20,
        last.0 >> 20,
        first.1,
        last.1,
        began.elapsed().as_secs_f64(),
    );
    assert_eq!(accepted.iter().collect::<HashSet<_>>().len(), accepted.len());
    assert_eq!((accepted.len() as u32, wrong, twice), (jobs, 0, 0));
    assert_eq!((commits, events, deliveries), (total, total, total));
    assert!(last.1 < first.1 + 40 && last.0 < first.0 + (64 << 20), "{first:?} {last:?}");
    // Each message that came names one event, and each job has one.
    let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
    for asked in receiver.asked() {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let job = body["data"]["job_id"].as_str().unwrap().to_owned();
        ids.entry(job).or_default().insert(asked.header("webhook-id").to_owned());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
}

#[test]
fn a_rolling_restart_fails_no_request_and_loses_no_job() {
    let Some((fleet, _ground)) = Fleet::start("rolling", "50") else { return };
    let mut replicas: Vec<TestServer> = (0..3).map(|_| fleet.replica()).collect();
    let _workers: Vec<TestWorker> = (0..2).map(|_| fleet.worker()).collect();
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
        for replica in &mut replicas {
            let before = accepted.lock().unwrap().len();
            eventually("some jobs", || (accepted.lock().unwrap().len() > before + 5).then_some(()));
            // The new one first, as a rolling update does it.
            let next = fleet.replica();
            fleet.proxy.remove(&replica.base);
            let pid = replica.process.id().to_string();
            let told = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
            assert!(told.unwrap().success() && replica.process.wait().unwrap().success());
            *replica = next;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let accepted = accepted.into_inner().unwrap();
    for id in &accepted {
        assert_eq!(fleet.wait(id)["status"], "completed");
    }
    println!("{} jobs, {} requests tried again", accepted.len(), retries.into_inner());
}

/// The value that this share of all is not above.
fn quantile(values: &mut [i64], share: f64) -> i64 {
    values.sort_unstable();
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// `cargo nextest run -p echo-server --test fleet --run-ignored only --no-capture` shows the figures.
#[test]
#[ignore = "measures, and takes minutes"]
fn throughput_grows_with_workers() {
    const JOB_MS: u32 = 1000;
    let Some((fleet, ground)) = Fleet::start("speed", &JOB_MS.to_string()) else { return };
    let _replica = fleet.replica();
    let url = services::postgres_url(&ground.postgres).replace("+asyncpg", "");
    let mut db = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let mut workers: Vec<TestWorker> = Vec::new();
    let mut mark = 0;
    for count in [1, 2, 4, 8] {
        while workers.len() < count {
            workers.push(fleet.worker());
        }
        let jobs = 12 * count as u32;
        // As many as there are workers first: when they are done, all workers are there.
        let mut run = |jobs: u32| -> Vec<String> {
            let ids: Vec<String> = (0..jobs).map(|n| fleet.submit(mark + n, &[]).0).collect();
            mark += jobs;
            ids.iter().for_each(|id| drop(fleet.wait(id)));
            ids
        };
        run(2 * count as u32);
        let ids = run(jobs);
        let sql = "SELECT (max(finished_at) - min(started_at))::float8 / 1000 FROM jobs \
            WHERE id = ANY($1)";
        let seconds: f64 = db.query_one(sql, &[&ids]).unwrap().get(0);
        let rate = f64::from(jobs) / seconds;
        let ideal = count as f64 * 1000.0 / f64::from(JOB_MS);
        println!("{count} workers: {rate:.2} jobs/s, {:.0} % of {ideal:.0}", 100.0 * rate / ideal);
    }
    // Fewer jobs than workers: nothing but dispatch is waited for.
    let mut waits = Vec::new();
    for n in 0..60 {
        let (id, _) = fleet.submit(1_000_000 + n, &[]);
        fleet.wait(&id);
        let sql = "SELECT started_at - created_at FROM jobs WHERE id = $1";
        waits.push(db.query_one(sql, &[&id]).unwrap().get::<_, i64>(0));
    }
    let (half, most) = (quantile(&mut waits, 0.5), quantile(&mut waits, 0.99));
    println!("from 202 to a lease with idle workers: p50 {half} ms, p99 {most} ms");
}

/// How fast the outbox announces what waits: 2,000 rows that were there before the server.
#[test]
#[ignore = "measures"]
fn waiting_jobs_are_announced_fast() {
    use std::io::{BufRead, BufReader, Read, Write};
    const JOBS: i32 = 2000;
    let Some((fleet, ground)) = Fleet::start("outbox", "1") else { return };
    let mut replica = fleet.replica();
    fleet.submit(0, &[]);
    replica.kill();
    let url = services::postgres_url(&ground.postgres).replace("+asyncpg", "");
    let mut db = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let sql = "INSERT INTO jobs (id, tenant_id, state, phase, options_json, source_json, \
        blob_hash, max_attempts, created_at) SELECT 'job-' || n, tenant_id, 'pending', 'run', \
        options_json, source_json, blob_hash, 3, created_at \
        FROM jobs, generate_series(1, $1) AS n";
    db.execute(sql, &[&JOBS]).unwrap();
    let mut nats = std::net::TcpStream::connect(("127.0.0.1", ground.nats.port)).unwrap();
    nats.write_all(b"CONNECT {\"verbose\":false}\r\nSUB echo.jobs.* 1\r\n").unwrap();
    let mut lines = BufReader::new(nats.try_clone().unwrap());
    replica.restart();
    let (mut first, mut seen, mut line) = (None, 0, String::new());
    while seen < JOBS {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "NATS is gone");
        if line.starts_with("PING") {
            nats.write_all(b"PONG\r\n").unwrap();
        } else if line.starts_with("MSG") {
            let size: usize = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
            lines.read_exact(&mut vec![0; size + 2]).unwrap();
            first.get_or_insert_with(Instant::now);
            seen += 1;
        }
    }
    let seconds = first.unwrap().elapsed().as_secs_f64();
    println!("{JOBS} jobs announced in {seconds:.3} s: {:.0} a second", f64::from(JOBS) / seconds);
}
