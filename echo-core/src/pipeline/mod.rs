//! Joins the stages: sound in, transcript out.
//!
//! An [`Engine`] is everything that stays loaded; [`Engine::run`] is one run over one source: decode,
//! find speech, recognise, report. The order of the stages is written here and nowhere else. Stages
//! exchange plain types: samples, regions, segments.

mod aligning;
mod alone;
mod batches;
mod checkpoint;
mod collector;
mod engine;
mod many;
mod networks;
mod speakers;
mod speech;

use self::aligning::Placer;
pub(crate) use self::batches::Resume;
pub use self::checkpoint::Checkpoint;
use self::collector::Collector;
pub(crate) use self::engine::{Engine, EngineOptions};
pub(crate) use self::many::Many;
pub(crate) use self::networks::Networks;
use crate::audio::{Audio, AudioOptions, AudioSource};
use crate::error::Result;
use crate::language::Language;
use crate::options::{Channels, Mode, TranscribeOptions};
use crate::progress::{CancelToken, Progress, Stage, overall};
use crate::timeline::Region;
use crate::transcript::{Segment, SpeakerId, Transcript};
use crate::whisper::sequential::{self, Source};

/// What a run says while it goes on.
#[derive(Debug)]
pub(crate) enum Event {
    Progress(Progress),
    Segment(Segment),
    /// What a batch added to what is done.
    Checkpoint(Box<Checkpoint>),
    /// The run begins anew, because it cannot go on from the checkpoint that it was given.
    Refused(&'static str),
}

/// Receives events; its error ends the run.
pub(crate) type Events<'a> = dyn FnMut(Event) -> Result<()> + 'a;

/// Shares of a run's time, measured with `base` on two cores.
const PLAN: &[(Stage, f64)] =
    &[(Stage::Decoding, 0.03), (Stage::Detecting, 0.03), (Stage::Transcribing, 0.94)];

/// The same with speakers.
const PLAN_WITH_SPEAKERS: &[(Stage, f64)] = &[
    (Stage::Decoding, 0.02),
    (Stage::Detecting, 0.02),
    (Stage::Transcribing, 0.66),
    (Stage::Diarizing, 0.30),
];

impl Engine {
    /// Transcribes one source.
    pub(crate) fn run(
        &self,
        source: AudioSource,
        options: &TranscribeOptions,
        resume: Resume,
        events: &mut Events<'_>,
        cancel: &CancelToken,
    ) -> Result<Transcript> {
        let is_each = options.channels == Channels::Each;
        // Channels are speakers by themselves.
        let diarize = options.diarize.as_ref().filter(|_| !is_each);
        // Hours of work would be lost if it could not be had in the end.
        let diarizer = diarize.map(|_| self.networks.diarizer(&mut |_| {}, cancel)).transpose()?;
        if let Some((diarizer, options)) = diarizer.as_ref().zip(diarize) {
            diarizer.check(options)?;
        }
        let plan = if diarize.is_some() { PLAN_WITH_SPEAKERS } else { PLAN };
        let mut outlet = Outlet::new(events, plan, resume);
        if is_each || options.mode == Mode::Sequential {
            outlet.begin_anew("only batches of one channel can go on from a checkpoint")?;
        }
        let channels = self.load_audio(source, options, cancel, &mut |fraction| {
            outlet.progress(Stage::Decoding, fraction)
        })?;
        let n_channels = channels.len();
        let mut transcript = Transcript::new(channels.first().map_or(0.0, Audio::duration));
        for (channel, audio) in channels.into_iter().enumerate() {
            outlet.part = (channel, n_channels);
            for warning in audio.warnings() {
                if !transcript.warnings.contains(warning) {
                    transcript.warnings.push(warning.clone());
                }
            }
            let speaker = is_each.then(|| SpeakerId(format!("CHANNEL_{channel}")));
            let heard = self.recognise(audio.samples(), options, speaker, &mut outlet, cancel)?;
            if transcript.language.is_none() {
                transcript.language = heard.language;
                transcript.language_probability = heard.probability;
            }
            transcript.segments.extend(heard.segments);
            if let Some((diarizer, options)) = diarizer.as_ref().zip(diarize) {
                let samples = audio.samples();
                speakers::diarize(diarizer, samples, options, &mut transcript, &mut |fraction| {
                    cancel.check()?;
                    outlet.progress(Stage::Diarizing, fraction)
                })?;
            }
        }
        if is_each {
            transcript.segments.sort_by(|a, b| a.start.total_cmp(&b.start));
            transcript.speakers = speakers(&transcript.segments);
        }
        outlet.finish()?;
        Ok(transcript)
    }

    /// Every language that the model knows with its probability in a source's first speech.
    pub(crate) fn detect_language(
        &self,
        source: AudioSource,
        cancel: &CancelToken,
    ) -> Result<Vec<(Language, f32)>> {
        let options = TranscribeOptions::default();
        let channels = self.load_audio(source, &options, cancel, &mut |_| Ok(()))?;
        let samples = channels.first().map_or(&[][..], Audio::samples);
        let chunks = self.speech(samples, &options, &mut |_| cancel.check(), cancel)?.chunks;
        self.languages(samples, &chunks, cancel)
    }

    /// Decodes a source, looking at the token all the while.
    fn load_audio(
        &self,
        source: AudioSource,
        options: &TranscribeOptions,
        cancel: &CancelToken,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Audio>> {
        let audio_options = AudioOptions { channels: options.channels, track: options.track };
        Audio::load_with(source, &audio_options, &mut |fraction| {
            cancel.check()?;
            progress(fraction)
        })
    }

    /// Recognises one channel.
    fn recognise(
        &self,
        samples: &[f32],
        options: &TranscribeOptions,
        speaker: Option<SpeakerId>,
        outlet: &mut Outlet<'_, '_>,
        cancel: &CancelToken,
    ) -> Result<Heard> {
        let mut heard = Heard::default();
        let clips = speech::clips(&options.clips, samples.len());
        let needs_chunks = options.mode == Mode::Batched || options.language.is_none();
        let mut progress = |fraction| {
            cancel.check()?;
            outlet.progress(Stage::Detecting, fraction)
        };
        let speech = self.speech(samples, options, &mut progress, cancel)?;
        if needs_chunks && speech.chunks.is_empty() {
            outlet.begin_anew("there is nothing to go on with")?;
            return Ok(heard);
        }
        let language = self.language(samples, &speech.chunks, options, &mut heard, cancel)?;
        let placer = match options.needs_words() {
            true => Some(Placer::new(self, samples, language, options, cancel)?),
            false => None,
        };
        let mut collector = Collector { placer, speaker, segments: Vec::new(), outlet };
        match options.mode {
            Mode::Batched => {
                let chunks = speech::batch(samples, &speech, language);
                self.run_batches(&chunks, options, &mut collector, cancel)?;
            }
            Mode::Sequential => {
                let (clips, speech) = (&*clips, &*speech.regions);
                let source = Source { samples, clips, speech, language };
                let mut collect = |reached, segments| collector.collect(reached, segments);
                sequential::transcribe(&self.recognizer, &source, options, &mut collect, cancel)?;
            }
        }
        heard.segments = collector.segments;
        Ok(heard)
    }

    /// The language given, or the one most likely spoken.
    fn language(
        &self,
        samples: &[f32],
        chunks: &[Region],
        options: &TranscribeOptions,
        heard: &mut Heard,
        cancel: &CancelToken,
    ) -> Result<Language> {
        if let Some(language) = options.language {
            self.check_language(language)?;
            heard.language = Some(language);
            return Ok(language);
        }
        let table = self.languages(samples, chunks, cancel)?;
        let (language, probability) = table.first().copied().unwrap_or((Language::ENGLISH, 1.0));
        heard.language = Some(language);
        heard.probability = Some(probability);
        Ok(language)
    }
}

/// What was recognised in one channel.
#[derive(Debug, Default)]
struct Heard {
    language: Option<Language>,
    probability: Option<f32>,
    segments: Vec<Segment>,
}

/// The way out of a run for progress and segments.
struct Outlet<'e, 'f> {
    events: &'e mut Events<'f>,
    plan: &'static [(Stage, f64)],
    /// The last fraction of the whole run that was reported.
    reached: f64,
    /// Which channel of how many is at work.
    part: (usize, usize),
    /// From where batches go on.
    resume: Resume,
}

impl<'e, 'f> Outlet<'e, 'f> {
    fn new(events: &'e mut Events<'f>, plan: &'static [(Stage, f64)], resume: Resume) -> Self {
        Self { events, plan, reached: -1.0, part: (0, 1), resume }
    }

    fn progress(&mut self, stage: Stage, fraction: f64) -> Result<()> {
        let within = overall(self.plan, stage, fraction);
        let reached = match (stage, self.part) {
            (Stage::Decoding, _) => within,
            // All channels are decoded at once; the later stages go channel by channel.
            (_, (channel, n_channels)) => {
                let decoded = overall(self.plan, Stage::Decoding, 1.0);
                let share = (within - decoded) / (1.0 - decoded);
                decoded + (1.0 - decoded) * (channel as f64 + share) / n_channels as f64
            }
        };
        let reached = reached.min(0.999_999);
        if reached <= self.reached {
            return Ok(());
        }
        self.reached = reached;
        (self.events)(Event::Progress(Progress::new(stage, reached)))
    }

    fn segment(&mut self, segment: Segment) -> Result<()> {
        (self.events)(Event::Segment(segment))
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<()> {
        (self.events)(Event::Checkpoint(Box::new(checkpoint)))
    }

    fn refused(&mut self, reason: &'static str) -> Result<()> {
        (self.events)(Event::Refused(reason))
    }

    /// Goes on from nothing and tells no checkpoints.
    fn begin_anew(&mut self, reason: &'static str) -> Result<()> {
        match std::mem::take(&mut self.resume).from {
            Some(_) => self.refused(reason),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        (self.events)(Event::Progress(Progress::new(
            self.plan.last().map_or(Stage::Transcribing, |last| last.0),
            1.0,
        )))
    }
}

/// The speakers of segments in order of first appearance.
fn speakers(segments: &[Segment]) -> Vec<SpeakerId> {
    let mut speakers = Vec::new();
    for speaker in segments.iter().filter_map(|segment| segment.speaker.as_ref()) {
        if !speakers.contains(speaker) {
            speakers.push(speaker.clone());
        }
    }
    speakers
}
