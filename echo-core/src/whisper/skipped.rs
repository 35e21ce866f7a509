//! Speech that the text of a window passes over.
//!
//! Now and then Whisper writes a sentence and then a timestamp that lies after the next one, or after
//! several: the next window starts there, and what was said between is lost. (With beam 1, `base`
//! leaves out 55 of 1,376 words of one eleven-minute file in this way, and the reference with it.) Such
//! a piece has far fewer tokens than people say in its time. It then ends at the pause where a text of
//! its length would, and the next window starts there. In batches, what is passed over mostly lies
//! between the times of two pieces.

use super::segments::Piece;
use crate::timeline::Region;

/// Fewer tokens for each second of speech are too few. Set on the one long file on which it matters:
/// pieces that lost speech have 0.8 to 1.0 there, others more.
const MIN_TOKENS_PER_SECOND: f64 = 1.2;

/// What people say, in tokens for each second of speech.
const USUAL_TOKENS_PER_SECOND: f64 = 3.2;

/// Speech in a shorter piece may as well be a word drawn out, or noise.
const MIN_SPEECH_SECONDS: f64 = 3.5;

/// Speech of this length between two pieces was not understood; their times are off by less.
const MIN_GAP_SECONDS: f64 = 2.0;

/// Where the first piece that passes over speech ought to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Skip {
    /// Which piece.
    pub(super) piece: usize,
    /// Seconds from the start of the source.
    pub(super) resume: f64,
}

/// The first of the pieces, of a window that starts `offset` seconds into the source, that passes over
/// speech. `n_tokens` counts a piece's text.
pub(super) fn first(
    pieces: &[Piece],
    offset: f64,
    speech: &[Region],
    n_tokens: impl Fn(&Piece) -> usize,
) -> Option<Skip> {
    pieces.iter().enumerate().find_map(|(index, piece)| {
        let span = Region::new(offset + piece.start, offset + piece.end);
        let resume = text_end(n_tokens(piece) as f64, span, speech)?;
        Some(Skip { piece: index, resume })
    })
}

/// The first of the pieces, of a window that is `span` of the source, after which speech lies in no
/// piece.
pub(super) fn gap(pieces: &[Piece], span: Region, speech: &[Region]) -> Option<usize> {
    let spoken = |gap: Region| {
        let inside = speech.iter().filter_map(|region| region.intersection(&gap));
        inside.map(|region| region.duration()).sum::<f64>()
    };
    let nexts = pieces.iter().skip(1).map(|next| span.start + next.start).chain([span.end]);
    pieces.iter().zip(nexts).position(|(piece, next)| {
        let start = span.start + piece.end;
        // The window must not be heard again from its start.
        piece.end > 0.0 && spoken(Region::new(start, next.max(start))) >= MIN_GAP_SECONDS
    })
}

/// The pause at which a text of `n_tokens` in `span` ends, if there is too much speech for it.
fn text_end(n_tokens: f64, span: Region, speech: &[Region]) -> Option<f64> {
    let mut spoken = 0.0;
    let mut pauses = Vec::new();
    for region in speech.iter().filter_map(|region| region.intersection(&span)) {
        spoken += region.duration();
        pauses.push((region.end, spoken));
    }
    if n_tokens == 0.0 || spoken < MIN_SPEECH_SECONDS || n_tokens >= MIN_TOKENS_PER_SECOND * spoken
    {
        return None;
    }
    pauses.pop(); // Where the last speech ends is no pause before more of it.
    let usual = n_tokens / USUAL_TOKENS_PER_SECOND;
    let off = |pause: &(f64, f64)| (pause.1 - usual).abs();
    pauses.into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).map(|(end, _)| end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speech of 4 s, 5 s and 6 s with pauses of a second.
    const SPEECH: [Region; 3] = [
        Region { start: 10.0, end: 14.0 },
        Region { start: 15.0, end: 20.0 },
        Region { start: 21.0, end: 27.0 },
    ];

    fn piece(start: f64, end: f64) -> Piece {
        Piece { start, end, first: 0, tokens: Vec::new() }
    }

    fn found(pieces: &[Piece], n_tokens: usize) -> Option<Skip> {
        first(pieces, 10.0, &SPEECH, |_| n_tokens)
    }

    #[test]
    fn a_text_too_short_for_its_speech_ends_at_the_pause_it_would_reach() {
        assert_eq!(found(&[piece(0.0, 17.0)], 12), Some(Skip { piece: 0, resume: 14.0 }));
        assert_eq!(
            first(&[piece(0.0, 4.0), piece(5.0, 17.0)], 10.0, &SPEECH, |_| 9),
            Some(Skip { piece: 1, resume: 20.0 })
        );
    }

    #[test]
    fn a_text_as_long_as_its_speech_is_left_alone() {
        assert_eq!(found(&[piece(0.0, 17.0)], 20), None);
        assert_eq!(found(&[piece(0.0, 4.0)], 1), None, "too little speech to tell");
    }

    #[test]
    fn speech_between_pieces_or_behind_them_is_a_gap() {
        let after = |times: &[(f64, f64)]| {
            let pieces: Vec<Piece> = times.iter().map(|&(start, end)| piece(start, end)).collect();
            gap(&pieces, Region::new(10.0, 27.5), &SPEECH)
        };
        assert_eq!(after(&[(0.0, 4.2), (4.8, 10.0), (11.0, 17.0)]), None);
        assert_eq!(after(&[(0.0, 4.2), (11.0, 17.0)]), Some(0));
        assert_eq!(after(&[(0.0, 4.2), (4.8, 10.0), (13.5, 17.0)]), Some(1));
        assert_eq!(after(&[(0.0, 4.2), (4.8, 10.0)]), Some(1), "nothing more is said");
        assert_eq!(after(&[(0.0, 3.5), (5.9, 16.0)]), None, "their times are not exact");
        assert_eq!(after(&[(4.8, 17.0)]), None, "before the first, where a window begins anew");
        assert_eq!(after(&[(0.0, 0.0), (15.0, 17.0)]), None);
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn speech_without_a_pause_is_not_cut() {
        assert_eq!(found(&[piece(11.0, 17.0)], 2), None);
        assert_eq!(first(&[piece(0.0, 30.0)], 0.0, &[Region::new(0.0, 30.0)], |_| 2), None);
        assert_eq!(first(&[piece(0.0, 30.0)], 0.0, &[], |_| 2), None);
    }
}
