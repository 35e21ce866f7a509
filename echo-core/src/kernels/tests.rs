//! One test for every backend: [`verbs_agree`] runs each verb on two of them and compares.
//!
//! A backend's own tests call it with the reference, `reference()`, and with its tolerance: the
//! root mean square of the differences over that of the reference's values. Sizes are odd on
//! purpose: one head, three heads, narrow heads, rows that fill no block.

use super::candle::{Candle, Stride};
use super::select::Choice;
use super::*;
use crate::device::{ComputeType, Device};

/// The backend that others are compared with: candle's operations in f32 on the CPU.
pub(crate) fn reference() -> Candle {
    Candle::new(Choice { device: Device::Cpu, compute: ComputeType::F32 }).unwrap()
}

/// Runs every verb on both backends; `theirs` may differ from `ours` by `tolerance` at most.
pub(crate) fn verbs_agree<A: Backend, B: Backend>(ours: &A, theirs: &B, tolerance: f32) {
    let pair = Pair { ours, theirs, tolerance };
    pair.stem();
    for (heads, d_head) in [(1, 64), (3, 64), (2, 32)] {
        let d_model = heads * d_head;
        for rows in [1, 2, 7, 61] {
            pair.norms_and_linears(rows, d_model);
        }
        pair.encoder_attention(heads, d_model);
        pair.cross_attention(heads, d_model);
        pair.past(heads, d_model);
        pair.embedding_and_logits(d_model);
    }
}

/// Numbers between -1 and 1 from a congruential generator.
pub(crate) fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let value = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / 2_147_483_648.0 - 1.0) as f32
    };
    (0..count).map(value).collect()
}

fn tensor(seed: u32, shape: &[usize], scale: f32) -> Tensor<'static> {
    let values: Vec<f32> =
        noise(seed, shape.iter().product()).into_iter().map(|value| value * scale).collect();
    Tensor::from_f32(shape, &values)
}

/// A layer with outputs about as large as its inputs.
fn layer(seed: u32, shape: &[usize], has_bias: bool) -> LinearParts<'static> {
    let inputs: usize = shape[1..].iter().product();
    let weight = tensor(seed, shape, (3.0 / inputs as f32).sqrt());
    (weight, has_bias.then(|| tensor(seed + 1, &shape[..1], 0.5)))
}

/// A buffer of given values, by way of an embedding, which every backend has.
fn buffer<T: Backend>(backend: &T, rows: usize, columns: usize, values: &[f32]) -> T::Buffer {
    let tokens = Tensor::from_f32(&[rows, columns], values);
    let positions = Tensor::from_f32(&[1, columns], &vec![0.0; columns]);
    let embedding = backend.embedding(tokens, positions).unwrap();
    let tokens: Vec<u32> = (0..rows as u32).collect();
    backend.embed(&embedding, &tokens, &vec![0; rows]).unwrap()
}

fn norm<T: Backend>(backend: &T, d_model: usize) -> T::Norm {
    let weight: Vec<f32> = noise(90, d_model).iter().map(|value| 1.0 + 0.3 * value).collect();
    let weight = Tensor::from_f32(&[d_model], &weight);
    backend.norm(weight, tensor(91, &[d_model], 0.2)).unwrap()
}

struct Pair<'a, A: Backend, B: Backend> {
    ours: &'a A,
    theirs: &'a B,
    tolerance: f32,
}

impl<A: Backend, B: Backend> Pair<'_, A, B> {
    fn compare(&self, what: &str, ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len(), "{what}: count");
        let square = |value: f32| f64::from(value) * f64::from(value);
        let size: f64 = ours.iter().map(|&a| square(a)).sum();
        let error: f64 = ours.iter().zip(theirs).map(|(&a, &b)| square(a - b)).sum();
        let relative = (error / size).sqrt();
        assert!(
            relative <= f64::from(self.tolerance),
            "{what}: differs by {relative:e} of its size"
        );
    }

    fn stem(&self) {
        fn run<T: Backend>(backend: &T, mels: &[&[f32]]) -> Vec<f32> {
            let (conv1, conv2) = (layer(1, &[64, 80, 3], true), layer(3, &[64, 64, 3], true));
            let stem = backend.stem(conv1, conv2, tensor(5, &[FRAMES, 64], 1.0)).unwrap();
            backend.to_host(&backend.run_stem(&stem, mels).unwrap()).unwrap()
        }
        let mels = [noise(6, 80 * 2 * FRAMES), noise(7, 80 * 2 * FRAMES)];
        let mels = mels.each_ref().map(Vec::as_slice);
        let ours = run(self.ours, &mels);
        assert_eq!(ours.len(), 2 * FRAMES * 64);
        self.compare("stem", &ours, &run(self.theirs, &mels));
        self.compare(
            "stem, second window alone",
            &ours[FRAMES * 64..],
            &run(self.theirs, &mels[1..]),
        );
    }

    fn norms_and_linears(&self, rows: usize, d_model: usize) {
        /// A norm, three stacked layers of which one lacks a bias, a residual, a perceptron.
        fn run<T: Backend>(backend: &T, rows: usize, d: usize) -> [Vec<f32>; 4] {
            // A mean away from zero, as activations have.
            let values: Vec<f32> = noise(10, rows * d).iter().map(|value| value + 2.0).collect();
            let mut x = buffer(backend, rows, d, &values);
            let norm = norm(backend, d);
            let stacked =
                [layer(11, &[d, d], true), layer(13, &[d, d], false), layer(15, &[d + 8, d], true)];
            let stacked = backend.linear(&stacked).unwrap();
            let normed = backend.run_norm(&x, &norm).unwrap();
            let normed = backend.to_host(&normed).unwrap();
            let projected = backend.norm_linear(&x, &norm, &stacked).unwrap();
            let projected = backend.to_host(&projected).unwrap();
            let other = buffer(backend, rows, d, &noise(17, rows * d));
            let square = backend.linear(&[layer(18, &[d, d], true)]).unwrap();
            backend.linear_add(&other, &square, &mut x).unwrap();
            let added = backend.to_host(&x).unwrap();
            let up = backend.linear(&[layer(20, &[4 * d, d], true)]).unwrap();
            let down = backend.linear(&[layer(22, &[d, 4 * d], true)]).unwrap();
            backend.mlp(&mut x, &norm, &up, &down).unwrap();
            [normed, projected, added, backend.to_host(&x).unwrap()]
        }
        let (ours, theirs) = (run(self.ours, rows, d_model), run(self.theirs, rows, d_model));
        for (what, (ours, theirs)) in
            ["norm", "norm_linear", "linear_add", "mlp"].iter().zip(ours.iter().zip(&theirs))
        {
            self.compare(&format!("{what}, {rows} rows of {d_model}"), ours, theirs);
        }
    }

    fn encoder_attention(&self, heads: usize, d_model: usize) {
        const BATCH: usize = 2;
        fn run<T: Backend>(backend: &T, heads: usize, d: usize) -> Vec<f32> {
            let x = buffer(backend, BATCH * FRAMES, d, &noise(30, BATCH * FRAMES * d));
            let qkv =
                [layer(31, &[d, d], true), layer(33, &[d, d], false), layer(35, &[d, d], true)];
            let qkv = backend.linear(&qkv).unwrap();
            let attended = backend.norm_attend(&x, &norm(backend, d), &qkv, BATCH, heads).unwrap();
            backend.to_host(&attended).unwrap()
        }
        let what = format!("norm_attend, {heads} heads of {}", d_model / heads);
        self.compare(&what, &run(self.ours, heads, d_model), &run(self.theirs, heads, d_model));
    }

    fn cross_attention(&self, heads: usize, d_model: usize) {
        /// Which tokens belong to which window: several, none, one after the other, crossed over.
        const STEPS: [&[(usize, usize)]; 5] = [
            &[(0, 1)],
            &[(0, 1), (1, 1), (2, 1)],
            &[(1, 2), (1, 3)],
            &[(2, 1), (0, 4), (2, 2), (1, 0)],
            &[(0, 5), (1, 5), (2, 5)],
        ];
        fn run<T: Backend>(backend: &T, heads: usize, d: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
            let windows = buffer(backend, 3 * FRAMES, d, &noise(40, 3 * FRAMES * d));
            let kv = [layer(41, &[d, d], false), layer(43, &[d, d], true)];
            let kv = backend.linear(&kv).unwrap();
            let cross = backend.cross(&windows, &kv, 3, heads).unwrap();
            let step = |rows: &[(usize, usize)]| {
                let rows = rows_of(rows.iter().map(|&(window, count)| (window, count, 0)));
                let tokens = rows.last().unwrap().tokens.end;
                let values: Vec<f32> = noise(45, tokens * d).iter().map(|v| 5.0 * v).collect();
                let q = buffer(backend, tokens, d, &values);
                let mut collected =
                    CollectedAttention { heads: vec![heads - 1, 0], weights: Vec::new() };
                let attended =
                    backend.attend_cross(&q, &cross, &rows, Some(&mut collected)).unwrap();
                let plain = backend.attend_cross(&q, &cross, &rows, None).unwrap();
                let attended = backend.to_host(&attended).unwrap();
                assert_eq!(
                    attended,
                    backend.to_host(&plain).unwrap(),
                    "collecting changes nothing"
                );
                assert_eq!(collected.weights.len(), 2 * tokens * FRAMES);
                (attended, collected.weights)
            };
            STEPS.iter().map(|rows| step(rows)).collect()
        }
        let (ours, theirs) = (run(self.ours, heads, d_model), run(self.theirs, heads, d_model));
        for ((ours, theirs), rows) in ours.iter().zip(&theirs).zip(STEPS) {
            let what = format!("attend_cross, {heads} heads of {}, {rows:?}", d_model / heads);
            self.compare(&what, &ours.0, &theirs.0);
            self.compare(&format!("{what}, weights"), &ours.1, &theirs.1);
        }
    }

    fn past(&self, heads: usize, d_model: usize) {
        /// Prompts, then single tokens, with hypotheses that split, die and change places between.
        fn run<T: Backend>(backend: &T, heads: usize, d: usize) -> Vec<Vec<f32>> {
            const LAYERS: usize = 2;
            const CAPACITY: usize = 150;
            let mut past = backend.past(LAYERS, heads, d, 3, CAPACITY).unwrap();
            let mut lengths = vec![0; 3];
            let mut results = Vec::new();
            let mut seed = 50;
            let mut step = |past: &mut T::Past, lengths: &mut [usize], counts: &[usize]| {
                let rows = lengths.iter().zip(counts).map(|(&length, &count)| (0, count, length));
                let rows = rows_of(rows);
                let tokens = rows.last().unwrap().tokens.end;
                for layer in 0..LAYERS {
                    seed += 1;
                    let values: Vec<f32> =
                        noise(seed, tokens * 3 * d).iter().map(|value| 3.0 * value).collect();
                    let qkv = buffer(backend, tokens, 3 * d, &values);
                    let attended = backend.attend_past(&qkv, past, layer, &rows).unwrap();
                    results.push(backend.to_host(&attended).unwrap());
                }
                for (length, count) in lengths.iter_mut().zip(counts) {
                    *length += count;
                }
            };
            step(&mut past, &mut lengths, &[3, 1, 5]);
            step(&mut past, &mut lengths, &[1, 1, 1]);
            for parents in [&[2, 0, 0, 1][..], &[1, 2], &[1, 0], &[0, 0, 1]] {
                backend.select(&mut past, parents).unwrap();
                lengths = parents.iter().map(|&parent| lengths[parent]).collect();
                step(&mut past, &mut lengths, &vec![1; parents.len()]);
            }
            step(&mut past, &mut lengths, &[0, 2, 0]);
            // Beyond any first allocation, then up to the last place.
            step(&mut past, &mut lengths, &[70, 70, 70]);
            let rest: Vec<usize> = lengths.iter().map(|length| CAPACITY - length).collect();
            step(&mut past, &mut lengths, &rest);
            // Equal lengths: the common case of one step for all.
            let mut past = backend.past(LAYERS, heads, d, 3, CAPACITY).unwrap();
            let mut lengths = vec![0; 3];
            step(&mut past, &mut lengths, &[4, 4, 4]);
            for _ in 0..3 {
                step(&mut past, &mut lengths, &[1, 1, 1]);
                backend.select(&mut past, &[0, 0, 2]).unwrap();
            }
            results
        }
        let (ours, theirs) = (run(self.ours, heads, d_model), run(self.theirs, heads, d_model));
        for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let what = format!("attend_past, {heads} heads of {}, step {step}", d_model / heads);
            self.compare(&what, ours, theirs);
        }
    }

    fn embedding_and_logits(&self, d_model: usize) {
        fn run<T: Backend>(backend: &T, d: usize) -> [Vec<f32>; 3] {
            const VOCAB: usize = 1003;
            let tokens = tensor(60, &[VOCAB, d], 1.0);
            let embedding = backend.embedding(tokens, tensor(61, &[20, d], 1.0)).unwrap();
            let x = backend.embed(&embedding, &[1002, 0, 7, 7, 500], &[0, 19, 3, 4, 5]).unwrap();
            let logits = |positions: &[usize]| {
                let logits = backend.logits(&x, positions, &norm(backend, d), &embedding).unwrap();
                assert_eq!(logits.len(), positions.len() * VOCAB);
                logits
            };
            [logits(&[1, 2, 3]), logits(&[4, 0]), backend.to_host(&x).unwrap()]
        }
        let (ours, theirs) = (run(self.ours, d_model), run(self.theirs, d_model));
        for (what, (ours, theirs)) in
            ["logits", "logits out of order", "embed"].iter().zip(ours.iter().zip(&theirs))
        {
            self.compare(&format!("{what}, width {d_model}"), ours, theirs);
        }
    }
}

/// Hypotheses of (window, new tokens, earlier tokens), one after the other.
fn rows_of(hypotheses: impl Iterator<Item = (usize, usize, usize)>) -> Vec<Row> {
    let mut start = 0;
    let row = |(window, count, past)| {
        let tokens = start..start + count;
        start += count;
        Row { window, tokens, past }
    };
    hypotheses.map(row).collect()
}

#[test]
fn candle_in_batches_agrees_with_candle_by_windows() {
    verbs_agree(&reference(), &reference().with_stride(Stride::Batch), 1e-6);
}

#[test]
fn candle_in_half_floats_agrees_with_f32() {
    let half = Candle::new(Choice { device: Device::Cpu, compute: ComputeType::F16 }).unwrap();
    // On the CPU, candle's product of one row sums in f16, over 1,500 frames too.
    verbs_agree(&reference(), &half, 3e-2);
}

#[test]
fn candle_on_a_gpu_agrees_with_the_cpu() {
    let gpus = select::gpus();
    if gpus.is_empty() {
        println!("skipped: no GPU is compiled in and present");
    }
    for device in gpus {
        for (compute, tolerance) in
            [(ComputeType::F32, 1e-3), (ComputeType::F16, 5e-3), (ComputeType::Bf16, 3e-2)]
        {
            verbs_agree(&reference(), &Candle::new(Choice { device, compute }).unwrap(), tolerance);
        }
    }
}
