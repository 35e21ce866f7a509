//! From a window's tokens to pieces of text with times.
//!
//! Whisper writes `<|0.00|> text<|2.40|><|2.40|> text<|5.00|>`: a pair of timestamps ends one piece
//! and starts the next. What follows the last pair was not heard to its end, and the next window
//! starts there; a single timestamp at the end says that nothing more is said in this window.
//! Source: `_split_segments_by_timestamps` in faster-whisper's transcribe.py.

use super::decode::Decoded;
use super::tokenizer::{SECONDS_PER_TIMESTAMP, Tokenizer};
use crate::transcript::{Decoding, Segment};

/// What a window's tokens say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cut {
    /// Text with times, in order.
    pub(crate) pieces: Vec<Piece>,
    /// Up to where the window was understood, in seconds from its start.
    pub(crate) understood: f64,
    /// Whether the last token says that nothing follows.
    pub(crate) is_closed: bool,
    /// What was said after the last pair of timestamps, up to the end of the window: to be heard
    /// again in the next one, or kept where there is none.
    pub(crate) open: Option<Piece>,
}

/// A stretch of tokens between two times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// Seconds from the start of the window.
    pub(crate) start: f64,
    /// Seconds from the start of the window.
    pub(crate) end: f64,
    /// Where its first token stands among the window's.
    pub(crate) first: usize,
    /// With their timestamps.
    pub(crate) tokens: Vec<u32>,
}

/// Cuts the tokens of a window that holds `duration` seconds of sound.
pub(crate) fn cut(tokenizer: &Tokenizer, tokens: &[u32], duration: f64) -> Cut {
    let special = &tokenizer.special;
    let time = |token: u32| special.timestamp_frames(token).map(seconds);
    let is_time = |index: usize| tokens.get(index).is_some_and(|&t| special.is_timestamp(t));
    let n = tokens.len();
    let is_closed = n >= 2 && !is_time(n - 2) && is_time(n - 1);
    let mut ends: Vec<usize> = (1..n).filter(|&i| is_time(i - 1) && is_time(i)).collect();
    if ends.is_empty() {
        let last = tokens.iter().filter_map(|&token| time(token)).next_back();
        let end = last.filter(|&last| last > 0.0).unwrap_or(duration);
        let pieces = vec![Piece { start: 0.0, end, first: 0, tokens: tokens.to_vec() }];
        return Cut { pieces, understood: duration, is_closed, open: None };
    }
    if is_closed {
        ends.push(n);
    }
    let mut pieces = Vec::with_capacity(ends.len());
    let (mut from, mut reached) = (0, 0.0);
    for end in ends {
        let piece = &tokens[from..end];
        let first = piece.first().and_then(|&token| time(token));
        let last = piece.last().and_then(|&token| time(token));
        let start = first.unwrap_or(reached);
        reached = last.unwrap_or(start);
        pieces.push(Piece { start, end: reached, first: from, tokens: piece.to_vec() });
        from = end;
    }
    let rest = &tokens[from..];
    let has_text = rest.iter().any(|&token| token < special.end_of_text);
    let open = has_text.then(|| Piece {
        start: reached,
        end: duration,
        first: from,
        tokens: rest.to_vec(),
    });
    Cut { pieces, understood: if is_closed { duration } else { reached }, is_closed, open }
}

/// Turns a piece into a segment, `offset` seconds after the start of the source; `None` if it says
/// nothing or takes no time. No segment goes on beyond `limit` seconds.
pub(crate) fn segment(
    tokenizer: &Tokenizer,
    piece: &Piece,
    decoded: &Decoded,
    offset: f64,
    limit: f64,
) -> Option<Segment> {
    let start = milliseconds(offset + piece.start).min(limit);
    let end = milliseconds(offset + piece.end).min(limit);
    let text = tokenizer.decode(&piece.tokens);
    let text = text.trim();
    if text.is_empty() || start >= end {
        return None;
    }
    let end_of_text = tokenizer.special.end_of_text;
    let mut segment = Segment::new(start, end, text);
    segment.decoding = Some(Decoding {
        tokens: piece.tokens.iter().copied().filter(|&token| token < end_of_text).collect(),
        temperature: decoded.temperature,
        avg_logprob: decoded.avg_logprob,
        compression_ratio: decoded.compression_ratio,
        no_speech_prob: decoded.no_speech_prob,
    });
    Some(segment)
}

/// The log probability of each text token of a piece, as in the [`Decoding`] of its segment.
pub(crate) fn logprobs(tokenizer: &Tokenizer, piece: &Piece, decoded: &Decoded) -> Vec<f32> {
    let end_of_text = tokenizer.special.end_of_text;
    let logprobs = decoded.logprobs.get(piece.first..).unwrap_or_default();
    let all = piece.tokens.iter().zip(logprobs);
    all.filter(|(token, _)| **token < end_of_text).map(|(_, logprob)| *logprob).collect()
}

fn seconds(frames: usize) -> f64 {
    milliseconds(frames as f64 * SECONDS_PER_TIMESTAMP)
}

/// Multiples of 0.02 and of a sample leave a tail of digits that nobody means.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whisper::tokenizer::small;

    /// Times in tenths of a second as tokens of the small vocabulary, text as it is.
    fn tokens(tokenizer: &Tokenizer, parts: &[(Option<u32>, u32)]) -> Vec<u32> {
        let begin = tokenizer.special.timestamp_begin;
        parts.iter().map(|&(tenths, text)| tenths.map_or(text, |t| begin + 5 * t)).collect()
    }

    fn at(tenths: u32) -> (Option<u32>, u32) {
        (Some(tenths), 0)
    }

    fn say(token: u32) -> (Option<u32>, u32) {
        (None, token)
    }

    #[test]
    fn pairs_of_timestamps_cut_and_the_open_end_is_not_understood() {
        let tokenizer = small();
        let all = [at(0), say(1), at(20), at(25), say(2), at(40), at(40), say(3)];
        let cut = cut(&tokenizer, &tokens(&tokenizer, &all), 30.0);
        let times: Vec<_> = cut.pieces.iter().map(|piece| (piece.start, piece.end)).collect();
        assert_eq!(times, [(0.0, 2.0), (2.5, 4.0)]);
        assert_eq!((cut.understood, cut.is_closed), (4.0, false));
        let open = cut.open.unwrap();
        assert_eq!((open.start, open.end), (4.0, 30.0));
    }

    #[test]
    fn a_single_timestamp_at_the_end_closes_the_window() {
        let tokenizer = small();
        let all = [at(0), say(1), at(20), at(20), say(2), at(40)];
        let cut = cut(&tokenizer, &tokens(&tokenizer, &all), 30.0);
        assert_eq!(cut.pieces.len(), 2);
        assert_eq!((cut.understood, cut.is_closed), (30.0, true));
    }

    #[test]
    fn text_without_pairs_is_one_piece() {
        let tokenizer = small();
        let timed = cut(&tokenizer, &tokens(&tokenizer, &[at(0), say(1), at(33)]), 30.0);
        assert_eq!((timed.pieces[0].start, timed.pieces[0].end), (0.0, 3.3));
        let bare = cut(&tokenizer, &[1, 2], 12.5);
        assert_eq!((bare.pieces[0].end, bare.understood, bare.is_closed), (12.5, 12.5, false));
    }
}
