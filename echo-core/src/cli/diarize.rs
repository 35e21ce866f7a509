//! `echo-asr diarize` and `echo-asr speech`: speakers and speech without words.

use std::path::Path;

use super::arguments::{DiarizeArguments, SpeechArguments};
use super::terminal::{self, DownloadBars};
use super::{DONE, FAILED, complain, interrupt};
use crate::diarizer::Diarizer;
use crate::error::{Error, Result};
use crate::formats::Rttm;
use crate::models::ModelStore;
use crate::options::Diarization;
use crate::progress::CancelToken;

pub(super) fn diarize(arguments: &DiarizeArguments) -> u8 {
    let cancel = interrupt::token();
    let options = arguments.diarization();
    let prepared = options.validate().and_then(|()| {
        let diarizer = diarizer(arguments.offline, arguments.threads, &cancel)?;
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
    for file in &arguments.files {
        if let Err(error) = diarize_file(&diarizer, file, &options, arguments) {
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
    options: &Diarization,
    arguments: &DiarizeArguments,
) -> Result<()> {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let bar = terminal::run_bar(&name, terminal::draws(arguments.quiet));
    let outcome = diarizer.turns_with(file, options, |progress| terminal::show(&bar, progress));
    bar.finish_and_clear();
    let transcript = outcome?;
    for warning in &transcript.warnings {
        eprintln!("warning: {}: {warning}", file.display());
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let writer = Rttm::default().recording(&*stem);
    match arguments.output.as_deref().filter(|folder| *folder != Path::new("-")) {
        None => transcript
            .write(writer, std::io::stdout().lock())
            .map_err(|error| Error::io("standard output", error)),
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
            transcript.save_as(folder.join(format!("{stem}.rttm")), writer)
        }
    }
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
