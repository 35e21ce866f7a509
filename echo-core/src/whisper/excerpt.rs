//! What of a source one window hears: a stretch of it without the middles of its long silences.
//!
//! The recogniser has nothing from silence but its fancies, and time is spent on it. A short pause
//! is left where a long one was, so that sentences stay apart; what is said before and behind it is
//! still heard together, which a window for each would not do. Times of the window are brought back
//! to those of the source. faster-whisper's batches join their speech in the same way.

use crate::timeline::Region;

const SAMPLE_RATE_HZ: f64 = 16_000.0;

/// What is left of a silence at its start and at its end, in seconds: words end more softly than they
/// begin.
const AFTER_SECONDS: f64 = 0.25;
const BEFORE_SECONDS: f64 = 0.2;

/// Seconds are not exact; this is far below a sample.
const ROUNDING_SECONDS: f64 = 1e-6;

/// What of a source one window hears.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Excerpt {
    /// In order and apart; never empty.
    parts: Vec<Region>,
}

impl Excerpt {
    /// All of a stretch.
    pub(crate) fn whole(span: Region) -> Self {
        Self { parts: vec![span] }
    }

    /// A stretch of a source without the silences between `sounds`, which come in order and are
    /// farther apart than what is left of a silence.
    pub(crate) fn new(span: Region, sounds: &[Region]) -> Self {
        let from = sounds.partition_point(|sound| sound.end <= span.start);
        let inside = sounds[from..].iter().take_while(|sound| sound.start < span.end);
        let mut parts = Vec::new();
        let (mut start, mut last) = (span.start, None);
        for sound in inside {
            if let Some(silence) = last.replace(sound.end) {
                parts.push(Region::new(start, silence + AFTER_SECONDS));
                start = sound.start - BEFORE_SECONDS;
            }
        }
        parts.push(Region::new(start, span.end));
        Self { parts }
    }

    /// What it is made of, in order and apart.
    pub(crate) fn parts(&self) -> &[Region] {
        &self.parts
    }

    /// From its first moment to its last one, in the source.
    pub(crate) fn span(&self) -> Region {
        let (first, last) = (self.parts[0], self.parts[self.parts.len() - 1]);
        Region::new(first.start, last.end)
    }

    /// Seconds that are heard.
    pub(crate) fn duration(&self) -> f64 {
        self.parts.iter().map(Region::duration).sum()
    }

    /// Those of all samples of the source that are heard.
    pub(crate) fn samples(&self, source: &[f32]) -> Vec<f32> {
        let at = |seconds: f64| ((seconds * SAMPLE_RATE_HZ).round() as usize).min(source.len());
        let sound = self.parts.iter().map(|part| &source[at(part.start)..at(part.end)]);
        sound.collect::<Vec<_>>().concat()
    }

    /// The moment of the source at which begins what begins `seconds` into the window.
    pub(crate) fn begin(&self, seconds: f64) -> f64 {
        self.moment(seconds, |seconds, duration| seconds < duration - ROUNDING_SECONDS)
    }

    /// The moment of the source at which ends what ends `seconds` into the window.
    pub(crate) fn end(&self, seconds: f64) -> f64 {
        self.moment(seconds, |seconds, duration| seconds <= duration + ROUNDING_SECONDS)
    }

    fn moment(&self, mut seconds: f64, is_inside: impl Fn(f64, f64) -> bool) -> f64 {
        let (last, others) = self.parts.split_last().expect("an excerpt has a part");
        for part in others {
            if is_inside(seconds, part.duration()) {
                return part.start + seconds;
            }
            seconds -= part.duration();
        }
        last.start + seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt() -> Excerpt {
        let sounds = [(0.0, 9.0), (11.0, 14.0), (15.0, 18.0), (22.0, 30.0), (40.0, 50.0)];
        let sounds: Vec<Region> = sounds.map(|(start, end)| Region::new(start, end)).into();
        Excerpt::new(Region::new(10.0, 24.0), &sounds)
    }

    #[test]
    fn long_silences_lose_their_middles() {
        let parts: Vec<(f64, f64)> = excerpt().parts().iter().map(|p| (p.start, p.end)).collect();
        assert_eq!(parts, [(10.0, 14.25), (14.8, 18.25), (21.8, 24.0)]);
        assert_eq!(excerpt().span(), Region::new(10.0, 24.0));
        assert!((excerpt().duration() - 9.9).abs() < 1e-9);
        let source: Vec<f32> = (0..400_000).map(|at| at as f32).collect();
        let samples = excerpt().samples(&source);
        assert_eq!(samples.len(), 158_400);
        assert_eq!(
            [samples[0], samples[67_999], samples[68_000]],
            [160_000.0, 227_999.0, 236_800.0]
        );
        assert_eq!(
            excerpt().samples(&source[..200_000]).len(),
            40_000,
            "no further than the source"
        );
    }

    #[test]
    fn without_sounds_between_it_is_all_of_the_stretch() {
        let span = Region::new(1.0, 5.0);
        assert_eq!(Excerpt::new(span, &[]), Excerpt::whole(span));
        assert_eq!(Excerpt::new(span, &[Region::new(2.0, 3.0)]), Excerpt::whole(span));
        assert_eq!(Excerpt::new(span, &[Region::new(6.0, 7.0)]), Excerpt::whole(span));
    }

    #[test]
    fn moments_come_back_to_the_source() {
        let excerpt = excerpt();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        near(excerpt.begin(0.0), 10.0);
        near(excerpt.begin(4.0), 14.0);
        near(excerpt.end(4.24), 14.24);
        near(excerpt.begin(4.26), 14.81);
        near(excerpt.end(9.9), 24.0);
        near(excerpt.end(10.9), 25.0);
        // A join is where one thing ends and another one begins.
        let halves = Excerpt { parts: vec![Region::new(0.0, 1.0), Region::new(3.0, 4.0)] };
        assert_eq!((halves.end(1.0), halves.begin(1.0)), (1.0, 3.0));
    }
}
