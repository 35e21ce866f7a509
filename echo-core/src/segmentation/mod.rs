//! Who speaks in each frame of a window: the network that voice activity and diarization share.
//!
//! [`pyannet::PyanNet`] hears windows of 10 s and tells apart at most three local speakers, two of
//! them at once; [`powerset`] reads its classes; [`windows`] lays windows over a recording and adds
//! up what overlapping windows say about a frame.

pub(crate) mod powerset;
pub(crate) mod pyannet;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod windows;

/// Local speakers of a window.
pub(crate) const LOCAL_SPEAKERS: usize = 3;
/// Sets of speakers that the network tells apart.
pub(crate) const CLASSES: usize = 7;
/// Samples of a window: 10 s.
pub(crate) const WINDOW_SAMPLES: usize = 160_000;
/// Frames of a window.
pub(crate) const WINDOW_FRAMES: usize = 589;
/// Samples from one frame to the next: 16.875 ms.
pub(crate) const FRAME_STEP_SAMPLES: usize = 270;
/// Samples that a frame hears: 61.9375 ms.
pub(crate) const FRAME_SAMPLES: usize = 991;
/// Sample rate of everything here.
pub(crate) const SAMPLE_RATE_HZ: f64 = 16_000.0;
/// Seconds from one frame to the next.
pub(crate) const FRAME_STEP: f64 = FRAME_STEP_SAMPLES as f64 / SAMPLE_RATE_HZ;
/// The middle of the first frame, in seconds.
pub(crate) const FIRST_MIDDLE: f64 = FRAME_SAMPLES as f64 / 2.0 / SAMPLE_RATE_HZ;
