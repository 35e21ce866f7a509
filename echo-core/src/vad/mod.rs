//! Voice activity: where speech is.
