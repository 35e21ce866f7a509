//! Errors of the core as exceptions of Python, by their code.
//!
//! The classes are Python's own (`echo/_errors.py`), so that they can be subclassed, pickled and
//! documented there; here one is chosen and filled.

use echo_core::Error;
use pyo3::prelude::*;

/// The exception that stands for an error.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let (errno, path) = match error {
        Error::Io { path, source } => (source.raw_os_error(), Some(path.clone())),
        _ => (None, None),
    };
    let code = error.kind().code();
    let made = py
        .import("echo._errors")
        .and_then(|module| module.getattr("from_code"))
        .and_then(|from_code| from_code.call1((code, error.describe(), errno, path)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// Carries an error of the core into Python.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception that stands for the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
