//! `echo-asr transcribe` and `echo-asr detect-language`.

use std::io;
use std::path::{Path, PathBuf};

use super::arguments::{DetectArguments, ModelArguments, TranscribeArguments};
use super::coloured::{self, Coloured};
use super::terminal::{self, DownloadBars};
use super::{DONE, FAILED, complain, interrupt, make_room, usage};
use crate::error::{Error, Result};
use crate::formats::{Format, OutputFormat, Rttm};
use crate::models::{Download, ModelStore};
use crate::options::{TranscribeOptions, VadModel};
use crate::progress::CancelToken;
use crate::transcriber::Transcriber;
use crate::transcript::Transcript;

/// Languages shown by `detect-language`.
const SHOWN_LANGUAGES: usize = 5;

pub(super) fn transcribe(arguments: &TranscribeArguments) -> u8 {
    let cancel = interrupt::token();
    let prepared = Plan::new(arguments).and_then(|plan| {
        let options = arguments.options();
        options.validate()?;
        let transcriber = load(&arguments.model, Some(arguments), &cancel)?;
        Ok((plan, options, transcriber))
    });
    let (plan, options, transcriber) = match prepared {
        Ok(prepared) => prepared,
        Err(Error::Cancelled) => return interrupt::INTERRUPTED,
        Err(error) => return complain("", &error),
    };
    let mut code = DONE;
    for (file, outputs) in &plan.files {
        let name = file.display().to_string();
        let outcome = run(&transcriber, file, &options, arguments.model.quiet, &cancel)
            .and_then(|transcript| plan.write(&transcript, file, outputs).map(|()| transcript));
        match outcome {
            Ok(transcript) => {
                for warning in &transcript.warnings {
                    eprintln!("warning: {name}: {warning}");
                }
            }
            Err(Error::Cancelled) => return interrupt::INTERRUPTED,
            // Whoever read our output has had enough of it.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                return DONE;
            }
            Err(error) => {
                complain(&name, &error);
                code = FAILED;
            }
        }
    }
    code
}

pub(super) fn detect_language(arguments: &DetectArguments) -> u8 {
    let cancel = interrupt::token();
    let table = load(&arguments.model, None, &cancel)
        .and_then(|transcriber| transcriber.detect_language(arguments.file.as_path()));
    match table {
        Ok(table) => {
            for (language, probability) in table.iter().take(SHOWN_LANGUAGES) {
                println!("{:<4} {:<12} {probability:.4}", language.code(), language.name());
            }
            DONE
        }
        Err(Error::Cancelled) => interrupt::INTERRUPTED,
        Err(error) => complain(&arguments.file.display().to_string(), &error),
    }
}

/// Loads a model and shows its download.
fn load(
    arguments: &ModelArguments,
    transcription: Option<&TranscribeArguments>,
    cancel: &CancelToken,
) -> Result<Transcriber> {
    let mut bars = DownloadBars::new(arguments.quiet);
    let mut builder = Transcriber::builder()
        .model(&arguments.model)
        .device(arguments.device)
        .compute_type(arguments.compute_type)
        .model_store(ModelStore::default().offline(arguments.offline))
        .cancel_with(cancel.clone())
        .on_download(move |download: &Download| bars.show(download));
    if transcription.is_some_and(|transcription| transcription.vad() == VadModel::Pyannote) {
        builder = builder.with_pyannote();
    }
    if transcription.is_some_and(|transcription| transcription.diarize) {
        builder = builder.with_diarizer();
    }
    if let Some(threads) = arguments.threads {
        builder = builder.threads(threads);
    }
    if let Some(aligner) =
        transcription.and_then(|transcription| transcription.align_model.as_ref())
    {
        builder = builder.aligner(aligner);
    }
    if let Some(model) =
        transcription.and_then(|transcription| transcription.diarization_model.as_ref())
    {
        builder = builder.diarization_model(model);
    }
    if let Some(batch_size) = transcription.and_then(|transcription| transcription.batch_size) {
        builder = builder.batch_size(batch_size);
    }
    builder.build()
}

fn run(
    transcriber: &Transcriber,
    file: &Path,
    options: &TranscribeOptions,
    quiet: bool,
    cancel: &CancelToken,
) -> Result<Transcript> {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let bar = terminal::run_bar(&name, terminal::draws(quiet));
    let outcome = transcriber
        .request(file)
        .options(options.clone())
        .on_progress(|progress| terminal::show(&bar, progress))
        .cancel_with(cancel.clone())
        .run();
    bar.finish_and_clear();
    outcome
}

/// Which file is written where, decided and checked before any work is done.
struct Plan<'a> {
    arguments: &'a TranscribeArguments,
    files: Vec<(&'a Path, Vec<Output>)>,
}

enum Output {
    Stdout(OutputFormat),
    File(OutputFormat, PathBuf),
}

impl Output {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout(_) => None,
            Self::File(_, path) => Some(path),
        }
    }
}

impl<'a> Plan<'a> {
    fn new(arguments: &'a TranscribeArguments) -> Result<Self> {
        let mut formats = arguments.formats()?;
        let target = arguments.output.as_deref().filter(|path| *path != Path::new("-"));
        if formats.is_empty() {
            let named = target.filter(|target| target.extension().is_some() && !target.is_dir());
            formats.push(named.map_or(Ok(OutputFormat::Txt), OutputFormat::from_path)?);
        }
        let is_many = arguments.files.len() > 1 || formats.len() > 1;
        let mut files = Vec::new();
        for file in &arguments.files {
            let outputs = match target {
                None => vec![Output::Stdout(formats[0])],
                Some(target) if is_folder(target, is_many) => formats
                    .iter()
                    .map(|&format| Output::File(format, in_folder(target, file, format)))
                    .collect(),
                Some(target) => vec![Output::File(formats[0], target.to_owned())],
            };
            files.push((file.as_path(), outputs));
        }
        if target.is_none() && formats.len() > 1 {
            return Err(usage("several formats", "one format for standard output, or -o DIR"));
        }
        make_room(files.iter().flat_map(|(_, outputs)| outputs).filter_map(Output::path))?;
        Ok(Self { arguments, files })
    }

    fn write(&self, transcript: &Transcript, file: &Path, outputs: &[Output]) -> Result<()> {
        let cues = self.arguments.cues();
        let writer = |format: OutputFormat, file: &Path| -> Box<dyn Format + Send + Sync> {
            match format {
                OutputFormat::Rttm => {
                    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                    Box::new(Rttm::default().recording(stem))
                }
                format => format.writer_with(cues),
            }
        };
        for output in outputs {
            match output {
                Output::Stdout(format) => {
                    let writer = match format {
                        OutputFormat::Txt if coloured::is_wanted() => Box::new(Coloured),
                        format => writer(*format, file),
                    };
                    transcript
                        .write(writer, io::stdout().lock())
                        .map_err(|error| Error::io("standard output", error))?;
                }
                Output::File(format, path) => {
                    transcript.save_as(path, writer(*format, file))?;
                    if !self.arguments.model.quiet {
                        eprintln!("wrote {}", path.display());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether `-o` names a folder: it is one, is written like one, or has to hold several files.
fn is_folder(target: &Path, is_many: bool) -> bool {
    let text = target.to_string_lossy();
    is_many || target.is_dir() || text.ends_with('/') || text.ends_with(std::path::MAIN_SEPARATOR)
}

fn in_folder(folder: &Path, file: &Path, format: OutputFormat) -> PathBuf {
    let mut name = file.file_stem().unwrap_or(file.as_os_str()).to_owned();
    name.push(if format == OutputFormat::WhisperxJson { ".whisperx." } else { "." });
    name.push(format.extension());
    folder.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_dots_and_takes_the_format_as_extension() {
        let path = in_folder(Path::new("out"), Path::new("a/talk.v2.mp3"), OutputFormat::Srt);
        assert_eq!(path, Path::new("out/talk.v2.srt"));
    }
}
