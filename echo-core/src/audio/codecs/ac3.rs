//! AC-3 and E-AC-3 (Dolby Digital, Dolby Digital Plus), decoded by `oxideav-ac3`.

use oxideav_ac3::decoder::{make_decoder, make_eac3_decoder};
use oxideav_core::{CodecId, CodecParameters, Frame, Packet as Input, TimeBase};

use super::{Decoder, Fault, Frames, Packet};
use crate::audio::containers::frame_header::{FrameHeader, FrameKind};

/// A decoder that takes what each frame's header says.
#[derive(Default)]
pub(super) struct Ac3 {
    current: Option<(FrameKind, u32)>,
    decoder: Option<Box<dyn oxideav_core::Decoder>>,
}

impl Decoder for Ac3 {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        // A packet of Matroska or MP4 holds one frame, or several of E-AC-3.
        let mut rest = &packet.data[..];
        while let Some(header) = FrameHeader::parse(rest) {
            let (frame, next) = rest.split_at_checked(header.size_bytes).ok_or(Fault::Truncated)?;
            self.decode_frame(header, frame, frames)?;
            rest = next;
        }
        if frames.len() == 0 { Err(Fault::Damaged("no AC-3 header".into())) } else { Ok(()) }
    }
}

impl Ac3 {
    fn decode_frame(
        &mut self,
        header: FrameHeader,
        frame: &[u8],
        frames: &mut Frames,
    ) -> Result<(), Fault> {
        let current = Some((header.kind, header.sample_rate_hz));
        if self.current != current || self.decoder.is_none() {
            let params = CodecParameters::audio(CodecId::new("ac3"));
            let is_enhanced = header.kind == FrameKind::EnhancedAc3;
            let make = if is_enhanced { make_eac3_decoder } else { make_decoder };
            self.decoder = Some(make(&params).map_err(damaged)?);
            self.current = current;
        }
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let time_base = TimeBase::new(1, i64::from(header.sample_rate_hz));
        decoder.send_packet(&Input::new(0, time_base, frame.to_vec())).map_err(damaged)?;
        // It answers with an error when it has no more.
        while let Ok(Frame::Audio(decoded)) = decoder.receive_frame() {
            let (Some(samples), count) = (decoded.data.first(), decoded.samples as usize) else {
                continue;
            };
            append(samples, count, frames);
        }
        frames.sample_rate_hz = header.sample_rate_hz;
        Ok(())
    }
}

/// Takes interleaved samples of 16 bits apart.
fn append(samples: &[u8], count: usize, frames: &mut Frames) {
    let channel_count = samples.len() / 2 / count.max(1);
    if frames.len() > 0 && frames.channels.len() != channel_count {
        return;
    }
    frames.channels.resize_with(channel_count, Vec::new);
    let (samples, _) = samples.as_chunks::<2>();
    for (channel, plane) in frames.channels.iter_mut().enumerate() {
        let samples = samples.iter().skip(channel).step_by(channel_count);
        plane.extend(samples.map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32_768.0));
    }
}

fn damaged(error: oxideav_core::Error) -> Fault {
    Fault::Damaged(format!("AC-3: {error}"))
}
