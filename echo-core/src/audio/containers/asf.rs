//! ASF, the container of `.wma` and `.wmv`: objects named by GUIDs, then packets of equal length
//! that hold pieces of each stream's objects, with times in milliseconds.
//!
//! Source: Microsoft, Advanced Systems Format (ASF) Specification, revision 01.20.03. Left out: the
//! index, and streams with copy protection, which are refused.

use std::collections::VecDeque;

use super::bytes::Bytes;
use super::wave::{Format, Kind};
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming, unsupported};
use crate::audio::codecs::pcm::Pcm;
use crate::audio::codecs::wma;
use crate::audio::source::Media;

type Guid = [u8; 16];

const HEADER: Guid = *b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c";
const DATA: Guid = *b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c";
const FILE: Guid = *b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65";
const STREAM: Guid = *b"\x91\x07\xdc\xb7\xb7\xa9\xcf\x11\x8e\xe6\x00\xc0\x0c\x20\x53\x65";
const AUDIO: Guid = *b"\x40\x9e\x69\xf8\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b";
const PROTECTION: Guid = *b"\xfb\xb3\x11\x22\x23\xbd\xd2\x11\xb4\xb7\x00\xa0\xc9\x55\xfc\x6e";

const OBJECT_HEADER_BYTES: usize = 24;

/// More than any header; names and pictures come behind what is read here.
const MAX_HEADER_BYTES: u64 = 16 << 20;
const MAX_PACKET_BYTES: u32 = 1 << 20;

/// An object of sound is a fraction of a second.
const MAX_OBJECT_BYTES: usize = 1 << 22;
const MAX_STREAMS: usize = 64;

/// Whether a file begins like this.
pub(super) fn is_asf(head: &[u8]) -> bool {
    head.starts_with(&HEADER)
}

/// Opens one.
pub(super) fn open(media: &Media) -> Result<Box<dyn Demuxer>, Fault> {
    let mut media = media.rewound();
    let head = media.read_at(0, 30)?;
    let size_bytes = Bytes::new(head.get(16..).unwrap_or_default()).u64_le()?;
    let header = media.read_at(30, size_bytes.min(MAX_HEADER_BYTES) as usize)?;
    let mut asf = Asf {
        media,
        position: 0,
        packet_bytes: 0,
        preroll: 0.0,
        tracks: Vec::new(),
        streams: Vec::new(),
        queue: VecDeque::new(),
    };
    let mut declared = None;
    let body_bytes = usize::try_from(size_bytes.saturating_sub(30)).unwrap_or(usize::MAX);
    let mut objects = Bytes::new(header.get(..body_bytes).unwrap_or(&header));
    while let Ok((guid, body)) = next_object(&mut objects) {
        match guid {
            FILE => declared = Some(asf.read_file_properties(body)?),
            STREAM => asf.add_stream(body)?,
            PROTECTION => return Err(unsupported("Windows Media with copy protection")),
            _ => {}
        }
    }
    let declared = declared.ok_or_else(|| Fault::Damaged("ASF without its properties".into()))?;
    for track in &mut asf.tracks {
        track.timing.declared_duration = Some(declared);
    }
    asf.position = asf.find_data(size_bytes)?;
    Ok(Box::new(asf))
}

fn next_object<'a>(bytes: &mut Bytes<'a>) -> Result<(Guid, &'a [u8]), Fault> {
    let guid = bytes.array()?;
    let size = usize::try_from(bytes.u64_le()?).unwrap_or(usize::MAX);
    Ok((guid, bytes.take(size.saturating_sub(OBJECT_HEADER_BYTES))?))
}

struct Asf {
    media: Media,
    position: u64,
    packet_bytes: u32,
    /// What is read ahead of time, in seconds: all times count it in.
    preroll: f64,
    tracks: Vec<Track>,
    streams: Vec<Stream>,
    queue: VecDeque<Packet>,
}

/// An object being put together.
struct Stream {
    track: u32,
    /// By which its codec lags behind, in seconds.
    delay: f64,
    /// Pieces are interleaved over so many rows, of packets cut into chunks.
    spread: Option<Spread>,
    object: Vec<u8>,
    object_bytes: usize,
    number: u32,
    start: f64,
}

#[derive(Debug, Clone, Copy)]
struct Spread {
    rows: usize,
    packet_bytes: usize,
    chunk_bytes: usize,
}

impl Asf {
    /// The duration, in seconds.
    fn read_file_properties(&mut self, body: &[u8]) -> Result<f64, Fault> {
        let mut bytes = Bytes::new(body);
        // File, size, date, number of packets.
        bytes.take(40)?;
        let play_ticks = bytes.u64_le()?;
        let _send_ticks = bytes.u64_le()?;
        self.preroll = bytes.u64_le()? as f64 / 1_000.0;
        let _flags = bytes.u32_le()?;
        let least = bytes.u32_le()?;
        let most = bytes.u32_le()?;
        if least != most || !(16..=MAX_PACKET_BYTES).contains(&most) {
            return Err(Fault::Damaged(format!("ASF with packets of {least} to {most} bytes")));
        }
        self.packet_bytes = most;
        Ok((play_ticks as f64 / 1e7 - self.preroll).max(0.0))
    }

    fn add_stream(&mut self, body: &[u8]) -> Result<(), Fault> {
        let mut bytes = Bytes::new(body);
        let kind: Guid = bytes.array()?;
        // Kind of error correction, time offset.
        bytes.take(24)?;
        let format_bytes = bytes.u32_le()? as usize;
        let spread_bytes = bytes.u32_le()? as usize;
        let id = u32::from(bytes.u16_le()? & 0x7f);
        bytes.take(4)?;
        let format = bytes.take(format_bytes)?;
        let spread = Spread::parse(bytes.take(spread_bytes).unwrap_or_default());
        if self.streams.len() == MAX_STREAMS {
            return Ok(());
        }
        let mut delay = 0.0;
        if kind == AUDIO {
            let codec = codec(format, &mut delay)?;
            let timing = TrackTiming::default();
            self.tracks.push(Track { id, is_default: false, codec, timing });
        }
        self.streams.push(Stream {
            track: id,
            delay,
            spread: spread.filter(|_| kind == AUDIO),
            object: Vec::new(),
            object_bytes: 0,
            number: 0,
            start: 0.0,
        });
        Ok(())
    }

    /// The position of the first packet.
    fn find_data(&mut self, mut position: u64) -> Result<u64, Fault> {
        for _ in 0..MAX_STREAMS {
            let header = self.media.read_at(position, OBJECT_HEADER_BYTES)?;
            let mut bytes = Bytes::new(&header);
            let guid: Guid = bytes.array()?;
            let size = bytes.u64_le()?;
            if guid == DATA {
                // File, number of packets, reserved.
                return Ok(position + OBJECT_HEADER_BYTES as u64 + 26);
            }
            position = position.saturating_add(size.max(OBJECT_HEADER_BYTES as u64));
        }
        Err(Fault::Damaged("ASF without packets".into()))
    }

    fn read_packet(&mut self, packet: &[u8]) -> Result<(), Fault> {
        let mut bytes = Bytes::new(packet);
        let mut flags = bytes.u8()?;
        if flags & 0x80 != 0 {
            // Data of an error correction that nobody uses.
            bytes.take(usize::from(flags & 0x0f))?;
            flags = bytes.u8()?;
        }
        let kinds = bytes.u8()?;
        let _packet_bytes = number(&mut bytes, flags >> 5)?;
        let _sequence = number(&mut bytes, flags >> 1)?;
        let padding = number(&mut bytes, flags >> 3)? as usize;
        // When to send it, and for how long.
        bytes.take(6)?;
        let is_multiple = flags & 1 != 0;
        let (count, length_kind) = match is_multiple {
            true => {
                let counts = bytes.u8()?;
                (counts & 0x3f, counts >> 6)
            }
            false => (1, 0),
        };
        for _ in 0..count {
            let stream = u32::from(bytes.u8()? & 0x7f);
            let object = number(&mut bytes, kinds >> 4)?;
            let offset = number(&mut bytes, kinds >> 2)?;
            let replicated_bytes = number(&mut bytes, kinds)? as usize;
            let replicated = bytes.take(replicated_bytes)?;
            let length = match is_multiple {
                true => number(&mut bytes, length_kind)? as usize,
                false => bytes.rest().len().saturating_sub(padding),
            };
            let payload = bytes.take(length)?;
            self.take_payload(stream, object, offset, replicated, payload)?;
        }
        Ok(())
    }

    fn take_payload(
        &mut self,
        stream: u32,
        number: u32,
        offset: u32,
        replicated: &[u8],
        payload: &[u8],
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.iter_mut().find(|known| known.track == stream) else {
            return Ok(());
        };
        if let [_step] = replicated {
            // Whole objects one after another, each behind its length; the offset is a time.
            let mut bytes = Bytes::new(payload);
            while let Ok(length) = bytes.u8() {
                stream.object = bytes.take(usize::from(length))?.to_vec();
                stream.start = f64::from(offset) / 1_000.0;
                self.queue.push_back(stream.finish(self.preroll));
            }
            return Ok(());
        }
        let mut bytes = Bytes::new(replicated);
        let (object_bytes, time_ms) = (bytes.u32_le()? as usize, bytes.u32_le()?);
        if offset == 0 || stream.number != number {
            stream.object.clear();
            stream.number = number;
            stream.object_bytes = object_bytes;
            stream.start = f64::from(time_ms) / 1_000.0;
        }
        // A piece whose predecessor was lost is worth nothing.
        let fits = stream.object.len() == offset as usize
            && stream.object.len() + payload.len() <= object_bytes.min(MAX_OBJECT_BYTES);
        if !fits {
            stream.object.clear();
            return Ok(());
        }
        stream.object.extend_from_slice(payload);
        if stream.object.len() == stream.object_bytes {
            self.queue.push_back(stream.finish(self.preroll));
        }
        Ok(())
    }
}

impl Stream {
    fn finish(&mut self, preroll: f64) -> Packet {
        let mut object = std::mem::take(&mut self.object);
        if let Some(spread) = self.spread {
            object = spread.undo(&object);
        }
        let mut packet = Packet::untimed(self.track, object);
        packet.start = Some(self.start - preroll - self.delay);
        packet
    }
}

impl Spread {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(bytes);
        let rows = usize::from(bytes.u8().ok()?);
        let packet_bytes = usize::from(bytes.u16_le().ok()?);
        let chunk_bytes = usize::from(bytes.u16_le().ok()?);
        let is_spread = rows > 1 && chunk_bytes > 0 && packet_bytes.is_multiple_of(chunk_bytes);
        (is_spread && packet_bytes > chunk_bytes).then_some(Self {
            rows,
            packet_bytes,
            chunk_bytes,
        })
    }

    /// Chunks stand column by column; they belong row by row.
    fn undo(&self, object: &[u8]) -> Vec<u8> {
        let columns = self.packet_bytes / self.chunk_bytes;
        let mut ordered = Vec::with_capacity(object.len());
        for block in object.chunks(self.packet_bytes * self.rows) {
            for chunk in 0..self.rows * columns {
                let from = (chunk / columns + chunk % columns * self.rows) * self.chunk_bytes;
                ordered.extend_from_slice(block.get(from..from + self.chunk_bytes).unwrap_or(&[]));
            }
        }
        ordered
    }
}

/// A number of 0, 1, 2 or 4 bytes.
fn number(bytes: &mut Bytes<'_>, kind: u8) -> Result<u32, Fault> {
    match kind & 3 {
        0 => Ok(0),
        1 => bytes.u8().map(u32::from),
        2 => bytes.u16_le().map(u32::from),
        _ => bytes.u32_le(),
    }
}

/// The codec of a stream of sound, and by how many seconds it lags behind.
fn codec(format: &[u8], delay: &mut f64) -> Result<Codec, Fault> {
    let mut bytes = Bytes::new(format);
    let tag = bytes.u16_le()?;
    bytes.take(6)?;
    let bytes_per_second = bytes.u32_le()?;
    let format = Format::parse(format)?;
    if !matches!(tag, 0x0160 | 0x0161) {
        return Ok(match format.kind() {
            Ok(Kind::Pcm(sample)) => {
                let (channels, sample_rate_hz) = (format.channels, format.sample_rate_hz);
                Codec::Pcm(Pcm { sample, channels, sample_rate_hz })
            }
            Ok(Kind::Frames(kind)) => Codec::Frames(kind),
            Ok(_) => Codec::Unknown("of this kind in ASF".into()),
            Err(Fault::Truncated) => return Err(Fault::Truncated),
            Err(Fault::Unsupported(reason) | Fault::Damaged(reason)) => Codec::Refused(reason),
        });
    }
    let is_first_version = tag == 0x0160;
    let wma = wma::Format {
        is_first_version,
        sample_rate_hz: format.sample_rate_hz,
        channels: format.channels,
        bit_rate: bytes_per_second.saturating_mul(8),
        block_bytes: format.block_bytes,
        flags: wma::Format::flags(is_first_version, &format.extra),
    };
    *delay = wma.delay();
    Ok(Codec::Wma(wma))
}

impl Demuxer for Asf {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(packet) = self.queue.pop_front() {
                return Ok(Event::Packet(packet));
            }
            let bytes = self.media.read_at(self.position, self.packet_bytes as usize)?;
            // Behind the packets stands an index.
            if bytes.len() < self.packet_bytes as usize {
                return Ok(Event::End);
            }
            let is_packet = bytes.first().is_some_and(|flags| flags & 0x80 == 0 || *flags == 0x82);
            if !is_packet {
                return Ok(Event::End);
            }
            self.position += u64::from(self.packet_bytes);
            match self.read_packet(&bytes) {
                Ok(()) => {}
                Err(Fault::Truncated) => {
                    return Err(Fault::Damaged("a packet of ASF makes no sense".into()));
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}
