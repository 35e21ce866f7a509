//! `echo-asr diarize` and `echo-asr speech`: speakers and speech without words.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::arguments::{DiarizeArguments, SpeechArguments};
use super::terminal::{self, DownloadBars};
use super::{DONE, FAILED, complain, interrupt, make_room};
use crate::diarizer::Diarizer;
use crate::error::{Error, Result};
use crate::formats::Rttm;
use crate::models::ModelStore;
use crate::options::Diarization;
use crate::progress::CancelToken;

pub(super) fn diarize(arguments: &DiarizeArguments) -> u8 {
    let cancel = interrupt::token();
    let options = arguments.diarization();
    let output = |file: &PathBuf| output_of(file, arguments.output.as_deref());
    let outputs: Vec<Option<PathBuf>> = arguments.files.iter().map(output).collect();
    let prepared = options.validate().and_then(|()| {
        make_room(outputs.iter().filter_map(Option::as_deref))?;
        let mut diarizer = diarizer(arguments.offline, arguments.threads, &cancel)?;
        if let Some(model) = &arguments.model {
            diarizer = diarizer.model(model);
        }
        let mut bars = DownloadBars::new(arguments.quiet);
        let loaded = diarizer.load(|download| bars.show(download));
        bars.finish();
        loaded.map(|()| diarizer)
    });
    let diarizer = match prepared {
        Ok(diarizer) => diarizer,
        Err(error) => return failed("", &error),
    };
    let mut code = DONE;
    for (file, output) in arguments.files.iter().zip(&outputs) {
        let output = output.as_deref();
        if let Err(error) = diarize_file(&diarizer, file, output, &options, arguments.quiet) {
            if matches!(error, Error::Cancelled) {
                return interrupt::INTERRUPTED;
            }
            complain(&file.display().to_string(), &error);
            code = FAILED;
        }
    }
    code
}

fn diarize_file(
    diarizer: &Diarizer,
    file: &Path,
    output: Option<&Path>,
    options: &Diarization,
    quiet: bool,
) -> Result<()> {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let bar = terminal::run_bar(&name, terminal::draws(quiet));
    let outcome = diarizer.turns_with(file, options, |progress| terminal::show(&bar, progress));
    bar.finish_and_clear();
    let transcript = outcome?;
    for warning in &transcript.warnings {
        eprintln!("warning: {}: {warning}", file.display());
    }
    let writer = Rttm::default().recording(stem(file));
    match output {
        None => transcript
            .write(writer, std::io::stdout().lock())
            .map_err(|error| Error::io("standard output", error)),
        Some(path) => transcript.save_as(path, writer),
    }
}

/// The file in a folder that takes the turns of a recording; `None` for standard output.
fn output_of(recording: &Path, folder: Option<&Path>) -> Option<PathBuf> {
    let folder = folder.filter(|folder| *folder != Path::new("-"))?;
    Some(folder.join(format!("{}.rttm", stem(recording))))
}

fn stem(file: &Path) -> Cow<'_, str> {
    file.file_stem().unwrap_or_default().to_string_lossy()
}

pub(super) fn speech(arguments: &SpeechArguments) -> u8 {
    let cancel = interrupt::token();
    let regions =
        diarizer(arguments.offline, arguments.threads, &cancel).and_then(
            |diarizer| match arguments.chunks {
                true => diarizer.chunks(arguments.file.as_path(), &arguments.options()),
                false => diarizer.speech(arguments.file.as_path(), &arguments.options()),
            },
        );
    match regions {
        Ok(regions) => {
            for region in regions {
                println!("{:.3}\t{:.3}", region.start, region.end);
            }
            DONE
        }
        Err(error) => failed(&arguments.file.display().to_string(), &error),
    }
}

/// The networks of the user's store, on so many threads.
fn diarizer(offline: bool, threads: Option<usize>, cancel: &CancelToken) -> Result<Diarizer> {
    let store = ModelStore::default().offline(offline).cancel_with(cancel);
    let diarizer = Diarizer::at(store).cancel_with(cancel);
    match threads {
        Some(threads) => diarizer.threads(threads),
        None => Ok(diarizer),
    }
}

fn failed(context: &str, error: &Error) -> u8 {
    match error {
        Error::Cancelled => interrupt::INTERRUPTED,
        error => complain(context, error),
    }
}
