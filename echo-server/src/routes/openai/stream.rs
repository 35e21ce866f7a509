//! OpenAI's streamed answers: text as it is decoded, then the whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use echo_core::Transcript;
use futures_util::stream;
use serde_json::{Value, json};

use super::fields::Format;
use super::{Disconnect, finished, formats};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Problem;
use crate::hub::Listener;
use crate::job::Job;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Reader {
    app: Arc<App>,
    tenant: String,
    id: String,
    format: Format,
    news: Listener,
    seen: i64,
    said: usize,
    is_behind: bool,
    is_over: bool,
    guard: Option<Disconnect>,
}

/// Streams the text of a job.
pub(super) fn stream(
    app: Arc<App>,
    caller: Caller,
    id: String,
    format: Format,
    guard: Disconnect,
) -> Response {
    let news = app.hub.listen();
    let (tenant, guard) = (caller.tenant, Some(guard));
    let (said, is_behind) = (0, false);
    let reader =
        Reader { app, tenant, id, format, news, seen: 0, said, is_behind, is_over: false, guard };
    let events = stream::unfold(reader, |mut reader| async {
        let text = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), reader))
    });
    let mut response = Response::new(Body::from_stream(events));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        if self.is_over {
            return None;
        }
        loop {
            match self.look().await {
                Ok(text) if !text.is_empty() => return Some(text),
                Ok(_) => self.news.changed(&self.id, KEEP_ALIVE).await,
                Err(problem) => {
                    self.is_over = true;
                    let error = json!({ "message": problem.detail, "type": "server_error", "code": problem.code });
                    return Some(event(&json!({ "type": "error", "error": error })));
                }
            }
        }
    }

    async fn look(&mut self) -> Result<String, Problem> {
        let (tenant, id, after) = (self.tenant.clone(), self.id.clone(), self.seen);
        let read = self
            .app
            .db
            .call(move |store| Ok((store.job(&tenant, &id)?, store.events(&id, after)?)));
        let (job, events) = read.await?;
        let job: Job = job.ok_or_else(Problem::job_not_found)?;
        let mut text = String::new();
        // Speakers are known at the end only, so their segments come then.
        for item in events {
            self.seen = item.seq;
            // What was said cannot be taken back: after a restart the rest comes at the end.
            self.is_behind |= item.kind == "restart" && self.said > 0;
            if item.kind != "segments" || self.format == Format::DiarizedJson || self.is_behind {
                continue;
            }
            for segment in item.data.as_array().into_iter().flatten() {
                self.said += 1;
                text.push_str(&delta(self.said, segment["text"].as_str().unwrap_or_default()));
            }
        }
        if job.state.is_final() {
            self.is_over = true;
            if let Some(guard) = self.guard.take() {
                guard.disarm();
            }
            let transcript = finished(&self.app, &job).await?;
            text.push_str(&self.rest(&transcript));
        }
        Ok(text)
    }

    /// What was not said yet, and the end.
    fn rest(&self, transcript: &Transcript) -> String {
        let mut text = String::new();
        for (id, segment) in transcript.segments.iter().enumerate() {
            if self.format == Format::DiarizedJson {
                text.push_str(&event(&formats::diarized_segment(transcript, id, segment)));
            } else if id >= self.said {
                text.push_str(&delta(id + 1, &segment.text));
            }
        }
        let usage = formats::usage(transcript);
        text.push_str(&event(
            &json!({ "type": "transcript.text.done", "text": transcript.text(), "usage": usage }),
        ));
        text.push_str("data: [DONE]\n\n");
        text
    }
}

fn delta(count: usize, text: &str) -> String {
    let space = if count > 1 { " " } else { "" };
    event(&json!({ "type": "transcript.text.delta", "delta": format!("{space}{}", text.trim()) }))
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
