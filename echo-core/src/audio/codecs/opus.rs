//! Opus, decoded straight to 16 kHz: the codec's own low-pass is its resampler.

use ropus::{Channels, DecodeMode};

use super::{Decoder, Fault, Frames, Packet};
use crate::audio::SAMPLE_RATE_HZ;

/// The longest packet, 120 ms.
const MAX_PACKET_SAMPLES: usize = SAMPLE_RATE_HZ as usize * 120 / 1_000;

/// A decoder for the channels that an `OpusHead` (RFC 7845, section 5.1) names.
pub(super) fn decoder(head: Option<&[u8]>) -> Result<Box<dyn Decoder>, Fault> {
    let channel_count = head.and_then(|head| head.get(9)).copied().unwrap_or(2);
    let channels = match channel_count {
        1 => Channels::Mono,
        2 => Channels::Stereo,
        _ => return Err(super::unsupported(&format!("Opus with {channel_count} channels"))),
    };
    let inner = ropus::Decoder::new(SAMPLE_RATE_HZ, channels)
        .map_err(|error| Fault::Damaged(format!("Opus: {error:?}")))?;
    let interleaved = vec![0.0; MAX_PACKET_SAMPLES * channels.count()];
    Ok(Box::new(Opus { inner, interleaved }))
}

struct Opus {
    inner: ropus::Decoder,
    interleaved: Vec<f32>,
}

impl Decoder for Opus {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        let channel_count = self.inner.channels().count();
        let length = self
            .inner
            .decode_float(&packet.data, &mut self.interleaved, DecodeMode::Normal)
            .map_err(|error| Fault::Damaged(format!("Opus: {error:?}")))?;
        frames.sample_rate_hz = SAMPLE_RATE_HZ;
        frames.channels.resize_with(channel_count, Vec::new);
        for (channel, plane) in frames.channels.iter_mut().enumerate() {
            let samples = self.interleaved.iter().skip(channel).step_by(channel_count);
            plane.extend(samples.take(length));
        }
        Ok(())
    }
}
