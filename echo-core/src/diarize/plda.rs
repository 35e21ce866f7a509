//! PLDA: vectors of voices in a space where speakers can be told by their probability.
//!
//! Probabilistic linear discriminant analysis takes a vector for the sum of what is the speaker's and
//! what is the moment's. In its space the moment's part has unit variance in every direction and the
//! speaker's part the variance [`Plda::phi`], largest first. The way there:
//!
//! 1. less a mean, at length sqrt(256): `xvec_transform.npz`'s `mean1`;
//! 2. times a discriminant matrix, less a mean, at length sqrt(128): its `lda` and `mean2`;
//! 3. less a mean, times a matrix: `plda.npz`'s `mu` and `tr`, with the variances in `psi`.
//!
//! The reference makes covariances of `tr` and `psi`, `W = (trᵀ tr)⁻¹` within and
//! `B = (trᵀ psi⁻¹ tr)⁻¹` between speakers, and solves `B v = λ W v`. Its solutions are the rows of
//! `tr` with `psi` as their values, at the length it asks for (`vᵀ W v = 1`), as one sees by putting
//! them in: `B trᵀ e = tr⁻¹ psi e = psi W trᵀ e`. So the rows are sorted, and no problem is solved; a
//! row's sign, which is arbitrary there, is no matter to what follows. Source: pyannote.audio
//! `utils/vbx.py`; Landini et al. 2022.

use crate::error::Result;
use crate::models::Npz;

/// Dimensions that count, those in which speakers differ most.
const MAX_DIMENSIONS: usize = 128;

/// The way of a vector.
#[derive(Debug)]
pub(crate) struct Plda {
    first_mean: Vec<f64>,
    /// `(inputs, outputs)`
    discriminants: Vec<f64>,
    second_mean: Vec<f64>,
    third_mean: Vec<f64>,
    /// `(dimensions, outputs)`
    rows: Vec<f64>,
    /// The variance of speakers in each dimension, falling.
    pub(crate) phi: Vec<f64>,
}

impl Plda {
    /// The arrays of `xvec_transform.npz` and `plda.npz`.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) naming the array that is missing or does not fit.
    pub(crate) fn load(transform: &Npz, plda: &Npz) -> Result<Self> {
        let lda = transform.get("lda", 2)?;
        let [inputs, outputs] = [lda.shape[0], lda.shape[1]];
        let psi = &plda.shaped("psi", &[outputs])?.values;
        let tr = &plda.shaped("tr", &[outputs, outputs])?.values;
        let found = Self {
            first_mean: transform.shaped("mean1", &[inputs])?.values.clone(),
            discriminants: lda.values.clone(),
            second_mean: transform.shaped("mean2", &[outputs])?.values.clone(),
            third_mean: plda.shaped("mu", &[outputs])?.values.clone(),
            rows: Vec::new(),
            phi: Vec::new(),
        };
        let known = [&found.first_mean, &found.discriminants, &found.second_mean];
        if inputs == 0 || outputs == 0 || known.into_iter().flatten().any(|v| !v.is_finite()) {
            return Err(transform.wrong("has arrays that are empty or no numbers".to_owned()));
        }
        if found.third_mean.iter().chain(tr).any(|value| !value.is_finite()) {
            return Err(plda.wrong("has arrays that are no numbers".to_owned()));
        }
        if !psi.iter().all(|&variance| variance > 0.0 && variance.is_finite()) {
            return Err(plda.wrong("has variances in `psi` that are not above 0".to_owned()));
        }
        let mut order: Vec<usize> = (0..outputs).collect();
        order.sort_by(|&a, &b| psi[b].total_cmp(&psi[a]));
        order.truncate(MAX_DIMENSIONS);
        let rows = order.iter().flat_map(|&row| &tr[row * outputs..][..outputs]).copied().collect();
        Ok(Self { rows, phi: order.iter().map(|&row| psi[row]).collect(), ..found })
    }

    /// Numbers of the vectors that it takes.
    pub(crate) fn inputs(&self) -> usize {
        self.first_mean.len()
    }

    /// The place of a vector.
    pub(crate) fn features(&self, embedding: &[f64]) -> Vec<f64> {
        let outputs = self.second_mean.len();
        let x = at_length(embedding, &self.first_mean);
        let mut y = vec![0.0; outputs];
        for (value, row) in x.iter().zip(self.discriminants.chunks_exact(outputs)) {
            y.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
        }
        let y = at_length(&y, &self.second_mean);
        let z: Vec<f64> = y.iter().zip(&self.third_mean).map(|(y, mean)| y - mean).collect();
        let rows = self.rows.chunks_exact(outputs);
        rows.map(|row| row.iter().zip(&z).map(|(weight, z)| weight * z).sum()).collect()
    }
}

/// `x - mean` at the length at which its values are 1 on average; what has no length keeps none.
fn at_length(x: &[f64], mean: &[f64]) -> Vec<f64> {
    let centered: Vec<f64> = x.iter().zip(mean).map(|(x, mean)| x - mean).collect();
    let length = centered.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if length > 0.0 { (x.len() as f64).sqrt() / length } else { 0.0 };
    centered.iter().map(|x| x * scale).collect()
}
