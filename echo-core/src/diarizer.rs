//! Speech and speakers by themselves, without a recogniser.

use crate::audio::AudioSource;
use crate::device::ComputeType;
use crate::error::Result;
use crate::models::{Download, ModelStore};
use crate::options::{Diarization, VadOptions};
use crate::pipeline::Networks;
use crate::progress::{CancelToken, Progress};
use crate::threads::{Threads, check_threads};
use crate::timeline::Region;
use crate::transcript::Transcript;

/// Tells speakers apart without writing down what they say.
///
/// The networks are loaded when they are first used and stay loaded; threads may share one.
///
/// ```no_run
/// use echo_core::{Diarization, Diarizer};
///
/// let diarizer = Diarizer::new();
/// let transcript = diarizer.turns("meeting.mp3", &Diarization::new().speakers(2..=5))?;
/// for turn in &transcript.turns {
///     println!("{:7.2} {:7.2} {}", turn.start, turn.end, turn.speaker);
/// }
/// transcript.save("meeting.rttm")?;
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Diarizer {
    networks: Networks,
    cancel: CancelToken,
}

impl Default for Diarizer {
    fn default() -> Self {
        Self::at(ModelStore::default())
    }
}

impl Diarizer {
    /// With the networks of the user's model store.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the networks of another store.
    pub fn at(store: ModelStore) -> Self {
        Self {
            networks: Networks::new(store, ComputeType::Auto, Threads::default()),
            cancel: CancelToken::new(),
        }
    }

    /// Threads to compute on. Default: one for each processor.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if it is not 1 to 1024.
    pub fn threads(mut self, threads: usize) -> Result<Self> {
        check_threads(Some(threads))?;
        self.networks = self.networks.on(Threads::new(Some(threads))?);
        Ok(self)
    }

    /// What tells the speakers apart: `campplus` (the default), which is segmentation-3.0 with CAM++;
    /// `community-1`, pyannote's speaker-diarization-community-1, which needs the user's token in
    /// `HF_TOKEN` once, to be downloaded; any other repository laid out as that one; or a folder with
    /// `segmentation/pytorch_model.bin`, `embedding/pytorch_model.bin`, `plda/plda.npz` and
    /// `plda/xvec_transform.npz`. The last three are taken with ResNet34 and VBx, the parameters are
    /// those published with community-1.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.networks = self.networks.with_diarization_model(model.into());
        self
    }

    /// Stops whatever it does when this token is cancelled.
    #[must_use]
    pub fn cancel_with(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// Loads all networks now, downloading what is missing.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if they cannot be had or read.
    pub fn load(&self, mut on_download: impl FnMut(&Download)) -> Result<()> {
        self.networks.diarizer(&mut on_download, &self.cancel).map(drop)
    }

    /// Who speaks when: a transcript with turns and speakers, and without words.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) if an option is out of range,
    /// [`Error::Audio`](crate::Error::Audio) or [`Error::Io`](crate::Error::Io) if the source cannot
    /// be read, [`Error::Model`](crate::Error::Model) if the networks cannot be had.
    pub fn turns(
        &self,
        source: impl Into<AudioSource>,
        options: &Diarization,
    ) -> Result<Transcript> {
        self.turns_with(source, options, |_| {})
    }

    /// The same, with a callback that hears how far it is.
    ///
    /// # Errors
    /// As for [`turns`](Self::turns).
    pub fn turns_with(
        &self,
        source: impl Into<AudioSource>,
        options: &Diarization,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Transcript> {
        self.networks.turns(source.into(), options, &mut on_progress, &self.cancel)
    }

    /// Where speech is, in order, each region padded; [`VadModel::Silero`](crate::VadModel::Silero) needs no download.
    /// [`VadOptions::for_regions`] has the settings that come nearest to what people mark; the default
    /// ones are the recogniser's.
    ///
    /// # Errors
    /// As for [`turns`](Self::turns).
    pub fn speech(
        &self,
        source: impl Into<AudioSource>,
        options: &VadOptions,
    ) -> Result<Vec<Region>> {
        self.networks.speech(source.into(), options, &self.cancel)
    }

    /// What a [`Transcriber`](crate::Transcriber) would hear in its batches: speech in chunks of at most one
    /// window, in order; a chunk with a long silence inside comes in parts.
    ///
    /// # Errors
    /// As for [`turns`](Self::turns).
    pub fn chunks(
        &self,
        source: impl Into<AudioSource>,
        options: &VadOptions,
    ) -> Result<Vec<Region>> {
        self.networks.chunks(source.into(), options, &self.cancel)
    }
}

#[cfg(test)]
mod tests;
