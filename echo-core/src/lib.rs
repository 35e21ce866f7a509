//! Echo: speech to text as a library.
//!
//! From any audio or video file to a timed transcript, in one crate: decoding, resampling, voice
//! activity, Whisper, subtitles. No Python, no torch, no ffmpeg, no global state.
//!
//! ```no_run
//! use echo_core::Transcriber;
//!
//! let transcriber = Transcriber::builder().model("base").build()?;
//! let transcript = transcriber.transcribe("interview.mp4")?;
//! transcript.save("interview.srt")?;
//! # Ok::<(), echo_core::Error>(())
//! ```
//!
//! # The path of sound
//!
//! A run goes through these stages; each is a module, and [`Progress`] names the one at work.
//!
//! | stage | in | out |
//! |---|---|---|
//! | [`audio`] | a file, bytes, a reader or samples | 16 kHz mono `f32` samples |
//! | features | samples | log-mel windows, `(n_mels, 3000)`, 10 ms a column |
//! | voice activity | samples | [`Region`]s of speech, merged into chunks of at most 30 s |
//! | Whisper | windows | [`Segment`]s: text with start and end |
//! | speakers | samples, segments | [`Turn`]s; speakers of words and segments |
//! | [`formats`] | a [`Transcript`] | TXT, SRT, VTT, TSV, JSON, RTTM |
//!
//! Times are `f64` seconds from the start of the source throughout, on the timeline of a video
//! player: encoder delay is trimmed, and sound that starts late stays late.
//!
//! # Load once, use anywhere
//!
//! [`Transcriber::builder`] takes what costs load time or memory: model, device, number format,
//! threads. [`Transcriber::request`] takes what varies from call to call. A [`Transcriber`] is
//! `Clone + Send + Sync`: threads share one, and dropping the last clone frees its memory.
//!
//! ```no_run
//! use echo_core::{CancelToken, Mode, TranscribeOptions, Transcriber};
//!
//! let transcriber = Transcriber::builder().model("large-v3-turbo").batch_size(16).build()?;
//!
//! let mut options = TranscribeOptions::default();
//! options.language = Some("de".parse()?);
//! options.mode = Mode::Sequential;
//! options.decode.beam_size = 1;
//! options.decode.initial_prompt = Some("Frau Dr. Kühn, Echo GmbH".into());
//!
//! let token = CancelToken::new(); // another thread may call `token.cancel()`
//! let transcript = transcriber
//!     .request("gespraech.wav")
//!     .options(options)
//!     .cancel_with(token.clone())
//!     .on_progress(|progress| eprintln!("{} {:.0} %", progress.stage.as_str(), progress.fraction * 100.0))
//!     .run()?;
//! # Ok::<(), echo_core::Error>(())
//! ```
//!
//! [`Request::segments`] yields segments as they are decoded; dropping the iterator stops the work.
//! [`Request::on_checkpoint`] tells what is done, so that another run can go on from there.
//! [`Transcriber::transcribe_many`] lets chunks of several files share a batch.
//!
//! The crate is synchronous and has no runtime inside. In an async program, give it a thread:
//!
//! ```ignore
//! let transcript = tokio::task::spawn_blocking(move || transcriber.transcribe(path)).await??;
//! ```
//!
//! # Models
//!
//! A model is a name of the [`catalog`], a Hugging Face repository id (`owner/name`), a folder or a
//! file. Checkpoints of Hugging Face (safetensors), CTranslate2 (faster-whisper), ggml (whisper.cpp)
//! and OpenAI (`.pt`) are told apart by their content and load as they are. [`ModelStore`] keeps
//! downloads, checks every file by its hash and, when [offline](ModelStore::offline), opens no socket.
//!
//! # Batched or sequential
//!
//! [`Mode::Batched`] finds speech, cuts it into chunks of at most 30 s where people pause, and
//! decodes several at once: fast, and long silence is not heard by the recogniser. [`Mode::Sequential`]
//! is the reference algorithm: each window starts where the last one's timestamps end, and earlier
//! text guides later text. Both try again at higher temperatures when a text repeats itself or is
//! too unlikely ([`DecodeOptions`]).
//!
//! # Words
//!
//! [`Request::words`] gives every segment its words, each with a start, an end and, in
//! [`Word::timing`], how they were found; a word is never without times, never outside its segment and
//! never overlaps another. Whisper's attention places them at little cost. An acoustic model of the
//! language (wav2vec 2.0 with a CTC head, named by [`Builder::aligner`] or found in the
//! [`ModelStore`]) places them in frames of 20 ms; [`Align`] says which way is taken. Nothing is
//! downloaded for it unasked, and models that may not be used commercially are only taken by name.
//!
//! ```no_run
//! use echo_core::Transcriber;
//!
//! let transcriber = Transcriber::builder().build()?;
//! let transcript = transcriber.request("talk.mp3").words(true).run()?;
//! for word in transcript.words() {
//!     println!("{:7.2} {:7.2} {}", word.start, word.end, word.text);
//! }
//! # Ok::<(), echo_core::Error>(())
//! ```
//!
//! # Speakers
//!
//! [`Request::diarize`] tells speakers apart by their voices: segments and words say who speaks, and
//! segments are split where the speaker changes. [`Transcript::turns`] has who speaks when, overlaps
//! included. The networks (34 MB) are fetched when they are first asked for, or by
//! [`Builder::with_diarizer`]. [`Diarizer`] does the same without a recogniser. Of a recording with
//! one speaker on each channel, [`Channels::Each`] knows the speakers without any network.
//!
//! ```no_run
//! use echo_core::{Diarization, Transcriber};
//!
//! let transcriber = Transcriber::builder().with_diarizer().build()?;
//! let transcript = transcriber
//!     .request("meeting.mp3")
//!     .words(true)
//!     .diarize(Diarization::new().speakers(2..=5))
//!     .run()?;
//! for segment in &transcript.segments {
//!     let speaker = segment.speaker.as_ref().map_or("?".to_owned(), ToString::to_string);
//!     println!("{speaker}: {}", segment.text);
//! }
//! # Ok::<(), echo_core::Error>(())
//! ```
//!
//! # Errors
//!
//! Everything returns [`Result`]. A variant of [`Error`] answers "what can I do about it", and
//! [`ErrorKind::code`] is the same word in Rust, Python, Node and REST. A file that ends early is not
//! an error: what could be decoded is transcribed, and [`Transcript::warnings`] says so.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `hub` | yes | downloads from the Hugging Face Hub |
//! | `bench` | no | networks with random weights and single kernels, for Echo's measuring programs |
//! | `cli` | no | the `echo-asr` command and `echo_core::cli` |
//! | `cuda` | no | NVIDIA GPUs; needs the CUDA toolkit to build |
//! | `metal` | no | Apple GPUs |
//!
//! Features only add. Which of the compiled devices is used is decided at run time by [`Device`].

mod align;
pub mod audio;
/// Networks with random weights, for the measuring programs; no part of the stable interface.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench {
    pub use crate::kernels::cpu::speed::{KernelRun, kernel_runs};
    pub use crate::whisper::random::{RandomNetwork, Shape, Timing};
}
#[cfg(feature = "cli")]
pub mod cli;
mod device;
mod diarize;
mod diarizer;
mod error;
mod features;
pub mod formats;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod kernels;
mod language;
mod models;
mod options;
mod pipeline;
mod progress;
mod request;
mod segmentation;
mod threads;
mod timeline;
mod transcriber;
mod transcript;
mod vad;
mod whisper;
mod words;

pub use audio::{Audio, AudioOptions, AudioSource};
pub use device::{ComputeType, Device};
pub use diarizer::Diarizer;
pub use error::{Cause, Error, ErrorKind, Result};
pub use kernels::cpu::large::LargeBlocks;
pub use language::Language;
pub use models::{CatalogEntry, Download, ModelKind, ModelStore, StoredModel, catalog};
pub use options::{
    Align, Channels, Clustering, DecodeOptions, Diarization, Mode, Task, TranscribeOptions,
    VadModel, VadOptions,
};
pub use pipeline::Checkpoint;
pub use progress::{CancelToken, Progress, Stage};
pub use request::{Request, Segments};
pub use timeline::{Region, Turn};
pub use transcriber::{Builder, DEFAULT_MODEL, Transcriber};
pub use transcript::{Decoding, SCHEMA_VERSION, Segment, SpeakerId, Timing, Transcript, Word};
