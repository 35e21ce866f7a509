//! Sizes of a Whisper network; read off checkpoints, they live with the models.

pub(crate) use crate::models::config::WhisperConfig;
