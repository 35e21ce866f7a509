//! Voices as vectors: what makes them, and how near two are.

/// Makes a vector of a voice; vectors of one speaker lie near each other.
pub(crate) trait Embedder: Send + Sync {
    /// The vector of `(frames, 80)` log filterbank values whose mean over time was removed.
    fn embed(&self, features: &[f32]) -> Vec<f32>;
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
