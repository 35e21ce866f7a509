//! WAV and its relatives: RIFF, RF64 and BW64 (sizes of 64 bits), Sony Wave64.
//!
//! A file is a list of chunks; `fmt ` says how samples are written, `data` holds them. Writers to a
//! pipe leave the sizes at 0 or 0xFFFFFFFF: the samples then reach to the end of the file, as they
//! do in a file that was cut. Format tags: RFC 2361; 64-bit sizes: EBU Tech 3306.

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_ADPCM_IMA_WAV, CODEC_ID_ADPCM_MS};

use super::bytes::Bytes;
use super::frame_header::FrameKind;
use super::{Codec, Demuxer, Event, Fault, Packet, Track, TrackTiming, elementary};
use crate::audio::codecs::pcm::{Pcm, Sample};
use crate::audio::codecs::unsupported;
use crate::audio::downmix::MAX_CHANNELS;
use crate::audio::resample::RATES_HZ;
use crate::audio::source::Media;

/// Frames of uncompressed samples in one packet.
const PACKET_FRAMES: usize = 4_096;

/// More chunks in front of the samples than any writer makes.
const MAX_CHUNKS: usize = 1_000;

/// The part of a `fmt ` chunk that is read; the rest is of no use to a decoder here.
const MAX_FORMAT_BYTES: u64 = 1_024;

/// What writers to a pipe put for a size: all ones, or those less the header; sox stays below 2^31.
const OPEN_SIZES: [std::ops::RangeInclusive<u64>; 2] =
    [0xffff_ffd0..=0xffff_ffff, 0x7fff_f000..=0x7fff_ffff];

/// The first GUID of a Wave64 file, which begins with `riff`.
const WAVE64_RIFF: &[u8; 16] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";

/// Whether these are the first bytes of such a file.
pub(super) fn is_wave(head: &[u8]) -> bool {
    let is_riff = [b"RIFF", b"RF64", b"BW64"].iter().any(|id| head.starts_with(*id));
    (is_riff && head.get(8..12) == Some(b"WAVE")) || head.starts_with(WAVE64_RIFF)
}

/// Opens one.
pub(super) fn open(media: &Media, head: &[u8]) -> Result<Box<dyn Demuxer>, Fault> {
    let mut media = media.rewound();
    let is_wave64 = head.starts_with(WAVE64_RIFF);
    let layout = Layout::find(&mut media, is_wave64)?;
    let format = Format::parse(&layout.format)?;
    let available = media.size_bytes().saturating_sub(layout.data_start);
    let data_end = layout.data_start + layout.data_bytes.unwrap_or(available).min(available);
    let (codec, unit_bytes, frames_per_unit) = match format.kind()? {
        Kind::Pcm(sample) => {
            let pcm =
                Pcm { sample, channels: format.channels, sample_rate_hz: format.sample_rate_hz };
            (Codec::Pcm(pcm), pcm.frame_bytes(), 1)
        }
        Kind::Adpcm(params, frames_per_block) => {
            (Codec::Symphonia(params), usize::from(format.block_bytes), frames_per_block)
        }
        Kind::G722 => (Codec::G722, 1, 2),
        Kind::Gsm => (Codec::GsmMicrosoft { sample_rate_hz: format.sample_rate_hz }, 65, 320),
        Kind::Aac => return Err(unsupported("AAC in WAV")),
        Kind::Frames(_) => return elementary::open(&media, layout.data_start, Some(data_end)),
    };
    let unit_bytes = unit_bytes.max(1);
    let declared = layout.data_bytes.filter(|bytes| *bytes > available).map(|bytes| {
        let frames = bytes / unit_bytes as u64 * frames_per_unit;
        frames as f64 / f64::from(format.sample_rate_hz)
    });
    let timing = TrackTiming { declared_duration: declared, ..TrackTiming::default() };
    let units_per_packet = (PACKET_FRAMES as u64 / frames_per_unit).max(1) as usize;
    Ok(Box::new(Blocks {
        media,
        position: layout.data_start,
        end: data_end,
        tracks: vec![Track { id: 0, is_default: true, codec, timing }],
        unit_bytes,
        frames_per_unit,
        units_per_packet,
    }))
}

/// Where the two chunks of interest are.
struct Layout {
    format: Vec<u8>,
    data_start: u64,
    /// `None`: to the end of the file.
    data_bytes: Option<u64>,
}

impl Layout {
    fn find(media: &mut Media, is_wave64: bool) -> Result<Self, Fault> {
        let mut format = None;
        let mut wide_data_bytes = None;
        let mut position = if is_wave64 { 40 } else { 12 };
        for _ in 0..MAX_CHUNKS {
            let Some(chunk) = Chunk::read(media, position, is_wave64)? else { break };
            match &chunk.id {
                b"fmt " => {
                    let count = chunk.size_bytes.min(MAX_FORMAT_BYTES) as usize;
                    format = Some(media.read_at(chunk.start, count)?);
                }
                b"ds64" => {
                    // RIFF size, then data size.
                    let sizes = media.read_at(chunk.start, 16)?;
                    wide_data_bytes = Bytes::new(sizes.get(8..).unwrap_or_default()).u64_le().ok();
                }
                b"data" => {
                    let format = format.ok_or_else(|| {
                        Fault::Damaged("no `fmt ` chunk before the samples".into())
                    })?;
                    let is_open = chunk.is_open(media, is_wave64)?;
                    let size = wide_data_bytes.filter(|_| chunk.size_bytes == 0xffff_ffff);
                    let data_bytes = size.or((!is_open).then_some(chunk.size_bytes));
                    return Ok(Self { format, data_start: chunk.start, data_bytes });
                }
                _ => {}
            }
            position = chunk.next;
        }
        Err(Fault::Damaged("no `data` chunk".into()))
    }
}

struct Chunk {
    id: [u8; 4],
    start: u64,
    size_bytes: u64,
    next: u64,
}

impl Chunk {
    /// The chunk at a position; `None` at the end of the file.
    fn read(media: &mut Media, position: u64, is_wave64: bool) -> Result<Option<Self>, Fault> {
        let header_bytes = if is_wave64 { 24 } else { 8 };
        let header = media.read_at(position, header_bytes)?;
        if header.len() < header_bytes {
            return Ok(None);
        }
        let mut bytes = Bytes::new(&header);
        let id = bytes.array::<4>()?;
        let start = position.saturating_add(header_bytes as u64);
        // Wave64 counts the header and aligns to 8 bytes, RIFF does not and aligns to 2.
        let (size_bytes, alignment) = if is_wave64 {
            bytes.take(12)?;
            (bytes.u64_le()?.saturating_sub(24), 8)
        } else {
            (u64::from(bytes.u32_le()?), 2)
        };
        let padded = size_bytes.checked_next_multiple_of(alignment).unwrap_or(size_bytes);
        Ok(Some(Self { id, start, size_bytes, next: start.saturating_add(padded) }))
    }

    /// Whether the writer never filled in the size.
    fn is_open(&self, media: &mut Media, is_wave64: bool) -> Result<bool, Fault> {
        if is_wave64 || self.size_bytes != 0 {
            return Ok(
                !is_wave64 && OPEN_SIZES.iter().any(|range| range.contains(&self.size_bytes))
            );
        }
        // Really empty if another chunk follows that ends where the file does, or before.
        let follower = Self::read(media, self.start, false)?;
        let is_chunk = |chunk: &Self| {
            chunk.id.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
                && chunk.start.saturating_add(chunk.size_bytes) <= media.size_bytes()
        };
        Ok(!follower.as_ref().is_some_and(is_chunk))
    }
}

/// What a `fmt ` chunk says (`WAVEFORMATEX`), which AVI has too.
#[derive(Debug)]
pub(super) struct Format {
    tag: u16,
    pub(super) channels: u16,
    pub(super) sample_rate_hz: u32,
    pub(super) block_bytes: u16,
    bits: u16,
    pub(super) extra: Vec<u8>,
}

/// How the samples that follow are to be read.
pub(super) enum Kind {
    Pcm(Sample),
    /// Blocks that symphonia decodes, with the frames in each.
    Adpcm(Box<AudioCodecParameters>, u64),
    Gsm,
    G722,
    /// Blocks of AAC, described by the extra bytes.
    Aac,
    /// A stream of frames that carry headers of their own.
    Frames(FrameKind),
}

impl Format {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut bytes = Bytes::new(bytes);
        let mut format = Self {
            tag: bytes.u16_le()?,
            channels: bytes.u16_le()?,
            sample_rate_hz: bytes.u32_le()?,
            block_bytes: bytes.u32_le().and(bytes.u16_le())?,
            bits: bytes.u16_le().unwrap_or(0),
            extra: bytes.rest().get(2..).unwrap_or_default().to_vec(),
        };
        // WAVE_FORMAT_EXTENSIBLE: valid bits, speaker mask, then a GUID that begins with the tag.
        if format.tag == 0xfffe {
            let mut extra = Bytes::new(&format.extra);
            extra.take(6)?;
            format.tag = extra.u16_le()?;
        }
        Ok(format)
    }

    pub(super) fn kind(&self) -> Result<Kind, Fault> {
        let (channels, rate) = (self.channels, self.sample_rate_hz);
        if channels == 0 || usize::from(channels) > MAX_CHANNELS {
            let reason = format!("{channels} channels, expected 1 to {MAX_CHANNELS}");
            return Err(Fault::Damaged(reason));
        }
        if !RATES_HZ.contains(&rate) {
            let (low, high) = (RATES_HZ.start(), RATES_HZ.end());
            let reason = format!("sample rate is {rate} Hz, expected {low} to {high}");
            return Err(Fault::Damaged(reason));
        }
        Ok(match self.tag {
            0x0001 | 0x0003 => Kind::Pcm(self.sample()?),
            0x0006 => Kind::Pcm(Sample::ALaw),
            0x0007 => Kind::Pcm(Sample::MuLaw),
            0x0002 | 0x0011 => self.adpcm()?,
            0x0031 => Kind::Gsm,
            0x0065 | 0x028f if channels == 1 => Kind::G722,
            0x0050 => Kind::Frames(FrameKind::Mpeg(2)),
            0x0055 => Kind::Frames(FrameKind::Mpeg(3)),
            0x1600 | 0x1601 => Kind::Frames(FrameKind::Adts),
            0x2000 => Kind::Frames(FrameKind::Ac3),
            0x00ff => Kind::Aac,
            tag => return Err(unsupported(&tag_name(tag))),
        })
    }

    fn sample(&self) -> Result<Sample, Fault> {
        // Odd widths (12, 20 bits) sit at the top of the next whole number of bytes.
        let bytes = match self.block_bytes / self.channels {
            0 => self.bits.div_ceil(8),
            bytes => bytes,
        };
        match (self.tag, bytes, self.bits) {
            (0x0001, 1, 8) => Ok(Sample::U8),
            (0x0001, 2, 9..=16) => Ok(Sample::S16Le),
            (0x0001, 3, 17..=24) => Ok(Sample::S24Le),
            (0x0001, 4, 17..=32) => Ok(Sample::S32Le),
            (0x0003, 4, 32) => Ok(Sample::F32Le),
            (0x0003, 8, 64) => Ok(Sample::F64Le),
            _ => {
                let reason = format!("{} bits a sample in {bytes} bytes", self.bits);
                Err(Fault::Damaged(reason))
            }
        }
    }

    fn adpcm(&self) -> Result<Kind, Fault> {
        let frames_per_block = u64::from(Bytes::new(&self.extra).u16_le()?);
        if self.channels > 2 || self.block_bytes == 0 || frames_per_block == 0 {
            let reason =
                format!("ADPCM of {} channels in blocks of {frames_per_block}", self.channels);
            return Err(Fault::Damaged(reason));
        }
        let mut params = AudioCodecParameters::new();
        params
            .for_codec(if self.tag == 2 { CODEC_ID_ADPCM_MS } else { CODEC_ID_ADPCM_IMA_WAV })
            .with_sample_rate(self.sample_rate_hz)
            .with_channels(symphonia::core::audio::Channels::Discrete(self.channels))
            .with_frames_per_block(frames_per_block)
            .with_max_frames_per_packet(frames_per_block.max(PACKET_FRAMES as u64));
        Ok(Kind::Adpcm(Box::new(params), frames_per_block))
    }
}

/// Codecs that are met in WAV and AVI and cannot be decoded.
fn tag_name(tag: u16) -> String {
    let name = match tag {
        0x0022 => "DSP TrueSpeech",
        0x0040 | 0x0045 | 0x0064 => "G.726",
        0x0042 => "G.723.1",
        0x0065 | 0x028f => "G.722",
        0x0083 | 0x0133 => "G.729",
        0x0130 => "ACELP.net",
        0x0160 | 0x0161 => "Windows Media Audio",
        0x0162 => "Windows Media Audio Professional",
        0x0163 => "Windows Media Audio Lossless",
        0x1602 | 0x1610 => "AAC in LATM",
        0x2001 => "DTS",
        _ => return format!("with format tag {tag:#06x}"),
    };
    name.to_owned()
}

/// Samples, or blocks of equal length, from one place of a file to another.
pub(super) struct Blocks {
    pub(super) media: Media,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) tracks: Vec<Track>,
    pub(super) unit_bytes: usize,
    pub(super) frames_per_unit: u64,
    pub(super) units_per_packet: usize,
}

impl Demuxer for Blocks {
    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_event(&mut self) -> Result<Event, Fault> {
        let wanted = (self.unit_bytes * self.units_per_packet) as u64;
        let count = wanted.min(self.end.saturating_sub(self.position)) as usize;
        let data = self.media.read_at(self.position, count)?;
        self.position += data.len() as u64;
        if data.is_empty() {
            return Ok(Event::End);
        }
        let mut packet = Packet::untimed(0, data);
        packet.ticks = (packet.data.len() / self.unit_bytes) as u64 * self.frames_per_unit;
        Ok(Event::Packet(packet))
    }
}
