//! Models: a name, a folder or a file becomes configuration, vocabulary and weights.
//!
//! A reader for each checkpoint format finds tensors in memory-mapped bytes ([`table`]); names are
//! translated to those of Hugging Face, sizes are read off shapes, and what a format lacks is taken
//! from beside the file or from tables of the published models. See [`checkpoint::open`].

mod alignment_heads;
mod bytes;
mod checkpoint;
pub(crate) mod config;
mod ctranslate2;
mod dequantise;
mod folder;
mod ggml;
mod gguf;
mod names;
mod pickle;
mod pytorch;
mod safetensors;
mod table;
#[cfg(test)]
mod tests;
mod vocabulary;
pub(crate) mod weights;

#[allow(unused_imports, reason = "until the transcriber opens models")]
pub(crate) use checkpoint::{Checkpoint, open};
#[allow(unused_imports, reason = "until the tokenizer is built from it")]
pub(crate) use vocabulary::Vocabulary;
