//! Corrections of word times that attention is known to get wrong.
//!
//! A path gives every frame to some word, so that the words next to a pause grow into it. Words after
//! the end of a sentence and the first words after a long pause are cut to twice the median duration;
//! a segment's own timestamps are trusted where its first or last word runs half a second past them,
//! and otherwise move to its words. Source: `add_word_timestamps` in openai/whisper's timing.py.

use crate::transcript::Segment;

/// No median is believed to be longer than this, in seconds.
const MAX_MEDIAN: f64 = 0.7;

/// A word that runs past its segment's timestamp by more than this is cut, in seconds.
const TRUSTED: f64 = 0.5;

/// When a word is said, in seconds of the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) start: f64,
    pub(super) end: f64,
    /// Whether its text ends a sentence.
    pub(super) ends_sentence: bool,
}

impl Span {
    fn duration(&self) -> f64 {
        self.end - self.start
    }
}

/// Corrects the words of the segments of a window that begins at `start`, and moves the segments to
/// them. Nothing ends after `limit`.
pub(super) fn correct(segments: &mut [Segment], spans: &mut [Vec<Span>], start: f64, limit: f64) {
    for span in spans.iter_mut().flatten() {
        span.start = span.start.min(limit);
        span.end = span.end.min(limit);
    }
    let Some(median) = median_duration(spans) else { return };
    let longest = 2.0 * median;
    let mut after_sentence = false;
    for span in spans.iter_mut().flatten() {
        if after_sentence && span.duration() > longest {
            span.start = span.end - longest;
        }
        after_sentence = span.ends_sentence;
    }
    let mut last_speech = start;
    for (segment, spans) in segments.iter_mut().zip(spans) {
        if !spans.is_empty() {
            after_pause(spans, last_speech, median);
            settle(segment, spans, median);
            last_speech = segment.end;
        }
    }
}

/// Cuts the first words after a long pause.
fn after_pause(spans: &mut [Span], last_speech: f64, median: f64) {
    let longest = 2.0 * median;
    let (first, second) = match spans {
        [first, second, ..] => (first, Some(second)),
        [first] => (first, None),
        [] => return,
    };
    let both = second.as_ref().map_or(0.0, |second| second.end - first.start);
    if first.end - last_speech <= 4.0 * median
        || (first.duration() <= longest && both <= 2.0 * longest)
    {
        return;
    }
    if let Some(second) = second.filter(|second| second.duration() > longest) {
        let middle = f64::midpoint(first.start, second.end);
        let boundary = middle.max(second.end - longest);
        (first.end, second.start) = (boundary, boundary);
    }
    first.start = first.start.max(first.end - longest);
}

/// Lets a segment and its outer words agree.
fn settle(segment: &mut Segment, spans: &mut [Span], median: f64) {
    if let Some(first) = spans.first_mut() {
        if segment.start < first.end && segment.start - TRUSTED > first.start {
            first.start = segment.start.min(first.end - median).max(first.start);
        } else {
            segment.start = first.start;
        }
    }
    if let Some(last) = spans.last_mut() {
        if segment.end > last.start && segment.end + TRUSTED < last.end {
            last.end = segment.end.max(last.start + median).min(last.end);
        } else {
            segment.end = last.end;
        }
    }
    if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
        segment.start = segment.start.min(first.start);
        segment.end = segment.end.max(last.end).max(segment.start);
    }
}

/// The median of the words that take any time.
fn median_duration(spans: &[Vec<Span>]) -> Option<f64> {
    let durations = spans.iter().flatten().map(Span::duration);
    let mut durations: Vec<f64> = durations.filter(|duration| *duration > 0.0).collect();
    durations.sort_by(f64::total_cmp);
    let upper = *durations.get(durations.len() / 2)?;
    let lower = *durations.get((durations.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper).min(MAX_MEDIAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(times: &[(f64, f64)]) -> Vec<Span> {
        times.iter().map(|&(start, end)| Span { start, end, ends_sentence: false }).collect()
    }

    fn corrected(segment: (f64, f64), times: &[(f64, f64)]) -> (Segment, Vec<(f64, f64)>) {
        let mut segments = [Segment::new(segment.0, segment.1, "")];
        let mut all = [spans(times)];
        correct(&mut segments, &mut all, 0.0, 30.0);
        let [segment] = segments;
        (segment, all[0].iter().map(|span| (span.start, span.end)).collect())
    }

    #[test]
    fn a_segment_moves_to_its_words() {
        let (segment, times) = corrected((0.0, 3.0), &[(0.2, 0.5), (0.5, 0.8), (0.8, 1.1)]);
        assert_eq!((segment.start, segment.end), (0.2, 1.1));
        assert_eq!(times[0], (0.2, 0.5));
    }

    #[test]
    fn a_first_word_that_swallows_a_pause_is_cut() {
        let (segment, times) = corrected((5.0, 6.0), &[(0.0, 5.25), (5.25, 5.5), (5.5, 5.75)]);
        assert_eq!(times[0].0, 5.25 - 0.5);
        assert_eq!(segment.start, times[0].0);
    }

    #[test]
    fn a_last_word_far_beyond_its_segment_is_cut() {
        let (segment, times) = corrected((0.0, 1.0), &[(0.0, 0.3), (0.3, 0.6), (0.6, 4.0)]);
        assert_eq!(times[2], (0.6, 1.0));
        assert_eq!(segment.end, 1.0);
    }

    #[test]
    fn a_word_after_a_sentence_leaves_the_pause_alone() {
        let mut segments = [Segment::new(0.0, 4.0, "")];
        let mut all = [spans(&[(0.0, 0.3), (0.3, 3.3), (3.3, 3.6)])];
        all[0][0].ends_sentence = true;
        correct(&mut segments, &mut all, 0.0, 4.0);
        assert!((all[0][1].start - 2.7).abs() < 1e-9);
    }

    #[test]
    fn words_without_duration_change_nothing() {
        let (segment, times) = corrected((0.0, 1.0), &[(0.5, 0.5)]);
        assert_eq!((segment.start, segment.end, times[0]), (0.0, 1.0, (0.5, 0.5)));
        assert!(corrected((0.0, 1.0), &[]).1.is_empty());
    }
}
