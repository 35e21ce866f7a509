//! Faults of one machine, and what is promised in spite of them.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, eventually, wav};

/// Kills a process of ours, the hard way.
fn kill_9(pid: u32) {
    signal(pid, "KILL");
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    drop(status);
}

#[test]
fn a_killed_worker_costs_one_attempt() {
    let folder = Folder::new("killed");
    let server = TestServer::scripted(&folder, &[("ECHO_TEST_JOB_MS", "1500")]);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    eventually("the job to run", || (server.job(&id)["status"] == "processing").then_some(()));
    server.workers().into_iter().for_each(kill_9);
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &2.into()), "{job}");
    assert_eq!(job["attempts"][0]["outcome"], "lost");
}

#[test]
fn a_file_that_kills_its_workers_is_given_up_and_others_go_on() {
    let folder = Folder::new("poison");
    let server = TestServer::scripted(&folder, &[]);
    let poison = server.upload(&wav(0.1, 1), &[("initial_prompt", "abort")]).job_id();
    let good = server.upload(&wav(0.1, 2), &[]).job_id();
    let job = server.wait(&poison);
    assert_eq!((&job["status"], &job["attempt"]), (&"failed".into(), &3.into()));
    assert_eq!(job["error"]["code"], "worker_lost");
    assert_eq!(server.wait(&good)["status"], "completed");
    assert_eq!(server.get("/health/live").status, 200);
}

#[test]
fn a_stopped_worker_loses_its_lease_and_one_that_gets_nowhere_is_killed() {
    let folder = Folder::new("stopped");
    let variables = [
        ("ECHO_LEASE_SECONDS", "1.5"),
        ("ECHO_HEARTBEAT_SECONDS", "0.2"),
        ("ECHO_TEST_JOB_MS", "600"),
        ("ECHO_STALL_SECONDS", "2"),
        ("ECHO_MAX_ATTEMPTS", "2"),
    ];
    let server = TestServer::scripted(&folder, &variables);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    eventually("the job to run", || (server.job(&id)["status"] == "processing").then_some(()));
    server.workers().into_iter().for_each(|pid| signal(pid, "STOP"));
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &2.into()), "{job}");
    let hung = server.upload(&wav(0.1, 2), &[("initial_prompt", "hang")]).job_id();
    let job = server.wait(&hung);
    assert_eq!((&job["status"], &job["error"]["code"]), (&"failed".into(), &"worker_lost".into()));
}

#[test]
fn a_terminated_server_gives_its_job_back_at_no_cost() {
    let folder = Folder::new("drain");
    let variables = [("ECHO_TEST_JOB_MS", "3000"), ("ECHO_DRAIN_SECONDS", "0.2")];
    let mut server = TestServer::scripted(&folder, &variables);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    eventually("the job to run", || (server.job(&id)["status"] == "processing").then_some(()));
    signal(server.process.id(), "TERM");
    let began = std::time::Instant::now();
    assert!(server.process.wait().unwrap().success());
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    server.restart();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
}

/// Jobs and kills of the loop below; `ECHO_TEST_LONG=1` runs the whole of it.
fn sizes() -> (u32, usize) {
    if std::env::var_os("ECHO_TEST_LONG").is_some() { (200, 30) } else { (40, 6) }
}

#[test]
fn nothing_is_lost_or_done_twice_while_servers_and_workers_are_killed() {
    let (jobs, kills) = sizes();
    let folder = Folder::new("loop");
    let receiver = Receiver::start(|_, _| answer(204, "", b""));
    let port = receiver.port.to_string();
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
        ("ECHO_TEST_JOB_MS", "60"),
        ("ECHO_WORKER_SLOTS", "3"),
        ("ECHO_MAX_ATTEMPTS", "20"),
        ("ECHO_LEASE_SECONDS", "2"),
        ("ECHO_HEARTBEAT_SECONDS", "0.3"),
    ];
    let mut server = TestServer::scripted(&folder, &variables);
    let (mut accepted, mut random) = (Vec::new(), 12_345_u32);
    let every = jobs / kills as u32;
    let mut mark = 0;
    let (mut killed_workers, mut killed_servers) = (0, 0);
    let hook = receiver.url("/hook");
    while (accepted.len() as u32) < jobs {
        mark += 1;
        let (kind, body) = support::form(&wav(0.05, mark), "a.wav", &[("callback_url", &hook)]);
        // A submission that got no answer promises nothing.
        let reply =
            server.try_send("POST", "/api/v1/upload/file", &[("content-type", &kind)], &body);
        accepted.extend(reply.filter(|reply| reply.status == 202).map(|reply| reply.job_id()));
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        if mark % every == 0 {
            if random >> 30 == 0 {
                server.kill();
                server.restart();
                killed_servers += 1;
            } else {
                let workers = server.workers();
                if let Some(pid) = workers.get(random as usize >> 8 & 1) {
                    kill_9(*pid);
                    killed_workers += 1;
                }
            }
        }
    }
    for id in &accepted {
        let job = server.wait(id);
        assert_eq!(job["status"], "completed", "{job}");
    }
    let ids: HashSet<_> = accepted.iter().collect();
    assert_eq!(ids.len(), accepted.len());
    let db = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    let count = |sql: &str| -> u64 { db.query_row(sql, [], |row| row.get(0)).unwrap() };
    // One that was under way at a kill is due again after two minutes; the clock is turned on for it.
    db.execute("UPDATE deliveries SET next_at = 0 WHERE state = 'pending'", []).unwrap();
    eventually("the callbacks", || {
        (count("SELECT count(*) FROM deliveries WHERE state != 'delivered'") == 0).then_some(())
    });
    drop(server);
    let wrong = count("SELECT count(*) FROM jobs WHERE state != 'completed' OR commits != 1");
    let doubles = count(
        "SELECT count(*) FROM jobs WHERE 1 != (SELECT count(*) FROM attempts \
         WHERE job_id = jobs.id AND outcome = 'completed') OR 1 != (SELECT count(*) FROM job_events \
         WHERE job_id = jobs.id AND kind = 'status' AND json_extract(json, '$.status') = 'completed')",
    );
    // An event may be told twice, but it is one event: receivers drop what they know by its number.
    let told = receiver.asked();
    let events: HashSet<_> = told.iter().map(|asked| asked.header("webhook-id")).collect();
    let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    println!(
        "{} jobs accepted, {killed_workers} workers and {killed_servers} servers killed: {} jobs kept, \
         {} attempts, {wrong} not committed once, {doubles} done or told twice, {} callback events \
         in {} requests",
        accepted.len(),
        count("SELECT count(*) FROM jobs"),
        count("SELECT count(*) FROM attempts"),
        events.len(),
        told.len(),
    );
    assert_eq!((wrong, doubles, integrity.as_str()), (0, 0, "ok"));
    assert_eq!(events.len() as u64, count("SELECT count(*) FROM jobs"));
}
