//! Codecs that symphonia decodes: PCM, FLAC, MP3, AAC-LC, ALAC, Vorbis, ADPCM.

use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};

use super::{Decoder, Fault, Frames, Packet};

/// A decoder for what the parameters say.
pub(super) fn decoder(params: &AudioCodecParameters) -> Result<Box<dyn Decoder>, Fault> {
    // Trimming is done by time, for all codecs alike.
    let options = AudioDecoderOptions::default().gapless(false);
    let inner = symphonia::default::get_codecs().make_audio_decoder(params, &options)?;
    Ok(Box::new(Symphonia { inner }))
}

struct Symphonia {
    inner: Box<dyn AudioDecoder>,
}

impl Decoder for Symphonia {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        let packet =
            PacketRef::new(0, Timestamp::new(0), Duration::new(packet.ticks), &packet.data);
        let decoded = self.inner.decode_ref(&packet)?;
        frames.sample_rate_hz = decoded.spec().rate();
        decoded.copy_to_vecs_planar(&mut frames.channels);
        Ok(())
    }
}
