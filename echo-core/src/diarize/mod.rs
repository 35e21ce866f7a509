//! Who speaks when.
//!
//! 1. [`segmentation`](crate::segmentation) hears windows of 10 s every 2 s (every second for VBx):
//!    which of three local speakers is heard in each frame.
//! 2. For each window and local speaker, an [`embedding`] of the sound in which it is alone.
//! 3. [`cluster`]ing, or [`vbx`], says which local speakers are one voice.
//! 4. [`reconstruct`]ion lets the windows vote on who speaks in each frame of the recording, and
//!    makes turns of frames.
//! 5. [`assign`]ment gives words and segments their speakers.
//!
//! Embeddings are those of [`campplus`], clustered by average linkage, or of [`resnet34`], clustered
//! by VBx where a PLDA comes with it. Source: pyannote.audio's pipeline (Bredin 2023), with average
//! linkage, which suits CAM++ better than centroid linkage, and less overlap of windows. Memory:
//! 0.3 kB for each second of sound and 1.5 kB for each window's voices; time is linear but for the
//! clustering of the first four thousand vectors, see [`cluster`].

pub(crate) mod assign;
mod campplus;
mod cluster;
mod embedding;
mod kmeans;
mod layers;
mod linkage;
mod planes;
mod plda;
mod reconstruct;
mod resnet34;
mod vbx;

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use self::campplus::CampPlus;
use self::cluster::{Settings, Voice, unit};
use self::embedding::{Embedder, Mask, centered};
use self::linkage::Linkage;
use self::plda::Plda;
use self::reconstruct::{Rules, Voting, WindowBits, WindowLabels};
use self::resnet34::ResNet34;
use crate::device::ComputeType;
use crate::error::{Error, Result};
use crate::features::fbank::{FBANK_BANDS, FBANK_HOP_SAMPLES, Fbank, fbank_frames};
use crate::models::Npz;
use crate::models::weights::Weights;
use crate::options::{Clustering, Diarization};
use crate::segmentation::pyannet::{Head, PyanNet};
use crate::segmentation::windows::Windows;
use crate::segmentation::{
    CLASSES, LOCAL_SPEAKERS, SAMPLE_RATE_HZ, WINDOW_FRAMES, WINDOW_SAMPLES, powerset,
};
use crate::threads::Threads;
use crate::timeline::{Region, Turn};
use crate::transcript::SpeakerId;

/// From one window to the next: 2 s, and 1 s for VBx, whose parameters are for so many vectors.
const STEP_SAMPLES: usize = 32_000;
const VBX_STEP_SAMPLES: usize = 16_000;
/// Filterbank frames of a window.
const WINDOW_FBANK: usize = (WINDOW_SAMPLES - 400) / FBANK_HOP_SAMPLES + 1;
/// Fewer filterbank frames than this (0.16 s) make no vector.
const MIN_VOICE_FRAMES: usize = 16;
/// Filterbank frames (1 s) from which on a vector may found a speaker.
const TRUSTED_FRAMES: usize = 100;
/// The same for VBx: a fifth of a window.
const VBX_TRUSTED_FRAMES: usize = WINDOW_FBANK.div_ceil(5);
/// A speaker has at least so many vectors, unless the recording is short.
const MIN_SPEAKER_VOICES: usize = 2;
/// Farther apart than this by 1 minus the mean cosine are two speakers, for vectors of at most 3 s.
const THRESHOLD: f32 = 0.62;
/// The same for centroids, and the vectors of a speaker: those of speaker-diarization-3.1.
const CENTROID_THRESHOLD: f32 = 0.704_565_5;
const CENTROID_VOICES: usize = 12;
/// Windows whose filterbank is computed together.
const GROUP_WINDOWS: usize = 16;
/// Share of the time that segmentation takes, measured on conversations.
const SEGMENTATION_SHARE: f64 = 0.5;

/// The networks of diarization, and what clustering knows of their vectors.
pub(crate) struct Diarizer {
    segmentation: Arc<PyanNet>,
    embedder: Box<dyn Embedder>,
    /// What VBx needs.
    plda: Option<Plda>,
    fbank: Fbank,
    threads: Threads,
}

impl std::fmt::Debug for Diarizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Diarizer").finish_non_exhaustive()
    }
}

/// Who speaks when in a recording.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Diarized {
    /// All turns in order of start, overlapping where people do.
    pub(crate) turns: Vec<Turn>,
    /// The same with one speaker at a time.
    pub(crate) exclusive: Vec<Turn>,
    /// The speakers in order of first appearance, each with a vector of the voice.
    pub(crate) speakers: Vec<(SpeakerId, Vec<f32>)>,
}

/// A window, and one of its local speakers.
type LocalSpeaker = (usize, usize);

/// The voices of all windows, with the local speaker that each one is.
#[derive(Debug, Default)]
struct Voices {
    of: Vec<LocalSpeaker>,
    embeddings: Vec<Vec<f32>>,
    /// Filterbank frames in which each is alone.
    alone: Vec<usize>,
}

impl Diarizer {
    /// CAM++; the segmentation may be shared with voice activity detection.
    ///
    /// # Errors
    /// [`Error::Model`] if the weights are not those of CAM++.
    pub(crate) fn campplus(
        segmentation: Arc<PyanNet>,
        voices: &dyn Weights,
        compute: ComputeType,
        threads: &Threads,
    ) -> Result<Self> {
        Ok(Self::new(segmentation, Box::new(CampPlus::load(voices, compute)?), None, threads))
    }

    /// ResNet34 with a PLDA.
    ///
    /// # Errors
    /// [`Error::Model`] if the weights are not those of ResNet34, or the PLDA is for other vectors.
    pub(crate) fn resnet34(
        segmentation: Arc<PyanNet>,
        voices: &dyn Weights,
        [transform, plda]: [&Npz; 2],
        compute: ComputeType,
        threads: &Threads,
    ) -> Result<Self> {
        let embedder = Box::new(ResNet34::load(voices, compute)?);
        let known = Plda::load(transform, plda)?;
        let (found, expected) = (known.inputs(), embedder.dimensions());
        if found != expected {
            let reason =
                format!("is for vectors of {found} numbers, the network's have {expected}");
            return Err(transform.wrong(reason));
        }
        Ok(Self::new(segmentation, embedder, Some(known), threads))
    }

    fn new(
        segmentation: Arc<PyanNet>,
        embedder: Box<dyn Embedder>,
        plda: Option<Plda>,
        threads: &Threads,
    ) -> Self {
        let fbank = Fbank::new(embedder.taper());
        Self { segmentation, embedder, plda, fbank, threads: threads.clone() }
    }

    /// Says before any work whether these networks can do what the options ask for.
    ///
    /// # Errors
    /// [`Error::Option`] for VBx without a PLDA.
    pub(crate) fn check(&self, options: &Diarization) -> Result<()> {
        match (options.clustering, &self.plda) {
            (Clustering::Vbx, None) => Err(Error::Option {
                option: "clustering",
                value: "vbx".to_owned(),
                expected: "auto, average or centroid with this diarization model: vbx needs the PLDA \
                           that `community-1` comes with",
            }),
            _ => Ok(()),
        }
    }

    /// The PLDA if voices are to be clustered by VBx.
    fn vbx(&self, options: &Diarization) -> Option<&Plda> {
        let is_vbx = matches!(options.clustering, Clustering::Auto | Clustering::Vbx);
        self.plda.as_ref().filter(|_| is_vbx)
    }

    /// Tells the speakers of 16 kHz mono `samples` apart. `progress` hears from 0 to 1 and stops the
    /// work by an error.
    ///
    /// # Errors
    /// Whatever `progress` answers.
    pub(crate) fn run(
        &self,
        samples: &[f32],
        options: &Diarization,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Diarized> {
        let plda = self.vbx(options);
        let step = if plda.is_some() { VBX_STEP_SAMPLES } else { STEP_SAMPLES };
        let windows = Windows::over(samples.len(), step, Head::Powerset);
        let bits: Vec<WindowBits> =
            windows.run(&self.segmentation, samples, &self.threads, window_bits, &mut |done| {
                progress(done * SEGMENTATION_SHARE)
            })?;
        if bits.iter().flatten().all(|&bits| bits == 0) {
            progress(1.0)?;
            return Ok(Diarized::default());
        }
        let voices = self.voices(samples, &windows, &bits, &mut |done| {
            progress(SEGMENTATION_SHARE + (1.0 - SEGMENTATION_SHARE) * done)
        })?;
        let (found, centroids) = voices.cluster(plda, options);
        let mut labels: Vec<WindowLabels> = vec![[None; LOCAL_SPEAKERS]; bits.len()];
        for ((window, local), label) in found {
            labels[window][local] = u16::try_from(label).ok();
        }
        let voting = match options.clustering {
            Clustering::Auto if plda.is_none() => Voting::Central,
            Clustering::Average => Voting::Central,
            Clustering::Auto | Clustering::Centroid | Clustering::Vbx => Voting::Equal,
        };
        reconstruct::label_rest(&windows, &bits, &mut labels, voting);
        let duration = samples.len() as f64 / SAMPLE_RATE_HZ;
        let rules = Rules {
            min_gap: f64::from(options.min_gap_ms) / 1000.0,
            min_turn: f64::from(options.min_turn_ms) / 1000.0,
        };
        let turns = |most: u8| {
            let tracks = reconstruct::tracks(&windows, &bits, &labels, (most, voting));
            reconstruct::turns(&tracks, rules, duration)
        };
        Ok(named(&turns(u8::MAX), &turns(1), &centroids))
    }

    /// A vector for each local speaker with enough speech.
    fn voices(
        &self,
        samples: &[f32],
        windows: &Windows,
        bits: &[WindowBits],
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Voices> {
        let mut all = Voices::default();
        let batch = GROUP_WINDOWS * self.threads.count();
        for first in (0..bits.len()).step_by(batch) {
            let end = bits.len().min(first + batch);
            // Short recordings are shared by all threads, too.
            let group = (end - first).div_ceil(self.threads.count()).min(GROUP_WINDOWS);
            let groups: Vec<usize> = (first..end).step_by(group).collect();
            let voices =
                |start| self.group_voices(samples, windows, bits, start..end.min(start + group));
            let found: Vec<Voices> =
                self.threads.run(|| groups.into_par_iter().map(voices).collect::<Result<_>>())?;
            for voices in found {
                all.of.extend(voices.of);
                all.embeddings.extend(voices.embeddings);
                all.alone.extend(voices.alone);
            }
            progress(end as f64 / bits.len() as f64)?;
        }
        Ok(all)
    }

    fn group_voices(
        &self,
        samples: &[f32],
        windows: &Windows,
        bits: &[WindowBits],
        group: Range<usize>,
    ) -> Result<Voices> {
        let step = windows.step / FBANK_HOP_SAMPLES;
        let known = fbank_frames(samples.len());
        let from = group.start * step;
        let until = known.min((group.end - 1) * step + WINDOW_FBANK);
        let features = self.fbank.frames(samples, from..until.max(from))?;
        let mut found = Voices::default();
        for window in group {
            let start = (window * step - from) * FBANK_BANDS;
            let end = features.len().min(start + WINDOW_FBANK * FBANK_BANDS);
            let own = centered(&features[start.min(end)..end]);
            let mut masks = Vec::new();
            for local in 0..LOCAL_SPEAKERS {
                let (mask, alone) = voice_frames(&bits[window], local, own.len() / FBANK_BANDS);
                if count(&mask) >= MIN_VOICE_FRAMES {
                    found.of.push((window, local));
                    found.alone.push(alone);
                    masks.push(mask);
                }
            }
            if !masks.is_empty() {
                found.embeddings.extend(self.embedder.embed(&own, &masks));
            }
        }
        Ok(found)
    }
}

impl Voices {
    /// The local speakers that have a speaker, with it, and the centroids of all speakers: by VBx if
    /// there is a PLDA.
    fn cluster(
        self,
        plda: Option<&Plda>,
        options: &Diarization,
    ) -> (Vec<(LocalSpeaker, usize)>, Vec<Vec<f32>>) {
        let trusted = if plda.is_some() { VBX_TRUSTED_FRAMES } else { TRUSTED_FRAMES };
        let voice = |(embedding, alone): (Vec<f32>, usize)| Voice {
            // The PLDA's first mean is one of vectors as they are.
            embedding: if plda.is_some() { embedding } else { unit(&embedding) },
            is_trusted: alone >= trusted,
        };
        let voices: Vec<Voice> = self.embeddings.into_iter().zip(self.alone).map(voice).collect();
        let (labels, centroids) = match plda {
            Some(plda) => {
                let windows: Vec<usize> = self.of.iter().map(|&(window, _)| window).collect();
                let (least, most) = bounds(options);
                let threshold = options.threshold.unwrap_or(vbx::THRESHOLD);
                let settings = vbx::Settings { threshold, least, most };
                let speakers = vbx::speakers(&voices, &windows, plda, &settings);
                (speakers.labels, speakers.centroids)
            }
            None => {
                let clusters = cluster::cluster(&voices, &settings(options));
                (clusters.labels.into_iter().map(Some).collect(), clusters.centroids)
            }
        };
        let labelled = self.of.into_iter().zip(labels);
        (labelled.filter_map(|(of, label)| Some((of, label?))).collect(), centroids)
    }
}

fn settings(options: &Diarization) -> Settings {
    let (linkage, threshold, min_size) = match options.clustering {
        Clustering::Centroid => (Linkage::Centroid, CENTROID_THRESHOLD, CENTROID_VOICES),
        _ => (Linkage::Average, THRESHOLD, MIN_SPEAKER_VOICES),
    };
    let (least, most) = bounds(options);
    let threshold = options.threshold.unwrap_or(threshold);
    Settings { linkage, threshold, min_size, least, most }
}

/// At least and at most so many speakers.
fn bounds(options: &Diarization) -> (usize, usize) {
    (options.min_speakers.unwrap_or(1), options.max_speakers.unwrap_or(usize::MAX))
}

/// Who is heard in each frame of a window, by the likeliest class.
fn window_bits(log_probabilities: &[f32]) -> WindowBits {
    log_probabilities.chunks_exact(CLASSES).map(powerset::likeliest).collect()
}

/// The filterbank frames of a window that tell a local speaker's voice, and how many there are in
/// which it is alone: those if there are enough, else all in which it is heard.
fn voice_frames(bits: &[u8], local: usize, frames: usize) -> (Mask, usize) {
    let at = |frame: usize| bits[(frame * WINDOW_FRAMES / WINDOW_FBANK).min(bits.len() - 1)];
    let mut mask: Mask = (0..frames).map(|frame| at(frame) == 1 << local).collect();
    let alone = count(&mask);
    if alone < MIN_VOICE_FRAMES {
        mask = (0..frames).map(|frame| at(frame) >> local & 1 == 1).collect();
    }
    (mask, alone)
}

/// In how many frames a voice is heard.
fn count(mask: &[bool]) -> usize {
    mask.iter().filter(|&&is_heard| is_heard).count()
}

/// Gives the speakers their names, in order of first appearance; who has no turn is none.
fn named(all: &[Vec<Region>], exclusive: &[Vec<Region>], centroids: &[Vec<f32>]) -> Diarized {
    let mut order: Vec<(f64, usize)> = all
        .iter()
        .enumerate()
        .filter_map(|(speaker, turns)| turns.first().map(|turn| (turn.start, speaker)))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut diarized = Diarized::default();
    for (number, &(_, speaker)) in order.iter().enumerate() {
        let name = SpeakerId(format!("SPEAKER_{number:02}"));
        let turns = |of: &[Vec<Region>]| -> Vec<Turn> {
            let turn =
                |turn: &Region| Turn { start: turn.start, end: turn.end, speaker: name.clone() };
            of.get(speaker).map_or(Vec::new(), |turns| turns.iter().map(turn).collect())
        };
        diarized.turns.extend(turns(all));
        diarized.exclusive.extend(turns(exclusive));
        let centroid = centroids.get(speaker).map_or(Vec::new(), |centroid| unit(centroid));
        diarized.speakers.push((name, centroid));
    }
    diarized.turns.sort_by(|a, b| a.start.total_cmp(&b.start));
    diarized.exclusive.sort_by(|a, b| a.start.total_cmp(&b.start));
    diarized
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
