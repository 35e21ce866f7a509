//! Faults of one machine, and what is promised in spite of them.

mod support;

use std::collections::HashSet;

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
    let variables = [
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
    while (accepted.len() as u32) < jobs {
        mark += 1;
        let (kind, body) = support::form(&wav(0.05, mark), "a.wav", &[]);
        // A submission that got no answer promises nothing.
        let reply =
            server.try_send("POST", "/api/v1/upload/file", &[("content-type", &kind)], &body);
        accepted.extend(reply.filter(|reply| reply.status == 202).map(|reply| reply.job_id()));
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        if mark % every == 0 {
            if random >> 30 == 0 {
                server.kill();
                server.restart();
            } else {
                let workers = server.workers();
                if let Some(pid) = workers.get(random as usize >> 8 & 1) {
                    kill_9(*pid);
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
    drop(server);
    let database = folder.0.join("transcriptions.db");
    let db = rusqlite::Connection::open(database).unwrap();
    let wrong: u64 = db
        .query_row(
            "SELECT count(*) FROM jobs WHERE state != 'completed' OR commits != 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let doubles: u64 = db
        .query_row("SELECT count(*) FROM (SELECT job_id FROM attempts WHERE outcome = 'completed' GROUP BY job_id HAVING count(*) != 1)", [], |row| row.get(0))
        .unwrap();
    let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let tries: u64 = db.query_row("SELECT count(*) FROM attempts", [], |row| row.get(0)).unwrap();
    println!("{} jobs, {tries} attempts, {wrong} wrong, {doubles} done twice", accepted.len());
    assert_eq!((wrong, doubles, integrity.as_str()), (0, 0, "ok"));
}
