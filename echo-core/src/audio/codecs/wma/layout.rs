//! What a WMA stream looks like, from its rate, bit rate and flags: sizes of blocks, bands, and
//! where noise takes the place of lines.

use super::tables::{BANDS_22050, BANDS_32000, BANDS_44100, CRITICAL_BANDS_HZ};
use super::{Fault, Format};

/// The shortest block has 128 lines.
const LEAST_BLOCK_BITS: usize = 7;

/// Which of the codebooks for spectra are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codebooks {
    Low,
    Middle,
    High,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) is_first_version: bool,
    /// Whether bands have levels of their own, not a curve through line spectral pairs.
    pub(super) has_band_levels: bool,
    pub(super) has_reservoir: bool,
    pub(super) has_variable_blocks: bool,
    pub(super) has_noise: bool,
    pub(super) noise_scale: f32,
    pub(super) frame_bits: usize,
    /// Bits of the number of bits that belong to the packet before.
    pub(super) offset_bits: usize,
    pub(super) codebooks: Codebooks,
    /// The first line that is told.
    pub(super) first_line: usize,
    /// For blocks of a whole frame, of half a frame and so on.
    pub(super) blocks: Vec<Block>,
}

/// Blocks of one size.
#[derive(Debug)]
pub(super) struct Block {
    /// Widths of bands.
    pub(super) bands: Vec<usize>,
    /// One behind the last line that is told.
    pub(super) end_line: usize,
    /// From where on bands may be noise, and their widths from there.
    pub(super) high_line: usize,
    pub(super) high_bands: Vec<usize>,
}

impl Layout {
    pub(super) fn new(format: &Format) -> Result<Self, Fault> {
        let rate = format.sample_rate_hz;
        let channels = u32::from(format.channels);
        if !(1..=50_000).contains(&rate) || !(1..=2).contains(&channels) || format.bit_rate == 0 {
            let what = format!("WMA with {channels} channels at {rate} Hz");
            return Err(Fault::Damaged(what));
        }
        let is_first_version = format.is_first_version;
        let frame_bits = format.frame_bits();
        let frame_lines = 1_usize << frame_bits;
        let bits_per_sample = format.bit_rate as f32 / (channels * rate) as f32;
        let (has_noise, high_hz) = high_part(format, bits_per_sample);
        let has_variable_blocks = format.flags & 4 != 0;
        let mut size_count = 1;
        if has_variable_blocks {
            let halvings = usize::from(format.flags >> 3 & 3) + 1;
            let more = if format.bit_rate / channels >= 32_000 { 2 } else { 0 };
            size_count = (halvings + more).min(frame_bits - LEAST_BLOCK_BITS) + 1;
        }
        let stereo = if channels == 2 { bits_per_sample * 1.6 } else { bits_per_sample };
        let codebooks = match stereo {
            ..0.72 if rate >= 32_000 => Codebooks::Low,
            ..1.16 if rate >= 32_000 => Codebooks::Middle,
            _ => Codebooks::High,
        };
        let has_band_levels = format.flags & 1 != 0;
        let frame_bytes = (bits_per_sample * frame_lines as f32 / 8.0 + 0.5) as u32;
        let block = |halvings| Block::new(format, frame_bits, halvings, high_hz);
        Ok(Self {
            is_first_version,
            has_band_levels,
            has_reservoir: format.flags & 2 != 0,
            has_variable_blocks,
            has_noise,
            noise_scale: if has_band_levels { 0.02 } else { 0.04 },
            frame_bits,
            offset_bits: frame_bytes.max(1).ilog2() as usize + 2,
            codebooks,
            first_line: if is_first_version { 3 } else { 0 },
            blocks: (0..size_count).map(block).collect(),
        })
    }
}

/// Whether there is noise, and from what frequency on.
fn high_part(format: &Format, bits_per_sample: f32) -> (bool, f32) {
    let half_rate = format.sample_rate_hz as f32 * 0.5;
    let stereo = if format.channels == 2 { bits_per_sample * 1.6 } else { bits_per_sample };
    let bits = bits_per_sample;
    let class = match format.sample_rate_hz {
        rate if format.is_first_version => rate,
        44_100.. => 44_100,
        22_050.. => 22_050,
        16_000.. => 16_000,
        11_025.. => 11_025,
        8_000.. => 8_000,
        rate => rate,
    };
    let share = match class {
        44_100 if stereo >= 0.61 => None,
        44_100 => Some(0.4),
        22_050 if stereo >= 1.16 => None,
        22_050 if stereo >= 0.72 => Some(0.7),
        22_050 => Some(0.6),
        16_000 if bits > 0.5 => Some(0.5),
        16_000 => Some(0.3),
        11_025 => Some(0.7),
        8_000 if bits <= 0.625 => Some(0.5),
        8_000 if bits > 0.75 => None,
        8_000 => Some(0.65),
        _ if bits >= 0.8 => Some(0.75),
        _ if bits >= 0.6 => Some(0.6),
        _ => Some(0.5),
    };
    (share.is_some(), half_rate * share.unwrap_or(1.0))
}

impl Block {
    fn new(format: &Format, frame_bits: usize, halvings: usize, high_hz: f32) -> Self {
        let rate = format.sample_rate_hz;
        let lines = (1_usize << frame_bits) >> halvings;
        let bands = bands(format, frame_bits - halvings);
        let frame_lines = 1_usize << frame_bits;
        let end_line = (frame_lines - frame_lines * 9 / 100) >> halvings;
        let high_line = ((lines * 2) as f32 * high_hz / rate as f32 + 0.5) as usize;
        let mut high_bands = Vec::new();
        let mut start = 0;
        for width in &bands {
            let end = start + width;
            let (from, to) = (start.max(high_line), end.min(end_line));
            if to > from {
                high_bands.push(to - from);
            }
            start = end;
        }
        Self { bands, end_line, high_line, high_bands }
    }
}

/// Widths of the bands of a block: from a table, or after the bands of hearing.
fn bands(format: &Format, block_bits: usize) -> Vec<usize> {
    let rate = format.sample_rate_hz as usize;
    let lines = 1_usize << block_bits;
    let size = block_bits - LEAST_BLOCK_BITS;
    let tables = match rate {
        _ if format.is_first_version => None,
        44_100.. => Some(&BANDS_44100),
        32_000.. => Some(&BANDS_32000),
        22_050.. => Some(&BANDS_22050),
        _ => None,
    };
    if let Some(table) = tables.and_then(|tables| tables.get(size)) {
        return table.iter().map(|width| usize::from(*width)).collect();
    }
    let mut widths = Vec::new();
    let mut start = 0;
    for edge in CRITICAL_BANDS_HZ {
        let doubled = lines * 2 * edge as usize;
        let end = if format.is_first_version {
            (doubled + rate / 2) / rate
        } else {
            (doubled + rate * 2) / (4 * rate) * 4
        };
        let end = end.min(lines);
        if end > start || format.is_first_version {
            widths.push(end - start);
        }
        if end >= lines {
            break;
        }
        start = end;
    }
    widths
}
