//! A fleet on one machine: replicas behind a proxy, workers, and what they stand on, as processes on
//! loopback; between them and what they stand on wires that can be cut.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::proxy::Proxy;
use super::services::{self, Service};
use super::wire::Wire;
use super::{Folder, Reply, TestServer, TestWorker, eventually, form, try_send, wav};

const SECRET: &str = "a secret of workers that nobody guesses";

pub struct Fleet {
    pub proxy: Proxy,
    pub folder: Folder,
    pub variables: Vec<(String, String)>,
}

/// What the fleet stands on.
pub struct Ground {
    pub postgres: Service,
    pub nats: Service,
    pub redis: Service,
    /// Without it sound lies in a folder.
    pub moto: Option<Service>,
    pub wires: Wires,
}

/// The ways to all that.
pub struct Wires {
    pub postgres: Wire,
    pub nats: Wire,
    pub bucket: Option<Wire>,
}

impl Ground {
    /// Starts all of it; `None` where something is not installed.
    fn start() -> Option<Self> {
        let (postgres, nats, redis) =
            (services::postgres()?, services::nats()?, services::redis()?);
        let moto = services::moto();
        let wires = Wires {
            postgres: Wire::to(postgres.port),
            nats: Wire::to(nats.port),
            bucket: moto.as_ref().map(|moto| Wire::to(moto.port)),
        };
        Some(Self { postgres, nats, redis, moto, wires })
    }

    /// The database itself, without the wire.
    pub fn database(&self) -> postgres::Client {
        let url = services::postgres_url(&self.postgres).replace("+asyncpg", "");
        postgres::Client::connect(&url, postgres::NoTls).unwrap()
    }
}

impl Fleet {
    /// A fleet whose ways to everything are wires.
    pub fn start(name: &str, job_ms: &str) -> Option<(Self, Ground)> {
        let ground = Ground::start()?;
        let ports = (ground.wires.postgres.port, ground.wires.nats.port);
        let bucket = ground.wires.bucket.as_ref().map(|wire| wire.port);
        Some((Self::on(&ground, ports, bucket, name, job_ms), ground))
    }

    /// A fleet that is measured: nothing lies between.
    pub fn start_plain(name: &str, job_ms: &str) -> Option<(Self, Ground)> {
        let ground = Ground::start()?;
        let ports = (ground.postgres.port, ground.nats.port);
        Some((Self::on(&ground, ports, None, name, job_ms), ground))
    }

    fn on(
        ground: &Ground,
        (postgres, nats): (u16, u16),
        bucket: Option<u16>,
        name: &str,
        job_ms: &str,
    ) -> Self {
        let proxy = Proxy::start();
        let variables = [
            ("DATABASE_URL", services::postgres_url_at(postgres)),
            ("ECHO_QUEUE", "nats".to_owned()),
            ("NATS_URL", format!("nats://127.0.0.1:{nats}")),
            ("REDIS_URL", format!("redis://127.0.0.1:{}", ground.redis.port)),
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
        let mut variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        variables.extend(bucket.into_iter().flat_map(services::bucket));
        Self { proxy, folder: Folder::new(name), variables }
    }

    pub fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// One more replica, which the proxy knows.
    pub fn replica(&self) -> TestServer {
        self.replica_of(None)
    }

    /// The same, maybe of another build.
    pub fn replica_of(&self, build: Option<&Path>) -> TestServer {
        let server = match build {
            None => TestServer::start(&self.folder, &self.variables()),
            Some(build) => TestServer::of(build, &self.folder, &self.variables()),
        };
        self.proxy.add(&server.base);
        server
    }

    pub fn worker(&self) -> TestWorker {
        self.worker_of(None)
    }

    /// The same, maybe of another build.
    pub fn worker_of(&self, build: Option<&Path>) -> TestWorker {
        let has_model = self.variables.iter().any(|(name, _)| name == "ECHO_MODEL_DIR");
        match build {
            None if has_model => TestWorker::with_model(&self.folder, &self.variables()),
            None => TestWorker::start(&self.folder, &self.variables()),
            Some(build) => TestWorker::of(build, &self.folder, &self.variables()),
        }
    }

    /// Asks until there is an answer that is no failure; says how often it was asked.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (Reply, u32) {
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
    pub fn submit(&self, mark: u32, fields: &[(&str, &str)]) -> (String, u32) {
        self.submit_sound(&wav(0.05, mark), fields)
    }

    /// The same with sound of the caller's.
    pub fn submit_sound(&self, sound: &[u8], fields: &[(&str, &str)]) -> (String, u32) {
        let (kind, body) = form(sound, "sound", fields);
        let headers = [("content-type", kind.as_str())];
        let (reply, tries) = self.ask("POST", "/api/v1/upload/file", &headers, &body);
        assert!(matches!(reply.status, 200 | 202), "{} {}", reply.status, reply.text());
        (reply.job_id(), tries)
    }

    pub fn wait(&self, id: &str) -> Value {
        eventually("the end of a job", || {
            let path = format!("/api/v1/transcription/{id}?wait=5&include=none");
            let job = self.ask("GET", &path, &[], b"").0.json();
            let status = job["status"].as_str().unwrap_or_default();
            ["completed", "failed", "cancelled"].contains(&status).then_some(job)
        })
    }
}

/// Numbers that look random and are the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What processes hold, over time.
#[derive(Default)]
pub struct Ledger(HashMap<(String, u32), Vec<Sample>>);

/// One look at a process.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    resident_bytes: u64,
    files: usize,
}

/// What is loaded and cached is so by then.
const SETTLED: Duration = Duration::from_secs(300);

/// How much a process grew.
#[derive(Debug)]
pub struct Growth {
    pub name: String,
    pub lived: Duration,
    /// Of the resident memory, since it was a third of its life or five minutes old.
    pub mib_a_minute: f64,
    pub files_a_minute: f64,
    pub mib: (u64, u64),
    pub files: (usize, usize),
}

impl Ledger {
    /// Looks at a process, if it is there.
    pub fn look(&mut self, name: &str, pid: u32) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return };
        let Some(line) = status.lines().find(|line| line.starts_with("VmRSS")) else { return };
        let kib = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let resident_bytes = kib.unwrap_or(0) * 1024;
        let sample = Sample { at: Instant::now(), resident_bytes, files };
        self.0.entry((name.to_owned(), pid)).or_default().push(sample);
    }

    /// Looks at a process and at those that it started.
    pub fn look_at_family(&mut self, name: &str, pid: u32) {
        self.look(name, pid);
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let own = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in own.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                self.look(&format!("child of {name}"), child);
            }
        }
    }

    /// How all processes grew that lived so long.
    pub fn growth(&self, at_least: Duration) -> Vec<Growth> {
        let grown = self.0.iter().filter_map(|((name, _), samples)| {
            let (born, last) = (samples.first()?, samples.last()?);
            let lived = last.at - born.at;
            // What is loaded and cached at first is not growth.
            let settles = (lived / 3).min(SETTLED);
            let settled = samples.iter().filter(|sample| sample.at - born.at >= settles);
            let settled: Vec<_> = settled.collect();
            let first = settled.first()?;
            let minutes = |sample: &Sample| (sample.at - born.at).as_secs_f64() / 60.0;
            let mib = |sample: &Sample| sample.resident_bytes as f64 / f64::from(1 << 20);
            let slope = |value: &dyn Fn(&Sample) -> f64| {
                slope(settled.iter().map(|sample| (minutes(sample), value(sample))))
            };
            (lived >= at_least && settled.len() > 2).then(|| Growth {
                name: name.clone(),
                lived,
                mib_a_minute: slope(&mib),
                files_a_minute: slope(&|sample| sample.files as f64),
                mib: (first.resident_bytes >> 20, last.resident_bytes >> 20),
                files: (first.files, last.files),
            })
        });
        grown.collect()
    }
}

/// The line through points that is nearest to all, by least squares: how steep it is.
fn slope(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<_> = points.collect();
    let count = points.len() as f64;
    let (x_mean, y_mean) =
        points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x_mean, y_mean) = (x_mean / count, y_mean / count);
    let (rise, run) = points.iter().fold((0.0, 0.0), |(rise, run), (x, y)| {
        (rise + (x - x_mean) * (y - y_mean), run + (x - x_mean).powi(2))
    });
    if run > 0.0 { rise / run } else { 0.0 }
}
