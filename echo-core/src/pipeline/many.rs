//! Many sources, one batch: chunks of short files fill windows together.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aligning::Placer;
use super::batches::Resume;
use super::engine::Engine;
use super::speech::{self, Speech};
use crate::audio::{Audio, AudioSource};
use crate::error::{Error, Result};
use crate::options::{Channels, Mode, TranscribeOptions};
use crate::progress::CancelToken;
use crate::transcript::{Segment, Transcript};
use crate::whisper::batched::{self, Standing, Step};

/// Sources for each window of a batch: how many without speech are taken before what is known of them
/// is told.
const SOURCES_PER_WINDOW: usize = 4;

/// Transcripts of many sources, in their order, read and recognised as they are taken.
pub(crate) struct Many<I> {
    engine: Arc<Engine>,
    sources: std::iter::Enumerate<I>,
    options: TranscribeOptions,
    cancel: CancelToken,
    ready: VecDeque<(usize, Result<Transcript>)>,
}

/// A source that waits for its batch.
struct Prepared {
    index: usize,
    audio: Audio,
    speech: Speech,
    transcript: Transcript,
}

impl<I: Iterator<Item = AudioSource>> Many<I> {
    pub(crate) fn new(
        engine: Arc<Engine>,
        sources: I,
        options: TranscribeOptions,
        cancel: CancelToken,
    ) -> Self {
        let sources = sources.enumerate();
        Self { engine, sources, options, cancel, ready: VecDeque::new() }
    }

    /// Takes sources until their chunks fill a batch or they are many, and recognises them.
    fn fill(&mut self) {
        let shares_batches = self.options.mode == Mode::Batched
            && self.options.channels != Channels::Each
            && self.options.diarize.is_none();
        let mut prepared: Vec<Prepared> = Vec::new();
        let mut failed = Vec::new();
        let mut n_chunks = 0;
        let batch_size = self.engine.batch_size();
        for _ in 0..batch_size * SOURCES_PER_WINDOW {
            let Some((index, source)) = self.sources.next() else { break };
            if !shares_batches {
                let mut ignore = |_| Ok(());
                let (options, resume) = (&self.options, Resume::default());
                let outcome = self.engine.run(source, options, resume, &mut ignore, &self.cancel);
                self.ready.push_back((index, outcome));
                return;
            }
            let outcome = self.prepare(index, source);
            let is_cancelled = matches!(outcome, Err(Error::Cancelled));
            match outcome {
                Ok(source) => {
                    n_chunks += source.speech.chunks.len();
                    prepared.push(source);
                }
                Err(error) => failed.push((index, Err(error))),
            }
            if is_cancelled || n_chunks >= batch_size {
                break;
            }
        }
        let mut done = self.recognise(prepared);
        done.append(&mut failed);
        done.sort_by_key(|(index, _)| *index);
        self.ready.extend(done);
    }

    /// Decodes a source, finds its speech and its language.
    fn prepare(&self, index: usize, source: AudioSource) -> Result<Prepared> {
        let (engine, cancel) = (&self.engine, &self.cancel);
        let channels = engine.load_audio(source, &self.options, cancel, &mut |_| Ok(()))?;
        let mut audio = channels.into_iter().next().unwrap_or_default();
        let samples = audio.samples();
        let speech = engine.speech(samples, &self.options, &mut |_| cancel.check(), cancel)?;
        let mut transcript = Transcript::new(audio.duration());
        transcript.warnings.extend_from_slice(audio.warnings());
        if let Some(language) = self.options.language {
            engine.check_language(language)?;
            transcript.language = Some(language);
        } else if let Some((language, probability)) =
            engine.languages(samples, &speech.chunks, cancel)?.first()
        {
            transcript.language = Some(*language);
            transcript.language_probability = Some(*probability);
        }
        if speech.chunks.is_empty() {
            audio = Audio::default(); // Nobody hears it again.
        }
        Ok(Prepared { index, audio, speech, transcript })
    }

    /// Recognises the chunks of all prepared sources together.
    fn recognise(&self, prepared: Vec<Prepared>) -> Vec<(usize, Result<Transcript>)> {
        let mut chunks = Vec::new();
        let mut owners = Vec::new();
        for (owner, source) in prepared.iter().enumerate() {
            if let Some(language) = source.transcript.language {
                let samples = source.audio.samples();
                chunks.extend(speech::batch(samples, &source.speech, language));
                owners.resize(chunks.len(), owner);
            }
        }
        let mut segments = vec![Vec::new(); prepared.len()];
        let outcome = batched::transcribe(
            &self.engine.recognizer,
            &chunks,
            &self.options,
            (self.engine.batch_size(), Standing::default()),
            &mut |step| {
                if let Step::Chunk(chunk, found) = step {
                    segments[owners[chunk]].extend(found);
                }
                Ok(())
            },
            &self.cancel,
        );
        if let Err(error) = outcome {
            return shared_failure(error, prepared.iter().map(|source| source.index));
        }
        let finish = |(mut source, mut segments): (Prepared, Vec<Segment>)| {
            let placed = self.place_words(&source, &mut segments);
            source.transcript.segments = segments;
            (source.index, placed.map(|()| source.transcript))
        };
        prepared.into_iter().zip(segments).map(finish).collect()
    }
}

impl<I> Many<I> {
    /// Places the words of a source, if they are wanted.
    fn place_words(&self, source: &Prepared, segments: &mut Vec<Segment>) -> Result<()> {
        let Some(language) = source.transcript.language.filter(|_| self.options.needs_words())
        else {
            return Ok(());
        };
        let samples = source.audio.samples();
        let placer = Placer::new(&self.engine, samples, language, &self.options, &self.cancel);
        placer?.place(segments)
    }
}

/// One failure of a batch is the failure of every source in it.
fn shared_failure(
    error: Error,
    sources: impl Iterator<Item = usize>,
) -> Vec<(usize, Result<Transcript>)> {
    let is_cancelled = matches!(error, Error::Cancelled);
    let reason = error.to_string();
    let again = |index| {
        let error = if is_cancelled {
            Error::Cancelled
        } else {
            Error::inference("a batch of several sources", reason.clone())
        };
        (index, Err(error))
    };
    sources.map(again).collect()
}

impl<I: Iterator<Item = AudioSource>> Iterator for Many<I> {
    type Item = (usize, Result<Transcript>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            self.fill();
        }
        self.ready.pop_front()
    }
}
