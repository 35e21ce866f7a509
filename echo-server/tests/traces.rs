//! Traces, as a collector of OTLP and the receiver of a callback see them.

#![allow(clippy::unwrap_used, reason = "as in the tests themselves")]

mod support;

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use support::receiver::{Receiver, answer};
use support::{Folder, TestServer, elsewhere, eventually, form, wav};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was sent to a collector, all of it of one service.
fn spans(collector: &Receiver) -> Vec<Span> {
    let mut all = Vec::new();
    for asked in collector.asked() {
        assert_eq!(asked.path, "/v1/traces");
        assert_eq!(asked.header("content-type"), "application/x-protobuf");
        assert_eq!(asked.header("authorization"), "Bearer of the collector");
        let request = ExportTraceServiceRequest::decode(&asked.body[..]).unwrap();
        for resource in request.resource_spans {
            let about = format!("{:?}", resource.resource);
            assert!(about.contains("echo-server"), "{about}");
            all.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    all
}

fn attributes(span: &Span) -> HashMap<String, String> {
    let text = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        (pair.key.clone(), value.map(text).unwrap_or_default())
    };
    span.attributes.iter().map(pair).collect()
}

fn server(
    folder: &Folder,
    collector: &str,
    callback: &Receiver,
    more: &[(&str, &str)],
) -> TestServer {
    let port = callback.port.to_string();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of%20the%20collector"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("ECHO_FETCH_ALLOW_CIDRS", "127.0.0.0/8"),
        ("ECHO_FETCH_PORTS", &*port),
        ("ECHO_ALLOW_INSECURE_CALLBACKS", "true"),
    ];
    TestServer::scripted(folder, &[&variables, more].concat())
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

#[test]
fn an_upload_its_job_and_its_callback_are_one_trace() {
    let folder = Folder::new("traces");
    let collector = Receiver::start(|_, _| answer(200, "", b""));
    let callback = Receiver::start(|_, _| answer(204, "", b""));
    let server = server(&folder, &collector.url("/"), &callback, &[]);
    let url = callback.url("/hook?token=in-the-query");
    let fields = [
        ("callback_url", &*url),
        ("callback_secret", "of-the-callback"),
        ("initial_prompt", "prompted"),
    ];
    let (kind, body) = form(&wav(0.1, 1), "named.wav", &fields);
    let headers =
        [("content-type", &*kind), ("traceparent", PARENT), ("x-request-id", "request-0001")];
    let id =
        server.send("POST", "/api/v1/upload/file?x-note=in-the-query", &headers, &body).job_id();
    server.wait(&id);
    let told = eventually("the callback", || callback.asked().first().cloned());
    let own = |span: &Span| hex(&span.trace_id) == TRACE;
    let all = eventually("the spans", || {
        let all: Vec<Span> = spans(&collector).into_iter().filter(own).collect();
        (all.len() >= 4).then_some(all)
    });
    assert_eq!(all.len(), 4, "{all:#?}");
    let request = named(&all, "POST /api/v1/upload/file");
    assert_eq!(hex(&request.parent_span_id), "00f067aa0ba902b7");
    let about = attributes(request);
    assert_eq!(
        (&*about["http.response.status_code"], &*about["request.id"]),
        ("202", "request-0001")
    );
    let (job, attempt) = (named(&all, "job"), named(&all, "attempt"));
    assert_eq!(job.parent_span_id, request.span_id);
    assert_eq!(attempt.parent_span_id, job.span_id);
    let about = attributes(job);
    assert_eq!(
        (&*about["job.id"], &*about["job.status"], &*about["job.attempts"]),
        (&*id, "completed", "1")
    );
    assert_eq!(attributes(attempt)["attempt.outcome"], "completed");
    assert!(job.start_time_unix_nano <= attempt.start_time_unix_nano);
    assert!(attempt.end_time_unix_nano <= job.end_time_unix_nano);
    // The worker that pretends takes 50 ms.
    assert!(attempt.end_time_unix_nano - attempt.start_time_unix_nano >= 40_000_000);
    let sent = named(&all, "callback");
    assert_eq!(sent.parent_span_id, request.span_id);
    assert_eq!(told.header("traceparent"), format!("00-{TRACE}-{}-01", hex(&sent.span_id)));
    assert_eq!(attributes(sent)["http.response.status_code"], "204");
    // Requests of nobody's trace begin their own.
    let others = spans(&collector);
    let others: Vec<&Span> = others.iter().filter(|span| !own(span)).collect();
    assert!(others.iter().any(|span| span.name.starts_with("GET ")), "{others:?}");
    let said = format!("{:?}", spans(&collector));
    for secret in ["in-the-query", "of-the-callback", "prompted", "pretended", "named.wav", "/hook"]
    {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

#[test]
fn each_lost_attempt_is_told_with_its_job() {
    let folder = Folder::new("traces-lost");
    let collector = Receiver::start(|_, _| answer(200, "", b""));
    let callback = Receiver::start(|_, _| answer(204, "", b""));
    let server = server(&folder, &collector.url(""), &callback, &[("ECHO_MAX_ATTEMPTS", "2")]);
    let (kind, body) = form(&wav(0.1, 1), "a.wav", &[("initial_prompt", "abort")]);
    let headers = [("content-type", &*kind), ("traceparent", PARENT)];
    let id = server.send("POST", "/api/v1/upload/file", &headers, &body).job_id();
    assert_eq!(server.wait(&id)["error"]["code"], "worker_lost");
    let all = eventually("the job", || {
        let all = spans(&collector);
        all.iter().any(|span| span.name == "job").then_some(all)
    });
    let job = named(&all, "job");
    assert_eq!(attributes(job)["error.type"], "worker_lost");
    let lost =
        |span: &&Span| span.name == "attempt" && attributes(span)["attempt.outcome"] == "lost";
    assert_eq!(all.iter().filter(lost).count(), 2, "{all:#?}");
    assert!(all.iter().filter(lost).all(|span| span.parent_span_id == job.span_id));
}

#[test]
fn a_worker_elsewhere_gets_the_context_also_without_a_collector() {
    let folder = Folder::new("traces-worker");
    let server = elsewhere::server(&folder, &[]);
    let (kind, body) = form(&wav(0.1, 1), "a.wav", &[]);
    let headers = [("content-type", &*kind), ("traceparent", PARENT)];
    let id = server.send("POST", "/api/v1/upload/file", &headers, &body).job_id();
    let claim = elsewhere::claim(&server, &id);
    assert_eq!(claim["traceparent"], PARENT, "{claim}");
}

#[test]
fn what_is_left_is_told_at_the_end_and_a_collector_that_hangs_delays_nobody() {
    let folder = Folder::new("traces-end");
    let callback = Receiver::start(|_, _| answer(204, "", b""));
    let stop = |mut server: TestServer| {
        let began = Instant::now();
        let pid = server.process.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        assert!(server.process.wait().unwrap().success());
        began.elapsed()
    };
    let collector = Receiver::start(|_, _| answer(200, "", b""));
    let patient = [("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let server_ = server(&folder, &collector.url(""), &callback, &patient);
    server_.get("/api/v1/transcriptions");
    assert!(spans(&collector).is_empty());
    stop(server_);
    assert_eq!(named(&spans(&collector), "GET /api/v1/transcriptions").kind, 2);

    let silent = Receiver::start(|_, _| {
        std::thread::park_timeout(Duration::from_secs(60));
        Vec::new()
    });
    let few = [("OTEL_BSP_SCHEDULE_DELAY", "10"), ("OTEL_BSP_MAX_QUEUE_SIZE", "4")];
    let server_ = server(&folder, &silent.url(""), &callback, &few);
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(server_.get("/api/v1/transcriptions").status, 200);
        slowest = slowest.max(began.elapsed());
    }
    assert!(!silent.asked().is_empty());
    println!("the slowest of 200 requests took {slowest:?}");
    // Less than the collector is waited for, however busy the machine is.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let time = stop(server_);
    assert!(time < Duration::from_secs(12), "{time:?}");
}
