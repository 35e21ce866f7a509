//! Each kernel on the shapes of published networks, and what the processor can do at most.
//!
//! A ceiling is measured, not looked up: for products, the dot instruction of the format on registers
//! alone; for a decoder's products, which read every weight once, a sum over as much
//! memory. Everything runs on one thread; the fastest of some runs is a ceiling, since whatever else
//! the machine does only slows a run down.

use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use super::aligned::Aligned;
use super::attention::PackedHeads;
use super::buffer::{Buffer, Target, View};
use super::decoder::Cross;
use super::layout::{Format, Packed};
use super::product::Product;
use super::{Cpu, Kernels};
use crate::device::ComputeType;
use crate::error::Result;
use crate::kernels::{FRAMES, Row};

/// Runs of a ceiling, of which the fastest counts.
const RUNS: usize = 7;
/// Rounds of a ceiling: some milliseconds.
const ROUNDS: usize = 1_000_000;
/// Width and height of the token table of `base`.
const TABLE: [usize; 2] = [51_865, 512];

/// One kernel on one shape, to be run as often as its measurer likes.
#[non_exhaustive]
pub struct KernelRun<'a> {
    /// What is run, in which format.
    pub kernel: String,
    /// On what.
    pub shape: String,
    /// `op` (a multiplication and an addition are two) or `B`.
    pub unit: &'static str,
    /// How many of the unit a run does.
    pub amount: u64,
    /// How many of the unit this machine can do in a second.
    pub ceiling: f64,
    /// Does it once.
    pub run: &'a mut dyn FnMut(),
}

impl fmt::Debug for KernelRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kernel, self.shape)
    }
}

/// Makes all kernels in all formats that this machine has, one after the other, and hands them over.
///
/// # Errors
/// Those of the kernels, which sizes chosen here do not cause.
pub fn kernel_runs(measure: &mut dyn FnMut(KernelRun<'_>)) -> Result<()> {
    let mut measured = Vec::new();
    for compute in [ComputeType::F32, ComputeType::Bf16, ComputeType::Int8] {
        let Ok(cpu) = Cpu::with_kernels(Kernels::best(), compute, 1) else { continue };
        let stored = if cpu.kernels.has(Format::F16) { Format::F16 } else { Format::F32 };
        let format = cpu.precision.linear.unwrap_or(stored);
        let bench = Bench { cpu, format };
        for d_model in [512, 768, 1280] {
            for [outputs, inputs] in
                [[3 * d_model, d_model], [4 * d_model, d_model], [d_model, 4 * d_model]]
            {
                bench.linear(FRAMES, [outputs, inputs], measure);
            }
        }
        for rows in [1, 5, 40] {
            bench.linear(rows, TABLE, measure);
        }
        let attention = bench.cpu.precision.attention;
        if !measured.contains(&attention) {
            measured.push(attention);
            bench.encoder_attention(8, 64, measure);
            for queries in [1, 5] {
                bench.cross_attention(queries, 8, 64, measure)?;
            }
        }
    }
    Ok(())
}

/// Bytes read a second, one after the other and again and again, of memory of so many.
fn memory_bandwidth(kernels: &Kernels, bytes: usize) -> f64 {
    // Written to, or the system would show one page of zeros for all of it, which a cache holds.
    let memory = Aligned::padded(&vec![1.0; bytes / 4], 1);
    let seconds = fastest(|| {
        // SAFETY: the kernels are of this machine.
        black_box(unsafe { (kernels.read)(&memory) });
    });
    bytes as f64 / seconds
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

type Measure<'a> = &'a mut dyn FnMut(KernelRun<'_>);

struct Bench {
    cpu: Cpu,
    format: Format,
}

impl Bench {
    /// Operations a second of a format's dot instruction.
    fn peak(&self, format: Format) -> f64 {
        let mut operations = 0;
        let peak = self.cpu.kernels.of(format).peak;
        let seconds = fastest(|| {
            // SAFETY: the kernels are of this machine.
            operations = unsafe { peak(ROUNDS) };
        });
        operations as f64 / seconds
    }

    fn packed(&self, [outputs, inputs]: [usize; 2]) -> Packed {
        let weights = values(outputs * inputs);
        let row = |output: usize, values: &mut [f32]| {
            values.copy_from_slice(&weights[output * inputs..(output + 1) * inputs]);
        };
        let (pool, layout) = (&self.cpu.pool, self.cpu.kernels.layout(self.format));
        Packed::new(pool, layout, [outputs, inputs], &[], &row)
    }

    /// The keys and values of a window of sound.
    fn heads(&self, heads: usize, d_model: usize, format: Format) -> PackedHeads {
        let (weights, input) = (self.packed([2 * d_model, d_model]), values(FRAMES * d_model));
        let view = View::new(&input, d_model);
        let product = Product::new(FRAMES, view, &weights, Target::new(&mut [], 0));
        // SAFETY: `input` has the rows, and the weights have keys and values only.
        unsafe { self.cpu.project_heads(&product, heads, format) }
    }

    fn linear(&self, rows: usize, [outputs, inputs]: [usize; 2], measure: Measure<'_>) {
        let packed = self.packed([outputs, inputs]);
        let input = values(rows * inputs);
        let mut out = vec![0.0; rows * outputs];
        let product =
            Product::new(rows, View::new(&input, inputs), &packed, Target::new(&mut out, outputs));
        let (unit, amount, ceiling) = if rows < 40 {
            let bytes = packed.panels() * packed.panel_bytes();
            ("B", bytes, memory_bandwidth(&self.cpu.kernels, bytes))
        } else {
            ("op", 2 * rows * outputs * inputs, self.peak(self.format))
        };
        measure(KernelRun {
            kernel: format!("linear {:?}", self.format),
            shape: format!("{rows} x {inputs} x {outputs}"),
            unit,
            amount: amount as u64,
            ceiling,
            // SAFETY: both buffers were made for these rows.
            run: &mut || unsafe { self.cpu.multiply(&product) },
        });
    }

    fn encoder_attention(&self, heads: usize, d_head: usize, measure: Measure<'_>) {
        let d_model = heads * d_head;
        let format = self.cpu.precision.attention;
        let (queries, packed) = (values(FRAMES * d_model), self.heads(heads, d_model, format));
        let mut out = vec![0.0; FRAMES * d_model];
        let (queries, target) = (View::new(&queries, d_model), Target::new(&mut out, d_model));
        measure(KernelRun {
            kernel: format!("attention {format:?}"),
            shape: format!("{heads} heads of {d_head}, {FRAMES} x {FRAMES}"),
            unit: "op",
            amount: (4 * FRAMES * FRAMES * d_model) as u64,
            ceiling: self.peak(format),
            run: &mut || self.cpu.attend_window(queries, &packed, target),
        });
    }

    /// One layer's attention of some hypotheses to a window, among as many windows as no cache holds.
    fn cross_attention(
        &self,
        queries: usize,
        heads: usize,
        d_head: usize,
        measure: Measure<'_>,
    ) -> Result<()> {
        const WINDOWS: usize = 32;
        let (cpu, d_model, format) = (&self.cpu, heads * d_head, self.cpu.precision.attention);
        let windows = (0..WINDOWS).map(|_| self.heads(heads, d_model, format));
        let cross = Cross { windows: windows.collect(), heads };
        let rows = (0..WINDOWS * queries)
            .map(|index| Row { window: index / queries, tokens: index..index + 1, past: 0 })
            .collect::<Vec<_>>();
        let mut q = Buffer::new(&cpu.arena, rows.len(), d_model);
        q.data.copy_from_slice(&values(rows.len() * d_model));
        let mut outcome = Ok(());
        let bytes: usize = cross.windows.iter().map(|window| window.data.len() * 4).sum();
        measure(KernelRun {
            kernel: format!("cross-attention {format:?}"),
            shape: format!("{WINDOWS} windows, {queries} queries each, {heads} heads of {d_head}"),
            unit: "B",
            amount: bytes as u64,
            ceiling: memory_bandwidth(&cpu.kernels, bytes),
            run: &mut || outcome = cpu.attend_to_cross(&q, &cross, &rows, None).map(drop),
        });
        outcome
    }
}
