//! What networks hear: spectral features.

pub(crate) mod fbank;
pub(crate) mod mel;
