//! What the web page needs of the server: its files, tickets for its player, and a second try.

mod support;

use serde_json::json;
use support::{Folder, TestServer, wav};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn token(tenant: &str) -> Option<String> {
    let claims = echo_server::auth::Claims {
        sub: tenant.to_owned(),
        exp: echo_server::clock::now_ms() / 1000 + 600,
        nbf: None,
        tid: None,
        scope: "transcribe:read transcribe:write".to_owned(),
        aud: serde_json::Value::Null,
    };
    Some(echo_server::auth::sign(&claims, &echo_server::secrets::Secret::new(SECRET)))
}

#[test]
fn the_page_is_sent_once_and_under_a_strict_policy() {
    let folder = Folder::new("page");
    let server = TestServer::scripted(&folder, &[]);
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    let names: Vec<&str> = text.split('"').filter(|name| name.starts_with("assets/")).collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let path = format!("/{name}");
        let file = server.get(&path);
        assert_eq!(
            (file.status, file.header("x-content-type-options")),
            (200, "nosniff"),
            "{name}"
        );
        let known = server.send("GET", &path, &[("if-none-match", file.header("etag"))], b"");
        assert_eq!((known.status, known.body.len()), (304, 0), "{name}");
    }
    assert_eq!(server.get("/assets/../Cargo.toml").status, 404);
    assert_eq!(server.get("/assets/no.js").json()["code"], "not_found");
}

#[test]
fn a_ticket_opens_one_recording_and_nothing_else() {
    let folder = Folder::new("tickets");
    let mut server = TestServer::scripted(&folder, &[("JWT_SECRET", SECRET)]);
    server.token = token("ana");
    let sound = wav(0.1, 1);
    let id = server.upload(&sound, &[]).job_id();
    let other = server.upload(&wav(0.1, 2), &[]).job_id();
    let ask = |server: &TestServer, body: serde_json::Value| {
        server.send("POST", "/api/v1/tickets", JSON, body.to_string().as_bytes())
    };
    let made = ask(&server, json!({ "job_id": id, "use": "audio" }));
    assert_eq!(made.status, 201);
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    assert_eq!(ask(&server, json!({ "job_id": id, "use": "delete" })).status, 422);
    assert_eq!(ask(&server, json!({})).json()["code"], "invalid_option");
    server.token = token("bia");
    let stolen = ask(&server, json!({ "job_id": id, "use": "audio" }));
    assert_eq!(stolen.json()["code"], "job_not_found");

    server.token = None;
    let path = format!("/api/v1/transcription/{id}");
    let whole = server.get(&format!("{path}/audio?ticket={ticket}"));
    assert_eq!((whole.status, &whole.body), (200, &sound));
    let range = [("range", "bytes=4-11")];
    let part = server.send("GET", &format!("{path}/audio?ticket={ticket}"), &range, b"");
    assert_eq!((part.status, &part.body[..]), (206, &sound[4..12]));
    for closed in [
        format!("{path}/audio"),
        format!("{path}/audio?ticket=x{ticket}"),
        format!("{path}?ticket={ticket}"),
        format!("{path}/download?format=txt&ticket={ticket}"),
        format!("/api/v1/transcription/{other}/audio?ticket={ticket}"),
    ] {
        assert_eq!(server.get(&closed).status, 401, "{closed}");
    }
    assert_eq!(server.send("DELETE", &format!("{path}?ticket={ticket}"), &[], b"").status, 401);
}

#[test]
fn a_failed_job_is_tried_again_as_another() {
    let folder = Folder::new("retry");
    let server = TestServer::scripted(&folder, &[]);
    let id =
        server.upload(&wav(0.1, 1), &[("initial_prompt", "fail"), ("external_id", "e-1")]).job_id();
    assert_eq!(server.wait(&id)["status"], "failed");
    let path = |id: &str| format!("/api/v1/transcription/{id}");
    let again = server.send("POST", &format!("{}/retry", path(&id)), &[], b"");
    assert_eq!(again.status, 202);
    let job = server.wait(&again.job_id());
    assert_ne!(job["job_id"], json!(id));
    assert_eq!((&job["retry_of"], &job["external_id"]), (&json!(id), &json!("e-1")));
    assert_eq!(job["options"]["initial_prompt"], "fail");
    let unknown = server.send("POST", "/api/v1/transcription/none/retry", &[], b"");
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("job_not_found")));

    let running = server.upload(&wav(0.1, 3), &[("initial_prompt", "hang")]).job_id();
    let early = server.send("POST", &format!("{}/retry", path(&running)), &[], b"");
    assert_eq!((early.status, &early.json()["code"]), (409, &json!("not_ready")));

    for gone in [&id, &again.job_id()] {
        assert_eq!(
            server.send("DELETE", &format!("{}?purge=true", path(gone)), &[], b"").status,
            204
        );
    }
    let erased = server.send("POST", &format!("{}/retry", path(&id)), &[], b"");
    assert!(matches!(erased.status, 404 | 410), "{}", erased.text());
}
