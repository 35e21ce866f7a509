//! `GET /stream`: a WebSocket that takes live sound and gives words, some of which may still change.
//!
//! The question whether a worker is free is answered before the connection is upgraded, so that who
//! finds none gets an HTTP status and can come back. Afterwards one task carries the session: sound to
//! the worker, words to the client, and its ends: silence, the longest time, too much sound at once,
//! the server going down.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use uuid::Uuid;

use super::query::Query;
use crate::app::{App, Drain};
use crate::auth::{Caller, WRITE};
use crate::error::{Answer, Fault, Problem};
use crate::job::{Submission, TextField};
use crate::live::{Encoding, LiveEvent, LiveInput, LiveOptions};

/// The longest message taken.
const MAX_FRAME_BYTES: usize = 512 * 1024;
/// Sound that may wait for the worker, in seconds.
const MAX_BACKLOG: f64 = 60.0;
/// Who sends faster than so many times real time is not live.
const MAX_SPEED: f64 = 4.0;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Messages under way between connection and worker.
const QUEUE: usize = 256;
/// How long the last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Opens a live session.
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(fields): Query<Vec<TextField>>,
    mut request: Request,
) -> Answer {
    caller.may(WRITE)?;
    check_origin(&app, request.headers())?;
    let accept = accept_key(request.headers())?;
    let options = read(&app, fields)?;
    if app.drain_phase() >= Drain::Refusing {
        return Err(Problem::new(503, "draining", "the server is going down").retry_after(5));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(no_upgrade)?;
    let Some((inputs, told)) = app.desk.offer(options.clone(), QUEUE).await else {
        let problem = Problem::new(503, "queue_full", "no worker is free");
        return Err(problem.retry_after(app.pool.wait_seconds(1)));
    };
    app.metrics.add("live_sessions_total", &[], 1.0);
    let present = app.desk.enter();
    tokio::spawn(async move {
        // A client that left between answer and upgrade closes the session by dropping its ends.
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let began = Instant::now();
        Conversation { app, options, socket, inputs, began, received: 0.0, carry: BytesMut::new() }
            .run(told)
            .await;
        drop(present);
    });
    let headers = [("upgrade", "websocket"), ("sec-websocket-accept", &*accept)];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(response)
}

/// Pages of other origins may not open sessions: browsers send cookies and reach loopback addresses
/// for any page, and ask nobody before they open a WebSocket.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = origin.split_once("://").is_some_and(|(_, own)| Some(own) == host);
    if is_own || app.config.cors_origins.iter().any(|known| known == origin) {
        return Ok(());
    }
    Err(Problem::new(403, "origin_denied", "pages of this origin may not open sessions"))
}

fn no_upgrade() -> Problem {
    Problem::new(
        426,
        "bad_query",
        "this is a WebSocket: send Upgrade, Connection, version 13 and a key",
    )
}

/// The answer to a WebSocket's key, RFC 6455 section 4.2.2.
fn accept_key(headers: &HeaderMap) -> Result<String, Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let has = |name, word: &str| {
        text(name).is_some_and(|list: &str| {
            list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word))
        })
    };
    let is_asked = has("upgrade", "websocket")
        && has("connection", "upgrade")
        && has("sec-websocket-version", "13");
    let key = text("sec-websocket-key").filter(|_| is_asked).ok_or_else(no_upgrade)?;
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    Ok(STANDARD.encode(digest))
}

/// Reads the query.
fn read(app: &App, fields: Vec<TextField>) -> Result<LiveOptions, Problem> {
    let (mut sample_rate_hz, mut encoding, mut has_partials) = (16_000, Encoding::default(), true);
    let (mut faults, mut rest) = (Vec::new(), Vec::new());
    for (name, value) in fields.into_iter().filter(|(name, _)| name != "ticket") {
        let mut bad = |expected: &str| faults.push(Fault::option(&name, "out_of_range", expected));
        match (name.as_str(), value.as_str()) {
            ("sample_rate", text) => match text.parse().ok() {
                Some(rate @ 8_000..=48_000) => sample_rate_hz = rate,
                _ => bad("8000 to 48000"),
            },
            ("encoding", "pcm_s16le") => encoding = Encoding::PcmS16le,
            ("encoding", "pcm_f32le") => encoding = Encoding::PcmF32le,
            ("encoding", _) => bad("pcm_s16le or pcm_f32le"),
            ("interim", "true" | "1") => has_partials = true,
            ("interim", "false" | "0") => has_partials = false,
            ("interim", _) => bad("true or false"),
            ("language" | "model" | "task" | "initial_prompt" | "hotwords" | "hotwords[]", _) => {
                rest.push((name, value));
            }
            _ => faults.push(Fault::option(&name, "unknown_field", "not an option of live sound")),
        }
    }
    if !faults.is_empty() {
        return Err(Problem::options(faults));
    }
    let submission = Submission::from_fields(Map::new(), rest, &app.config.model)?;
    if submission.options.model != app.config.model {
        let detail = format!("this server has the model {}", app.config.model);
        return Err(Problem::options(vec![Fault::option("model", "out_of_range", detail)]));
    }
    let options = Box::new(submission.options);
    Ok(LiveOptions { options, sample_rate_hz, encoding, has_partials })
}

/// A session under way.
struct Conversation {
    app: Arc<App>,
    options: LiveOptions,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    inputs: Sender<LiveInput>,
    began: Instant,
    /// Seconds of sound that came.
    received: f64,
    /// Part of a sample.
    carry: BytesMut,
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client has all it wanted.
    Normal,
    /// Nobody sent sound for a while, or the server goes down.
    Away,
    /// The client sent more than is allowed.
    Policy,
    /// The worker cannot keep up.
    Overload,
    /// The worker died.
    Fault,
    /// The client has gone; there is nobody to tell.
    Gone,
}

impl Conversation {
    async fn run(mut self, mut told: Receiver<LiveEvent>) {
        let id = Uuid::now_v7().to_string();
        let config = &self.app.config;
        let ready = json!({
            "type": "ready",
            "session_id": id,
            "sample_rate": self.options.sample_rate_hz,
            "max_seconds": config.live_max.as_secs_f64(),
            "idle_seconds": config.live_idle.as_secs_f64(),
        });
        tracing::info!(session.id = %id, "live session started");
        self.say(&ready).await;
        let mut end = self.hear(&mut told).await;
        if end != End::Gone {
            // Some ends leave words to be said.
            let _ = self.inputs.send(LiveInput::Stop).await;
            if !self.finish(&mut told).await {
                end = if end == End::Normal { End::Fault } else { end };
            }
            self.close(end).await;
        }
        tracing::info!(session.id = %id, ?end, audio_seconds = self.received, "live session ended");
    }

    /// Carries sound and words until one side has enough.
    async fn hear(&mut self, told: &mut Receiver<LiveEvent>) -> End {
        let app = Arc::clone(&self.app);
        let (mut heard, mut last_sound) = (0.0, Instant::now());
        let mut ping = tokio::time::interval(PING_INTERVAL);
        loop {
            tokio::select! {
                message = self.socket.next() => {
                    let before = self.received;
                    if let Some(end) = self.take(message).await {
                        return end;
                    }
                    if self.received > before {
                        last_sound = Instant::now();
                    }
                    if self.received > app.config.live_max.as_secs_f64() {
                        self.fail("session_too_long", "the session has lasted as long as it may").await;
                        return End::Policy;
                    }
                    if self.received - heard > MAX_BACKLOG {
                        let elapsed = self.began.elapsed().as_secs_f64();
                        if self.received > MAX_SPEED * elapsed {
                            self.fail("too_fast", "sound came faster than 4 times real time").await;
                            return End::Policy;
                        }
                        self.fail("overloaded", "the worker cannot keep up").await;
                        return End::Overload;
                    }
                }
                event = told.recv() => match event {
                    None => {
                        self.fail("worker_lost", "the worker was lost: open another session").await;
                        return End::Fault;
                    }
                    Some(LiveEvent::Heard { seconds }) => heard = seconds,
                    Some(event) => self.tell(&event).await,
                },
                () = app.drained(Drain::Refusing) => {
                    self.fail("draining", "the server is going down").await;
                    return End::Away;
                }
                _ = ping.tick() => {
                    if last_sound.elapsed() > app.config.live_idle {
                        self.fail("idle", "no sound came for a while").await;
                        return End::Away;
                    }
                    let _ = self.socket.send(Message::Ping(Bytes::new())).await;
                }
            }
        }
    }

    /// Takes what the client sent; says whether that was the end.
    async fn take(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Option<End> {
        use tokio_tungstenite::tungstenite::Error;
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                self.carry.extend_from_slice(&bytes);
                let sample = self.options.encoding.sample_bytes();
                let whole = self.carry.len() / sample * sample;
                let sound = self.carry.split_to(whole).freeze();
                self.received += (whole / sample) as f64 / f64::from(self.options.sample_rate_hz);
                // A worker that is gone is noticed by the silence of its side.
                let _ = self.inputs.send(LiveInput::Audio(sound)).await;
                None
            }
            Some(Ok(Message::Text(text))) => {
                let order: Value = serde_json::from_str(&text).unwrap_or_default();
                match order["type"].as_str() {
                    Some("finalize") => {
                        let _ = self.inputs.send(LiveInput::Finalize).await;
                    }
                    Some("stop") => return Some(End::Normal),
                    _ => {
                        let detail = "expected {\"type\":\"finalize\"} or {\"type\":\"stop\"}";
                        self.say(&problem("bad_message", detail, false)).await;
                    }
                }
                None
            }
            Some(Ok(Message::Close(_))) | None => Some(End::Gone),
            Some(Ok(_)) => None,
            Some(Err(Error::Capacity(_))) => {
                self.shut(CloseCode::Size, "a message may have 512 KiB").await;
                self.drain().await;
                Some(End::Gone)
            }
            Some(Err(_)) => Some(End::Gone),
        }
    }

    /// Tells the last words; false if they did not come.
    async fn finish(&mut self, told: &mut Receiver<LiveEvent>) -> bool {
        let deadline = Instant::now() + LAST_WORDS;
        loop {
            match tokio::time::timeout_at(deadline, told.recv()).await {
                Ok(Some(event @ LiveEvent::Done { .. })) => {
                    self.tell(&event).await;
                    return true;
                }
                Ok(Some(event)) => self.tell(&event).await,
                Ok(None) | Err(_) => return false,
            }
        }
    }

    async fn tell(&mut self, event: &LiveEvent) {
        let message = match event {
            LiveEvent::Heard { .. } => return,
            LiveEvent::Error { code, message } => problem(code, message, true),
            LiveEvent::Done { duration, busy_seconds } => {
                self.app.metrics.add("audio_seconds_total", &[], *duration);
                self.app.metrics.add("busy_seconds_total", &[], *busy_seconds);
                let usage = json!({ "audio_seconds": duration, "busy_seconds": busy_seconds });
                json!({ "type": "done", "duration": duration, "usage": usage })
            }
            event => serde_json::to_value(event).unwrap_or_default(),
        };
        self.say(&message).await;
    }

    async fn fail(&mut self, code: &str, message: &str) {
        self.say(&problem(code, message, true)).await;
    }

    async fn say(&mut self, message: &Value) {
        let text = Message::Text(message.to_string().into());
        // Who does not read for so long is found to be gone by the next read.
        let _ = tokio::time::timeout(PING_INTERVAL, self.socket.send(text)).await;
    }

    async fn close(&mut self, end: End) {
        let (code, reason) = match end {
            End::Normal | End::Gone => (CloseCode::Normal, "done"),
            End::Away => (CloseCode::Away, "idle or going down"),
            End::Policy => (CloseCode::Policy, "more than is allowed"),
            End::Overload => (CloseCode::Again, "the worker cannot keep up"),
            End::Fault => (CloseCode::Error, "the worker was lost"),
        };
        self.shut(code, reason).await;
    }

    /// Reads what no message will be made of: bytes that nobody has read would make the system reset
    /// the connection, and the close frame be lost with it.
    async fn drain(&mut self) {
        let rest = async {
            let mut rest = [0; 8 << 10];
            while self.socket.get_mut().read(&mut rest).await.is_ok_and(|read| read > 0) {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
    }

    async fn shut(&mut self, code: CloseCode, reason: &'static str) {
        let frame = CloseFrame { code, reason: reason.into() };
        let goodbye = async {
            let _ = self.socket.close(Some(frame)).await;
            // The other side answers; what it still sends is for nobody.
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), goodbye).await;
    }
}

fn problem(code: &str, message: &str, is_fatal: bool) -> Value {
    let retry_after = (is_fatal && code != "session_too_long").then_some(5);
    json!({
        "type": "error", "code": code, "message": message, "fatal": is_fatal,
        "retry_after": retry_after,
    })
}
