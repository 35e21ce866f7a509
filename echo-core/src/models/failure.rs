//! Why a place did not give a model.

use crate::error::{Error, Result};

/// Why something could not be had from one place.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it broke: may work later.
    Network(String),
    /// The server answered with this status.
    Status(u16),
    /// What came is not what was announced.
    Wrong(String),
    /// Not the place's fault: cancelled, or the disk is full.
    Fatal(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl Failure {
    /// The reason in words; what is not the place's fault ends the search.
    ///
    /// # Errors
    /// The error of [`Failure::Fatal`].
    pub(crate) fn explain(self) -> Result<String> {
        Ok(match self {
            Self::Fatal(error) => return Err(error),
            Self::Network(reason) => format!("cannot be reached: {reason}"),
            Self::Wrong(reason) => reason,
            Self::Status(401 | 403) => {
                "access is refused; a private or gated model needs a token in HF_TOKEN, a gated one \
                 of a user who accepted its conditions"
                    .to_owned()
            }
            Self::Status(404) => "has no such repository, revision or file".to_owned(),
            Self::Status(status) => format!("answers with status {status}"),
        })
    }
}
