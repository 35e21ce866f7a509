//! Models: a name, a folder or a file becomes configuration, vocabulary and weights.
//!
//! A reader for each checkpoint format finds tensors in memory-mapped bytes ([`table`]); names are
//! translated to those of Hugging Face, sizes are read off shapes, and what a format lacks is taken
//! from beside the file or from tables of the published models. See [`open`].
//!
//! [`ModelStore`] knows where checkpoints are and brings those that are not here.

mod alignment_heads;
mod bytes;
mod cache;
mod catalog;
mod checkpoint;
pub(crate) mod config;
mod ctranslate2;
mod dequantise;
mod diarization;
mod failure;
mod folder;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod ggml;
mod gguf;
#[cfg(feature = "hub")]
mod http;
#[cfg(feature = "hub")]
mod hub;
mod identity;
mod meter;
mod names;
mod npz;
mod package;
mod pickle;
mod places;
mod pytorch;
mod safetensors;
#[cfg(feature = "hub")]
mod selection;
mod store;
mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod vocabulary;
pub(crate) mod weights;

pub use catalog::{CatalogEntry, ModelKind, catalog};
pub use meter::Download;
pub use store::{ModelStore, StoredModel};

pub(crate) use catalog::find;
pub(crate) use checkpoint::{Checkpoint, open};
pub(crate) use diarization::open_diarization;
pub(crate) use folder::read_text;
pub(crate) use identity::identity;
pub(crate) use npz::Npz;
#[cfg(test)]
pub(crate) use npz::testing as npz_testing;
pub(crate) use tensors::{Tensors, open_tensors};
#[cfg(any(test, fuzzing))]
pub(crate) use vocabulary::Vocabulary;
