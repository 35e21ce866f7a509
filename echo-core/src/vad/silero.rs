//! Silero VAD 6.2 for 16 kHz, written out (snakers4/silero-vad, MIT; weights in `data/`).
//!
//! Frames of 512 samples (32 ms), each with the 64 samples before it and mirrored by 64 at its end:
//!
//! | step | weights | output of a frame |
//! |---|---|---|
//! | Fourier transform of 256 samples every 128, magnitude | window (256) | (4, 129) |
//! | convolution 3, stride 1, rectified | (128, 129, 3) | (4, 128) |
//! | convolution 3, stride 2, rectified | (64, 128, 3) | (2, 64) |
//! | convolution 3, stride 2, rectified | (64, 64, 3) | (1, 64) |
//! | convolution 3, stride 1, rectified | (128, 64, 3) | (1, 128) |
//! | LSTM cell, gates i f g o | (512, 128) twice | (128) |
//! | rectified, linear, sigmoid | (1, 128) | probability |
//!
//! Only the LSTM remembers. Everything before it runs on blocks of frames at once, as matrix products
//! whose rows are the 1 to 3 neighbouring columns of a frame (taps that would fall on padding
//! are left out of the product, which is the same as multiplying zeros). The checkpoint has the
//! Fourier transform as a convolution; its rows are a window times cosines and sines, so that a
//! real FFT of the windowed samples gives the same magnitudes for a tenth of the work.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use safetensors::SafeTensors;

use super::{Probabilities, Vad};
use crate::error::{Error, Result};
use crate::kernels::cpu::dense::{Dense, step_cells};
use crate::kernels::matrix::Rows;
use crate::threads::Threads;

const WEIGHTS: &[u8] = include_bytes!("../../data/silero_vad_16k.safetensors");

/// New samples of a frame.
pub(crate) const FRAME_SAMPLES: usize = 512;
/// Samples of the frame before, in front; and as many mirrored at the end.
const CONTEXT_SAMPLES: usize = 64;
const FFT_SAMPLES: usize = 256;
const FFT_HOP_SAMPLES: usize = 128;
const FFT_COLUMNS: usize = 4;
const BINS: usize = FFT_SAMPLES / 2 + 1;
const CHANNELS: usize = 128;
const HALF_CHANNELS: usize = 64;
const HIDDEN: usize = 128;
const GATES: usize = 4 * HIDDEN;
/// Frames of one block: its activations (1 MB) stay in the second-level cache.
const BLOCK_FRAMES: usize = 128;
/// Blocks between two reports of progress: about two minutes of sound.
const BLOCKS_PER_REPORT: usize = 32;

/// The network.
pub(crate) struct Silero {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    conv1: Convolution,
    conv2: Convolution,
    conv3: Convolution,
    conv4: Convolution,
    /// (512, 128), and the sum of both biases.
    input: Dense,
    /// (512, 128).
    recurrent: Dense,
    output: (Vec<f32>, f32),
    threads: Threads,
}

impl fmt::Debug for Silero {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Silero").finish_non_exhaustive()
    }
}

/// Three taps over columns that lie one after the other.
struct Convolution {
    /// For each column of its output the first column that it reads, and the taps that do not lie on
    /// padding: `(outputs, taps * inputs)`.
    columns: Vec<(usize, Dense)>,
    inputs: usize,
    /// Columns of a frame of its input.
    in_columns: usize,
}

/// What the LSTM remembers.
struct State {
    hidden: [f32; HIDDEN],
    cell: [f32; HIDDEN],
}

impl Silero {
    /// The network with the weights that the crate carries.
    pub(crate) fn new() -> Result<Self> {
        let file = SafeTensors::deserialize(WEIGHTS)
            .map_err(|error| Error::inference("weights of silero vad", error))?;
        let get = |name: &str, shape: &[usize]| tensor(&file, name, shape);
        let convolution = |name: &str, [outputs, inputs]: [usize; 2], columns: [usize; 2]| {
            let weight = get(&format!("{name}.weight"), &[outputs, inputs, 3])?;
            let bias = get(&format!("{name}.bias"), &[outputs])?;
            Ok(Convolution::new(&weight, &bias, inputs, columns))
        };
        let input = get("lstm_cell.weight_ih", &[GATES, HIDDEN])?;
        let recurrent = get("lstm_cell.weight_hh", &[GATES, HIDDEN])?;
        let bias_ih = get("lstm_cell.bias_ih", &[GATES])?;
        let bias_hh = get("lstm_cell.bias_hh", &[GATES])?;
        let bias: Vec<f32> = bias_ih.iter().zip(&bias_hh).map(|(ih, hh)| ih + hh).collect();
        let bias_out = get("final_conv.bias", &[1])?;

        // The row of frequency 0 is the window times cos 0.
        let mut window = get("stft_conv.weight", &[2 * BINS, 1, FFT_SAMPLES])?;
        window.truncate(FFT_SAMPLES);
        Ok(Self {
            fft: RealFftPlanner::new().plan_fft_forward(FFT_SAMPLES),
            window,
            conv1: convolution("conv1", [CHANNELS, BINS], [FFT_COLUMNS, 1])?,
            conv2: convolution("conv2", [HALF_CHANNELS, CHANNELS], [FFT_COLUMNS, 2])?,
            conv3: convolution("conv3", [HALF_CHANNELS, HALF_CHANNELS], [2, 2])?,
            conv4: convolution("conv4", [CHANNELS, HALF_CHANNELS], [1, 1])?,
            input: Dense::new(&input, [GATES, HIDDEN], &bias),
            recurrent: Dense::new(&recurrent, [GATES, HIDDEN], &[]),
            output: (get("final_conv.weight", &[1, HIDDEN, 1])?, bias_out.iter().sum()),
            threads: Threads::default(),
        })
    }

    /// The same, computing on these threads.
    pub(crate) fn on(mut self, threads: &Threads) -> Self {
        self.threads = threads.clone();
        self
    }

    /// What the LSTM gets of some frames: `(frames, 512)`.
    fn gates(&self, samples: &[f32], frames: Range<usize>) -> Result<Vec<f32>> {
        let count = frames.len();
        let spectrum = self.magnitudes(samples, frames)?; // (frames, 4, 129)
        let mut x = vec![0.0; count * FFT_COLUMNS * CHANNELS]; // (frames, 4, 128)
        self.conv1.run(&spectrum, &mut x);
        let mut y = vec![0.0; count * 2 * HALF_CHANNELS]; // (frames, 2, 64)
        self.conv2.run(&x, &mut y);
        let mut z = vec![0.0; count * HALF_CHANNELS]; // (frames, 1, 64)
        self.conv3.run(&y, &mut z);
        let mut x = vec![0.0; count * CHANNELS]; // (frames, 1, 128)
        self.conv4.run(&z, &mut x);

        let mut gates = vec![0.0; count * GATES];
        self.input.apply(Rows::new(&x, count, HIDDEN, HIDDEN), &mut gates, GATES);
        Ok(gates)
    }

    /// Magnitudes of the spectrum: `(frames, 4, 129)`.
    fn magnitudes(&self, samples: &[f32], frames: Range<usize>) -> Result<Vec<f32>> {
        const MIRROR: usize = CONTEXT_SAMPLES + FRAME_SAMPLES;
        let mut frame = [0.0; MIRROR + CONTEXT_SAMPLES];
        let mut windowed = self.fft.make_input_vec();
        let mut spectrum: Vec<Complex<f32>> = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut magnitudes = Vec::with_capacity(frames.len() * FFT_COLUMNS * BINS);
        for number in frames {
            // Before and behind the samples is silence.
            let start = number * FRAME_SAMPLES;
            let from = start.saturating_sub(CONTEXT_SAMPLES);
            let heard = &samples[from..samples.len().min(start + FRAME_SAMPLES)];
            frame.fill(0.0);
            let values = frame[CONTEXT_SAMPLES.saturating_sub(start)..].iter_mut();
            values.zip(heard).for_each(|(value, &sample)| *value = bounded(sample));
            for at in 0..CONTEXT_SAMPLES {
                // The last sample itself is not repeated.
                frame[MIRROR + at] = frame[MIRROR - 2 - at];
            }
            for column in 0..FFT_COLUMNS {
                let piece = &frame[column * FFT_HOP_SAMPLES..][..FFT_SAMPLES];
                for ((out, sample), weight) in windowed.iter_mut().zip(piece).zip(&self.window) {
                    *out = sample * weight;
                }
                self.fft
                    .process_with_scratch(&mut windowed, &mut spectrum, &mut scratch)
                    .map_err(|error| Error::inference("spectrum of silero vad", error))?;
                magnitudes.extend(spectrum.iter().map(|bin| bin.norm_sqr().sqrt()));
            }
        }
        Ok(magnitudes)
    }

    /// One step of the LSTM and the output: the probability of one frame.
    fn step(&self, state: &mut State, gates: &mut [f32]) -> f32 {
        self.recurrent.add_to(Rows::new(&state.hidden, 1, HIDDEN, HIDDEN), gates, GATES);
        step_cells(gates, &mut state.cell, &mut state.hidden);
        let (weight, bias) = &self.output;
        let heard = state.hidden.iter().zip(weight);
        let logit = bias + heard.map(|(hidden, weight)| hidden.max(0.0) * weight).sum::<f32>();
        sigmoid(logit)
    }
}

impl Vad for Silero {
    fn probabilities(
        &self,
        samples: &[f32],
        progress: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Probabilities> {
        let frames = samples.len().div_ceil(FRAME_SAMPLES);
        let mut state = State { hidden: [0.0; HIDDEN], cell: [0.0; HIDDEN] };
        let mut values = Vec::with_capacity(frames);
        while values.len() < frames {
            let start = values.len();
            let end = frames.min(start + BLOCKS_PER_REPORT * BLOCK_FRAMES);
            let blocks: Vec<usize> = (start..end).step_by(BLOCK_FRAMES).collect();
            let gates = |block| self.gates(samples, block..end.min(block + BLOCK_FRAMES));
            let mut gates: Vec<_> =
                self.threads.run(|| blocks.into_par_iter().map(gates).collect::<Result<_>>())?;
            let rows = gates.iter_mut().flat_map(|block| block.chunks_exact_mut(GATES));
            values.extend(rows.map(|row| self.step(&mut state, row)));
            progress(values.len() as f64 / frames as f64)?;
        }
        Ok(Probabilities { frame_samples: FRAME_SAMPLES, values })
    }
}

impl Convolution {
    /// With weights `(outputs, inputs, 3)` and a bias for each output, centred on every `stride`th of so
    /// many columns of a frame.
    fn new(weight: &[f32], bias: &[f32], inputs: usize, [in_columns, stride]: [usize; 2]) -> Self {
        let column = |column: usize| {
            // Tap `t` lies on column `column + t - 1`.
            let taps = usize::from(column == 0)..(in_columns + 1 - column).min(3);
            let values = (0..bias.len() * taps.len() * inputs).map(|at| {
                let (row, input) = (at / inputs, at % inputs);
                let (output, tap) = (row / taps.len(), taps.start + row % taps.len());
                weight[(output * inputs + input) * 3 + tap]
            });
            let values: Vec<f32> = values.collect();
            let dense = Dense::new(&values, [bias.len(), taps.len() * inputs], bias);
            (column + taps.start - 1, dense)
        };
        let columns = (0..in_columns).step_by(stride).map(column).collect();
        Self { columns, inputs, in_columns }
    }

    /// From `(frames, columns, inputs)` to `(frames, output columns, outputs)`, rectified.
    fn run(&self, x: &[f32], out: &mut [f32]) {
        let width = self.in_columns * self.inputs;
        let frames = x.len() / width;
        let out_width = out.len() / frames;
        for (index, (first, dense)) in self.columns.iter().enumerate() {
            let rows = Rows::new(&x[first * self.inputs..], frames, dense.inputs(), width);
            dense.apply(rows, &mut out[index * dense.outputs()..], out_width);
        }
        out.iter_mut().for_each(|value| *value = value.max(0.0));
    }
}

/// A sample as the network may see it: one that is not a number would stay in the LSTM for ever.
fn bounded(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-16.0, 16.0) } else { 0.0 }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn tensor(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let view =
        file.tensor(name).map_err(|error| Error::inference("weights of silero vad", error))?;
    if view.shape() != shape || view.dtype() != safetensors::Dtype::F32 {
        let found = format!("{name} is {:?} {:?}, expected {shape:?}", view.dtype(), view.shape());
        return Err(Error::inference("weights of silero vad", found));
    }
    let bytes = view.data().chunks_exact(4);
    Ok(bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[cfg(test)]
mod tests;
