//! Codecs: from the packets of one track to planar samples at their own rate.

mod aac;
mod ac3;
pub(super) mod amr_wb;
mod bits;
mod g722;
mod gsm;
mod lossless;
mod mpeg;
mod opus;
pub(super) mod pcm;
pub(super) mod speex;
mod symphonia;
pub(super) mod wma;

use super::containers::frame_header::FrameKind;
use super::containers::{Codec, Fault, Packet};

/// Decoded samples, one vector a channel, all of the same length.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) sample_rate_hz: u32,
    pub(super) channels: Vec<Vec<f32>>,
}

impl Frames {
    /// Samples in each channel.
    pub(super) fn len(&self) -> usize {
        self.channels.first().map_or(0, Vec::len)
    }

    fn clear(&mut self) {
        self.channels.iter_mut().for_each(Vec::clear);
    }
}

/// A codec at work on one track.
pub(super) trait Decoder: Send {
    /// Decodes one packet into `frames`, replacing what they held.
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault>;
}

/// A decoder for a track.
pub(super) fn decoder_for(codec: &Codec) -> Result<Box<dyn Decoder>, Fault> {
    match codec {
        Codec::Symphonia(params) => symphonia::decoder(params),
        Codec::Opus { head } => opus::decoder(head.as_deref()),
        Codec::Aac { configuration } => aac::decoder(configuration),
        Codec::Pcm(pcm) => Ok(Box::new(*pcm)),
        Codec::GsmMicrosoft { sample_rate_hz } => {
            Ok(Box::new(gsm::Microsoft::new(*sample_rate_hz)))
        }
        Codec::AmrWb => Ok(Box::new(amr_wb::AmrWb::default())),
        Codec::Wma(format) => Ok(Box::new(wma::Wma::new(format)?)),
        Codec::Speex(head) => Ok(Box::new(speex::Speex::new(*head))),
        Codec::G722 => Ok(Box::new(g722::G722::default())),
        Codec::WavPack { bits, sample_rate_hz } => {
            Ok(Box::new(lossless::WavPack { sample_rate_hz: *sample_rate_hz, bits: *bits }))
        }
        Codec::TrueAudio { channels, bits, sample_rate_hz } => {
            Ok(Box::new(lossless::TrueAudio::new(*channels, *bits, *sample_rate_hz)))
        }
        Codec::Frames(FrameKind::Mpeg(_)) => Ok(Box::new(mpeg::Mpeg::default())),
        Codec::Frames(FrameKind::Adts) => Ok(Box::new(aac::Adts::default())),
        Codec::Frames(FrameKind::Ac3 | FrameKind::EnhancedAc3) => Ok(Box::new(ac3::Ac3::default())),
        Codec::Unknown(name) => Err(unsupported(name)),
        Codec::Refused(reason) => Err(Fault::Unsupported(reason.clone())),
    }
}

/// What is said of a codec that was recognised but cannot be decoded.
pub(super) fn unsupported(name: &str) -> Fault {
    Fault::Unsupported(format!("codec {name} is not supported; convert it with ffmpeg"))
}
