//! An upper band of Speex, above another decoder: 4 to 8 kHz, and above that 8 to 16 kHz.
//!
//! The band is a filter too, excited by patterns from a codebook, or by what excites the band
//! below, folded over. Its loudness is told against that of the band below, both taken where the two bands
//! meet. Source: The Speex Codec Manual, chapter 10, and the numbers of the reference
//! implementation.

use super::super::bits::Bits;
use super::filters::{FilterBank, interpolate, loudness, prediction, synthesize};
use super::narrowband::{Codebook, PART_COUNT};
use super::shapes::{HIGH_SHAPES_8_7, HIGH_SHAPES_10_5};
use super::tables::{LSP_WIDE_1, LSP_WIDE_2};

const ORDER: usize = 8;

/// Loudness against the band below, in 4 bits.
const GAINS: [f32; 16] = [
    0.979_79, 1.283_84, 1.682_23, 2.204_26, 2.888_29, 3.784_58, 4.959, 6.497_87, 8.514_28,
    11.156_42, 14.618_46, 19.154_84, 25.098_95, 32.887_61, 43.093_25, 56.465_88,
];

static COARSE: Codebook =
    Codebook { shapes: &HIGH_SHAPES_10_5, length: 10, bits: 5, has_sign: false };
static FINE: Codebook = Codebook { shapes: &HIGH_SHAPES_8_7, length: 8, bits: 7, has_sign: true };

/// What a band takes from the one below.
pub(super) struct Below<'a> {
    pub(super) samples: &'a [f32],
    pub(super) innovation: &'a [f32],
    pub(super) edge_gains: [f32; PART_COUNT],
    pub(super) loudness: [f32; PART_COUNT],
}

/// A decoder of an upper band.
pub(super) struct Wideband {
    part_samples: usize,
    folding_gain: f32,
    is_first: bool,
    pairs: [f32; ORDER],
    prediction: [f32; ORDER],
    memory: [f32; ORDER],
    /// Of the last part: a part is heard one part later.
    excitation: Vec<f32>,
    bank: FilterBank,
    /// As the lower band has them, for the band above.
    pub(super) innovation: Vec<f32>,
    pub(super) edge_gains: [f32; PART_COUNT],
    pub(super) loudness: [f32; PART_COUNT],
}

impl Wideband {
    /// The band from 4 kHz, or that from 8 kHz.
    pub(super) fn new(is_ultra: bool) -> Self {
        let (part_samples, folding_gain) = if is_ultra { (80, 0.7) } else { (40, 0.9) };
        Self {
            part_samples,
            folding_gain,
            is_first: true,
            pairs: [0.0; ORDER],
            prediction: [0.0; ORDER],
            memory: [0.0; ORDER],
            excitation: vec![0.0; part_samples],
            bank: FilterBank::default(),
            innovation: vec![0.0; part_samples * PART_COUNT * 2],
            edge_gains: [0.0; PART_COUNT],
            loudness: [0.0; PART_COUNT],
        }
    }

    /// Both bands of a frame; `None` if it is of no mode that exists.
    pub(super) fn decode(&mut self, bits: &mut Bits<'_>, below: &Below<'_>) -> Option<Vec<f32>> {
        let mut mode = 0;
        if bits.remaining() > 0 && bits.peek(1) == 1 {
            bits.skip(1);
            mode = bits.take(3);
        }
        self.innovation.fill(0.0);
        let mut high = vec![0.0; below.samples.len()];
        let last_mode = if self.part_samples == 80 { 1 } else { 4 };
        if mode == 0 {
            self.is_first = true;
            synthesize(&mut high, &self.prediction, &mut self.memory);
            return Some(self.bank.join(below.samples, &high));
        } else if mode > last_mode {
            return None;
        }
        let pairs = read_pairs(bits);
        if self.is_first {
            self.pairs = pairs;
            self.is_first = false;
        }
        for (part, samples) in high.chunks_exact_mut(self.part_samples).enumerate() {
            let between = interpolate(&self.pairs, &pairs, part, PART_COUNT, 0.05);
            let next = prediction(&between);
            let [even, odd] = [0, 1].map(|first| next.iter().skip(first).step_by(2).sum::<f32>());
            self.edge_gains[part] = 1.0 + even + odd;
            let ratio = (below.edge_gains[part] + 0.01) / (1.0 + odd - even + 0.01);
            let excitation = self.read_excitation(bits, mode, part, ratio, below);
            samples.copy_from_slice(&self.excitation);
            synthesize(samples, &self.prediction, &mut self.memory);
            self.loudness[part] = loudness(&excitation);
            self.excitation = excitation;
            self.prediction = next;
        }
        self.pairs = pairs;
        Some(self.bank.join(below.samples, &high))
    }

    fn read_excitation(
        &mut self,
        bits: &mut Bits<'_>,
        mode: usize,
        part: usize,
        ratio: f32,
        below: &Below<'_>,
    ) -> Vec<f32> {
        let length = self.part_samples;
        let mut excitation = vec![0.0; length];
        if mode == 1 {
            let gain = self.folding_gain * (0.125 * (bits.take(5) as f32 - 10.0)).exp() / ratio;
            let folded = &below.innovation[part * length..(part + 1) * length];
            for (index, (sample, folded)) in excitation.iter_mut().zip(folded).enumerate() {
                *sample = if index % 2 == 0 { gain * folded } else { -gain * folded };
            }
        } else {
            let gain = 0.873_6 * GAINS[bits.take(4)] * below.loudness[part] / ratio;
            let codebook = if mode == 2 { &COARSE } else { &FINE };
            codebook.add(bits, gain, &mut excitation);
            if mode == 4 {
                codebook.add(bits, 0.4 * gain, &mut excitation);
            }
        }
        let innovation = self.innovation[2 * part * length..].iter_mut().step_by(2);
        innovation.zip(&excitation).for_each(|(to, from)| *to = *from);
        excitation
    }
}

fn read_pairs(bits: &mut Bits<'_>) -> [f32; ORDER] {
    let (first, second) = (bits.take(6) * ORDER, bits.take(6) * ORDER);
    std::array::from_fn(|index| {
        0.312_5 * index as f32
            + 0.75
            + f32::from(LSP_WIDE_1[first + index]) / 256.0
            + f32::from(LSP_WIDE_2[second + index]) / 512.0
    })
}
