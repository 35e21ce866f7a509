//! A block of AAC-LC taken apart into its channel elements.
//!
//! A raw data block is a row of elements without lengths: one channel, two channels, one channel
//! of low frequencies, and things that are no sound. Where one ends is known only after all its
//! codewords were read, which is what this does, without decoding them. Each element becomes a
//! block of its own for a decoder of one or two channels. Syntax: ISO/IEC 14496-3, section 4.4.2.

use super::codebooks::{Bands, CODEBOOKS, Node, SCALE_FACTORS, Tail};
use super::{Fault, unsupported};

/// More than any layout has; the elements of a damaged block are not worth their decoders.
const MAX_ELEMENTS: usize = 16;

const EIGHT_SHORT: u32 = 2;

/// Codebooks that stand for no lines, noise, and two kinds of intensity stereo.
const ZERO: u8 = 0;
const RESERVED: u8 = 12;
const NOISE: u8 = 13;

/// A channel element as a block of its own.
#[derive(Debug)]
pub(super) struct Element {
    /// Its kind and its number among its kind: with these it goes on in the next block.
    pub(super) name: u8,
    pub(super) is_pair: bool,
    pub(super) block: Vec<u8>,
}

/// The channel elements of a block, in their order.
pub(super) fn split(block: &[u8], sample_rate_hz: u32) -> Result<Vec<Element>, Fault> {
    let mut reader = Reader { bytes: block, position: 0, bands: Bands::for_rate(sample_rate_hz) };
    let mut elements = Vec::new();
    while reader.remaining() > 3 {
        let start = reader.position;
        let kind = reader.take(3)?;
        match kind {
            // One channel, and one of low frequencies.
            0 | 3 => {
                reader.take(4)?;
                reader.channel(None)?;
            }
            1 => {
                reader.take(4)?;
                reader.channel_pair()?;
            }
            2 => return Err(unsupported("AAC with coupled channels")),
            4 => reader.skip_data()?,
            5 => reader.skip_program()?,
            6 => reader.skip_fill()?,
            _ => break,
        }
        if matches!(kind, 0 | 1 | 3) {
            if elements.len() == MAX_ELEMENTS {
                return Err(Fault::Damaged("AAC with too many channels".into()));
            }
            let block = reader.cut(start);
            let name = block.first().copied().unwrap_or(0) >> 1;
            elements.push(Element { name, is_pair: kind == 1, block });
        }
    }
    Ok(elements)
}

/// What the windows of a channel have in common.
#[derive(Debug, Clone)]
struct Windows {
    is_short: bool,
    band_count: usize,
    /// Windows in each group.
    groups: Vec<usize>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    bands: Bands,
}

impl Reader<'_> {
    fn remaining(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    fn bit(&mut self) -> Result<bool, Fault> {
        let byte = self.bytes.get(self.position / 8).ok_or(Fault::Truncated)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Ok(bit == 1)
    }

    fn take(&mut self, count: usize) -> Result<u32, Fault> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Ok(value)
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        if count > self.remaining() {
            return Err(Fault::Truncated);
        }
        self.position += count;
        Ok(())
    }

    /// Everything since `start` as a block of its own, closed with the mark of its end.
    fn cut(&self, start: usize) -> Vec<u8> {
        let shift = start % 8;
        let length = self.position - start;
        let mut block: Vec<u8> = (0..length.div_ceil(8))
            .map(|index| {
                let first = start / 8 + index;
                let pair = [self.bytes[first], self.bytes.get(first + 1).copied().unwrap_or(0)];
                (u16::from_be_bytes(pair) << shift >> 8) as u8
            })
            .collect();
        let free = block.len() * 8 - length;
        if let Some(last) = block.last_mut() {
            let mark = (0b1110_0000_u16 >> (8 - free)) as u8;
            *last = *last & (0xff << free) | mark;
        }
        // At least as many bits of the mark as did not fit.
        block.push(0xff);
        block
    }

    fn codeword(&mut self, codebook: usize) -> Result<Tail, Fault> {
        let codebook = &CODEBOOKS[codebook];
        let mut node = 0;
        loop {
            let bit = self.bit()?;
            match codebook.step(node, bit) {
                Node::Inner(next) => node = next,
                Node::Leaf(tail) => return Ok(tail),
                Node::None => return Err(damaged()),
            }
        }
    }

    fn channel_pair(&mut self) -> Result<(), Fault> {
        let common = match self.bit()? {
            true => Some(self.windows()?),
            false => None,
        };
        if let Some(windows) = &common {
            // Which bands are coded as sum and difference: told for each, for all, or for none.
            if self.take(2)? == 1 {
                self.skip(windows.groups.len() * windows.band_count)?;
            }
        }
        self.channel(common.clone())?;
        self.channel(common)
    }

    fn windows(&mut self) -> Result<Windows, Fault> {
        if self.bit()? {
            return Err(damaged());
        }
        let is_short = self.take(2)? == EIGHT_SHORT;
        self.bit()?;
        let mut groups = vec![1];
        let band_count = if is_short {
            let band_count = self.take(4)?;
            for _ in 1..8 {
                match (self.bit()?, groups.last_mut()) {
                    (true, Some(last)) => *last += 1,
                    _ => groups.push(1),
                }
            }
            band_count
        } else {
            let band_count = self.take(6)?;
            if self.bit()? {
                return Err(unsupported("AAC with prediction"));
            }
            band_count
        };
        let edges = if is_short { self.bands.short } else { self.bands.long };
        if band_count as usize >= edges.len() {
            return Err(damaged());
        }
        Ok(Windows { is_short, band_count: band_count as usize, groups })
    }

    fn channel(&mut self, common: Option<Windows>) -> Result<(), Fault> {
        self.skip(8)?;
        let windows = match common {
            Some(windows) => windows,
            None => self.windows()?,
        };
        let codebooks = self.sections(&windows)?;
        self.scale_factors(&codebooks)?;
        if self.bit()? {
            let pulse_count = self.take(2)? as usize + 1;
            self.skip(6 + pulse_count * 9)?;
        }
        if self.bit()? {
            self.noise_shaping(windows.is_short)?;
        }
        if self.bit()? {
            return Err(unsupported("AAC with gain control"));
        }
        self.spectrum(&windows, &codebooks)
    }

    /// The codebook of each band, group after group.
    fn sections(&mut self, windows: &Windows) -> Result<Vec<u8>, Fault> {
        let bits = if windows.is_short { 3 } else { 5 };
        let escape = (1 << bits) - 1;
        let mut codebooks = Vec::with_capacity(windows.groups.len() * windows.band_count);
        for group in 1..=windows.groups.len() {
            let end = group * windows.band_count;
            while codebooks.len() < end {
                let codebook = self.take(4)? as u8;
                let mut length = 0;
                loop {
                    let part = self.take(bits)? as usize;
                    length += part;
                    if part < escape {
                        break;
                    }
                }
                if codebook == RESERVED || codebooks.len() + length > end {
                    return Err(damaged());
                }
                codebooks.resize(codebooks.len() + length, codebook);
            }
        }
        Ok(codebooks)
    }

    fn scale_factors(&mut self, codebooks: &[u8]) -> Result<(), Fault> {
        let mut is_first_noise = true;
        for codebook in codebooks {
            match *codebook {
                ZERO => {}
                NOISE if is_first_noise => {
                    is_first_noise = false;
                    self.skip(9)?;
                }
                _ => {
                    self.codeword(SCALE_FACTORS)?;
                }
            }
        }
        Ok(())
    }

    /// Filters over frequency that shape noise over time.
    fn noise_shaping(&mut self, is_short: bool) -> Result<(), Fault> {
        let (window_count, count_bits, length_bits, order_bits) =
            if is_short { (8, 1, 4, 3) } else { (1, 2, 6, 5) };
        for _ in 0..window_count {
            let filter_count = self.take(count_bits)?;
            if filter_count == 0 {
                continue;
            }
            let resolution = self.take(1)? as usize;
            for _ in 0..filter_count {
                self.skip(length_bits)?;
                let order = self.take(order_bits)? as usize;
                if order > 0 {
                    self.skip(1)?;
                    let is_compressed = self.take(1)? as usize;
                    self.skip(order * (3 + resolution - is_compressed))?;
                }
            }
        }
        Ok(())
    }

    fn spectrum(&mut self, windows: &Windows, codebooks: &[u8]) -> Result<(), Fault> {
        let edges = if windows.is_short { self.bands.short } else { self.bands.long };
        let bands = codebooks.iter().enumerate();
        for (index, codebook) in bands.filter(|(_, codebook)| (1..RESERVED).contains(*codebook)) {
            let (group, band) = (index / windows.band_count, index % windows.band_count);
            let width = usize::from(edges[band + 1] - edges[band]);
            let lines = width * windows.groups[group];
            let codebook = usize::from(*codebook);
            for _ in 0..lines / CODEBOOKS[codebook].lines {
                let tail = self.codeword(codebook)?;
                self.skip(usize::from(tail.sign_bits))?;
                for _ in 0..tail.escapes {
                    self.skip_escape()?;
                }
            }
        }
        Ok(())
    }

    /// A large magnitude: as many ones as it has bits beyond four, a zero, the bits.
    fn skip_escape(&mut self) -> Result<(), Fault> {
        let mut ones = 0;
        while self.bit()? {
            ones += 1;
            if ones > 8 {
                return Err(damaged());
            }
        }
        self.skip(ones + 4)
    }

    fn align(&mut self) {
        self.position = self.position.next_multiple_of(8);
    }

    fn skip_data(&mut self) -> Result<(), Fault> {
        self.skip(4)?;
        let is_aligned = self.bit()?;
        let mut count = self.take(8)?;
        if count == 255 {
            count += self.take(8)?;
        }
        if is_aligned {
            self.align();
        }
        self.skip(count as usize * 8)
    }

    fn skip_fill(&mut self) -> Result<(), Fault> {
        let mut count = self.take(4)?;
        if count == 15 {
            count += self.take(8)?;
            count -= 1;
        }
        self.skip(count as usize * 8)
    }

    /// A description of the layout.
    fn skip_program(&mut self) -> Result<(), Fault> {
        self.skip(10)?;
        let mut five_bits = 0;
        for _ in ["front", "side", "back"] {
            five_bits += self.take(4)?;
        }
        let four_bits = self.take(2)? + self.take(3)?;
        five_bits += self.take(4)?;
        for mixdown_bits in [4, 4, 3] {
            if self.bit()? {
                self.skip(mixdown_bits)?;
            }
        }
        self.skip(five_bits as usize * 5 + four_bits as usize * 4)?;
        self.align();
        let comment_bytes = self.take(8)?;
        self.skip(comment_bytes as usize * 8)
    }
}

fn damaged() -> Fault {
    Fault::Damaged("AAC: its codewords make no sense".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of an element of one channel that holds no band at all.
    const SILENT_CHANNEL: &str = "0000000_00_0_0_000000_0_0_0_0";

    fn bytes(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> = bits.bytes().filter(|b| *b != b'_').map(|b| b - b'0').collect();
        bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |v, (i, b)| v | b << (7 - i))).collect()
    }

    #[test]
    fn elements_are_cut_out_wherever_they_begin() {
        // Fill of one byte, then two channels with the numbers 0 and 1, then the end.
        let channel = |number: &str| format!("000{number}_00000000{}", &SILENT_CHANNEL[7..]);
        let fill = "110_0001_10101010";
        let block = format!("{fill}{}{}111", channel("0000"), channel("0001"));
        let elements = split(&bytes(&block), 48_000).unwrap();
        assert_eq!(elements.len(), 2);
        assert_eq!(elements[0].name, 0);
        assert_eq!(elements[1].name, 1);
        for (element, number) in elements.iter().zip(["0000", "0001"]) {
            let expected = bytes(&format!("{}111", channel(number)));
            assert_eq!(element.block[..expected.len() - 1], expected[..expected.len() - 1]);
            assert!(!element.is_pair);
        }
    }

    #[test]
    fn a_block_that_ends_early_is_a_fault() {
        let block = bytes(&format!("0000000_00000000{}", &SILENT_CHANNEL[7..]));
        assert!(matches!(split(&block[..2], 48_000), Err(Fault::Truncated)));
    }

    #[test]
    fn any_bytes_end() {
        let mut seed = 7_u32;
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..64)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            for element in split(&block, 44_100).into_iter().flatten() {
                assert!(element.block.len() <= block.len() + 2);
            }
        }
    }
}
