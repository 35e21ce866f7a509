//! Whether a window's text can be trusted, and which attempt is kept if none can.
//!
//! Text that repeats itself deflates too well; text the network is unsure of has a low mean log
//! probability. Either is tried again at the next temperature, unless the window is silent anyway.
//! Source: `generate_with_fallback` in faster-whisper's transcribe.py; openai/whisper differs only
//! in keeping the last attempt when all fail, where faster-whisper keeps the likeliest.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::Decoded;
use crate::options::DecodeOptions;

/// Whether the window should be tried again at the next temperature.
pub(super) fn needs_another_attempt(decoded: &Decoded, options: &DecodeOptions) -> bool {
    let is_unlikely =
        options.logprob_threshold.is_some_and(|threshold| decoded.avg_logprob < threshold);
    let may_be_silent =
        options.no_speech_threshold.is_some_and(|threshold| decoded.no_speech_prob > threshold);
    if is_unlikely && may_be_silent {
        return false;
    }
    is_repetitive(decoded, options) || is_unlikely
}

/// Whether nobody speaks in the window, whatever text was found.
pub(super) fn is_silent(decoded: &Decoded, options: &DecodeOptions) -> bool {
    let may_be_silent =
        options.no_speech_threshold.is_some_and(|threshold| decoded.no_speech_prob > threshold);
    // Text that the network is sure of outweighs the no-speech token.
    let is_likely =
        options.logprob_threshold.is_some_and(|threshold| decoded.avg_logprob > threshold);
    may_be_silent && !is_likely
}

fn is_repetitive(decoded: &Decoded, options: &DecodeOptions) -> bool {
    let threshold = options.compression_ratio_threshold;
    threshold.is_some_and(|threshold| decoded.compression_ratio > threshold)
}

/// The attempt that is kept when all failed: the likeliest of those that do not repeat themselves,
/// or of all.
pub(super) fn best_attempt(attempts: Vec<Decoded>, options: &DecodeOptions) -> Option<Decoded> {
    let any_varied = attempts.iter().any(|attempt| !is_repetitive(attempt, options));
    let mut best: Option<Decoded> = None;
    for attempt in attempts {
        let counts = !any_varied || !is_repetitive(&attempt, options);
        if counts && best.as_ref().is_none_or(|best| attempt.avg_logprob > best.avg_logprob) {
            best = Some(attempt);
        }
    }
    best
}

/// Bytes of the text over bytes of it deflated: high when it repeats itself.
pub(super) fn compression_ratio(text: &str) -> f32 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail; should it, no text looks repetitive.
    let deflated = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    deflated.map_or(0.0, |deflated| text.len() as f32 / deflated.len() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(avg_logprob: f32, compression_ratio: f32, no_speech_prob: f32) -> Decoded {
        Decoded { avg_logprob, compression_ratio, no_speech_prob, ..Decoded::default() }
    }

    #[test]
    fn repetitive_or_unlikely_text_is_tried_again() {
        let options = DecodeOptions::default();
        let again = |decoded: Decoded| needs_another_attempt(&decoded, &options);
        assert!(!again(decoded(-0.3, 1.5, 0.1)));
        assert!(again(decoded(-0.3, 2.5, 0.1)));
        assert!(again(decoded(-1.1, 1.5, 0.1)));
    }

    #[test]
    fn silence_is_not_tried_again() {
        let options = DecodeOptions::default();
        assert!(!needs_another_attempt(&decoded(-1.1, 9.0, 0.7), &options));
        // Sure text is not silence, however repetitive.
        assert!(needs_another_attempt(&decoded(-0.3, 9.0, 0.7), &options));
    }

    #[test]
    fn without_thresholds_everything_is_kept() {
        let options = DecodeOptions {
            compression_ratio_threshold: None,
            logprob_threshold: None,
            no_speech_threshold: None,
            ..DecodeOptions::default()
        };
        assert!(!needs_another_attempt(&decoded(-9.0, 9.0, 0.9), &options));
        assert!(!is_silent(&decoded(-9.0, 1.0, 0.9), &options));
    }

    #[test]
    fn silence_needs_both_signs() {
        let options = DecodeOptions::default();
        assert!(is_silent(&decoded(-1.1, 1.0, 0.7), &options));
        assert!(!is_silent(&decoded(-0.9, 1.0, 0.7), &options));
        assert!(!is_silent(&decoded(-1.1, 1.0, 0.5), &options));
        let options = DecodeOptions { logprob_threshold: None, ..options };
        assert!(is_silent(&decoded(-0.1, 1.0, 0.7), &options));
    }

    #[test]
    fn when_all_fail_the_likeliest_varied_attempt_is_kept() {
        let options = DecodeOptions::default();
        let best = |attempts: &[(f32, f32)]| {
            let attempts = attempts.iter().map(|&(logprob, ratio)| decoded(logprob, ratio, 0.1));
            best_attempt(attempts.collect(), &options).unwrap().avg_logprob
        };
        assert_eq!(best(&[(-0.2, 8.0), (-1.5, 1.4), (-1.3, 1.4), (-1.4, 1.0)]), -1.3);
        assert_eq!(best(&[(-0.4, 8.0), (-0.2, 9.0)]), -0.2);
        assert_eq!(best_attempt(Vec::new(), &options), None);
    }

    #[test]
    fn repetition_deflates_well() {
        assert_eq!(compression_ratio(""), 0.0);
        // Python: len(text) / len(zlib.compress(text)) is 20 / 28 and 420 / 34.
        let text = "Thanks for watching! ";
        assert!((compression_ratio(text.trim()) - 20.0 / 28.0).abs() < 0.01);
        assert!((compression_ratio(&text.repeat(20)) - 420.0 / 34.0).abs() < 1.0);
    }
}
