//! A worker on another machine, as far as the API sees one.

use echo_server::secrets::Secret;
use echo_server::webhook::sign::signature;
use serde_json::{Value, json};

use super::{Reply, TestServer};

/// The secret of such workers; the server's `ECHO_WORKER_SECRET`.
pub const SECRET: &str = "the secret of workers, in tests";

/// A server that has no workers of its own.
pub fn server(folder: &super::Folder, variables: &[(&str, &str)]) -> TestServer {
    let own = [("ECHO_WORKER_SECRET", SECRET), ("ECHO_TEST_WORKER", "/bin/false")];
    TestServer::start(folder, &[&own, variables].concat())
}

/// Sends an event as such a worker would, under an identifier of its own.
pub fn tell(server: &TestServer, id: &str, event: &Value) -> Reply {
    let body = event.to_string();
    let at = echo_server::clock::now_ms() / 1000;
    let signed = signature(&Secret::new(SECRET), id, at, body.as_bytes());
    let at = at.to_string();
    let headers =
        [("webhook-id", id), ("webhook-timestamp", &*at), ("webhook-signature", &*signed)];
    server.send("POST", "/api/v1/webhooks/transcription", &headers, body.as_bytes())
}

/// Claims a job; what the API answers.
pub fn claim(server: &TestServer, job_id: &str) -> Value {
    let data = json!({"job_id": job_id, "worker_id": "gpu"});
    let event = json!({"type": "transcription.started", "data": data});
    let reply = tell(server, &format!("claim {job_id}"), &event);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// An event of a claimed job.
pub fn event(claim: &Value, kind: &str, more: &Value) -> Value {
    let mut data = json!({
        "job_id": claim["job_id"], "epoch": claim["epoch"], "lease_token": claim["lease_token"],
    });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"type": format!("transcription.{kind}"), "data": data})
}
