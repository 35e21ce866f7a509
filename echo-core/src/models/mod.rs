//! Models: a name, a folder or a file becomes configuration, vocabulary and weights.

pub(crate) mod weights;
