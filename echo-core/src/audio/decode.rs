//! One pass over a source: packets in, 16 kHz samples out.
//!
//! Damaged packets are skipped and reported; the pass goes on as long as the container does.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::codecs::{Decoder, Frames, decoder_for};
use super::containers::{self, Demuxer, Event, Fault, Packet, Track};
use super::downmix::{Downmix, Mixed};
use super::place::{Place, Times};
use super::source::OpenedMedia;
use super::{Audio, AudioOptions, SAMPLE_RATE_HZ, TooLong};
use crate::error::{Error, Result};
use crate::options::Channels;

/// Faults in a row after which the rest of a container counts as lost.
const MAX_FAULTS: u32 = 64;

/// Lengths are sums of the lengths of packets, which round: so much less than a sample.
const ROUNDING_SECONDS: f64 = 1e-6;

/// Packets that are looked at to find where the media begins; tracks alternate more often.
const LOOKAHEAD_PACKETS: usize = 64;
const LOOKAHEAD_BYTES: usize = 8 << 20;

/// Decodes a source as the options say.
pub(super) fn load(
    source: &OpenedMedia,
    options: &AudioOptions,
    progress: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<Audio>> {
    let mut channels = options.channels;
    let mut notes = Vec::new();
    loop {
        let pass = run_pass(source, options.track, channels, progress);
        if let Some(failure) = source.media.take_failure() {
            return Err(match &source.path {
                Some(path) => Error::io(path, failure),
                None => source.error("reading failed", Some(failure.into())),
            });
        }
        let (mixed, warnings) = pass?;
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

fn run_pass(
    source: &OpenedMedia,
    track: Option<u16>,
    channels: Channels,
    progress: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<(Mixed, Vec<String>)> {
    let mut pass = Pass::start(source, track, channels)?;
    pass.begin_part(progress)?;
    pass.run(progress)?;
    pass.finish()
}

impl OpenedMedia {
    fn error(&self, reason: impl Into<String>, source: Option<crate::Cause>) -> Error {
        Error::Audio { origin: self.origin.clone(), reason: reason.into(), source }
    }

    fn refusal(&self, fault: Fault) -> Error {
        let reason = match fault {
            Fault::Truncated => "it ends before its sound begins".to_owned(),
            Fault::Damaged(what) | Fault::Unsupported(what) => what,
        };
        Error::audio(self.origin.clone(), reason)
    }
}

struct Pass<'a> {
    source: &'a OpenedMedia,
    demuxer: Box<dyn Demuxer>,
    /// Events read ahead.
    ahead: VecDeque<Result<Event, Fault>>,
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
    missing_seconds: f64,
    part_count: u32,
}

impl<'a> Pass<'a> {
    fn start(source: &'a OpenedMedia, track: Option<u16>, channels: Channels) -> Result<Self> {
        let opened = guarded(|| containers::open(&source.media, source.raw, source.hint));
        let demuxer = opened.map_err(|fault| source.refusal(fault))?;
        let track = choose_track(demuxer.as_ref(), track, source)?;
        let decoder = guarded(|| decoder_for(&track.codec));
        let decoder = decoder.map_err(|fault| source.refusal(fault))?;
        Ok(Self {
            source,
            demuxer,
            ahead: VecDeque::new(),
            track,
            decoder,
            downmix: Downmix::new(channels),
            channels,
            place: Place::default(),
            frames: Frames::default(),
            tally: Tally::default(),
        })
    }

    fn report(&self, progress: &mut dyn FnMut(f64) -> Result<()>) -> Result<()> {
        progress(self.source.media.fraction_read().min(0.999))
    }

    /// Reads ahead to learn where the media begins: with the first packet of any track.
    fn begin_part(&mut self, progress: &mut dyn FnMut(f64) -> Result<()>) -> Result<()> {
        self.tally.part_count += 1;
        let timing = self.track.timing.clone();
        let mut origin = f64::INFINITY;
        let (mut size_bytes, mut has_own_packet) = (0, false);
        let mut is_enough = timing.is_absolute;
        while !is_enough {
            self.report(progress)?;
            let event = guarded(|| self.demuxer.next_event());
            if matches!(event, Ok(Event::Nothing)) {
                continue;
            }
            is_enough = true;
            if let Ok(Event::Packet(packet)) = &event {
                let is_own = packet.track == self.track.id;
                let pre_skip = if is_own { timing.pre_skip } else { 0.0 };
                has_own_packet |= is_own;
                // Without data they take memory, too.
                size_bytes += size_of_val(packet) + packet.data.len();
                let start = packet.start.filter(|start| start.is_finite());
                origin = start.map_or(origin, |start| origin.min(start + pre_skip));
                let is_far = self.ahead.len() >= LOOKAHEAD_PACKETS;
                is_enough = (is_far && has_own_packet) || size_bytes > LOOKAHEAD_BYTES;
            }
            self.ahead.push_back(event);
        }
        // Before 0 lies what an encoder put in front, not media.
        let origin = if origin.is_finite() { origin.max(0.0) } else { 0.0 };
        self.place.begin(origin, timing.end, timing.gap_tolerance);
        Ok(())
    }

    fn run(&mut self, progress: &mut dyn FnMut(f64) -> Result<()>) -> Result<()> {
        let mut fault_count = 0;
        loop {
            self.report(progress)?;
            let event = match self.ahead.pop_front() {
                Some(event) => event,
                None => guarded(|| self.demuxer.next_event()),
            };
            match event {
                Ok(Event::End) => return Ok(()),
                Ok(Event::NewTracks) => {
                    if self.follow_tracks().is_err() {
                        let what = "a later part of the stream is of another kind";
                        self.tally.container_fault = Some(what.into());
                        return Ok(());
                    }
                    self.begin_part(progress)?;
                }
                Ok(Event::Nothing) => {}
                Ok(Event::Packet(packet)) => {
                    fault_count = 0;
                    if packet.track == self.track.id {
                        self.take(&packet).map_err(|fault| self.source.refusal(fault))?;
                        self.check_length()?;
                    }
                }
                Err(Fault::Truncated) => {
                    self.tally.is_truncated = true;
                    return Ok(());
                }
                Err(Fault::Damaged(what) | Fault::Unsupported(what)) => {
                    fault_count += 1;
                    self.tally.container_fault.get_or_insert(what);
                    if fault_count > MAX_FAULTS {
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
        if length == 0 {
            return Ok(());
        }
        let times =
            Times { start: packet.start, trim_start: packet.trim_start, trim_end: packet.trim_end };
        let rate = f64::from(self.frames.sample_rate_hz.max(1));
        let placement = self.place.place(times, length, rate);
        if let Some(seconds) = placement.ignored_jump {
            let what = format!("times jump by {seconds:.0} s, which was ignored");
            self.tally.container_fault.get_or_insert(what);
        }
        if placement.silence > 0.0 {
            let count = (placement.silence * f64::from(SAMPLE_RATE_HZ)).round() as usize;
            self.downmix.push_silence(count);
            if placement.is_gap {
                self.tally.missing_seconds += placement.silence;
            }
        }
        self.downmix.push(&mut self.frames, placement.from, placement.to)
    }

    /// Stops before the memory is full of what nobody wants.
    fn check_length(&self) -> Result<()> {
        let max_seconds = self.source.max_seconds;
        if self.place.reached() <= max_seconds + ROUNDING_SECONDS {
            return Ok(());
        }
        Err(TooLong { max_seconds }.of(self.source.origin.clone()))
    }

    /// The sound and what was wrong with it.
    fn finish(self) -> Result<(Mixed, Vec<String>)> {
        let tally = self.tally;
        let channel_count = self.downmix.channel_count();
        if let Channels::One(channel) = self.channels
            && channel_count > 0
            && usize::from(channel) >= channel_count
        {
            return Err(Error::Option {
                option: "channels",
                value: channel.to_string(),
                expected: "a channel that the source has, counted from 0",
            });
        }
        if tally.decoded_packets == 0 && (tally.lost_packets > 0 || tally.container_fault.is_some())
        {
            let reason = tally.first_loss.or(tally.container_fault);
            return Err(self.source.error(reason.unwrap_or_default(), None));
        }
        let mut warnings = Vec::new();
        let reached = self.place.reached();
        let declared = self.track.timing.declared_duration.unwrap_or(0.0);
        if tally.part_count == 1 && declared > reached + declared.mul_add(0.01, 0.5) {
            let what = format!("the file declares {declared:.1} s but holds {reached:.1} s");
            warnings.push(what);
        } else if tally.is_truncated {
            warnings.push("the file ends early; what it holds was decoded".to_owned());
        }
        if tally.missing_seconds > 0.0 {
            let seconds = tally.missing_seconds;
            warnings.push(format!("{seconds:.2} s of sound are missing and were left silent"));
        }
        if let Some(what) = tally.container_fault {
            warnings.push(format!("part of the file is damaged: {what}"));
        }
        if let Some(what) = tally.first_loss {
            let all = tally.decoded_packets + tally.lost_packets;
            let lost = tally.lost_packets;
            warnings.push(format!("{lost} of {all} packets could not be decoded: {what}"));
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
