//! Voice activity by the segmentation network that WhisperX detects speech with: whether anybody
//! of three local speakers is heard.
//!
//! Windows of 5 s every 3 s, averaged where they overlap. WhisperX lays one every 0.5 s and weights
//! them by a Hamming window, which takes five times as long and is no better. The network was trained to
//! mark speech as people do and errs less than segmentation-3.0 here (7.6 and 9.2 % of the time on
//! the recordings of the README). A frame of the network is 16.875 ms and hears 62 ms around its middle, so
//! that its first middle lies in the second frame of the recording.
//! Source: WhisperX 3.8 `vads/pyannote.py`; pyannote.audio `core/inference.py`.

use std::sync::Arc;

use super::{Probabilities, Vad};
use crate::error::Result;
use crate::segmentation::FRAME_STEP_SAMPLES;
use crate::segmentation::pyannet::PyanNet;
use crate::segmentation::windows::Windows;
use crate::threads::Threads;

/// From one window to the next.
const STEP_SAMPLES: usize = 48_000;

/// The network as a detector of speech.
#[derive(Debug)]
pub(crate) struct Pyannote {
    network: Arc<PyanNet>,
    threads: Threads,
}

impl Pyannote {
    /// A network with a head for [`Speakers`](crate::segmentation::pyannet::Head::Speakers), computing on these threads.
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
        let head = self.network.head;
        let windows = Windows::over(samples.len(), STEP_SAMPLES, head);
        let speech = |speakers: &[f32]| -> Vec<f32> {
            let frames = speakers.chunks_exact(head.outputs());
            frames.map(|frame| frame.iter().copied().fold(0.0, f32::max)).collect()
        };
        let found = windows.run(&self.network, samples, &self.threads, speech, progress)?;
        let mut sums = vec![(0.0f32, 0.0f32); windows.frames()];
        for (window, speech) in found.iter().enumerate() {
            let frames = sums[windows.first_frame(window)..].iter_mut().zip(speech);
            for ((sum, count), speech) in frames {
                *sum += speech;
                *count += 1.0;
            }
        }
        let mean = |&(sum, count): &(f32, f32)| if count > 0.0 { sum / count } else { 0.0 };
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
    use crate::device::ComputeType;
    use crate::options::VadOptions;
    use crate::segmentation::pyannet::Head;
    use crate::segmentation::testing::{sample, weights};
    use crate::vad::regions::regions;

    #[test]
    fn speech_of_the_sample_is_found_and_silence_is_not() {
        let (Some(sample), Some(weights)) = (sample(), weights("whisperx-vad")) else { return };
        let network = PyanNet::load(weights.as_ref(), Head::Speakers, ComputeType::Auto).unwrap();
        let vad = Pyannote::new(Arc::new(network), &Threads::default());
        let found = |samples: &[f32]| {
            let probabilities = vad.probabilities(samples, &mut |_| Ok(())).unwrap();
            regions(&probabilities, samples.len(), &VadOptions::default())
        };
        let speech = found(&sample);
        // The reference annotation begins at 6.69 s and speaks to the end but for 0.5 s.
        assert!((speech[0].start - 6.7).abs() < 0.1, "{speech:?}");
        let total: f64 = speech.iter().map(|region| region.duration()).sum();
        assert!((21.0..23.5).contains(&total), "{total}");

        assert!(found(&[0.0; 48_000]).is_empty());
        assert!(found(&[]).is_empty());
        let odd = [f32::NAN, f32::INFINITY, -1e30, 0.0, 1e-40].repeat(4000);
        for samples in [&[0.1; 99][..], &odd] {
            let values = vad.probabilities(samples, &mut |_| Ok(())).unwrap().values;
            assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}
