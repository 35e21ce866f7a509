//! What operators and receivers of callbacks need: secrets, workers, an orderly end, descriptions, and
//! answers in a form that takes less of the line.

#![allow(clippy::unwrap_used, reason = "as in the tests themselves")]

mod support;

use std::io::Read;

use echo_server::auth::{Claims, sign};
use echo_server::secrets::Secret;
use echo_server::webhook::sign::verify;
use serde_json::{Value, json};
use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, elsewhere, eventually, wav};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(tenant: &str, scope: &str) -> Option<String> {
    let claims = Claims {
        sub: tenant.to_owned(),
        exp: echo_server::clock::now_ms() / 1000 + 600,
        nbf: None,
        tid: None,
        scope: scope.to_owned(),
        aud: Value::Null,
    };
    Some(sign(&claims, &Secret::new(SECRET)))
}

const BOTH: &str = "transcribe:read transcribe:write";

fn secret_of(server: &TestServer) -> Secret {
    let answer = server.get("/api/v1/webhook-secret").json();
    Secret::new(answer["secret"].as_str().unwrap_or_else(|| panic!("{answer}")))
}

#[test]
fn a_tenants_secret_signs_its_callbacks_and_for_a_day_the_one_before() {
    let folder = Folder::new("rotation");
    let receiver = Receiver::start(|_, _| answer(204, "", b""));
    let port = receiver.port.to_string();
    let variables = [
        ("JWT_SECRET", SECRET),
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
    ];
    let mut server = TestServer::scripted(&folder, &variables);
    // Which secrets the callback of a new job is signed with.
    let url = receiver.url("/hook");
    let signed_by = |server: &TestServer, mark: u32, secrets: &[&Secret]| -> Vec<bool> {
        let id = server.upload(&wav(0.1, mark), &[("callback_url", &url)]).job_id();
        let asked = eventually("the callback", || {
            receiver
                .asked()
                .into_iter()
                .find(|asked| String::from_utf8_lossy(&asked.body).contains(&id))
        });
        let now = echo_server::clock::now_ms();
        let is_by =
            |secret: &&Secret| verify(secret, &asked.header_map(), &asked.body, now).is_ok();
        secrets.iter().map(is_by).collect()
    };
    server.token = token("bia", BOTH);
    let others = secret_of(&server);
    server.token = token("ana", BOTH);
    let first = secret_of(&server);
    assert!(first.expose().starts_with("whsec_") && first != others);
    assert_eq!(signed_by(&server, 1, &[&first, &others]), [true, false]);

    let rotated = server.send("POST", "/api/v1/webhook-secret/rotate", &[], b"").json();
    let second = secret_of(&server);
    assert_eq!(rotated["secret"], second.expose());
    assert!(rotated["rotated_at"].is_string() && rotated["previous_signs_until"].is_string());
    assert_eq!(signed_by(&server, 2, &[&second, &first, &others]), [true, true, false]);
    // It is known after a crash, and the oldest is over when there is a third.
    server.kill();
    server.restart();
    assert_eq!(secret_of(&server), second);
    server.send("POST", "/api/v1/webhook-secret/rotate", &[], b"");
    let third = secret_of(&server);
    assert_eq!(signed_by(&server, 3, &[&third, &second, &first]), [true, true, false]);

    server.token = token("bia", BOTH);
    assert_eq!(secret_of(&server), others, "nothing happened to another tenant");
    server.token = token("ana", "transcribe:read");
    for (method, path) in [("GET", ""), ("POST", "/rotate")] {
        let refused = server.send(method, &format!("/api/v1/webhook-secret{path}"), &[], b"");
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("insufficient_scope")));
    }
    server.token = None;
    assert_eq!(server.get("/api/v1/webhook-secret").status, 401);
}

#[test]
fn operators_see_who_works_and_let_a_server_go_down() {
    let folder = Folder::new("operators");
    let mut server = TestServer::scripted(&folder, &[("JWT_SECRET", SECRET)]);
    server.token = token("ana", BOTH);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    server.wait(&id);
    for (method, path) in [("GET", "workers"), ("POST", "admin/drain")] {
        let refused = server.send(method, &format!("/api/v1/{path}"), &[], b"");
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("insufficient_scope")));
    }
    let running = server.upload(&wav(0.1, 2), &[("initial_prompt", "hang")]).job_id();
    eventually("the job to run", || (server.job(&running)["status"] == "processing").then_some(()));
    server.token = token("root", "admin");
    let workers = server.get("/api/v1/workers").json();
    assert_eq!(workers["slots"], json!([{"slot": 0, "state": "busy", "reason": null}]));
    let items = workers["items"].as_array().unwrap();
    assert_eq!(
        (items.len(), &items[0]["running"], &items[0]["attempts"]),
        (1, &json!(1), &json!(2))
    );
    assert!(!workers.to_string().contains(&id), "whose jobs they are is nobody's business");
    server.token = token("ana", BOTH);
    assert!(
        server.send("DELETE", &format!("/api/v1/transcription/{running}"), &[], b"").status == 202
    );
    server.wait(&running);
    server.token = token("root", "admin");
    let told = server.send("POST", "/api/v1/admin/drain", &[], b"");
    assert_eq!((told.status, &told.json()["status"]), (202, &json!("draining")));
    assert!(server.process.wait().unwrap().success());
}

#[test]
fn descriptions_are_there_as_yaml() {
    let folder = Folder::new("yaml");
    let server = TestServer::scripted(&folder, &[]);
    for (path, first) in
        [("/openapi.yaml", "openapi: \"3.1.0\"\n"), ("/asyncapi.yaml", "asyncapi: \"3.0.0\"\n")]
    {
        let reply = server.get(path);
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/yaml"));
        assert!(reply.text().contains(first), "{}", reply.text());
    }
    assert!(
        server.get("/openapi.yaml").text().contains("\n  /api/v1/webhook-secret/rotate:\n")
            || server
                .get("/openapi.yaml")
                .text()
                .contains("\n  \"/api/v1/webhook-secret/rotate\":\n")
    );
}

#[test]
fn answers_are_packed_for_who_takes_it_and_streams_are_not() {
    let folder = Folder::new("gzip");
    let server = elsewhere::server(&folder, &[]);
    let sound = wav(1.0, 1);
    let id = server.upload(&sound, &[]).job_id();
    let claim = elsewhere::claim(&server, &id);
    let segment =
        |n: u32| json!({"start": n, "end": n + 1, "text": format!("the words of segment {n}")});
    let segments: Vec<Value> = (0..500).map(segment).collect();
    let result = json!({"version": 1, "duration": 500.0, "segments": segments});
    let done = json!({"result": result, "usage": {"busy_seconds": 1.0}});
    assert_eq!(
        elsewhere::tell(&server, "m2", &elsewhere::event(&claim, "completed", &done)).status,
        200
    );

    let job = format!("/api/v1/transcription/{id}");
    let packed = [("accept-encoding", "br;q=1, gzip;q=0.5")];
    let download = format!("{job}/download?format=srt");
    for path in [&job, &download, "/assets/app.js", "/openapi.json", "/asyncapi.yaml"] {
        let (plain, small) = (server.get(path), server.send("GET", path, &packed, b""));
        assert_eq!(
            (plain.header("content-encoding"), small.header("content-encoding")),
            ("", "gzip"),
            "{path}"
        );
        assert!(small.header("vary").contains("accept-encoding"), "{path}");
        assert!(plain.header("vary").contains("accept-encoding"), "{path}");
        assert!(small.body.len() < plain.body.len() / 2, "{path}");
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&small.body[..]).read_to_end(&mut back).unwrap();
        assert!(back == plain.body, "{path}");
        assert_eq!(small.header("content-type"), plain.header("content-type"));
        if plain.header("etag").is_empty() {
            continue;
        }
        assert_ne!(plain.header("etag"), small.header("etag"), "{path}");
        for (reply, accepted) in [(&plain, "identity"), (&small, "gzip")] {
            let tag = reply.header("etag");
            let headers = [("accept-encoding", accepted), ("if-none-match", tag)];
            let known = server.send("GET", path, &headers, b"");
            assert_eq!(
                (known.status, known.header("etag"), known.body.len()),
                (304, tag, 0),
                "{path}"
            );
        }
    }
    let gzip = [("accept-encoding", "gzip")];
    for path in [format!("{job}/audio"), format!("{job}/events"), "/health".to_owned()] {
        let reply = server.send("GET", &path, &gzip, b"");
        assert_eq!((reply.status, reply.header("content-encoding")), (200, ""), "{path}");
    }
    assert_eq!(server.send("GET", &format!("{job}/audio"), &gzip, b"").body, sound);
}

#[test]
fn a_worker_elsewhere_tells_what_a_recording_looks_like() {
    let folder = Folder::new("remote-waveform");
    let server = elsewhere::server(&folder, &[]);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let path = format!("/api/v1/transcription/{id}/waveform?points=2");
    assert_eq!(server.get(&path).json()["code"], "not_ready");
    let claim = elsewhere::claim(&server, &id);
    let draw = |name: &str, waveform: Value| {
        let event = elsewhere::event(&claim, "waveform", &json!({"waveform": waveform}));
        elsewhere::tell(&server, name, &event)
    };
    for (name, wrong) in [
        ("w1", json!({"points": 2, "duration": 0.1, "peaks": [1, 2, 3]})),
        ("w2", json!({"points": 1, "duration": 0.1, "peaks": [200]})),
        ("w3", json!({"points": 1, "duration": -1.0, "peaks": [1]})),
        ("w4", json!({"points": 5000, "duration": 1.0, "peaks": vec![1; 5000]})),
        ("w5", Value::Null),
    ] {
        assert_eq!(draw(name, wrong).status, 422, "{name}");
    }
    let good = json!({"points": 4, "duration": 0.1, "peaks": [1, 127, 3, 4]});
    assert_eq!(draw("w6", good.clone()).json()["accepted"], true);
    assert_eq!(server.get(&path).json()["peaks"], json!([127, 4]));
    let mut stale = claim.clone();
    stale["lease_token"] = "guessed".into();
    let event = elsewhere::event(&stale, "waveform", &json!({"waveform": good}));
    assert_eq!(elsewhere::tell(&server, "w7", &event).json()["code"], "stale_lease");
}

#[test]
fn all_that_is_old_is_erased_however_much_it_is() {
    let folder = Folder::new("old");
    let server = TestServer::scripted(&folder, &[("ECHO_RESULT_TTL", "1h")]);
    server.wait(&server.upload(&wav(0.1, 1), &[("external_id", "mine")]).job_id());
    let db = rusqlite::Connection::open(folder.0.join("transcriptions.db")).unwrap();
    db.busy_timeout(support::PATIENCE).unwrap();
    let copies = "BEGIN IMMEDIATE; CREATE TEMP TABLE one AS SELECT * FROM jobs;
        UPDATE one SET finished_at = 1;
        CREATE TEMP TABLE many AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
            WHERE i < 2500) SELECT one.*, i FROM one, n;
        UPDATE many SET id = id || i; ALTER TABLE many DROP COLUMN i;
        INSERT INTO jobs SELECT * FROM many; COMMIT";
    db.execute_batch(copies).unwrap();
    server.run("gc");
    let left = "SELECT count(*) FROM jobs WHERE external_id IS NOT NULL";
    let left: u64 = db.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "the one that is not old");
}
