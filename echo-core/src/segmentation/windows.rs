//! Windows laid over a recording, and what they say together.
//!
//! Windows of 10 s, or of 5 s for the network that only detects, start every `step` samples; the last one may reach beyond the end. Frames of the
//! recording are those of the first window, continued: window `w` begins at frame
//! `round(start / 16.875 ms)`, ties to even. Source: pyannote.audio `core/inference.py`.

use rayon::prelude::*;

use super::FRAME_STEP_SAMPLES;
use super::pyannet::{GROUP_WINDOWS, Group, Head, PyanNet};
use crate::error::Result;
use crate::threads::Threads;

/// Windows at regular distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Samples from one window's start to the next one's.
    pub(crate) step: usize,
    pub(crate) count: usize,
    /// What hears them.
    pub(crate) head: Head,
}

impl Windows {
    /// Windows that cover `samples`; none for no samples.
    ///
    /// # Panics
    /// If `step` is no multiple of 10 or longer than a window.
    pub(crate) fn over(samples: usize, step: usize, head: Head) -> Self {
        let window = head.window_samples();
        assert!(step > 0 && step.is_multiple_of(10) && step <= window, "a step");
        let count = match samples {
            0 => 0,
            _ => 1 + samples.saturating_sub(window).div_ceil(step),
        };
        Self { step, count, head }
    }

    /// The recording's frame that a window's first one is.
    pub(crate) fn first_frame(&self, window: usize) -> usize {
        nearest_frame(window * self.step)
    }

    /// Frames of the recording, up to the end of the last window.
    pub(crate) fn frames(&self) -> usize {
        match self.count {
            0 => 0,
            count => nearest_frame((count - 1) * self.step + self.head.window_samples()) + 1,
        }
    }

    /// Runs the network over all windows, several at once on `threads`; `keep` makes of what the head says of
    /// each window, `(589, 7)`, what is kept of it. `progress` hears from 0 to 1.
    ///
    /// # Errors
    /// Whatever `progress` answers.
    pub(crate) fn run<T: Send>(
        &self,
        network: &PyanNet,
        samples: &[f32],
        threads: &Threads,
        keep: impl Fn(&[f32]) -> T + Sync,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<T>> {
        let each = network.head.window_frames() * network.head.outputs();
        let count = threads.count();
        let group = self.count.div_ceil(count).clamp(1, GROUP_WINDOWS);
        let mut kept = Vec::with_capacity(self.count);
        while kept.len() < self.count {
            let first = kept.len();
            let end = self.count.min(first + group * count);
            let groups: Vec<usize> = (first..end).step_by(group).collect();
            let run = |window: usize| -> Vec<T> {
                let count = group.min(end - window);
                let start = window * self.step;
                let found = network.run(samples, Group { start, step: self.step, count });
                found.chunks_exact(each).map(&keep).collect()
            };
            let found: Vec<Vec<T>> = threads.run(|| groups.into_par_iter().map(run).collect());
            kept.extend(found.into_iter().flatten());
            progress(kept.len() as f64 / self.count as f64)?;
        }
        Ok(kept)
    }
}

/// The frame that starts nearest to a sample; between two the even one.
fn nearest_frame(sample: usize) -> usize {
    let (whole, rest) = (sample / FRAME_STEP_SAMPLES, sample % FRAME_STEP_SAMPLES);
    match (2 * rest).cmp(&FRAME_STEP_SAMPLES) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Equal => whole + whole % 2,
        std::cmp::Ordering::Greater => whole + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_sound_and_no_more() {
        let count = |samples: usize| Windows::over(samples, 16_000, Head::Powerset).count;
        let counts_of_5_s = |samples| Windows::over(samples, 48_000, Head::Speakers).count;
        assert_eq!([0, 80_000, 80_001, 128_000, 128_001].map(counts_of_5_s), [0, 1, 2, 2, 3]);
        let counts = [0, 1, 160_000, 160_001, 176_000, 176_001, 480_000].map(count);
        assert_eq!(counts, [0, 1, 1, 2, 2, 3, 21]);
    }

    #[test]
    fn a_window_starts_at_the_nearest_frame() {
        let windows = Windows::over(16_000_000, 16_000, Head::Powerset);
        // 59.26, 118.5 (16000 * 2 / 270 = 118.52), 177.8
        assert_eq!([0, 1, 2, 3].map(|window| windows.first_frame(window)), [0, 59, 119, 178]);
        // Half a frame on goes to the even one.
        assert_eq!([135, 405, 406].map(nearest_frame), [0, 2, 2]);
        // Three windows, 2 s to 12 s the last: 12 s are 711.1 frames.
        assert_eq!(Windows::over(190_000, 16_000, Head::Powerset).frames(), 712);
    }
}
