//! The verbs of [`Backend`] as candle tensor operations: CUDA, Metal, and the CPU as the reference.
//!
//! Weights and activations have one type, f32 on the CPU, f32, f16 or bf16 on a GPU; norms and
//! softmax sum in f32 everywhere. A buffer is one tensor `(rows, columns)`.
//!
//! [`attention`] holds attention, [`cache`] the keys and values of earlier tokens.

mod attention;
mod cache;

use candle_core::{D, DType, Device, Result as Candled, Tensor};

use self::cache::Past;
use super::{Backend, CollectedAttention, FRAMES, LinearParts, Row};
use crate::device::{self, ComputeType};
use crate::error::{Error, Result};
use crate::kernels::select::Choice;
use crate::models::weights;

/// Layer norm's epsilon in Whisper.
const EPSILON: f32 = 1e-5;

/// A device that candle knows, with the type it computes in.
pub(crate) struct Candle {
    device: Device,
    dtype: DType,
    /// How a batch of windows is walked through.
    stride: Stride,
}

/// How a batch of windows is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stride {
    /// One after the other, for a CPU: one keeps every core busy and stays in its caches.
    Window,
    /// All at once, for a GPU, whose launches cost more than filling up unequal windows.
    Batch,
}

/// A linear layer.
pub(crate) struct Linear {
    weight: Tensor, // (outputs, inputs)
    bias: Tensor,   // (outputs)
}

/// Scale and shift of a layer norm.
pub(crate) struct Norm {
    weight: Tensor, // (d_model)
    bias: Tensor,   // (d_model)
}

/// Tables of tokens and positions.
pub(crate) struct Embedding {
    tokens: Tensor,    // (vocab, d_model)
    positions: Tensor, // (text_context, d_model)
}

/// What lies in front of the encoder.
pub(crate) struct Stem {
    conv1: Linear,     // (d_model, n_mels, 3)
    conv2: Linear,     // (d_model, d_model, 3)
    positions: Tensor, // (FRAMES, d_model)
}

/// Keys and values of one decoder layer over the windows' frames.
pub(crate) struct Cross {
    keys: Tensor,   // (batch, heads, FRAMES, d_head)
    values: Tensor, // (batch, heads, FRAMES, d_head)
}

impl Candle {
    /// Opens the chosen device.
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened, or if candle does not compute in the format there.
    pub(crate) fn new(choice: Choice) -> Result<Self> {
        let refuse = |reason| Error::Device { device: choice.device.to_string(), reason };
        let device = match choice.device {
            device::Device::Auto | device::Device::Cpu => Ok(Device::Cpu),
            device::Device::Cuda(ordinal) => Device::new_cuda(ordinal),
            device::Device::Metal(ordinal) => Device::new_metal(ordinal),
        };
        let device = device.map_err(|error| refuse(error.to_string()))?;
        let dtype = match choice.compute {
            ComputeType::Auto | ComputeType::F32 => DType::F32,
            ComputeType::F16 => DType::F16,
            ComputeType::Bf16 if !device.is_cpu() => DType::BF16,
            ComputeType::Bf16 | ComputeType::Int8 => {
                return Err(refuse(format!("cannot compute in {}", choice.compute)));
            }
        };
        let stride = if device.is_cpu() { Stride::Window } else { Stride::Batch };
        Ok(Self { device, dtype, stride })
    }

    fn upload(&self, tensor: &weights::Tensor<'_>) -> Result<Tensor> {
        let values = tensor.to_f32()?;
        Tensor::from_vec(values, tensor.shape.as_slice(), &self.device)
            .and_then(|tensor| tensor.to_dtype(self.dtype))
            .map_err(self.failed("weights"))
    }

    /// The same device, but with another way through a batch.
    #[cfg(test)]
    pub(crate) fn with_stride(self, stride: Stride) -> Self {
        Self { stride, ..self }
    }

    /// Turns candle's error into ours: a full device is the user's to solve.
    fn failed(&self, context: &'static str) -> impl FnOnce(candle_core::Error) -> Error {
        let location = match self.device.location() {
            candle_core::DeviceLocation::Cpu => None,
            candle_core::DeviceLocation::Cuda { gpu_id } => Some(device::Device::Cuda(gpu_id)),
            candle_core::DeviceLocation::Metal { gpu_id } => Some(device::Device::Metal(gpu_id)),
        };
        move |error| match location {
            Some(gpu) if is_out_of_memory(&error) => Error::Device {
                device: gpu.to_string(),
                reason: "out of memory: take a smaller batch or model".to_owned(),
            },
            _ => Error::inference(context, error),
        }
    }

    /// Indices for `index_select`.
    fn indices(&self, values: impl IntoIterator<Item = usize>) -> Candled<Tensor> {
        let values: Vec<u32> = values.into_iter().map(|value| value as u32).collect();
        let count = values.len();
        Tensor::from_vec(values, count, &self.device)
    }

    /// The given rows of `x`, without a copy if they follow each other.
    fn take_rows(&self, x: &Tensor, rows: &[usize]) -> Candled<Tensor> {
        match rows.first() {
            Some(&first) if rows.iter().copied().eq(first..first + rows.len()) => {
                x.narrow(0, first, rows.len())
            }
            _ => x.index_select(&self.indices(rows.iter().copied())?, 0),
        }
    }

    /// Runs `verb` over as many rows as one stride has.
    fn by_blocks(&self, x: &Tensor, verb: impl Fn(&Tensor) -> Candled<Tensor>) -> Candled<Tensor> {
        let rows = x.dim(0)?;
        if self.stride == Stride::Batch || rows <= FRAMES {
            return verb(x);
        }
        let block = |first| verb(&x.narrow(0, first, FRAMES.min(rows - first))?);
        let blocks = (0..rows).step_by(FRAMES).map(block).collect::<Candled<Vec<_>>>()?;
        Tensor::cat(&blocks, 0)
    }

    fn conv(&self, x: &Tensor, conv: &Linear, stride: usize) -> Candled<Tensor> {
        let y = x.conv1d(&conv.weight, 1, stride, 1, 1)?; // (batch, d_model, frames)
        y.broadcast_add(&conv.bias.reshape((1, (), 1))?)?.gelu_erf()
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Candled<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Candled<Tensor> {
        if !x.device().is_cpu() {
            return candle_nn::ops::layer_norm(x, &self.weight, &self.bias, EPSILON);
        }
        // candle's kernel for the CPU takes the variance as the mean square less the squared mean,
        // which loses digits where the mean is large.
        let wide = x.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + f64::from(EPSILON))?.sqrt()?)?;
        let normed = normed.to_dtype(x.dtype())?;
        normed.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("out_of_memory") || text.contains("out of memory")
}

impl Backend for Candle {
    type Buffer = Tensor;
    type Linear = Linear;
    type Norm = Norm;
    type Embedding = Embedding;
    type Stem = Stem;
    type Cross = Cross;
    type Past = Past;

    fn linear(&self, parts: &[LinearParts<'_>]) -> Result<Linear> {
        let mut weights = Vec::with_capacity(parts.len());
        let mut biases = Vec::with_capacity(parts.len());
        for (weight, bias) in parts {
            let weight = self.upload(weight)?;
            let outputs = weight.dims().first().copied().unwrap_or(0);
            biases.push(match bias {
                Some(bias) => self.upload(bias)?,
                None => Tensor::zeros(outputs, self.dtype, &self.device)
                    .map_err(self.failed("weights"))?,
            });
            weights.push(weight);
        }
        let stack = |tensors: &[Tensor]| Tensor::cat(tensors, 0).map_err(self.failed("weights"));
        Ok(Linear { weight: stack(&weights)?, bias: stack(&biases)? })
    }

    fn norm(&self, weight: weights::Tensor<'_>, bias: weights::Tensor<'_>) -> Result<Norm> {
        Ok(Norm { weight: self.upload(&weight)?, bias: self.upload(&bias)? })
    }

    fn embedding(
        &self,
        tokens: weights::Tensor<'_>,
        positions: weights::Tensor<'_>,
    ) -> Result<Embedding> {
        Ok(Embedding { tokens: self.upload(&tokens)?, positions: self.upload(&positions)? })
    }

    fn stem(
        &self,
        conv1: LinearParts<'_>,
        conv2: LinearParts<'_>,
        positions: weights::Tensor<'_>,
    ) -> Result<Stem> {
        Ok(Stem {
            conv1: self.linear(&[conv1])?,
            conv2: self.linear(&[conv2])?,
            positions: self.upload(&positions)?,
        })
    }

    fn run_stem(&self, stem: &Stem, mels: &[&[f32]]) -> Result<Tensor> {
        let window = |mel: &&[f32]| -> Candled<Tensor> {
            let n_mels = mel.len() / (2 * FRAMES);
            let x = Tensor::from_slice(mel, (1, n_mels, 2 * FRAMES), &self.device)?;
            let x = self.conv(&x.to_dtype(self.dtype)?, &stem.conv1, 1)?;
            let x = self.conv(&x, &stem.conv2, 2)?.squeeze(0)?; // (d_model, FRAMES)
            x.t()?.contiguous()?.add(&stem.positions)
        };
        let windows = mels.iter().map(window).collect::<Candled<Vec<_>>>();
        let rows = windows.and_then(|windows| Tensor::cat(&windows, 0));
        rows.map_err(self.failed("encoder convolutions"))
    }

    fn run_norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        norm.forward(x).map_err(self.failed("layer norm"))
    }

    fn norm_linear(&self, x: &Tensor, norm: &Norm, linear: &Linear) -> Result<Tensor> {
        self.by_blocks(x, |x| linear.forward(&norm.forward(x)?))
            .map_err(self.failed("linear layer"))
    }

    fn norm_attend(
        &self,
        x: &Tensor,
        norm: &Norm,
        qkv: &Linear,
        batch: usize,
        heads: usize,
    ) -> Result<Tensor> {
        let qkv = self.norm_linear(x, norm, qkv)?;
        attention::within_windows(self, &qkv, batch, heads)
            .map_err(self.failed("encoder attention"))
    }

    fn linear_add(&self, x: &Tensor, linear: &Linear, residual: &mut Tensor) -> Result<()> {
        let sum = linear.forward(x).and_then(|y| y.add(residual));
        *residual = sum.map_err(self.failed("linear layer"))?;
        Ok(())
    }

    fn mlp(&self, x: &mut Tensor, norm: &Norm, up: &Linear, down: &Linear) -> Result<()> {
        let sum = self.by_blocks(x, |x| {
            let hidden = up.forward(&norm.forward(x)?)?.gelu_erf()?;
            down.forward(&hidden)?.add(x)
        });
        *x = sum.map_err(self.failed("mlp"))?;
        Ok(())
    }

    #[cfg(test)]
    fn to_host(&self, x: &Tensor) -> Result<Vec<f32>> {
        let values = x.to_dtype(DType::F32).and_then(|x| x.flatten_all()?.to_vec1());
        values.map_err(self.failed("copy to the host"))
    }

    fn cross(&self, encoded: &Tensor, kv: &Linear, batch: usize, heads: usize) -> Result<Cross> {
        let split = || -> Candled<Cross> {
            let kv = kv.forward(encoded)?; // (batch * FRAMES, 2 * d_model)
            let d_model = kv.dim(1)? / 2;
            let part = |at: usize| {
                kv.narrow(1, at * d_model, d_model)?
                    .reshape((batch, FRAMES, heads, d_model / heads))?
                    .transpose(1, 2)?
                    .contiguous()
            };
            Ok(Cross { keys: part(0)?, values: part(1)? })
        };
        split().map_err(self.failed("cross-attention keys and values"))
    }

    fn append_cross(&self, cross: &mut Cross, more: Cross) -> Result<()> {
        let join = |one: &Tensor, other: &Tensor| {
            let joined = Tensor::cat(&[one, other], 0);
            joined.map_err(self.failed("cross-attention keys and values"))
        };
        *cross = Cross {
            keys: join(&cross.keys, &more.keys)?,
            values: join(&cross.values, &more.values)?,
        };
        Ok(())
    }

    fn encoder_batch(&self) -> usize {
        if self.device.is_cpu() { 1 } else { usize::MAX }
    }

    fn embed(&self, embedding: &Embedding, tokens: &[u32], positions: &[u32]) -> Result<Tensor> {
        let rows = |table: &Tensor, indices: &[u32]| {
            table.index_select(&Tensor::new(indices, &self.device)?, 0)
        };
        let sum = rows(&embedding.tokens, tokens)
            .and_then(|tokens| tokens.add(&rows(&embedding.positions, positions)?));
        sum.map_err(self.failed("embedding"))
    }

    fn past(
        &self,
        layers: usize,
        heads: usize,
        d_model: usize,
        rows: usize,
        capacity: usize,
    ) -> Result<Past> {
        Past::new(layers, heads, d_model / heads, rows, capacity, self)
            .map_err(self.failed("key and value cache"))
    }

    fn attend_past(
        &self,
        qkv: &Tensor,
        past: &mut Past,
        layer: usize,
        rows: &[Row],
    ) -> Result<Tensor> {
        past.attend(qkv, layer, rows).map_err(self.failed("self-attention"))
    }

    fn attend_cross(
        &self,
        q: &Tensor,
        cross: &Cross,
        rows: &[Row],
        collect: Option<&mut CollectedAttention>,
    ) -> Result<Tensor> {
        attention::across(self, q, cross, rows, collect).map_err(self.failed("cross-attention"))
    }

    fn select(&self, past: &mut Past, parents: &[usize]) -> Result<()> {
        past.select(parents, self).map_err(self.failed("key and value cache"))
    }

    fn logits(
        &self,
        x: &Tensor,
        positions: &[usize],
        norm: &Norm,
        embedding: &Embedding,
    ) -> Result<Vec<f32>> {
        let project = || -> Candled<Vec<f32>> {
            let x = norm.forward(&self.take_rows(x, positions)?)?;
            let logits = x.matmul(&embedding.tokens.t()?)?; // (positions, vocab)
            logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
        };
        project().map_err(self.failed("logits"))
    }
}
