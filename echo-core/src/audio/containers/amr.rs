//! AMR-WB files: a line of signature, then frames, each behind a byte that says its length
//! (RFC 4867, section 5).

use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming};
use crate::audio::codecs::amr_wb::frame_bytes;
use crate::audio::source::Media;

pub(super) const SIGNATURE: &[u8] = b"#!AMR-WB\n";

/// A second of sound.
const PACKET_FRAMES: usize = 50;
const MAX_FRAME_BYTES: usize = 61;

/// Opens one.
pub(super) fn open(media: &Media) -> Box<dyn Demuxer> {
    let timing = TrackTiming::default();
    let codec = Codec::AmrWb;
    Box::new(Stream {
        media: media.rewound(),
        position: SIGNATURE.len() as u64,
        is_cut: false,
        tracks: vec![Track { id: 0, is_default: true, codec, timing }],
    })
}

struct Stream {
    media: Media,
    position: u64,
    is_cut: bool,
    tracks: Vec<Track>,
}

impl Demuxer for Stream {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        if self.is_cut {
            return Err(Fault::Truncated);
        }
        let bytes = self.media.read_at(self.position, PACKET_FRAMES * MAX_FRAME_BYTES)?;
        let mut length = 0;
        for _ in 0..PACKET_FRAMES {
            let Some(header) = bytes.get(length) else { break };
            // Bytes that begin no frame are stepped over.
            let Some(frame) = frame_bytes(*header) else {
                if length > 0 {
                    break;
                }
                self.position += 1;
                return Err(Fault::Damaged("between frames are bytes that are no sound".into()));
            };
            if length + frame > bytes.len() {
                self.is_cut = true;
                break;
            }
            length += frame;
        }
        self.position += length as u64;
        match length {
            0 if self.is_cut => Err(Fault::Truncated),
            0 => Ok(Event::End),
            _ => Ok(Event::Packet(Packet::untimed(0, bytes[..length].to_vec()))),
        }
    }
}
