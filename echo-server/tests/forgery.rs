//! Nobody reaches what only the server can reach: not by redirects, not by names whose addresses
//! change, neither with a source nor with a callback. What counts is what a listener saw.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "as in the tests themselves")]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use support::names::NameServer;
use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, eventually, wav};

/// What stands for the public internet here: the rest of the loopback network stays private.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const PUBLIC_NETWORK: &str = "127.77.0.0/16";

/// Loopback, however it may be written.
const SPELLINGS: [&str; 16] = [
    "127.0.0.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "127.1",
    "127.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "0.0.0.0",
    "0",
    "localhost",
    "LocalHost.",
];

fn post_url(server: &TestServer, url: &str) -> support::Reply {
    let headers = [("content-type", "application/json")];
    let body = json!({ "url": url }).to_string();
    server.send("POST", "/api/v1/upload/url", &headers, body.as_bytes())
}

/// What became of a source.
fn fetched(server: &TestServer, url: &str) -> Value {
    let reply = post_url(server, url);
    assert_eq!(reply.status, 202, "{url} {}", reply.text());
    server.wait(&reply.job_id())
}

fn variables(port: &str) -> [(&str, &str); 3] {
    [
        ("ECHO_FETCH_ALLOW_CIDRS", PUBLIC_NETWORK),
        ("ECHO_FETCH_PORTS", port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
    ]
}

#[test]
fn no_redirect_leads_to_a_private_address() {
    let private = Receiver::start(|_, _| answer(200, "", &wav(0.1, 1)));
    let number = private.port;
    let public = Receiver::start_at((PUBLIC, number), move |path, _| {
        let at = path.trim_start_matches("/to/").parse::<usize>().ok();
        let Some(host) = at.and_then(|at| SPELLINGS.get(at)) else { return answer(404, "", b"") };
        answer(302, &format!("location: http://{host}:{number}/x\r\n"), b"")
    });
    let folder = Folder::new("redirects");
    let port = number.to_string();
    let server = TestServer::scripted(&folder, &variables(&port));
    for at in 0..SPELLINGS.len() {
        let job = fetched(&server, &format!("http://{PUBLIC}:{number}/to/{at}"));
        let code = &job["error"]["code"];
        // Odd spellings of numbers are names that nobody knows.
        assert!(["fetch_blocked", "fetch_failed"].map(Value::from).contains(code), "{at}: {job}");
    }
    let asked = public.asked().len();
    assert!(asked >= SPELLINGS.len(), "{asked} redirects were given");
    let reached = private.connections_before_ours();
    println!(
        "{asked} redirects to {} spellings of loopback: {reached} connections",
        SPELLINGS.len()
    );
    assert_eq!(reached, 0, "{:?}", private.asked());
}

/// What the name server says: `rebound…` and `hook…` are public at first and private from then on.
fn addresses(name: &str, count: usize) -> Vec<IpAddr> {
    let (public, private) = (IpAddr::from(PUBLIC), IpAddr::from(Ipv4Addr::LOCALHOST));
    let mapped = Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1]);
    match name {
        "steady.example" => vec![public],
        "rebound.example" | "swap.example" | "hook.example" if count == 1 => vec![public],
        "rebound.example" | "swap.example" | "hook.example" | "loop.example" => vec![private],
        "mixed.example" => vec![public, private],
        "sixth.example" => vec![public, Ipv6Addr::LOCALHOST.into()],
        "mapped.example" => vec![mapped.into()],
        _ => Vec::new(),
    }
}

#[test]
fn a_name_that_changes_its_mind_leads_nowhere_private() {
    let folder = Folder::new("rebinding");
    let Some(names) = NameServer::start(addresses) else { return };
    let Some(wrapper) = names.wrapper(&folder) else { return };
    let private = Receiver::start(|_, _| answer(200, "", &wav(0.1, 1)));
    let number = private.port;
    let public = Receiver::start_at((PUBLIC, number), move |path, count| match path {
        "/swap" => answer(302, "location: /sound.wav\r\n", b""),
        "/hook" => answer(503, "retry-after: 1\r\n", b""),
        _ => answer(200, "", &wav(0.1, 100 + count as u32)),
    });
    let port = number.to_string();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let server = TestServer::scripted_by(&wrapper, &folder, &variables(&port));
    let url = |name: &str, path: &str| format!("http://{name}.example:{number}{path}");

    let job = fetched(&server, &url("steady", "/sound.wav"));
    assert_eq!(job["status"], "completed", "names are resolved as told: {job}");
    // The one answer that was checked is the one that is connected to.
    let job = fetched(&server, &url("rebound", "/sound.wav"));
    assert_eq!((&job["status"], names.asked("rebound.example")), (&"completed".into(), 1), "{job}");
    for (name, path) in [
        ("rebound", "/sound.wav"),
        ("swap", "/swap"),
        ("loop", "/sound.wav"),
        ("mixed", "/sound.wav"),
        ("sixth", "/sound.wav"),
        ("mapped", "/sound.wav"),
    ] {
        let job = fetched(&server, &url(name, path));
        assert_eq!(job["error"]["code"], "fetch_blocked", "{name}: {job}");
    }
    // A callback is resolved anew for every try: the first one goes out, the second nowhere.
    for (mark, name) in ["hook", "loop", "mixed", "sixth", "mapped"].into_iter().enumerate() {
        let callback = [("callback_url", &*url(name, "/hook"))];
        let id = server.upload(&wav(0.1, mark as u32), &callback).job_id();
        let path = format!("/api/v1/transcription/{id}/deliveries");
        let delivery = eventually("the delivery to fail", || {
            let items = server.get(&path).json()["items"].clone();
            (items[0]["state"] == "failed").then(|| items[0].clone())
        });
        let tries = delivery["tries"].as_array().unwrap();
        assert_eq!(tries.len(), if name == "hook" { 2 } else { 1 }, "{name}: {delivery}");
        assert_eq!(tries.last().unwrap()["error"], "fetch_blocked", "{name}: {delivery}");
    }
    let hooks = public.asked().iter().filter(|asked| asked.path == "/hook").count();
    let reached = private.connections_before_ours();
    println!(
        "public: {} requests, {hooks} of them callbacks; private: {reached} connections",
        public.asked().len()
    );
    assert_eq!((hooks, reached), (1, 0), "{:?}", private.asked());
}
