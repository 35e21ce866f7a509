//! Echo as a service: durable transcription jobs over REST.
//!
//! ```text
//! request ── routes ── submit ──► store (the row is the only truth) ◄── worker ── process with the model
//!               │                     ▲
//!               └─ upload ─► storage ─┘ (sound and results as files)
//! ```
//!
//! A submission that was answered survives the death of any process; its result is committed once.
//! See `echo-server/docs` for the interface and for running it.

pub mod app;
pub mod auth;
pub mod cache;
pub mod clock;
pub mod config;
pub mod db;
pub mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod hub;
pub mod job;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod net;
pub mod outbound;
pub mod patience;
pub mod probe;
pub mod queue;
pub mod remote;
pub mod room;
mod routes;
pub mod secrets;
pub mod server;
pub mod storage;
pub mod store;
mod submit;
pub mod trace;
mod upload;
pub mod waveform;
pub mod webhook;
pub mod worker;

pub use routes::OPENAPI;
