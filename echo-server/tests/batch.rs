//! Many recordings in one request, and the one message when all of them are over.

#![allow(clippy::unwrap_used, reason = "as in the tests themselves")]

mod support;

use std::process::Command;

use echo_server::auth::{Claims, sign};
use echo_server::secrets::Secret;
use echo_server::webhook::sign::verify;
use serde_json::{Value, json};
use support::receiver::{Receiver, answer};
use support::{Folder, Reply, TestServer, eventually, wav};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const JSON: (&str, &str) = ("content-type", "application/json");
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");

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

/// A web server with sounds, which is told of ends as well.
fn web() -> Receiver {
    Receiver::start(|path, _| {
        match path.strip_prefix("/sound/").and_then(|mark| mark.parse().ok()) {
            Some(mark) => answer(200, "", &wav(0.1, mark)),
            None => answer(204, "", b""),
        }
    })
}

fn server(folder: &Folder, web: &Receiver, more: &[(&str, &str)]) -> TestServer {
    let port = web.port.to_string();
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
    ];
    TestServer::scripted(folder, &[&variables, more].concat())
}

fn submit(server: &TestServer, body: &Value) -> Reply {
    server.send("POST", "/api/v1/batch", &[JSON], body.to_string().as_bytes())
}

fn upload(server: &TestServer, sound: &[u8]) -> String {
    let length = sound.len().to_string();
    let made = server.send("POST", "/api/v1/uploads", &[TUS, ("upload-length", &length)], b"");
    let id = made.header("location").rsplit('/').next().unwrap().to_owned();
    let kind = ("content-type", "application/offset+octet-stream");
    let path = format!("/api/v1/uploads/{id}");
    assert_eq!(
        server.send("PATCH", &path, &[TUS, kind, ("upload-offset", "0")], sound).status,
        204
    );
    id
}

/// Messages about a batch so far.
fn told(web: &Receiver) -> Vec<Value> {
    let hooks = web.asked().into_iter().filter(|asked| asked.path == "/hook");
    hooks.map(|asked| serde_json::from_slice(&asked.body).unwrap()).collect()
}

fn complete(server: &TestServer, id: &str) -> Value {
    eventually("the batch", || {
        let batch = server.get(&format!("/api/v1/batch/{id}")).json();
        (batch["status"] == "completed").then_some(batch)
    })
}

#[test]
fn items_become_jobs_or_say_why_not_and_their_end_is_told_once() {
    let (folder, web) = (Folder::new("batch"), web());
    let server = server(&folder, &web, &[]);
    let (first, second) = (upload(&server, &wav(0.1, 1)), upload(&server, &wav(0.1, 2)));
    let body = json!({
        "options": {"language": "pt", "metadata": {"of": "batch"}},
        "callback_url": web.url("/hook"),
        "callback_secret": "whsec_c2VjcmV0",
        "items": [
            {"upload_id": first, "external_id": "one"},
            {"url": web.url("/sound/3"), "options": {"language": "en", "callback_url": web.url("/job")}},
            {"upload_id": second, "options": {"initial_prompt": "fail"}},
            {"upload_id": first},
            {"url": "ftp://nowhere"},
            {"upload_id": "unknown"},
            {"url": web.url("/sound/4"), "upload_id": second},
            {"url": web.url("/sound/4"), "options": {"beam_size": 99}},
            {"url": web.url("/sound/4"), "speed": "fast"},
            7,
        ],
    });
    let reply = submit(&server, &body);
    assert_eq!(reply.status, 202, "{}", reply.text());
    let answer = reply.json();
    let id = answer["batch_id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/api/v1/batch/{id}"));
    let items = answer["items"].as_array().unwrap();
    let codes: Vec<&str> =
        items.iter().skip(3).map(|item| item["error"]["code"].as_str().unwrap()).collect();
    let expected = [
        "conflicting_field",
        "invalid_url",
        "not_found",
        "conflicting_field",
        "invalid_option",
        "invalid_option",
        "invalid_option",
    ];
    assert_eq!(codes, expected, "{answer}");
    assert!(items.iter().enumerate().all(|(index, item)| item["index"] == index));
    assert_eq!(items[7]["error"]["errors"][0]["pointer"], "/options/beam_size");
    let jobs: Vec<Value> =
        items.iter().take(3).map(|item| server.wait(item["job_id"].as_str().unwrap())).collect();
    let states: Vec<&Value> = jobs.iter().map(|job| &job["status"]).collect();
    assert_eq!(states, ["completed", "completed", "failed"]);
    assert!(jobs.iter().all(|job| job["batch_id"] == id && job["metadata"]["of"] == "batch"));
    let languages: Vec<&Value> = jobs.iter().map(|job| &job["options"]["language"]).collect();
    assert_eq!(languages, ["pt", "en", "pt"]);
    assert_eq!(jobs[0]["external_id"], "one");

    let batch = complete(&server, id);
    assert_eq!(
        (&batch["total"], &batch["counts"]["completed"], &batch["counts"]["failed"]),
        (&json!(3), &json!(2), &json!(1))
    );
    let listed = server.get(&format!("/api/v1/transcriptions?batch_id={id}")).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    assert!(
        server.get("/api/v1/transcriptions?batch_id=other").json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    eventually("the message", || (!told(&web).is_empty()).then_some(()));
    let asked = web.asked().into_iter().find(|asked| asked.path == "/hook").unwrap();
    let now = echo_server::clock::now_ms();
    verify(&Secret::new("whsec_c2VjcmV0"), &asked.header_map(), &asked.body, now).unwrap();
    let message = told(&web).remove(0);
    assert_eq!(
        (&message["type"], &message["data"]["batch_id"]),
        (&json!("batch.completed"), &json!(id))
    );
    assert_eq!(message["data"]["counts"], batch["counts"]);
    // A job's own callback is sent as ever; an upload is one job, and says which.
    eventually("the job's own", || {
        web.asked().iter().any(|asked| asked.path == "/job").then_some(())
    });
    let again = submit(&server, &json!({"items": [{"upload_id": first}]})).json();
    let error = &again["items"][0]["error"];
    assert_eq!(
        (&error["code"], &error["job_id"]),
        (&json!("already_finished"), &jobs[0]["job_id"])
    );
    let none = complete(&server, again["batch_id"].as_str().unwrap());
    assert_eq!(none["total"], 0);
    assert_eq!(told(&web).len(), 1);
}

#[test]
fn a_batch_has_limits_a_key_and_one_tenant() {
    let (folder, web) = (Folder::new("batch-limits"), web());
    let limits =
        [("JWT_SECRET", SECRET), ("ECHO_TENANT_MAX_PENDING", "7"), ("ECHO_TEST_JOB_MS", "10")];
    let mut server = server(&folder, &web, &limits);
    server.token = token("ana", "transcribe:read transcribe:write");
    let items = |count: usize| -> Vec<Value> {
        (0..count).map(|n| json!({"url": web.url(&format!("/sound/{n}"))})).collect()
    };
    for (body, code) in [
        (json!({"items": []}), "invalid_option"),
        (json!({"items": items(101)}), "invalid_option"),
        (json!({}), "invalid_option"),
        (json!({"items": items(1), "callback_secret": "x".repeat(257)}), "invalid_option"),
        (json!({"items": items(1), "colour": "red"}), "invalid_option"),
        (json!({"items": items(1), "options": {"beam_size": 99}}), "invalid_option"),
        (json!({"items": items(1), "options": {"speed": 2}}), "unknown_field"),
        (json!({"items": items(1), "callback_url": "ftp://nowhere"}), "invalid_option"),
    ] {
        let refused = submit(&server, &body);
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (422, Some(code)),
            "{body} {}",
            refused.text()
        );
    }
    assert_eq!(server.send("POST", "/api/v1/batch", &[JSON], b"{").status, 400);
    let full = submit(&server, &json!({"items": items(8)}));
    assert_eq!((full.status, &full.json()["code"]), (429, &json!("quota_exceeded")));

    let body = json!({"items": items(3)}).to_string();
    let keyed = [JSON, ("idempotency-key", "k1")];
    let once = server.send("POST", "/api/v1/batch", &keyed, body.as_bytes());
    let twice = server.send("POST", "/api/v1/batch", &keyed, body.as_bytes());
    assert_eq!((once.status, twice.header("idempotent-replayed")), (202, "true"));
    assert_eq!((once.json(), once.header("location")), (twice.json(), twice.header("location")));
    let other = server.send(
        "POST",
        "/api/v1/batch",
        &keyed,
        json!({"items": items(2)}).to_string().as_bytes(),
    );
    assert_eq!(other.json()["code"], "idempotency_key_reused");
    let id = once.json()["batch_id"].as_str().unwrap().to_owned();
    assert_eq!(complete(&server, &id)["counts"]["completed"], 3);

    server.token = token("bia", "transcribe:read transcribe:write");
    let path = format!("/api/v1/batch/{id}");
    assert_eq!(
        (server.get(&path).status, &server.get(&path).json()["code"]),
        (404, &json!("not_found"))
    );
    let listed = server.get(&format!("/api/v1/transcriptions?batch_id={id}")).json();
    assert!(listed["items"].as_array().unwrap().is_empty());
    server.token = token("ana", "transcribe:read");
    assert_eq!(server.get(&path).status, 200);
    assert_eq!(submit(&server, &json!({"items": items(1)})).json()["code"], "insufficient_scope");
    server.token = token("ana", "transcribe:write");
    assert_eq!(server.get(&path).json()["code"], "insufficient_scope");
    server.token = None;
    assert_eq!(
        (server.get(&path).status, submit(&server, &json!({"items": items(1)})).status),
        (401, 401)
    );
}

#[test]
fn a_server_killed_between_the_last_commit_and_the_message_tells_it_once() {
    let (folder, web) = (Folder::new("batch-kill"), web());
    let variables = [("ECHO_TEST_JOB_MS", "1500"), ("ECHO_DRAIN_SECONDS", "60")];
    let mut server = server(&folder, &web, &variables);
    let sounds = [upload(&server, &wav(0.1, 1)), upload(&server, &wav(0.1, 2))];
    let items: Vec<Value> = sounds.iter().map(|id| json!({"upload_id": id})).collect();
    let answer = submit(&server, &json!({"items": items, "callback_url": web.url("/hook")})).json();
    let id = answer["batch_id"].as_str().unwrap().to_owned();
    let job = |n: usize| answer["items"][n]["job_id"].as_str().unwrap().to_owned();
    server.wait(&job(0));
    eventually("the last job to run", || {
        (server.job(&job(1))["status"] == "processing").then_some(())
    });
    // From now on it sends nothing, and lets the job end.
    let pid = server.process.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let path = format!("/api/v1/batch/{id}");
    eventually("the last commit", || {
        // The process may be over just as well: then all is committed.
        let reply = server.try_send("GET", &path, &[], b"");
        reply.is_none_or(|reply| reply.json()["status"] == "completed").then_some(())
    });
    let _ = server.process.kill();
    let _ = server.process.wait();
    assert!(told(&web).is_empty(), "it was told too early: {:?}", told(&web));
    server.restart();
    eventually("the message", || (!told(&web).is_empty()).then_some(()));
    assert_eq!(complete(&server, &id)["counts"]["completed"], 2);
    // Another one after it shows that there is none left.
    let more = submit(
        &server,
        &json!({"items": [{"url": "ftp://none"}], "callback_url": web.url("/hook")}),
    );
    eventually("the next message", || (told(&web).len() == 2).then_some(()));
    let ids: Vec<Value> =
        told(&web).iter().map(|message| message["data"]["batch_id"].clone()).collect();
    assert_eq!(ids, [json!(id), more.json()["batch_id"].clone()]);
}
