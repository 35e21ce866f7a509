//! Log-mel spectrogram, as Whisper expects it.

/// One window of log-mel features: `(n_mels, 3000)`, band after band.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mel {
    /// Bands: 80 or 128.
    pub(crate) n_mels: usize,
    /// `n_mels * 3000` values.
    pub(crate) values: Vec<f32>,
}
