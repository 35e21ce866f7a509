//! Speex in Ogg, which symphonia does not know: pages of packets, with the place of their end.
//!
//! A page's position counts the samples up to the end of its last packet (RFC 3533); the first page
//! of sound has fewer than its packets hold if an encoder's delay is to be cut, the last one if
//! padding is. Pages of other streams are stepped over.

use std::collections::VecDeque;

use super::bytes::Bytes;
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::codecs::speex::Head;
use crate::audio::source::Media;

/// A header without its table, and the longest page.
const HEADER_BYTES: usize = 27;
const MAX_PAGE_BYTES: usize = HEADER_BYTES + 255 + 255 * 255;

/// A packet of speech is far shorter.
const MAX_PACKET_BYTES: usize = 1 << 20;

const IS_CONTINUED: u8 = 1;
const IS_LAST: u8 = 4;

/// Whether a file begins with the header of such a stream.
pub(super) fn is_speex(head: &[u8]) -> bool {
    head.starts_with(b"OggS") && head.get(28..36) == Some(b"Speex   ")
}

/// Opens one that begins at a position.
pub(super) fn open(media: &Media, start: u64) -> Result<Box<dyn Demuxer>, Fault> {
    let mut media = media.rewound();
    let bytes = media.read_at(start, MAX_PAGE_BYTES)?;
    let page = Page::parse(&bytes)?;
    let head = Head::parse(page.body)?;
    let timing = TrackTiming { gap_tolerance: Some(0.02), ..TrackTiming::default() };
    let codec = Codec::Speex(head);
    let position = start + page.size_bytes as u64;
    Ok(Box::new(Stream {
        serial: page.serial,
        position,
        media,
        head,
        // The comments, and whatever else is announced.
        skipped_packets: head.extra_headers.saturating_add(1),
        partial: Vec::new(),
        next_sample: None,
        queue: VecDeque::new(),
        tracks: vec![Track { id: 0, is_default: true, codec, timing }],
    }))
}

struct Page<'a> {
    flags: u8,
    end_sample: i64,
    serial: u32,
    /// Lengths of pieces; one below 255 ends a packet.
    table: &'a [u8],
    body: &'a [u8],
    size_bytes: usize,
}

impl<'a> Page<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let whole = bytes.len();
        let mut bytes = Bytes::new(bytes);
        if &bytes.array()? != b"OggS" {
            return Err(Fault::Damaged("between pages are bytes that are no sound".into()));
        }
        bytes.u8()?;
        let flags = bytes.u8()?;
        let end_sample = bytes.u64_le()?.cast_signed();
        let serial = bytes.u32_le()?;
        bytes.take(8)?;
        let count = bytes.u8()?;
        let table = bytes.take(usize::from(count))?;
        let body = bytes.take(table.iter().map(|length| usize::from(*length)).sum())?;
        let size_bytes = whole - bytes.rest().len();
        Ok(Self { flags, end_sample, serial, table, body, size_bytes })
    }
}

struct Stream {
    media: Media,
    position: u64,
    serial: u32,
    head: Head,
    skipped_packets: u32,
    /// The start of a packet that goes on in the next page.
    partial: Vec<u8>,
    /// Of the next packet; `None` before the first.
    next_sample: Option<i64>,
    queue: VecDeque<Packet>,
    tracks: Vec<Track>,
}

impl Stream {
    /// Queues the packets that end in the next page; `false` at the end of the file.
    fn read_page(&mut self) -> Result<bool, Fault> {
        let bytes = self.media.read_at(self.position, MAX_PAGE_BYTES)?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let page = match Page::parse(&bytes) {
            Ok(page) => page,
            Err(Fault::Truncated) => return Err(Fault::Truncated),
            Err(fault) => {
                let next = (1..bytes.len()).find(|at| bytes[*at..].starts_with(b"OggS"));
                self.position += next.unwrap_or(bytes.len()) as u64;
                self.partial.clear();
                return Err(fault);
            }
        };
        self.position += page.size_bytes as u64;
        if page.serial == self.serial {
            self.take_page(&page);
        }
        Ok(true)
    }

    fn take_page(&mut self, page: &Page<'_>) {
        if page.flags & IS_CONTINUED == 0 {
            self.partial.clear();
        }
        let mut packets = Vec::new();
        let mut rest = page.body;
        for length in page.table {
            let (piece, next) = rest.split_at(usize::from(*length).min(rest.len()));
            rest = next;
            if self.partial.len() < MAX_PACKET_BYTES {
                self.partial.extend_from_slice(piece);
            }
            if *length < 255 {
                let packet = std::mem::take(&mut self.partial);
                if self.skipped_packets > 0 {
                    self.skipped_packets -= 1;
                } else {
                    packets.push(packet);
                }
            }
        }
        self.queue_packets(packets, page);
    }

    fn queue_packets(&mut self, packets: Vec<Vec<u8>>, page: &Page<'_>) {
        let length = i64::from(self.head.packet_samples());
        let count = packets.len() as i64;
        let rate = f64::from(self.head.sample_rate_hz.max(1));
        let is_last = page.flags & IS_LAST != 0;
        let declared = page.end_sample.saturating_sub(count * length);
        let first = match self.next_sample {
            Some(next) => next,
            // Before 0 lies the encoder's delay. A cut at the end is no delay.
            None if is_last || declared < -length => 0,
            None => declared,
        };
        for (index, data) in packets.into_iter().enumerate() {
            let start = first + index as i64 * length - i64::from(self.head.delay_samples());
            let mut packet = Packet::untimed(0, data);
            packet.start = Some(start as f64 / rate);
            if is_last {
                let excess = (start + length - page.end_sample).clamp(0, length);
                packet.trim_end = excess as f64 / rate;
            }
            self.queue.push_back(packet);
        }
        if count > 0 {
            self.next_sample = Some(first + count * length);
        }
    }
}

impl Demuxer for Stream {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(packet) = self.queue.pop_front() {
                return Ok(Event::Packet(packet));
            }
            if !self.read_page()? {
                return Ok(Event::End);
            }
        }
    }
}
