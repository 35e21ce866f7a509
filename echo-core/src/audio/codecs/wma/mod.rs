//! Windows Media Audio 1 and 2, the sound of `.wma` and `.wmv`.
//!
//! Frames of up to 2,048 samples are cut into blocks, each an MDCT whose lines are runs and levels
//! in Huffman codes, weighed by the level of their band; bands that are left out become noise. A
//! packet may hold several frames and end within one (the "bit reservoir"). Facts of the format:
//! ffmpeg's `wma.c`; Microsoft never published it. Left out: Professional, Lossless and Voice,
//! which are other codecs.

mod block;
mod codes_high;
mod codes_low;
mod codes_middle;
mod huffman;
mod layout;
mod synthesis;
mod tables;

use self::block::FrameReader;
use self::layout::Layout;
use self::synthesis::Synthesis;
use super::bits::Bits;
use super::{Decoder, Fault, Frames, Packet, unsupported};

/// What a container says of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audio) struct Format {
    pub(in crate::audio) is_first_version: bool,
    pub(in crate::audio) sample_rate_hz: u32,
    pub(in crate::audio) channels: u16,
    pub(in crate::audio) bit_rate: u32,
    /// Bytes of the packets that the codec cuts its bits into.
    pub(in crate::audio) block_bytes: u16,
    /// How the stream was coded.
    pub(in crate::audio) flags: u16,
}

impl Format {
    fn frame_bits(&self) -> usize {
        match self.sample_rate_hz {
            0..=16_000 => 9,
            16_001..=22_050 => 10,
            22_051..=32_000 if self.is_first_version => 10,
            _ => 11,
        }
    }

    /// What comes out before the first sample that went in: the transform's overlap, in seconds.
    pub(in crate::audio) fn delay(&self) -> f64 {
        (1_u32 << self.frame_bits()) as f64 / f64::from(self.sample_rate_hz.max(1))
    }

    /// Reads what stands behind a `WAVEFORMATEX`, by its format tag.
    pub(in crate::audio) fn flags(is_first_version: bool, extra: &[u8]) -> u16 {
        let at = if is_first_version { 2 } else { 4 };
        extra.get(at..at + 2).map_or(0, |flags| u16::from_le_bytes([flags[0], flags[1]]))
    }
}

/// A decoder of a stream.
pub(super) struct Wma {
    format: Format,
    layout: Layout,
    reader: FrameReader,
    synthesis: Synthesis,
    /// The start of a frame that goes on in the next packet, as bits.
    pending: Vec<bool>,
}

impl Wma {
    pub(super) fn new(format: &Format) -> Result<Self, Fault> {
        let layout = Layout::new(format)?;
        if format.block_bytes == 0 {
            return Err(unsupported("WMA without the size of its packets"));
        }
        let channel_count = usize::from(format.channels);
        Ok(Self {
            format: format.clone(),
            reader: FrameReader::new(&layout, channel_count),
            synthesis: Synthesis::new(&layout, channel_count),
            layout,
            pending: Vec::new(),
        })
    }

    fn decode_packet(&mut self, packet: &[u8], frames: &mut Frames) -> Option<()> {
        let mut bits = Bits::new(packet);
        if !self.layout.has_reservoir {
            return self.decode_frame(&mut bits, frames);
        }
        bits.skip(4);
        let frame_count = bits.take(4);
        let before = bits.take(self.layout.offset_bits + 3);
        if before > bits.remaining() {
            return None;
        }
        let is_continued = !self.pending.is_empty();
        self.pending.extend((0..before).map(|_| bits.take(1) == 1));
        if frame_count == 0 {
            self.pending.extend((0..bits.remaining()).map(|_| bits.take(1) == 1));
            return Some(());
        }
        if is_continued {
            let bytes = to_bytes(&self.pending);
            self.decode_frame(&mut Bits::new(&bytes), frames)?;
        }
        self.pending.clear();
        self.reader.forget_sizes();
        for _ in 1..frame_count {
            self.decode_frame(&mut bits, frames)?;
        }
        self.pending.extend((0..bits.remaining()).map(|_| bits.take(1) == 1));
        Some(())
    }

    fn decode_frame(&mut self, bits: &mut Bits<'_>, frames: &mut Frames) -> Option<()> {
        self.reader.begin_frame();
        while let Some(block) = self.reader.read_block(&self.layout, bits)? {
            self.synthesis.add(&block, &mut self.reader.channels);
        }
        self.synthesis.finish_frame(&mut frames.channels);
        Some(())
    }
}

/// Bits as bytes, the last of them filled with zeros.
fn to_bytes(bits: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| {
        bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
    };
    bits.chunks(8).map(byte).collect()
}

impl Decoder for Wma {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = self.format.sample_rate_hz;
        frames.channels.resize_with(usize::from(self.format.channels), Vec::new);
        // What is left of a packet is no packet.
        for block in packet.data.chunks_exact(usize::from(self.format.block_bytes)) {
            if self.decode_packet(block, frames).is_none() {
                self.pending.clear();
                self.reader.forget_sizes();
                return Err(Fault::Damaged("WMA: its bits make no sense".into()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bits_end() {
        let mut seed = 9_u32;
        for round in 0..400_u32 {
            let format = Format {
                is_first_version: round % 5 == 0,
                sample_rate_hz: [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000]
                    [round as usize % 7],
                channels: 1 + (round % 2) as u16,
                bit_rate: 8_000 << (round % 5),
                block_bytes: 700,
                flags: (round % 32) as u16,
            };
            let mut decoder = Wma::new(&format).unwrap();
            let mut frames = Frames::default();
            for _ in 0..4 {
                let data: Vec<u8> = (0..700)
                    .map(|_| {
                        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (seed >> 24) as u8
                    })
                    .collect();
                // Most are refused; all end.
                let _ = decoder.decode(&Packet::untimed(0, data), &mut frames);
                assert!(frames.len() <= 16 * 2_048);
            }
        }
    }
}
