//! How fast each kernel is, beside what the processor can do at most.
//!
//! A ceiling is measured, not looked up: for products, the dot instruction of the format on registers
//! alone; for a decoder's products, which read every weight once, a sum over memory that no cache
//! holds. Everything runs on one thread; the fastest of some runs counts, since whatever else the
//! machine does only slows a run down.

use std::hint::black_box;
use std::time::Instant;

use super::attention::PackedHeads;
use super::buffer::{Aligned, Buffer, Target, View};
use super::decoder::Cross;
use super::layout::{Format, Packed};
use super::product::Product;
use super::{Cpu, Kernels};
use crate::device::ComputeType;
use crate::error::Result;
use crate::kernels::{FRAMES, Row};

/// Runs of which the fastest counts.
const RUNS: usize = 7;
/// Rounds of a ceiling: some milliseconds.
const ROUNDS: usize = 1_000_000;
/// What no cache holds.
const MEMORY_WORDS: usize = 64 << 20;
/// Width and height of the token table of `base`.
const TABLE: [usize; 2] = [51_865, 512];

/// The speed of one kernel on one shape.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KernelSpeed {
    /// What was run, in which format.
    pub kernel: String,
    /// On what.
    pub shape: String,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// `Gop/s` (a multiplication and an addition are two) or `GB/s`.
    pub unit: &'static str,
    /// How many of the unit were reached.
    pub rate: f64,
    /// How many of the unit this machine can do.
    pub ceiling: f64,
}

/// Measures all kernels in all formats that this machine has, and reports one after the other.
///
/// # Errors
/// Those of the kernels, which sizes chosen here do not cause.
pub fn kernel_speeds(report: &mut dyn FnMut(KernelSpeed)) -> Result<()> {
    let bandwidth = memory_bandwidth();
    for compute in [ComputeType::F32, ComputeType::Bf16, ComputeType::Int8] {
        let Ok(cpu) = Cpu::with_kernels(Kernels::best(), compute, 1) else { continue };
        let stored = if cpu.kernels.has(Format::F16) { Format::F16 } else { Format::F32 };
        let format = cpu.precision.linear.unwrap_or(stored);
        let bench = Bench { cpu, format, bandwidth };
        for d_model in [512, 768, 1280] {
            for [outputs, inputs] in
                [[3 * d_model, d_model], [4 * d_model, d_model], [d_model, 4 * d_model]]
            {
                report(bench.linear(FRAMES, [outputs, inputs]));
            }
        }
        for rows in [1, 5, 40] {
            report(bench.linear(rows, TABLE));
        }
        if compute != ComputeType::Int8 {
            report(bench.encoder_attention(8, 64));
            for queries in [1, 5] {
                report(bench.cross_attention(queries, 8, 64)?);
            }
        }
    }
    Ok(())
}

/// Bytes read a second, in billions.
fn memory_bandwidth() -> f64 {
    let memory = Aligned::padded(&[1.0], MEMORY_WORDS);
    let seconds = fastest(|| {
        let mut sums = [0u32; 64];
        for chunk in memory.as_chunks::<64>().0 {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum ^= value.to_bits());
        }
        black_box(sums);
    });
    (MEMORY_WORDS * 4) as f64 / seconds / 1e9
}

fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let seconds = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::MAX, f64::min)
}

/// Values in [-1, 1).
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + i / 64) % 2003) as f32 / 1001.5 - 1.0).collect()
}

struct Bench {
    cpu: Cpu,
    format: Format,
    bandwidth: f64,
}

impl Bench {
    /// Operations a second of a format's dot instruction, in billions.
    fn peak(&self, format: Format) -> f64 {
        let mut operations = 0;
        // SAFETY: the kernels are of this machine.
        let seconds =
            fastest(|| operations = unsafe { (self.cpu.kernels.of(format).peak)(ROUNDS) });
        operations as f64 / seconds / 1e9
    }

    fn packed(&self, [outputs, inputs]: [usize; 2]) -> Packed {
        let weights = values(outputs * inputs);
        let row = |output: usize, values: &mut [f32]| {
            values.copy_from_slice(&weights[output * inputs..(output + 1) * inputs]);
        };
        let (pool, layout) = (&self.cpu.pool, (self.format, self.cpu.kernels.width));
        Packed::new(pool, layout, [outputs, inputs], &[], &row)
    }

    /// The keys and values of a window of sound.
    fn heads(&self, heads: usize, d_model: usize) -> PackedHeads {
        let (weights, input) = (self.packed([2 * d_model, d_model]), values(FRAMES * d_model));
        let view = View::new(&input, d_model);
        let product = Product::new(FRAMES, view, &weights, Target::new(&mut [], 0));
        // SAFETY: `input` has the rows, and the weights have keys and values only.
        unsafe { self.cpu.project_heads(&product, heads) }
    }

    fn linear(&self, rows: usize, [outputs, inputs]: [usize; 2]) -> KernelSpeed {
        let packed = self.packed([outputs, inputs]);
        let input = values(rows * inputs);
        let mut out = vec![0.0; rows * outputs];
        let product =
            Product::new(rows, View::new(&input, inputs), &packed, Target::new(&mut out, outputs));
        // SAFETY: both buffers were made for these rows.
        let seconds = fastest(|| unsafe { self.cpu.multiply(&product) });
        let (unit, amount, ceiling) = if rows < 40 {
            ("GB/s", packed.panels() * packed.panel_bytes(), self.bandwidth)
        } else {
            ("Gop/s", 2 * rows * outputs * inputs, self.peak(self.format))
        };
        let kernel = format!("linear {:?}", self.format);
        let shape = format!("{rows} x {inputs} x {outputs}");
        let rate = amount as f64 / seconds / 1e9;
        KernelSpeed { kernel, shape, ms: seconds * 1e3, unit, rate, ceiling }
    }

    fn encoder_attention(&self, heads: usize, d_head: usize) -> KernelSpeed {
        let d_model = heads * d_head;
        let (queries, packed) = (values(FRAMES * d_model), self.heads(heads, d_model));
        let mut out = vec![0.0; FRAMES * d_model];
        let (queries, target) = (View::new(&queries, d_model), Target::new(&mut out, d_model));
        let seconds = fastest(|| self.cpu.attend_window(queries, &packed, target));
        let format = self.cpu.precision.attention;
        KernelSpeed {
            kernel: format!("attention {format:?}"),
            shape: format!("{heads} heads of {d_head}, {FRAMES} x {FRAMES}"),
            ms: seconds * 1e3,
            unit: "Gop/s",
            rate: (4 * FRAMES * FRAMES * d_model) as f64 / seconds / 1e9,
            ceiling: self.peak(format),
        }
    }

    /// One layer's attention of some hypotheses to a window, among as many windows as no cache holds.
    fn cross_attention(&self, queries: usize, heads: usize, d_head: usize) -> Result<KernelSpeed> {
        const WINDOWS: usize = 32;
        let (cpu, d_model) = (&self.cpu, heads * d_head);
        let windows = (0..WINDOWS).map(|_| self.heads(heads, d_model));
        let cross = Cross { windows: windows.collect(), heads };
        let rows = (0..WINDOWS * queries)
            .map(|index| Row { window: index / queries, tokens: index..index + 1, past: 0 })
            .collect::<Vec<_>>();
        let mut q = Buffer::new(&cpu.arena, rows.len(), d_model);
        q.data.copy_from_slice(&values(rows.len() * d_model));
        let mut outcome = Ok(());
        let seconds = fastest(|| {
            outcome = cpu.attend_to_cross(&q, &cross, &rows, None).map(drop);
        });
        outcome?;
        let format = cpu.precision.attention;
        let bytes: usize = cross.windows.iter().map(|window| window.data.len() * 4).sum();
        Ok(KernelSpeed {
            kernel: format!("cross-attention {format:?}"),
            shape: format!("{WINDOWS} windows, {queries} queries each, {heads} heads of {d_head}"),
            ms: seconds * 1e3,
            unit: "GB/s",
            rate: bytes as f64 / seconds / 1e9,
            ceiling: self.bandwidth,
        })
    }
}
