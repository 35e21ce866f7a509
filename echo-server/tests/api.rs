//! The documented endpoints, over HTTP, against a real process.

mod support;

use std::io::Write as _;

use support::{Folder, TestServer, dialogue, eventually, form, wav};

#[test]
fn a_recording_becomes_words_and_subtitles() {
    let folder = Folder::new("real");
    let Some(server) = TestServer::with_model(&folder, &[]) else { return };
    let reply = server.upload(&dialogue(), &[("language", "en"), ("beam_size", "1")]);
    assert_eq!(reply.status, 202, "{}", reply.text());
    let id = reply.job_id();
    assert_eq!(reply.header("location"), format!("/api/v1/transcription/{id}"));
    let job = server.wait(&id);
    assert_eq!(job["status"], "completed", "{job}");
    let result = &job["result"];
    assert_eq!(result["schema"], "echo.transcript/1");
    assert!(result["text"].as_str().unwrap().len() > 20, "{result}");
    assert!(result["segments"][0]["words"][0]["start"].is_number(), "{result}");
    let srt = server.get(&format!("/api/v1/transcription/{id}/download?format=srt"));
    assert!(srt.text().starts_with("1\n00:00:"), "{}", srt.text());
    assert!(srt.header("content-type").starts_with("application/x-subrip"));
    for format in ["txt", "vtt", "tsv", "json", "json&profile=whisperx"] {
        let reply = server.get(&format!("/api/v1/transcription/{id}/download?format={format}"));
        assert_eq!(reply.status, 200, "{format}: {}", reply.text());
        assert!(reply.body.len() > 20, "{format}");
    }
    let path = format!("/api/v1/transcription/{id}/waveform");
    let waveform = server.get(&format!("{path}?points=50")).json();
    let peaks = waveform["peaks"].as_array().unwrap();
    assert_eq!((&waveform["points"], peaks.len()), (&50.into(), 50));
    assert!(waveform["duration"].as_f64().unwrap() > 5.0, "{waveform}");
    // Somebody speaks, and not all the time.
    let loud = peaks.iter().filter(|peak| peak.as_u64().unwrap() > 20).count();
    assert!((10..=50).contains(&loud), "{waveform}");
    assert_eq!(server.get(&path).json()["peaks"].as_array().unwrap().len(), 2000);
    for points in ["0", "4001", "-1", "x"] {
        let refused = server.get(&format!("{path}?points={points}"));
        assert_eq!((refused.status, &refused.json()["code"]), (400, &"bad_query".into()));
    }
    // The same sound with the same options is not transcribed again.
    let again = server.upload(&dialogue(), &[("beam_size", "1"), ("language", "en")]);
    assert_eq!((again.status, &again.json()["cached"]), (200, &true.into()));
    // What it looks like goes with the recording.
    let waveforms = folder.0.join("uploads/waveforms");
    let kept = || walk(&waveforms);
    assert_eq!(kept(), 1);
    for id in [id, again.job_id()] {
        let path = format!("/api/v1/transcription/{id}?purge=true");
        assert_eq!(server.send("DELETE", &path, &[], b"").status, 204);
    }
    assert_eq!(kept(), 0);
    assert_eq!(server.get(&path).json()["code"], "result_expired");
}

#[test]
fn results_with_speakers_are_of_one_diarization_model() {
    let folder = Folder::new("diarization-model");
    let statuses = |model: &str| {
        let server = TestServer::scripted(&folder, &[("ECHO_DIARIZATION_MODEL", model)]);
        ["true", "false"].map(|diarize| {
            let reply = server.upload(&wav(0.1, 0), &[("diarize", diarize)]);
            assert_eq!(server.wait(&reply.job_id())["status"], "completed");
            reply.status
        })
    };
    assert_eq!(statuses("campplus"), [202, 202]);
    assert_eq!(statuses("campplus"), [200, 200]);
    assert_eq!(statuses("community-1"), [202, 200]);
}

/// Files below a folder of folders.
fn walk(folder: &std::path::Path) -> usize {
    let entries = |folder| std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries(folder.to_path_buf()).map(|folder| entries(folder.path()).count()).sum()
}

#[test]
fn a_job_goes_its_way_and_is_listed() {
    let folder = Folder::new("way");
    let server = TestServer::scripted(&folder, &[]);
    let one = server.upload(&wav(0.1, 1), &[("external_id", "mine"), ("metadata", r#"{"k":"v"}"#)]);
    let two = server.upload(&wav(0.1, 2), &[]);
    let job = server.wait(&one.job_id());
    assert_eq!((&job["status"], &job["attempt"]), (&"completed".into(), &1.into()));
    assert_eq!(job["source"]["filename"], "sound.wav");
    assert_eq!(job["metadata"]["k"], "v");
    server.wait(&two.job_id());
    let page = server.get("/api/v1/transcriptions?limit=1&include_total=true").json();
    assert_eq!((&page["total"], page["items"].as_array().unwrap().len()), (&2.into(), 1));
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = server.get(&format!("/api/v1/transcriptions?limit=1&cursor={cursor}")).json();
    assert_eq!(next["items"][0]["job_id"], one.job_id());
    assert!(next["next_cursor"].is_null());
    let found =
        server.get("/api/v1/transcriptions?external_id=mine&metadata[k]=v&status=completed").json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let none = server.get("/api/v1/transcriptions?q=other").json();
    assert!(none["items"].as_array().unwrap().is_empty());
    assert_eq!(server.get("/api/v1/transcriptions?cursor=x&page=1").json()["code"], "bad_cursor");
}

#[test]
fn what_was_done_is_summed_up_with_its_cost() {
    let folder = Folder::new("usage");
    let server = TestServer::scripted(&folder, &[("ECHO_GPU_USD_PER_HOUR", "3.6")]);
    for mark in [1, 2, 2] {
        let id = server.upload(&wav(0.1, mark), &[]).job_id();
        server.wait(&id);
    }
    let items = server.get("/api/v1/usage?group_by=day").json()["items"].clone();
    let sum = |name: &str| -> f64 {
        items.as_array().unwrap().iter().map(|day| day[name].as_f64().unwrap()).sum()
    };
    assert_eq!((sum("jobs"), sum("cached_jobs"), sum("audio_seconds")), (3.0, 1.0, 6.0));
    // Two jobs of a tenth of a second.
    assert!((sum("cost_usd") - 0.2 / 1000.0).abs() < 1e-9, "{items}");
    assert!(server.get("/metrics").text().contains("echo_cost_usd_total 0.0002"));
    let past = server.get("/api/v1/usage?from=2020-01-01&to=2020-02-01T00:00:00Z").json();
    assert_eq!(past["items"].as_array().unwrap().len(), 0);
    for query in ["from=yesterday", "group_by=model", "since=2020-01-01"] {
        assert_eq!(server.get(&format!("/api/v1/usage?{query}")).status, 400, "{query}");
    }
}

#[test]
fn an_entity_tag_spares_the_answer() {
    let folder = Folder::new("etag");
    let server = TestServer::scripted(&folder, &[]);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    server.wait(&id);
    let path = format!("/api/v1/transcription/{id}");
    let etag = server.get(&path).header("etag").to_owned();
    let reply = server.send("GET", &path, &[("if-none-match", &etag)], b"");
    assert_eq!((reply.status, reply.body.len()), (304, 0));
}

#[test]
fn bad_requests_are_told_what_was_wrong() {
    let folder = Folder::new("bad");
    let server = TestServer::scripted(&folder, &[("MAX_FILE_SIZE", "100KB")]);
    let code = |reply: support::Reply| {
        let problem = reply.json();
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(problem["request_id"].is_string() && problem["instance"].is_string(), "{problem}");
        (reply.status, problem["code"].as_str().unwrap().to_owned())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code(server.upload(b"", &[])), is(422, "empty_file"));
    assert_eq!(code(server.upload(b"<html>no</html>", &[])), is(415, "unsupported_media"));
    assert_eq!(
        code(server.upload(&wav(0.1, 1), &[("beam_size", "99")])),
        is(422, "invalid_option")
    );
    assert_eq!(code(server.upload(&wav(0.1, 1), &[("beem_size", "1")])), is(422, "unknown_field"));
    assert_eq!(code(server.upload(&wav(0.1, 1), &[("model", "huge")])), is(422, "invalid_option"));
    assert_eq!(code(server.upload(&wav(10.0, 1), &[])), is(413, "file_too_large"));
    let (kind, body) = form(b"x", "x.wav", &[]);
    let cut = server.send(
        "POST",
        "/api/v1/upload/file",
        &[("content-type", &kind)],
        &body[..body.len() - 12],
    );
    assert_eq!(code(cut), is(400, "bad_multipart"));
    let zipped = server.send("POST", "/api/v1/upload/file", &[("content-encoding", "gzip")], b"x");
    assert_eq!(code(zipped), is(415, "content_encoding_not_supported"));
    let digest = [("repr-digest", "sha-256=:AAAA:")];
    let other = server.send("POST", "/api/v1/upload/file", &digest, &wav(0.1, 1));
    assert_eq!(code(other), is(422, "digest_mismatch"));
    assert_eq!(code(server.get("/api/v1/transcription/none")), is(404, "job_not_found"));
    assert_eq!(code(server.get("/api/v1/transcription/x?wait=soon")), is(400, "bad_query"));
    assert_eq!(code(server.get("/api/v1/transcriptions?include_total=x")), is(400, "bad_query"));
    assert_eq!(code(server.get("/api/v1/nothing")), is(404, "not_found"));
    // What no format has a use for is checked, too.
    for query in
        ["disposition=false", "max_lines=9", "offset_seconds=inf", "format=txt&profile=whisperx"]
    {
        let path = format!("/api/v1/transcription/none/download?{query}");
        assert_eq!(code(server.get(&path)), is(400, "bad_query"), "{query}");
    }
    assert_eq!(code(server.get("/api/v1/upload/file")), is(405, "method_not_allowed"));
    let parts = std::fs::read_dir(folder.0.join("uploads/parts")).unwrap().count();
    assert_eq!(parts, 0, "refused uploads leave nothing");
}

#[test]
fn bare_bytes_with_options_in_the_query_are_taken() {
    let folder = Folder::new("bare");
    let server = TestServer::scripted(&folder, &[]);
    let path = "/api/v1/upload/file?language=pt&hotwords=a,b";
    let reply = server.send("POST", path, &[("content-type", "audio/wav")], &wav(0.1, 1));
    assert_eq!(reply.status, 202, "{}", reply.text());
    let job = server.wait(&reply.job_id());
    assert_eq!(job["options"]["language"], "pt");
    assert_eq!(job["options"]["hotwords"][1], "b");
}

#[test]
fn a_running_job_is_cancelled_within_a_second_and_erased_on_request() {
    let folder = Folder::new("cancel");
    let server = TestServer::scripted(&folder, &[("ECHO_TEST_JOB_MS", "60000")]);
    let id = server.upload(&wav(0.1, 1), &[]).job_id();
    let waiting = server.upload(&wav(0.1, 2), &[]).job_id();
    eventually("the job to run", || (server.job(&id)["status"] == "processing").then_some(()));
    let path = format!("/api/v1/transcription/{waiting}");
    let reply = server.send("DELETE", &path, &[], b"");
    assert_eq!((reply.status, &reply.json()["status"]), (200, &"cancelled".into()));
    let not_ready = server.get(&format!("/api/v1/transcription/{id}/download?format=srt"));
    assert_eq!((not_ready.status, &not_ready.json()["code"]), (409, &"not_ready".into()));
    assert_eq!(
        (&not_ready.json()["status"], &not_ready.json()["job_status"]),
        (&409.into(), &"processing".into())
    );
    let path = format!("/api/v1/transcription/{id}");
    let began = std::time::Instant::now();
    assert_eq!(server.send("DELETE", &path, &[], b"").status, 202);
    assert_eq!(server.wait(&id)["status"], "cancelled");
    // The bar is a second; a worker that does not listen is killed after ten.
    assert!(began.elapsed().as_secs_f64() < 9.0, "{:?}", began.elapsed());
    assert_eq!(server.send("DELETE", &path, &[], b"").status, 200);
    assert_eq!(server.send("DELETE", &format!("{path}?purge=true"), &[], b"").status, 204);
    let job = server.job(&id);
    assert!(job["purged_at"].is_string() && job["source"]["filename"].is_null(), "{job}");
}

#[test]
fn a_failed_job_says_why() {
    let folder = Folder::new("fail");
    let server = TestServer::scripted(&folder, &[]);
    let job = server.wait(&server.upload(&wav(0.1, 1), &[("initial_prompt", "fail")]).job_id());
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&"failed".into(), &"decode_failed".into())
    );
    let path = format!("/api/v1/transcription/{}/download", job["job_id"].as_str().unwrap());
    assert_eq!(server.get(&path).json()["code"], "job_failed");
}

#[test]
fn probes_and_metrics_answer() {
    let folder = Folder::new("health");
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let variables =
        [("ECHO_METRICS_ADDR", &*elsewhere.to_string()), ("JWT_SECRET", &*"s".repeat(32))];
    let scraped = Folder::new("scraped");
    let guarded = TestServer::scripted(&scraped, &variables);
    assert_eq!(guarded.get("/metrics").status, 401);
    let mut scraper = std::net::TcpStream::connect(elsewhere).unwrap();
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let scraped = std::io::read_to_string(scraper).unwrap();
    assert!(
        scraped.starts_with("HTTP/1.1 200") && scraped.contains("echo_build_info"),
        "{scraped}"
    );
    let server = TestServer::scripted(&folder, &[]);
    eventually("a worker", || (server.get("/health/ready").status == 200).then_some(()));
    assert_eq!(server.get("/health/live").json()["status"], "ok");
    assert_eq!(server.get("/health").json()["checks"]["database"], "ok");
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("echo_worker_slots{state=\"free\"} 1"), "{metrics}");
    let page = server.get("/");
    assert!(
        page.text().contains("<title>")
            && page.header("content-security-policy").contains("'self'")
    );
    assert_eq!(server.get("/assets/../Cargo.toml").status, 404);
}
