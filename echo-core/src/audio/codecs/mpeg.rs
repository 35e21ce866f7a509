//! MPEG audio, layers 1 to 3, decoded by symphonia.
//!
//! Rate and channels may change from frame to frame (streams glued together), for which a decoder
//! is made anew.

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3};

use super::{Decoder, Fault, Frames, Packet, symphonia as inner};
use crate::audio::containers::frame_header::{FrameHeader, FrameKind};

/// A decoder that takes what each frame's header says.
#[derive(Default)]
pub(super) struct Mpeg {
    current: Option<(u8, u32, u16)>,
    decoder: Option<Box<dyn Decoder>>,
}

impl Decoder for Mpeg {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        let header = FrameHeader::parse(&packet.data);
        let Some((header, FrameKind::Mpeg(layer))) = header.map(|header| (header, header.kind))
        else {
            return Err(Fault::Damaged("no MPEG audio header".into()));
        };
        let current = Some((layer, header.sample_rate_hz, header.channels));
        if self.current != current || self.decoder.is_none() {
            let mut params = AudioCodecParameters::new();
            params.for_codec(match layer {
                1 => CODEC_ID_MP1,
                2 => CODEC_ID_MP2,
                _ => CODEC_ID_MP3,
            });
            params.with_sample_rate(header.sample_rate_hz);
            self.decoder = Some(inner::decoder(&params)?);
            self.current = current;
        }
        match &mut self.decoder {
            Some(decoder) => decoder.decode(packet, frames),
            None => Ok(()),
        }
    }
}
