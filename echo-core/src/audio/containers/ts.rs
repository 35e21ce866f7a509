//! MPEG transport streams: broadcasts, HLS captures, camcorders (`.ts`, `.mts`, `.m2ts`).
//!
//! Packets of 188 bytes (or 192, or 204) belong to numbered streams; a table (PAT) says where the
//! programme's table (PMT) is, which says what each stream is. A stream is cut into PES packets
//! with times at 90 kHz. Source: ISO/IEC 13818-1, sections 2.4.3 and 2.4.4; stream types of other
//! bodies: ETSI TS 101 154, ATSC A/53.

use std::collections::VecDeque;

use super::bytes::Bytes;
use super::elementary::Framer;
use super::frame_header::FrameKind;
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::source::Media;

const SYNC: u8 = 0x47;
const PACKET_BYTES: usize = 188;

/// What precedes a packet or follows it: nothing, a time (Blu-ray), a checksum (DVB).
const STRIDES: [usize; 3] = [188, 192, 204];

/// The tables come several times a second; a file without them for so long has none.
const MAX_SEARCH_BYTES: u64 = 16 << 20;

const READ_PACKETS: usize = 256;
const TICKS_PER_SECOND: f64 = 90_000.0;

/// A table is no longer: 12 bits say how long it is.
const MAX_TABLE_BYTES: usize = 3 + 4095;
/// Times that jump further than this go on where they were: the stream was cut and joined.
const MAX_JUMP_SECONDS: f64 = 10.0;

const MAX_STREAMS: usize = 64;

/// The first packet and the distance between packets, if these bytes are such a stream.
pub(super) fn find_packets(head: &[u8]) -> Option<(usize, usize)> {
    STRIDES.into_iter().find_map(|stride| {
        let is_sync = |offset: &usize| {
            let mut packets = head[*offset..].iter().step_by(stride);
            packets.len() >= 3 && packets.all(|byte| *byte == SYNC)
        };
        (0..stride.min(head.len())).find(is_sync).map(|offset| (offset, stride))
    })
}

/// Opens one.
pub(super) fn open(media: &Media, packets: (usize, usize)) -> Result<Box<dyn Demuxer>, Fault> {
    let (offset, stride) = packets;
    let mut stream = TransportStream {
        media: media.rewound(),
        position: offset as u64,
        stride,
        buffer: Vec::new(),
        used: 0,
        tables: Tables::default(),
        streams: Vec::new(),
        tracks: Vec::new(),
        queue: VecDeque::new(),
        first_tick: None,
        is_scrambled: false,
    };
    while stream.position < MAX_SEARCH_BYTES && !stream.tables.is_complete() {
        if !stream.read_packet()? {
            break;
        }
    }
    if stream.tracks.is_empty() && stream.is_scrambled {
        return Err(Fault::Unsupported("the transport stream is encrypted".into()));
    }
    Ok(Box::new(stream))
}

struct TransportStream {
    media: Media,
    position: u64,
    stride: usize,
    buffer: Vec<u8>,
    used: usize,
    tables: Tables,
    streams: Vec<Stream>,
    tracks: Vec<Track>,
    queue: VecDeque<Packet>,
    /// The first time in the file; those that follow count from it, as 33 bits wrap around.
    first_tick: Option<u64>,
    is_scrambled: bool,
}

/// One elementary stream.
struct Stream {
    id: u16,
    /// `None` for pictures, whose times alone are of use.
    framer: Option<Framer>,
    /// Added to times since the last jump.
    shift: f64,
    last_start: Option<f64>,
}

/// The tables of the programmes.
#[derive(Default)]
struct Tables {
    /// Streams that carry a programme's table; whether it was read; the part that is there.
    programmes: Vec<(u16, bool, Vec<u8>)>,
}

impl Tables {
    fn is_complete(&self) -> bool {
        !self.programmes.is_empty() && self.programmes.iter().all(|(_, is_read, _)| *is_read)
    }
}

impl TransportStream {
    /// Takes the next packet; `false` at the end of the file.
    fn read_packet(&mut self) -> Result<bool, Fault> {
        if self.buffer.len() - self.used < self.stride * 2 {
            self.buffer.drain(..self.used);
            self.used = 0;
            let bytes = self.media.read_at(self.position, self.stride * READ_PACKETS)?;
            self.position += bytes.len() as u64;
            self.buffer.extend(bytes);
        }
        // Out of step: search two packets in a row.
        let rest = &self.buffer[self.used..];
        let is_packet = |at: usize| {
            rest[at] == SYNC && rest.get(at + self.stride).is_none_or(|byte| *byte == SYNC)
        };
        let Some(at) = (0..rest.len()).find(|at| is_packet(*at)) else {
            let is_end = rest.is_empty();
            self.used = self.buffer.len();
            return Ok(!is_end);
        };
        // The bytes that tell may be yet to be read: it is looked at again as the first.
        if at > 0 && at + self.stride >= rest.len() {
            self.used += at;
            return Ok(true);
        }
        let Some(packet) = rest.get(at..at + PACKET_BYTES) else { return Ok(false) };
        let packet = packet.to_vec();
        self.used += (at + self.stride).min(rest.len());
        // A packet that cannot be understood is lost; the next one may be whole.
        let _ = self.take(&packet);
        Ok(true)
    }

    fn take(&mut self, packet: &[u8]) -> Result<(), Fault> {
        let mut bytes = Bytes::new(packet);
        bytes.take(1)?;
        let flags = bytes.u16_be()?;
        let (is_start, id) = (flags & 0x4000 != 0, flags & 0x1fff);
        let control = bytes.u8()?;
        if control & 0x20 != 0 {
            let adaptation_bytes = bytes.u8()?;
            bytes.take(usize::from(adaptation_bytes))?;
        }
        if control & 0x10 == 0 || flags & 0x8000 != 0 {
            return Ok(());
        }
        if control & 0xc0 != 0 {
            self.is_scrambled = true;
            return Ok(());
        }
        if id == 0 {
            return self.read_programmes(bytes, is_start);
        }
        if self.tables.programmes.iter().any(|(table, ..)| *table == id) {
            return self.read_programme(id, bytes.rest(), is_start);
        }
        let Some(index) = self.streams.iter().position(|stream| stream.id == id) else {
            return Ok(());
        };
        let (start, payload) = if is_start { pes(bytes)? } else { (None, bytes.rest()) };
        let start = start.map(|tick| self.seconds(tick));
        self.streams[index].take(payload, start, is_start, &mut self.queue);
        Ok(())
    }

    /// The table of programmes, which fits into one packet.
    fn read_programmes(&mut self, mut bytes: Bytes<'_>, is_start: bool) -> Result<(), Fault> {
        if !is_start || !self.tables.programmes.is_empty() {
            return Ok(());
        }
        let pointer = bytes.u8()?;
        bytes.take(usize::from(pointer))?;
        let mut section = section(bytes.rest(), 0)?.ok_or(Fault::Truncated)?;
        while let (Ok(number), Ok(id)) = (section.u16_be(), section.u16_be()) {
            if number != 0 && self.tables.programmes.len() < MAX_STREAMS {
                self.tables.programmes.push((id & 0x1fff, false, Vec::new()));
            }
        }
        Ok(())
    }

    /// The table of one programme, which may take several packets.
    fn read_programme(&mut self, id: u16, payload: &[u8], is_start: bool) -> Result<(), Fault> {
        let table = self.tables.programmes.iter_mut().find(|(table, ..)| *table == id);
        let Some((_, is_read, partial)) = table.filter(|(_, is_read, _)| !is_read) else {
            return Ok(());
        };
        if is_start {
            let (pointer, rest) = payload.split_first().ok_or(Fault::Truncated)?;
            partial.clear();
            partial.extend(rest.get(usize::from(*pointer)..).unwrap_or_default());
        } else if !partial.is_empty() {
            partial.extend(payload);
        }
        partial.truncate(MAX_TABLE_BYTES);
        let bytes = partial.clone();
        let Some(mut section) = section(&bytes, 2)? else { return Ok(()) };
        *is_read = true;
        section.u16_be()?; // the stream of the clock
        let description_bytes = section.u16_be()? & 0x0fff;
        section.take(usize::from(description_bytes))?;
        while let (Ok(kind), Ok(id), Ok(size)) = (section.u8(), section.u16_be(), section.u16_be())
        {
            let descriptors = section.take(usize::from(size & 0x0fff))?;
            self.add_stream(id & 0x1fff, kind, descriptors);
        }
        Ok(())
    }

    fn add_stream(&mut self, id: u16, kind: u8, descriptors: &[u8]) {
        if self.streams.len() >= MAX_STREAMS || self.streams.iter().any(|s| s.id == id) {
            return;
        }
        let Some(content) = content(kind, descriptors) else { return };
        let mut framer = None;
        if let Content::Sound(codec) = content {
            if let Codec::Frames(kind) = codec {
                framer = Some(Framer::new(kind));
            }
            let timing = TrackTiming::default();
            self.tracks.push(Track { id: u32::from(id), is_default: false, codec, timing });
        }
        self.streams.push(Stream { id, framer, shift: 0.0, last_start: None });
    }

    /// Seconds since the first time in the file, which may be less than 0.
    fn seconds(&mut self, tick: u64) -> f64 {
        let first = *self.first_tick.get_or_insert(tick);
        // The difference of two numbers of 33 bits, signed.
        let difference = ((tick.wrapping_sub(first) << 31) as i64) >> 31;
        difference as f64 / TICKS_PER_SECOND
    }
}

impl Stream {
    fn take(
        &mut self,
        payload: &[u8],
        start: Option<f64>,
        is_start: bool,
        queue: &mut VecDeque<Packet>,
    ) {
        let start = start.map(|start| self.without_jumps(start));
        let Some(framer) = &mut self.framer else {
            if is_start {
                let mut packet = Packet::untimed(u32::from(self.id), Vec::new());
                packet.start = start;
                queue.push_back(packet);
            }
            return;
        };
        framer.push(payload, start);
        framer.queue_frames(u32::from(self.id), false, queue);
    }

    fn without_jumps(&mut self, start: f64) -> f64 {
        let mut shifted = start + self.shift;
        if let Some(last) = self.last_start.filter(|l| (shifted - l).abs() > MAX_JUMP_SECONDS) {
            self.shift += last - shifted;
            shifted = last;
        }
        self.last_start = Some(shifted);
        shifted
    }
}

/// The body of a table section, or `None` while it is not whole.
fn section(bytes: &[u8], table: u8) -> Result<Option<Bytes<'_>>, Fault> {
    let mut bytes = Bytes::new(bytes);
    let found = bytes.u8()?;
    let length = usize::from(bytes.u16_be()? & 0x0fff);
    if found != table {
        return Err(Fault::Damaged(format!("table {found} instead of {table}")));
    }
    let Ok(body) = bytes.take(length) else { return Ok(None) };
    // Number, version and section in front, a checksum at the end.
    Ok(body.get(5..length.saturating_sub(4)).map(Bytes::new))
}

/// The time in the header of a PES packet, and what follows the header.
fn pes(mut bytes: Bytes<'_>) -> Result<(Option<u64>, &[u8]), Fault> {
    if bytes.array()? != [0, 0, 1] {
        return Err(Fault::Damaged("no PES packet".into()));
    }
    bytes.take(3)?; // stream id and length
    let flags = bytes.u16_be()?;
    let header_bytes = bytes.u8()?;
    let mut header = Bytes::new(bytes.take(usize::from(header_bytes))?);
    let has_time = flags & 0x0080 != 0;
    let time = if has_time { header.array::<5>().ok() } else { None };
    let tick = time.map(|[a, b, c, d, e]| {
        let high = u64::from(a >> 1 & 7) << 30;
        high | u64::from(b) << 22 | u64::from(c >> 1) << 15 | u64::from(d) << 7 | u64::from(e >> 1)
    });
    Ok((tick, bytes.rest()))
}

enum Content {
    Sound(Codec),
    Picture,
}

/// What a stream of this type is; `None` for subtitles, data and the like.
fn content(kind: u8, descriptors: &[u8]) -> Option<Content> {
    let frames = |kind| Some(Content::Sound(Codec::Frames(kind)));
    let unknown = |name: &str| Some(Content::Sound(Codec::Unknown(name.into())));
    match kind {
        0x01 | 0x02 | 0x10 | 0x1b | 0x20 | 0x21 | 0x24 | 0x33 | 0xea => Some(Content::Picture),
        // The layer shows in the frames; broadcasts use layer 2.
        0x03 | 0x04 => frames(FrameKind::Mpeg(2)),
        0x0f => frames(FrameKind::Adts),
        0x11 => unknown("AAC in LATM"),
        0x81 => frames(FrameKind::Ac3),
        0x87 => frames(FrameKind::EnhancedAc3),
        0x80 => unknown("LPCM of Blu-ray"),
        0x82 | 0x85 | 0x86 => unknown("DTS"),
        0x83 => unknown("TrueHD"),
        0x06 => described(descriptors),
        _ => None,
    }
}

/// The codec of private data, by its descriptors.
fn described(descriptors: &[u8]) -> Option<Content> {
    let mut bytes = Bytes::new(descriptors);
    while let (Ok(tag), Ok(size)) = (bytes.u8(), bytes.u8()) {
        let body = bytes.take(usize::from(size)).ok()?;
        let codec = match (tag, body) {
            (0x6a, _) | (0x05, b"AC-3") => Codec::Frames(FrameKind::Ac3),
            (0x7a, _) | (0x05, b"EAC3") => Codec::Frames(FrameKind::EnhancedAc3),
            (0x7b, _) | (0x05, b"DTS1" | b"DTS2" | b"DTS3") => Codec::Unknown("DTS".into()),
            (0x05, b"Opus") => Codec::Unknown("Opus in a transport stream".into()),
            (0x7c, _) => Codec::Frames(FrameKind::Adts),
            _ => continue,
        };
        return Some(Content::Sound(codec));
    }
    None
}

impl Demuxer for TransportStream {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        for _ in 0..READ_PACKETS {
            if let Some(packet) = self.queue.pop_front() {
                return Ok(Event::Packet(packet));
            }
            if self.read_packet()? {
                continue;
            }
            for stream in &mut self.streams {
                if let Some(framer) = &mut stream.framer {
                    framer.queue_frames(u32::from(stream.id), true, &mut self.queue);
                }
            }
            return Ok(self.queue.pop_front().map_or(Event::End, Event::Packet));
        }
        Ok(Event::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::audio::{Audio, AudioOptions};
    use crate::error::Error;

    const TABLE: u16 = 0x100;
    const SOUND: u16 = 0x101;
    const PICTURES: u16 = 0x102;

    /// A packet that begins something; what its payload leaves is 0.
    fn packet(id: u16, payload: &[u8]) -> Vec<u8> {
        let [high, low] = (0x4000 | id).to_be_bytes();
        let mut packet = [&[SYNC, high, low, 0x10], payload].concat();
        packet.resize(PACKET_BYTES, 0);
        packet
    }

    /// The beginning of a PES packet.
    fn timed(id: u16, tick: u16) -> Vec<u8> {
        let [high, low] = (tick << 1).to_be_bytes();
        packet(id, &[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, high, low | 1])
    }

    /// The tables of one programme of AAC and pictures.
    fn tables() -> Vec<u8> {
        let programmes = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0x00, 0, 0, 0, 0];
        let head = [0, 2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe1, 0x01, 0xf0, 0];
        let streams = [0x0f, 0xe1, 0x01, 0xf0, 0, 0x1b, 0xe1, 0x02, 0xf0, 0];
        let programme = [&head[..], &streams, &[0; 4]].concat();
        [packet(0, &programmes), packet(TABLE, &programme)].concat()
    }

    fn media(bytes: Vec<u8>) -> Media {
        Media::new(Box::new(Cursor::new(bytes))).unwrap()
    }

    #[test]
    fn damage_at_the_end_of_a_buffer_does_not_end_the_stream() {
        for stride in STRIDES {
            for last in [stride - 1, stride / 2, 1] {
                let mut bytes = tables();
                for tick in 2..2 * READ_PACKETS as u16 {
                    bytes.extend(timed(PICTURES, tick));
                }
                let spread = |packet: &[u8]| [packet, &[0; 16][..stride - PACKET_BYTES]].concat();
                let mut bytes: Vec<u8> = bytes.chunks(PACKET_BYTES).flat_map(spread).collect();
                let end = READ_PACKETS * stride;
                bytes[end - 50 * stride..end].fill(0);
                bytes[end - last] = SYNC;
                let mut stream = open(&media(bytes), (0, stride)).unwrap();
                let mut picture_count = 0;
                loop {
                    match stream.next_event().unwrap() {
                        Event::End => break,
                        Event::Packet(_) => picture_count += 1,
                        _ => {}
                    }
                }
                // The packet in front of the damage is not believed, either.
                assert_eq!(picture_count, 2 * READ_PACKETS - 2 - 51, "{stride}, {last}");
            }
        }
    }

    #[test]
    fn a_stream_without_any_frame_can_be_cancelled() {
        let mut bytes = tables();
        for tick in 0..4_000 {
            bytes.extend(timed(SOUND, tick));
        }
        let mut reached = 1.0;
        let mut has_begun = false;
        let outcome = Audio::load_with(bytes, &AudioOptions::default(), &mut |fraction| {
            reached = fraction;
            if std::mem::replace(&mut has_begun, true) { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
        assert!(reached < 0.5, "cancelled at {reached}");
    }
}
