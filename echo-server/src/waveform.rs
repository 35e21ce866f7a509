//! How loud a recording is over its time, small enough to be drawn.
//!
//! The worker that has the samples anyway takes the greatest amplitude of each of up to [`MAX_POINTS`]
//! equal stretches, as 0 to 127. It is kept beside the sound, so that nobody decodes hours of it to draw
//! a line, and thinned out to as many points as are asked for.

use serde::{Deserialize, Serialize};

/// Points that are kept of a recording.
pub const MAX_POINTS: usize = 4000;
/// Points unless another number is asked for.
pub const DEFAULT_POINTS: usize = 2000;
/// Full scale.
const TOP: f32 = 127.0;

/// The amplitudes of a recording, in order of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waveform {
    /// How many there are.
    pub points: usize,
    /// The length of the recording in seconds.
    pub duration: f64,
    /// The amplitudes, 0 to 127.
    pub peaks: Vec<u8>,
}

impl Waveform {
    /// Of samples from -1 to 1.
    pub fn of(samples: &[f32], duration: f64) -> Self {
        let points = MAX_POINTS.min(samples.len());
        let loudest = |part: &[f32]| part.iter().fold(0.0_f32, |most, one| most.max(one.abs()));
        let to_byte = |peak: f32| (peak.min(1.0) * TOP).round() as u8;
        let peaks = parts(samples, points).map(|part| to_byte(loudest(part))).collect();
        Self { points, duration, peaks }
    }

    /// Whether it is one, whoever says so.
    pub fn fits(&self) -> bool {
        self.points == self.peaks.len()
            && self.points <= MAX_POINTS
            && self.peaks.iter().all(|peak| f32::from(*peak) <= TOP)
            && self.duration.is_finite()
            && self.duration >= 0.0
    }

    /// The same with at most so many points.
    pub fn thinned(&self, points: usize) -> Self {
        let points = points.min(self.peaks.len());
        let loudest = |part: &[u8]| part.iter().copied().max().unwrap_or(0);
        let peaks = parts(&self.peaks, points).map(loudest).collect();
        Self { points, duration: self.duration, peaks }
    }
}

/// So many parts of a slice that has as many items or more, as long as each other but for one item.
fn parts<T>(all: &[T], count: usize) -> impl Iterator<Item = &[T]> {
    let bound = move |part: usize| part * all.len() / count.max(1);
    (0..count).map(move |part| &all[bound(part)..bound(part + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_has_its_greatest_amplitude() {
        let mut samples = vec![0.0; 16_000];
        samples[8_000] = -1.0;
        samples[15_999] = 0.5;
        let waveform = Waveform::of(&samples, 1.0);
        assert_eq!((waveform.points, waveform.peaks.len()), (MAX_POINTS, MAX_POINTS));
        assert_eq!((waveform.peaks[2000], waveform.peaks[MAX_POINTS - 1]), (127, 64));
        assert_eq!(waveform.peaks.iter().filter(|peak| **peak > 0).count(), 2);
        assert_eq!(waveform.thinned(3).peaks, [0, 127, 64]);
        assert_eq!(waveform.thinned(MAX_POINTS + 1), waveform);
    }

    #[test]
    fn a_recording_shorter_than_its_line_has_a_point_for_each_sample() {
        assert_eq!(Waveform::of(&[0.5, -0.25], 0.1).peaks, [64, 32]);
        assert!(Waveform::of(&[], 0.0).thinned(10).peaks.is_empty());
    }
}
