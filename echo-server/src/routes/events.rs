//! `GET /transcription/{job_id}/events`: a job as it goes on, as server-sent events.
//!
//! Events are read from the job's history, so a reader that comes back with `Last-Event-ID` misses
//! nothing. A reader that does not read costs one waiting task: the next event is only looked up when
//! the last one has left.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::query::Path;
use crate::app::{App, Drain};
use crate::auth::{Caller, READ};
use crate::error::{Answer, Problem};
use crate::hub::Listener;
use crate::job::{Job, State as JobState};

/// A sign of life, for proxies that cut silent connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams the events of a job.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    caller.may(READ)?;
    let news = app.hub.listen();
    let (tenant, own) = (caller.tenant.clone(), id.clone());
    let job = app.db.call(move |store| store.job(&tenant, &own)).await?;
    job.ok_or_else(Problem::job_not_found)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let reader = Reader {
        app,
        tenant: caller.tenant,
        id,
        news,
        seen: last.unwrap_or(0),
        is_first: true,
        progress: -1.0,
        is_over: false,
    };
    let stream = stream::unfold(reader, |mut reader| async {
        let text = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), reader))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Reader {
    app: Arc<App>,
    tenant: String,
    id: String,
    news: Listener,
    seen: i64,
    is_first: bool,
    progress: f64,
    is_over: bool,
}

impl Reader {
    /// What is new, as text of the stream; `None` after the last event.
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        loop {
            let text = self.look().await?;
            if !text.is_empty() {
                return Some(text);
            }
            if self.app.drain_phase() >= Drain::Refusing {
                self.is_over = true;
                return Some(": the server is going down\n\n".to_owned());
            }
            let began = tokio::time::Instant::now();
            tokio::select! {
                () = self.news.changed(&self.id, KEEP_ALIVE) => {}
                () = self.app.drained(Drain::Refusing) => {}
            }
            if began.elapsed() >= KEEP_ALIVE {
                return Some(": keep-alive\n\n".to_owned());
            }
        }
    }

    async fn look(&mut self) -> Option<String> {
        let (tenant, id, after) = (self.tenant.clone(), self.id.clone(), self.seen);
        let read = self
            .app
            .db
            .call(move |store| Ok((store.job(&tenant, &id)?, store.events(&id, after)?)));
        let (job, events) = read.await.ok()?;
        let job: Job = job?;
        let mut text = String::new();
        if self.is_first {
            self.is_first = false;
            text.push_str("retry: 3000\n\n");
            if self.seen == 0 {
                text.push_str(&event("status", None, &status(&job)));
            }
        }
        for item in events {
            self.seen = item.seq;
            match item.kind.as_str() {
                "segments" => {
                    for segment in item.data.as_array().into_iter().flatten() {
                        text.push_str(&event("segment", Some(item.seq), segment));
                    }
                }
                kind => text.push_str(&event(kind, Some(item.seq), &item.data)),
            }
        }
        if job.state == JobState::Processing && job.progress > self.progress {
            self.progress = job.progress;
            let data =
                json!({ "progress": job.progress, "stage": job.stage, "attempt": job.attempt });
            text.push_str(&event("progress", None, &data));
        }
        if job.state.is_final() {
            self.is_over = true;
            text.push_str(&event("done", None, &json!({ "status": job.state })));
        }
        Some(text)
    }
}

fn status(job: &Job) -> Value {
    json!({ "status": job.state, "stage": job.stage, "progress": job.progress, "attempt": job.attempt })
}

/// One event. JSON has no line breaks of its own, so its data is one line.
fn event(kind: &str, id: Option<i64>, data: &Value) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {kind}\ndata: {data}\n\n")
}
