//! Records of the core as records of Python's `logging`.
//!
//! The level is kept here, so that a record nobody wants does not cost the interpreter's lock.

use log::{LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

/// Python's numbers for its levels.
const ERROR: u32 = 40;
const WARNING: u32 = 30;
const INFO: u32 = 20;
const DEBUG: u32 = 10;

/// Sends records of the core from a level of Python's on to the logger `echo`.
#[pyfunction]
pub(crate) fn log_from(level: u32) {
    // A program that has a logger in Rust keeps it.
    let _ = log::set_logger(&PythonLog);
    log::set_max_level(match level {
        0..DEBUG => LevelFilter::Trace,
        DEBUG..INFO => LevelFilter::Debug,
        INFO..WARNING => LevelFilter::Info,
        WARNING..ERROR => LevelFilter::Warn,
        _ => LevelFilter::Error,
    });
}

struct PythonLog;

impl Log for PythonLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("echo_core")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Error => ERROR,
            log::Level::Warn => WARNING,
            log::Level::Info => INFO,
            log::Level::Debug => DEBUG,
            log::Level::Trace => DEBUG / 2,
        };
        let message = record.args().to_string();
        // A record that cannot be delivered is not worth an exception in a worker.
        let _ = Python::try_attach(|py| {
            let logger = py.import("logging")?.call_method1("getLogger", ("echo",))?;
            logger.call_method1("log", (level, "%s", message)).map(drop)
        });
    }

    fn flush(&self) {}
}
