//! Batched recognition: chunks of speech, several windows at once.
//!
//! Each chunk (at most 30 s, cut where people pause) becomes one window. All windows of a batch go
//! through the encoder and the decoder together; those that finish leave the batch. A window whose
//! text fails its tests is tried again at higher temperatures, and a window that was understood only
//! up to some point is heard again from there: faster-whisper's and WhisperX's batches do neither
//! and lose text. Chunks may come from several sources.

use std::collections::VecDeque;

use super::Recognizer;
use super::decode::prompt::Prompts;
use super::decode::{Decoded, Decoder, Job};
use super::language;
use super::segments;
use crate::error::Result;
use crate::features::mel::{HOP_SAMPLES, LogMel, Mel};
use crate::language::Language;
use crate::options::TranscribeOptions;
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::transcript::Segment;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// Shorter rests of a chunk are not heard again: a syllable with its padding.
const MIN_REST_SECONDS: f64 = 1.0;

/// A chunk of one source to be recognised.
#[derive(Debug, Clone)]
pub(crate) struct Chunk<'a> {
    /// All samples of its source, 16 kHz mono.
    pub(crate) samples: &'a [f32],
    /// Which part of them, in seconds; at most 30 s long.
    pub(crate) span: Region,
    /// The language spoken.
    pub(crate) language: Language,
    /// Whether it is the first of its source.
    pub(crate) is_first: bool,
}

impl Chunk<'_> {
    /// The features of the chunk: a recording of its own, with its own maximum.
    pub(crate) fn mel(&self, log_mel: &LogMel) -> Mel {
        mel(log_mel, self.samples, self.span)
    }
}

fn mel(log_mel: &LogMel, samples: &[f32], span: Region) -> Mel {
    let at = |seconds: f64| ((seconds * SAMPLE_RATE_HZ).round() as usize).min(samples.len());
    let samples = &samples[at(span.start)..at(span.end)];
    log_mel.window(samples, 0, samples.len() / HOP_SAMPLES, None)
}

/// A chunk, or what is left of it after a window.
#[derive(Debug, Clone)]
struct Work {
    chunk: usize,
    span: Region,
    is_first: bool,
}

/// Recognises chunks, `batch_size` windows at once, and hands over the segments of each as soon as
/// it and all before it are done.
pub(crate) fn transcribe(
    recognizer: &Recognizer,
    chunks: &[Chunk<'_>],
    options: &TranscribeOptions,
    batch_size: usize,
    on_chunk: &mut dyn FnMut(usize, Vec<Segment>) -> Result<()>,
    cancel: &CancelToken,
) -> Result<()> {
    let batches = Batches::new(recognizer, chunks, options)?;
    let mut queue: VecDeque<Work> = (0..chunks.len())
        .map(|chunk| Work { chunk, span: chunks[chunk].span, is_first: chunks[chunk].is_first })
        .collect();
    let mut segments: Vec<Vec<Segment>> = vec![Vec::new(); chunks.len()];
    let mut n_reported = 0;
    while !queue.is_empty() {
        cancel.check()?;
        let batch: Vec<Work> = queue.drain(..batch_size.min(queue.len())).collect();
        let outcomes = batches.run(&batch, cancel)?;
        // Rests go to the front, in order, so that no chunk waits for all the others.
        for (work, outcome) in batch.iter().zip(outcomes).rev() {
            let (mut found, rest) = outcome;
            let chunk = &mut segments[work.chunk];
            chunk.append(&mut found);
            if let Some(span) = rest {
                queue.push_front(Work { chunk: work.chunk, span, is_first: false });
            }
        }
        let n_done = queue.iter().map(|work| work.chunk).min().unwrap_or(chunks.len());
        for (chunk, done) in segments.iter_mut().enumerate().take(n_done).skip(n_reported) {
            on_chunk(chunk, std::mem::take(done))?;
        }
        n_reported = n_reported.max(n_done);
    }
    Ok(())
}

/// What stays the same over the batches of a run.
struct Batches<'a> {
    recognizer: &'a Recognizer,
    chunks: &'a [Chunk<'a>],
    options: &'a TranscribeOptions,
    decoder: Decoder<'a>,
    prompts: Prompts<'a>,
}

impl<'a> Batches<'a> {
    fn new(
        recognizer: &'a Recognizer,
        chunks: &'a [Chunk<'a>],
        options: &'a TranscribeOptions,
    ) -> Result<Self> {
        let network = &*recognizer.network;
        let tokenizer = &recognizer.tokenizer;
        let text_context = network.config().text_context;
        Ok(Self {
            recognizer,
            chunks,
            options,
            decoder: Decoder::new(network, tokenizer, &options.decode)?,
            prompts: Prompts::new(tokenizer, text_context, options.task, &options.decode)?,
        })
    }

    /// Recognises one batch: for each window its segments and what of it is to be heard again.
    fn run(
        &self,
        batch: &[Work],
        cancel: &CancelToken,
    ) -> Result<Vec<(Vec<Segment>, Option<Region>)>> {
        let log_mel = &self.recognizer.log_mel;
        let of_work = |work: &Work| mel(log_mel, self.chunks[work.chunk].samples, work.span);
        let mels: Vec<Mel> = batch.iter().map(of_work).collect();
        let encoded = self.recognizer.network.encode(&mels, cancel)?;
        let languages = self.languages(batch, &encoded)?;
        let mut jobs = Vec::with_capacity(batch.len());
        for (window, (work, &language)) in batch.iter().zip(&languages).enumerate() {
            let prompt = self.prompts.prompt(language, &self.prompts.initial, work.is_first)?;
            let seed = (work.span.start * SAMPLE_RATE_HZ) as u64;
            jobs.push(Job { window, prompt, seed });
        }
        let decoded = self.decoder.decode(&encoded, &jobs, cancel)?;
        let windows = batch.iter().zip(&decoded).zip(&languages);
        Ok(windows.map(|((work, decoded), &language)| self.cut(work, decoded, language)).collect())
    }

    /// The language of each window, heard anew where languages may change.
    fn languages(
        &self,
        batch: &[Work],
        encoded: &super::network::Encoded,
    ) -> Result<Vec<Language>> {
        let given = batch.iter().map(|work| self.chunks[work.chunk].language);
        if !self.options.multilingual {
            return Ok(given.collect());
        }
        let windows: Vec<usize> = (0..batch.len()).collect();
        let (network, tokenizer) = (&*self.recognizer.network, &self.recognizer.tokenizer);
        let tables = language::probabilities(network, tokenizer, encoded, &windows)?;
        Ok(given
            .zip(tables)
            .map(|(given, table)| table.first().map_or(given, |(language, _)| *language))
            .collect())
    }

    /// Segments of one window, and the rest of its chunk where it was not understood to its end.
    fn cut(
        &self,
        work: &Work,
        decoded: &Decoded,
        language: Language,
    ) -> (Vec<Segment>, Option<Region>) {
        if decoded.is_silent {
            return (Vec::new(), None);
        }
        let tokenizer = &self.recognizer.tokenizer;
        let Region { start, end } = work.span;
        let cut = segments::cut(tokenizer, &decoded.tokens, work.span.duration());
        let rest = Region::new(start + cut.understood, end);
        let is_worth_hearing = cut.understood > 0.0
            && start + cut.understood < end
            && rest.duration() > MIN_REST_SECONDS;
        // What is too short to be heard again is kept as it was understood.
        let kept = cut.open.as_ref().filter(|_| !is_worth_hearing);
        let pieces = cut.pieces.iter().chain(kept);
        let mut found: Vec<Segment> = pieces
            .filter_map(|piece| segments::segment(tokenizer, piece, decoded, start, end))
            .collect();
        if self.options.multilingual {
            for segment in &mut found {
                segment.language = Some(language);
            }
        }
        (found, is_worth_hearing.then_some(rest))
    }
}
