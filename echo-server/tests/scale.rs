//! How far it goes: jobs a second by the number of workers, and how soon a waiting job is announced.
//!
//! `cargo nextest run -p echo-server --test scale --run-ignored only --no-capture` shows the figures.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use echo_server::app::App;
use echo_server::config::{Config, Given};
use echo_server::server;
use support::fleet::{Fleet, Ground};
use support::{TestWorker, eventually};

/// The value that this share of all is not above.
fn quantile<T: PartialOrd + Copy>(values: &mut [T], share: f64) -> T {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap());
    values[((values.len() - 1) as f64 * share).round() as usize]
}

#[test]
#[ignore = "measures, and takes minutes"]
fn throughput_grows_with_workers() {
    const JOB_MS: u32 = 1000;
    let Some((fleet, ground)) = Fleet::start_plain("speed", &JOB_MS.to_string()) else { return };
    let _replica = fleet.replica();
    let mut db = ground.database();
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
        assert!(rate >= 0.9 * ideal, "{rate} of {ideal}");
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

/// Rows like one that was submitted, as many as wanted.
const COPIES: &str = "INSERT INTO jobs (id, tenant_id, state, phase, options_json, source_json, \
    blob_hash, cache_key, max_attempts, created_at) SELECT $1 || n, tenant_id, 'pending', 'run', \
    options_json, source_json, blob_hash, cache_key || n, 50, \
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
    FROM jobs, generate_series($2::int, $3::int) AS n WHERE id = $4";

/// A job whose worker takes no time, and with it what the servers themselves can do.
#[test]
#[ignore = "measures, and takes minutes"]
fn jobs_that_take_no_time_show_the_ceiling() {
    const JOBS: i32 = 3000;
    let Some((mut fleet, ground)) = Fleet::start_plain("ceiling", "0") else { return };
    fleet.variables.push(("ECHO_WORKER_SLOTS".to_owned(), "8".to_owned()));
    let replicas = [fleet.replica(), fleet.replica()];
    let workers = [fleet.worker(), fleet.worker()];
    let pids = |name| match name {
        "replicas" => replicas.iter().map(|one| one.process.id()).collect::<Vec<_>>(),
        "workers" => workers.iter().map(|one| one.process.id()).collect(),
        "nats" => ground.nats.id().into_iter().collect(),
        _ => ground.postgres.id().into_iter().collect(),
    };
    let kinds = ["replicas", "workers", "nats", "postgres"];
    let used = || kinds.map(|name| pids(name).into_iter().map(cpu_seconds).sum::<f64>());
    let (template, _) = fleet.submit(0, &[]);
    fleet.wait(&template);
    let mut db = ground.database();
    let before = used();
    db.execute(COPIES, &[&"many-", &1, &JOBS, &template]).unwrap();
    let open = "SELECT count(*) FROM jobs WHERE state IN ('pending', 'processing')";
    eventually("the end of all", || {
        (db.query_one(open, &[]).unwrap().get::<_, i64>(0) == 0).then_some(())
    });
    let sql = "SELECT (max(finished_at) - min(started_at))::float8 / 1000, count(*) FROM jobs \
        WHERE id LIKE 'many-%' AND state = 'completed'";
    let row = db.query_one(sql, &[]).unwrap();
    let (seconds, done) = (row.get::<_, f64>(0), row.get::<_, i64>(1));
    assert_eq!(done, i64::from(JOBS));
    let commits = "SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = 'postgres'";
    let commits: f64 = db.query_one(commits, &[]).unwrap().get(0);
    println!(
        "{JOBS} jobs of no length: {:.0} a second, about {:.1} transactions a job",
        f64::from(JOBS) / seconds,
        commits / f64::from(JOBS)
    );
    for ((name, before), after) in kinds.into_iter().zip(before).zip(used()) {
        println!(
            "{name}: {:.2} ms of a processor a job",
            (after - before) * 1000.0 / f64::from(JOBS)
        );
    }
}

/// What a process and those that it started have used of processors.
fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let own = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // utime and stime, and the same of children that are gone.
        fields.skip(11).take(4).filter_map(|text| text.parse::<f64>().ok()).sum::<f64>()
    };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    (own(pid) + children.map(own).sum::<f64>()) / TICKS_A_SECOND
}

/// Hears what is announced, as a worker does.
struct Ear {
    lines: BufReader<TcpStream>,
    nats: TcpStream,
}

impl Ear {
    fn on(ground: &Ground) -> Self {
        let mut nats = TcpStream::connect(("127.0.0.1", ground.nats.port)).unwrap();
        nats.write_all(b"CONNECT {\"verbose\":false}\r\nSUB echo.jobs.* 1\r\n").unwrap();
        Self { lines: BufReader::new(nats.try_clone().unwrap()), nats }
    }

    /// The next announced job.
    fn next(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "NATS is gone");
            if line.starts_with("PING") {
                self.nats.write_all(b"PONG\r\n").unwrap();
            } else if line.starts_with("MSG") {
                let size: usize = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
                let mut message = vec![0; size + 2];
                self.lines.read_exact(&mut message).unwrap();
                let message: serde_json::Value = serde_json::from_slice(&message[..size]).unwrap();
                return message["job_id"].as_str().unwrap().to_owned();
            }
        }
    }
}

/// How fast the outbox announces what waits: 2,000 rows that were there before the server.
#[test]
#[ignore = "measures"]
fn waiting_jobs_are_announced_fast() {
    const JOBS: i32 = 2000;
    let Some((fleet, ground)) = Fleet::start_plain("outbox", "1") else { return };
    let mut replica = fleet.replica();
    let (template, _) = fleet.submit(0, &[]);
    replica.kill();
    ground.database().execute(COPIES, &[&"job-", &1, &JOBS, &template]).unwrap();
    let mut ear = Ear::on(&ground);
    replica.restart();
    let mut first = None;
    for _ in 0..JOBS {
        ear.next();
        first.get_or_insert_with(Instant::now);
    }
    let seconds = first.unwrap().elapsed().as_secs_f64();
    println!("{JOBS} jobs announced in {seconds:.3} s: {:.0} a second", f64::from(JOBS) / seconds);
}

/// From the row to the message, while a thousand rows a second come and nobody takes the messages.
#[test]
#[ignore = "measures"]
fn a_thousand_jobs_a_second_are_announced_at_once() {
    const SECONDS: i32 = 20;
    const JOBS: i32 = 1000 * SECONDS;
    /// Rows of a statement, and the time between two statements.
    const ROWS: i32 = 10;
    const STEP: Duration = Duration::from_millis(10);
    let Some((fleet, ground)) = Fleet::start_plain("dispatch", "1") else { return };
    let mut replica = fleet.replica();
    let (template, _) = fleet.submit(0, &[]);
    replica.kill();
    // The API within this process: what wakes its outbox after a submission wakes it here.
    let mut given: Given = fleet.variables.iter().cloned().collect();
    given.insert("PORT".to_owned(), "0".to_owned());
    given.insert("UPLOAD_DIR".to_owned(), fleet.folder.0.join("uploads").display().to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let app = runtime.block_on(async { App::open(Config::from_given(&given).unwrap()).unwrap() });
    let listener = runtime.block_on(async { server::bind(app.config.address).unwrap() });
    runtime.spawn(server::serve(std::sync::Arc::clone(&app), listener, std::future::pending()));
    let (mut ear, mut db) = (Ear::on(&ground), ground.database());
    let begun: Mutex<HashMap<String, Instant>> = Mutex::default();
    let mut waits = std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let mut waits = Vec::new();
            while waits.len() < JOBS as usize {
                let (id, now) = (ear.next(), Instant::now());
                // The first one is the template, which no copy is of.
                if let Some(begun) = begun.lock().unwrap().get(&id) {
                    waits.push((now - *begun).as_secs_f64() * 1000.0);
                }
            }
            waits
        });
        let start = Instant::now();
        for step in 0..JOBS / ROWS {
            while start.elapsed() < STEP * step as u32 {
                std::thread::park_timeout(STEP * step as u32 - start.elapsed());
            }
            let (first, last) = (step * ROWS + 1, (step + 1) * ROWS);
            let now = Instant::now();
            begun.lock().unwrap().extend((first..=last).map(|n| (format!("job-{n}"), now)));
            db.execute(COPIES, &[&"job-", &first, &last, &template]).unwrap();
            app.hub.work.notify_one();
        }
        println!("{JOBS} rows in {:.2} s", start.elapsed().as_secs_f64());
        heard.join().unwrap()
    });
    let (half, most) = (quantile(&mut waits, 0.5), quantile(&mut waits, 0.99));
    println!(
        "from a row to its message: p50 {half:.1} ms, p99 {most:.1} ms, all {:.1} ms",
        waits[waits.len() - 1]
    );
    assert!(most < 100.0, "{most} ms");
    // Its connections say goodbye on runtimes of their own.
    runtime.shutdown_background();
}
