//! Batched recognition: chunks of speech, several windows at once.
//!
//! Each chunk (at most 30 s, cut where people pause) becomes one window. All windows of a batch go
//! through the encoder and the decoder together; those that finish leave the batch. A window whose
//! text fails its tests is tried again at higher temperatures, and a window that was understood only
//! up to some point, or whose text passes over speech, is heard again from there: faster-whisper's
//! and WhisperX's batches do neither and lose text. Chunks may come from several sources. Long
//! silences inside a chunk are left out, see [`Excerpt`].

use super::Recognizer;
use super::decode::prompt::Prompts;
use super::decode::{Decoded, Decoder, Job};
use super::excerpt::Excerpt;
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
    /// Where its source is not surely silent, in order; empty if all of the chunk is to be heard.
    pub(crate) sounds: &'a [Region],
}

impl Chunk<'_> {
    /// The features of the chunk: a recording of its own, with its own maximum.
    pub(crate) fn mel(&self, log_mel: &LogMel) -> Mel {
        self.mel_of(&Excerpt::new(self.span, self.sounds), log_mel)
    }

    fn mel_of(&self, excerpt: &Excerpt, log_mel: &LogMel) -> Mel {
        let samples = excerpt.samples(self.samples);
        log_mel.window(&samples, 0, samples.len() / HOP_SAMPLES, None)
    }
}

/// A chunk, or what is left of it after a window.
#[derive(Debug, Clone)]
struct Work {
    chunk: usize,
    span: Region,
    is_first: bool,
}

/// What comes of the work, in order.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A chunk and all before it are done; these are its segments.
    Chunk(usize, Vec<Segment>),
    /// A batch is done, and the next one depends on nothing but this.
    Batch(&'a Standing),
}

/// Recognises chunks, `batch_size` windows at once, from where the work stands; hands over the
/// segments of each as soon as it and all before it are done.
pub(crate) fn transcribe(
    recognizer: &Recognizer,
    chunks: &[Chunk<'_>],
    options: &TranscribeOptions,
    (batch_size, mut standing): (usize, Standing),
    on_step: &mut dyn FnMut(Step<'_>) -> Result<()>,
    cancel: &CancelToken,
) -> Result<()> {
    let batches = Batches::new(recognizer, chunks, options)?;
    while standing.n_done < chunks.len() {
        cancel.check()?;
        let batch = standing.next_batch(chunks, batch_size);
        let outcomes = batches.run(&batch, cancel)?;
        for (chunk, segments) in standing.take(&batch, outcomes) {
            on_step(Step::Chunk(chunk, segments))?;
        }
        on_step(Step::Batch(&standing))?;
    }
    Ok(())
}

/// What is left of a chunk after a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rest {
    pub(crate) chunk: usize,
    pub(crate) span: Region,
}

/// Where the work stands between two batches.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Standing {
    /// Batches so far.
    pub(crate) n_batches: usize,
    /// Chunks that are done and handed over, from the first.
    pub(crate) n_done: usize,
    /// Chunks that were taken up; those after them are as they came.
    pub(crate) n_begun: usize,
    /// What is heard next, before new chunks, so that no chunk waits for all the others; in order.
    pub(crate) rests: Vec<Rest>,
    /// The segments so far of each chunk that was taken up and is not done.
    pub(crate) segments: Vec<Vec<Segment>>,
}

impl Standing {
    /// Takes up what comes next.
    fn next_batch(&mut self, chunks: &[Chunk<'_>], batch_size: usize) -> Vec<Work> {
        let n_rests = self.rests.len().min(batch_size);
        let rests = self.rests.drain(..n_rests);
        let mut batch: Vec<Work> =
            rests.map(|Rest { chunk, span }| Work { chunk, span, is_first: false }).collect();
        let new = chunks.iter().enumerate().skip(self.n_begun).take(batch_size - n_rests);
        batch.extend(new.map(|(index, chunk)| Work {
            chunk: index,
            span: chunk.span,
            is_first: chunk.is_first,
        }));
        let n_new = batch.len() - n_rests;
        self.n_begun += n_new;
        self.segments.resize(self.segments.len() + n_new, Vec::new());
        batch
    }

    /// Takes what came of a batch; the result is the chunks that are done by it.
    fn take(
        &mut self,
        batch: &[Work],
        outcomes: Vec<(Vec<Segment>, Option<Region>)>,
    ) -> Vec<(usize, Vec<Segment>)> {
        let mut rests = Vec::new();
        for (work, (mut found, rest)) in batch.iter().zip(outcomes) {
            self.segments[work.chunk - self.n_done].append(&mut found);
            rests.extend(rest.map(|span| Rest { chunk: work.chunk, span }));
        }
        rests.append(&mut self.rests);
        self.rests = rests;
        self.n_batches += 1;
        let first = self.n_done;
        self.n_done = self.rests.first().map_or(self.n_begun, |rest| rest.chunk);
        (first..self.n_done).zip(self.segments.drain(..self.n_done - first)).collect()
    }
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
        let mels = batch.iter().map(|work| self.mel(work)).collect();
        let encoded = self.recognizer.network.encode(mels, cancel)?;
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
        let excerpt = self.excerpt(work);
        let mut mel = self.chunks[work.chunk].mel_of(&excerpt, log_mel);
        if network.hears_short_windows() && !self.is_alone(work) {
            let seconds = excerpt.duration() + SILENCE_SECONDS;
            mel.shorten((seconds * FRAMES_PER_SECOND).ceil() as usize);
        }
        mel
    }

    /// What a window hears.
    fn excerpt(&self, work: &Work) -> Excerpt {
        Excerpt::new(work.span, self.chunks[work.chunk].sounds)
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
                excerpt: self.excerpt(work),
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
        let excerpt = self.excerpt(work);
        let mut cut = segments::cut(tokenizer, &decoded.tokens, excerpt.duration());
        for piece in cut.pieces.iter_mut().chain(&mut cut.open) {
            piece.start = excerpt.begin(piece.start) - start;
            piece.end = excerpt.end(piece.end) - start;
        }
        cut.understood = excerpt.begin(cut.understood) - start;
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

    /// Seconds of a chunk, and samples of it.
    const SECONDS: f64 = 20.0;
    const SAMPLES: usize = 320_000;

    /// A recogniser that passes over speech in each chunk, so that it is heard again.
    fn forgetful() -> Recognizer {
        let tokenizer = small();
        let begin = tokenizer.special.timestamp_begin;
        let say = |parts: &[(u32, u32, u32)]| -> Vec<u32> {
            let piece = |&(start, token, end): &(u32, u32, u32)| {
                [begin + 50 * start, token, begin + 50 * end]
            };
            parts.iter().flat_map(piece).collect()
        };
        let (first, again) = (say(&[(0, 65, 5), (18, 67, 20)]), say(&[(0, 66, 13), (13, 67, 15)]));
        // A window is known by its first value: chunks begin loud and are quiet where they are heard again.
        let network = FakeNetwork::saying(&tokenizer, move |window, _| {
            if window > 0.0 { first.clone() } else { again.clone() }
        });
        Recognizer { network: Box::new(network), tokenizer, log_mel: LogMel::new(80) }
    }

    fn source(n_chunks: usize) -> (Vec<f32>, Vec<Region>) {
        let noise = |at: usize| (at * 7919 % 101) as f32 / 50.0 - 1.0;
        let is_quiet = |at: usize| (40_000..200_000).contains(&(at % SAMPLES));
        let loudness = |at: usize| if is_quiet(at) { 1e-4 } else { 0.9 };
        let samples = (0..n_chunks * SAMPLES).map(|at| noise(at) * loudness(at)).collect();
        let speech = |chunk: usize| {
            let start = chunk as f64 * SECONDS;
            [Region::new(start, start + 10.0), Region::new(start + 12.0, start + SECONDS)]
        };
        (samples, (0..n_chunks).flat_map(speech).collect())
    }

    fn chunks<'a>(samples: &'a [f32], speech: &'a [Region]) -> Vec<Chunk<'a>> {
        let chunk = |index: usize| Chunk {
            samples,
            span: Region::new(index as f64 * SECONDS, (index + 1) as f64 * SECONDS),
            language: Language::ENGLISH,
            is_first: index == 0,
            speech,
            sounds: &[],
        };
        (0..samples.len() / SAMPLES).map(chunk).collect()
    }

    /// What is done and where the work stands, step by step.
    type Steps = (Vec<(usize, Vec<Segment>)>, Vec<(usize, Standing)>);

    fn run(chunks: &[Chunk<'_>], batch_size: usize, standing: Standing) -> Steps {
        let (mut done, mut standings) = (Vec::new(), Vec::new());
        let mut on_step = |step: Step<'_>| {
            match step {
                Step::Chunk(chunk, segments) => done.push((chunk, segments)),
                Step::Batch(standing) => standings.push((done.len(), standing.clone())),
            }
            Ok(())
        };
        let (options, start) = (TranscribeOptions::default(), (batch_size, standing));
        let cancel = CancelToken::new();
        transcribe(&forgetful(), chunks, &options, start, &mut on_step, &cancel).unwrap();
        (done, standings)
    }

    #[test]
    fn speech_passed_over_is_heard_again_with_what_follows() {
        let (samples, speech) = source(1);
        let (done, _) = run(&chunks(&samples, &speech), 4, Standing::default());
        let said = done.iter().flat_map(|(_, segments)| segments);
        let found: Vec<_> = said.map(|s| (s.start, s.end, s.text.as_str())).collect();
        assert_eq!(found, [(0.0, 5.0, "A"), (5.0, 18.0, "B"), (18.0, 20.0, "C")]);
    }

    #[test]
    fn work_goes_on_after_any_batch_as_if_it_had_not_stopped() {
        let (samples, speech) = source(5);
        let chunks = chunks(&samples, &speech);
        for batch_size in [1, 2, 3, 4, 16] {
            let (done, standings) = run(&chunks, batch_size, Standing::default());
            assert_eq!(done.len(), 5);
            let has_rests = standings.iter().any(|(_, standing)| !standing.rests.is_empty());
            assert!(has_rests, "chunks are left in part");
            for (index, (n_done, standing)) in standings.iter().enumerate() {
                let (more, later) = run(&chunks, batch_size, standing.clone());
                assert_eq!(more, done[*n_done..], "{batch_size} at once, after batch {index}");
                let later = later.iter().map(|(_, standing)| standing);
                let expected = standings[index + 1..].iter().map(|(_, standing)| standing);
                assert!(later.eq(expected), "{batch_size} at once, after batch {index}");
            }
        }
    }
}
