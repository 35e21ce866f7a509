//! Sequential recognition: window after window, each guided by the text before it.
//!
//! The reference's long-form algorithm. A window of 30 s is decoded; the next one starts where the
//! timestamps of this one end, so that no word is cut in two. The text so far is context for the next
//! window, until a window had to be tried at a high temperature. Beyond the reference: speech that the
//! text of a window passes over is heard again ([`skipped`]). Source: `generate_segments` in
//! faster-whisper's transcribe.py, which follows `transcribe` in openai/whisper.

use super::Recognizer;
use super::decode::prompt::Prompts;
use super::decode::{Decoded, Decoder, Job};
use super::excerpt::Excerpt;
use super::language;
use super::network::Encoded;
use super::segments::{self, Piece};
use super::skipped;
use super::words;
use crate::error::Result;
use crate::features::mel::{HOP_SAMPLES, WINDOW_FRAMES};
use crate::language::Language;
use crate::options::TranscribeOptions;
use crate::progress::CancelToken;
use crate::timeline::Region;
use crate::transcript::Segment;

/// Mel frames a second.
const FRAMES_PER_SECOND: f64 = 100.0;

/// Samples below this are digital silence: two steps of a 16-bit recorder.
const SILENCE: f32 = 2.0 / 32_768.0;

/// Receives how far the work is, from 0 to 1, and the segments of a window.
pub(crate) type OnWindow<'a> = dyn FnMut(f64, Vec<Segment>) -> Result<()> + 'a;

/// What is to be recognised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// All samples, 16 kHz mono.
    pub(crate) samples: &'a [f32],
    /// Which parts of it, in order.
    pub(crate) clips: &'a [Region],
    /// Where somebody speaks in it; empty if nobody looked.
    pub(crate) speech: &'a [Region],
    /// The language spoken.
    pub(crate) language: Language,
}

/// Recognises the clips of one source, in order.
pub(crate) fn transcribe(
    recognizer: &Recognizer,
    source: &Source<'_>,
    options: &TranscribeOptions,
    on_window: &mut OnWindow<'_>,
    cancel: &CancelToken,
) -> Result<()> {
    let n_frames = source.samples.len() / HOP_SAMPLES;
    let mut walk = Walk::new(recognizer, source, options)?;
    for clip in source.clips {
        let frame = |seconds: f64| ((seconds * FRAMES_PER_SECOND).round() as usize).min(n_frames);
        let (mut seek, end) = (frame(clip.start), frame(clip.end));
        while seek < end {
            cancel.check()?;
            let end = walk.heard_again_to.map_or(end, |again| again.min(end));
            let window = Window { start: seek, frames: WINDOW_FRAMES.min(end - seek) };
            let found = walk.window(&window, &mut seek, cancel)?;
            walk.heard_again_to = walk.heard_again_to.filter(|&to| to > seek);
            on_window(seek.min(end) as f64 / n_frames as f64, found)?;
        }
    }
    Ok(())
}

/// A window of the source, in mel frames.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: usize,
    frames: usize,
}

impl Window {
    fn seconds(self) -> Region {
        let start = self.start as f64 / FRAMES_PER_SECOND;
        Region { start, end: (self.start + self.frames) as f64 / FRAMES_PER_SECOND }
    }
}

/// The walk through a source: what stays the same, and the text so far.
struct Walk<'a> {
    recognizer: &'a Recognizer,
    samples: &'a [f32],
    speech: &'a [Region],
    language: Language,
    options: &'a TranscribeOptions,
    decoder: Decoder<'a>,
    prompts: Prompts<'a>,
    /// All windows are clipped against the loudest moment of the whole source.
    maximum: f32,
    /// Tokens that guide the next window.
    context: Vec<u32>,
    /// Up to which frame speech is heard again that an earlier window passed over: alone, since
    /// what follows is what it was passed over for.
    heard_again_to: Option<usize>,
}

impl<'a> Walk<'a> {
    fn new(
        recognizer: &'a Recognizer,
        source: &Source<'a>,
        options: &'a TranscribeOptions,
    ) -> Result<Self> {
        let network = &*recognizer.network;
        let tokenizer = &recognizer.tokenizer;
        let text_context = network.config().text_context;
        let prompts = Prompts::new(tokenizer, text_context, options.task, &options.decode)?;
        Ok(Self {
            recognizer,
            samples: source.samples,
            speech: source.speech,
            language: source.language,
            options,
            decoder: Decoder::new(network, tokenizer, &options.decode)?,
            maximum: recognizer.log_mel.maximum(source.samples),
            context: prompts.initial.clone(),
            prompts,
            heard_again_to: None,
        })
    }

    /// Recognises one window and moves `seek` to the start of the next.
    fn window(
        &mut self,
        window: &Window,
        seek: &mut usize,
        cancel: &CancelToken,
    ) -> Result<Vec<Segment>> {
        *seek = window.start + window.frames;
        if self.is_silent(window) {
            return Ok(Vec::new());
        }
        let (decoded, language, encoded) = self.decode(window, cancel)?;
        if decoded.is_silent {
            return Ok(Vec::new());
        }
        let span = window.seconds();
        let mut cut = segments::cut(&self.recognizer.tokenizer, &decoded.tokens, span.duration());
        let understood = (cut.understood * FRAMES_PER_SECOND).round() as usize;
        // A window of which nothing was understood must not be heard for ever.
        if understood > 0 {
            *seek = window.start + understood.min(window.frames);
        }
        let tokenizer = &self.recognizer.tokenizer;
        if self.heard_again_to.is_none() {
            self.heard_again_to = self.turn_back(&mut cut.pieces, window, seek);
        }
        let (mut found, mut logprobs) = (Vec::new(), Vec::new());
        for piece in &cut.pieces {
            let limit = span.end;
            if let Some(mut segment) =
                segments::segment(tokenizer, piece, &decoded, span.start, limit)
            {
                self.context.extend_from_slice(&piece.tokens);
                segment.language = self.options.multilingual.then_some(language);
                found.push(segment);
                logprobs.push(segments::logprobs(tokenizer, piece, &decoded));
            }
        }
        if self.options.uses_attention() && !found.is_empty() {
            let limit = (*seek as f64 / FRAMES_PER_SECOND).min(span.end);
            let (speech, segments) = (self.speech, &mut *found);
            let words = words::Window {
                index: 0,
                excerpt: Excerpt::whole(span),
                limit,
                language,
                samples: self.samples,
                speech,
                segments,
                logprobs,
            };
            words::find(self.recognizer, &encoded, self.options.task, &mut [words], cancel)?;
        }
        let decode = &self.options.decode;
        if !decode.condition_on_previous_text
            || decoded.last_temperature > decode.prompt_reset_on_temperature
        {
            self.context.clear();
        }
        Ok(found)
    }

    /// Ends a window's pieces before the first speech they pass over, and moves `seek` there. The
    /// frame up to which to hear again.
    fn turn_back(
        &self,
        pieces: &mut Vec<Piece>,
        window: &Window,
        seek: &mut usize,
    ) -> Option<usize> {
        let special = &self.recognizer.tokenizer.special;
        let offset = window.seconds().start;
        let n_tokens = |piece: &Piece| {
            piece.tokens.iter().filter(|&&token| token < special.end_of_text).count()
        };
        let skip = skipped::first(pieces, offset, self.speech, n_tokens)?;
        pieces.truncate(skip.piece + 1);
        let piece = pieces.last_mut()?;
        let frame = |seconds: f64| (seconds * FRAMES_PER_SECOND).round() as usize;
        let end = frame(offset + piece.end).min(window.start + window.frames);
        piece.end = skip.resume - offset;
        *seek = frame(skip.resume);
        Some(end).filter(|end| end > seek)
    }

    /// Decodes one window, in the language given or, where languages may change, the one heard.
    fn decode(
        &self,
        window: &Window,
        cancel: &CancelToken,
    ) -> Result<(Decoded, Language, Encoded)> {
        let Recognizer { network, tokenizer, log_mel } = self.recognizer;
        let maximum = Some(self.maximum);
        let mel = log_mel.window(self.samples, window.start, window.frames, maximum);
        let encoded = network.encode(vec![mel], cancel)?;
        let mut language = self.language;
        if self.options.multilingual {
            let tables = language::probabilities(&**network, tokenizer, &encoded, &[0])?;
            let heard = tables.first().and_then(|table| table.first());
            language = heard.map_or(language, |(heard, _)| *heard);
        }
        let prompt = self.prompts.prompt(language, &self.context, window.start == 0)?;
        let job = Job { window: 0, prompt, seed: window.start as u64 };
        let decoded = self.decoder.decode(&encoded, &[job], cancel)?;
        Ok((decoded.into_iter().next().unwrap_or_default(), language, encoded))
    }

    /// Whether a window holds nothing at all, so that it need not be heard.
    fn is_silent(&self, window: &Window) -> bool {
        let end = (window.start + window.frames) * HOP_SAMPLES;
        let samples = &self.samples[window.start * HOP_SAMPLES..end.min(self.samples.len())];
        samples.iter().all(|sample| sample.abs() < SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::mel::LogMel;
    use crate::whisper::fake::FakeNetwork;
    use crate::whisper::tokenizer::small;

    /// What is said, from which second to which, tokens by tokens.
    fn said(
        tokenizer: &crate::whisper::tokenizer::Tokenizer,
        parts: &[(u32, u32, u32)],
    ) -> Vec<u32> {
        let begin = tokenizer.special.timestamp_begin;
        let piece =
            |&(start, token, end): &(u32, u32, u32)| [begin + 50 * start, token, begin + 50 * end];
        parts.iter().flat_map(piece).collect()
    }

    #[test]
    fn speech_passed_over_is_heard_by_itself_and_the_walk_goes_on_behind_it() {
        let tokenizer = small();
        let (first, again, rest) = (
            said(&tokenizer, &[(0, 65, 20), (20, 66, 25)]),
            said(&tokenizer, &[(0, 67, 10), (10, 68, 16)]),
            said(&tokenizer, &[(0, 69, 10)]),
        );
        let network = FakeNetwork::saying(&tokenizer, move |_, prompt| {
            if prompt.contains(&68) {
                rest.clone()
            } else if prompt.contains(&65) {
                again.clone()
            } else {
                first.clone()
            }
        });
        let recognizer =
            Recognizer { network: Box::new(network), tokenizer, log_mel: LogMel::new(80) };
        let samples = vec![0.1; 30 * 16_000];
        let speech = [(0.0, 4.0), (5.0, 12.0), (13.0, 20.0), (20.0, 30.0)]
            .map(|(start, end)| Region::new(start, end));
        let source = Source {
            samples: &samples,
            clips: &[Region::new(0.0, 30.0)],
            speech: &speech,
            language: Language::ENGLISH,
        };
        let (mut found, mut reached) = (Vec::new(), Vec::new());
        let mut on_window = |share: f64, segments: Vec<Segment>| {
            reached.push((share * 30.0).round());
            found.extend(segments.iter().map(|s| (s.start, s.end, s.text.clone())));
            Ok(())
        };
        let options = TranscribeOptions::default();
        transcribe(&recognizer, &source, &options, &mut on_window, &CancelToken::new()).unwrap();
        let text = |start, end, text: &str| (start, end, text.to_owned());
        assert_eq!(
            found,
            [
                text(0.0, 4.0, "A"),
                text(4.0, 14.0, "C"),
                text(14.0, 20.0, "D"),
                text(20.0, 30.0, "E")
            ]
        );
        assert_eq!(reached, [4.0, 20.0, 30.0]);
    }

    #[test]
    fn speech_passed_over_that_turns_out_silent_holds_nothing_up() {
        // What is taken for speech from 10 s on is silence; the text lies about its end.
        for (clip, reached_last) in [(60.0, 60.0), (28.0, 28.0)] {
            let tokenizer = small();
            let (first, rest) =
                (said(&tokenizer, &[(0, 65, 28)]), said(&tokenizer, &[(0, 66, 30)]));
            let network = FakeNetwork::saying(&tokenizer, move |_, prompt| {
                if prompt.contains(&65) { rest.clone() } else { first.clone() }
            });
            let recognizer =
                Recognizer { network: Box::new(network), tokenizer, log_mel: LogMel::new(80) };
            let mut samples = vec![0.1; 60 * 16_000];
            samples[4 * 16_000..28 * 16_000].fill(0.0);
            let source = Source {
                samples: &samples,
                clips: &[Region::new(0.0, clip)],
                speech: &[(0.0, 4.0), (10.0, 26.0)].map(|(start, end)| Region::new(start, end)),
                language: Language::ENGLISH,
            };
            let mut reached = Vec::new();
            let mut on_window = |share: f64, _| {
                reached.push((share * 60.0).round());
                assert!(reached.len() < 10, "there is no end: {reached:?}");
                Ok(())
            };
            let options = TranscribeOptions::default();
            let cancel = CancelToken::new();
            transcribe(&recognizer, &source, &options, &mut on_window, &cancel).unwrap();
            assert_eq!(reached[..2], [4.0, 28.0]);
            assert_eq!(reached.last(), Some(&reached_last));
        }
    }
}
