//! AVI: pictures and sound in alternating chunks, described by lists in front.
//!
//! Sound carries no times: a stream runs on from its start. Files beyond 1 GB are several RIFF
//! lists in a row (OpenDML), which are walked through alike.

use std::collections::VecDeque;

use super::bytes::Bytes;
use super::elementary::Framer;
use super::wave::{Format, Kind};
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::codecs::pcm::Pcm;
use crate::audio::source::Media;

/// Headers of streams read in front of the sound.
const MAX_HEADER_CHUNKS: u32 = 10_000;

const MAX_STREAMS: u32 = 64;

/// No chunk of sound is longer.
const MAX_CHUNK_BYTES: u64 = 64 << 20;

/// Whether these are the first bytes of such a file.
pub(super) fn is_avi(head: &[u8]) -> bool {
    head.starts_with(b"RIFF") && head.get(8..11) == Some(b"AVI")
}

/// Opens one.
pub(super) fn open(media: &Media) -> Result<Box<dyn Demuxer>, Fault> {
    let mut avi = Avi {
        media: media.rewound(),
        position: 12,
        stream_count: 0,
        pending: None,
        streams: Vec::new(),
        tracks: Vec::new(),
        queue: VecDeque::new(),
    };
    for _ in 0..MAX_HEADER_CHUNKS {
        if avi.read_header()? {
            return Ok(Box::new(avi));
        }
    }
    Err(Fault::Damaged("no sound or pictures behind its headers".into()))
}

struct Avi {
    media: Media,
    position: u64,
    stream_count: u32,
    /// Start of the stream whose format comes next, if it is sound.
    pending: Option<f64>,
    streams: Vec<Stream>,
    tracks: Vec<Track>,
    queue: VecDeque<Packet>,
}

struct Stream {
    track: u32,
    framer: Option<Framer>,
    unit_bytes: usize,
    frames_per_unit: u64,
    /// Time of the first packet.
    start: Option<f64>,
}

struct Chunk {
    id: [u8; 4],
    start: u64,
    size_bytes: u64,
}

impl Avi {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Fault> {
        let header = self.media.read_at(self.position, 8)?;
        if header.len() < 8 {
            return Ok(None);
        }
        let mut bytes = Bytes::new(&header);
        let id = bytes.array()?;
        let size_bytes = u64::from(bytes.u32_le()?);
        let start = self.position + 8;
        // Lists are entered, all else is stepped over; chunks have even lengths.
        let is_list = matches!(&id, b"LIST" | b"RIFF");
        self.position = if is_list { start + 4 } else { start + size_bytes + size_bytes % 2 };
        Ok(Some(Chunk { id, start, size_bytes }))
    }

    fn body(&mut self, chunk: &Chunk) -> Result<Vec<u8>, Fault> {
        let size_bytes = chunk.size_bytes.min(MAX_CHUNK_BYTES) as usize;
        self.media.read_at(chunk.start, size_bytes)
    }

    /// Reads one chunk of the headers; `true` once the sound and pictures begin.
    fn read_header(&mut self) -> Result<bool, Fault> {
        let Some(chunk) = self.next_chunk()? else { return Err(Fault::Truncated) };
        match &chunk.id {
            b"LIST" => Ok(self.media.read_at(chunk.start, 4)?.starts_with(b"movi")),
            b"strh" => {
                let body = self.body(&chunk)?;
                self.pending = if body.starts_with(b"auds") { Some(start(&body)?) } else { None };
                self.stream_count += 1;
                Ok(false)
            }
            b"strf" => {
                if let Some(start) =
                    self.pending.take().filter(|_| self.stream_count <= MAX_STREAMS)
                {
                    let body = self.body(&chunk)?;
                    self.add_stream(&body, start)?;
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn add_stream(&mut self, format: &[u8], start: f64) -> Result<(), Fault> {
        let format = Format::parse(format)?;
        let track = self.stream_count - 1;
        let mut stream =
            Stream { track, framer: None, unit_bytes: 1, frames_per_unit: 1, start: Some(start) };
        let codec = match format.kind() {
            Ok(Kind::Pcm(sample)) => {
                let sample_rate_hz = format.sample_rate_hz;
                let pcm = Pcm { sample, channels: format.channels, sample_rate_hz };
                stream.unit_bytes = pcm.frame_bytes();
                Codec::Pcm(pcm)
            }
            Ok(Kind::Adpcm(params, frames_per_block)) => {
                stream.unit_bytes = usize::from(format.block_bytes.max(1));
                stream.frames_per_unit = frames_per_block;
                Codec::Symphonia(params)
            }
            Ok(Kind::G722) => Codec::G722,
            Ok(Kind::Gsm) => Codec::GsmMicrosoft { sample_rate_hz: format.sample_rate_hz },
            Ok(Kind::Aac) => Codec::Aac { configuration: format.extra.into() },
            Ok(Kind::Frames(kind)) => {
                stream.framer = Some(Framer::new(kind));
                Codec::Frames(kind)
            }
            Err(Fault::Truncated) => return Err(Fault::Truncated),
            Err(Fault::Unsupported(reason) | Fault::Damaged(reason)) => Codec::Refused(reason),
        };
        let timing = TrackTiming::default();
        self.tracks.push(Track { id: track, is_default: false, codec, timing });
        self.streams.push(stream);
        Ok(())
    }

    fn take(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        // Two digits for the stream, two letters for its kind.
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'w', b'b'] = chunk.id else { return Ok(()) };
        let track = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
        let Some(index) = self.streams.iter().position(|stream| stream.track == track) else {
            return Ok(());
        };
        let body = self.body(chunk)?;
        let stream = &mut self.streams[index];
        if let Some(framer) = &mut stream.framer {
            framer.push(&body, stream.start.take());
            framer.queue_frames(track, false, &mut self.queue);
            return Ok(());
        }
        let mut packet = Packet::untimed(track, body);
        packet.ticks = (packet.data.len() / stream.unit_bytes) as u64 * stream.frames_per_unit;
        packet.start = stream.start.take();
        self.queue.push_back(packet);
        Ok(())
    }
}

/// The start of a stream in seconds: `dwStart` units of `dwScale / dwRate`.
fn start(header: &[u8]) -> Result<f64, Fault> {
    let mut bytes = Bytes::new(header);
    bytes.take(20)?;
    let scale = f64::from(bytes.u32_le()?);
    let rate = f64::from(bytes.u32_le()?);
    let start = f64::from(bytes.u32_le()?);
    Ok(if rate > 0.0 { start * scale / rate } else { 0.0 })
}

impl Demuxer for Avi {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(packet) = self.queue.pop_front() {
                return Ok(Event::Packet(packet));
            }
            match self.next_chunk()? {
                Some(chunk) => self.take(&chunk)?,
                None => {
                    for stream in &mut self.streams {
                        if let Some(framer) = &mut stream.framer {
                            framer.queue_frames(stream.track, true, &mut self.queue);
                        }
                    }
                    return Ok(self.queue.pop_front().map_or(Event::End, Event::Packet));
                }
            }
        }
    }
}
