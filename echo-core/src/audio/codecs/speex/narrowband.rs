//! The lower band of Speex, to 4 kHz: code-excited linear prediction.
//!
//! A frame of 160 samples is 4 parts of 40. What excites the filter is a sum of its own past
//! (pitch) and a pattern from a codebook; the filter is told as line spectral pairs. How many bits
//! each of these gets is the frame's mode. A comb filter strengthens the pitch of what is heard, without
//! coming back into the past. Source: The Speex Codec Manual, chapters 8 and 9, and the numbers of
//! the reference implementation.

use super::super::bits::Bits;
use super::filters::{Noise, interpolate, loudness, prediction, synthesize};
use super::shapes::{SHAPES_5_6, SHAPES_5_8, SHAPES_8_7, SHAPES_10_4, SHAPES_10_5, SHAPES_20_5};
use super::tables::{
    LSP_NARROW, LSP_NARROW_HIGH_1, LSP_NARROW_HIGH_2, LSP_NARROW_LOW_1, LSP_NARROW_LOW_2,
    PITCH_GAINS_5, PITCH_GAINS_7,
};
use super::{Stereo, comb};

pub(super) const FRAME_SAMPLES: usize = 160;
pub(super) const PART_SAMPLES: usize = 40;
pub(super) const PART_COUNT: usize = 4;

const ORDER: usize = 10;
const MIN_PITCH: usize = 17;
const MAX_PITCH: usize = 144;

/// What the comb filter looks back, and where the frame begins behind it.
pub(super) const PAST_SAMPLES: usize = 2 * MAX_PITCH + PART_SAMPLES + 6;

/// Past, frame, and what the comb filter looks ahead.
pub(super) const EXCITATION_SAMPLES: usize = PAST_SAMPLES + FRAME_SAMPLES + 6;

/// Bits of an upper band's frame, by its mode; 0 where there is no such mode.
const WIDE_FRAME_BITS: [usize; 8] = [4, 36, 112, 192, 352, 0, 0, 0];

/// Patterns of equal length and how they are told.
pub(super) struct Codebook {
    pub(super) shapes: &'static [i8],
    pub(super) length: usize,
    pub(super) bits: usize,
    pub(super) has_sign: bool,
}

impl Codebook {
    /// Adds patterns to a part, scaled.
    pub(super) fn add(&self, bits: &mut Bits<'_>, scale: f32, part: &mut [f32]) {
        for piece in part.chunks_exact_mut(self.length) {
            let sign = if self.has_sign && bits.take(1) == 1 { -1.0 } else { 1.0 };
            let start = bits.take(self.bits) * self.length;
            let shape = &self.shapes[start..start + self.length];
            for (sample, value) in piece.iter_mut().zip(shape) {
                *sample += sign * scale * f32::from(*value) / 32.0;
            }
        }
    }
}

/// How pitch is told.
#[derive(Clone, Copy)]
enum Pitch {
    /// Period and gain, once for the frame.
    Forced,
    /// The period once, gains for each part.
    Shared,
    /// Period and gains for each part.
    Own { has_fine_gains: bool },
}

struct Mode {
    has_fine_pairs: bool,
    pitch: Pitch,
    /// Loudness of each part against that of the frame.
    gains: &'static [f32],
    /// `None`: noise.
    codebook: Option<Codebook>,
    is_doubled: bool,
    comb_gain: f32,
}

const GAINS_1: &[f32] = &[0.704_69, 1.051_27];
const GAINS_3: &[f32] =
    &[0.061_13, 0.163_546, 0.310_413, 0.428_22, 0.555_887, 0.719_055, 0.938_694, 1.326_874];

const fn codebook(shapes: &'static [i8], length: usize, bits: usize) -> Option<Codebook> {
    Some(Codebook { shapes, length, bits, has_sign: false })
}

const OWN_COARSE: Pitch = Pitch::Own { has_fine_gains: false };
const OWN_FINE: Pitch = Pitch::Own { has_fine_gains: true };

const fn mode(
    pitch: Pitch,
    gains: &'static [f32],
    codebook: Option<Codebook>,
    comb_gain: f32,
) -> Mode {
    let has_fine_pairs = gains.len() == 8;
    Mode { has_fine_pairs, pitch, gains, codebook, is_doubled: false, comb_gain }
}

/// Modes 1 to 8: 2.15 (noise), 5.95, 8, 11, 15, 18.2, 24.6 and 3.95 kbit/s.
static MODES: [Mode; 8] = [
    mode(Pitch::Forced, &[], None, -1.0),
    mode(Pitch::Shared, &[], codebook(&SHAPES_10_4, 10, 4), 0.6),
    mode(OWN_COARSE, GAINS_1, codebook(&SHAPES_10_5, 10, 5), 0.55),
    mode(OWN_COARSE, GAINS_1, codebook(&SHAPES_8_7, 8, 7), 0.45),
    mode(OWN_FINE, GAINS_3, codebook(&SHAPES_5_6, 5, 6), 0.25),
    mode(OWN_FINE, GAINS_3, codebook(&SHAPES_5_8, 5, 8), 0.15),
    Mode { is_doubled: true, ..mode(OWN_FINE, GAINS_3, codebook(&SHAPES_5_6, 5, 6), 0.05) },
    mode(Pitch::Forced, &[], codebook(&SHAPES_20_5, 20, 5), 0.5),
];

/// A decoder of the lower band, with what the upper band takes from it.
pub(super) struct Narrowband {
    excitation: [f32; EXCITATION_SAMPLES],
    is_first: bool,
    pairs: [f32; ORDER],
    prediction: [f32; ORDER],
    memory: [f32; ORDER],
    high_pass: HighPass,
    noise: Noise,
    vocoder: Vocoder,
    /// What excited the frame, less pitch.
    pub(super) innovation: Vec<f32>,
    /// For each part: the filter's gain at the upper end of the band, and the loudness before it.
    pub(super) edge_gains: [f32; PART_COUNT],
    pub(super) loudness: [f32; PART_COUNT],
}

impl Narrowband {
    /// A decoder that works by itself or below another band.
    pub(super) fn new(is_wideband: bool) -> Self {
        Self {
            excitation: [0.0; EXCITATION_SAMPLES],
            is_first: true,
            pairs: [0.0; ORDER],
            prediction: [0.0; ORDER],
            memory: [0.0; ORDER],
            high_pass: HighPass::new(is_wideband),
            noise: Noise::default(),
            vocoder: Vocoder::default(),
            innovation: vec![0.0; FRAME_SAMPLES],
            edge_gains: [0.0; PART_COUNT],
            loudness: [0.0; PART_COUNT],
        }
    }

    /// The next frame; `None` where the packet has no more.
    pub(super) fn decode(&mut self, bits: &mut Bits<'_>, stereo: &mut Stereo) -> Option<Vec<f32>> {
        let mode = find_frame(bits, stereo)?;
        self.excitation.copy_within(FRAME_SAMPLES.., 0);
        self.innovation.fill(0.0);
        let Some(number) = mode.checked_sub(1) else { return Some(self.decode_silence()) };
        let mode = &MODES[number];
        let pairs = read_pairs(bits, mode.has_fine_pairs);
        if self.is_first {
            self.pairs = pairs;
            self.is_first = false;
        }
        let pitch = self.read_excitation(bits, mode);
        let mut samples = vec![0.0; FRAME_SAMPLES];
        // What is heard lags behind by a part, so that the comb filter can look ahead.
        let start = PAST_SAMPLES - PART_SAMPLES;
        if mode.comb_gain > 0.0 {
            for (half, samples) in samples.chunks_exact_mut(2 * PART_SAMPLES).enumerate() {
                let at = start + half * 2 * PART_SAMPLES;
                comb::strengthen(&self.excitation, at, pitch, mode.comb_gain, samples);
            }
        } else {
            samples.copy_from_slice(&self.excitation[start..start + FRAME_SAMPLES]);
        }
        for (part, samples) in samples.chunks_exact_mut(PART_SAMPLES).enumerate() {
            let between = interpolate(&self.pairs, &pairs, part, PART_COUNT, 0.002);
            let next = prediction(&between);
            let [even, odd] = [0, 1].map(|first| next.iter().skip(first).step_by(2).sum::<f32>());
            self.edge_gains[part] = 1.0 + odd - even;
            let offset = PAST_SAMPLES + part * PART_SAMPLES;
            self.loudness[part] = loudness(&self.excitation[offset..offset + PART_SAMPLES]);
            synthesize(samples, &self.prediction, &mut self.memory);
            self.prediction = next;
        }
        self.high_pass.run(&mut samples);
        self.pairs = pairs;
        Some(samples)
    }

    /// Nothing was sent: noise as loud as the last frame.
    fn decode_silence(&mut self) -> Vec<f32> {
        let mut factor = 1.0;
        let widened = self.prediction.map(|coefficient| {
            factor *= 0.93;
            factor * coefficient
        });
        let frame = &mut self.excitation[PAST_SAMPLES..PAST_SAMPLES + FRAME_SAMPLES];
        let scale = loudness(frame);
        frame.iter_mut().for_each(|sample| *sample = self.noise.next(scale));
        let mut samples = frame.to_vec();
        synthesize(&mut samples, &widened, &mut self.memory);
        samples
    }

    /// Fills the frame of the excitation; answers with the pitch that matters most in it.
    fn read_excitation(&mut self, bits: &mut Bits<'_>, mode: &Mode) -> usize {
        let shared_pitch = match mode.pitch {
            Pitch::Forced | Pitch::Shared => MIN_PITCH + bits.take(7),
            Pitch::Own { .. } => MIN_PITCH,
        };
        let forced_gain = match mode.pitch {
            Pitch::Forced => 0.066_667 * bits.take(4) as f32,
            _ => 0.0,
        };
        let frame_gain = (bits.take(5) as f32 / 3.5).exp();
        if mode.codebook.is_none() {
            // Whether frames of silence follow.
            bits.skip(4);
        }
        let mut best = BestPitch::default();
        for part in 0..PART_COUNT {
            let at = PAST_SAMPLES + part * PART_SAMPLES;
            self.excitation[at..at + PART_SAMPLES].fill(0.0);
            let (mut predicted, pitch, gains) = match mode.pitch {
                Pitch::Forced => {
                    let gain = forced_gain.min(0.99);
                    (self.repeat(at, shared_pitch, gain), shared_pitch, [0.0, gain, 0.0])
                }
                Pitch::Shared => self.read_pitch(bits, at, shared_pitch, false),
                Pitch::Own { has_fine_gains } => {
                    let pitch = MIN_PITCH + bits.take(7);
                    self.read_pitch(bits, at, pitch, has_fine_gains)
                }
            };
            predicted.iter_mut().for_each(|sample| *sample = sane(*sample));
            best.consider(pitch, gains);
            let gain_bits = mode.gains.len().checked_ilog2().unwrap_or(0) as usize;
            let part_gain = mode.gains.get(bits.take(gain_bits)).copied().unwrap_or(1.0);
            let gain = part_gain * frame_gain;
            let mut innovation = [0.0; PART_SAMPLES];
            match &mode.codebook {
                Some(codebook) => {
                    codebook.add(bits, gain, &mut innovation);
                    if mode.is_doubled {
                        codebook.add(bits, 0.454_545 * gain, &mut innovation);
                    }
                }
                None => innovation.fill_with(|| self.noise.next(gain)),
            }
            let excitation = &mut self.excitation[at..at + PART_SAMPLES];
            for ((sample, predicted), innovation) in
                excitation.iter_mut().zip(predicted).zip(innovation)
            {
                *sample = predicted + innovation;
            }
            let offset = part * PART_SAMPLES;
            self.innovation[offset..offset + PART_SAMPLES].copy_from_slice(&innovation);
            if mode.codebook.is_none() {
                self.vocoder.shape(excitation, &innovation, shared_pitch, forced_gain, frame_gain);
            }
        }
        best.pitch
    }

    /// The past, over and over at one distance.
    fn repeat(&mut self, at: usize, pitch: usize, gain: f32) -> [f32; PART_SAMPLES] {
        for sample in at..at + PART_SAMPLES {
            self.excitation[sample] = self.excitation[sample - pitch] * gain;
        }
        std::array::from_fn(|sample| self.excitation[at + sample])
    }

    /// The past at three distances around the pitch.
    fn read_pitch(
        &self,
        bits: &mut Bits<'_>,
        at: usize,
        pitch: usize,
        has_fine_gains: bool,
    ) -> ([f32; PART_SAMPLES], usize, [f32; 3]) {
        let (table, gain_bits): (&[i8], _) =
            if has_fine_gains { (&PITCH_GAINS_7, 7) } else { (&PITCH_GAINS_5, 5) };
        let row = bits.take(gain_bits) * 3;
        let gains = [0, 1, 2].map(|tap| f32::from(table[row + tap]) / 64.0 + 0.5);
        let mut predicted = [0.0; PART_SAMPLES];
        for tap in 0..3 {
            let distance = pitch + 1 - tap;
            for (index, sample) in predicted.iter_mut().enumerate() {
                // What lies within the part itself is taken one pitch earlier.
                let distance = if index < distance { distance } else { distance + pitch };
                if index < distance {
                    *sample += gains[2 - tap] * self.excitation[at + index - distance];
                }
            }
        }
        (predicted, pitch, gains)
    }
}

/// Looks for the next frame of the lower band, past requests and bands above; its mode.
fn find_frame(bits: &mut Bits<'_>, stereo: &mut Stereo) -> Option<usize> {
    loop {
        if bits.remaining() < 5 {
            return None;
        }
        for layer in 0.. {
            if bits.take(1) == 0 {
                break;
            }
            let skipped = WIDE_FRAME_BITS[bits.take(3)].checked_sub(4)?;
            bits.skip(skipped);
            if layer == 2 || bits.remaining() < 5 {
                return None;
            }
        }
        match bits.take(4) {
            mode @ 0..=8 => return Some(mode),
            // A message to the decoder: only that about stereo matters.
            14 => match bits.take(4) {
                9 => stereo.read(bits),
                id => bits.skip([1, 4, 4, 4, 8, 16, 32, 64][id / 2]),
            },
            13 => {
                let bytes = bits.take(4);
                bits.skip(5 + 8 * bytes);
            }
            _ => return None,
        }
    }
}

fn read_pairs(bits: &mut Bits<'_>, is_fine: bool) -> [f32; ORDER] {
    let mut pairs: [f32; ORDER] = std::array::from_fn(|index| 0.25 * index as f32 + 0.25);
    let mut add = |table: &[i8], first: usize, count: usize, scale: f32| {
        let row = bits.take(6) * count;
        for (pair, step) in pairs[first..first + count].iter_mut().zip(&table[row..]) {
            *pair += f32::from(*step) / scale;
        }
    };
    add(&LSP_NARROW, 0, ORDER, 256.0);
    add(&LSP_NARROW_LOW_1, 0, 5, 512.0);
    if is_fine {
        add(&LSP_NARROW_LOW_2, 0, 5, 1_024.0);
    }
    add(&LSP_NARROW_HIGH_1, 5, 5, 512.0);
    if is_fine {
        add(&LSP_NARROW_HIGH_2, 5, 5, 1_024.0);
    }
    pairs
}

/// Keeps feedback from running away on damaged data.
fn sane(sample: f32) -> f32 {
    if !sample.is_normal() || sample.abs() < 1e-8 { 0.0 } else { sample.clamp(-32_000.0, 32_000.0) }
}

/// The pitch of the part that repeats its past most, unless another part has a fraction of it.
struct BestPitch {
    pitch: usize,
    gain: f32,
}

impl Default for BestPitch {
    fn default() -> Self {
        Self { pitch: PART_SAMPLES, gain: 0.0 }
    }
}

impl BestPitch {
    fn consider(&mut self, pitch: usize, gains: [f32; 3]) {
        let side = |gain: f32| if gain > 0.0 { gain } else { -0.5 * gain };
        let gain = gains[1].abs() + side(gains[0]) + side(gains[2]);
        let is_near = |a: usize, b: usize| (2..=4).any(|times| (times * a).abs_diff(b) <= times);
        let is_fraction = is_near(self.pitch, pitch);
        let is_multiple = is_near(pitch, self.pitch);
        if (gain > self.gain && !is_fraction)
            || (gain > 0.6 * self.gain && is_multiple)
            || (0.67 * gain > self.gain && is_fraction)
        {
            self.pitch = pitch;
            self.gain = self.gain.max(gain);
        }
    }
}

/// Excitation of the lowest rate: pulses and noise.
#[derive(Default)]
struct Vocoder {
    until_pulse: usize,
    last_pulse: f32,
    last_noise: f32,
    mean: f32,
}

impl Vocoder {
    fn shape(
        &mut self,
        excitation: &mut [f32],
        noise: &[f32],
        pitch: usize,
        pitch_gain: f32,
        frame_gain: f32,
    ) {
        let voiced = (1.5 * (pitch_gain - 0.2)).clamp(0.0, 1.0);
        excitation.fill(0.0);
        while let Some(sample) = excitation.get_mut(self.until_pulse) {
            *sample = (2.0 * pitch as f32).sqrt() * voiced * frame_gain;
            self.until_pulse += pitch;
        }
        self.until_pulse -= excitation.len();
        for (sample, noise) in excitation.iter_mut().zip(noise) {
            let pulse = *sample;
            *sample = 0.7 * pulse + 0.3 * self.last_pulse + (1.0 - 0.85 * voiced) * noise
                - 0.15 * voiced * self.last_noise;
            self.last_pulse = pulse;
            self.last_noise = *noise;
            self.mean = 0.8 * self.mean + 0.2 * *sample;
            *sample -= self.mean;
        }
    }
}

/// Takes away what lies below speech.
struct HighPass {
    zeros: [f32; 3],
    poles: [f32; 2],
    memory: [f32; 2],
}

impl HighPass {
    fn new(is_wideband: bool) -> Self {
        let (zeros, poles) = if is_wideband {
            ([0.986_45, -1.972_77, 0.986_45], [-1.972_26, 0.973_32])
        } else {
            ([0.964_46, -1.928_79, 0.964_46], [-1.926_83, 0.930_71])
        };
        Self { zeros, poles, memory: [0.0; 2] }
    }

    fn run(&mut self, samples: &mut [f32]) {
        let ([a, b, c], [d, e]) = (self.zeros, self.poles);
        for sample in samples {
            let value = a * *sample + self.memory[0];
            self.memory = [self.memory[1] + b * *sample - d * value, c * *sample - e * value];
            *sample = value;
        }
    }
}
