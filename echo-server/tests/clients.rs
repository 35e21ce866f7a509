//! Who asks and how: tenants, keys, idempotency, events, OpenAI's interface, the description.

mod support;

use serde_json::Value;
use support::{Folder, TestServer, form, wav};

#[test]
fn tenants_see_only_their_own() {
    let folder = Folder::new("tenants");
    let secret = "0123456789abcdef0123456789abcdef";
    let mut server =
        TestServer::scripted(&folder, &[("JWT_SECRET", secret), ("ECHO_RATE_READ", "0")]);
    assert_eq!(server.get("/api/v1/transcriptions").json()["code"], "missing_credentials");
    assert_eq!(server.get("/v1/models").json()["error"]["code"], "missing_credentials");
    assert_eq!(server.get("/v1/models/a/b").json()["error"]["code"], "missing_credentials");
    assert_eq!(server.get("/health/live").status, 200);
    assert_eq!(server.get("/metrics").status, 401);
    let token = |tenant: &str, scope: &str| {
        let claims = echo_server::auth::Claims {
            sub: tenant.to_owned(),
            exp: echo_server::clock::now_ms() / 1000 + 600,
            nbf: None,
            tid: None,
            scope: scope.to_owned(),
            aud: Value::Null,
        };
        Some(echo_server::auth::sign(&claims, &echo_server::secrets::Secret::new(secret)))
    };
    let all = "transcribe:read transcribe:write admin";
    server.token = token("ana", all);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    server.wait(&id);
    let path = format!("/api/v1/transcription/{id}");
    server.token = token("bia", all);
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/download?format=txt")),
        ("GET", format!("{path}/events")),
        ("GET", format!("{path}/audio")),
        ("GET", format!("{path}/deliveries")),
        ("DELETE", path.clone()),
        ("DELETE", format!("{path}?purge=true")),
    ] {
        let reply = server.send(method, &path, &[], b"");
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (404, &"job_not_found".into()),
            "{method} {path}"
        );
    }
    assert!(server.get("/api/v1/transcriptions").json()["items"].as_array().unwrap().is_empty());
    // The same sound of another tenant is not answered from the first one's result.
    assert_eq!(server.upload(&wav(0.1, 1), &[]).status, 202);
    server.token = token("ana", "transcribe:read");
    assert_eq!(server.upload(&wav(0.1, 2), &[]).json()["code"], "insufficient_scope");
    server.token = token("ana", all);
    let made = server.send(
        "POST",
        "/api/v1/keys",
        &[("content-type", "application/json")],
        br#"{"name": "ci"}"#,
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json();
    server.token = key["key"].as_str().map(ToOwned::to_owned);
    assert_eq!(server.get(&path).status, 200);
    assert_eq!(server.get("/api/v1/keys").json()["code"], "insufficient_scope");
    server.token = token("ana", all);
    let revoke = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &revoke, &[], b"").status, 204);
    server.token = key["key"].as_str().map(ToOwned::to_owned);
    assert_eq!(server.get(&path).json()["code"], "invalid_token");
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let folder = Folder::new("rate");
    let hash = echo_server::secrets::sha256_hex("echo_sk_test");
    let keys = format!("ana:{hash}");
    let mut server =
        TestServer::scripted(&folder, &[("ECHO_API_KEYS", &keys), ("ECHO_RATE_SUBMIT", "2/m")]);
    server.token = Some("echo_sk_test".to_owned());
    for mark in 0..2 {
        assert_eq!(server.upload(&wav(0.1, mark), &[]).status, 202);
    }
    let reply = server.upload(&wav(0.1, 9), &[]);
    assert_eq!((reply.status, &reply.json()["code"]), (429, &"rate_limited".into()));
    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
}

#[test]
fn an_idempotency_key_makes_one_job_of_many_requests() {
    let folder = Folder::new("idempotency");
    let server = TestServer::scripted(&folder, &[]);
    let send = |mark: u32| {
        let (kind, body) = form(&wav(0.1, mark), "a.wav", &[]);
        server.send(
            "POST",
            "/api/v1/upload/file",
            &[("content-type", &kind), ("idempotency-key", "k")],
            &body,
        )
    };
    let first = send(1);
    let again = send(1);
    assert_eq!((again.status, again.job_id()), (first.status, first.job_id()));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(send(2).json()["code"], "idempotency_key_reused");
    let total = server.get("/api/v1/transcriptions?include_total=1").json()["total"].clone();
    assert_eq!(total, 1);
}

#[test]
fn fifty_posts_of_one_file_are_one_run() {
    let folder = Folder::new("fifty");
    let server = TestServer::scripted(&folder, &[("ECHO_TEST_JOB_MS", "400")]);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let posts: Vec<_> =
            (0..50).map(|_| scope.spawn(|| server.upload(&wav(0.1, 1), &[]).job_id())).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    for id in &ids {
        assert_eq!(server.wait(id)["status"], "completed");
    }
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("echo_attempts_total{outcome=\"completed\"} 1\n"), "{metrics}");
}

#[test]
fn events_tell_the_way_and_resume() {
    let folder = Folder::new("events");
    let server = TestServer::scripted(&folder, &[("ECHO_TEST_JOB_MS", "300")]);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let path = format!("/api/v1/transcription/{id}/events");
    let reply = server.get(&path);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    let text = reply.text();
    for part in [
        "event: status",
        "event: progress",
        "event: segment\ndata: {\"end\":1.0",
        "\"completed\"",
        "event: done",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let last = text.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let rest = server.send("GET", &path, &[("last-event-id", last)], b"").text();
    assert!(!rest.contains("event: segment") && rest.contains("event: done"), "{rest}");
    let middle = server.send("GET", &path, &[("last-event-id", "2")], b"").text();
    assert!(middle.contains("event: segment"), "{middle}");
}

#[test]
fn openai_answers_in_every_format() {
    let folder = Folder::new("openai");
    let server = TestServer::scripted(&folder, &[]);
    let ask = |path: &str, fields: &[(&str, &str)]| {
        let (kind, body) = form(&wav(0.1, 1), "a.wav", fields);
        server.send(
            "POST",
            path,
            &[("content-type", &kind), ("authorization", "Bearer any")],
            &body,
        )
    };
    let transcribe = "/v1/audio/transcriptions";
    let json = ask(transcribe, &[("model", "whisper-1")]).json();
    assert_eq!((&json["text"], &json["usage"]["type"]), (&"pretended".into(), &"duration".into()));
    let verbose = ask(transcribe, &[("model", "base"), ("response_format", "verbose_json")]).json();
    assert_eq!(
        (&verbose["language"], &verbose["segments"][0]["id"]),
        (&"english".into(), &0.into())
    );
    assert!(verbose["words"].is_null());
    let srt = ask(transcribe, &[("model", "whisper-1"), ("response_format", "srt")]);
    assert!(
        srt.text().starts_with("1\n00:00:00,000") && !srt.header("content-type").contains("json")
    );
    let text =
        ask("/v1/audio/translations", &[("model", "whisper-1"), ("response_format", "text")]);
    assert_eq!(text.text(), "pretended\n");
    let diarized = ask(
        transcribe,
        &[("model", "gpt-4o-transcribe-diarize"), ("response_format", "diarized_json")],
    )
    .json();
    assert_eq!(diarized["segments"][0]["speaker"], "A");
    let stream =
        ask(transcribe, &[("model", "whisper-1"), ("stream", "true"), ("language", "de")]).text();
    assert!(
        stream.contains("transcript.text.delta") && stream.contains("transcript.text.done"),
        "{stream}"
    );
    assert!(stream.ends_with("data: [DONE]\n\n"));
    let error = ask(transcribe, &[("model", "gpt-9")]);
    assert_eq!((error.status, &error.json()["error"]["code"]), (404, &"model_not_found".into()));
    assert_eq!(error.json()["error"]["param"], "model");
    let models = server.get("/v1/models").json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&"base".into(), &"whisper-1".into())
    );
}

#[test]
fn the_description_names_every_route() {
    let folder = Folder::new("routes");
    let server = TestServer::scripted(&folder, &[]);
    let document = server.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{job_id}", "x")
            .replace("{delivery_id}", "x")
            .replace("{key_id}", "x")
            .replace("{upload_id}", "x")
            .replace("{batch_id}", "x")
            .replace("{id}", "base");
        for method in operations.as_object().unwrap().keys() {
            let reply = server.send(&method.to_uppercase(), &concrete, &[], b"");
            let is_routed = reply.status != 405 && !reply.text().contains("there is nothing here");
            assert!(is_routed, "{method} {path}: {} {}", reply.status, reply.text());
        }
        described.push(path.clone());
    }
    // What the source routes is described.
    let nested = [
        ("/api/v1", include_str!("../src/routes/mod.rs")),
        ("/v1", include_str!("../src/routes/openai/mod.rs")),
        ("", include_str!("../src/routes/health.rs")),
    ];
    for (prefix, source) in nested {
        for part in source.split(".route(").skip(1) {
            let path = part.split('"').nth(1).unwrap();
            assert!(
                described.contains(&format!("{prefix}{path}")),
                "{prefix}{path} is not described"
            );
        }
    }
    assert!(server.get("/docs").text().contains("/api/v1/upload/file"));
}

#[test]
fn pages_of_the_named_origins_may_call_and_no_others() {
    let folder = Folder::new("cors");
    let server = TestServer::scripted(&folder, &[("ECHO_CORS_ORIGINS", "https://app.example")]);
    let ask = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        server.send("OPTIONS", "/api/v1/upload/file", &headers, b"")
    };
    let allowed = ask("https://app.example");
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (204, "https://app.example")
    );
    for origin in ["https://app.example.evil", "null", "http://app.example"] {
        assert_eq!(ask(origin).header("access-control-allow-origin"), "", "{origin}");
    }
}
