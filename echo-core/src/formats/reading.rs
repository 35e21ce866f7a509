//! Cues that stay long enough to be read.
//!
//! A cue lasts as long as its words are said, which may be too short to read it; and a gap of a few
//! frames between two cues flickers. Both are mended at a cue's end, and only as far as the next cue
//! leaves room: [`CueOptions::max_chars_per_second`] and [`CueOptions::close_gaps_ms`].

use unicode_width::UnicodeWidthStr;

use super::clock::milliseconds;
use super::cues::{Cue, CueOptions, cues};
use crate::transcript::Transcript;

/// The cues of a transcript, in order.
pub(super) fn readable_cues<'a>(
    transcript: &'a Transcript,
    options: &'a CueOptions,
) -> impl Iterator<Item = Cue<'a>> {
    let all = transcript.segments.iter().flat_map(|segment| cues(segment, options));
    let mut all = all.peekable();
    let end = milliseconds(transcript.duration);
    std::iter::from_fn(move || {
        let mut cue = all.next()?;
        let next = all.peek().map(|next| next.start);
        stretch(&mut cue, next, end, options);
        Some(cue)
    })
}

/// Moves a cue's end, up to where the next cue starts, or the end of the source after the last.
fn stretch(cue: &mut Cue<'_>, next: Option<u64>, end: u64, options: &CueOptions) {
    let room = next.unwrap_or(end).max(cue.end);
    if let Some(most) = options.max_chars_per_second {
        let columns = |line: &Vec<super::cues::Span<'_>>| -> usize {
            line.iter().map(|span| span.text.width()).sum()
        };
        let columns: usize = cue.lines.iter().map(columns).sum();
        let needed_ms = (columns as u64 * 1000).div_ceil(most.max(1) as u64);
        cue.end = cue.end.max(cue.start.saturating_add(needed_ms).min(room));
    }
    if next.is_some() && room - cue.end <= options.close_gaps_ms {
        cue.end = room;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Segment;

    fn times(segments: &[(f64, f64, &str)], options: &CueOptions) -> Vec<(u64, u64)> {
        let mut transcript = Transcript::new(20.0);
        let segment = |&(start, end, text): &(f64, f64, &str)| Segment::new(start, end, text);
        transcript.segments = segments.iter().map(segment).collect();
        readable_cues(&transcript, options).map(|cue| (cue.start, cue.end)).collect()
    }

    #[test]
    fn nothing_moves_by_itself() {
        let segments = [(0.0, 0.1, "a long text in no time"), (0.2, 1.0, "b")];
        assert_eq!(times(&segments, &CueOptions::default()), [(0, 100), (200, 1000)]);
    }

    #[test]
    fn a_cue_stays_until_it_is_read_or_the_next_comes() {
        let options = CueOptions { max_chars_per_second: Some(10), ..CueOptions::default() };
        let segments = [
            (0.0, 0.1, "ten chars."),
            (5.0, 5.1, "ten chars."),
            (5.5, 9.0, "long"),
            (19.9, 19.95, "ten chars."),
        ];
        assert_eq!(
            times(&segments, &options),
            [(0, 1000), (5000, 5500), (5500, 9000), (19_900, 20_000)]
        );
    }

    #[test]
    fn short_gaps_are_closed_and_overlaps_left_alone() {
        let options = CueOptions { close_gaps_ms: 250, ..CueOptions::default() };
        let segments = [(0.0, 1.0, "a"), (1.2, 2.0, "b"), (2.3, 3.0, "c"), (2.5, 4.0, "d")];
        assert_eq!(
            times(&segments, &options),
            [(0, 1200), (1200, 2000), (2300, 3000), (2500, 4000)]
        );
    }
}
