//! Parts that the networks of speaker embeddings share: tensors by name, and norms after training.
//!
//! A norm of a trained network is one factor and one term for each channel. Where a product stands
//! before it, the two are one product.

use crate::device::ComputeType;
use crate::error::Result;
use crate::kernels::cpu::dense::Dense;
use crate::models::weights::Weights;

const EPSILON: f32 = 1e-5;

/// Reads the tensors of a checkpoint.
pub(super) struct Reader<'a> {
    pub(super) weights: &'a dyn Weights,
    /// How products of some size are multiplied, see [`Dense::with`].
    pub(super) compute: ComputeType,
}

/// A norm after training.
#[derive(Debug)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Reader<'_> {
    /// The values of a tensor.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.weights.get(name, shape)?.to_f32()
    }

    /// A norm; its own scale and shift may be missing.
    pub(super) fn norm(&self, name: &str, channels: usize) -> Result<Affine> {
        let get = |part: &str| self.get(&format!("{name}.{part}"), &[channels]);
        let (mean, variance) = (get("running_mean")?, get("running_var")?);
        let has_own = self.weights.shape(&format!("{name}.weight")).is_some();
        let (weight, bias) = if has_own {
            (get("weight")?, get("bias")?)
        } else {
            (vec![1.0; channels], vec![0.0; channels])
        };
        let scale: Vec<f32> =
            weight.iter().zip(&variance).map(|(w, v)| w / (v + EPSILON).sqrt()).collect();
        let shift = (0..channels).map(|at| bias[at] - mean[at] * scale[at]).collect();
        Ok(Affine { scale, shift })
    }

    /// A product with the norm behind it folded in; `shape` is that of the stored weights.
    pub(super) fn folded(&self, name: &str, shape: &[usize], norm: &str) -> Result<Dense> {
        let (weight, norm) = (self.get(name, shape)?, self.norm(norm, shape[0])?);
        let inputs = weight.len() / shape[0];
        Ok(Dense::with(self.compute, &norm.scaled(&weight), [shape[0], inputs], &norm.shift))
    }
}

impl Affine {
    /// Weights `(outputs, …)` times the scale of their output.
    pub(super) fn scaled(&self, weight: &[f32]) -> Vec<f32> {
        let inputs = weight.len() / self.scale.len();
        let rows = weight.chunks_exact(inputs).zip(&self.scale);
        rows.flat_map(|(row, scale)| row.iter().map(move |weight| weight * scale)).collect()
    }

    /// `max(x * scale + shift, 0)` of `(rows, channels)`.
    pub(super) fn rectify(&self, x: &mut [f32]) {
        for row in x.chunks_exact_mut(self.scale.len()) {
            for ((value, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                *value = (*value * scale + shift).max(0.0);
            }
        }
    }
}
