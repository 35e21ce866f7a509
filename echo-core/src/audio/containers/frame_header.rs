//! Headers of frames that describe themselves: MPEG audio, AAC in ADTS, AC-3 and E-AC-3.
//!
//! Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), 13818-7 section 6.2 (ADTS), ETSI TS 102 366
//! section 4.4 and annex E.1 (AC-3, E-AC-3).

/// The families a stream does not change between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audio) enum FrameKind {
    /// Layer 1, 2 or 3.
    Mpeg(u8),
    Adts,
    Ac3,
    EnhancedAc3,
}

impl FrameKind {
    /// Whether a stream of this kind may go on with that one.
    pub(in crate::audio) fn is_like(self, other: Self) -> bool {
        let is_ac3 = |kind| matches!(kind, Self::Ac3 | Self::EnhancedAc3);
        let is_mpeg = |kind| matches!(kind, Self::Mpeg(_));
        self == other || (is_ac3(self) && is_ac3(other)) || (is_mpeg(self) && is_mpeg(other))
    }
}

/// What the header of one frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audio) struct FrameHeader {
    pub(in crate::audio) kind: FrameKind,
    /// Header included.
    pub(in crate::audio) size_bytes: usize,
    /// Samples in each channel.
    pub(in crate::audio) samples: u32,
    pub(in crate::audio) sample_rate_hz: u32,
    pub(in crate::audio) channels: u16,
    /// A header of MPEG-1 rather than 2 or 2.5.
    pub(in crate::audio) is_mpeg1: bool,
}

impl FrameHeader {
    /// The longest header that is looked at.
    pub(in crate::audio) const MAX_BYTES: usize = 8;

    /// The header at the start of `bytes`, if there is one.
    pub(in crate::audio) fn parse(bytes: &[u8]) -> Option<Self> {
        match *bytes.first_chunk::<{ Self::MAX_BYTES }>()? {
            [0x0b, 0x77, ..] => ac3(bytes),
            [0xff, second, ..] if second & 0xf6 == 0xf0 => adts(bytes),
            [0xff, second, ..] if second & 0xe0 == 0xe0 => mpeg(bytes),
            _ => None,
        }
    }

    /// Seconds.
    pub(in crate::audio) fn duration(&self) -> f64 {
        f64::from(self.samples) / f64::from(self.sample_rate_hz)
    }
}

const MPEG1_KBPS: [[u32; 15]; 3] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
];
const MPEG2_KBPS: [[u32; 15]; 3] = [
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

fn mpeg(bytes: &[u8]) -> Option<FrameHeader> {
    let &[_, second, third, fourth, ..] = bytes else { return None };
    let (version, layer) = ((second >> 3) & 3, 4 - ((second >> 1) & 3));
    let (bitrate, rate) = (usize::from(third >> 4), usize::from((third >> 2) & 3));
    // Reserved values; a bitrate of 0 is "free format", whose length is not written down.
    if version == 1 || layer == 4 || bitrate == 0 || fourth & 3 == 2 {
        return None;
    }
    let is_mpeg1 = version == 3;
    let table = if is_mpeg1 { &MPEG1_KBPS } else { &MPEG2_KBPS };
    let bits_per_second = table.get(usize::from(layer - 1))?.get(bitrate)? * 1_000;
    let divisor = match version {
        3 => 1,
        2 => 2,
        _ => 4,
    };
    let sample_rate_hz = [44_100, 48_000, 32_000].get(rate)? / divisor;
    let padding = u32::from((third >> 1) & 1);
    let (samples, size_bytes) = match layer {
        1 => (384, (12 * bits_per_second / sample_rate_hz + padding) * 4),
        3 if !is_mpeg1 => (576, 72 * bits_per_second / sample_rate_hz + padding),
        _ => (1_152, 144 * bits_per_second / sample_rate_hz + padding),
    };
    let channels = if fourth >> 6 == 3 { 1 } else { 2 };
    let kind = FrameKind::Mpeg(layer);
    let size_bytes = size_bytes as usize;
    Some(FrameHeader { kind, size_bytes, samples, sample_rate_hz, channels, is_mpeg1 })
}

/// Rates by index, in ADTS and in an MPEG-4 audio configuration.
pub(in crate::audio) const AAC_RATES_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

fn adts(bytes: &[u8]) -> Option<FrameHeader> {
    let &[_, second, third, fourth, fifth, sixth, seventh, ..] = bytes else { return None };
    let sample_rate_hz = *AAC_RATES_HZ.get(usize::from((third >> 2) & 15))?;
    let size = u32::from(fourth & 3) << 11 | u32::from(fifth) << 3 | u32::from(sixth >> 5);
    let header_bytes = if second & 1 == 0 { 9 } else { 7 };
    if size < header_bytes {
        return None;
    }
    let configuration = u16::from(third & 1) << 2 | u16::from(fourth >> 6);
    Some(FrameHeader {
        kind: FrameKind::Adts,
        size_bytes: size as usize,
        samples: 1_024 * (u32::from(seventh & 3) + 1),
        sample_rate_hz,
        channels: if configuration == 7 { 8 } else { configuration },
        is_mpeg1: false,
    })
}

const AC3_KBPS: [u32; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];

fn ac3(bytes: &[u8]) -> Option<FrameHeader> {
    let &[_, _, third, fourth, fifth, sixth, seventh, ..] = bytes else { return None };
    let rates_hz = [48_000, 44_100, 32_000];
    let coded_rate = usize::from(fifth >> 6);
    // Full-bandwidth channels by audio coding mode.
    let mode_channels = [2, 1, 2, 3, 3, 4, 4, 5];
    if sixth >> 3 <= 10 {
        let sample_rate_hz = *rates_hz.get(coded_rate)?;
        let size_code = u32::from(fifth & 63);
        let kbps = AC3_KBPS.get(size_code as usize / 2)?;
        let words = match sample_rate_hz {
            48_000 => kbps * 2,
            32_000 => kbps * 3,
            _ => kbps * 320 / 147 + (size_code & 1),
        };
        return Some(FrameHeader {
            kind: FrameKind::Ac3,
            size_bytes: words as usize * 2,
            samples: 1_536,
            sample_rate_hz,
            channels: mode_channels[usize::from(seventh >> 5)],
            is_mpeg1: false,
        });
    }
    if sixth >> 3 > 16 {
        return None;
    }
    let words = (u32::from(third & 7) << 8 | u32::from(fourth)) + 1;
    let (sample_rate_hz, blocks) = match rates_hz.get(coded_rate) {
        Some(&rate) => (rate, [1, 2, 3, 6][usize::from((fifth >> 4) & 3)]),
        // Half rates, always of six blocks.
        None => (*[24_000, 22_050, 16_000].get(usize::from((fifth >> 4) & 3))?, 6),
    };
    Some(FrameHeader {
        kind: FrameKind::EnhancedAc3,
        size_bytes: words as usize * 2,
        samples: 256 * blocks,
        sample_rate_hz,
        channels: mode_channels[usize::from((fifth >> 1) & 7)] + u16::from(fifth & 1),
        is_mpeg1: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_headers_are_read() {
        type Case<'a> = (&'a [u8], FrameKind, usize, u32, u32, u16);
        let cases: [Case<'_>; 5] = [
            (&[0xff, 0xfb, 0x90, 0x64, 0, 0, 0, 0], FrameKind::Mpeg(3), 417, 1_152, 44_100, 2),
            (&[0xff, 0xf3, 0x48, 0xc4, 0, 0, 0, 0], FrameKind::Mpeg(3), 144, 576, 16_000, 1),
            (&[0xff, 0xfd, 0x54, 0xc4, 0, 0, 0, 0], FrameKind::Mpeg(2), 240, 1_152, 48_000, 1),
            (
                &[0xff, 0xf1, 0x50, 0x40, 0x2f, 0x9f, 0xfc, 0],
                FrameKind::Adts,
                380,
                1_024,
                44_100,
                1,
            ),
            (&[0x0b, 0x77, 0, 0, 0x0c, 0x40, 0x20, 0], FrameKind::Ac3, 384, 1_536, 48_000, 1),
        ];
        for (bytes, kind, size_bytes, samples, sample_rate_hz, channels) in cases {
            let header = FrameHeader::parse(bytes).unwrap();
            let is_mpeg1 = header.is_mpeg1;
            let expected =
                FrameHeader { kind, size_bytes, samples, sample_rate_hz, channels, is_mpeg1 };
            assert_eq!(header, expected, "{bytes:x?}");
        }
    }

    #[test]
    fn no_two_bytes_of_anything_else_are_a_header() {
        for word in 0..=u16::MAX {
            let [first, second] = word.to_be_bytes();
            let header = FrameHeader::parse(&[first, second, 0x90, 0x64, 0x20, 0x40, 0x20, 0]);
            let is_sync = word == 0x0b77 || word & 0xffe0 == 0xffe0;
            assert!(header.is_none() || is_sync, "{word:#x}");
        }
    }
}
