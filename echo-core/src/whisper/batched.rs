//! Batched recognition: chunks of speech, several windows at once.
//!
//! Each chunk (at most 30 s, cut where people pause) becomes one window. All windows of a batch go
//! through the encoder and the decoder together; those that finish leave the batch. A window whose
//! text fails its tests is tried again at higher temperatures, and a window that was understood only
//! up to some point, or whose text passes over speech, is heard again from there: faster-whisper's
//! and WhisperX's batches do neither and lose text. Chunks may come from several sources.

use std::collections::VecDeque;

use super::Recognizer;
use super::decode::prompt::Prompts;
use super::decode::{Decoded, Decoder, Job};
use super::language;
use super::network::Encoded;
use super::segments;
use super::skipped;
use super::words;
use crate::error::Result;
use crate::features::mel::{HOP_SAMPLES, LogMel, Mel};
use crate::language::Language;
use crate::options::TranscribeOptions;
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::transcript::Segment;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// Mel frames a second.
const FRAMES_PER_SECOND: f64 = 100.0;

/// Silence that a part of a recording ends with, if its window has room, where shorter windows are
/// faster.
///
/// The recogniser was trained on windows of 30 s, filled up with silence; with hardly any of it, it
/// repeats itself. Of 2,847 words of long recordings `base` gets 144 wrong with all the silence, 142
/// or 146 with 6 s, 145 with 3 s and 160 with 1.5 s (int8, greedy; bf16, beam 5: 137 with all, 135
/// with 6 s). Of 2,404 words of short clips, a window each, bf16 gets 10 more wrong, so these keep
/// their silence.
const SILENCE_SECONDS: f64 = 6.0;

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
    /// Where speech is in its source, in order; empty if nobody looked.
    pub(crate) speech: &'a [Region],
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
        let mels: Vec<Mel> = batch.iter().map(|work| self.mel(work)).collect();
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
        let cut = |((work, decoded), &language)| self.cut(work, decoded, language);
        let mut heard: Vec<Heard> = windows.map(cut).collect();
        if self.options.uses_attention() {
            self.find_words(batch, &encoded, &languages, &mut heard, cancel)?;
        }
        Ok(heard.into_iter().map(|heard| (heard.segments, heard.rest)).collect())
    }

    /// The features of a window; of a part of a recording without most of the silence behind its
    /// sound, where the device hears fewer frames in less time.
    fn mel(&self, work: &Work) -> Mel {
        let Recognizer { network, log_mel, .. } = self.recognizer;
        let mut mel = mel(log_mel, self.chunks[work.chunk].samples, work.span);
        if network.hears_short_windows() && !self.is_alone(work) {
            let seconds = work.span.duration() + SILENCE_SECONDS;
            mel.shorten((seconds * FRAMES_PER_SECOND).ceil() as usize);
        }
        mel
    }

    /// Whether a window holds all of its source.
    fn is_alone(&self, work: &Work) -> bool {
        let next = self.chunks.get(work.chunk + 1);
        work.is_first && next.is_none_or(|next| next.is_first)
    }

    /// Gives the segments of a batch their words.
    fn find_words(
        &self,
        batch: &[Work],
        encoded: &Encoded,
        languages: &[Language],
        heard: &mut [Heard],
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut windows = Vec::with_capacity(batch.len());
        for (index, (work, heard)) in batch.iter().zip(heard).enumerate() {
            if heard.segments.is_empty() {
                continue;
            }
            windows.push(words::Window {
                index,
                span: work.span,
                limit: heard.rest.map_or(work.span.end, |rest| rest.start),
                language: languages[index],
                samples: self.chunks[work.chunk].samples,
                speech: self.chunks[work.chunk].speech,
                segments: &mut heard.segments,
                logprobs: std::mem::take(&mut heard.logprobs),
            });
        }
        words::find(self.recognizer, encoded, self.options.task, &mut windows, cancel)
    }

    /// The language of each window, heard anew where languages may change.
    fn languages(&self, batch: &[Work], encoded: &Encoded) -> Result<Vec<Language>> {
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
    fn cut(&self, work: &Work, decoded: &Decoded, language: Language) -> Heard {
        let mut heard = Heard::default();
        if decoded.is_silent {
            return heard;
        }
        let tokenizer = &self.recognizer.tokenizer;
        let Region { start, end } = work.span;
        let mut cut = segments::cut(tokenizer, &decoded.tokens, work.span.duration());
        let speech = self.chunks[work.chunk].speech;
        if let Some(last) = skipped::gap(&cut.pieces, work.span, speech) {
            // What follows is heard anew, from where speech was passed over.
            cut.pieces.truncate(last + 1);
            cut.understood = cut.pieces[last].end;
            cut.open = None;
        }
        let rest = Region::new(start + cut.understood, end);
        let is_worth_hearing = cut.understood > 0.0
            && start + cut.understood < end
            && rest.duration() > MIN_REST_SECONDS;
        // What is too short to be heard again is kept as it was understood.
        let kept = cut.open.as_ref().filter(|_| !is_worth_hearing);
        for piece in cut.pieces.iter().chain(kept) {
            if let Some(mut segment) = segments::segment(tokenizer, piece, decoded, start, end) {
                segment.language = self.options.multilingual.then_some(language);
                heard.segments.push(segment);
                heard.logprobs.push(segments::logprobs(tokenizer, piece, decoded));
            }
        }
        heard.rest = is_worth_hearing.then_some(rest);
        heard
    }
}

/// What was understood of one window.
#[derive(Debug, Default)]
struct Heard {
    segments: Vec<Segment>,
    /// The log probability of each token of each segment.
    logprobs: Vec<Vec<f32>>,
    /// What of its chunk is to be heard again.
    rest: Option<Region>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whisper::fake::FakeNetwork;
    use crate::whisper::tokenizer::small;

    #[test]
    fn speech_passed_over_is_heard_again_with_what_follows() {
        let tokenizer = small();
        let begin = tokenizer.special.timestamp_begin;
        let say = |parts: &[(u32, u32, u32)]| -> Vec<u32> {
            let piece = |&(start, token, end): &(u32, u32, u32)| {
                [begin + 50 * start, token, begin + 50 * end]
            };
            parts.iter().flat_map(piece).collect()
        };
        let (first, again) = (say(&[(0, 65, 5), (18, 67, 20)]), say(&[(0, 66, 13), (13, 67, 15)]));
        // A window is known by its first value: the source begins loud and is quiet where it is heard again.
        let network = FakeNetwork::saying(&tokenizer, move |window, _| {
            if window > 0.0 { first.clone() } else { again.clone() }
        });
        let recognizer =
            Recognizer { network: Box::new(network), tokenizer, log_mel: LogMel::new(80) };
        let noise = |at: usize| (at * 7919 % 101) as f32 / 50.0 - 1.0;
        let loudness = |at: usize| if (40_000..200_000).contains(&at) { 1e-4 } else { 0.9 };
        let samples: Vec<f32> = (0..20 * 16_000).map(|at| noise(at) * loudness(at)).collect();
        let speech = [Region::new(0.0, 10.0), Region::new(12.0, 20.0)];
        let chunk = Chunk {
            samples: &samples,
            span: Region::new(0.0, 20.0),
            language: Language::ENGLISH,
            is_first: true,
            speech: &speech,
        };
        let mut found = Vec::new();
        let mut on_chunk = |_, segments: Vec<Segment>| {
            found.extend(segments.iter().map(|s| (s.start, s.end, s.text.clone())));
            Ok(())
        };
        let options = TranscribeOptions::default();
        transcribe(&recognizer, &[chunk], &options, 4, &mut on_chunk, &CancelToken::new()).unwrap();
        let text = |start, end, text: &str| (start, end, text.to_owned());
        assert_eq!(found, [text(0.0, 5.0, "A"), text(5.0, 18.0, "B"), text(18.0, 20.0, "C")]);
    }
}
