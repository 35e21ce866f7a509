//! From probabilities to regions of speech.
//!
//! The rules are Silero's `get_speech_timestamps` (6.2), with faster-whisper's defaults: speech opens
//! at `onset`, closes at the first frame below `offset` once that has lasted `min_silence_ms`, is
//! kept if longer than `min_speech_ms`. [`regions`], for the recogniser, are where speech is and no more:
//! [`super::chunks`] pads what it hears. [`marked`] regions are for people: padded, and never
//! cut. [`sounds`] are all but long and sure silences.
//!
//! Speech too long for a chunk is cut by a rule of its own: at the deepest pause in the second half of
//! what fits, where depth is how far probability stays below `onset`, summed over the pause. Only where
//! there is no pause of 100 ms is it cut at its least probable frame.

use std::ops::Range;

use super::{Probabilities, SAMPLE_RATE_HZ, chunks};
use crate::options::VadOptions;
use crate::timeline::Region;

/// Below this probability, silence is sure: what is quiet or far away is above it.
const SURE_SILENCE: f32 = 0.07;

/// Silence of this length inside a chunk is worth leaving out, in milliseconds.
const LONG_SILENCE_MS: u32 = 1000;

/// What counts as a pause to cut at: 3 frames, 96 ms.
const MIN_PAUSE_MS: usize = 96;

/// Regions of speech in a source of `samples` samples, in order and apart, none longer than what
/// fits a chunk.
pub(crate) fn regions(
    probabilities: &Probabilities,
    samples: usize,
    options: &VadOptions,
) -> Vec<Region> {
    let frame = probabilities.frame_samples;
    let room_seconds = options.max_chunk_seconds - 2.0 * chunks::pad_seconds(options);
    let most_frames = (room_seconds * SAMPLE_RATE_HZ as f64) as usize / frame;

    let mut speech: Vec<Range<usize>> = Vec::new();
    for stretch in stretches(probabilities, samples, options) {
        cut(&probabilities.values, stretch, most_frames, frame, options.onset, &mut speech);
    }
    long_enough(speech, frame, samples, options)
}

/// All of a source but the silences of a second and more that are sure, in order and apart.
pub(crate) fn sounds(probabilities: &Probabilities, samples: usize) -> Vec<Region> {
    let options = VadOptions {
        onset: SURE_SILENCE,
        offset: SURE_SILENCE,
        min_speech_ms: 0,
        min_silence_ms: LONG_SILENCE_MS,
        ..VadOptions::default()
    };
    let stretches = stretches(probabilities, samples, &options);
    long_enough(stretches, probabilities.frame_samples, samples, &options)
}

/// Regions of speech as people mark them, in order and apart: padded by `pad_ms`, merged where that
/// makes them touch, as long as they are.
pub(crate) fn marked(
    probabilities: &Probabilities,
    samples: usize,
    options: &VadOptions,
) -> Vec<Region> {
    let speech = stretches(probabilities, samples, options);
    let pad = f64::from(options.pad_ms) / 1000.0;
    let end = samples as f64 / SAMPLE_RATE_HZ as f64;
    let mut marked: Vec<Region> = Vec::new();
    for region in long_enough(speech, probabilities.frame_samples, samples, options) {
        let region = Region::new((region.start - pad).max(0.0), (region.end + pad).min(end));
        match marked.last_mut() {
            // Less than a sample apart is rounding.
            Some(last) if region.start <= last.end + 1e-5 => last.end = region.end,
            _ => marked.push(region),
        }
    }
    marked
}

/// Speech in seconds, without what is too short to be kept.
fn long_enough(
    speech: Vec<Range<usize>>,
    frame: usize,
    samples: usize,
    options: &VadOptions,
) -> Vec<Region> {
    let seconds = |sample: usize| sample as f64 / SAMPLE_RATE_HZ as f64;
    speech
        .iter()
        .map(|frames| frames.start * frame..samples.min(frames.end * frame))
        .filter(|span| span.len() > samples_of(options.min_speech_ms))
        .map(|span| Region::new(seconds(span.start), seconds(span.end)))
        .collect()
}

/// Stretches of speech by hysteresis, in frames.
fn stretches(
    probabilities: &Probabilities,
    samples: usize,
    options: &VadOptions,
) -> Vec<Range<usize>> {
    let frame = probabilities.frame_samples;
    let min_silence = samples_of(options.min_silence_ms);
    let mut stretches = Vec::new();
    let mut start = None;
    let mut quiet_since = None;
    for (at, &probability) in probabilities.values.iter().enumerate() {
        if probability >= options.onset {
            quiet_since = None;
            start = start.or(Some(at));
        } else if let Some(opened) = start
            && probability < options.offset
        {
            // What lies between the two thresholds neither begins a silence nor ends one.
            let since = *quiet_since.get_or_insert(at);
            if (at - since) * frame >= min_silence {
                stretches.push(opened..since);
                (start, quiet_since) = (None, None);
            }
        }
    }
    stretches.extend(start.map(|opened| opened..samples.div_ceil(frame)));
    stretches
}

/// Adds `stretch` to `out`, in pieces of at most `most_frames`.
fn cut(
    probabilities: &[f32],
    stretch: Range<usize>,
    most_frames: usize,
    frame_samples: usize,
    onset: f32,
    out: &mut Vec<Range<usize>>,
) {
    let mut start = stretch.start;
    while stretch.end - start > most_frames.max(1) {
        let reach = start + most_frames / 2..start + most_frames;
        let pause = deepest_pause(probabilities, reach.clone(), frame_samples, onset);
        let pause = pause.unwrap_or_else(|| {
            let least = least_probable(probabilities, reach);
            least..least
        });
        // At least one frame further, so that it ends.
        let end = pause.start.max(start + 1);
        out.push(start..end);
        start = pause.end.max(end);
    }
    if start < stretch.end {
        out.push(start..stretch.end);
    }
}

/// The run of frames below `onset`, at least [`MIN_PAUSE_MS`] long, with the greatest depth.
fn deepest_pause(
    probabilities: &[f32],
    reach: Range<usize>,
    frame_samples: usize,
    onset: f32,
) -> Option<Range<usize>> {
    let min_frames = samples_of(MIN_PAUSE_MS as u32).div_ceil(frame_samples);
    let mut best: Option<(f32, Range<usize>)> = None;
    let mut at = reach.start;
    while at < reach.end {
        let run = probabilities[at..reach.end].iter().take_while(|p| **p < onset);
        let (frames, depth) =
            run.fold((0, 0.0), |(frames, depth), p| (frames + 1, depth + (onset - p)));
        // The later of two equals: fewer pieces.
        if frames >= min_frames && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, at..at + frames));
        }
        at += frames + 1;
    }
    best.map(|(_, run)| run)
}

/// The frame with the lowest probability, the last of several.
fn least_probable(probabilities: &[f32], reach: Range<usize>) -> usize {
    let mut least = reach.end;
    let mut lowest = f32::INFINITY;
    for at in reach {
        if probabilities[at] <= lowest {
            (least, lowest) = (at, probabilities[at]);
        }
    }
    least
}

fn samples_of(milliseconds: u32) -> usize {
    milliseconds as usize * (SAMPLE_RATE_HZ / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 512;

    /// Regions in frames, of frames with the given probabilities repeated.
    fn found(runs: &[(f32, usize)], options: &VadOptions) -> Vec<(f64, f64)> {
        let values: Vec<f32> =
            runs.iter().flat_map(|&(value, frames)| std::iter::repeat_n(value, frames)).collect();
        let samples = values.len() * FRAME;
        let probabilities = Probabilities { frame_samples: FRAME, values };
        let in_frames = |seconds: f64| seconds * SAMPLE_RATE_HZ as f64 / FRAME as f64;
        regions(&probabilities, samples, options)
            .iter()
            .map(|region| (in_frames(region.start), in_frames(region.end)))
            .collect()
    }

    fn bare() -> VadOptions {
        VadOptions { pad_ms: 0, ..VadOptions::default() }
    }

    #[test]
    fn only_long_and_sure_silence_is_no_sound() {
        let runs = [(0.01, 9), (0.3, 5), (0.06, 33), (0.9, 4), (0.01, 20), (0.9, 4), (0.08, 99)];
        let values: Vec<f32> =
            runs.iter().flat_map(|&(value, frames)| std::iter::repeat_n(value, frames)).collect();
        let samples = values.len() * FRAME;
        let found = sounds(&Probabilities { frame_samples: FRAME, values }, samples);
        let frames = found.iter().map(|sound| sound.start / 0.032..sound.end / 0.032);
        let frames: Vec<_> = frames.map(|f| f.start.round() as u32..f.end.round() as u32).collect();
        assert_eq!(frames, [9..14, 47..174]);
    }

    #[test]
    fn speech_opens_at_the_onset_and_closes_below_the_offset() {
        let runs = [(0.1, 10), (0.49, 5), (0.5, 3), (0.4, 20), (0.9, 2), (0.1, 10), (0.4, 9)];
        assert_eq!(found(&runs, &bare()), [(15.0, 40.0)]);
    }

    #[test]
    fn a_short_pause_does_not_part_and_a_long_one_does() {
        // 160 ms are 5 frames; the frame that completes them closes the region.
        assert_eq!(found(&[(0.9, 9), (0.1, 5), (0.9, 9)], &bare()), [(0.0, 23.0)]);
        assert_eq!(found(&[(0.9, 9), (0.1, 6), (0.9, 9)], &bare()), [(0.0, 9.0), (15.0, 24.0)]);
    }

    #[test]
    fn short_speech_is_dropped() {
        let mut options = bare();
        options.min_speech_ms = 100;
        let runs = [(0.9, 3), (0.1, 20), (0.9, 4), (0.1, 20)];
        assert_eq!(found(&runs, &options), [(23.0, 27.0)]);
    }

    #[test]
    fn long_speech_is_cut_at_its_deepest_pause() {
        let mut options = bare();
        options.max_chunk_seconds = 3.2; // 100 frames
        let runs = [
            (0.9, 30),
            (0.36, 4),
            (0.9, 26),
            (0.3, 4),
            (0.9, 16),
            (0.0, 2),
            (0.9, 8),
            (0.36, 4),
            (0.9, 60),
        ];
        // Within reach (frames 50 to 100): 4 frames at 0.3; two at 0 are too short; the others shallower.
        assert_eq!(found(&runs, &options), [(0.0, 60.0), (64.0, 154.0)]);
    }

    #[test]
    fn speech_without_a_pause_is_cut_where_it_is_least_sure() {
        let mut options = bare();
        options.max_chunk_seconds = 3.2;
        let runs = [(0.9, 70), (0.6, 1), (0.9, 70)];
        assert_eq!(found(&runs, &options), [(0.0, 70.0), (70.0, 141.0)]);
    }

    #[test]
    fn nothing_is_longer_than_a_chunk_with_its_padding() {
        for pad_ms in [0, 400, 3000, u32::MAX] {
            for max_chunk_seconds in [1.0, 7.7, 30.0] {
                let options = VadOptions { pad_ms, max_chunk_seconds, ..VadOptions::default() };
                let values = (0..9000).map(|at| 0.75 + 0.25 * (at as f32 * 0.7).sin()).collect();
                let probabilities = Probabilities { frame_samples: FRAME, values };
                let regions = regions(&probabilities, 9000 * FRAME - 100, &options);
                let room = max_chunk_seconds - 2.0 * chunks::pad_seconds(&options);
                assert!(regions.iter().all(|r| r.duration() <= room + 1e-9));
                assert!(regions.windows(2).all(|pair| pair[0].end <= pair[1].start));
                assert!(regions[regions.len() - 1].end <= (9000 * FRAME) as f64 / 16_000.0);
            }
        }
    }

    #[test]
    fn marked_regions_are_padded_merged_and_never_cut() {
        // Speech for 40 s, a pause of 0.96 s, 0.32 s of speech, 3.2 s of silence, speech to the end.
        let runs = [(0.0, 10), (0.9, 1250), (0.0, 30), (0.9, 10), (0.0, 100), (0.9, 20)];
        let values: Vec<f32> =
            runs.iter().flat_map(|&(value, frames)| std::iter::repeat_n(value, frames)).collect();
        let samples = values.len() * FRAME - 7;
        let probabilities = Probabilities { frame_samples: FRAME, values };
        let of = |pad_ms: u32| {
            let options = VadOptions { pad_ms, ..VadOptions::default() };
            let regions = marked(&probabilities, samples, &options);
            regions.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>()
        };
        let end = samples as f64 / 16_000.0;
        assert_eq!(of(0), [(0.32, 40.32), (41.28, 41.6), (44.8, end)]);
        assert_eq!(of(480), [(0.0, 42.08), (44.32, end)], "merged where they touch");
        assert_eq!(of(u32::MAX), [(0.0, end)]);
    }

    #[test]
    fn silence_and_nothing_have_no_regions() {
        assert!(found(&[(0.0, 1000)], &VadOptions::default()).is_empty());
        assert!(found(&[], &VadOptions::default()).is_empty());
    }
}
