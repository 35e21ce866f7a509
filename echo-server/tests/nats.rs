//! Workers on other machines: a real server of NATS, an API, and `echo-server worker` beside it.

mod support;

use std::time::{Duration, Instant};

use support::receiver::answer;
use support::services::{self, Service};
use support::wire::{Mood, Wire};
use support::{Folder, TestServer, TestWorker, dialogue, eventually, terminate, wav};

const SECRET: &str = "a secret of workers that nobody guesses";

/// An API and its queue.
struct Cluster {
    nats: Service,
    folder: Folder,
    variables: Vec<(String, String)>,
}

impl Cluster {
    fn new(name: &str, more: &[(&str, &str)]) -> Option<Self> {
        let nats = services::nats()?;
        let mut variables = vec![
            ("ECHO_QUEUE".to_owned(), "nats".to_owned()),
            ("NATS_URL".to_owned(), format!("nats://127.0.0.1:{}", nats.port)),
            ("ECHO_WORKER_SECRET".to_owned(), SECRET.to_owned()),
            ("ECHO_LEASE_SECONDS".to_owned(), "3".to_owned()),
            ("ECHO_HEARTBEAT_SECONDS".to_owned(), "0.3".to_owned()),
        ];
        variables
            .extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Some(Self { nats, folder: Folder::new(name), variables })
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn server(&self) -> TestServer {
        TestServer::start(&self.folder, &self.variables())
    }

    fn worker(&self, server: &TestServer) -> TestWorker {
        self.worker_at(&server.base)
    }

    fn worker_at(&self, api: &str) -> TestWorker {
        let variables = [self.variables(), vec![("ECHO_API_URL", api)]].concat();
        TestWorker::start(&self.folder, &variables)
    }
}

fn is_processing(server: &TestServer, id: &str) -> Option<()> {
    (server.job(id)["status"] == "processing").then_some(())
}

#[test]
fn a_worker_elsewhere_does_the_jobs_and_hears_of_cancellations() {
    let Some(cluster) = Cluster::new("nats", &[("ECHO_TEST_JOB_MS", "200")]) else { return };
    let server = cluster.server();
    let ready = eventually("the queue", || {
        Some(server.get("/health/ready")).filter(|reply| reply.status == 200)
    });
    assert_eq!(ready.json()["checks"]["queue"]["backend"], "nats");
    // It waits for a worker, however long that takes.
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let _worker = cluster.worker(&server);
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
    assert_eq!(job["result"]["text"], "pretended");
    let id = server.upload(&wav(0.1, 2), &[("initial_prompt", "fail")]).job_id();
    assert_eq!(server.wait(&id)["error"]["code"], "decode_failed");
    let poison = server.upload(&wav(0.1, 3), &[("initial_prompt", "abort")]).job_id();
    let job = server.wait(&poison);
    assert_eq!((&job["error"]["code"], &job["attempt"]), (&"worker_lost".into(), &3.into()));

    let id = server.upload(&wav(0.1, 4), &[("initial_prompt", "hang")]).job_id();
    eventually("the job to run", || is_processing(&server, &id));
    eventually("its progress", || (server.job(&id)["progress"] == 0.5).then_some(()));
    let began = Instant::now();
    let path = format!("/api/v1/transcription/{id}");
    assert_eq!(server.send("DELETE", &path, &[], b"").status, 202);
    assert_eq!(server.wait(&id)["status"], "cancelled");
    // The bar is a second; a worker that does not listen is killed after ten.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[test]
fn sound_is_given_to_the_holder_of_the_lease_only() {
    let Some(cluster) = Cluster::new("lease", &[]) else { return };
    let server = cluster.server();
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let path = format!("/api/v1/worker/jobs/{id}/audio");
    assert_eq!(server.get(&path).status, 401);
    let reply = server.send("GET", &path, &[("authorization", "Bearer 1.guessed")], b"");
    assert_eq!(reply.status, 409);
}

#[test]
fn a_killed_worker_and_a_terminated_one_lose_no_job() {
    let Some(cluster) =
        Cluster::new("lost", &[("ECHO_TEST_JOB_MS", "1500"), ("ECHO_DRAIN_SECONDS", "0.1")])
    else {
        return;
    };
    let server = cluster.server();
    let mut worker = cluster.worker(&server);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    eventually("the job to run", || is_processing(&server, &id));
    worker.kill();
    let mut worker = cluster.worker(&server);
    let began = Instant::now();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &2.into()), "{job}");
    // The lease, the sweep, the job, and a slow machine.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    let id = server.upload(&wav(0.1, 2), &[]).job_id();
    eventually("the job to run", || is_processing(&server, &id));
    terminate(&mut worker.process);
    eventually("the job to be given back", || {
        (server.job(&id)["status"] == "pending").then_some(())
    });
    let _worker = cluster.worker(&server);
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
}

#[test]
fn sound_that_comes_slowly_costs_no_lease_no_cancellation_and_no_attempt() {
    let Some(cluster) = Cluster::new("slow", &[("ECHO_DRAIN_SECONDS", "0.1")]) else { return };
    let server = cluster.server();
    let port = server.base.rsplit_once(':').unwrap().1.parse().unwrap();
    let wire = Wire::to(port);
    let mut worker = cluster.worker_at(&format!("http://127.0.0.1:{}", wire.port));
    // 20 KB/s: events pass, and the sound takes twice as long as a lease.
    wire.set(Mood::Drip { bytes: 2000, pause: Duration::from_millis(100) });
    let id = server.upload(&wav(4.0, 1), &[]).job_id();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");

    let id = server.upload(&wav(40.0, 2), &[]).job_id();
    eventually("the job to run", || is_processing(&server, &id));
    let began = Instant::now();
    let path = format!("/api/v1/transcription/{id}");
    assert_eq!(server.send("DELETE", &path, &[], b"").status, 202);
    assert_eq!(server.wait(&id)["status"], "cancelled");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let id = server.upload(&wav(40.0, 3), &[]).job_id();
    eventually("the job to run", || is_processing(&server, &id));
    let began = Instant::now();
    terminate(&mut worker.process);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let job = server.job(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
}

#[test]
fn only_the_api_says_that_a_job_is_not_wanted() {
    let Some(cluster) = Cluster::new("between", &[("ECHO_TEST_JOB_MS", "1500")]) else { return };
    let server = cluster.server();
    let port = server.base.rsplit_once(':').unwrap().1.parse().unwrap();
    let wire = Wire::to(port);
    let _worker = cluster.worker_at(&format!("http://127.0.0.1:{}", wire.port));
    // A proxy that knows no API, while a job is announced and while it runs.
    let lost = || Mood::Says(answer(404, "content-type: text/html\r\n", b"<h1>Not Found</h1>"));
    wire.set(lost());
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    wire.for_a_time(lost(), Duration::from_millis(2500));
    // Its worker knows that it has the job.
    let is_told = || (server.job(&id)["stage"] == "transcribing").then_some(());
    eventually("news of the job", is_told);
    wire.for_a_time(lost(), Duration::from_millis(1200));
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
}

#[test]
fn a_killed_workers_job_goes_on_elsewhere_from_its_checkpoint() {
    let variables = [
        ("ECHO_TEST_JOB_MS", "150"),
        ("ECHO_TEST_SEGMENTS", "24"),
        ("ECHO_CHECKPOINT_SECONDS", "4"),
    ];
    let Some(cluster) = Cluster::new("resume", &variables) else { return };
    let server = cluster.server();
    let mut worker = cluster.worker(&server);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let database = rusqlite::Connection::open(cluster.folder.0.join("transcriptions.db")).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    let parts = || -> u64 {
        database.query_row("SELECT count(*) FROM checkpoints", [], |row| row.get(0)).unwrap()
    };
    eventually("two checkpoints", || (parts() >= 2).then_some(()));
    worker.kill();
    let _worker = cluster.worker(&server);
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &2.into()), "{job}");
    let said = support::segments_told(&server, &id);
    assert_eq!(said, support::pretended(24));
    // Its worker pretends a tenth of a second for each segment.
    let busy_seconds = job["usage"]["busy_seconds"].as_f64().unwrap();
    assert!(busy_seconds <= 0.1 * 17.0 + 1e-9, "{busy_seconds} s for what was left");
    assert_eq!(parts(), 0);
}

#[test]
fn a_queue_that_loses_all_its_data_loses_no_job() {
    let Some(mut cluster) = Cluster::new("wiped", &[("ECHO_TEST_JOB_MS", "50")]) else { return };
    let server = cluster.server();
    let mut accepted: Vec<String> =
        (0..10).map(|mark| server.upload(&wav(0.1, mark), &[]).job_id()).collect();
    cluster.nats.kill();
    std::fs::remove_dir_all(cluster.nats.folder.join("jetstream")).unwrap();
    // Accepted while there is no queue.
    accepted.extend((10..20).map(|mark| server.upload(&wav(0.1, mark), &[]).job_id()));
    cluster.nats.revive();
    let mut workers = [cluster.worker(&server), cluster.worker(&server)];
    for id in &accepted {
        let job = server.wait(id);
        assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
    }
    // And once more under the eyes of the workers.
    cluster.nats.kill();
    std::fs::remove_dir_all(cluster.nats.folder.join("jetstream")).unwrap();
    cluster.nats.revive();
    let id = server.upload(&wav(0.1, 30), &[]).job_id();
    assert_eq!(server.wait(&id)["status"], "completed");
    workers.iter_mut().for_each(TestWorker::kill);
}

#[test]
fn a_worker_elsewhere_transcribes_with_the_real_model() {
    let Some(store) = std::env::var("ECHO_TEST_STORE").ok() else {
        println!("skipped: set ECHO_TEST_STORE to a model folder that holds `base`");
        return;
    };
    let Some(cluster) =
        Cluster::new("model", &[("ECHO_MODEL", "base"), ("ECHO_MODEL_DIR", &store)])
    else {
        return;
    };
    let server = cluster.server();
    let variables = [cluster.variables(), vec![("ECHO_API_URL", &*server.base)]].concat();
    let _worker = TestWorker::with_model(&cluster.folder, &variables);
    let job = server.wait(&server.upload(&dialogue(), &[]).job_id());
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
    let text = job["result"]["text"].as_str().unwrap();
    assert!(text.split_whitespace().count() > 20, "{text}");
}
