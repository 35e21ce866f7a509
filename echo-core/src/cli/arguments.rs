//! What the command line accepts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::device::{ComputeType, Device};
use crate::formats::{CueOptions, OutputFormat};
use crate::language::Language;
use crate::options::{
    Align, Channels, Clustering, Diarization, Mode, Task, TranscribeOptions, VadModel, VadOptions,
};
use crate::timeline::Region;
use crate::transcriber::DEFAULT_MODEL;

/// What `-f all` writes.
const ALL_FORMATS: [OutputFormat; 5] = [
    OutputFormat::Txt,
    OutputFormat::Srt,
    OutputFormat::Vtt,
    OutputFormat::Tsv,
    OutputFormat::Json,
];

/// Speech to text: any audio or video file to a timed transcript.
#[derive(Debug, Parser)]
#[command(name = "echo-asr", version, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,

    /// How much to say on standard error about what happens inside.
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Warn, value_name = "LEVEL")]
    pub(super) log_level: LogLevel,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Transcribe audio or video files.
    Transcribe(Box<TranscribeArguments>),
    /// Tell which language is spoken in a file.
    DetectLanguage(DetectArguments),
    /// Tell who speaks when, without writing down what: RTTM.
    Diarize(DiarizeArguments),
    /// Tell where speech is: start and end of each region, in seconds.
    Speech(SpeechArguments),
    /// List, download, verify and remove models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// List the devices that can compute.
    Devices,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub(super) fn filter(self) -> log::LevelFilter {
        match self {
            Self::Off => log::LevelFilter::Off,
            Self::Error => log::LevelFilter::Error,
            Self::Warn => log::LevelFilter::Warn,
            Self::Info => log::LevelFilter::Info,
            Self::Debug => log::LevelFilter::Debug,
            Self::Trace => log::LevelFilter::Trace,
        }
    }
}

/// What every command that loads a model takes.
#[derive(Debug, Args)]
pub(super) struct ModelArguments {
    /// A catalogue name, a hub repository id, a folder or a file.
    #[arg(long, default_value = DEFAULT_MODEL, value_name = "MODEL")]
    pub(super) model: String,

    /// Where to compute: auto, cpu, cuda, cuda:N, metal.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(super) device: Device,

    /// In which number format: auto, f32, bf16, f16, int8.
    #[arg(long, default_value = "auto", value_name = "TYPE")]
    pub(super) compute_type: ComputeType,

    /// Threads for work on the CPU; default: one for each processor.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// Open no socket; use what is on disk.
    #[arg(long)]
    pub(super) offline: bool,

    /// No progress.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct DetectArguments {
    /// The file to listen to.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    #[command(flatten)]
    pub(super) model: ModelArguments,
}

#[derive(Debug, Args)]
pub(super) struct DiarizeArguments {
    /// Audio or video files.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    /// How many speakers there are: 3, or 2..4, 2.. or ..4.
    #[arg(long, value_name = "N|A..B", value_parser = parse_speakers)]
    speakers: Option<Speakers>,

    /// Voices farther apart than this are different speakers; default 0.62 (average), 0.7046
    /// (centroid), 0.6 (vbx, where clustering starts).
    #[arg(long, value_name = "DISTANCE")]
    threshold: Option<f32>,

    /// What tells speakers apart: campplus (the default), community-1 (needs `HF_TOKEN` to be
    /// downloaded), a hub repository id, or a folder laid out as community-1.
    #[arg(long = "diarization-model", value_name = "MODEL")]
    pub(super) model: Option<String>,

    /// How voices are clustered; vbx needs a model with a PLDA, such as community-1.
    #[arg(long, value_enum, default_value_t = ClusteringArgument::Auto, value_name = "HOW")]
    clustering: ClusteringArgument,

    /// A folder for NAME.rttm, or - for standard output (the default).
    #[arg(long, short, value_name = "DIR|-")]
    pub(super) output: Option<PathBuf>,

    /// Threads to compute on; default: one for each processor.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// Open no socket; use what is on disk.
    #[arg(long)]
    pub(super) offline: bool,

    /// No progress.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

impl DiarizeArguments {
    /// The library's options.
    pub(super) fn diarization(&self) -> Diarization {
        let mut diarization = bounded(self.speakers);
        diarization.threshold = self.threshold;
        diarization.clustering = self.clustering.into();
        diarization
    }
}

#[derive(Debug, Args)]
pub(super) struct SpeechArguments {
    /// The file to listen to.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// What hears where speech is.
    #[arg(long, value_enum, default_value_t = VadArgument::Silero, value_name = "MODEL")]
    vad: VadArgument,

    /// What the recogniser would hear, not where speech is.
    #[arg(long)]
    pub(super) chunks: bool,

    /// Speech opens at this probability.
    #[arg(long, value_name = "P")]
    onset: Option<f32>,

    /// Speech closes below this probability.
    #[arg(long, value_name = "P")]
    offset: Option<f32>,

    /// Added on both sides of a region, in milliseconds.
    #[arg(long, value_name = "MS")]
    pad_ms: Option<u32>,

    /// Shorter pauses do not split a region, in milliseconds.
    #[arg(long, value_name = "MS")]
    min_silence_ms: Option<u32>,

    /// Threads to compute on; default: one for each processor.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,

    /// Open no socket; use what is on disk.
    #[arg(long)]
    pub(super) offline: bool,
}

impl SpeechArguments {
    /// The library's options.
    pub(super) fn options(&self) -> VadOptions {
        let mut options = match self.chunks {
            true => VadOptions { model: self.vad.into(), ..VadOptions::default() },
            false => VadOptions::for_regions(self.vad.into()),
        };
        options.onset = self.onset.unwrap_or(options.onset);
        options.offset = self.offset.unwrap_or(options.offset);
        options.pad_ms = self.pad_ms.unwrap_or(options.pad_ms);
        options.min_silence_ms = self.min_silence_ms.unwrap_or(options.min_silence_ms);
        options
    }
}

/// Options of diarization with bounds.
fn bounded(speakers: Option<Speakers>) -> Diarization {
    let mut diarization = Diarization::new();
    if let Some(Speakers { least, most }) = speakers {
        (diarization.min_speakers, diarization.max_speakers) = (least, most);
    }
    diarization
}

#[derive(Debug, Args)]
pub(super) struct TranscribeArguments {
    /// Audio or video files.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArguments,

    /// The language spoken, as a code or a name; default: detected.
    #[arg(long, short, value_name = "LANGUAGE")]
    language: Option<Language>,

    /// Detect the language of every window anew.
    #[arg(long, conflicts_with = "language")]
    multilingual: bool,

    /// Write down what is said, or its English translation.
    #[arg(long, value_enum, default_value_t = TaskArgument::Transcribe)]
    task: TaskArgument,

    /// Hypotheses kept at temperature 0; 1 is greedy.
    #[arg(long, value_name = "N")]
    beam_size: Option<usize>,

    /// Samples drawn at temperatures above 0.
    #[arg(long, value_name = "N")]
    best_of: Option<usize>,

    /// Temperatures tried in turn while the text fails its tests.
    #[arg(long, value_name = "T,..", value_delimiter = ',')]
    temperature: Vec<f32>,

    /// Windows decoded at once.
    #[arg(long, value_name = "N")]
    pub(super) batch_size: Option<usize>,

    /// One window after the other, each guided by the text before it.
    #[arg(long)]
    sequential: bool,

    /// Find the words of every segment, with their times.
    #[arg(long)]
    words: bool,

    /// How the times of words are found; implies --words.
    #[arg(long, value_enum, value_name = "HOW")]
    align: Option<AlignArgument>,

    /// Make each segment a sentence.
    #[arg(long)]
    sentences: bool,

    /// The acoustic model that --align takes: a hub repository id, a folder or a file; default: the
    /// known one of the language, if it was pulled. Implies --words.
    #[arg(long, value_name = "MODEL")]
    pub(super) align_model: Option<String>,

    /// Context for the first window: names, spelling, style.
    #[arg(long, value_name = "TEXT")]
    initial_prompt: Option<String>,

    /// Words to favour in every window.
    #[arg(long, value_name = "TEXT")]
    hotwords: Option<String>,

    /// Only these stretches, in seconds: 0-30,60-90.
    #[arg(long, value_name = "A-B,..", value_delimiter = ',', value_parser = parse_clip)]
    clip: Vec<Region>,

    /// One channel, counted from 0, or each by itself; default: their mean.
    #[arg(long, value_name = "N|each", value_parser = parse_channels)]
    channel: Option<Channels>,

    /// The audio track of a file that has several, counted from 0; default: the default one.
    #[arg(long, value_name = "N")]
    track: Option<u16>,

    /// Formats to write: txt, srt, vtt, tsv, json, whisperx, rttm, or all; default: by the name given
    /// with -o, else txt.
    #[arg(long = "format", short, value_name = "FORMAT", value_delimiter = ',')]
    pub(super) formats: Vec<String>,

    /// Where to write: a folder, a file, or - for standard output (the default).
    #[arg(long, short, value_name = "DIR|FILE|-")]
    pub(super) output: Option<PathBuf>,

    /// What hears where speech is.
    #[arg(long, value_enum, default_value_t = VadArgument::Silero, value_name = "MODEL")]
    vad: VadArgument,

    /// Tell speakers apart by their voices.
    #[arg(long)]
    pub(super) diarize: bool,

    /// How many speakers there are: 3, or 2..4, 2.. or ..4.
    #[arg(long, value_name = "N|A..B", requires = "diarize", value_parser = parse_speakers)]
    speakers: Option<Speakers>,

    /// What tells speakers apart: campplus (the default), community-1 (needs `HF_TOKEN` to be
    /// downloaded), a hub repository id, or a folder laid out as community-1.
    #[arg(long, value_name = "MODEL", requires = "diarize")]
    pub(super) diarization_model: Option<String>,

    /// Break subtitle lines after this many characters.
    #[arg(long, value_name = "N")]
    max_line_chars: Option<usize>,

    /// Most lines of a subtitle; longer ones become several.
    #[arg(long, value_name = "N")]
    max_lines: Option<usize>,

    /// Keep a subtitle on the screen long enough to be read at this speed, where there is room.
    #[arg(long, value_name = "N")]
    max_chars_per_second: Option<usize>,

    /// Close gaps between subtitles that are not longer than this, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    close_gaps: u64,

    /// Underline each word of a subtitle as it is said; implies --words.
    #[arg(long)]
    highlight_words: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TaskArgument {
    Transcribe,
    Translate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AlignArgument {
    /// An acoustic model of the language where there is one, else attention.
    Auto,
    /// An acoustic model of the language.
    Ctc,
    /// The recogniser's attention.
    Attention,
    /// Words share the time of their segment.
    None,
}

impl From<AlignArgument> for Align {
    fn from(argument: AlignArgument) -> Self {
        match argument {
            AlignArgument::Auto => Self::Auto,
            AlignArgument::Ctc => Self::Ctc,
            AlignArgument::Attention => Self::Attention,
            AlignArgument::None => Self::None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClusteringArgument {
    /// Vbx where the model has a PLDA, else average.
    Auto,
    /// Mean distance of two clusters.
    Average,
    /// Distance of centroids.
    Centroid,
    /// A mixture of speakers.
    Vbx,
}

impl From<ClusteringArgument> for Clustering {
    fn from(argument: ClusteringArgument) -> Self {
        match argument {
            ClusteringArgument::Auto => Self::Auto,
            ClusteringArgument::Average => Self::Average,
            ClusteringArgument::Centroid => Self::Centroid,
            ClusteringArgument::Vbx => Self::Vbx,
        }
    }
}

/// Bounds of the number of speakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speakers {
    least: Option<usize>,
    most: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VadArgument {
    Silero,
    Pyannote,
    None,
}

impl From<VadArgument> for VadModel {
    fn from(argument: VadArgument) -> Self {
        match argument {
            VadArgument::Silero => Self::Silero,
            VadArgument::Pyannote => Self::Pyannote,
            VadArgument::None => Self::None,
        }
    }
}

impl TranscribeArguments {
    /// What hears where speech is.
    pub(super) fn vad(&self) -> VadModel {
        self.vad.into()
    }

    fn diarization(&self) -> Option<Diarization> {
        self.diarize.then(|| bounded(self.speakers))
    }

    /// The library's options.
    pub(super) fn options(&self) -> TranscribeOptions {
        let mut options = TranscribeOptions {
            language: self.language,
            multilingual: self.multilingual,
            task: match self.task {
                TaskArgument::Transcribe => Task::Transcribe,
                TaskArgument::Translate => Task::Translate,
            },
            mode: if self.sequential { Mode::Sequential } else { Mode::Batched },
            clips: self.clip.clone(),
            channels: self.channel.unwrap_or_default(),
            track: self.track,
            words: self.words
                || self.align.is_some()
                || self.align_model.is_some()
                || self.highlight_words,
            sentences: self.sentences,
            align: self.align.map(Align::from).unwrap_or_default(),
            diarize: self.diarization(),
            ..TranscribeOptions::default()
        };
        options.vad.model = self.vad();
        let decode = &mut options.decode;
        decode.beam_size = self.beam_size.unwrap_or(decode.beam_size);
        decode.best_of = self.best_of.unwrap_or(decode.best_of);
        if !self.temperature.is_empty() {
            decode.temperatures.clone_from(&self.temperature);
        }
        decode.initial_prompt.clone_from(&self.initial_prompt);
        decode.hotwords.clone_from(&self.hotwords);
        options
    }

    /// How subtitles are cut.
    pub(super) fn cues(&self) -> CueOptions {
        CueOptions {
            max_line_chars: self.max_line_chars,
            max_lines: self.max_lines,
            highlight_words: self.highlight_words,
            max_chars_per_second: self.max_chars_per_second,
            close_gaps_ms: self.close_gaps,
            ..CueOptions::default()
        }
    }

    /// The formats asked for, each once; empty if none was named.
    pub(super) fn formats(&self) -> crate::Result<Vec<OutputFormat>> {
        let mut formats = Vec::new();
        for name in &self.formats {
            let named = match name.as_str() {
                "all" => ALL_FORMATS.to_vec(),
                name => vec![name.parse()?],
            };
            for format in named {
                if !formats.contains(&format) {
                    formats.push(format);
                }
            }
        }
        Ok(formats)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// List the catalogue and what lies in the cache.
    List,
    /// Download a model.
    Pull(PullArguments),
    /// Print where a model lies.
    Path(NameArguments),
    /// Compare a model's files with their hashes.
    Verify(NameArguments),
    /// Delete a model from the cache.
    Remove(NameArguments),
}

#[derive(Debug, Args)]
pub(super) struct NameArguments {
    /// A catalogue name or a hub repository id.
    #[arg(value_name = "MODEL")]
    pub(super) model: String,
}

#[derive(Debug, Args)]
pub(super) struct PullArguments {
    /// A catalogue name or a hub repository id.
    #[arg(value_name = "MODEL")]
    pub(super) model: String,

    /// No progress.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

fn parse_clip(text: &str) -> Result<Region, String> {
    let wrong = || format!("`{text}` is not A-B in seconds with A < B");
    let (start, end) = text.split_once('-').ok_or_else(wrong)?;
    let start: f64 = start.trim().parse().map_err(|_| wrong())?;
    let end: f64 = end.trim().parse().map_err(|_| wrong())?;
    if start >= 0.0 && end > start && end.is_finite() {
        Ok(Region::new(start, end))
    } else {
        Err(wrong())
    }
}

fn parse_speakers(text: &str) -> Result<Speakers, String> {
    let wrong = || format!("`{text}` is neither a number of speakers nor A..B");
    let bound = |text: &str| match text.trim() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| wrong()),
    };
    match text.split_once("..") {
        Some((least, most)) => {
            let most = most.strip_prefix('=').unwrap_or(most);
            Ok(Speakers { least: bound(least)?, most: bound(most)? })
        }
        None => {
            let count = bound(text)?.ok_or_else(wrong)?;
            Ok(Speakers { least: Some(count), most: Some(count) })
        }
    }
}

fn parse_channels(text: &str) -> Result<Channels, String> {
    match text {
        "each" => Ok(Channels::Each),
        _ => text
            .parse()
            .map(Channels::One)
            .map_err(|_| format!("`{text}` is neither a channel number nor `each`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcribe(arguments: &[&str]) -> Result<Box<TranscribeArguments>, clap::Error> {
        let all = ["echo-asr", "transcribe"].iter().chain(arguments);
        match Arguments::try_parse_from(all)?.command {
            Command::Transcribe(arguments) => Ok(arguments),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn options_reach_the_library() {
        let arguments = transcribe(&[
            "a.mp3",
            "--beam-size",
            "1",
            "--temperature",
            "0,0.4",
            "--clip",
            "0-30,60-90.5",
            "--channel",
            "each",
            "--sequential",
            "--task",
            "translate",
            "-l",
            "German",
        ])
        .unwrap();
        let options = arguments.options();
        assert_eq!(options.decode.beam_size, 1);
        assert_eq!(options.decode.temperatures, [0.0, 0.4]);
        assert_eq!(options.clips, [Region::new(0.0, 30.0), Region::new(60.0, 90.5)]);
        assert_eq!(options.channels, Channels::Each);
        assert_eq!(options.mode, Mode::Sequential);
        assert_eq!(options.task, Task::Translate);
        assert_eq!(options.language.unwrap().code(), "de");
    }

    #[test]
    fn speakers_are_a_number_or_bounds() {
        let bounds = |text: &str| {
            let options =
                transcribe(&["a.mp3", "--diarize", "--speakers", text]).unwrap().options();
            let diarize = options.diarize.clone().unwrap();
            (diarize.min_speakers, diarize.max_speakers, options.validate().is_ok())
        };
        assert_eq!(bounds("3"), (Some(3), Some(3), true));
        assert_eq!(bounds("2..4"), (Some(2), Some(4), true));
        assert_eq!(bounds("2.."), (Some(2), None, true));
        assert_eq!(bounds("..4"), (None, Some(4), true));
        assert_eq!([bounds("0").2, bounds("5..2").2], [false, false]);
        assert!(transcribe(&["a.mp3"]).unwrap().options().diarize.is_none());
    }

    #[test]
    fn clustering_and_the_model_of_speakers_are_chosen() {
        let arguments = ["echo-asr", "diarize", "a.mp3", "--diarization-model", "community-1"];
        let all = arguments.iter().chain(&["--clustering", "vbx"]);
        let Command::Diarize(arguments) = Arguments::try_parse_from(all).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(arguments.model.as_deref(), Some("community-1"));
        assert_eq!(arguments.diarization().clustering, Clustering::Vbx);
        let arguments = transcribe(&["a.mp3", "--diarize", "--diarization-model", "x/y"]).unwrap();
        assert_eq!(arguments.diarization_model.as_deref(), Some("x/y"));
    }

    #[test]
    fn nonsense_is_refused_with_the_value_named() {
        for (arguments, value) in [
            (&["a.mp3", "--clip", "30-10"][..], "30-10"),
            (&["a.mp3", "--device", "gpu"], "`gpu`"),
            (&["a.mp3", "--language", "klingon"], "`klingon`"),
            (&["a.mp3", "--channel", "left"], "`left`"),
            (&["a.mp3", "--vad", "base"], "'base'"),
            (&["a.mp3", "--diarize", "--speakers", "some"], "`some`"),
            (&["a.mp3", "--speakers", "2"], "--diarize"),
        ] {
            let error = transcribe(arguments).unwrap_err().to_string();
            assert!(error.contains(value), "{error}");
        }
        assert!(transcribe(&[]).is_err());
    }

    #[test]
    fn all_means_every_format_once() {
        let arguments = transcribe(&["a.mp3", "-f", "srt,all"]).unwrap();
        assert_eq!(arguments.formats().unwrap().len(), ALL_FORMATS.len());
    }
}
