//! Containers that symphonia reads: MP4, Matroska, Ogg, FLAC, AIFF and CAF.

use std::io::{Seek as _, SeekFrom};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known as id;
use symphonia::core::codecs::audio::{AudioCodecParameters, CODEC_ID_NULL_AUDIO};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{
    MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadBytes as _,
};
use symphonia::core::units::TimeBase;
use symphonia::default::formats;

use super::frame_header::FrameKind;
use super::matroska::{self, TrackHeader};
use super::mp4::{self, Presentation};
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::source::Media;

/// Samples of Opus are counted at this rate, whatever was recorded.
const OPUS_RATE_HZ: f64 = 48_000.0;

/// Ogg, FLAC, AIFF or CAF, which begins at a position.
pub(super) fn open(media: &Media, start: u64, magic: [u8; 4]) -> Result<Box<dyn Demuxer>, Fault> {
    let mut stream = stream(Box::new(media.rewound()));
    stream.seek(SeekFrom::Start(start))?;
    let options = FormatOptions::default();
    let reader: Box<dyn FormatReader> = match &magic {
        b"OggS" => Box::new(formats::OggReader::try_new(stream, options)?),
        b"fLaC" => Box::new(formats::FlacReader::try_new(stream, options)?),
        b"caff" => Box::new(formats::CafReader::try_new(stream, options)?),
        _ => Box::new(formats::AiffReader::try_new(stream, options)?),
    };
    // Their times are counts of samples.
    Ok(Container::boxed(reader, Facts { gap_tolerance: Some(0.02), ..Facts::default() }))
}

/// Matroska and WebM, read from front to back: what lies at the end, an index, may be missing.
pub(super) fn open_matroska(media: &Media) -> Result<Box<dyn Demuxer>, Fault> {
    let head = matroska::head(media).unwrap_or_default();
    let options = FormatOptions::default;
    let reader = formats::MkvReader::try_new(stream(Box::new(media.streamed())), options())
        .or_else(|_| formats::MkvReader::try_new(stream(Box::new(media.rewound())), options()))?;
    let is_open_end = !head.is_truncated;
    let facts = Facts { headers: head.audio_tracks, is_open_end, ..Facts::default() };
    Ok(Container::boxed(Box::new(reader), facts))
}

/// MP4 and QuickTime, whose edit lists symphonia leaves to others.
pub(super) fn open_mp4(media: &Media) -> Result<Box<dyn Demuxer>, Fault> {
    let movie = mp4::movie(media)?;
    if !movie.is_described {
        let reason = "its `moov` box is missing: the file was cut, or never finished";
        return Err(Fault::Damaged(reason.into()));
    }
    let mut stream = stream(match movie.has_file_type {
        true => Box::new(media.stretched(movie.end)),
        false => Box::new(mp4::WithFileType::new(media)),
    });
    // The reader expects to be behind the size of the first box.
    stream.ignore_bytes(4)?;
    let reader = formats::IsoMp4Reader::try_new(stream, FormatOptions::default())?;
    let is_absolute = !movie.is_fragmented;
    let facts = Facts { presentations: movie.presentations, is_absolute, ..Facts::default() };
    Ok(Container::boxed(Box::new(reader), facts))
}

fn stream(source: Box<dyn MediaSource>) -> MediaSourceStream<'static> {
    MediaSourceStream::new(source, MediaSourceStreamOptions::default())
}

struct Container {
    reader: Box<dyn FormatReader>,
    tracks: Vec<Track>,
    /// Seconds a tick, by track id.
    ticks: Vec<(u32, f64)>,
    facts: Facts,
}

/// What is known of a file besides what symphonia reads.
#[derive(Default)]
struct Facts {
    /// Of MP4.
    presentations: Vec<Presentation>,
    /// Whether times count from 0.
    is_absolute: bool,
    /// Of Matroska.
    headers: Vec<TrackHeader>,
    /// Whether the end of the file is a good end, wherever it comes.
    is_open_end: bool,
    /// How far times may be off, in seconds, if they are exact.
    gap_tolerance: Option<f64>,
}

impl Container {
    fn boxed(reader: Box<dyn FormatReader>, facts: Facts) -> Box<dyn Demuxer> {
        let mut container = Self { reader, tracks: Vec::new(), ticks: Vec::new(), facts };
        container.list_tracks();
        Box::new(container)
    }

    fn list_tracks(&mut self) {
        self.tracks.clear();
        self.ticks.clear();
        for track in self.reader.tracks() {
            self.ticks.extend(track.time_base.map(|base| (track.id, seconds(base))));
            let header = self.facts.headers.iter().find(|header| header.id == track.id);
            let codec = match (&track.codec_params, header) {
                (Some(CodecParameters::Audio(params)), header) => codec(params, header),
                (None, Some(header)) => Codec::Unknown(header.codec.clone()),
                _ => continue,
            };
            let presentation = self.facts.presentations.iter().find(|p| p.track == track.id);
            let declared_duration = track
                .time_base
                .zip(track.duration)
                .map(|(base, duration)| duration.get() as f64 * seconds(base));
            let pre_skip = match &codec {
                Codec::Opus { head: Some(head) } => f64::from(pre_skip(head)) / OPUS_RATE_HZ,
                _ => 0.0,
            };
            self.tracks.push(Track {
                id: track.id,
                is_default: header.is_some_and(|header| header.is_default),
                codec,
                timing: TrackTiming {
                    end: presentation.and_then(|presentation| presentation.end),
                    declared_duration,
                    pre_skip,
                    is_absolute: self.facts.is_absolute,
                    gap_tolerance: self.facts.gap_tolerance,
                },
            });
        }
    }
}

fn seconds(base: TimeBase) -> f64 {
    f64::from(base.numer.get()) / f64::from(base.denom.get())
}

/// `OpusHead`, RFC 7845 section 5.1; MP4 stores its numbers the other way round, but symphonia
/// gives both alike.
fn pre_skip(head: &[u8]) -> u16 {
    head.get(10..12).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn codec(params: &AudioCodecParameters, header: Option<&TrackHeader>) -> Codec {
    let unknown = |name: &str| Codec::Unknown(name.into());
    match params.codec {
        id::CODEC_ID_OPUS => Codec::Opus { head: params.extra_data.clone() },
        id::CODEC_ID_AAC => match &params.extra_data {
            Some(configuration) => Codec::Aac { configuration: configuration.clone() },
            None => Codec::Frames(FrameKind::Adts),
        },
        id::CODEC_ID_MP1 => Codec::Frames(FrameKind::Mpeg(1)),
        id::CODEC_ID_MP2 => Codec::Frames(FrameKind::Mpeg(2)),
        id::CODEC_ID_MP3 => Codec::Frames(FrameKind::Mpeg(3)),
        id::CODEC_ID_AC3 => Codec::Frames(FrameKind::Ac3),
        id::CODEC_ID_EAC3 => Codec::Frames(FrameKind::EnhancedAc3),
        id::CODEC_ID_AC4 => unknown("AC-4"),
        id::CODEC_ID_DCA => unknown("DTS"),
        id::CODEC_ID_TRUEHD => unknown("TrueHD"),
        id::CODEC_ID_SPEEX => unknown("Speex"),
        id::CODEC_ID_WMA => unknown("Windows Media Audio"),
        id::CODEC_ID_WAVPACK => unknown("WavPack"),
        id::CODEC_ID_TTA => unknown("True Audio"),
        id::CODEC_ID_MUSEPACK => unknown("Musepack"),
        id::CODEC_ID_MONKEYS_AUDIO => unknown("Monkey's Audio"),
        CODEC_ID_NULL_AUDIO => unknown(header.map_or("of an unknown kind", |header| &header.codec)),
        _ => Codec::Symphonia(Box::new(params.clone())),
    }
}

impl Demuxer for Container {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        let packet = match self.reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(Event::End),
            Err(Error::ResetRequired) => {
                self.list_tracks();
                return Ok(Event::NewTracks);
            }
            Err(error) => match error.into() {
                Fault::Truncated if self.facts.is_open_end => return Ok(Event::End),
                fault => return Err(fault),
            },
        };
        let tick = self.ticks.iter().find(|(track, _)| *track == packet.track_id);
        let presentation = self.facts.presentations.iter().find(|p| p.track == packet.track_id);
        let shift = presentation.map_or(0.0, |presentation| presentation.shift);
        let seconds = tick.map_or(0.0, |(_, seconds)| *seconds);
        Ok(Event::Packet(Packet {
            track: packet.track_id,
            start: tick.map(|_| packet.pts.get() as f64 * seconds + shift),
            trim_start: packet.trim_start.get() as f64 * seconds,
            trim_end: packet.trim_end.get() as f64 * seconds,
            ticks: packet.block_dur().get(),
            data: packet.data,
        }))
    }
}
