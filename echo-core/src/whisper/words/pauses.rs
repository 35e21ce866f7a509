//! Word boundaries moved to the pauses that can be heard.
//!
//! Attention tells which word is said, and only roughly when: it lags behind onsets, and a path gives a
//! pause to one of the words beside it. Where the sound is quiet for a moment near the boundary of two
//! words, the first ends where the quiet begins, and the second begins where it ends. What is quiet is
//! told by the loudness of the window itself, in frames of 10 ms.

use std::ops::Range;

use super::rules::Span;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// Samples of a frame of loudness.
const FRAME_SAMPLES: usize = 160;

/// Shorter moments are the closure of a consonant, in frames.
const MIN_QUIET_FRAMES: usize = 8;

/// How far from a boundary a moment of quiet may lie, in seconds: attention is seldom further off.
const REACH: f64 = 0.25;

/// A word keeps at least this of its time, in seconds.
const MIN_WORD: f64 = 0.06;

/// Loud and quiet differ by at least this, or there is no telling, in decibels.
const MIN_RANGE_DB: f32 = 20.0;

/// Moments of quiet in `samples`, in order, in seconds from `offset`.
pub(super) fn quiet_moments(samples: &[f32], offset: f64) -> Vec<Range<f64>> {
    let decibels = |frame: &[f32]| {
        let power = frame.iter().map(|sample| sample * sample).sum::<f32>() / frame.len() as f32;
        10.0 * (power + 1e-10).log10()
    };
    let loudness: Vec<f32> = samples.chunks_exact(FRAME_SAMPLES).map(decibels).collect();
    let mut sorted = loudness.clone();
    sorted.sort_by(f32::total_cmp);
    let percentile = |share: usize| sorted.get(sorted.len() * share / 100).copied();
    let (Some(quiet), Some(loud)) = (percentile(10), percentile(90)) else { return Vec::new() };
    if loud - quiet < MIN_RANGE_DB {
        return Vec::new();
    }
    // A third of the way up; a voice's own weak sounds are within 20 dB of its vowels.
    let threshold = (quiet + 0.35 * (loud - quiet)).min(loud - MIN_RANGE_DB);
    let mut moments = Vec::new();
    let mut start = 0;
    for frame in 0..=loudness.len() {
        if loudness.get(frame).is_some_and(|&loudness| loudness < threshold) {
            continue;
        }
        if frame - start >= MIN_QUIET_FRAMES {
            let seconds = |frame: usize| offset + (frame * FRAME_SAMPLES) as f64 / SAMPLE_RATE_HZ;
            moments.push(seconds(start)..seconds(frame));
        }
        start = frame + 1;
    }
    moments
}

/// Moves the boundaries of words, in order, to moments of quiet near them.
pub(super) fn snap(spans: &mut [&mut Span], quiet: &[Range<f64>]) {
    for index in 0..=spans.len() {
        let (before, after) = spans.split_at_mut(index);
        let (before, after) = (before.last_mut(), after.first_mut());
        let (left, right) = match (&before, &after) {
            (Some(before), Some(after)) => (before.end, after.start),
            (None, Some(after)) => (after.start, after.start),
            (Some(before), None) => (before.end, before.end),
            (None, None) => return,
        };
        // Where the words beside it leave room.
        let floor = before.as_ref().map_or(f64::NEG_INFINITY, |before| before.start + MIN_WORD);
        let ceiling = after.as_ref().map_or(f64::INFINITY, |after| after.end - MIN_WORD);
        let reach = (left - REACH).max(floor)..(right + REACH).min(ceiling);
        let near = |moment: &&Range<f64>| moment.start < reach.end && moment.end > reach.start;
        let from = quiet.partition_point(|moment| moment.end <= reach.start);
        let moments = quiet.get(from..).unwrap_or_default().iter();
        let moments = moments.take_while(|moment| moment.start < reach.end).filter(near);
        let longest = moments.max_by(|a, b| (a.end - a.start).total_cmp(&(b.end - b.start)));
        let Some(moment) = longest else { continue };
        if let Some(before) = before
            && moment.start >= floor
        {
            before.end = moment.start;
        }
        if let Some(after) = after
            && moment.end <= ceiling
        {
            after.start = moment.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of some loudness for some time, `(amplitude, seconds)` after each other.
    fn sound(parts: &[(f32, f64)]) -> Vec<f32> {
        let mut samples = Vec::new();
        for &(amplitude, seconds) in parts {
            let n = (seconds * SAMPLE_RATE_HZ) as usize;
            samples.extend((0..n).map(|at| amplitude * ((at * 7919 % 101) as f32 / 50.0 - 1.0)));
        }
        samples
    }

    fn snapped(times: &[(f64, f64)], quiet: &[Range<f64>]) -> Vec<(f64, f64)> {
        let span = |&(start, end): &(f64, f64)| Span { start, end, ends_sentence: false };
        let mut spans: Vec<Span> = times.iter().map(span).collect();
        snap(&mut spans.iter_mut().collect::<Vec<_>>(), quiet);
        spans.into_iter().map(|span| (span.start, span.end)).collect()
    }

    #[test]
    fn quiet_is_found_between_words_and_not_in_noise() {
        let samples = sound(&[(0.3, 0.5), (0.001, 0.2), (0.3, 0.5), (0.001, 0.03), (0.3, 0.27)]);
        assert_eq!(quiet_moments(&samples, 10.0), [10.5..10.7]);
        assert!(quiet_moments(&sound(&[(0.1, 0.5), (0.05, 0.2)]), 0.0).is_empty());
        assert!(quiet_moments(&[], 0.0).is_empty());
        assert!(quiet_moments(&[f32::NAN; 1600], 0.0).is_empty());
    }

    #[test]
    fn a_boundary_moves_to_the_pause_beside_it() {
        // The pause was given to the second word, then to the first, then lies in neither's middle.
        assert_eq!(snapped(&[(0.0, 1.0), (1.0, 2.0)], &[1.05..1.3]), [(0.0, 1.05), (1.3, 2.0)]);
        assert_eq!(snapped(&[(0.0, 1.0), (1.0, 2.0)], &[0.8..0.95]), [(0.0, 0.8), (0.95, 2.0)]);
        assert_eq!(snapped(&[(0.0, 1.0), (1.0, 2.0)], &[0.3..0.6]), [(0.0, 1.0), (1.0, 2.0)]);
    }

    #[test]
    fn outer_words_end_with_their_sound() {
        let quiet = [0.0..0.2, 1.1..5.0];
        assert_eq!(snapped(&[(0.1, 0.5), (0.5, 1.3)], &quiet), [(0.2, 0.5), (0.5, 1.1)]);
    }

    #[test]
    fn no_word_is_eaten_up() {
        assert_eq!(snapped(&[(0.0, 0.1), (0.1, 0.2)], &[0.02..0.18]), [(0.0, 0.1), (0.1, 0.2)]);
        assert!(snapped(&[], &[0.0..1.0]).is_empty());
    }
}
