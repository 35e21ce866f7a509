//! `/asyncapi.yaml` against what is really said: over the WebSocket of live sound, in the events of a
//! job, and in callbacks. Whatever is said fits the message of its name, and each message is said.

#![allow(clippy::unwrap_used, reason = "as in the tests themselves")]

mod support;

use std::collections::BTreeSet;
use std::net::TcpStream;

use serde_json::{Value, json};
use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, eventually, schema, wav};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

fn document() -> Value {
    serde_json::from_str(include_str!("../asyncapi.json")).unwrap()
}

/// Names of the messages that an operation may carry.
fn named(document: &Value, operation: &str) -> BTreeSet<String> {
    let messages = document["operations"][operation]["messages"].as_array().unwrap();
    let name = |message: &Value| {
        let own = message["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        document["components"]["messages"][own]["name"].as_str().unwrap().to_owned()
    };
    messages.iter().map(name).collect()
}

/// Whether a payload fits the message of this name in an operation.
fn check(document: &Value, operation: &str, name: &str, payload: &Value) {
    let messages = document["operations"][operation]["messages"].as_array().unwrap();
    let own = messages.iter().map(|message| {
        let own = message["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        &document["components"]["messages"][own]
    });
    let own: Vec<&Value> = own.filter(|message| message["name"] == name).collect();
    assert_eq!(own.len(), 1, "{operation} has no message `{name}`: {payload}");
    let faults = schema::faults(document, &own[0]["payload"], payload);
    assert!(faults.is_empty(), "{name}: {faults:?} in {payload}");
}

fn open(server: &TestServer) -> Option<WebSocket<TcpStream>> {
    let address = server.base.trim_start_matches("http://");
    let request = format!("ws://{address}/api/v1/stream").into_client_request().unwrap();
    tungstenite::client(request, TcpStream::connect(address).unwrap())
        .ok()
        .map(|(socket, _)| socket)
}

#[test]
fn what_is_said_in_a_live_session_is_described() {
    let folder = Folder::new("described-live");
    let server = TestServer::scripted(&folder, &[]);
    let document = document();
    let mut socket = eventually("a session", || open(&server));
    socket.send(Message::binary(vec![0; 3200])).unwrap();
    let mut said = BTreeSet::new();
    let mut next = |socket: &mut WebSocket<TcpStream>| loop {
        match socket.read().unwrap() {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).unwrap();
                let name = message["type"].as_str().unwrap().to_owned();
                check(&document, "hearSession", &name, &message);
                said.insert(name);
                return true;
            }
            Message::Close(_) => return false,
            _ => {}
        }
    };
    assert!(next(&mut socket) && next(&mut socket));
    for message in [json!({"type": "sing"}), json!({"type": "finalize"}), json!({"type": "stop"})] {
        let name = message["type"].as_str().unwrap();
        let is_known = named(&document, "speakSession").contains(name);
        assert_eq!(is_known, name != "sing");
        if is_known {
            check(&document, "speakSession", name, &message);
        }
        socket.send(Message::text(message.to_string())).unwrap();
    }
    while next(&mut socket) {}
    // What the worker that pretends does not say, as the real one writes it.
    use echo_server::live::LiveEvent;
    for event in [LiveEvent::SpeechStarted { start: 0.5 }, LiveEvent::UtteranceEnd { end: 1.5 }] {
        let message = serde_json::to_value(event).unwrap();
        let name = message["type"].as_str().unwrap().to_owned();
        check(&document, "hearSession", &name, &message);
        said.insert(name);
    }
    assert_eq!(said, named(&document, "hearSession"));
}

#[test]
fn the_events_of_a_job_are_described() {
    let folder = Folder::new("described-events");
    let server = TestServer::scripted(&folder, &[("ECHO_MAX_ATTEMPTS", "2")]);
    let document = document();
    let mut said = BTreeSet::new();
    for (mark, prompt) in [(1, ""), (2, "abort"), (3, "fail")] {
        let id = server.upload(&wav(0.1, mark), &[("initial_prompt", prompt)]).job_id();
        // Read while it goes on, and once more when it is over.
        for _ in 0..2 {
            let text = server.get(&format!("/api/v1/transcription/{id}/events")).text();
            for event in text.split("\n\n").filter(|event| event.contains("data: ")) {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let (name, data) = (field("event: ").unwrap(), field("data: ").unwrap());
                check(&document, "followJob", name, &serde_json::from_str(data).unwrap());
                said.insert(name.to_owned());
            }
            server.wait(&id);
        }
    }
    assert_eq!(said, named(&document, "followJob"));
}

#[test]
fn callbacks_are_described() {
    let folder = Folder::new("described-callbacks");
    let receiver = Receiver::start(|_, _| answer(204, "", b""));
    let port = receiver.port.to_string();
    let variables = [
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
    ];
    let server = TestServer::scripted(&folder, &variables);
    let document = document();
    let url = receiver.url("/hook");
    for (mark, prompt) in [(1, ""), (2, "fail"), (3, "hang")] {
        let fields = [
            ("callback_url", &*url),
            ("callback_include_result", "true"),
            ("initial_prompt", prompt),
        ];
        let id = server.upload(&wav(0.1, mark), &fields).job_id();
        if prompt == "hang" {
            server.send("DELETE", &format!("/api/v1/transcription/{id}"), &[], b"");
        }
        server.wait(&id);
    }
    let batch = json!({"items": [{"url": "ftp://none"}], "callback_url": url}).to_string();
    let json = [("content-type", "application/json")];
    let batch = server.send("POST", "/api/v1/batch", &json, batch.as_bytes());
    assert_eq!(batch.status, 202, "{}", batch.text());
    let expected = named(&document, "callBack");
    eventually("all callbacks", || (receiver.asked().len() == expected.len()).then_some(()));
    let mut said = BTreeSet::new();
    for asked in receiver.asked() {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let name = body["type"].as_str().unwrap().to_owned();
        check(&document, "callBack", &name, &body);
        for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            assert!(!asked.header(header).is_empty(), "{header}");
        }
        said.insert(name);
    }
    assert_eq!(said, expected);
}
