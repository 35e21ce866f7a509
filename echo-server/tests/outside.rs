//! What the server asks of others and what others tell it: sources, callbacks, workers.

mod support;

use std::time::{Duration, Instant};

use echo_server::secrets::Secret;
use echo_server::webhook::sign::{signature, verify};
use serde_json::{Value, json};
use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, eventually, terminate, wav};

const SECRET: &str = "the secret of workers, in tests";

fn post_url(server: &TestServer, body: &Value) -> support::Reply {
    let headers = [("content-type", "application/json")];
    server.send("POST", "/api/v1/upload/url", &headers, body.to_string().as_bytes())
}

#[test]
fn a_source_is_fetched_through_redirects() {
    let folder = Folder::new("fetch");
    let receiver = Receiver::start(|path, _| match path {
        "/a?secret=1" => answer(302, "location: /b.wav\r\n", b""),
        "/b.wav" => answer(200, "", &wav(0.1, 7)),
        "/html" => answer(200, "", b"<html>"),
        "/long" => answer(200, "", &wav(10.0, 1)),
        "/loop" => answer(302, "location: /loop\r\n", b""),
        _ => answer(404, "", b""),
    });
    let port = receiver.port.to_string();
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("MAX_FILE_SIZE", "100KB"),
    ];
    let server = TestServer::scripted(&folder, &variables);
    let reply = post_url(
        &server,
        &json!({"url": receiver.url("/a?secret=1"), "headers": {"Authorization": "x"}, "language": "pt"}),
    );
    assert_eq!(reply.status, 202, "{}", reply.text());
    let job = server.wait(&reply.job_id());
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(
        (&job["source"]["kind"], &job["options"]["language"]),
        (&"url".into(), &"pt".into())
    );
    assert!(!job.to_string().contains("secret"), "{job}");
    assert_eq!(receiver.asked()[0].header("authorization"), "x");
    for (path, code) in [
        ("/missing", "fetch_http_status"),
        ("/html", "unsupported_media"),
        ("/long", "fetch_too_large"),
        ("/loop", "fetch_failed"),
    ] {
        let job = server.wait(&post_url(&server, &json!({"url": receiver.url(path)})).job_id());
        assert_eq!(
            (&job["status"], &job["error"]["code"]),
            (&"failed".into(), &code.into()),
            "{job}"
        );
    }
}

#[test]
fn a_source_on_its_way_when_the_server_ends_costs_no_attempt() {
    let folder = Folder::new("drain");
    let receiver = Receiver::start(|path, _| {
        let (name, seconds) = path.rsplit_once('/').unwrap();
        std::thread::sleep(Duration::from_secs(seconds.parse().unwrap()));
        answer(200, "", &wav(0.1, u32::from(name.len() > 2)))
    });
    let port = receiver.port.to_string();
    let own = [("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"), ("ECHO_FETCH_PORTS", &*port)];
    let end = |drain_seconds: &str, path: &str| {
        let variables = [&own[..], &[("ECHO_DRAIN_SECONDS", drain_seconds)]].concat();
        let mut server = TestServer::scripted(&folder, &variables);
        let asked = receiver.asked().len();
        let id = post_url(&server, &json!({"url": receiver.url(path)})).job_id();
        eventually("the fetch", || (receiver.asked().len() > asked).then_some(()));
        let began = Instant::now();
        terminate(&mut server.process);
        let db = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
        let sql = "SELECT state, phase, attempt FROM jobs WHERE id = ?1";
        let row = db.query_row(sql, [&id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let (state, phase, attempt): (String, String, u32) = row.unwrap();
        ((state, phase, attempt), began.elapsed())
    };
    // There is time to wait for it.
    let (job, _) = end("30", "/a/2");
    assert_eq!(job, ("pending".to_owned(), "run".to_owned(), 0));
    // There is none: it is given back, long before its lease is renewed for the first time.
    let (job, time) = end("0.1", "/long/20");
    assert_eq!(job, ("pending".to_owned(), "fetch".to_owned(), 0));
    assert!(time < Duration::from_secs(8), "{time:?}");
}

#[test]
fn no_spelling_of_a_private_address_is_asked() {
    let folder = Folder::new("ssrf");
    let receiver = Receiver::start(|_, _| answer(200, "", &wav(0.1, 1)));
    let port = receiver.port.to_string();
    let server = TestServer::scripted(
        &folder,
        &[("ECHO_FETCH_PORTS", &*port), ("ECHO_ALLOW_INSECURE_CALLBACKS", "true")],
    );
    let hosts = [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f000001",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "0",
        "localhost",
        "LocalHost.",
        "user@127.0.0.1",
        "127.0.0.1:80@127.0.0.1",
        "metadata.google.internal",
    ];
    for host in hosts {
        let url = format!("http://{host}:{port}/x");
        let reply = post_url(&server, &json!({"url": url}));
        if reply.status == 202 {
            let job = server.wait(&reply.job_id());
            assert_eq!(job["status"], "failed", "{url} {job}");
        } else {
            assert_eq!(reply.status, 422, "{url} {}", reply.text());
        }
        let callback = server.upload(&wav(0.1, 9), &[("callback_url", &url)]);
        if callback.status < 300 {
            let path = format!("/api/v1/transcription/{}/deliveries", callback.job_id());
            eventually("the delivery to fail", || {
                let state = server.get(&path).json()["items"][0]["state"].clone();
                (state == "failed"
                    || state == "pending" && server.get(&path).text().contains("host not known"))
                .then_some(())
            });
        }
    }
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/", "//127.0.0.1/", "http://"] {
        assert_eq!(post_url(&server, &json!({"url": url})).json()["code"], "invalid_url", "{url}");
    }
    assert_eq!(receiver.connections_before_ours(), 0, "{:?}", receiver.asked());
}

#[test]
fn a_callback_is_signed_tried_again_and_replayed() {
    let folder = Folder::new("callback");
    let receiver = Receiver::start(|_, count| match count {
        1 => answer(503, "retry-after: 1\r\n", b""),
        _ => answer(204, "", b""),
    });
    let port = receiver.port.to_string();
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
    ];
    let server = TestServer::scripted(&folder, &variables);
    let fields = [
        ("callback_url", &*receiver.url("/hook")),
        ("callback_secret", "whsec_c2VjcmV0"),
        ("external_id", "mine"),
        ("callback_include_result", "true"),
    ];
    let id = server.upload(&wav(0.1, 1), &fields).job_id();
    server.wait(&id);
    eventually("two tries", || (receiver.asked().len() >= 2).then_some(()));
    let asked = receiver.asked();
    assert_eq!(asked[0].header("webhook-id"), asked[1].header("webhook-id"));
    for request in &asked {
        let mut headers = request.header_map();
        let secret = Secret::new("whsec_c2VjcmV0");
        let now = echo_server::clock::now_ms();
        verify(&secret, &headers, &request.body, now).unwrap();
        headers.insert("webhook-id", "other".parse().unwrap());
        verify(&secret, &headers, &request.body, now).unwrap_err();
    }
    let body: Value = serde_json::from_slice(&asked[1].body).unwrap();
    assert_eq!(body["type"], "transcription.completed");
    assert_eq!(
        (&body["data"]["external_id"], &body["data"]["text"]),
        (&"mine".into(), &"pretended".into())
    );
    let path = format!("/api/v1/transcription/{id}/deliveries");
    let delivery = eventually("the delivery", || {
        let items = server.get(&path).json()["items"].clone();
        (items[0]["state"] == "delivered").then(|| items[0].clone())
    });
    assert_eq!(delivery["tries"].as_array().unwrap().len(), 2);
    let again = format!("{path}/{}/redeliver", delivery["id"].as_str().unwrap());
    assert_eq!(server.send("POST", &again, &[], b"").status, 202);
    eventually("the replay", || (receiver.asked().len() == 3).then_some(()));
}

#[test]
fn a_host_that_never_answers_has_few_deliveries_and_others_do_not_wait() {
    let folder = Folder::new("slow-host");
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = slow.local_addr().unwrap().port();
    let quick = Receiver::start(|_, _| answer(204, "", b""));
    let ports = format!("{number},{}", quick.port);
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*ports),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
        ("ECHO_TEST_JOB_MS", "1"),
    ];
    let server = TestServer::scripted(&folder, &variables);
    let url = format!("http://127.0.0.1:{number}/");
    // The same sound: only the first of them is work.
    let jobs: Vec<_> =
        (0..80).map(|_| server.upload(&wav(0.1, 1), &[("callback_url", &url)]).job_id()).collect();
    jobs.iter().for_each(|id| assert_eq!(server.wait(id)["status"], "completed"));
    let db = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
    let waiting = |from: i64, to: i64| -> u64 {
        let sql = "SELECT count(*) FROM deliveries WHERE next_at BETWEEN ?1 AND ?2";
        let now = echo_server::clock::now_ms();
        db.query_row(sql, [now + from, now + to], |row| row.get(0)).unwrap()
    };
    // Some are taken, for two minutes; the rest is given back, and due soon.
    eventually("all to be looked at", || (waiting(1, 200_000) == 80).then_some(()));
    let taken = waiting(61_000, 200_000);
    assert!((1..=64).contains(&taken), "{taken} are taken");
    let began = std::time::Instant::now();
    server.upload(&wav(0.1, 1), &[("callback_url", &quick.url("/"))]);
    eventually("the other host's", || (quick.asked().len() == 1).then_some(()));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

/// Sends an event as a worker elsewhere would.
fn tell(server: &TestServer, id: &str, event: &Value) -> support::Reply {
    let body = event.to_string();
    let at = echo_server::clock::now_ms() / 1000;
    let signed = signature(&Secret::new(SECRET), id, at, body.as_bytes());
    let at = at.to_string();
    let headers =
        [("webhook-id", id), ("webhook-timestamp", &*at), ("webhook-signature", &*signed)];
    server.send("POST", "/api/v1/webhooks/transcription", &headers, body.as_bytes())
}

#[test]
fn a_worker_elsewhere_claims_reports_and_completes_under_its_lease() {
    let folder = Folder::new("remote");
    // A worker that never gets ready leaves the job to us.
    let server = TestServer::start(
        &folder,
        &[("ECHO_WORKER_SECRET", SECRET), ("ECHO_TEST_WORKER", "/bin/false")],
    );
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let started = tell(
        &server,
        "m1",
        &json!({"type": "transcription.started", "data": {"job_id": id, "worker_id": "gpu"}}),
    );
    assert_eq!(started.status, 200, "{}", started.text());
    let lease = started.json();
    let event = |kind: &str, more: Value| {
        let mut data =
            json!({"job_id": id, "epoch": lease["epoch"], "lease_token": lease["lease_token"]});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": format!("transcription.{kind}"), "data": data})
    };
    let progress =
        tell(&server, "m2", &event("progress", json!({"progress": 0.5, "stage": "transcribing"})));
    assert_eq!(
        (&progress.json()["accepted"], &progress.json()["cancel_requested"]),
        (&true.into(), &false.into())
    );
    assert_eq!(server.job(&id)["progress"], 0.5);
    let mut wrong = event("progress", json!({"progress": 0.9}));
    wrong["data"]["lease_token"] = "guessed".into();
    assert_eq!(tell(&server, "m3", &wrong).json()["code"], "stale_lease");
    let result = json!({"version": 1, "duration": 2.0, "segments": [{"start": 0.0, "end": 1.0, "text": "elsewhere"}]});
    let done = event("completed", json!({"result": result, "usage": {"busy_seconds": 1.0}}));
    assert_eq!(tell(&server, "m4", &done).status, 200);
    let twice = tell(&server, "m4", &done);
    assert_eq!((twice.status, &twice.json()["duplicate"]), (200, &true.into()));
    assert_eq!(tell(&server, "m5", &done).json()["code"], "job_gone");
    assert_eq!(server.wait(&id)["result"]["text"], "elsewhere");
    let unsigned = server.send("POST", "/api/v1/webhooks/transcription", &[], b"{}");
    assert_eq!((unsigned.status, &unsigned.json()["code"]), (401, &"bad_signature".into()));
    assert_eq!(
        tell(&server, "m6", &json!({"type": "transcription.started", "data": {"job_id": "none"}}))
            .status,
        404
    );
}
