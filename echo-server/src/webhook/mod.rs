//! Webhooks: signatures as of Standard Webhooks, and the sending of ours.

mod deliver;
pub mod secrets;
pub mod sign;

pub use deliver::{deliver, next_try_ms};
