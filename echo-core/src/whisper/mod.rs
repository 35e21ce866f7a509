//! Whisper: network, tokens and decoding.

pub(crate) mod config;
pub(crate) mod decode;
#[cfg(test)]
mod fake;
mod loader;
pub(crate) mod model;
pub(crate) mod network;
mod session;
pub(crate) mod tokenizer;
