//! Flash video: a list of tags, each a piece of sound or picture with its time in milliseconds.
//!
//! Source: Adobe Flash Video File Format Specification 10.1, annex E.

use std::collections::VecDeque;

use super::bytes::Bytes;
use super::elementary::Framer;
use super::frame_header::FrameKind;
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::codecs::pcm::{Pcm, Sample};
use crate::audio::source::Media;

/// The part of a picture that is read.
const VIDEO_HEADER_BYTES: usize = 8;

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// Tags in front of the first sound, after which a file counts as having none.
const MAX_SEARCHED_TAGS: u32 = 10_000;

/// Opens one.
pub(super) fn open(media: &Media, head: &[u8]) -> Result<Box<dyn Demuxer>, Fault> {
    let header_bytes = Bytes::new(head.get(5..).unwrap_or_default()).u32_be()?;
    let mut flv = Flv {
        media: media.rewound(),
        position: u64::from(header_bytes),
        tracks: Vec::new(),
        framer: None,
        queue: VecDeque::new(),
    };
    for _ in 0..MAX_SEARCHED_TAGS {
        let Some(tag) = flv.next_tag()? else { break };
        flv.take(tag)?;
        if !flv.tracks.is_empty() {
            break;
        }
    }
    Ok(Box::new(flv))
}

struct Flv {
    media: Media,
    position: u64,
    tracks: Vec<Track>,
    /// MP3 frames need not begin where tags do.
    framer: Option<Framer>,
    queue: VecDeque<Packet>,
}

struct Tag {
    kind: u8,
    start: f64,
    data: Vec<u8>,
}

impl Flv {
    fn next_tag(&mut self) -> Result<Option<Tag>, Fault> {
        // The size of the previous tag, then the header of this one.
        let header = self.media.read_at(self.position, 15)?;
        if header.len() < 15 {
            return Ok(None);
        }
        let mut bytes = Bytes::new(&header);
        bytes.take(4)?;
        let [kind, a, b, c] = bytes.array()?;
        let size = u32::from_be_bytes([0, a, b, c]) as usize;
        let [low_a, low_b, low_c, high] = bytes.array()?;
        let milliseconds = u32::from_be_bytes([high, low_a, low_b, low_c]);
        // Pictures are skipped without reading them.
        let wanted = if kind & 0x1f == AUDIO { size } else { size.min(VIDEO_HEADER_BYTES) };
        let data = self.media.read_at(self.position + 15, wanted)?;
        if data.len() < wanted {
            return Err(Fault::Truncated);
        }
        self.position += 15 + size as u64;
        let start = f64::from(milliseconds) / 1_000.0;
        Ok(Some(Tag { kind: kind & 0x1f, start, data }))
    }

    fn take(&mut self, tag: Tag) -> Result<(), Fault> {
        if tag.kind == VIDEO {
            let mut packet = Packet::untimed(u32::from(VIDEO), Vec::new());
            packet.start = picture_delay(&tag.data).map(|delay| tag.start + delay);
            self.queue.push_back(packet);
        }
        let (AUDIO, Some((&flags, body))) = (tag.kind, tag.data.split_first()) else {
            return Ok(());
        };
        let body = match (flags >> 4, body) {
            // A configuration, which comes once in front.
            (10, [0, configuration @ ..]) => {
                let configuration = configuration.into();
                self.use_codec(|| Ok(Codec::Aac { configuration }))?;
                return Ok(());
            }
            (10, [_, block @ ..]) => block,
            (_, body) => body,
        };
        self.use_codec(|| codec(flags))?;
        if let Some(framer) = &mut self.framer {
            framer.push(body, Some(tag.start));
            framer.queue_frames(u32::from(AUDIO), false, &mut self.queue);
            return Ok(());
        }
        let mut packet = Packet::untimed(u32::from(AUDIO), body.to_vec());
        packet.start = Some(tag.start);
        self.queue.push_back(packet);
        Ok(())
    }

    fn use_codec(&mut self, codec: impl FnOnce() -> Result<Codec, Fault>) -> Result<(), Fault> {
        if self.tracks.is_empty() {
            let codec = codec()?;
            if let Codec::Frames(kind) = codec {
                self.framer = Some(Framer::new(kind));
            }
            let timing = TrackTiming::default();
            self.tracks.push(Track { id: u32::from(AUDIO), is_default: true, codec, timing });
        }
        Ok(())
    }
}

/// Seconds between a picture's decoding, which the tag's time is of, and its showing; `None` for
/// what is no picture.
fn picture_delay(data: &[u8]) -> Option<f64> {
    match *data {
        // H.264: a picture, and the delay in 24 bits, signed. Other kinds are headers.
        [flags, 1, a, b, c, ..] if flags & 0x8f == 7 => {
            Some(f64::from(i32::from_be_bytes([a, b, c, 0]) >> 8) / 1_000.0)
        }
        [flags, ..] if flags & 0x8f == 7 => None,
        // Enhanced FLV: coded frames, with delay for codecs that have it.
        [flags, _, _, _, _, a, b, c, ..] if flags & 0x8f == 0x81 => {
            Some(f64::from(i32::from_be_bytes([a, b, c, 0]) >> 8) / 1_000.0)
        }
        [flags, ..] if flags & 0x80 != 0 => None,
        _ => Some(0.0),
    }
}

/// The codec of a tag that begins with these flags.
fn codec(flags: u8) -> Result<Codec, Fault> {
    let channels = u16::from(flags & 1) + 1;
    let sample_rate_hz = [5_512, 11_025, 22_050, 44_100][usize::from(flags >> 2 & 3)];
    let wide = if flags & 2 == 0 { Sample::U8 } else { Sample::S16Le };
    let pcm = |sample| Ok(Codec::Pcm(Pcm { sample, channels, sample_rate_hz }));
    let telephone = |sample| Ok(Codec::Pcm(Pcm { sample, channels, sample_rate_hz: 8_000 }));
    let unknown = |name: &str| Ok(Codec::Unknown(name.into()));
    match flags >> 4 {
        0 | 3 => pcm(wide),
        1 => unknown("ADPCM of Flash"),
        2 | 14 => Ok(Codec::Frames(FrameKind::Mpeg(3))),
        4..=6 => unknown("Nellymoser"),
        7 => telephone(Sample::ALaw),
        8 => telephone(Sample::MuLaw),
        10 => Err(Fault::Damaged("AAC without its configuration".into())),
        11 => unknown("Speex"),
        number => unknown(&format!("number {number} of Flash")),
    }
}

impl Demuxer for Flv {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(packet) = self.queue.pop_front() {
                return Ok(Event::Packet(packet));
            }
            match self.next_tag()? {
                Some(tag) => self.take(tag)?,
                None => {
                    if let Some(framer) = &mut self.framer {
                        framer.queue_frames(u32::from(AUDIO), true, &mut self.queue);
                    }
                    return Ok(self.queue.pop_front().map_or(Event::End, Event::Packet));
                }
            }
        }
    }
}
