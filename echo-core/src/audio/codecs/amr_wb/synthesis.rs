//! From what excites it to speech at 16 kHz: the filter of AMR-WB, and the noise above 6.4 kHz.
//!
//! Source: 3GPP TS 26.190, sections 6.1 and 6.3.

use super::excitation::energy;
use super::filters::{BELOW_7_KHZ, FIFTHS, UPPER_BAND};
use super::parameters::{ORDER, Part};
use super::pulses::PART_SAMPLES;

/// Samples of a part at 16 kHz.
const OUTPUT_SAMPLES: usize = 80;

/// What the filter to 16 kHz looks back.
const RATE_TAPS: usize = 24;
const NOISE_TAPS: usize = 31;

const DEEMPHASIS: f32 = 0.68;

/// The prediction filter of an immittance spectrum, told as cosines: two polynomials, of which one
/// has the even lines as roots and one the odd lines, weighed by the last line.
pub(super) fn prediction(cosines: &[f64; ORDER]) -> [f32; ORDER] {
    const HALF: usize = ORDER / 2;
    let last = cosines[ORDER - 1];
    let even = polynomial(cosines.iter().step_by(2));
    let odd = polynomial(cosines[..ORDER - 1].iter().skip(1).step_by(2));
    let mut prediction = [0.0; ORDER];
    for index in 1..HALF {
        let sum = even[index] * (1.0 + last);
        let before = if index > 1 { odd[index - 2] } else { 0.0 };
        let difference = (odd[index] - before) * (1.0 - last);
        prediction[index - 1] = ((sum + difference) * 0.5) as f32;
        prediction[ORDER - 1 - index] = ((sum - difference) * 0.5) as f32;
    }
    prediction[HALF - 1] = ((1.0 + last) * even[HALF] * 0.5) as f32;
    prediction[ORDER - 1] = last as f32;
    prediction
}

/// The product of all `1 - 2 cosine z + z²`.
fn polynomial<'a>(cosines: impl Iterator<Item = &'a f64>) -> [f64; ORDER + 1] {
    let mut product = [0.0; ORDER + 1];
    product[0] = 1.0;
    for (index, cosine) in cosines.enumerate() {
        for at in (1..=2 * index + 2).rev() {
            let before = if at > 1 { product[at - 2] } else { 0.0 };
            product[at] += before - 2.0 * cosine * product[at - 1];
        }
    }
    product
}

pub(super) struct Synthesis {
    /// The last outputs of the filter, and of that for noise, newest first.
    memory: [f32; ORDER],
    noise_memory: [f32; ORDER],
    deemphasized: f32,
    rumble: HighPass,
    bass: HighPass,
    /// Speech at 12.8 kHz: past and part.
    speech: [f32; RATE_TAPS + PART_SAMPLES],
    band: Fir,
    below_7_khz: Fir,
    seed: u32,
}

impl Default for Synthesis {
    fn default() -> Self {
        Self {
            memory: [0.0; ORDER],
            noise_memory: [0.0; ORDER],
            deemphasized: 0.0,
            // From 31 Hz and from 400 Hz on.
            rumble: HighPass::new(0.989_502, [-1.978_881_8, 0.979_126]),
            bass: HighPass::new(0.893_554_7, [-1.787_109_4, 0.864_257_8]),
            speech: [0.0; RATE_TAPS + PART_SAMPLES],
            band: Fir::default(),
            below_7_khz: Fir::default(),
            seed: 21_845,
        }
    }
}

impl Synthesis {
    /// Appends a part of speech.
    pub(super) fn run(
        &mut self,
        excitation: &[f32; PART_SAMPLES],
        prediction: &[f32; ORDER],
        part: &Part,
        is_speech: bool,
        output: &mut Vec<f32>,
    ) {
        let mut samples = *excitation;
        filter(&mut samples, prediction, &mut self.memory);
        for sample in &mut samples {
            self.deemphasized = *sample + DEEMPHASIS * self.deemphasized;
            *sample = self.rumble.next(self.deemphasized);
        }
        self.speech[RATE_TAPS..].copy_from_slice(&samples);
        let mut wide = self.to_16_khz();
        self.speech.copy_within(PART_SAMPLES.., 0);

        let trebles = samples.map(|sample| self.bass.next(sample));
        let gain = part.upper_gain.unwrap_or_else(|| expected_gain(&trebles, is_speech));
        let noise = self.noise(energy(excitation) * gain * gain, prediction);
        for (sample, noise) in wide.iter_mut().zip(noise) {
            let mut noise = self.band.next(noise, &UPPER_BAND) / 4.0;
            if part.upper_gain.is_some() {
                noise = self.below_7_khz.next(noise, &BELOW_7_KHZ);
            }
            *sample += noise;
        }
        output.extend(wide.map(|sample| sample / 32_768.0));
    }

    /// Five samples for every four, the first of which is taken as it is.
    fn to_16_khz(&self) -> [f32; OUTPUT_SAMPLES] {
        const MIDDLE: usize = RATE_TAPS / 2;
        std::array::from_fn(|index| {
            let (four, fifth) = (index / 5 * 4, index % 5);
            let Some(filter) = fifth.checked_sub(1) else { return self.speech[MIDDLE + four] };
            let first = four + fifth;
            let samples = &self.speech[first..first + RATE_TAPS];
            let taps = samples.iter().zip(&FIFTHS[filter]);
            taps.map(|(sample, tap)| sample * f32::from(*tap)).sum::<f32>() / 32_768.0
        })
    }

    /// Noise of an energy, through the filter of the speech made duller.
    fn noise(&mut self, wanted: f32, prediction: &[f32; ORDER]) -> [f32; OUTPUT_SAMPLES] {
        let mut noise: [f32; OUTPUT_SAMPLES] = std::array::from_fn(|_| {
            self.seed = self.seed.wrapping_mul(31_821).wrapping_add(13_849) & 0xffff;
            self.seed as f32 - 32_768.0
        });
        let scale = (wanted / energy(&noise).max(1.0)).sqrt();
        noise.iter_mut().for_each(|sample| *sample *= scale);
        let mut factor = 1.0;
        let dull = prediction.map(|coefficient| {
            factor *= 0.6;
            coefficient * factor
        });
        filter(&mut noise, &dull, &mut self.noise_memory);
        noise
    }
}

/// How loud the upper band is: the louder, the less the speech falls off towards it.
fn expected_gain(speech: &[f32; PART_SAMPLES], is_speech: bool) -> f32 {
    let neighbours: f32 = speech.iter().zip(&speech[1..]).map(|(a, b)| a * b).sum();
    let tilt = (neighbours / energy(speech).max(1e-9)).max(0.0);
    let scale = if is_speech { 1.0 } else { 1.25 };
    ((1.0 - tilt) * scale).clamp(0.1, 1.0)
}

/// Runs samples through a prediction filter.
fn filter(samples: &mut [f32], prediction: &[f32; ORDER], memory: &mut [f32; ORDER]) {
    for sample in samples {
        let known = prediction.iter().zip(&*memory);
        let value = *sample - known.map(|(coefficient, past)| coefficient * past).sum::<f32>();
        // Damaged frames may hold filters that never come to rest.
        *sample = value.clamp(-1e6, 1e6);
        memory.copy_within(..ORDER - 1, 1);
        memory[0] = *sample;
    }
}

/// Two poles, and two zeros at no frequency at all.
struct HighPass {
    gain: f32,
    poles: [f32; 2],
    memory: [f32; 2],
}

impl HighPass {
    fn new(gain: f32, poles: [f32; 2]) -> Self {
        Self { gain, poles, memory: [0.0; 2] }
    }

    fn next(&mut self, sample: f32) -> f32 {
        let [newer, older] = self.memory;
        let value = self.gain * sample - self.poles[0] * newer - self.poles[1] * older;
        self.memory = [value, newer];
        value - 2.0 * newer + older
    }
}

/// A filter over the last samples, oldest first.
#[derive(Default)]
struct Fir {
    past: [f32; NOISE_TAPS],
}

impl Fir {
    fn next(&mut self, sample: f32, taps: &[i16; NOISE_TAPS]) -> f32 {
        self.past.copy_within(1.., 0);
        self.past[NOISE_TAPS - 1] = sample;
        let sum: f32 = self.past.iter().zip(taps).map(|(past, tap)| past * f32::from(*tap)).sum();
        sum / 32_768.0
    }
}
