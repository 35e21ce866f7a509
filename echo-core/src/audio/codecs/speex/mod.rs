//! Speex: speech at 8, 16 or 32 kHz, the codec of voice chats before Opus.
//!
//! A packet holds frames of 20 ms, each of a lower band and, at the higher rates, bands above it
//! (RFC 5574). Stereo is one channel and word of how it is spread over two.

mod comb;
mod filters;
mod narrowband;
mod shapes;
mod tables;
mod wideband;

use self::narrowband::{FRAME_SAMPLES, Narrowband, PART_SAMPLES};
use self::wideband::{Below, Wideband};
use super::bits::Bits;
use super::{Decoder, Fault, Frames, Packet};
use crate::audio::containers::bytes::Bytes;

/// Frames of one packet, more than any writer puts in.
const MAX_FRAMES: u32 = 64;

/// What the first packet of a stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audio) struct Head {
    pub(in crate::audio) sample_rate_hz: u32,
    /// Bands above the lowest.
    upper_bands: u32,
    is_stereo: bool,
    frames_per_packet: u32,
    /// Further packets in front of the sound.
    pub(in crate::audio) extra_headers: u32,
}

impl Head {
    /// Reads a header, as Ogg has it.
    pub(in crate::audio) fn parse(packet: &[u8]) -> Result<Self, Fault> {
        let mut bytes = Bytes::new(packet);
        // Signature, version as text, version, size.
        if bytes.take(36)?.get(..8) != Some(b"Speex   ") {
            return Err(Fault::Damaged("no Speex header".into()));
        }
        let sample_rate_hz = bytes.u32_le()?;
        let upper_bands = bytes.u32_le()?;
        let _version = bytes.u32_le()?;
        let channels = bytes.u32_le()?;
        let _bit_rate = bytes.u32_le()?;
        let _frame_samples = bytes.u32_le()?;
        let _is_variable = bytes.u32_le()?;
        let frames_per_packet = bytes.u32_le()?.max(1);
        let extra_headers = bytes.u32_le()?;
        if upper_bands > 2 || !(1..=2).contains(&channels) || frames_per_packet > MAX_FRAMES {
            return Err(Fault::Damaged("a Speex header without sense".into()));
        }
        let is_stereo = channels == 2;
        Ok(Self { sample_rate_hz, upper_bands, is_stereo, frames_per_packet, extra_headers })
    }

    /// Samples by which a decoder lags behind, so that it can strengthen the pitch.
    pub(in crate::audio) fn delay_samples(&self) -> u32 {
        (PART_SAMPLES as u32) << self.upper_bands
    }

    /// Samples of one packet, in each channel.
    pub(in crate::audio) fn packet_samples(&self) -> u32 {
        (self.frames_per_packet * FRAME_SAMPLES as u32) << self.upper_bands
    }
}

/// A decoder of a whole stream.
pub(super) struct Speex {
    head: Head,
    low: Narrowband,
    wide: Wideband,
    ultra: Wideband,
    stereo: Stereo,
}

impl Speex {
    pub(super) fn new(head: Head) -> Self {
        Self {
            head,
            low: Narrowband::new(head.upper_bands > 0),
            wide: Wideband::new(false),
            ultra: Wideband::new(true),
            stereo: Stereo::default(),
        }
    }

    fn decode_frame(&mut self, bits: &mut Bits<'_>) -> Option<Vec<f32>> {
        let mut samples = self.low.decode(bits, &mut self.stereo)?;
        if self.head.upper_bands >= 1 {
            let below = Below {
                samples: &samples,
                innovation: &self.low.innovation,
                edge_gains: self.low.edge_gains,
                loudness: self.low.loudness,
            };
            samples = self.wide.decode(bits, &below)?;
        }
        if self.head.upper_bands == 2 {
            let below = Below {
                samples: &samples,
                innovation: &self.wide.innovation,
                edge_gains: self.wide.edge_gains,
                loudness: self.wide.loudness,
            };
            samples = self.ultra.decode(bits, &below)?;
        }
        Some(samples)
    }
}

impl Decoder for Speex {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = self.head.sample_rate_hz;
        frames.channels.resize_with(if self.head.is_stereo { 2 } else { 1 }, Vec::new);
        let mut bits = Bits::new(&packet.data);
        for _ in 0..self.head.frames_per_packet {
            let Some(samples) = self.decode_frame(&mut bits) else { break };
            let samples: Vec<f32> = samples.into_iter().map(|sample| sample / 32_768.0).collect();
            match &mut frames.channels[..] {
                [left, right] => self.stereo.spread(&samples, left, right),
                channels => channels.iter_mut().for_each(|c| c.extend_from_slice(&samples)),
            }
            // What is left are bits to the end of a byte, or the mark of the end.
            if bits.remaining() < 5 || bits.peek(5) == 15 {
                break;
            }
        }
        if frames.len() == 0 {
            Err(Fault::Damaged("Speex: an empty packet".into()))
        } else {
            Ok(())
        }
    }
}

/// How one channel is spread over two.
struct Stereo {
    left: f32,
    right: f32,
    smooth_left: f32,
    smooth_right: f32,
}

impl Default for Stereo {
    fn default() -> Self {
        let mut stereo = Self { left: 1.0, right: 1.0, smooth_left: 1.0, smooth_right: 1.0 };
        stereo.balance(1.0, 0.5);
        stereo
    }
}

impl Stereo {
    fn read(&mut self, bits: &mut Bits<'_>) {
        let sign = if bits.take(1) == 1 { -1.0 } else { 1.0 };
        let balance = (sign * 0.25 * bits.take(5) as f32).exp();
        let ratio = [0.25, 0.315, 0.397, 0.5][bits.take(2)];
        self.balance(balance, ratio);
    }

    fn balance(&mut self, balance: f32, energy_ratio: f32) {
        self.right = 1.0 / (energy_ratio * (1.0 + balance)).sqrt();
        self.left = balance.sqrt() * self.right;
    }

    fn spread(&mut self, samples: &[f32], left: &mut Vec<f32>, right: &mut Vec<f32>) {
        for sample in samples {
            self.smooth_left += 0.02 * (self.left - self.smooth_left);
            self.smooth_right += 0.02 * (self.right - self.smooth_right);
            left.push(self.smooth_left * sample);
            right.push(self.smooth_right * sample);
        }
    }
}
