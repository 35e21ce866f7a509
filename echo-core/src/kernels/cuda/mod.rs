//! The verbs of [`Backend`] with Echo's own CUDA kernels: half or brain floats, sums in f32.
//!
//! Few rows, a decoder step, are walks through memory: [`linear`] gives them to kernels that read
//! each weight once, with norm, bias, GELU and residual inside. Many rows, the encoder and prompts,
//! are products of cuBLASLt ([`product`]). [`attention`] never stores a matrix of scores, reads a
//! window's frames once for all that listen to it, and finds earlier tokens by lists of slots
//! ([`cache`]). Nothing is allocated in a step once a batch has been through ([`memory`]).
//!
//! The kernels' sources are in `source/`; the build script compiles them.
#![allow(unsafe_code)]

mod attention;
mod cache;
mod context;
mod linear;
mod memory;
mod product;
mod rank;
mod weights;

use std::sync::{Arc, Mutex};

use self::attention::{Cross, Listeners};
use self::cache::Past;
use self::context::{Argument, Format, Gpu, Grid};
use self::memory::{Block, Memory};
use self::product::Products;
use self::weights::{Embedding, Linear, Norm, Stem};
use super::rank::{Ranked, Restriction};
use super::{Backend, CollectedAttention, FRAMES, LinearParts, Row};
use crate::device::{ComputeType, Device};
use crate::error::{Error, Result};
use crate::kernels::select::Choice;
use crate::models::weights::Tensor;

/// Windows that go through the encoder together: enough to fill the device, few enough that their
/// activations take less than a gigabyte.
const ENCODER_BATCH: usize = 16;

/// Rows of attention per head that kernels keep count of, see `cross_attention.cu`.
const ARRIVALS: usize = 1 << 16;

/// An NVIDIA GPU with tensor cores (compute capability 8.0 or later).
#[derive(Debug)]
pub(crate) struct Cuda {
    gpu: Arc<Gpu>,
    memory: Memory,
    products: Products,
    /// Zeros between launches.
    arrivals: Block,
    /// Of the last step, which all layers share.
    listeners: Mutex<Option<Arc<Listeners>>>,
}

/// Activations, `(rows, columns)`.
#[derive(Debug)]
pub(crate) struct Buffer {
    block: Block,
    rows: usize,
    columns: usize,
    /// In f32: what the encoder's layers add to, dozens of times.
    is_wide: bool,
}

impl Cuda {
    /// Opens the chosen device; `None` if these kernels do not run there or not in the format.
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened.
    pub(crate) fn new(choice: Choice) -> Result<Option<Self>> {
        let (Device::Cuda(ordinal), format) = (choice.device, format(choice.compute)) else {
            return Ok(None);
        };
        let Some(format) = format else { return Ok(None) };
        if !context::is_supported(ordinal)? {
            return Ok(None);
        }
        let gpu = Arc::new(Gpu::new(ordinal, format)?);
        let memory = Memory::new(Arc::clone(&gpu))?;
        let products = Products::new(Arc::clone(&gpu), &memory)?;
        let arrivals = memory.zeros(4 * ARRIVALS)?;
        Ok(Some(Self { gpu, memory, products, arrivals, listeners: Mutex::default() }))
    }

    /// Whether there are kernels for rows of this width with so many heads.
    pub(crate) fn has_kernels_for(d_model: usize, heads: usize) -> bool {
        let d_head = d_model.checked_div(heads).unwrap_or(0);
        d_model <= linear::MOST_NORM_COLUMNS
            && d_head * heads == d_model
            && (d_head == 32 || d_head == 64)
    }

    fn buffer(&self, rows: usize, columns: usize) -> Result<Buffer> {
        let block = self.memory.take(2 * rows * columns)?;
        Ok(Buffer { block, rows, columns, is_wide: false })
    }

    fn stem_rows(&self, stem: &Stem, mels: &[&[f32]]) -> Result<Buffer> {
        let (batch, d_model) = (mels.len(), stem.conv2.outputs);
        let n_mels = stem.conv1.inputs / 3;
        let window_bytes = 4 * n_mels * 2 * FRAMES;
        let spectra = self.memory.take(batch * window_bytes)?;
        for (window, mel) in mels.iter().enumerate() {
            if 4 * mel.len() != window_bytes {
                return Err(Error::inference("encoder", "a window of another size"));
            }
            // SAFETY: any four bytes of an f32 are four u8.
            let bytes =
                unsafe { std::slice::from_raw_parts(mel.as_ptr().cast(), size_of_val(*mel)) };
            self.memory.write(&spectra, window * window_bytes, bytes)?;
        }
        let taps = self.buffer(batch * 2 * FRAMES, stem.conv1.inputs)?;
        let grid = Grid { blocks: (2 * FRAMES, batch, 1), threads: 128, shared_bytes: 0 };
        let frames = 2 * FRAMES;
        // SAFETY: `spectra` holds (batch, n_mels, frames), `taps` (batch * frames, 3 * n_mels).
        unsafe {
            let arguments = &mut [spectra.at(0), taps.block.at(0), n_mels.into(), frames.into()];
            self.gpu.launch("mel_columns", grid, arguments)?;
        }
        let first = self.multiply(&taps, &stem.conv1)?;
        drop(taps);
        let taps = self.buffer(batch * FRAMES, 3 * d_model)?;
        let grid = Grid { blocks: (FRAMES, batch, 1), threads: 128, shared_bytes: 0 };
        // SAFETY: `first` holds (batch * 2 * FRAMES, d_model), `taps` (batch * FRAMES, 3 * d_model).
        unsafe {
            let arguments =
                &mut [first.block.at(0), taps.block.at(0), d_model.into(), FRAMES.into()];
            self.gpu.launch("gelu_columns", grid, arguments)?;
        }
        let second = self.multiply(&taps, &stem.conv2)?;
        let rows = batch * FRAMES;
        let block = self.memory.take(4 * rows * d_model)?;
        let x = Buffer { block, rows, columns: d_model, is_wide: true };
        let chunks = rows * d_model / 8;
        // SAFETY: `second` and `x` hold so many chunks of 8, `positions` those of one window.
        unsafe {
            let arguments = &mut [
                second.block.at(0),
                stem.positions.at(0),
                x.block.at(0),
                Argument::Size(chunks as u64),
                (FRAMES * d_model / 8).into(),
            ];
            self.gpu.launch("gelu_positions", Grid::of_threads(chunks), arguments)?;
        }
        Ok(x)
    }
}

fn format(compute: ComputeType) -> Option<Format> {
    match compute {
        ComputeType::F16 => Some(Format::F16),
        ComputeType::Bf16 => Some(Format::Bf16),
        _ => None,
    }
}

impl Backend for Cuda {
    type Buffer = Buffer;
    type Linear = Linear;
    type Norm = Norm;
    type Embedding = Embedding;
    type Stem = Stem;
    type Cross = Cross;
    type Past = Past;

    fn linear(&self, parts: &[LinearParts<'_>]) -> Result<Linear> {
        self.gpu.bind()?;
        self.pack_linear(parts)
    }

    fn norm(&self, weight: Tensor<'_>, bias: Tensor<'_>) -> Result<Norm> {
        self.gpu.bind()?;
        self.pack_norm(&weight, &bias)
    }

    fn embedding(&self, tokens: Tensor<'_>, positions: Tensor<'_>) -> Result<Embedding> {
        self.gpu.bind()?;
        self.pack_embedding(&tokens, &positions)
    }

    fn stem(
        &self,
        conv1: LinearParts<'_>,
        conv2: LinearParts<'_>,
        positions: Tensor<'_>,
    ) -> Result<Stem> {
        self.gpu.bind()?;
        self.pack_stem(conv1, conv2, &positions)
    }

    fn run_stem(&self, stem: &Stem, mels: &[&[f32]]) -> Result<Buffer> {
        self.gpu.bind()?;
        self.stem_rows(stem, mels)
    }

    fn run_norm(&self, x: &Buffer, norm: &Norm) -> Result<Buffer> {
        self.gpu.bind()?;
        self.normalised(x, norm, None)
    }

    fn norm_linear(&self, x: &Buffer, norm: &Norm, linear: &Linear) -> Result<Buffer> {
        self.gpu.bind()?;
        self.normalised_product(x, norm, linear)
    }

    fn norm_attend(
        &self,
        x: &Buffer,
        norm: &Norm,
        qkv: &Linear,
        batch: usize,
        heads: usize,
    ) -> Result<Buffer> {
        self.gpu.bind()?;
        let qkv = self.normalised_product(x, norm, qkv)?;
        self.attend_frames(&qkv, batch, heads)
    }

    fn linear_add(&self, x: &Buffer, linear: &Linear, residual: &mut Buffer) -> Result<()> {
        self.gpu.bind()?;
        self.add_product(x, linear, residual)
    }

    fn mlp(&self, x: &mut Buffer, norm: &Norm, up: &Linear, down: &Linear) -> Result<()> {
        self.gpu.bind()?;
        let hidden = self.hidden(x, norm, up)?;
        self.add_product(&hidden, down, x)
    }

    #[cfg(test)]
    fn to_host(&self, x: &Buffer) -> Result<Vec<f32>> {
        self.gpu.bind()?;
        if x.is_wide {
            return self.memory.read_f32(&x.block, x.rows * x.columns);
        }
        let is_half = self.gpu.format == Format::F16;
        self.memory.read(&x.block, 2 * x.rows * x.columns, |bytes| {
            let widen = |value: &[u8; 2]| match is_half {
                true => half::f16::from_le_bytes(*value).to_f32(),
                false => half::bf16::from_le_bytes(*value).to_f32(),
            };
            bytes.as_chunks::<2>().0.iter().map(widen).collect()
        })
    }

    fn cross(&self, encoded: &Buffer, kv: &Linear, batch: usize, heads: usize) -> Result<Cross> {
        self.gpu.bind()?;
        let kv = self.multiply(encoded, kv)?;
        self.split_frames(&kv, batch, heads)
    }

    fn append_cross(&self, cross: &mut Cross, more: Cross) -> Result<()> {
        self.gpu.bind()?;
        cross.append(self, more)
    }

    fn encoder_batch(&self) -> usize {
        ENCODER_BATCH
    }

    fn embed(&self, embedding: &Embedding, tokens: &[u32], positions: &[u32]) -> Result<Buffer> {
        self.gpu.bind()?;
        self.embedded(embedding, tokens, positions)
    }

    fn past(
        &self,
        layers: usize,
        heads: usize,
        d_model: usize,
        rows: usize,
        capacity: usize,
    ) -> Result<Past> {
        self.gpu.bind()?;
        Past::new(self, (layers, heads, d_model), rows, capacity)
    }

    fn attend_past(
        &self,
        qkv: &Buffer,
        past: &mut Past,
        layer: usize,
        rows: &[Row],
    ) -> Result<Buffer> {
        self.gpu.bind()?;
        self.attend_tokens(qkv, past, layer, rows)
    }

    fn attend_cross(
        &self,
        q: &Buffer,
        cross: &Cross,
        rows: &[Row],
        collect: Option<&mut CollectedAttention>,
    ) -> Result<Buffer> {
        self.gpu.bind()?;
        let listeners = self.listeners(rows, cross.windows())?;
        if let Some(collected) = collect {
            self.collect_weights(q, cross, &listeners, collected)?;
        }
        self.attend_windows(q, cross, &listeners)
    }

    fn select(&self, past: &mut Past, parents: &[usize]) -> Result<()> {
        past.select(parents)
    }

    fn logits(
        &self,
        x: &Buffer,
        positions: &[usize],
        norm: &Norm,
        embedding: &Embedding,
    ) -> Result<Vec<f32>> {
        self.gpu.bind()?;
        let logits = self.project(x, positions, norm, embedding)?;
        self.memory.read_f32(&logits, positions.len() * embedding.vocab)
    }

    fn can_rank(&self, vocab: usize) -> bool {
        vocab <= rank::MOST_TOKENS
    }

    fn rank(
        &self,
        x: &Buffer,
        positions: &[usize],
        weights: (&Norm, &Embedding),
        restrictions: &[Restriction],
        count: usize,
    ) -> Result<Vec<Ranked>> {
        self.gpu.bind()?;
        self.ranked(x, positions, weights, restrictions, count)
    }
}

#[cfg(test)]
mod tests;
