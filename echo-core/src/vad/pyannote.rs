//! Voice activity by pyannote's segmentation-3.0: whether anybody speaks.
//!
//! Windows of 10 s every 5 s are weighted by a Hamming window and averaged (pyannote.audio
//! `core/inference.py`): what a window says near its ends counts little. A frame of the network is
//! 16.875 ms and hears 62 ms around its middle, so that its first middle lies in the second frame of
//! the recording.

use std::f32::consts::TAU;
use std::sync::Arc;

use super::{Probabilities, Vad};
use crate::error::Result;
use crate::segmentation::pyannet::PyanNet;
use crate::segmentation::windows::Windows;
use crate::segmentation::{CLASSES, FRAME_STEP_SAMPLES, WINDOW_FRAMES, powerset};
use crate::threads::Threads;

/// From one window to the next: 5 s, which loses nothing measurable against 1 s.
const STEP_SAMPLES: usize = 80_000;

/// The network as a detector of speech.
#[derive(Debug)]
pub(crate) struct Pyannote {
    network: Arc<PyanNet>,
    threads: Threads,
}

impl Pyannote {
    /// The network, computing on these threads.
    pub(crate) fn new(network: Arc<PyanNet>, threads: &Threads) -> Self {
        Self { network, threads: threads.clone() }
    }
}

impl Vad for Pyannote {
    fn probabilities(
        &self,
        samples: &[f32],
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Probabilities> {
        let windows = Windows::over(samples.len(), STEP_SAMPLES);
        let speech = |log_probabilities: &[f32]| -> Vec<f32> {
            log_probabilities.chunks_exact(CLASSES).map(powerset::speech).collect()
        };
        let found = windows.run(&self.network, samples, &self.threads, speech, progress)?;
        let weight =
            |frame: usize| 0.54 - 0.46 * (TAU * frame as f32 / (WINDOW_FRAMES - 1) as f32).cos();
        let mut sums = vec![(0.0f32, 0.0f32); windows.frames()];
        for (window, speech) in found.iter().enumerate() {
            let frames = sums[windows.first_frame(window)..].iter_mut().zip(speech);
            for (frame, ((sum, weights), speech)) in frames.enumerate() {
                *sum += weight(frame) * speech;
                *weights += weight(frame);
            }
        }
        let mean = |&(sum, weights): &(f32, f32)| if weights > 0.0 { sum / weights } else { 0.0 };
        let count = samples.len().div_ceil(FRAME_STEP_SAMPLES);
        let shifted = sums.first().into_iter().chain(&sums).map(mean);
        let mut values: Vec<f32> = shifted.take(count).collect();
        values.resize(count, 0.0);
        Ok(Probabilities { frame_samples: FRAME_STEP_SAMPLES, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::VadOptions;
    use crate::segmentation::testing::{sample, weights};
    use crate::vad::speech_regions;

    #[test]
    fn speech_of_the_sample_is_found_and_silence_is_not() {
        let (Some(sample), Some(weights)) = (sample(), weights("segmentation-3.0")) else { return };
        let vad =
            Pyannote::new(Arc::new(PyanNet::load(weights.as_ref()).unwrap()), &Threads::default());
        let options = VadOptions { pad_ms: 0, ..VadOptions::default() };
        let regions = speech_regions(&vad, &sample, &options, &mut |_| Ok(())).unwrap();
        // The reference annotation begins at 6.69 s and speaks to the end but for 0.5 s.
        assert!((regions[0].start - 6.7).abs() < 0.1, "{regions:?}");
        let total: f64 = regions.iter().map(|region| region.duration()).sum();
        assert!((21.0..23.5).contains(&total), "{total}");

        let silence = speech_regions(&vad, &[0.0; 48_000], &options, &mut |_| Ok(())).unwrap();
        assert!(silence.is_empty(), "{silence:?}");
        assert!(speech_regions(&vad, &[], &options, &mut |_| Ok(())).unwrap().is_empty());
        assert!(speech_regions(&vad, &[0.1; 99], &options, &mut |_| Ok(())).is_ok());
    }
}
