//! Two servers on one database of PostgreSQL, which goes away while they work.

mod support;

use support::{Folder, TestServer, eventually, form, services, wav};

#[test]
fn two_replicas_share_jobs_and_survive_an_outage_of_the_database() {
    let Some(mut database) = services::postgres() else { return };
    let folder = Folder::new("two");
    let url = services::postgres_url(&database);
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("ECHO_TEST_JOB_MS", "300"),
        ("ECHO_LEASE_SECONDS", "3"),
        ("ECHO_HEARTBEAT_SECONDS", "0.3"),
    ];
    let replicas =
        [TestServer::scripted(&folder, &variables), TestServer::scripted(&folder, &variables)];
    let submit = |mark: u32| {
        let (kind, body) = form(&wav(0.05, mark), "a.wav", &[]);
        let replica = &replicas[mark as usize % 2];
        replica.send("POST", "/api/v1/upload/file", &[("content-type", &kind)], &body)
    };
    let mut accepted: Vec<String> = (0..8).map(|mark| submit(mark).job_id()).collect();
    eventually("a job to run", || {
        let jobs = accepted.iter().map(|id| replicas[0].job(id));
        jobs.into_iter().any(|job| job["status"] == "processing").then_some(())
    });
    database.kill();
    for replica in &replicas {
        assert_eq!(replica.get("/health/ready").status, 503);
        assert_eq!(replica.get("/health/live").status, 200);
    }
    let refused = submit(100);
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2"));
    assert_eq!(refused.json()["code"], "dependency_unavailable");
    database.revive();
    accepted.extend((8..16).map(|mark| {
        eventually("the database", || {
            let reply = submit(mark);
            (reply.status == 202).then(|| reply.job_id())
        })
    }));
    for (number, id) in accepted.iter().enumerate() {
        // Each replica knows every job, whoever took it.
        let job = replicas[number % 2].wait(id);
        assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()), "{job}");
    }
    drop(replicas);
    let plain = url.replace("+asyncpg", "");
    let mut client = postgres::Client::connect(&plain, postgres::NoTls).unwrap();
    let row = client
        .query_one("SELECT count(*), count(*) FILTER (WHERE commits = 1), count(DISTINCT lease_owner) FROM jobs WHERE state = 'completed'", &[])
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
    assert!(row.get::<_, i64>(0) >= 16);
    let workers = "SELECT count(DISTINCT worker) FROM attempts WHERE outcome = 'completed'";
    assert!(client.query_one(workers, &[]).unwrap().get::<_, i64>(0) >= 2);
}

#[test]
fn a_database_that_hangs_is_told_of_and_holds_nobody_for_ever() {
    let Some(database) = services::postgres() else { return };
    let folder = Folder::new("hangs");
    let url = services::postgres_url(&database);
    let server = TestServer::scripted(&folder, &[("DATABASE_URL", &url)]);
    let id = server.upload(&wav(0.05, 1), &[]).job_id();
    assert_eq!(server.wait(&id)["status"], "completed");
    database.signal("STOP");
    let began = std::time::Instant::now();
    let refused = server.upload(&wav(0.05, 2), &[]);
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2"), "{}", refused.text());
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    assert_eq!(server.get("/health/live").status, 200);
    database.signal("CONT");
    let id = eventually("the database", || {
        let reply = server.upload(&wav(0.05, 3), &[]);
        (reply.status == 202).then(|| reply.job_id())
    });
    assert_eq!(server.wait(&id)["status"], "completed");
}
