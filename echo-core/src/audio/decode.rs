//! One pass over a source: packets in, 16 kHz samples out, each placed in time.
//!
//! Within a track samples are counted; the container's times decide where it starts, and whether
//! something is missing in between. What lies before the start of the media is cut (encoder delay,
//! Opus pre-skip), a late start and gaps become silence. Damaged packets are skipped and reported.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::codecs::{Decoder, Frames, decoder_for};
use super::containers::{self, Demuxer, Event, Fault, Packet, Track};
use super::downmix::{Downmix, Mixed};
use super::source::OpenedMedia;
use super::{Audio, AudioOptions, SAMPLE_RATE_HZ};
use crate::error::{Error, Result};
use crate::options::Channels;

/// Packets whose time differs less than this from what the samples add up to follow each other:
/// Matroska rounds to milliseconds, and recorders in browsers stamp by a clock that wavers.
const GAP_TOLERANCE_SECONDS: f64 = 0.1;

/// Longer silence than this in all is not inserted: a damaged time must not fill the memory.
const MAX_INSERTED_SECONDS: f64 = 3_600.0;

/// Faults in a row after which the rest of a container counts as lost.
const MAX_FAULTS: u32 = 64;

/// Decodes a source as the options say.
pub(super) fn load(
    source: &OpenedMedia,
    options: &AudioOptions,
    progress: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<Audio>> {
    let mut channels = options.channels;
    let mut notes = Vec::new();
    loop {
        let mut pass = Pass::start(source, options.track, channels)?;
        let outcome = pass.run(source, progress);
        if let Some(failure) = source.media.take_failure() {
            return Err(match &source.path {
                Some(path) => Error::io(path, failure),
                None => source.error("reading failed", Some(failure.into())),
            });
        }
        outcome?;
        let (mixed, warnings) = pass.finish(source)?;
        match mixed {
            Mixed::Samples(outputs) => {
                notes.extend(warnings);
                progress(1.0)?;
                let finished = |samples| Audio::from_decoded(samples, notes.clone());
                return Ok(outputs.into_iter().map(finished).collect());
            }
            Mixed::Cancelled { loudest_channel } => {
                channels = Channels::One(loudest_channel);
                let heard = format!(
                    "the channels cancel each other out; channel {loudest_channel} is heard alone"
                );
                notes.push(heard);
            }
        }
    }
}

impl OpenedMedia {
    fn error(&self, reason: impl Into<String>, source: Option<crate::Cause>) -> Error {
        Error::Audio { origin: self.origin.clone(), reason: reason.into(), source }
    }

    fn refusal(&self, fault: Fault) -> Error {
        self.error(
            match fault {
                Fault::Truncated => "it ends before its sound begins".to_owned(),
                Fault::Damaged(what) => what,
                Fault::Unsupported(what) => what,
            },
            None,
        )
    }
}

struct Pass {
    demuxer: Box<dyn Demuxer>,
    track: Track,
    decoder: Box<dyn Decoder>,
    downmix: Downmix,
    channels: Channels,
    place: Place,
    frames: Frames,
    tally: Tally,
}

/// What went wrong on the way.
#[derive(Default)]
struct Tally {
    decoded_packets: u64,
    lost_packets: u64,
    first_loss: Option<String>,
    is_truncated: bool,
    container_fault: Option<String>,
}

/// Where the next decoded sample belongs, in seconds on the media timeline.
struct Place {
    /// Start of the part of the source whose times count from 0.
    epoch: f64,
    /// End of what has been placed so far, within this part.
    reached: Option<f64>,
    /// The smallest time of any packet of this part: the media starts there.
    origin: f64,
    inserted: f64,
}

impl Pass {
    fn start(source: &OpenedMedia, track: Option<u16>, channels: Channels) -> Result<Self> {
        let opened = guarded(|| containers::open(&source.media, source.raw));
        let demuxer = opened.map_err(|fault| source.refusal(fault))?;
        let track = choose_track(demuxer.as_ref(), track, source)?;
        let decoder =
            guarded(|| decoder_for(&track.codec)).map_err(|fault| source.refusal(fault))?;
        Ok(Self {
            demuxer,
            track,
            decoder,
            downmix: Downmix::new(channels),
            channels,
            place: Place { epoch: 0.0, reached: None, origin: 0.0, inserted: 0.0 },
            frames: Frames::default(),
            tally: Tally::default(),
        })
    }

    fn run(
        &mut self,
        source: &OpenedMedia,
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<()> {
        let mut faults = 0;
        loop {
            progress(source.media.fraction_read().min(0.999))?;
            match guarded(|| self.demuxer.next_event()) {
                Ok(Event::End) => return Ok(()),
                Ok(Event::NewTracks) => {
                    if self.follow_tracks().is_err() {
                        self.tally.container_fault =
                            Some("a later part of the stream is of another kind".into());
                        return Ok(());
                    }
                }
                Ok(Event::Packet(packet)) => {
                    faults = 0;
                    if packet.track == self.track.id {
                        self.take(&packet).map_err(|fault| source.refusal(fault))?;
                    }
                }
                Err(Fault::Truncated) => {
                    self.tally.is_truncated = true;
                    return Ok(());
                }
                Err(Fault::Damaged(what) | Fault::Unsupported(what)) => {
                    faults += 1;
                    self.tally.container_fault.get_or_insert(what);
                    if faults > MAX_FAULTS {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Goes on with the first track of a new part of the source.
    fn follow_tracks(&mut self) -> Result<(), Fault> {
        let Some(track) = self.demuxer.tracks().first().cloned() else {
            return Err(Fault::Damaged("no audio track".into()));
        };
        self.decoder = guarded(|| decoder_for(&track.codec))?;
        self.track = track;
        self.place.epoch += self.place.reached.take().unwrap_or(0.0);
        Ok(())
    }

    /// Decodes and places one packet.
    fn take(&mut self, packet: &Packet) -> Result<(), Fault> {
        let Self { decoder, frames, .. } = self;
        if let Err(fault) = guarded(|| decoder.decode(packet, frames)) {
            self.tally.lost_packets += 1;
            let what = match fault {
                Fault::Truncated => "a packet ends early".to_owned(),
                Fault::Damaged(what) | Fault::Unsupported(what) => what,
            };
            self.tally.first_loss.get_or_insert(what);
            return Ok(());
        }
        self.tally.decoded_packets += 1;
        let length = self.frames.len();
        if length == 0 || self.frames.sample_rate_hz == 0 {
            return Ok(());
        }
        let rate = f64::from(self.frames.sample_rate_hz);
        let in_samples = |seconds: f64| (seconds * rate).round().max(0.0) as usize;
        let mut from = 0;
        let mut start = packet.start.map(|start| start - self.place.origin);
        let reached = self.place.reached;
        if let Some(time) = start.or(reached) {
            // Encoder delay: samples that belong before the media starts.
            from = in_samples(-time).min(length);
            start = Some(time + from as f64 / rate);
        }
        let mut to = length.saturating_sub(in_samples(packet.trim_end));
        from = from.max(in_samples(packet.trim_start).min(length));
        let begin = match (start, reached) {
            (Some(start), Some(reached)) if start > reached + GAP_TOLERANCE_SECONDS => {
                self.insert_silence(start - reached)
            }
            (_, Some(reached)) => reached,
            (Some(start), None) if start > 0.0 => {
                self.place.reached = Some(0.0);
                self.insert_silence(start)
            }
            (_, None) => 0.0,
        };
        if let Some(end) = self.track.timing.end {
            to = to.min(from + in_samples(end - begin));
        }
        self.downmix.push(&mut self.frames, from, to)?;
        self.place.reached = Some(begin + to.saturating_sub(from) as f64 / rate);
        Ok(())
    }

    /// Fills a gap; returns where the next sample belongs.
    fn insert_silence(&mut self, seconds: f64) -> f64 {
        let reached = self.place.reached.unwrap_or(0.0);
        if self.place.inserted + seconds > MAX_INSERTED_SECONDS {
            let what = format!("times jump by {seconds:.0} s, which was ignored");
            self.tally.container_fault.get_or_insert(what);
            return reached;
        }
        self.place.inserted += seconds;
        self.downmix.push_silence((seconds * f64::from(SAMPLE_RATE_HZ)).round() as usize);
        reached + seconds
    }

    /// The sound and what was wrong with it.
    fn finish(self, source: &OpenedMedia) -> Result<(Mixed, Vec<String>)> {
        let tally = self.tally;
        if let Channels::One(channel) = self.channels {
            let channel_count = self.downmix.channel_count();
            if channel_count > 0 && usize::from(channel) >= channel_count {
                return Err(Error::Option {
                    option: "channels",
                    value: channel.to_string(),
                    expected: "a channel that the source has, counted from 0",
                });
            }
        }
        if tally.decoded_packets == 0 {
            let reason = tally.first_loss.or(tally.container_fault);
            return Err(source.error(reason.unwrap_or_else(|| "it holds no sound".into()), None));
        }
        let mut warnings = Vec::new();
        if tally.is_truncated {
            warnings.push("the file ends early; what it holds was decoded".to_owned());
        }
        if let Some(what) = tally.container_fault {
            warnings.push(format!("part of the file is damaged: {what}"));
        }
        if let Some(what) = tally.first_loss {
            let all = tally.decoded_packets + tally.lost_packets;
            let lost = tally.lost_packets;
            warnings.push(format!("{lost} of {all} packets could not be decoded: {what}"));
        }
        let reached = self.place.reached.unwrap_or(0.0);
        let declared = self.track.timing.declared_duration.unwrap_or(0.0);
        if self.place.epoch == 0.0 && declared > reached + declared.mul_add(0.01, 0.5) {
            warnings.push(format!("the file declares {declared:.1} s but holds {reached:.1} s"));
        }
        Ok((self.downmix.finish(), warnings))
    }
}

fn choose_track(demuxer: &dyn Demuxer, wanted: Option<u16>, source: &OpenedMedia) -> Result<Track> {
    let tracks = demuxer.tracks();
    let chosen = match wanted {
        Some(index) => {
            let track = tracks.get(usize::from(index));
            return track.cloned().ok_or_else(|| Error::Option {
                option: "track",
                value: index.to_string(),
                expected: "an audio track that the source has, counted from 0",
            });
        }
        None => tracks.iter().find(|track| track.is_default).or(tracks.first()),
    };
    chosen.cloned().ok_or_else(|| source.error("it has no audio track", None))
}

/// Runs a parser or decoder of another crate, whose panic becomes a fault.
///
/// Those crates are fuzzed, yet an unchecked index in one of a dozen codecs must not take a server
/// down with it. What a panic leaves behind is dropped or overwritten: a decoder keeps no
/// invariant across packets that could make it unsafe, and its next packets fail or sound wrong.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::Damaged("its decoder failed on damaged data".into())))
}
