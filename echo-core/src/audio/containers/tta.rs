//! True Audio files: a header, the sizes of all frames, the frames.
//!
//! A frame lasts 256/245 seconds, the last one less. Header: signature, format, channels, bits,
//! rate, number of samples, checksum; each size in 4 bytes, then their checksum.

use super::bytes::Bytes;
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming, unsupported};
use crate::audio::resample::RATES_HZ;
use crate::audio::source::Media;

const HEADER_BYTES: u64 = 22;

/// Sizes read at once.
const SIZES_AT_ONCE: u64 = 4_096;

/// Opens a file that begins at a position.
pub(super) fn open(media: &Media, start: u64) -> Result<Box<dyn Demuxer>, Fault> {
    let mut media = media.rewound();
    let header = media.read_at(start, HEADER_BYTES as usize)?;
    let mut bytes = Bytes::new(&header);
    bytes.take(4)?;
    let format = bytes.u16_le()?;
    let channels = bytes.u16_le()?;
    let bits = bytes.u16_le()?;
    let sample_rate_hz = bytes.u32_le()?;
    let sample_count = u64::from(bytes.u32_le()?);
    match format {
        1 => {}
        2 => return Err(unsupported("True Audio with a password")),
        3 => return Err(unsupported("True Audio of floats")),
        _ => return Err(Fault::Damaged(format!("True Audio of format {format}"))),
    }
    if !(1..=6).contains(&channels) || !(16..=24).contains(&bits) {
        let what = format!("True Audio with {channels} channels of {bits} bits");
        return Err(unsupported(&what));
    }
    if !RATES_HZ.contains(&sample_rate_hz) {
        return Err(Fault::Damaged(format!("sample rate is {sample_rate_hz} Hz")));
    }
    let frame_samples = u64::from(sample_rate_hz) * 256 / 245;
    let frame_count = sample_count.div_ceil(frame_samples);
    let timing = TrackTiming {
        declared_duration: Some(sample_count as f64 / f64::from(sample_rate_hz)),
        gap_tolerance: Some(0.02),
        ..TrackTiming::default()
    };
    let codec = Codec::TrueAudio { channels, bits, sample_rate_hz };
    let sizes_start = start + HEADER_BYTES;
    Ok(Box::new(Frames {
        media,
        position: sizes_start + frame_count * 4 + 4,
        sizes_start,
        sizes: Vec::new(),
        frame: 0,
        frame_count,
        frame_samples,
        sample_count,
        sample_rate_hz,
        tracks: vec![Track { id: 0, is_default: true, codec, timing }],
    }))
}

struct Frames {
    media: Media,
    position: u64,
    sizes_start: u64,
    /// Of some frames, from one whose number is a multiple of [`SIZES_AT_ONCE`].
    sizes: Vec<u8>,
    frame: u64,
    frame_count: u64,
    frame_samples: u64,
    sample_count: u64,
    sample_rate_hz: u32,
    tracks: Vec<Track>,
}

impl Demuxer for Frames {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        if self.frame == self.frame_count {
            return Ok(Event::End);
        }
        let place = self.frame % SIZES_AT_ONCE;
        if place == 0 {
            let offset = self.sizes_start + self.frame * 4;
            self.sizes = self.media.read_at(offset, SIZES_AT_ONCE as usize * 4)?;
        }
        let size = self.sizes.get(place as usize * 4..).and_then(|sizes| sizes.first_chunk());
        let size = u32::from_le_bytes(*size.ok_or(Fault::Truncated)?);
        let data = self.media.read_at(self.position, size as usize)?;
        if data.len() < size as usize {
            return Err(Fault::Truncated);
        }
        let first_sample = self.frame * self.frame_samples;
        self.position += u64::from(size);
        self.frame += 1;
        let mut packet = Packet::untimed(0, data);
        packet.ticks = self.frame_samples.min(self.sample_count - first_sample);
        packet.start = Some(first_sample as f64 / f64::from(self.sample_rate_hz));
        Ok(Event::Packet(packet))
    }
}
