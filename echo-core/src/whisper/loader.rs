//! From a checkpoint's names to a backend's packed layers.

use crate::error::{Error, Result};
use crate::kernels::{Backend, LinearParts};
use crate::models::weights::Weights;

/// Reads tensors by name and packs them.
pub(super) struct Loader<'a, B: Backend> {
    pub(super) backend: &'a B,
    pub(super) weights: &'a dyn Weights,
    pub(super) d_model: usize,
}

impl<'a, B: Backend> Loader<'a, B> {
    /// Weight and bias called `name`; only keys may lack the bias.
    pub(super) fn parts(&self, name: &str, shape: &[usize]) -> Result<LinearParts<'a>> {
        let weight = self.weights.get(&format!("{name}.weight"), shape)?;
        let bias = format!("{name}.bias");
        if name.ends_with("k_proj") && self.weights.shape(&bias).is_none() {
            return Ok((weight, None));
        }
        Ok((weight, Some(self.weights.get(&bias, &shape[..1])?)))
    }

    /// Layers from width to width called `prefix.names`, stacked.
    pub(super) fn square(&self, prefix: &str, names: &[&str]) -> Result<B::Linear> {
        let shape = [self.d_model, self.d_model];
        let parts = names.iter().map(|name| self.parts(&format!("{prefix}.{name}"), &shape));
        self.backend.linear(&parts.collect::<Result<Vec<_>>>()?)
    }

    /// The two layers of a perceptron. Its inner width, four times the outer one in all published
    /// models, is what the checkpoint has.
    pub(super) fn mlp(&self, prefix: &str) -> Result<(B::Linear, B::Linear)> {
        let up = format!("{prefix}.fc1");
        let inner = match self.weights.shape(&format!("{up}.weight")).as_deref() {
            Some(&[inner, _]) => inner,
            Some(_) => {
                return Err(Error::model("whisper", format!("`{up}.weight` is not a matrix")));
            }
            None => 4 * self.d_model,
        };
        let up = self.parts(&up, &[inner, self.d_model])?;
        let down = self.parts(&format!("{prefix}.fc2"), &[self.d_model, inner])?;
        Ok((self.backend.linear(&[up])?, self.backend.linear(&[down])?))
    }

    /// A layer norm over the width.
    pub(super) fn norm(&self, name: &str) -> Result<B::Norm> {
        let part = |part| self.weights.get(&format!("{name}.{part}"), &[self.d_model]);
        self.backend.norm(part("weight")?, part("bias")?)
    }
}
