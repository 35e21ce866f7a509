//! Layers over rows of plain f32, on several threads.
//!
//! Activations are `(rows, columns)`, row after row. Threads take rows, or heads, each its own; the
//! products are those of [`kernels::matrix`](crate::kernels::matrix).

use crate::error::Result;
use crate::kernels::matrix::{Rows, multiply_transposed};
use crate::models::weights::Weights;

/// `y = x W^T + b`.
#[derive(Debug)]
pub(super) struct Linear {
    inputs: usize,
    /// `(outputs, inputs)`.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    pub(super) fn new(inputs: usize, weight: Vec<f32>, bias: Vec<f32>) -> Self {
        Self { inputs, weight, bias }
    }

    /// The layer `{name}.weight` and, if it is there, `{name}.bias`.
    pub(super) fn load(weights: &dyn Weights, name: &str, sizes: [usize; 2]) -> Result<Self> {
        let [outputs, inputs] = sizes;
        let weight = weights.get(&format!("{name}.weight"), &sizes)?.to_f32()?;
        let bias = format!("{name}.bias");
        let bias = match weights.shape(&bias) {
            Some(_) => weights.get(&bias, &[outputs])?.to_f32()?,
            None => vec![0.0; outputs],
        };
        Ok(Self { inputs, weight, bias })
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Rows of `x` may overlap: row `r` begins at `r * row_step`.
    pub(super) fn run_into(&self, x: &[f32], row_step: usize, out: &mut [f32]) {
        let outputs = self.outputs();
        let rows = out.len() / outputs.max(1);
        let left = Rows::new(x, rows, self.inputs, row_step);
        let right = Rows::new(&self.weight, outputs, self.inputs, self.inputs);
        multiply_transposed(left, right, out, outputs);
        for row in out.chunks_exact_mut(outputs.max(1)) {
            for (value, bias) in row.iter_mut().zip(&self.bias) {
                *value += bias;
            }
        }
    }

    /// `(rows, inputs)` to `(rows, outputs)`.
    pub(super) fn run(&self, x: &[f32], threads: usize) -> Vec<f32> {
        let rows = x.len() / self.inputs.max(1);
        let mut out = vec![0.0; rows * self.outputs()];
        by_rows(&mut out, self.outputs(), threads, |first, out| {
            self.run_into(&x[first * self.inputs..], self.inputs, out);
        });
        out
    }
}

/// A layer norm over the columns of each row.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    pub(super) fn load(
        weights: &dyn Weights,
        name: &str,
        size: usize,
        epsilon: f32,
    ) -> Result<Self> {
        let part = |part| weights.get(&format!("{name}.{part}"), &[size])?.to_f32();
        Ok(Self { weight: part("weight")?, bias: part("bias")?, epsilon })
    }

    pub(super) fn run(&self, x: &mut [f32]) {
        let columns = self.weight.len();
        for row in x.chunks_exact_mut(columns) {
            let mean = row.iter().sum::<f32>() / columns as f32;
            let variance = row.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>();
            let scale = (variance / columns as f32 + self.epsilon).sqrt().recip();
            for ((value, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *value = (*value - mean) * scale * weight + bias;
            }
        }
    }

    /// Scale and shift of a channel whose mean and variance over time are known.
    pub(super) fn channel(&self, channel: usize, mean: f32, variance: f32) -> (f32, f32) {
        let scale = self.weight[channel] / (variance + self.epsilon).sqrt();
        (scale, self.bias[channel] - mean * scale)
    }
}

/// `x/2 (1 + erf(x / sqrt 2))`, erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7).
pub(super) fn gelu(values: &mut [f32]) {
    const COEFFICIENTS: [f32; 5] =
        [1.061_405_4, -1.453_152_1, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    for value in values {
        let z = value.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let polynomial = COEFFICIENTS.iter().fold(0.0, |sum, c| (sum + c) * t);
        let erf = (1.0 - polynomial * (-z * z).exp()).copysign(*value);
        *value *= 0.5 * (1.0 + erf);
    }
}

/// Adds `other` to `x`.
pub(super) fn add(x: &mut [f32], other: &[f32]) {
    for (value, other) in x.iter_mut().zip(other) {
        *value += other;
    }
}

/// Shares the rows of `out` among threads; `work` gets the index of its first row and its rows.
pub(super) fn by_rows(
    out: &mut [f32],
    columns: usize,
    threads: usize,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let rows = out.len() / columns.max(1);
    let share = rows.div_ceil(threads.max(1)).max(1);
    if rows <= share {
        work(0, out);
        return;
    }
    std::thread::scope(|scope| {
        for (index, out) in out.chunks_mut(share * columns).enumerate() {
            let work = &work;
            scope.spawn(move || work(index * share, out));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_that_of_the_error_function() {
        let mut values = [-3.0, -1.0, -0.1, 0.0, 0.5, 1.0, 4.0];
        gelu(&mut values);
        // torch.nn.functional.gelu in f64.
        let expected = [
            -0.004_049_7,
            -0.158_655_26,
            -0.046_017_22,
            0.0,
            0.345_731_23,
            0.841_344_7,
            3.999_873_3,
        ];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{value} {expected}");
        }
    }

    #[test]
    fn threads_change_no_product() {
        let weight: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let linear = Linear::new(5, weight, vec![1.0, 2.0, 3.0]);
        let x: Vec<f32> = (0..35).map(|i| (i % 4) as f32).collect();
        let alone = linear.run(&x, 1);
        for threads in [2, 3, 7, 50] {
            assert_eq!(linear.run(&x, threads), alone);
        }
        assert!(linear.run(&[], 4).is_empty());
    }
}
