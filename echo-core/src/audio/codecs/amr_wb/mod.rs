//! AMR-WB (G.722.2): 16 kHz speech in 6.6 to 23.85 kbit/s, the wideband codec of mobile phones.
//!
//! Up to 6.4 kHz it is code-excited linear prediction at 12.8 kHz: the filter of a frame of 20 ms
//! is told as an immittance spectrum, what excites it in four parts as a pitch and some pulses. The
//! rest up to 7 kHz is noise, as loud as what lies below lets expect. Source: 3GPP TS 26.190.
//! Left out: comfort noise, for which there is silence; and the lowest rate's own filter for the
//! noise, for which that of the other rates serves.

mod excitation;
mod filters;
mod order;
mod parameters;
mod pulses;
mod spectra;
mod synthesis;
mod tables;

use self::excitation::Excitation;
use self::parameters::{ORDER, PART_COUNT, Parameters};
use self::synthesis::Synthesis;
use self::tables::{FIRST, MEAN};
use super::{Decoder, Fault, Frames, Packet};

const SAMPLE_RATE_HZ: u32 = 16_000;
const FRAME_SAMPLES: usize = 320;

/// Lines of a spectrum are at least this far apart.
const MIN_GAP: f32 = 128.0 / 32_768.0;

/// A decoder of frames, each behind a byte that says its rate.
pub(super) struct AmrWb {
    excitation: Excitation,
    synthesis: Synthesis,
    /// The last spectrum: as it was told, as it was heard, and as cosines.
    told: [f32; ORDER],
    heard: [f32; ORDER],
    cosines: Option<[f64; ORDER]>,
}

impl Default for AmrWb {
    fn default() -> Self {
        Self {
            excitation: Excitation::default(),
            synthesis: Synthesis::default(),
            told: [0.0; ORDER],
            heard: FIRST.map(|line| f32::from(line) / 32_768.0),
            cosines: None,
        }
    }
}

/// Bytes of a frame with the byte in front; `None` if there is no such frame.
pub(in crate::audio) fn frame_bytes(header: u8) -> Option<usize> {
    match usize::from(header >> 3 & 15) {
        // A description of background noise; nothing at all.
        9 => Some(6),
        14 | 15 => Some(1),
        mode => parameters::frame_bytes(mode).map(|bytes| bytes + 1),
    }
}

impl Decoder for AmrWb {
    fn decode(&mut self, packet: &Packet, frames: &mut Frames) -> Result<(), Fault> {
        frames.clear();
        frames.sample_rate_hz = SAMPLE_RATE_HZ;
        frames.channels.resize_with(1, Vec::new);
        let mut rest = &packet.data[..];
        while let Some(header) = rest.first() {
            let bytes = frame_bytes(*header)
                .ok_or_else(|| Fault::Damaged("AMR-WB: a frame of an unknown kind".into()))?;
            let (frame, next) = rest.split_at_checked(bytes).ok_or(Fault::Truncated)?;
            rest = next;
            let is_good = header & 4 != 0;
            let parameters = Parameters::read(usize::from(header >> 3 & 15), &frame[1..]);
            let output = &mut frames.channels[0];
            match parameters.filter(|_| is_good) {
                Some(parameters) => self.decode_frame(&parameters, output),
                None => output.resize(output.len() + FRAME_SAMPLES, 0.0),
            }
        }
        Ok(())
    }
}

impl AmrWb {
    fn decode_frame(&mut self, parameters: &Parameters, output: &mut Vec<f32>) {
        let mut spectrum: [f32; ORDER] = std::array::from_fn(|line| {
            let told = parameters.spectrum[line] / 32_768.0;
            told + f32::from(MEAN[line]) / 32_768.0 + self.told[line] / 3.0
        });
        self.told = parameters.spectrum.map(|line| line / 32_768.0);
        let mut least = 0.0;
        for line in &mut spectrum[..ORDER - 1] {
            *line = line.max(least + MIN_GAP);
            least = *line;
        }
        // How little the spectrum moves, 1 for not at all.
        let lines = spectrum.iter().zip(&self.heard).take(ORDER - 1);
        let distance: f32 = lines.map(|(new, old)| (new - old) * (new - old)).sum();
        let stability = (1.25 - distance * 0.8 * 512.0).max(0.0);
        self.heard = spectrum;
        // The last line lies on half the scale of the others.
        self.heard[ORDER - 1] *= 2.0;
        let cosines = self.heard.map(|line| (std::f64::consts::TAU * f64::from(line)).cos());
        let past = self.cosines.replace(cosines).unwrap_or(cosines);
        for (part, share) in parameters.parts.iter().zip(SHARES) {
            let between: [f64; ORDER] =
                std::array::from_fn(|line| (1.0 - share) * past[line] + share * cosines[line]);
            let prediction = synthesis::prediction(&between);
            let excitation = self.excitation.decode(part, parameters.sparse_rate, stability);
            self.synthesis.run(&excitation, &prediction, part, parameters.is_speech, output);
        }
    }
}

/// How much of the new spectrum is in each part.
const SHARES: [f64; PART_COUNT] = [0.45, 0.8, 0.96, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bits_decode_to_finite_samples() {
        let mut seed = 5_u32;
        let mut decoder = AmrWb::default();
        let mut frames = Frames::default();
        for round in 0..900_u32 {
            let mode = (round % 9) as u8;
            let mut data: Vec<u8> = (0..frame_bytes(mode << 3).unwrap())
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            data[0] = mode << 3 | 4;
            decoder.decode(&Packet::untimed(0, data), &mut frames).unwrap();
            assert_eq!(frames.len(), FRAME_SAMPLES);
            assert!(frames.channels[0].iter().all(|sample| sample.is_finite()));
        }
    }

    #[test]
    fn frames_without_speech_are_silent_and_unknown_ones_refused() {
        let mut frames = Frames::default();
        let packet = Packet::untimed(0, vec![0x7c]);
        AmrWb::default().decode(&packet, &mut frames).unwrap();
        assert_eq!(frames.channels, [vec![0.0; FRAME_SAMPLES]]);
        assert_eq!(frame_bytes(12 << 3), None);
        assert_eq!(frame_bytes(8 << 3), Some(61));
    }
}
