//! What networks hear: spectral features.

pub(crate) mod mel;
