//! Whisper: network, tokens and decoding.

pub(crate) mod config;
pub(crate) mod network;
