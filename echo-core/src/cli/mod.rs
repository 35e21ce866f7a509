//! The command line, as `echo-asr`, `python -m echo` and `npx echo-asr` run it.
//!
//! Texts go to standard output, progress and logs to standard error. Exit codes: 0 all done, 1 some
//! file failed, 2 wrong usage, 130 interrupted.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

mod arguments;
mod coloured;
mod diarize;
mod interrupt;
mod models;
mod terminal;
mod transcribe;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Command, LogLevel};
use crate::error::{Error, Result};

/// Everything done.
const DONE: u8 = 0;
/// Some file failed, each named with its reason.
const FAILED: u8 = 1;
/// The arguments make no sense.
const USAGE: u8 = 2;

/// Runs the command with the program's arguments, its name first, and says how it ended.
///
/// ```
/// let code = echo_core::cli::main(["echo-asr", "devices"]);
/// assert_eq!(code, std::process::ExitCode::SUCCESS);
/// ```
pub fn main<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    ExitCode::from(run(arguments))
}

/// Like [`main`], with the exit code as a number, for programs that end in another language.
pub fn run<I, T>(arguments: I) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do where even the message cannot be written.
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { DONE };
        }
    };
    start_log(arguments.log_level);
    match arguments.command {
        Command::Transcribe(options) => transcribe::transcribe(&options),
        Command::DetectLanguage(options) => transcribe::detect_language(&options),
        Command::Diarize(options) => diarize::diarize(&options),
        Command::Speech(options) => diarize::speech(&options),
        Command::Models(command) => models::run(&command),
        Command::Devices => devices(),
    }
}

fn start_log(level: LogLevel) {
    // A second start in one process, as from Python, keeps the first logger.
    let _ = env_logger::Builder::new()
        .filter_module("echo_core", level.filter())
        .format_target(false)
        .format_timestamp(None)
        .try_init();
}

fn devices() -> u8 {
    println!("cpu");
    for device in crate::kernels::select::gpus() {
        println!("{device}");
    }
    DONE
}

/// Makes sure of the files that are to be written, before any work is done: no two inputs have one
/// output, and each output has a folder.
fn make_room<'a>(outputs: impl Iterator<Item = &'a Path> + Clone) -> Result<()> {
    let mut seen = HashSet::new();
    if let Some(twice) = outputs.clone().find(|path| !seen.insert(*path)) {
        let value = format!("`{}` for two inputs", twice.display());
        return Err(usage(&value, "inputs with different names, or one at a time"));
    }
    for folder in outputs.filter_map(Path::parent) {
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    }
    Ok(())
}

fn usage(value: &str, expected: &'static str) -> Error {
    Error::Option { option: "output", value: value.to_owned(), expected }
}

/// Writes an error with its causes to standard error and says which exit code it means.
fn complain(context: &str, error: &Error) -> u8 {
    let message = error.describe();
    if context.is_empty() || message.contains(context) {
        eprintln!("error: {message}");
    } else {
        eprintln!("error: {context}: {message}");
    }
    if matches!(error, Error::Option { .. }) { USAGE } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a command on what is no model or no sound: nothing of it can succeed.
    fn run_in_vain(command: &str, folder: &Path, files: &[&str], output: &str) -> u8 {
        let files = files.iter().map(|file| folder.join(file).into_os_string());
        let output = [OsString::from("-o"), folder.join(output).into_os_string()];
        let program = ["echo-asr", command, "--offline", "--quiet"].map(OsString::from);
        run(program.into_iter().chain(files).chain(output))
    }

    #[test]
    fn outputs_have_a_place_before_any_work_is_done() {
        let folder = std::env::temp_dir().join(format!("echo-cli-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(run_in_vain("transcribe", &folder, &["talk.mp3"], "subs/talk.srt"), FAILED);
        assert!(folder.join("subs").is_dir());
        let calls = ["mon/call.mp3", "tue/call.mp3"];
        assert_eq!(run_in_vain("transcribe", &folder, &calls, "out"), USAGE);
        assert_eq!(run_in_vain("diarize", &folder, &calls, "out"), USAGE);
        assert!(!folder.join("out").exists());
        assert_eq!(run_in_vain("diarize", &folder, &calls[..1], "out"), FAILED);
        assert!(folder.join("out").is_dir());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_model_that_does_something_else_is_wrong_usage() {
        let transcribe = ["echo-asr", "transcribe", "--offline", "--quiet", "a.mp3"];
        for more in [&["--diarize", "--diarization-model", "base"][..], &["--align-model", "base"]]
        {
            assert_eq!(run(transcribe.iter().chain(more)), USAGE, "{more:?}");
        }
        let diarize = ["echo-asr", "diarize", "--offline", "--quiet", "a.mp3"];
        assert_eq!(run(diarize.iter().chain(&["--diarization-model", "base"])), USAGE);
    }
}
