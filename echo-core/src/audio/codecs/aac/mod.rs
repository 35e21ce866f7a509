//! AAC: the low-complexity core, decoded by symphonia one or two channels at a time.
//!
//! Blocks of more channels are taken apart into their elements, each with a decoder of its own.
//! HE-AAC adds a replica of the upper half band (SBR) to a core at half the rate; 16 kHz speech
//! needs the core only, so its configuration is rewritten to say plain AAC-LC. Streams in ADTS
//! carry a header in each frame instead of a configuration, and may change between frames.
//! Configuration: ISO/IEC 14496-3, section 1.6.2.1.

mod codebooks;
mod elements;
mod tables;

/// The codebook of differences between levels, which WMA has too.
pub(super) use self::tables::{CODES_0 as SCALE_FACTOR_CODES, LENGTHS_0 as SCALE_FACTOR_LENGTHS};

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;

use super::{Decoder, Fault, Frames, Packet, symphonia as inner, unsupported};
use crate::audio::containers::frame_header::{AAC_RATES_HZ, FrameHeader, FrameKind};

/// What a configuration says of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Core {
    sample_rate_hz: u32,
    /// 1 and 2 are as many channels; 0 is spelled out elsewhere; 7 is 8 channels.
    channel_configuration: u8,
}

/// A decoder for packets that a container's configuration describes.
pub(super) fn decoder(configuration: &[u8]) -> Result<Box<dyn Decoder>, Fault> {
    core_decoder(Core::parse(configuration)?)
}

fn core_decoder(core: Core) -> Result<Box<dyn Decoder>, Fault> {
    if !(1..=2).contains(&core.channel_configuration) {
        return Ok(Box::new(Multichannel { core, decoders: Vec::new(), part: Frames::default() }));
    }
    let mut params = AudioCodecParameters::new();
    params
        .for_codec(CODEC_ID_AAC)
        .with_sample_rate(core.sample_rate_hz)
        .with_extra_data(core.to_configuration().into());
    inner::decoder(&params)
}

/// More than two channels, or a layout that only the blocks tell.
struct Multichannel {
    core: Core,
    /// By the names of elements.
    decoders: Vec<(u8, Box<dyn Decoder>)>,
    part: Frames,
}

impl Decoder for Multichannel {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        let core = self.core;
        let elements = elements::split(&packet.data, core.sample_rate_hz)?;
        let mut channel_count = 0;
        for element in elements {
            let known = self.decoders.iter().position(|(name, _)| *name == element.name);
            let index = match known {
                Some(index) => index,
                None => {
                    let channel_configuration = if element.is_pair { 2 } else { 1 };
                    let decoder = core_decoder(Core { channel_configuration, ..core })?;
                    self.decoders.push((element.name, decoder));
                    self.decoders.len() - 1
                }
            };
            let block = Packet::untimed(packet.track, element.block);
            self.decoders[index].1.decode(&block, &mut self.part)?;
            for samples in &mut self.part.channels {
                if frames.channels.len() <= channel_count {
                    frames.channels.push(Vec::new());
                }
                std::mem::swap(&mut frames.channels[channel_count], samples);
                channel_count += 1;
            }
        }
        frames.channels.truncate(channel_count);
        frames.sample_rate_hz = core.sample_rate_hz;
        core.order_channels(&mut frames.channels);
        if channel_count == 0 { Err(Fault::Damaged("AAC without channels".into())) } else { Ok(()) }
    }
}

impl Core {
    fn parse(configuration: &[u8]) -> Result<Self, Fault> {
        let mut bits = Bits::new(configuration);
        let mut object_type = bits.object_type()?;
        let sample_rate_hz = bits.sample_rate_hz()?;
        let channel_configuration = bits.take(4)? as u8;
        // SBR, and SBR with parametric stereo: the rate of the whole, then the core's own type.
        if matches!(object_type, 5 | 29) {
            bits.sample_rate_hz()?;
            object_type = bits.object_type()?;
        }
        let has_short_frames = bits.take(1)? == 1;
        match object_type {
            2 if has_short_frames => Err(unsupported("AAC with frames of 960 samples")),
            2 => Ok(Self { sample_rate_hz, channel_configuration }),
            1 => Err(unsupported("AAC Main")),
            3 => Err(unsupported("AAC SSR")),
            4 => Err(unsupported("AAC LTP")),
            23 => Err(unsupported("AAC-LD")),
            39 => Err(unsupported("AAC-ELD")),
            42 => Err(unsupported("xHE-AAC")),
            other => Err(unsupported(&format!("MPEG-4 audio of object type {other}"))),
        }
    }

    /// Puts channels as WAV files and players have them: left, right, centre, low frequencies,
    /// then those behind. AAC begins with the centre and ends with the low frequencies.
    fn order_channels(self, channels: &mut Vec<Vec<f32>>) {
        let order: &[usize] = match (self.channel_configuration, channels.len()) {
            (3, 3) => &[1, 2, 0],
            (4, 4) => &[1, 2, 0, 3],
            (5, 5) => &[1, 2, 0, 3, 4],
            (6, 6) => &[1, 2, 0, 5, 3, 4],
            (7, 8) => &[1, 2, 0, 7, 5, 6, 3, 4],
            _ => return,
        };
        *channels = order.iter().map(|from| std::mem::take(&mut channels[*from])).collect();
    }

    /// Plain AAC-LC: type, rate, channels, and three options that are off.
    fn to_configuration(self) -> Vec<u8> {
        let index = AAC_RATES_HZ.iter().position(|rate| *rate == self.sample_rate_hz);
        let channels = u64::from(self.channel_configuration) << 3;
        match index {
            Some(index) => {
                let bits = 2 << 11 | (index as u64) << 7 | channels;
                bits.to_be_bytes()[6..].to_vec()
            }
            None => {
                let bits = 2 << 35 | 15 << 31 | u64::from(self.sample_rate_hz) << 7 | channels;
                bits.to_be_bytes()[3..].to_vec()
            }
        }
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    fn take(&mut self, count: usize) -> Result<u32, Fault> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.position / 8).ok_or(Fault::Truncated)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, Fault> {
        match self.take(5)? {
            31 => Ok(32 + self.take(6)?),
            object_type => Ok(object_type),
        }
    }

    fn sample_rate_hz(&mut self) -> Result<u32, Fault> {
        match self.take(4)? {
            15 => self.take(24),
            index => {
                let reserved = || Fault::Damaged("AAC with a reserved sample rate".into());
                AAC_RATES_HZ.get(index as usize).copied().ok_or_else(reserved)
            }
        }
    }
}

/// Frames that carry an ADTS header each.
#[derive(Default)]
pub(super) struct Adts {
    current: Option<Core>,
    decoder: Option<Box<dyn Decoder>>,
}

impl Decoder for Adts {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        let header = FrameHeader::parse(&packet.data);
        let header = header.filter(|header| header.kind == FrameKind::Adts);
        let Some((header, &[_, second, third, fourth, ..])) = header.zip(Some(&packet.data[..]))
        else {
            return Err(Fault::Damaged("no ADTS header".into()));
        };
        let core = Core {
            sample_rate_hz: header.sample_rate_hz,
            channel_configuration: (third & 1) << 2 | fourth >> 6,
        };
        if self.current != Some(core) || self.decoder.is_none() {
            self.decoder = Some(core_decoder(core)?);
            self.current = Some(core);
        }
        let header_bytes = if second & 1 == 0 { 9 } else { 7 };
        let block = packet.data.get(header_bytes..).unwrap_or_default();
        let block = Packet::untimed(packet.track, block.to_vec());
        match &mut self.decoder {
            Some(decoder) => decoder.decode(&block, frames),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_of_he_aac_is_found_and_written_as_plain_aac() {
        // Explicit SBR (5): 22.05 kHz core (7), mono, 44.1 kHz whole (4), LC core (2).
        let he_aac = [0x2b, 0x8a, 0x08, 0x00];
        let core = Core::parse(&he_aac).unwrap();
        assert_eq!(core, Core { sample_rate_hz: 22_050, channel_configuration: 1 });
        assert_eq!(core.to_configuration(), [0x13, 0x88]);
        assert_eq!(Core::parse(&core.to_configuration()).unwrap(), core);
    }

    #[test]
    fn a_rate_outside_the_table_survives() {
        let core = Core { sample_rate_hz: 37_800, channel_configuration: 2 };
        assert_eq!(Core::parse(&core.to_configuration()).unwrap(), core);
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let main_profile = [0x09, 0x90];
        let Err(Fault::Unsupported(reason)) = decoder(&main_profile) else { panic!() };
        assert_eq!(reason, "codec AAC Main is not supported; convert it with ffmpeg");
        assert!(matches!(decoder(&[]), Err(Fault::Truncated)));
    }
}
