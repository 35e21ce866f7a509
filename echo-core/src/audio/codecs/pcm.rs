//! Uncompressed samples, G.711 µ-law and A-law among them.

use super::{Decoder, Fault, Frames, Packet};

/// How one sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audio) enum Sample {
    U8,
    S8,
    S16Le,
    S16Be,
    S24Le,
    S24Be,
    S32Le,
    S32Be,
    F32Le,
    F32Be,
    F64Le,
    F64Be,
    MuLaw,
    ALaw,
}

impl Sample {
    pub(in crate::audio) fn size_bytes(self) -> usize {
        match self {
            Self::U8 | Self::S8 | Self::MuLaw | Self::ALaw => 1,
            Self::S16Le | Self::S16Be => 2,
            Self::S24Le | Self::S24Be => 3,
            Self::S32Le | Self::S32Be | Self::F32Le | Self::F32Be => 4,
            Self::F64Le | Self::F64Be => 8,
        }
    }

    /// The value of `size_bytes` bytes, full scale at ±1.
    fn value(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::U8, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (Self::S8, &[a]) => f32::from(a as i8) / 128.0,
            (Self::MuLaw, &[a]) => f32::from(mu_law(a)) / 32_768.0,
            (Self::ALaw, &[a]) => f32::from(a_law(a)) / 32_768.0,
            (Self::S16Le, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
            (Self::S16Be, &[a, b]) => f32::from(i16::from_be_bytes([a, b])) / 32_768.0,
            (Self::S24Le, &[a, b, c]) => whole(i32::from_le_bytes([0, a, b, c])),
            (Self::S24Be, &[a, b, c]) => whole(i32::from_be_bytes([a, b, c, 0])),
            (Self::S32Le, &[a, b, c, d]) => whole(i32::from_le_bytes([a, b, c, d])),
            (Self::S32Be, &[a, b, c, d]) => whole(i32::from_be_bytes([a, b, c, d])),
            (Self::F32Le, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F32Be, &[a, b, c, d]) => f32::from_be_bytes([a, b, c, d]),
            (Self::F64Le, &[a, b, c, d, e, f, g, h]) => {
                f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32
            }
            (Self::F64Be, &[a, b, c, d, e, f, g, h]) => {
                f64::from_be_bytes([a, b, c, d, e, f, g, h]) as f32
            }
            _ => 0.0,
        }
    }
}

fn whole(sample: i32) -> f32 {
    sample as f32 / 2_147_483_648.0
}

/// ITU-T G.711, µ-law: sign, 3 bits of exponent, 4 of mantissa, all inverted.
fn mu_law(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << ((code >> 4) & 7);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// ITU-T G.711, A-law: every second bit inverted.
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let mantissa = (i16::from(code & 0x0f) << 4) + 8;
    let magnitude = match (code >> 4) & 7 {
        0 => mantissa,
        exponent => (mantissa + 0x100) << (exponent - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// A track of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audio) struct Pcm {
    pub(in crate::audio) sample: Sample,
    pub(in crate::audio) channels: u16,
    pub(in crate::audio) sample_rate_hz: u32,
}

impl Pcm {
    /// Bytes of one sample in every channel.
    pub(in crate::audio) fn frame_bytes(&self) -> usize {
        self.sample.size_bytes() * usize::from(self.channels.max(1))
    }
}

impl Decoder for Pcm {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = self.sample_rate_hz;
        frames.channels.resize_with(usize::from(self.channels), Vec::new);
        let (size, step) = (self.sample.size_bytes(), self.frame_bytes());
        let sample = self.sample;
        // A frame that is cut short by the end of the file is dropped.
        let whole = &packet.data[..packet.data.len() / step * step];
        for (channel, plane) in frames.channels.iter_mut().enumerate() {
            let offset = channel * size;
            let values = whole.chunks_exact(step).map(|f| sample.value(&f[offset..offset + size]));
            plane.extend(values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_codes_have_the_values_of_the_recommendation() {
        // Table values of G.711, in 16 bits: the ends, the smallest steps and zero.
        let mu = [(0xff, 0), (0x7f, 0), (0x80, 32_124), (0x00, -32_124), (0xfe, 8), (0x8f, 16_764)];
        for (code, value) in mu {
            assert_eq!(mu_law(code), value, "µ-law {code:#x}");
        }
        let a = [(0xd5, 8), (0x55, -8), (0xaa, 32_256), (0x2a, -32_256), (0xd4, 24), (0x85, 4_224)];
        for (code, value) in a {
            assert_eq!(a_law(code), value, "A-law {code:#x}");
        }
    }

    #[test]
    fn every_width_reads_full_scale_and_drops_half_a_frame() {
        let cases: [(Sample, &[u8]); 7] = [
            (Sample::U8, &[0xc0, 0x40]),
            (Sample::S16Le, &[0, 0x40, 0, 0xc0]),
            (Sample::S16Be, &[0x40, 0, 0xc0, 0]),
            (Sample::S24Le, &[0, 0, 0x40, 0, 0, 0xc0]),
            (Sample::S32Be, &[0x40, 0, 0, 0, 0xc0, 0, 0, 0]),
            (Sample::F32Le, &[0, 0, 0, 0x3f, 0, 0, 0, 0xbf]),
            (Sample::F64Be, &[0x3f, 0xe0, 0, 0, 0, 0, 0, 0, 0xbf, 0xe0, 0, 0, 0, 0, 0, 0]),
        ];
        for (sample, bytes) in cases {
            let mut data = bytes.to_vec();
            data.push(7);
            let packet = Packet::untimed(0, data);
            let mut frames = Frames::default();
            let mut pcm = Pcm { sample, channels: 2, sample_rate_hz: 8_000 };
            pcm.decode(&packet, &mut frames).unwrap();
            assert_eq!(frames.channels, [[0.5], [-0.5]], "{sample:?}");
        }
    }
}
