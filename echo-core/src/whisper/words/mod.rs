//! Word times from Whisper's own attention.
//!
//! While it predicts a token, some heads of the decoder look at the sound of it (the model's alignment
//! heads). The text of a window is told to the decoder once more, without timestamps, all tokens in one
//! step over the windows that are encoded already; [`dtw`] turns the collected attention into the frame
//! at which each token begins, and [`pauses`] and [`rules`] correct what is known to go wrong. Segments
//! move to their words. Source: `find_alignment` and `add_word_timestamps` in openai/whisper's timing.py and their
//! batched form in faster-whisper's transcribe.py; what is done about pauses is added.

mod dtw;
mod pauses;
mod rules;

use std::ops::Range;

use self::dtw::Fit;
use self::rules::Span;
use super::Recognizer;
use super::excerpt::Excerpt;
use super::network::Encoded;
use super::tokenizer::{TextPiece, Tokenizer};
use crate::error::Result;
use crate::kernels::FRAMES;
use crate::language::Language;
use crate::options::Task;
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::transcript::{Segment, Timing, Word};
use crate::words;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// Seconds of an encoder frame.
const SECONDS_PER_FRAME: f64 = 0.02;

/// Attention runs ahead of the voice by about this, in seconds: the median over 2,000 words whose
/// bounds a synthesiser told lies between 0.02 and 0.07 in English, German, Spanish and French.
const LEAD: f64 = 0.04;

/// How much before and after speech may belong to a word, in seconds: words end softly.
const PAD_BEFORE: f64 = 0.1;
const PAD_AFTER: f64 = 0.2;

/// Tokens told to the decoder at once, unless one window has more: attention takes 6 kB a token and
/// head, which `large-v2` with its 23 heads makes 70 MB.
const MAX_TOKENS_AT_ONCE: usize = 512;

/// A window whose words are wanted.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    /// Its place among the encoded windows.
    pub(crate) index: usize,
    /// What it hears of the source.
    pub(crate) excerpt: Excerpt,
    /// No word ends later than this, in seconds: what follows is heard again.
    pub(crate) limit: f64,
    pub(crate) language: Language,
    /// All samples of the source, 16 kHz mono.
    pub(crate) samples: &'a [f32],
    /// Where speech is in the source, in order; empty if nobody looked.
    pub(crate) speech: &'a [Region],
    /// What was understood, in order. Words are added, and times moved to them.
    pub(crate) segments: &'a mut [Segment],
    /// The log probability of each token of each segment.
    pub(crate) logprobs: Vec<Vec<f32>>,
}

impl Window<'_> {
    /// The samples from its first moment to its last one.
    fn sound(&self) -> &[f32] {
        let at = |seconds: f64| ((seconds * SAMPLE_RATE_HZ) as usize).min(self.samples.len());
        let span = self.excerpt.span();
        let (start, end) = (at(span.start), at(span.end));
        &self.samples[start..end.max(start)]
    }

    /// All tokens of its segments, in order.
    fn tokens(&self) -> Vec<u32> {
        let decodings = self.segments.iter().filter_map(|segment| segment.decoding.as_ref());
        decodings.flat_map(|decoding| decoding.tokens.iter().copied()).collect()
    }
}

/// Finds the words of windows that the network has encoded.
pub(crate) fn find(
    recognizer: &Recognizer,
    encoded: &Encoded,
    task: Task,
    windows: &mut [Window<'_>],
    cancel: &CancelToken,
) -> Result<()> {
    let tokenizer = &recognizer.tokenizer;
    let room = recognizer.network.config().text_context;
    let prompts: Vec<Told> =
        windows.iter().map(|window| Told::new(tokenizer, window, task, room)).collect();
    let mut first = 0;
    while first < windows.len() {
        cancel.check()?;
        let mut n_tokens = 0;
        let fits = |told: &&Told| {
            n_tokens += told.tokens.len();
            n_tokens <= MAX_TOKENS_AT_ONCE
        };
        let end = first + prompts[first..].iter().take_while(fits).count().max(1);
        let places: Vec<usize> = windows[first..end].iter().map(|window| window.index).collect();
        let tokens: Vec<&[u32]> = prompts[first..end].iter().map(|told| &*told.tokens).collect();
        let attention = recognizer.network.session(encoded, &places)?.alignment(&tokens)?;
        let told = &prompts[first..end];
        for ((window, told), attention) in windows[first..end].iter_mut().zip(told).zip(attention) {
            let fit = Fit::new(&attention, told.tokens.len(), FRAMES, n_frames(&window.excerpt));
            place(tokenizer, window, told, &fit);
        }
        first = end;
    }
    Ok(())
}

/// What the decoder is told of a window: the beginning, its text, the end of text.
struct Told {
    tokens: Vec<u32>,
    /// The position at which each text token is predicted, and then the end.
    predictions: Range<usize>,
}

impl Told {
    fn new(tokenizer: &Tokenizer, window: &Window<'_>, task: Task, room: usize) -> Self {
        let special = &tokenizer.special;
        let mut tokens = vec![special.start_of_transcript()];
        if tokenizer.is_multilingual {
            tokens.extend(special.language(window.language));
            tokens.push(special.task(task));
        }
        let first = tokens.len();
        tokens.push(special.no_timestamps());
        let text = window.tokens();
        let room = room.saturating_sub(tokens.len() + 1);
        tokens.extend(text.iter().take(room));
        let predictions = first..tokens.len();
        tokens.push(special.end_of_text);
        Self { tokens, predictions }
    }
}

/// Encoder frames that hold sound of the window.
fn n_frames(excerpt: &Excerpt) -> usize {
    ((excerpt.duration() / SECONDS_PER_FRAME).round() as usize).clamp(1, FRAMES)
}

/// Gives the segments of a window their words.
fn place(tokenizer: &Tokenizer, window: &mut Window<'_>, told: &Told, fit: &Fit) {
    let frames = speech_frames(&window.excerpt, window.speech, fit.n_frames);
    let onsets = fit.select(told.predictions.clone(), &frames).onsets();
    let clock = Clock { frames: &frames, onsets: &onsets, excerpt: &window.excerpt };
    let start = clock.excerpt.span().start;
    let is_unspaced = window.language.is_unspaced();
    let mut first_token = 0;
    let mut spans: Vec<Vec<Span>> = Vec::with_capacity(window.segments.len());
    let logprobs = std::mem::take(&mut window.logprobs);
    for (segment, logprobs) in window.segments.iter_mut().zip(logprobs) {
        let tokens = segment.decoding.as_ref().map_or(&[][..], |decoding| &decoding.tokens);
        let (text, pieces) = tokenizer.pieces(tokens);
        let words = if is_unspaced {
            words::join_marks(&text, pieces.iter().map(|piece| piece.bytes.clone()))
        } else {
            words::split(&text, false)
        };
        let mut own = Vec::with_capacity(words.len());
        segment.words.clear();
        for bytes in words {
            let tokens = spoken_tokens(&text, &pieces, &bytes);
            let Some(span) = clock.span(first_token + tokens.start..first_token + tokens.end)
            else {
                continue;
            };
            let mut word = Word::new(0.0, 0.0, &text[bytes]);
            word.timing = Timing::Attention;
            word.probability = mean_probability(logprobs.get(tokens).unwrap_or_default());
            own.push(Span { ends_sentence: words::ends_sentence(&word.text), ..span });
            segment.words.push(word);
        }
        first_token += tokens.len();
        spans.push(own);
    }
    let quiet = pauses::quiet_moments(window.sound(), start);
    pauses::snap(&mut spans.iter_mut().flatten().collect::<Vec<_>>(), &quiet);
    rules::correct(window.segments, &mut spans, start, window.limit);
    for (segment, spans) in window.segments.iter_mut().zip(spans) {
        for (word, span) in segment.words.iter_mut().zip(spans) {
            (word.start, word.end) = (milliseconds(span.start), milliseconds(span.end));
        }
        segment.start = milliseconds(segment.start);
        segment.end = milliseconds(segment.end);
    }
}

/// The tokens of a word that are spoken, or all of them if none is.
fn spoken_tokens(text: &str, pieces: &[TextPiece], word: &Range<usize>) -> Range<usize> {
    let first = pieces.partition_point(|piece| piece.bytes.end <= word.start);
    let end = pieces.partition_point(|piece| piece.bytes.start < word.end);
    let pieces = pieces.get(first..end).unwrap_or_default();
    let is_spoken = |piece: &&TextPiece| words::is_spoken(&text[piece.bytes.clone()]);
    let spoken = (pieces.iter().find(is_spoken), pieces.iter().rfind(is_spoken));
    match (spoken, pieces.first(), pieces.last()) {
        ((Some(first), Some(last)), ..) | (_, Some(first), Some(last)) => {
            first.tokens.start..last.tokens.end
        }
        _ => 0..0,
    }
}

fn mean_probability(logprobs: &[f32]) -> Option<f32> {
    let sum: f32 = logprobs.iter().map(|logprob| logprob.exp()).sum();
    (!logprobs.is_empty()).then(|| (sum / logprobs.len() as f32).clamp(0.0, 1.0))
}

/// The frames of a window in which somebody speaks; all of them if nobody looked or nobody does.
fn speech_frames(excerpt: &Excerpt, speech: &[Region], n_frames: usize) -> Vec<usize> {
    let start = excerpt.span().start;
    let from = speech.partition_point(|region| region.end + PAD_AFTER <= start);
    let mut regions = speech.get(from..).unwrap_or_default().iter().peekable();
    let mut frames = Vec::with_capacity(n_frames);
    for frame in 0..n_frames {
        let middle = excerpt.begin((frame as f64 + 0.5) * SECONDS_PER_FRAME);
        while regions.next_if(|region| region.end + PAD_AFTER <= middle).is_some() {}
        if regions.peek().is_some_and(|region| region.start - PAD_BEFORE <= middle) {
            frames.push(frame);
        }
    }
    if frames.is_empty() { (0..n_frames).collect() } else { frames }
}

/// From tokens to seconds of the source.
struct Clock<'a> {
    /// The frames that the path went through.
    frames: &'a [usize],
    /// Where among them each token begins, and then the end of text.
    onsets: &'a [usize],
    /// What the window hears.
    excerpt: &'a Excerpt,
}

impl Clock<'_> {
    /// When tokens are said; `None` for tokens that the decoder was not told.
    fn span(&self, tokens: Range<usize>) -> Option<Span> {
        let (first, end) = (*self.onsets.get(tokens.start)?, *self.onsets.get(tokens.end)?);
        // Up to the last frame of the word, which a pause may part from the next word's first.
        let last =
            if end > first { self.frames.get(end - 1)? + 1 } else { *self.frames.get(first)? };
        let seconds = |frame: usize| frame as f64 * SECONDS_PER_FRAME;
        let start = self.excerpt.begin(seconds(*self.frames.get(first)?)) + LEAD;
        let end = self.excerpt.end(seconds(last)) + LEAD;
        Some(Span { start, end: end.max(start), ends_sentence: false })
    }
}

fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
