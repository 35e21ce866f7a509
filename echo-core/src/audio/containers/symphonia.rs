//! Containers that symphonia reads: MP4, Matroska, Ogg, FLAC, MP3, ADTS, AIFF, CAF and others.

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackFlags};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::TimeBase;

use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::source::Media;

/// Any container, found by its content.
pub(super) fn open(media: &Media) -> Result<Box<dyn Demuxer>, Fault> {
    let stream =
        MediaSourceStream::new(Box::new(media.rewound()), MediaSourceStreamOptions::default());
    let reader = symphonia::default::get_probe().probe(
        &Hint::new(),
        stream,
        FormatOptions::default(),
        MetadataOptions::default(),
    )?;
    let mut container = Container { reader, tracks: Vec::new(), time_bases: Vec::new() };
    container.list_tracks();
    Ok(Box::new(container))
}

struct Container {
    reader: Box<dyn FormatReader>,
    tracks: Vec<Track>,
    /// By track id.
    time_bases: Vec<(u32, TimeBase)>,
}

impl Container {
    fn list_tracks(&mut self) {
        self.tracks.clear();
        self.time_bases.clear();
        for track in self.reader.tracks() {
            let codec = match &track.codec_params {
                Some(CodecParameters::Audio(params)) if params.codec == CODEC_ID_OPUS => {
                    Codec::Opus { head: params.extra_data.clone() }
                }
                Some(CodecParameters::Audio(params)) => Codec::Symphonia(Box::new(params.clone())),
                Some(_) | None => continue,
            };
            let declared_duration = track
                .time_base
                .zip(track.duration)
                .and_then(|(base, duration)| base.calc_duration(duration))
                .map(|time| time.as_secs_f64());
            self.tracks.push(Track {
                id: track.id,
                is_default: track.flags.contains(TrackFlags::DEFAULT),
                codec,
                timing: TrackTiming { end: None, declared_duration },
            });
            if let Some(base) = track.time_base {
                self.time_bases.push((track.id, base));
            }
        }
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
            Err(error) => return Err(error.into()),
        };
        let base = self.time_bases.iter().find(|(id, _)| *id == packet.track_id);
        let tick =
            base.map_or(0.0, |(_, base)| f64::from(base.numer.get()) / f64::from(base.denom.get()));
        Ok(Event::Packet(Packet {
            track: packet.track_id,
            start: base.map(|_| packet.pts.get() as f64 * tick),
            trim_start: packet.trim_start.get() as f64 * tick,
            trim_end: packet.trim_end.get() as f64 * tick,
            ticks: packet.block_dur().get(),
            data: packet.data,
        }))
    }
}
