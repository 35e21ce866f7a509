//! The kernels on every GPU that is there, compared with candle's operations in f32.

use super::{Backend, Cuda};
use crate::device::ComputeType;
use crate::kernels::rank::Restriction;
use crate::kernels::select::{self, Choice};
use crate::kernels::tests::{reference, verbs_agree};
use crate::models::weights::Tensor;

/// The backends that these kernels run on, each with its tolerance: an f16 has 11 bits of
/// precision, a bf16 8, and a verb rounds a few times.
fn present() -> Vec<(Cuda, f32)> {
    let formats = [(ComputeType::F16, 3e-3), (ComputeType::Bf16, 2e-2)];
    let choices = select::gpus().into_iter().flat_map(|device| {
        formats.map(|(compute, tolerance)| (Choice { device, compute }, tolerance))
    });
    let open = |(choice, tolerance)| Some((Cuda::new(choice).unwrap()?, tolerance));
    let backends: Vec<_> = choices.filter_map(open).collect();
    if backends.is_empty() {
        println!("skipped: no CUDA device is compiled in and present");
    }
    backends
}

#[test]
fn every_verb_agrees_with_the_reference() {
    for (cuda, tolerance) in present() {
        verbs_agree(&reference(), &cuda, tolerance);
    }
}

#[test]
fn returned_blocks_are_taken_again() {
    for (cuda, _) in present() {
        let first = cuda.memory.take(5000).unwrap();
        let address = first.address();
        drop(first);
        assert_eq!(cuda.memory.take(5100).unwrap().address(), address);
    }
}

/// Logits equal to a row of the table, by way of a token table that is its transpose times one
/// position; the norm's scale makes up for the norm.
fn ranked_table(cuda: &Cuda, table: &[Vec<f32>], restrictions: &[Restriction], count: usize) {
    const D_MODEL: usize = 64;
    let vocab = table[0].len();
    // x is the unit vector of its row, moved to mean zero by the norm; differences between logits
    // remain: logits(row) = c * (weight[row] - mean of weights), and weights sum to zero.
    let mut weights = vec![0.0; vocab * D_MODEL];
    for token in 0..vocab {
        for (row, logits) in table.iter().enumerate() {
            weights[token * D_MODEL + 2 * row] = logits[token];
            weights[token * D_MODEL + 2 * row + 1] = -logits[token];
        }
    }
    let embedding = cuda
        .embedding(
            Tensor::from_f32(&[vocab, D_MODEL], &weights),
            Tensor::from_f32(&[1, D_MODEL], &[0.0; D_MODEL]),
        )
        .unwrap();
    let mut rows = vec![0.0; table.len() * D_MODEL];
    for row in 0..table.len() {
        rows[row * D_MODEL + 2 * row] = 1.0;
        rows[row * D_MODEL + 2 * row + 1] = -1.0;
    }
    let units = cuda
        .embedding(
            Tensor::from_f32(&[table.len(), D_MODEL], &rows),
            Tensor::from_f32(&[1, D_MODEL], &[0.0; D_MODEL]),
        )
        .unwrap();
    let tokens: Vec<u32> = (0..table.len() as u32).collect();
    let x = cuda.embed(&units, &tokens, &vec![0; table.len()]).unwrap();
    let norm = cuda
        .norm(
            Tensor::from_f32(&[D_MODEL], &[0.25; D_MODEL]),
            Tensor::from_f32(&[D_MODEL], &[0.0; D_MODEL]),
        )
        .unwrap();
    let positions: Vec<usize> = (0..table.len()).collect();
    let mut logits = cuda.logits(&x, &positions, &norm, &embedding).unwrap();
    let ranked = cuda.rank(&x, &positions, (&norm, &embedding), restrictions, count).unwrap();
    assert_eq!(ranked.len(), table.len());
    for ((logits, restriction), ranked) in logits.chunks_mut(vocab).zip(restrictions).zip(ranked) {
        let expected = allowed(logits, restriction);
        let sum: f64 = expected.iter().map(|&(_, logit)| f64::from(logit).exp()).sum();
        let difference = f64::from(ranked.log_sum_exp) - sum.ln();
        assert!(
            expected.is_empty() || difference.abs() < 1e-4,
            "{} {}",
            ranked.log_sum_exp,
            sum.ln()
        );
        assert_eq!(ranked.likeliest, expected[..count.min(expected.len())], "{restriction:?}");
    }
}

/// What may be said, likeliest first.
fn allowed(logits: &[f32], restriction: &Restriction) -> Vec<(u32, f32)> {
    let is_out = |token: u32| restriction.forbidden.iter().any(|range| range.contains(&token));
    let tokens = (0..logits.len() as u32).zip(logits.iter().copied());
    let mut allowed: Vec<(u32, f32)> = tokens.filter(|&(token, _)| !is_out(token)).collect();
    if let Some(group) = &restriction.group {
        let (own, others): (Vec<_>, Vec<_>) =
            allowed.iter().copied().partition(|(token, _)| group.contains(token));
        let sum: f64 = own.iter().map(|&(_, logit)| f64::from(logit).exp()).sum();
        let highest = others.iter().map(|&(_, logit)| f64::from(logit)).fold(f64::MIN, f64::max);
        if sum.ln() > highest {
            allowed = own;
        }
    }
    allowed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    allowed
}

#[test]
fn the_likeliest_tokens_are_those_of_a_full_sort() {
    for (cuda, _) in present() {
        for vocab in [1, 33, 1003, 51_866] {
            let row = |seed: u32, scale: f32| -> Vec<f32> {
                let values = crate::kernels::tests::noise(seed, vocab);
                values.into_iter().map(|value| value * scale).collect()
            };
            let table = [row(1, 4.0), row(2, 1.0), row(3, 0.1), row(4, 4.0), row(5, 0.1)];
            let end = vocab as u32;
            // Text and times; a group that wins by its number, and one that is forbidden in part.
            let third = end / 3;
            let restrictions = [
                Restriction::default(),
                Restriction { forbidden: vec![0..1, 5..400, 7..9, 2000..60_000], group: None },
                Restriction { forbidden: vec![third..third + 7, 0..0], group: Some(third..end) },
                Restriction { forbidden: vec![0..third, 0..0], group: Some(2 * third..end) },
                Restriction { forbidden: vec![0..end, 0..0], group: Some(third..end) },
            ];
            for count in [1, 10] {
                ranked_table(&cuda, &table, &restrictions, count);
            }
        }
    }
}
