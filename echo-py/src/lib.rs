//! The native half of the Python package `echo`.
//!
//! It converts and calls, and decides nothing. Work runs on threads of its own (`job`) and comes
//! back as events, so that Python waits without its lock, hears signals, and can stop at any time.
//! Transcripts cross the border as the documented JSON, options as JSON by name: a field that the
//! core gains needs no line here. What Python programs see is written in `python/echo`.

mod error;
mod functions;
mod job;
mod logger;
mod models;
mod source;
mod transcriber;

use pyo3::prelude::*;

/// A process that loads and drops models stays small.
#[global_allocator]
static ALLOCATOR: echo_core::LargeBlocks = echo_core::LargeBlocks;

/// The native half of `echo`.
#[pymodule]
mod _echo {
    #[pymodule_export]
    use crate::functions::{
        diarize, format, from_srt, from_vtt, load_audio, load_transcript, option_names,
        run_command, save, text,
    };
    #[pymodule_export]
    use crate::job::Job;
    #[pymodule_export]
    use crate::logger::log_from;
    #[pymodule_export]
    use crate::models::{catalog, list_models, model_path, pull, remove, store_root, verify};
    #[pymodule_export]
    use crate::source::Source;
    #[pymodule_export]
    use crate::transcriber::{Native, load};

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        use super::PyModuleMethods;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
