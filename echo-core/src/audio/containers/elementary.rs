//! Streams of frames without a container: MP3, MP2, AAC in ADTS, AC-3; also what WAV, AVI and
//! transport streams carry of them.
//!
//! A frame is believed where its header is followed by further ones, each where the one before
//! says. Anything between frames is skipped: tags, garbage in front, damage. The first frame of an
//! MP3 may be no sound but a note of the encoder (Xing, Info): the number of frames, and the
//! samples that encoder and decoder added at both ends.

use std::collections::VecDeque;

use super::frame_header::{FrameHeader, FrameKind};
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::source::Media;

/// How far into a file the first frame is looked for.
const MAX_SEARCH_BYTES: usize = 1 << 20;

/// Headers in a row that are no coincidence.
const SURE_FRAMES: usize = 4;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 16;

/// Samples by which an MP3 decoder delays, in addition to the encoder's delay.
const MP3_DECODER_DELAY: u32 = 529;

/// Opens the stream between two positions of a file.
pub(super) fn open(media: &Media, start: u64, end: Option<u64>) -> Result<Box<dyn Demuxer>, Fault> {
    let mut media = media.rewound();
    let end = end.unwrap_or(media.size_bytes());
    let limit = end.saturating_sub(start).min(MAX_SEARCH_BYTES as u64) as usize;
    let head = media.read_at(start, limit)?;
    let is_whole = start + head.len() as u64 >= end;
    let Some((offset, header)) = find_stream(&head, is_whole) else {
        return Err(Fault::Damaged("its content is of no known audio or video format".into()));
    };
    let mut stream = Stream {
        media,
        position: start + offset as u64,
        end,
        framer: Framer::new(header.kind),
        tracks: Vec::new(),
        next_start: None,
        pending: None,
        elapsed: 0.0,
        elapsed_bytes: 0,
    };
    let timing = stream.read_note(&head[offset..], &header);
    let codec = Codec::Frames(header.kind);
    stream.tracks.push(Track { id: 0, is_default: true, codec, timing });
    Ok(Box::new(stream))
}

/// Where the first frame lies that is followed by others.
fn find_stream(bytes: &[u8], is_whole: bool) -> Option<(usize, FrameHeader)> {
    for offset in 0..bytes.len() {
        let Some(header) = FrameHeader::parse(&bytes[offset..]) else { continue };
        let mut next = offset;
        let mut count = 0;
        while let Some(follower) = bytes.get(next..).and_then(FrameHeader::parse) {
            if !follower.kind.is_like(header.kind) || count == SURE_FRAMES {
                break;
            }
            next += follower.size_bytes;
            count += 1;
        }
        // A very short file: the frames fill it to its end, but for an ID3v1 tag.
        let fills = is_whole && count > 0 && next <= bytes.len() && bytes.len() - next <= 128;
        if count == SURE_FRAMES || (fills && offset < header.size_bytes) {
            return Some((offset, header));
        }
    }
    None
}

struct Stream {
    media: Media,
    position: u64,
    end: u64,
    framer: Framer,
    tracks: Vec<Track>,
    /// When the next frame is heard, if not right after the last one: the first before 0 by the
    /// encoder's delay.
    next_start: Option<f64>,
    /// A packet that waits for the report of what was skipped before it.
    pending: Option<Packet>,
    /// Time of the next frame, and bytes of frames so far.
    elapsed: f64,
    elapsed_bytes: u64,
}

impl Stream {
    /// Whether a frame is the note of an MP3 encoder, with which another stream begins: the times
    /// of the one before hold no longer.
    fn is_new_stream(&mut self, frame: &[u8]) -> bool {
        let Some(header) = FrameHeader::parse(frame) else { return false };
        let Some(note) = Mp3Note::parse(frame, &header) else { return false };
        let timing = self.follow_note(&note, &header);
        for track in &mut self.tracks {
            track.timing = timing.clone();
        }
        true
    }

    /// A frame as a packet, or word of what was skipped before it.
    fn packet(&mut self, frame: Frame) -> Result<Event, Fault> {
        let header = FrameHeader::parse(&frame.data).ok_or(Fault::Truncated)?;
        let mut packet = Packet::untimed(0, frame.data);
        let is_damage = frame.skipped_bytes > 0 && self.elapsed_bytes > 0;
        if is_damage {
            // Frames had about as many bytes a second where they cannot be read.
            let seconds_per_byte = self.elapsed.max(0.0) / self.elapsed_bytes as f64;
            self.elapsed += frame.skipped_bytes as f64 * seconds_per_byte;
            self.next_start = Some(self.elapsed);
        }
        packet.start = self.next_start.take();
        self.elapsed += header.duration();
        self.elapsed_bytes += header.size_bytes as u64;
        if is_damage {
            self.pending = Some(packet);
            let count = frame.skipped_bytes;
            return Err(Fault::Damaged(format!("{count} bytes between frames are no sound")));
        }
        Ok(Event::Packet(packet))
    }

    /// Skips the note of an MP3 encoder, if that is the first frame.
    fn read_note(&mut self, frame: &[u8], header: &FrameHeader) -> TrackTiming {
        let Some(note) = Mp3Note::parse(frame, header) else { return TrackTiming::default() };
        self.position += header.size_bytes as u64;
        self.follow_note(&note, header)
    }

    fn follow_note(&mut self, note: &Mp3Note, header: &FrameHeader) -> TrackTiming {
        let mut timing = TrackTiming::default();
        let rate = f64::from(header.sample_rate_hz);
        let decoder_delay = if note.has_delays { MP3_DECODER_DELAY } else { 0 };
        self.elapsed = -f64::from(note.delay_samples + decoder_delay) / rate;
        self.elapsed_bytes = 0;
        self.next_start = Some(self.elapsed);
        if let Some(frame_count) = note.frame_count {
            let added = note.delay_samples + note.padding_samples;
            let samples = u64::from(frame_count) * u64::from(header.samples);
            let duration = samples.saturating_sub(u64::from(added)) as f64 / rate;
            timing.declared_duration = Some(duration);
            timing.end = note.has_delays.then_some(duration);
        }
        timing
    }
}

impl Demuxer for Stream {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        if let Some(packet) = self.pending.take() {
            return Ok(Event::Packet(packet));
        }
        let is_last = self.position >= self.end;
        match self.framer.next_frame(is_last) {
            Some(frame) if self.is_new_stream(&frame.data) => return Ok(Event::NewTracks),
            Some(frame) => return self.packet(frame),
            None if is_last => return Ok(Event::End),
            None => {}
        }
        let count = (self.end - self.position).min(READ_BYTES as u64) as usize;
        let bytes = self.media.read_at(self.position, count)?;
        if bytes.is_empty() {
            self.end = self.position;
        }
        self.position += bytes.len() as u64;
        self.framer.push(&bytes, None);
        Ok(Event::Nothing)
    }
}

/// What an MP3 encoder noted in the first frame.
struct Mp3Note {
    frame_count: Option<u32>,
    delay_samples: u32,
    padding_samples: u32,
    has_delays: bool,
}

impl Mp3Note {
    fn parse(frame: &[u8], header: &FrameHeader) -> Option<Self> {
        if header.kind != FrameKind::Mpeg(3) {
            return None;
        }
        let frame = frame.get(..header.size_bytes)?;
        let plain =
            Self { frame_count: None, delay_samples: 0, padding_samples: 0, has_delays: false };
        if frame.get(36..40) == Some(b"VBRI") {
            return Some(plain);
        }
        let side_bytes = match (header.is_mpeg1, header.channels) {
            (true, 2) => 32,
            (true, _) | (false, 2) => 17,
            (false, _) => 9,
        };
        let note = frame.get(4 + side_bytes..)?;
        if !note.starts_with(b"Xing") && !note.starts_with(b"Info") {
            return None;
        }
        let fields = u32::from_be_bytes(*note.get(4..)?.first_chunk()?);
        let mut rest = note.get(8..)?;
        let mut frame_count = None;
        // Number of frames, number of bytes, table of contents, quality.
        for (bit, size) in [(1, 4), (2, 4), (4, 100), (8, 4)] {
            if fields & bit != 0 {
                if bit == 1 {
                    frame_count = Some(u32::from_be_bytes(*rest.first_chunk()?));
                }
                rest = rest.get(size..)?;
            }
        }
        // The encoder's name, settings, then 12 bits each of delay and padding.
        let Some(&[a, b, c]) = rest.get(21..24) else { return Some(Self { frame_count, ..plain }) };
        let is_known = [b"LAME", b"Lavf", b"Lavc", b"GOGO"].iter().any(|n| rest.starts_with(*n));
        let delays = u32::from_be_bytes([0, a, b, c]);
        Some(Self {
            frame_count,
            delay_samples: if is_known { delays >> 12 } else { 0 },
            padding_samples: if is_known { delays & 0xfff } else { 0 },
            has_delays: is_known && delays != 0,
        })
    }
}

/// One frame cut out of a stream.
pub(super) struct Frame {
    pub(super) data: Vec<u8>,
    /// The time that came with the bytes it begins in, for the first frame there.
    pub(super) start: Option<f64>,
    /// Bytes before it that are neither frames nor tags.
    pub(super) skipped_bytes: usize,
}

/// Cuts a stream of bytes into frames.
pub(super) struct Framer {
    kind: FrameKind,
    buffer: Vec<u8>,
    /// What of the buffer is done with.
    used: usize,
    is_synced: bool,
    skipped_bytes: usize,
    /// Bytes of a tag that are still to come.
    tag_bytes: usize,
    /// Positions in the buffer from which a time holds.
    times: VecDeque<(usize, f64)>,
}

impl Framer {
    pub(super) fn new(kind: FrameKind) -> Self {
        Self {
            kind,
            buffer: Vec::new(),
            used: 0,
            is_synced: false,
            skipped_bytes: 0,
            tag_bytes: 0,
            times: VecDeque::new(),
        }
    }

    /// Adds bytes; `start` is the time of the first frame that begins in them.
    pub(super) fn push(&mut self, bytes: &[u8], start: Option<f64>) {
        self.buffer.drain(..self.used);
        for (position, _) in &mut self.times {
            *position = position.saturating_sub(self.used);
        }
        self.used = 0;
        // Of the times that have been passed, and of those at one place, the last holds.
        while self.times.get(1).is_some_and(|(position, _)| *position == 0) {
            self.times.pop_front();
        }
        if let Some(start) = start {
            let here = self.buffer.len();
            self.times.retain(|(position, _)| *position != here);
            self.times.push_back((here, start));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends all whole frames as packets of a track; damage between them shows in their times.
    pub(super) fn queue_frames(&mut self, track: u32, is_last: bool, queue: &mut VecDeque<Packet>) {
        while let Some(frame) = self.next_frame(is_last) {
            let mut packet = Packet::untimed(track, frame.data);
            packet.start = frame.start;
            queue.push_back(packet);
        }
    }

    /// The next whole frame; `None` if more bytes are needed.
    pub(super) fn next_frame(&mut self, is_last: bool) -> Option<Frame> {
        loop {
            let tag_bytes = self.tag_bytes.min(self.buffer.len() - self.used);
            self.used += tag_bytes;
            self.tag_bytes -= tag_bytes;
            let rest = &self.buffer[self.used..];
            let header = FrameHeader::parse(rest).filter(|header| header.kind.is_like(self.kind));
            let Some(header) = header else {
                if rest.len() < FrameHeader::MAX_BYTES {
                    return None;
                }
                self.skip();
                continue;
            };
            if rest.len() < header.size_bytes {
                // The last frame of a file that was cut: too short to decode.
                return None;
            }
            let follower = &rest[header.size_bytes..];
            let is_confirmed = match FrameHeader::parse(follower) {
                Some(next) => next.kind.is_like(header.kind),
                None if follower.len() >= FrameHeader::MAX_BYTES => false,
                None if is_last => true,
                None => return None,
            };
            // In step, one bad header does not condemn the frame before it.
            if !is_confirmed && !self.is_synced {
                self.skip();
                continue;
            }
            self.is_synced = is_confirmed;
            self.kind = header.kind;
            return Some(self.cut(header.size_bytes));
        }
    }

    fn skip(&mut self) {
        self.is_synced = false;
        match tag_size_bytes(&self.buffer[self.used..]) {
            Some(size_bytes) => self.tag_bytes = size_bytes,
            None => {
                self.used += 1;
                self.skipped_bytes += 1;
            }
        }
    }

    fn cut(&mut self, size_bytes: usize) -> Frame {
        let data = self.buffer[self.used..self.used + size_bytes].to_vec();
        let mut start = None;
        while let Some((_, time)) = self.times.front().filter(|(at, _)| *at <= self.used) {
            start = Some(*time);
            self.times.pop_front();
        }
        self.used += size_bytes;
        Frame { data, start, skipped_bytes: std::mem::take(&mut self.skipped_bytes) }
    }
}

/// The size of a tag that begins here: ID3 in front or at the end, APE.
fn tag_size_bytes(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [b'I', b'D', b'3', 0..=9, _, _, a @ ..0x80, b @ ..0x80, c @ ..0x80, d @ ..0x80, ..] => {
            Some(10 + [a, b, c, d].iter().fold(0, |size, byte| size << 7 | usize::from(*byte)))
        }
        [b'T', b'A', b'G', ..] => Some(128),
        [b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', _, _, _, _, a, b, c, d, ..] => {
            usize::try_from(u32::from_le_bytes([a, b, c, d])).ok().map(|size| size + 32)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_times_without_a_frame_only_the_last_is_kept() {
        let mut framer = Framer::new(FrameKind::Mpeg(3));
        for second in 0..1_000 {
            framer.push(&[0; 20], Some(f64::from(second)));
            assert!(framer.next_frame(false).is_none());
        }
        assert!(framer.times.len() <= 2, "{} times", framer.times.len());
        for second in 1_000..2_000 {
            framer.push(&[], Some(f64::from(second)));
            assert!(framer.next_frame(false).is_none());
        }
        assert!(framer.times.len() <= 2, "{} times", framer.times.len());
        // MPEG-1, layer 3, 128 kbit/s at 44.1 kHz.
        let mut frame = vec![0; 417];
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
        framer.push(&frame.repeat(2), None);
        let found = framer.next_frame(false).unwrap();
        assert_eq!((found.data.len(), found.start), (417, Some(1_999.0)));
    }
}
