//! WavPack and True Audio, decoded by `oxideav-wavpack` and `oxideav-tta`.

use oxideav_tta::{FrameDescriptor, StreamHeader};

use super::{Decoder, Fault, Frames, Packet};

/// More samples than any writer puts in one block, over all its channels.
const MAX_BLOCK_SAMPLES: u64 = 1 << 23;

/// WavPack: a packet holds the blocks of all channels for one stretch of time.
pub(super) struct WavPack {
    pub(super) sample_rate_hz: u32,
    /// The width of whole numbers, in bits; 0 for floats.
    pub(super) bits: u32,
}

impl Decoder for WavPack {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = self.sample_rate_hz;
        let decoded = oxideav_wavpack::decode_multichannel_stream_muted_bounded(
            &packet.data,
            MAX_BLOCK_SAMPLES,
        );
        let (decoded, is_sound) = decoded.map_err(|error| damaged("WavPack", &error))?;
        if !is_sound {
            return Err(Fault::Damaged("WavPack: a checksum does not match".into()));
        }
        if self.bits == 0 {
            let value = |bits: i32| f32::from_bits(bits as u32);
            append(&decoded.samples, decoded.channels, value, frames);
        } else {
            append(&decoded.samples, decoded.channels, whole(self.bits), frames);
        }
        Ok(())
    }
}

/// True Audio: a packet is a frame of a second or so.
pub(super) struct TrueAudio {
    header: StreamHeader,
}

impl TrueAudio {
    pub(super) fn new(channels: u16, bits: u16, sample_rate_hz: u32) -> Self {
        let header = StreamHeader {
            format: 1,
            channels,
            bits_per_sample: bits,
            sample_rate: sample_rate_hz,
            total_samples: 0,
        };
        Self { header }
    }
}

impl Decoder for TrueAudio {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = self.header.sample_rate;
        let descriptor = FrameDescriptor {
            file_offset: 0,
            is_last: false,
            disk_size: packet.data.len() as u32,
            sample_count: packet.ticks.min(u64::from(self.header.regular_frame_samples())) as u32,
        };
        let decoded = oxideav_tta::decode_frame(&self.header, &descriptor, &packet.data);
        let decoded = decoded.map_err(|error| damaged("True Audio", &error))?;
        let bits = u32::from(self.header.bits_per_sample);
        append(&decoded, usize::from(self.header.channels), whole(bits), frames);
        Ok(())
    }
}

/// Brings whole numbers of a width to ±1.
fn whole(bits: u32) -> impl Fn(i32) -> f32 {
    let scale = 0.5_f64.powi(bits as i32 - 1);
    move |sample| (f64::from(sample) * scale) as f32
}

/// Takes interleaved samples apart.
fn append(samples: &[i32], channel_count: usize, value: impl Fn(i32) -> f32, frames: &mut Frames) {
    frames.channels.resize_with(channel_count, Vec::new);
    for (channel, plane) in frames.channels.iter_mut().enumerate() {
        let samples = samples.iter().skip(channel).step_by(channel_count);
        plane.extend(samples.map(|sample| value(*sample)));
    }
}

fn damaged(codec: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::Damaged(format!("{codec}: {error}"))
}
