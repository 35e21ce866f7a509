//! What excites the filter of AMR-WB: its own past one pitch ago, and pulses.
//!
//! The past that is kept is not quite what is heard: for that, gains are smoothed, pulses spread
//! out and the pitch strengthened (3GPP TS 26.190, sections 6.1 and 6.2).

use super::filters::{DISPERSE_MEDIUM, DISPERSE_STRONG, PITCH_FILTER};
use super::parameters::{MAX_LAG, ORDER, Part};
use super::pulses::PART_SAMPLES;

type Samples = [f32; PART_SAMPLES];

/// As far back as the filter around the longest pitch reaches.
const PAST_SAMPLES: usize = MAX_LAG + ORDER + 1;

/// Gains of pulses are told against a prediction around this level, in decibels.
const MEAN_LEVEL: f32 = 30.0;
const LEVEL_WEIGHTS: [f32; 4] = [0.2, 0.3, 0.4, 0.5];

/// Steps of 1.5 dB up and down.
const LOUDER: f32 = 1.0 + 6_226.0 / 32_768.0;
const SOFTER: f32 = 27_536.0 / 32_768.0;

pub(super) struct Excitation {
    /// The past, the part, and one sample more that a filter looks ahead.
    samples: [f32; PAST_SAMPLES + PART_SAMPLES + 1],
    /// Levels of the last gains against their predictions, oldest first.
    levels: [f32; 4],
    /// How much neighbouring pulses are alike, from how voiced the last part was.
    tilt: f32,
    /// Newest first.
    pitch_gains: [f32; 6],
    last_pulse_gain: f32,
    smooth_gain: f32,
    /// 0: strong, 1: medium, 2: none.
    dispersion: usize,
}

impl Default for Excitation {
    fn default() -> Self {
        Self {
            samples: [0.0; PAST_SAMPLES + PART_SAMPLES + 1],
            levels: [-14.0; 4],
            tilt: 0.0,
            pitch_gains: [0.0; 6],
            last_pulse_gain: 0.0,
            smooth_gain: 0.0,
            dispersion: 0,
        }
    }
}

impl Excitation {
    /// The next part, as it is heard.
    pub(super) fn decode(
        &mut self,
        part: &Part,
        sparse_rate: Option<usize>,
        stability: f32,
    ) -> Samples {
        let pitch = self.past_at(part);
        let mut pulses = part.pulses;
        for sample in (1..PART_SAMPLES).rev() {
            pulses[sample] -= pulses[sample - 1] * self.tilt;
        }
        for sample in part.lag.min(PART_SAMPLES)..PART_SAMPLES {
            pulses[sample] += pulses[sample - part.lag] * 0.85;
        }
        let pulse_gain = self.pulse_gain(part.pulse_gain, &pulses);
        self.pitch_gains.copy_within(..5, 1);
        self.pitch_gains[0] = part.pitch_gain;
        let pitch_energy = energy(&pitch) * part.pitch_gain * part.pitch_gain;
        let pulse_energy = energy(&pulses) * pulse_gain * pulse_gain;
        let voicing = (pitch_energy - pulse_energy) / (pitch_energy + pulse_energy + 0.01);
        self.tilt = 0.25 * voicing + 0.25;
        self.remember(&pitch, part.pitch_gain, &pulses, pulse_gain);

        let heard_gain = self.smoothed(pulse_gain, voicing, stability);
        if let Some(rate) = sparse_rate {
            self.disperse(&mut pulses, pulse_gain, rate);
        }
        self.last_pulse_gain = pulse_gain;
        let sharpened = sharpen(&pulses, 0.125 * (1.0 + voicing));
        let mut heard: Samples = std::array::from_fn(|sample| {
            part.pitch_gain * pitch[sample] + heard_gain * sharpened[sample]
        });
        if sparse_rate.is_some() && part.pitch_gain > 0.5 {
            let before = energy(&heard);
            let more = 0.25 * part.pitch_gain * part.pitch_gain;
            heard.iter_mut().zip(&pitch).for_each(|(sample, pitch)| *sample += more * pitch);
            let scale = (before / energy(&heard).max(1e-9)).sqrt();
            heard.iter_mut().for_each(|sample| *sample *= scale);
        }
        heard
    }

    /// The past one pitch ago, between samples where the pitch is.
    fn past_at(&mut self, part: &Part) -> Samples {
        let shift = usize::from(part.lag_quarters > 0);
        let quarter = (if shift > 0 { part.lag_quarters } else { part.lag_quarters + 4 }) as usize;
        let first = PAST_SAMPLES + 1 - part.lag - shift;
        for sample in 0..=PART_SAMPLES {
            let at = first + sample;
            let mut sum = 0.0;
            for tap in 0..ORDER {
                let after = f32::from(PITCH_FILTER[4 * tap + quarter]);
                let before = f32::from(PITCH_FILTER[4 * (tap + 1) - quarter]);
                sum += self.samples[at + tap] * after + self.samples[at - tap - 1] * before;
            }
            self.samples[PAST_SAMPLES + sample] = sum / 32_768.0;
        }
        std::array::from_fn(|sample| {
            let at = PAST_SAMPLES + sample;
            if part.is_plain {
                self.samples[at]
            } else {
                0.18 * (self.samples[at - 1] + self.samples[at + 1]) + 0.64 * self.samples[at]
            }
        })
    }

    /// The gain of pulses: as told, against what the last ones let expect.
    fn pulse_gain(&mut self, told: f32, pulses: &Samples) -> f32 {
        let expected: f32 = LEVEL_WEIGHTS.iter().zip(self.levels).map(|(w, level)| w * level).sum();
        let mean_energy = energy(pulses) / PART_SAMPLES as f32;
        self.levels.copy_within(1.., 0);
        self.levels[3] = 20.0 * told.max(1e-6).log10();
        told * 10_f32.powf(0.05 * (expected + MEAN_LEVEL)) / mean_energy.max(1e-9).sqrt()
    }

    fn remember(&mut self, pitch: &Samples, pitch_gain: f32, pulses: &Samples, pulse_gain: f32) {
        let part = &mut self.samples[PAST_SAMPLES..PAST_SAMPLES + PART_SAMPLES];
        for ((sample, pitch), pulse) in part.iter_mut().zip(pitch).zip(pulses) {
            let sum = pitch_gain * pitch + pulse_gain * pulse;
            // Damaged frames must not grow without end.
            *sample = sum.trunc().clamp(-32_768.0, 32_767.0);
        }
        self.samples.copy_within(PART_SAMPLES.., 0);
    }

    /// The gain of pulses that is heard: it changes slowly where nobody speaks.
    fn smoothed(&mut self, gain: f32, voicing: f32, stability: f32) -> f32 {
        let share = 0.5 * (1.0 - voicing) * stability;
        self.smooth_gain = if gain < self.smooth_gain {
            self.smooth_gain.min(gain * LOUDER)
        } else {
            self.smooth_gain.max(gain * SOFTER)
        };
        share * self.smooth_gain + (1.0 - share) * gain
    }

    /// Spreads out pulses that are too few to sound like noise, less at the higher rate.
    fn disperse(&mut self, pulses: &mut Samples, gain: f32, rate: usize) {
        let mut dispersion = match self.pitch_gains[0] {
            ..0.6 => 0,
            0.6..0.9 => 1,
            _ => 2,
        };
        if gain > 3.0 * self.last_pulse_gain {
            dispersion = (dispersion + 1).min(2);
        } else {
            let unvoiced = self.pitch_gains.iter().filter(|gain| **gain < 0.6).count();
            if unvoiced > 2 {
                dispersion = 0;
            }
            if dispersion > self.dispersion + 1 {
                dispersion -= 1;
            }
        }
        self.dispersion = dispersion;
        let filter = match dispersion + rate {
            0 => &DISPERSE_STRONG,
            1 => &DISPERSE_MEDIUM,
            _ => return,
        };
        // Around in a circle.
        let sparse = std::mem::replace(pulses, [0.0; PART_SAMPLES]);
        for (place, pulse) in sparse.into_iter().enumerate().filter(|(_, pulse)| *pulse != 0.0) {
            for (tap, weight) in filter.iter().enumerate() {
                let at = (place + tap) % PART_SAMPLES;
                pulses[at] += pulse * f32::from(*weight) / 32_768.0;
            }
        }
    }
}

/// Takes from each sample a share of its neighbours.
fn sharpen(samples: &Samples, share: f32) -> Samples {
    std::array::from_fn(|sample| {
        let before = if sample > 0 { samples[sample - 1] } else { 0.0 };
        let after = samples.get(sample + 1).copied().unwrap_or(0.0);
        samples[sample] - share * (before + after)
    })
}

pub(super) fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum()
}
