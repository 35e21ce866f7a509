//! Stages by themselves: speech and speakers without a recogniser.

use super::networks::Networks;
use super::speech::{Speech, clips};
use crate::audio::{Audio, AudioOptions, AudioSource};
use crate::error::Result;
use crate::models::Download;
use crate::options::{Diarization, VadOptions};
use crate::progress::{CancelToken, Progress, Stage};
use crate::timeline::{Region, Turn};
use crate::transcript::{SpeakerId, Transcript};
use crate::vad::silero::Silero;
use crate::vad::{Activity, Probabilities, everything, regions};

/// Seconds of a source that are decoded, as a share of a run.
const DECODING_SHARE: f64 = 0.05;

impl Networks {
    /// Who speaks when in a source: a transcript without words.
    pub(crate) fn turns(
        &self,
        source: AudioSource,
        options: &Diarization,
        on_progress: &mut dyn FnMut(Progress),
        cancel: &CancelToken,
    ) -> Result<Transcript> {
        options.validate()?;
        let diarizer = self.diarizer(&mut |_: &Download| {}, cancel)?;
        diarizer.check(options)?;
        let mut report = |stage, fraction| {
            cancel.check()?;
            on_progress(Progress::new(stage, fraction));
            Ok(())
        };
        let audio = mono(source, &mut |done| report(Stage::Decoding, done * DECODING_SHARE))?;
        let diarized = diarizer.run(audio.samples(), options, &mut |done| {
            report(Stage::Diarizing, DECODING_SHARE + done * (1.0 - DECODING_SHARE))
        })?;
        let mut transcript = Transcript::new(audio.duration());
        transcript.warnings.extend_from_slice(audio.warnings());
        add_speakers(&mut transcript, options, diarized.turns, diarized.speakers);
        Ok(transcript)
    }

    /// Where speech is in a source, as people mark it.
    pub(crate) fn speech(
        &self,
        source: AudioSource,
        options: &VadOptions,
        cancel: &CancelToken,
    ) -> Result<Vec<Region>> {
        let (audio, probabilities) = self.listen(source, options, cancel)?;
        let n_samples = audio.samples().len();
        Ok(match probabilities {
            Some(probabilities) => regions::marked(&probabilities, n_samples, options),
            None => everything(n_samples),
        })
    }

    /// What a recogniser would hear of a source, piece by piece.
    pub(crate) fn chunks(
        &self,
        source: AudioSource,
        options: &VadOptions,
        cancel: &CancelToken,
    ) -> Result<Vec<Region>> {
        let (audio, probabilities) = self.listen(source, options, cancel)?;
        let n_samples = audio.samples().len();
        let activity = Activity::new(probabilities.as_ref(), n_samples, options);
        Ok(Speech::new(activity, &clips(&[], n_samples), options).heard())
    }

    /// A source and how likely speech is in it; `None` if nobody asks.
    fn listen(
        &self,
        source: AudioSource,
        options: &VadOptions,
        cancel: &CancelToken,
    ) -> Result<(Audio, Option<Probabilities>)> {
        options.validate()?;
        let audio = mono(source, &mut |_| cancel.check())?;
        let silero = Silero::new()?.on(&self.threads);
        let progress = &mut |_: f64| cancel.check();
        let model = options.model;
        let heard = self.speech_probabilities(model, &silero, audio.samples(), progress, cancel)?;
        Ok((audio, heard))
    }
}

fn mono(source: AudioSource, progress: &mut dyn FnMut(f64) -> Result<()>) -> Result<Audio> {
    let channels = Audio::load_with(source, &AudioOptions::default(), progress)?;
    Ok(channels.into_iter().next().unwrap_or_default())
}

/// Puts turns and voices into a transcript, and a warning if there are fewer than were asked for.
pub(super) fn add_speakers(
    transcript: &mut Transcript,
    options: &Diarization,
    turns: Vec<Turn>,
    speakers: Vec<(SpeakerId, Vec<f32>)>,
) {
    let found = speakers.len();
    if let Some(least) = options.min_speakers.filter(|&least| found < least) {
        transcript.warnings.push(format!("{least} speakers were asked for, {found} were heard"));
    }
    transcript.turns = turns;
    for (speaker, embedding) in speakers {
        transcript.speaker_embeddings.insert(speaker.clone(), embedding);
        transcript.speakers.push(speaker);
    }
}
