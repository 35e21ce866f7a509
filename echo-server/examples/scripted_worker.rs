//! A worker that only pretends: tests of the server put it in the place of the real one.
//!
//! It speaks the protocol of `echo_server::worker`. A job takes `ECHO_TEST_JOB_MS`, and as long again
//! to say each of `ECHO_TEST_SEGMENTS` more segments, a second of sound each, of which it tells what is
//! done and goes on from there. A prompt of `hang` gets nowhere, one of `abort` kills the process, one
//! of `fail` fails for good, one of `forget` refuses what is done.

#![allow(missing_docs, clippy::exit, reason = "a program for tests")]

use std::io::{BufRead, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

fn main() {
    let (sender, orders) = channel::<Value>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            let _ = sender.send(order);
        }
        std::process::exit(0);
    });
    let Ok(hello) = orders.recv() else { return };
    let heartbeat = Duration::from_millis(hello["hello"]["heartbeat_ms"].as_u64().unwrap_or(1000));
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(heartbeat);
            tell(&json!("heartbeat"));
        }
    });
    tell(&json!({"ready": {"device": "none", "is_multilingual": true}}));
    let job_ms = std::env::var("ECHO_TEST_JOB_MS").ok().and_then(|text| text.parse().ok());
    let more_segments = std::env::var("ECHO_TEST_SEGMENTS").ok().and_then(|text| text.parse().ok());
    let more_segments: u64 = more_segments.unwrap_or(0);
    let job_time = Duration::from_millis(job_ms.unwrap_or(50));
    'jobs: while let Ok(order) = orders.recv() {
        if order.get("live").is_some() {
            live(&orders);
            continue;
        }
        let Some(run) = order.get("run") else { continue };
        let prompt = run["options"]["initial_prompt"].as_str();
        let last = run["done"].as_array().and_then(|done| done.last());
        let mut done = last.and_then(|last| last["segments"].as_u64()).unwrap_or(0);
        if prompt == Some("forget") && done > 0 {
            done = 0;
            tell(&json!({"restarted": {"reason": "as told"}}));
        }
        let first = done;
        let every = run["checkpoint_seconds"].as_f64().filter(|every| *every > 0.0);
        let mut say = |count: u64| {
            let mut report =
                json!({"progress": 0.5, "stage": "transcribing", "first_segment": count});
            report["segments"] = json!([segment(count)]);
            if every.is_some_and(|every| (count + 1 - done) as f64 >= every) {
                done = count + 1;
                report["checkpoint"] = json!({"reached_s": done, "data": {"segments": done}});
            }
            tell(&json!({"progress": report}));
        };
        if first == 0 {
            say(0);
        }
        let time = match prompt {
            Some("hang") => Duration::from_secs(3600),
            Some("abort") => std::process::abort(),
            Some("fail") => {
                let error =
                    json!({"code": "decode_failed", "message": "as told", "retryable": false});
                tell(&json!({"failed": {"error": error}}));
                continue;
            }
            _ => job_time,
        };
        for count in first.max(1)..=more_segments {
            match orders.recv_timeout(job_time) {
                Ok(_) => {
                    tell(&json!("cancelled"));
                    continue 'jobs;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => say(count),
            }
        }
        match orders.recv_timeout(time) {
            Ok(_) => tell(&json!("cancelled")),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let result = result(&run["options"]);
                let busy_seconds = 0.1 * (more_segments + 1 - first) as f64;
                tell(&json!({"completed": {"result": result, "busy_seconds": busy_seconds}}));
            }
        }
    }
}

/// One of the segments that are told while the job goes on.
fn segment(count: u64) -> Value {
    let text = if count == 0 { "pretended".to_owned() } else { format!("pretended {count}") };
    let start = count as f64;
    json!({"start": start, "end": start + 1.0, "text": text})
}

/// One segment, with the words and the speaker that the options ask for.
fn result(options: &Value) -> Value {
    let mut segment = json!({"start": 0.0, "end": 1.0, "text": "pretended"});
    if options["word_timestamps"] == true {
        segment["words"] = json!([{"word": "pretended", "start": 0.1, "end": 0.9, "score": 0.5}]);
    }
    let mut result = json!({"version": 1, "language": "en", "duration": 2.0});
    if options["diarize"] == true {
        segment["speaker"] = json!("SPEAKER_00");
        result["speakers"] = json!(["SPEAKER_00"]);
    }
    result["segments"] = json!([segment]);
    result
}

/// Says a word for every order of sound.
fn live(orders: &std::sync::mpsc::Receiver<Value>) {
    let word = |kind: &str, count: u32| {
        let (start, end) = (f64::from(count - 1), f64::from(count));
        let words = json!([{"start": start, "end": end, "word": "pretended", "score": 0.5}]);
        json!({"live": {"type": kind, "text": "pretended", "start": start, "end": end, "words": words}})
    };
    let mut count = 0;
    while let Ok(order) = orders.recv() {
        if order.get("audio").is_some() {
            count += 1;
            tell(&word("partial", count));
            tell(&json!({"live": {"type": "heard", "seconds": f64::from(count)}}));
        } else if order == json!("finalize") {
            tell(&word("final", count.max(1)));
        } else {
            break;
        }
    }
    tell(&json!({"live": {"type": "done", "duration": f64::from(count), "busy_seconds": 0.1}}));
}

fn tell(event: &Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{event}");
    let _ = stdout.flush();
}
