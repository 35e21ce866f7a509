//! Voices as vectors: what makes them, and how near two are.

use crate::features::fbank::Taper;

/// The filterbank frames of a window in which a voice is heard.
pub(crate) type Mask = Vec<bool>;

/// Makes vectors of voices; vectors of one speaker lie near each other.
pub(crate) trait Embedder: Send + Sync {
    /// Numbers of a vector.
    fn dimensions(&self) -> usize;

    /// How the filterbank that it hears weighs samples.
    fn taper(&self) -> Taper;

    /// The vectors of the voices in one window, of any length: `features` are its `(frames, 80)` log
    /// filterbank values whose mean over time was removed, each mask has as many frames and at
    /// least one in which its voice is heard.
    fn embed(&self, features: &[f32], voices: &[Mask]) -> Vec<Vec<f32>>;
}

/// `(frames, 80)` without the mean of each band over time.
pub(crate) fn centered(features: &[f32]) -> Vec<f32> {
    let bands = crate::features::fbank::FBANK_BANDS;
    let frames = (features.len() / bands).max(1) as f64;
    let mut means = vec![0.0f64; bands];
    for row in features.chunks_exact(bands) {
        means.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value));
    }
    let means: Vec<f32> = means.iter().map(|mean| (mean / frames) as f32).collect();
    let rows = features.chunks_exact(bands);
    rows.flat_map(|row| row.iter().zip(&means).map(|(value, mean)| value - mean)).collect()
}
