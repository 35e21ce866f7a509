//! Whisper: network, tokens and decoding.

pub(crate) mod config;
mod loader;
pub(crate) mod model;
pub(crate) mod network;
mod session;
