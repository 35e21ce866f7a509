//! Blocks of WMA: from bits to the lines of a spectrum.

use super::super::aac::{SCALE_FACTOR_CODES, SCALE_FACTOR_LENGTHS};
use super::super::bits::Bits;
use super::huffman::{Codebook, Lines, Run};
use super::layout::{Block as BlockLayout, Codebooks, Layout};
use super::tables::{GAIN_CODES, GAIN_LENGTHS, PAIRS};
use super::{codes_high, codes_low, codes_middle};

/// Numbers of the noise, which repeat.
const NOISE_COUNT: usize = 8_192;

/// In decibels: beyond what numbers can hold.
const MAX_GAIN: usize = 400;

/// One channel of the block being read, and what goes on into the next.
pub(super) struct Channel {
    is_coded: bool,
    /// Levels of lines, for blocks of the size that they were told for.
    levels: Vec<f32>,
    level_halvings: usize,
    greatest_level: f32,
    /// For each band that may be noise: how loud, in decibels, if it is.
    noise_gains: Vec<Option<i32>>,
    quantised: Vec<f32>,
    /// The lines, if any: of the spectrum, scaled for the inverse transform.
    pub(super) lines: Option<Vec<f32>>,
}

/// Where a block lies in its frame, by halvings of the frame's size.
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) halvings: usize,
    pub(super) halvings_before: usize,
    pub(super) halvings_after: usize,
}

/// Reads block after block.
pub(super) struct FrameReader {
    pub(super) channels: Vec<Channel>,
    /// Of the sum and of the difference of two channels.
    lines: [Lines; 2],
    band_levels: Codebook,
    gains: Codebook,
    noise: Vec<f32>,
    noise_at: usize,
    /// Sizes of the last block, of this one and of the next, once they are known.
    sizes: Option<[usize; 3]>,
    position: usize,
}

impl FrameReader {
    pub(super) fn new(layout: &Layout, channel_count: usize) -> Self {
        use {codes_high as high, codes_low as low, codes_middle as middle};
        let lines = match layout.codebooks {
            Codebooks::Low => [
                Lines::new(&low::SUM_CODES, &low::SUM_LENGTHS, &low::SUM_RUNS),
                Lines::new(&low::DIFFERENCE_CODES, &low::DIFFERENCE_LENGTHS, &low::DIFFERENCE_RUNS),
            ],
            Codebooks::Middle => [
                Lines::new(&middle::SUM_CODES, &middle::SUM_LENGTHS, &middle::SUM_RUNS),
                Lines::new(
                    &middle::DIFFERENCE_CODES,
                    &middle::DIFFERENCE_LENGTHS,
                    &middle::DIFFERENCE_RUNS,
                ),
            ],
            Codebooks::High => [
                Lines::new(&high::SUM_CODES, &high::SUM_LENGTHS, &high::SUM_RUNS),
                Lines::new(
                    &high::DIFFERENCE_CODES,
                    &high::DIFFERENCE_LENGTHS,
                    &high::DIFFERENCE_RUNS,
                ),
            ],
        };
        let mut seed = 1_u32;
        let noise_scale = layout.noise_scale * 3_f32.sqrt() / 2_147_483_648.0;
        let noise = (0..NOISE_COUNT).map(|_| {
            seed = seed.wrapping_mul(314_159).wrapping_add(1);
            seed.cast_signed() as f32 * noise_scale
        });
        let channel = || Channel {
            is_coded: false,
            levels: vec![0.0; 1 << layout.frame_bits],
            level_halvings: 0,
            greatest_level: 0.0,
            noise_gains: Vec::new(),
            quantised: Vec::new(),
            lines: None,
        };
        Self {
            channels: (0..channel_count).map(|_| channel()).collect(),
            lines,
            band_levels: Codebook::new(&SCALE_FACTOR_CODES, &SCALE_FACTOR_LENGTHS),
            gains: Codebook::new(&GAIN_CODES, &GAIN_LENGTHS),
            noise: noise.collect(),
            noise_at: 0,
            sizes: None,
            position: 0,
        }
    }

    /// Sizes are told anew at the start of a packet.
    pub(super) fn forget_sizes(&mut self) {
        self.sizes = None;
    }

    pub(super) fn begin_frame(&mut self) {
        self.position = 0;
    }

    /// The next block of the frame; `Some(None)` behind the last, `None` where bits make no sense.
    #[expect(clippy::option_option, reason = "the end is no failure")]
    pub(super) fn read_block(
        &mut self,
        layout: &Layout,
        bits: &mut Bits<'_>,
    ) -> Option<Option<Block>> {
        let frame_lines = 1 << layout.frame_bits;
        if self.position >= frame_lines {
            return Some(None);
        }
        let [halvings_before, halvings, halvings_after] = self.read_sizes(layout, bits)?;
        let start = self.position;
        let line_count = frame_lines >> halvings;
        if start + line_count > frame_lines || bits.remaining() == 0 {
            return None;
        }
        self.position += line_count;
        let has_difference = self.channels.len() == 2 && bits.take(1) == 1;
        for channel in &mut self.channels {
            channel.is_coded = bits.take(1) == 1;
            channel.lines = None;
        }
        if self.channels.iter().any(|channel| channel.is_coded) {
            self.read_lines(layout, halvings, has_difference, bits)?;
        }
        Some(Some(Block { start, halvings, halvings_before, halvings_after }))
    }

    fn read_sizes(&mut self, layout: &Layout, bits: &mut Bits<'_>) -> Option<[usize; 3]> {
        if !layout.has_variable_blocks {
            return Some([0; 3]);
        }
        let count = layout.blocks.len();
        let size_bits = (count - 1).max(1).ilog2() as usize + 1;
        let mut read = || Some(bits.take(size_bits)).filter(|halvings| *halvings < count);
        let sizes = match self.sizes {
            Some([_, this, next]) => [this, next, read()?],
            None => [read()?, read()?, read()?],
        };
        self.sizes = Some(sizes);
        Some(sizes)
    }

    fn read_lines(
        &mut self,
        layout: &Layout,
        halvings: usize,
        has_difference: bool,
        bits: &mut Bits<'_>,
    ) -> Option<()> {
        let block = &layout.blocks[halvings];
        let line_count = 1 << (layout.frame_bits - halvings);
        let total_gain = read_gain(bits)?;
        if layout.has_noise {
            self.read_noise_gains(block, bits)?;
        }
        // Shorter blocks may keep the levels of the last one.
        if halvings == 0 || bits.take(1) == 1 {
            for channel in self.channels.iter_mut().filter(|channel| channel.is_coded) {
                if layout.has_band_levels {
                    let first = layout.is_first_version;
                    channel.read_band_levels(&self.band_levels, block, line_count, first, bits)?;
                } else {
                    channel.read_curve(line_count, 1 << layout.frame_bits, bits);
                }
                channel.level_halvings = halvings;
            }
        }
        let level_bits = match total_gain {
            ..15 => 13,
            15..32 => 12,
            32..40 => 11,
            40..45 => 10,
            _ => 9,
        };
        let is_stereo = self.channels.len() == 2;
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if channel.is_coded {
                let noisy: usize = if layout.has_noise {
                    let gains = channel.noise_gains.iter().zip(&block.high_bands);
                    gains.filter(|(gain, _)| gain.is_some()).map(|(_, width)| width).sum()
                } else {
                    0
                };
                let told = (block.end_line - layout.first_line).saturating_sub(noisy);
                let lines = &self.lines[usize::from(index == 1 && has_difference)];
                channel.quantised.clear();
                channel.quantised.resize(line_count, 0.0);
                let run_bits = layout.frame_bits;
                read_runs(&mut channel.quantised, told, lines, [level_bits, run_bits], bits)?;
            }
            if layout.is_first_version && is_stereo {
                bits.align();
            }
        }
        self.scale_lines(layout, halvings, total_gain);
        if has_difference {
            self.undo_difference(line_count);
        }
        Some(())
    }

    fn read_noise_gains(&mut self, block: &BlockLayout, bits: &mut Bits<'_>) -> Option<()> {
        for channel in self.channels.iter_mut().filter(|channel| channel.is_coded) {
            channel.noise_gains.clear();
            let bands = block.high_bands.iter();
            channel.noise_gains.extend(bands.map(|_| (bits.take(1) == 1).then_some(0)));
        }
        for channel in self.channels.iter_mut().filter(|channel| channel.is_coded) {
            let mut last = None;
            for gain in channel.noise_gains.iter_mut().flatten() {
                *gain = match last {
                    None => bits.take(7) as i32 - 19,
                    Some(last) => last + self.gains.read(bits)? as i32 - 18,
                };
                last = Some(*gain);
            }
        }
        Some(())
    }

    /// Weighs what was told, and puts noise where nothing was.
    fn scale_lines(&mut self, layout: &Layout, halvings: usize, total_gain: usize) {
        let block = &layout.blocks[halvings];
        let line_count: usize = 1 << (layout.frame_bits - halvings);
        let quarter = line_count as f32 / 2.0;
        let norm = if layout.is_first_version { 1.0 / quarter.sqrt() } else { 1.0 / quarter };
        for channel in self.channels.iter_mut().filter(|channel| channel.is_coded) {
            let scale = 10_f32.powf(total_gain as f32 * 0.05) / channel.greatest_level * norm;
            let mut lines = vec![0.0; line_count];
            if !layout.has_noise {
                let told = layout.first_line..block.end_line;
                for (line, value) in told.zip(&channel.quantised) {
                    lines[line] = value * channel.level_at(line, halvings) * scale;
                }
                channel.lines = Some(lines);
                continue;
            }
            let mut noise = || {
                self.noise_at = (self.noise_at + 1) % NOISE_COUNT;
                self.noise[(self.noise_at + NOISE_COUNT - 1) % NOISE_COUNT]
            };
            for (line, value) in lines.iter_mut().enumerate().take(layout.first_line) {
                *value = noise() * channel.level_at(line, halvings) * scale;
            }
            let power = |start: usize, width: usize| {
                let levels = (start..start + width).map(|line| channel.level_at(line, halvings));
                levels.map(|level| level * level).sum::<f32>() / width as f32
            };
            let high = channel.high_bands(block);
            let last = high.iter().rev().find(|(_, _, gain)| gain.is_some());
            let last_power = last.map_or(1.0, |(start, width, _)| power(*start, *width));
            let low = (layout.first_line, block.high_line.saturating_sub(layout.first_line), None);
            let mut told = channel.quantised.iter();
            for (start, width, gain) in std::iter::once(low).chain(high) {
                let noise_scale = gain.map(|gain| {
                    let share = (power(start, width) / last_power).sqrt();
                    let loudness = 10_f32.powf(gain as f32 * 0.05);
                    share * loudness / (channel.greatest_level * layout.noise_scale) * norm
                });
                let band = lines.iter_mut().enumerate().skip(start).take(width);
                for (line, sum) in band {
                    let level = channel.level_at(line, halvings);
                    *sum = match noise_scale {
                        Some(noise_scale) => noise() * level * noise_scale,
                        None => {
                            let value = told.next().copied().unwrap_or(0.0);
                            (value + noise()) * level * scale
                        }
                    };
                }
            }
            let end = block.end_line.min(line_count);
            let level = channel.level_at(end.saturating_sub(1), halvings);
            for value in &mut lines[end..] {
                *value = noise() * level * scale;
            }
            channel.lines = Some(lines);
        }
    }

    /// From sum and difference to left and right.
    fn undo_difference(&mut self, line_count: usize) {
        let [left, right] = &mut self.channels[..] else { return };
        let Some(difference) = &mut right.lines else {
            // No difference was told.
            right.lines.clone_from(&left.lines);
            return;
        };
        let sum = left.lines.get_or_insert_with(|| vec![0.0; line_count]);
        for (left, right) in sum.iter_mut().zip(difference) {
            (*left, *right) = (*left + *right, *left - *right);
        }
    }
}

/// The loudness of the whole block, in decibels.
fn read_gain(bits: &mut Bits<'_>) -> Option<usize> {
    let mut gain = 1;
    while gain <= MAX_GAIN {
        let more = bits.take(7);
        gain += more;
        if more != 127 {
            return Some(gain);
        }
    }
    None
}

impl Channel {
    /// Start, width and gain of the bands that may be noise.
    fn high_bands(&self, block: &BlockLayout) -> Vec<(usize, usize, Option<i32>)> {
        let mut next = block.high_line;
        let bands = block.high_bands.iter().zip(&self.noise_gains);
        let place = |(width, gain): (&usize, &Option<i32>)| {
            next += width;
            (next - width, *width, *gain)
        };
        bands.map(place).collect()
    }

    fn level_at(&self, line: usize, halvings: usize) -> f32 {
        self.levels.get(line << halvings >> self.level_halvings).copied().unwrap_or(0.0)
    }

    /// A level for each band, in steps of 10^(1/16) from the one before.
    fn read_band_levels(
        &mut self,
        codebook: &Codebook,
        block: &BlockLayout,
        line_count: usize,
        is_first_version: bool,
        bits: &mut Bits<'_>,
    ) -> Option<()> {
        let mut last = 36;
        let mut start = 0;
        self.greatest_level = 0.0;
        for (index, width) in block.bands.iter().enumerate() {
            if index == 0 && is_first_version {
                last = bits.take(5) as i32 + 10;
            } else {
                last += codebook.read(bits)? as i32 - 60;
            }
            if !(-60..=95).contains(&last) {
                return None;
            }
            let level = 10_f64.powf(f64::from(last) / 16.0) as f32;
            self.greatest_level = self.greatest_level.max(level);
            let end = (start + width).min(line_count);
            self.levels[start..end].fill(level);
            start = end;
        }
        Some(())
    }

    /// The levels of all lines as a curve through line spectral pairs.
    fn read_curve(&mut self, line_count: usize, frame_lines: usize, bits: &mut Bits<'_>) {
        let pairs = PAIRS.map(|values| values[bits.take(values.len().ilog2() as usize)]);
        self.greatest_level = 0.0;
        for (line, level) in self.levels[..line_count].iter_mut().enumerate() {
            let angle = 2.0 * (std::f32::consts::PI / frame_lines as f32 * line as f32).cos();
            let [even, odd] = [0, 1].map(|first| {
                let factors = pairs.iter().skip(first).step_by(2);
                factors.fold(0.5, |product, pair| product * (angle - pair))
            });
            let power = odd * odd * (2.0 - angle) + even * even * (2.0 + angle);
            *level = power.max(1e-20).powf(-0.25);
            self.greatest_level = self.greatest_level.max(*level);
        }
    }
}

/// Lines as runs of zeros before a level; nothing follows the last one told.
fn read_runs(
    lines: &mut [f32],
    told: usize,
    codebook: &Lines,
    [level_bits, run_bits]: [usize; 2],
    bits: &mut Bits<'_>,
) -> Option<()> {
    let mut at = 0;
    while at < told {
        let level = match codebook.read(bits)? {
            Run::End => return Some(()),
            Run::Line { zeros, level } => {
                at += zeros;
                level
            }
            Run::Escape => {
                let level = bits.take(level_bits) as f32;
                at += bits.take(run_bits);
                level
            }
        };
        let sign = if bits.take(1) == 1 { 1.0 } else { -1.0 };
        if at >= told {
            return None;
        }
        lines[at] = sign * level;
        at += 1;
    }
    Some(())
}
