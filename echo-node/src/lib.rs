//! The native half of the npm package `echo-asr`.
//!
//! It converts and calls, and decides nothing. Work runs on threads of its own, never on those of
//! libuv's pool, and comes back as events that JavaScript asks for one by one ([`job`]): only a promise
//! that somebody waits for keeps the process alive. Transcripts cross the border as the documented
//! JSON, options as JSON by name: a field that the core gains needs no line here. What programs see
//! is written in `lib`.

pub mod event;
pub mod functions;
pub mod job;
pub mod models;
pub mod source;
pub mod transcriber;

/// A process that loads and drops models stays small.
#[global_allocator]
static ALLOCATOR: echo_core::LargeBlocks = echo_core::LargeBlocks;
