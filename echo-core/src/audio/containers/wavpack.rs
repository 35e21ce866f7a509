//! WavPack files: a row of blocks, each with a header that says where it belongs.
//!
//! A block holds one or two channels of up to some seconds; the blocks of all channels follow each
//! other and make one packet. Tags may stand behind the blocks. Header: WavPack 4 & 5 binary file
//! format, section 2.

use super::bytes::Bytes;
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming, unsupported};
use crate::audio::resample::RATES_HZ;
use crate::audio::source::Media;

const HEADER_BYTES: usize = 32;

/// What the format allows for one block.
const MAX_BLOCK_BYTES: u64 = 1 << 20;

/// Blocks of one packet: two channels each, more than any layout has.
const MAX_PACKET_BLOCKS: usize = 32;

/// Blocks without sound that may stand in front.
const MAX_BLOCKS_BEFORE: usize = 1_000;

/// How far the next block is looked for behind damage.
const MAX_SEARCH_BYTES: usize = 1 << 22;

const RATES: [u32; 15] = [
    6_000, 8_000, 9_600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000,
    88_200, 96_000, 192_000,
];

/// Metadata that holds a rate beyond the table.
const RATE_ID: u8 = 0x27;

/// Opens a file that begins at a position.
pub(super) fn open(media: &Media, start: u64) -> Result<Box<dyn Demuxer>, Fault> {
    let mut blocks =
        Blocks { media: media.rewound(), position: start, sample_rate_hz: 0, tracks: Vec::new() };
    let (first, data) = blocks.first_sound()?;
    blocks.sample_rate_hz = first.sample_rate_hz(&data)?;
    let timing = TrackTiming {
        declared_duration: first
            .sample_count
            .map(|count| count as f64 / f64::from(blocks.sample_rate_hz)),
        gap_tolerance: Some(0.02),
        ..TrackTiming::default()
    };
    let codec = Codec::WavPack { bits: first.bits(), sample_rate_hz: blocks.sample_rate_hz };
    blocks.tracks.push(Track { id: 0, is_default: true, codec, timing });
    Ok(Box::new(blocks))
}

/// What a header says.
#[derive(Debug, Clone, Copy)]
struct Header {
    size_bytes: u64,
    /// Place of the block in the file, in samples, and the number of samples of the whole.
    first_sample: u64,
    sample_count: Option<u64>,
    block_samples: u32,
    flags: u32,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(bytes);
        if &bytes.array().ok()? != b"wvpk" {
            return None;
        }
        let size_bytes = u64::from(bytes.u32_le().ok()?) + 8;
        let version = bytes.u16_le().ok()?;
        // Numbers of samples have 40 bits, the upper 8 of them apart.
        let first_high = u64::from(bytes.u8().ok()?) << 32;
        let count_high = u64::from(bytes.u8().ok()?) << 32;
        let count_low = bytes.u32_le().ok()?;
        let first_sample = first_high | u64::from(bytes.u32_le().ok()?);
        let block_samples = bytes.u32_le().ok()?;
        let flags = bytes.u32_le().ok()?;
        let is_sane = (0x402..=0x410).contains(&version)
            && (HEADER_BYTES as u64..=MAX_BLOCK_BYTES).contains(&size_bytes);
        let sample_count = (count_low != u32::MAX).then_some(count_high | u64::from(count_low));
        is_sane.then_some(Self { size_bytes, first_sample, sample_count, block_samples, flags })
    }

    fn is_last_of_packet(&self) -> bool {
        self.flags & 0x1000 != 0
    }

    /// Of whole numbers; 0 for floats.
    fn bits(&self) -> u32 {
        if self.flags & 0x80 != 0 { 0 } else { (self.flags & 3) * 8 + 8 }
    }

    fn sample_rate_hz(&self, block: &[u8]) -> Result<u32, Fault> {
        if self.flags & 0x8000_0000 != 0 {
            return Err(unsupported("WavPack of DSD"));
        }
        let index = (self.flags >> 23 & 15) as usize;
        let rate = RATES.get(index).copied().or_else(|| own_rate(block)).unwrap_or(0);
        if RATES_HZ.contains(&rate) {
            Ok(rate)
        } else {
            Err(Fault::Damaged(format!("sample rate is {rate} Hz")))
        }
    }
}

/// The rate that stands in the metadata of a block.
fn own_rate(block: &[u8]) -> Option<u32> {
    let mut bytes = Bytes::new(block.get(HEADER_BYTES..)?);
    loop {
        let id = bytes.u8().ok()?;
        // Sizes count pairs of bytes; a large one has two bytes more, an odd one a byte less.
        let mut size = usize::from(bytes.u8().ok()?);
        if id & 0x80 != 0 {
            size |= usize::from(bytes.u16_le().ok()?) << 8;
        }
        let data = bytes.take(size * 2).ok()?;
        if id & 0x3f == RATE_ID {
            let &[low, middle, high, ..] = data else { return None };
            return Some(u32::from_le_bytes([low, middle, high, 0]));
        }
    }
}

struct Blocks {
    media: Media,
    position: u64,
    sample_rate_hz: u32,
    tracks: Vec<Track>,
}

impl Blocks {
    /// The first block with sound, which stays the next one.
    fn first_sound(&mut self) -> Result<(Header, Vec<u8>), Fault> {
        for _ in 0..MAX_BLOCKS_BEFORE {
            let start = self.position;
            let Some((header, data)) = self.next_block()? else { break };
            if header.block_samples > 0 {
                self.position = start;
                return Ok((header, data));
            }
        }
        Err(Fault::Damaged("WavPack without sound".into()))
    }

    /// The next whole block; `None` where there are no more.
    fn next_block(&mut self) -> Result<Option<(Header, Vec<u8>)>, Fault> {
        let head = self.media.read_at(self.position, HEADER_BYTES)?;
        let Some(header) = Header::parse(&head) else {
            return if self.find_block()? {
                Err(Fault::Damaged("between blocks are bytes that are no sound".into()))
            } else {
                Ok(None)
            };
        };
        let data = self.media.read_at(self.position, header.size_bytes as usize)?;
        if (data.len() as u64) < header.size_bytes {
            return Err(Fault::Truncated);
        }
        self.position += header.size_bytes;
        Ok(Some((header, data)))
    }

    /// Goes to the next block; `false` if only tags follow, or nothing.
    fn find_block(&mut self) -> Result<bool, Fault> {
        let bytes = self.media.read_at(self.position, MAX_SEARCH_BYTES)?;
        let found = (1..bytes.len()).find(|at| Header::parse(&bytes[*at..]).is_some());
        self.position += found.unwrap_or(bytes.len()) as u64;
        Ok(found.is_some())
    }
}

impl Demuxer for Blocks {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        let mut packet = Vec::new();
        let mut first_sample = 0;
        for _ in 0..MAX_PACKET_BLOCKS {
            let Some((header, data)) = self.next_block()? else { return Ok(Event::End) };
            if header.block_samples == 0 {
                continue;
            }
            if packet.is_empty() {
                first_sample = header.first_sample;
            }
            packet.extend_from_slice(&data);
            if header.is_last_of_packet() {
                let mut packet = Packet::untimed(0, packet);
                packet.start = Some(first_sample as f64 / f64::from(self.sample_rate_hz));
                return Ok(Event::Packet(packet));
            }
        }
        Err(Fault::Damaged("WavPack: the blocks of a packet have no end".into()))
    }
}
