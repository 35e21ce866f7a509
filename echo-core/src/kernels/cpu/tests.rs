//! Every kernel of every instruction set this machine has, against plain loops in f64.

use super::aligned::Aligned;
use super::attention::{AttendBlock, AttendPast, HeadShape, MOST_QUERIES, PackedHeads, pack_rows};
use super::buffer::{Buffer, Target, View};
use super::cache::Past;
use super::gemm::{Gemm, MAX_WIDTH, Operand};
use super::isa::Norm;
use super::layout::{Format, Packed};
use super::product::Product;
use super::*;
use crate::kernels::tests::{reference, verbs_agree};
use crate::kernels::{Backend, CollectedAttention, FRAMES, Row};
use crate::models::weights::Tensor;

/// Pseudo-random values in [-1, 1), the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Root of the mean squared difference over the root of the mean square.
fn relative_rms(found: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let pairs = || found.iter().map(|&f| f64::from(f)).zip(wanted);
    let difference = pairs().map(|(f, w)| (f - w).powi(2)).sum::<f64>();
    let size = wanted.iter().map(|w| w * w).sum::<f64>();
    if difference == 0.0 { 0.0 } else { (difference / size).sqrt() }
}

/// f32 sums of a few thousand products, or approximations to 1e-7, stay below this.
const F32_TOLERANCE: f64 = 1e-5;

#[track_caller]
fn assert_close(found: &[f32], wanted: &[f64], what: &str) {
    let error = relative_rms(found, wanted);
    assert!(error < F32_TOLERANCE, "{what}: relative error {error:e}");
}

fn backends() -> Vec<Cpu> {
    let all = Kernels::available();
    let cpu = |kernels, threads| Cpu::with_kernels(kernels, ComputeType::F32, threads).unwrap();
    all.into_iter().flat_map(|kernels| [1, 3].map(|threads| cpu(kernels, threads))).collect()
}

/// erf by its series, whose terms stay small enough in f64 for arguments below 5.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(x: f64) -> f64 {
    x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// `input * weights^T + bias`, weights `(outputs, inputs)`.
fn linear(input: &[f32], weights: &[f32], bias: &[f32], inputs: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    let rows = input.chunks_exact(inputs);
    rows.flat_map(|row| {
        let outputs = weights.chunks_exact(inputs).zip(bias);
        outputs.map(|(weights, &bias)| dot(row, weights) + f64::from(bias)).collect::<Vec<_>>()
    })
    .collect()
}

fn halved(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| half::f16::from_f32(value).to_f32()).collect()
}

fn packed(cpu: &Cpu, format: Format, weights: &[f32], bias: &[f32], inputs: usize) -> Packed {
    let row = |output: usize, values: &mut [f32]| {
        values.copy_from_slice(&weights[output * inputs..(output + 1) * inputs]);
    };
    let sizes = [bias.len(), inputs];
    Packed::new(&cpu.pool, cpu.kernels.layout(format), sizes, bias, &row)
}

#[test]
fn the_cpu_agrees_with_candle() {
    for cpu in backends() {
        verbs_agree(&reference(), &cpu, F32_TOLERANCE as f32);
    }
}

/// What each operation may differ by, of the size of its result.
#[test]
fn narrow_formats_agree_with_candle_within_their_precision() {
    for kernels in Kernels::available() {
        // Five of the steps that weights have.
        let steps = kernels.int8.map_or(1.0, |int8| 5.0 / int8.most_code as f32);
        for (compute, tolerance) in [(ComputeType::Bf16, 1e-2), (ComputeType::Int8, steps)] {
            match Cpu::with_kernels(kernels, compute, 2) {
                Ok(cpu) => verbs_agree(&reference(), &cpu, tolerance),
                Err(error) => println!("skipped: {} has no {compute}: {error}", kernels.name),
            }
        }
    }
}

#[test]
fn products_are_right_for_every_size_and_format() {
    // (rows, inputs, outputs): tails of tiles, of panels and of pieces, and one of each.
    let sizes = [(1, 1, 1), (2, 7, 3), (5, 64, 64), (6, 33, 65), (7, 1500, 17), (61, 96, 130)];
    let more = [(3, 2049, 5), (13, 1024, 64), (4, 31, 200)];
    for cpu in backends() {
        for (rows, inputs, outputs) in sizes.into_iter().chain(more) {
            let formats = [Format::F32, Format::F16].into_iter();
            for format in formats.filter(|&format| cpu.kernels.has(format)) {
                let weights = halved(&noise(outputs * inputs, 2));
                let (input, bias) = (noise(rows * inputs, 1), noise(outputs, 3));
                let weights_packed = packed(&cpu, format, &weights, &bias, inputs);
                let plain = linear(&input, &weights, &bias, inputs);
                let what = format!("{} {format:?} {rows}x{inputs}x{outputs}", cpu.kernels.name);
                // A margin on all sides shows what is written beyond the result.
                let stride = outputs + 2;
                for (has_gelu, adds) in [(false, false), (true, false), (true, true)] {
                    let mut output = vec![7.0; (rows + 1) * stride];
                    let target = Target::new(&mut output, stride);
                    let job = Gemm {
                        rows,
                        input: Operand::floats(View::new(&input, inputs)),
                        weights: &weights_packed,
                        panels: 0..weights_packed.panels(),
                        output: target,
                        has_gelu,
                        add: adds.then(|| target.as_view()),
                    };
                    // SAFETY: the buffers were made for these sizes and the machine has the kernels.
                    unsafe { (cpu.kernels.of(format).gemm)(&job) };
                    let wanted = plain.iter().map(|&value| {
                        let value = if has_gelu { gelu(value) } else { value };
                        if adds { value + 7.0 } else { value }
                    });
                    let wanted = wanted.collect::<Vec<_>>();
                    let (lines, margin) = output.split_at(rows * stride);
                    let found = lines.chunks_exact(stride).flat_map(|line| &line[..outputs]);
                    assert_close(&found.copied().collect::<Vec<_>>(), &wanted, &what);
                    let between = lines.chunks_exact(stride).flat_map(|line| &line[outputs..]);
                    assert!(between.chain(margin).all(|&v| v == 7.0), "{what} writes beyond");
                }
            }
        }
    }
}

/// Products in pairs of 16 bits would overflow first where all values are as large as they can be.
#[test]
fn sums_of_int8_are_whole_for_the_largest_values() {
    for kernels in Kernels::available().into_iter().filter(|kernels| kernels.int8.is_some()) {
        let cpu = Cpu::with_kernels(kernels, ComputeType::Int8, 1).unwrap();
        for (rows, inputs, outputs) in [(1, 2048, 3), (7, 515, 65)] {
            for (value, weight) in [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)] {
                let weights = vec![weight; outputs * inputs];
                let packed = packed(&cpu, Format::Int8, &weights, &vec![0.0; outputs], inputs);
                let (input, mut out) = (vec![value; rows * inputs], vec![0.0; rows * outputs]);
                let target = Target::new(&mut out, outputs);
                let product = Product::new(rows, View::new(&input, inputs), &packed, target);
                // SAFETY: both buffers were made for these rows.
                unsafe { cpu.multiply(&product) };
                let wanted = vec![f64::from(value * weight) * inputs as f64; out.len()];
                assert_close(&out, &wanted, kernels.name);
            }
        }
    }
}

/// The unit multiplies whole blocks, panels and lanes, vectors what is left over: every mixture of them.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_matrix_unit_gives_what_vectors_give() {
    let (Some(unit), Some(vectors)) = (super::amx::kernels(), super::avx512::kernels()) else {
        return println!("skipped: no AMX");
    };
    // int8 sums are exact; bf16 sums are floats, added up in another order.
    for (compute, format, tolerance) in
        [(ComputeType::Int8, Format::Int8, 0.0), (ComputeType::Bf16, Format::Bf16, F32_TOLERANCE)]
    {
        let [unit, vectors] =
            [unit, vectors].map(|kernels| Cpu::with_kernels(kernels, compute, 2).unwrap());
        for rows in [1, 6, 16, 17, 31, 33, 64, 65, 200, 700] {
            for (inputs, outputs) in [(1, 1), (63, 64), (64, 130), (100, 65), (512, 200)] {
                let (input, weights) = (noise(rows * inputs, 1), noise(outputs * inputs, 2));
                let bias = noise(outputs, 3);
                let [found, wanted] = [&unit, &vectors].map(|cpu| {
                    let packed = packed(cpu, format, &weights, &bias, inputs);
                    let mut out =
                        input.iter().cycle().take(rows * outputs).copied().collect::<Vec<_>>();
                    let target = Target::new(&mut out, outputs);
                    let product = Product {
                        has_gelu: true,
                        add: Some(target.as_view()),
                        ..Product::new(rows, View::new(&input, inputs), &packed, target)
                    };
                    // SAFETY: both buffers were made for these rows.
                    unsafe { cpu.multiply(&product) };
                    out
                });
                let wanted = wanted.into_iter().map(f64::from).collect::<Vec<_>>();
                let error = relative_rms(&found, &wanted);
                assert!(error <= tolerance, "{compute} {rows} x {inputs} x {outputs}: {error:e}");
            }
        }
    }
}

#[test]
fn gelu_and_softmax_hold_over_the_whole_range() {
    for cpu in backends() {
        // A layer of one input and weight one is GELU alone.
        let input = (-1200..=1200).map(|i| i as f32 / 100.0).collect::<Vec<_>>();
        let weights = packed(&cpu, Format::F32, &[1.0], &[0.0], 1);
        let mut output = vec![0.0; input.len()];
        let view = View::new(&input, 1);
        let product = Product {
            has_gelu: true,
            ..Product::new(input.len(), view, &weights, Target::new(&mut output, 1))
        };
        // SAFETY: the buffers were made for these sizes.
        unsafe { cpu.multiply(&product) };
        for (&x, &y) in input.iter().zip(&output) {
            let error = (f64::from(y) - gelu(f64::from(x))).abs();
            assert!(
                error <= 4e-7 * f64::from(x.abs()).max(1.0),
                "{} gelu({x}) = {y}",
                cpu.kernels.name
            );
        }
    }
}

#[test]
fn layer_norm_is_right_for_every_width_and_far_from_zero() {
    for cpu in backends() {
        for len in [1, 3, 8, 16, 31, 64, 100, 512] {
            for offset in [0.0, 100.0] {
                let x = noise(2 * len, 4).iter().map(|x| x + offset).collect::<Vec<_>>();
                let (weight, bias) = (noise(len, 5), noise(len, 6));
                let wanted = x.chunks_exact(len).flat_map(|row| {
                    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
                    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
                    let deviation = (variance / len as f64 + 1e-5).sqrt();
                    let normed = row.iter().map(move |&x| (f64::from(x) - mean) / deviation);
                    let scaled = normed.zip(&weight).map(|(x, &w)| x * f64::from(w));
                    scaled.zip(&bias).map(|(x, &b)| x + f64::from(b)).collect::<Vec<_>>()
                });
                let wanted = wanted.collect::<Vec<_>>();
                let norm =
                    Norm { weight: Aligned::padded(&weight, 1), bias: Aligned::padded(&bias, 1) };
                let mut out = vec![0.0; 2 * len];
                // SAFETY: the buffers were made for two rows of `len`.
                unsafe {
                    let (x, out) = (View::new(&x, len), Target::new(&mut out, len));
                    (cpu.kernels.norm)(x, 2, &norm, out);
                }
                // An offset of 100 costs two digits of the input itself.
                let error = relative_rms(&out, &wanted);
                assert!(error < 1e-5 * (1.0 + f64::from(offset)), "{len} + {offset}: {error:e}");
            }
        }
    }
}

/// Attention of one query, in f64; also the probabilities.
fn attention(query: &[f32], keys: &[&[f32]], values: &[&[f32]]) -> (Vec<f64>, Vec<f64>) {
    let scale = (query.len() as f64).powf(-0.5);
    let dot = |key: &&[f32]| {
        scale * query.iter().zip(*key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>()
    };
    let scores = keys.iter().map(dot).collect::<Vec<_>>();
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights = scores.iter().map(|score| (score - largest).exp()).collect::<Vec<_>>();
    let sum = weights.iter().sum::<f64>();
    let shares = weights.iter().map(|weight| weight / sum).collect::<Vec<_>>();
    let column = |c: usize| shares.iter().zip(values).map(|(s, v)| s * f64::from(v[c])).sum();
    ((0..query.len()).map(column).collect(), shares)
}

/// Rows of keys and values, packed a few at a time.
fn heads_of(cpu: &Cpu, format: Format, kv: &[f32], d_model: usize, heads: usize) -> PackedHeads {
    let (frames, d_head) = (kv.len() / (2 * d_model), d_model / heads);
    let shape = HeadShape { frames, d_head, width: cpu.kernels.width, format };
    let mut data = cpu.arena.lend(heads * shape.head_words());
    data.fill(f32::NAN);
    let mut packed = PackedHeads::new(data, shape);
    let target = Target::new(&mut packed.data, shape.head_words());
    for first in (0..frames).step_by(7) {
        for head in 0..heads {
            let keys = View::new(kv, 2 * d_model).at(first, head * d_head);
            let to = (target.at(head, 0), target.at(head, shape.key_words()));
            // SAFETY: `kv` has the rows, and `packed` was made for all of them.
            unsafe {
                let rows = first..frames.min(first + 7);
                pack_rows(rows, (keys, keys.at(0, d_model)), shape, to);
            }
        }
    }
    packed
}

#[test]
fn a_block_of_queries_attends_to_any_number_of_frames() {
    let formats = |cpu: Cpu| {
        let formats = [Format::F32, Format::F16].into_iter();
        let formats = formats.filter(|&format| cpu.kernels.has(format)).collect::<Vec<_>>();
        (cpu, formats)
    };
    for (cpu, formats) in backends().into_iter().map(formats) {
        let sizes =
            [(1, 1, 16, 1), (12, 70, 64, 2), (5, 64, 32, 3), (7, 1500, 64, 1), (3, 9, 80, 2)];
        let cases =
            sizes.into_iter().flat_map(|size| formats.iter().map(move |&format| (size, format)));
        for ((queries, frames, d_head, heads), format) in cases {
            let d_model = heads * d_head;
            // Large enough for softmax to be far from even, and the same as halves.
            let kv = noise(frames * 2 * d_model, 8).iter().map(|v| v * 3.0).collect::<Vec<_>>();
            let kv = halved(&kv);
            let q = noise(queries * d_model, 9);
            let all = heads_of(&cpu, format, &kv, d_model, heads);
            let (mut out, mut shares) = (vec![0.0; q.len()], vec![0.0; queries * frames]);
            let mut scratch = cpu.arena.lend(all.shape.scratch_words());
            let rows = (0..queries).collect::<Vec<_>>();
            for head in 0..heads {
                let block = AttendBlock {
                    queries: View::new(&q, d_model).at(0, head * d_head),
                    rows: &rows,
                    scale: (d_head as f32).powf(-0.5),
                    head: all.head(head),
                    output: Target::new(&mut out, d_model).at(0, head * d_head),
                    scratch: scratch.as_mut_ptr(),
                    probabilities: Some(Target::new(&mut shares, frames)),
                };
                assert!(rows.len() <= MOST_QUERIES);
                // SAFETY: the buffers were made for these sizes and the machine has the kernels.
                unsafe { (cpu.kernels.of(format).attend)(&block) };
                let column = head * d_head;
                let part = |row: usize, column: usize| &kv[row * 2 * d_model + column..][..d_head];
                let keys = (0..frames).map(|frame| part(frame, column)).collect::<Vec<_>>();
                let values =
                    (0..frames).map(|frame| part(frame, d_model + column)).collect::<Vec<_>>();
                for query in 0..queries {
                    let at = query * d_model + column;
                    let (wanted, wanted_shares) = attention(&q[at..at + d_head], &keys, &values);
                    let what =
                        format!("{} {format:?} {frames} frames of {d_head}", cpu.kernels.name);
                    assert_close(&out[at..at + d_head], &wanted, &what);
                    let found = &shares[query * frames..(query + 1) * frames];
                    assert_close(found, &wanted_shares, &what);
                }
            }
        }
    }
}

/// Half a step of 127 in keys, values and queries alike, and less in shares.
const CODE_TOLERANCE: f64 = 2e-2;

#[test]
fn keys_and_values_in_codes_cost_a_hundredth() {
    let sizes =
        [(1, 1, 16, 1), (12, 70, 64, 2), (30, 97, 80, 1), (5, 1500, 64, 3), (2, 64, 132, 1)];
    for kernels in Kernels::available().into_iter().filter(|kernels| kernels.codes.is_some()) {
        let cpu = Cpu::with_kernels(kernels, ComputeType::Int8, 2).unwrap();
        assert!(cpu.precision.attention.has_steps());
        for (queries, frames, d_head, heads) in sizes {
            let d_model = heads * d_head;
            // Keys are frames as they are, values the same backwards.
            let mut weights = vec![0.0; 2 * d_model * d_model];
            for c in 0..d_model {
                weights[c * d_model + c] = 1.0;
                weights[(2 * d_model - 1 - c) * d_model + c] = 1.0;
            }
            let kv = packed(&cpu, Format::F32, &weights, &vec![0.0; 2 * d_model], d_model);
            // Frames of all sizes, and one of nothing.
            let mut sound = noise(frames * d_model, 14);
            for (frame, row) in sound.chunks_exact_mut(d_model).enumerate() {
                row.iter_mut().for_each(|value| *value *= (frame % 3) as f32);
            }
            let q = noise(queries * d_model, 15);
            let cross = cpu.pack_cross(&buffer(&cpu, frames, d_model, &sound), &kv, 1, heads);
            assert!(cross.windows[0].shape.format.has_steps());
            let rows = [Row { window: 0, tokens: 0..queries, past: 0 }];
            let mut collected = CollectedAttention { heads: vec![0], ..Default::default() };
            let found = cpu
                .attend_to_cross(
                    &buffer(&cpu, queries, d_model, &q),
                    &cross,
                    &rows,
                    Some(&mut collected),
                )
                .unwrap();
            let backwards = sound.chunks_exact(d_model).flat_map(|row| row.iter().rev().copied());
            let backwards = backwards.collect::<Vec<_>>();
            for head in 0..heads {
                let part =
                    |row: usize| row * d_model + head * d_head..row * d_model + (head + 1) * d_head;
                let keys = (0..frames).map(|frame| &sound[part(frame)]).collect::<Vec<_>>();
                let values = (0..frames).map(|frame| &backwards[part(frame)]).collect::<Vec<_>>();
                let all = (0..queries).map(|query| attention(&q[part(query)], &keys, &values));
                let (wanted, shares): (Vec<_>, Vec<_>) = all.unzip();
                let found = (0..queries).flat_map(|query| found.data[part(query)].to_vec());
                let error = relative_rms(&found.collect::<Vec<_>>(), &wanted.concat());
                let what = format!("{} {queries} x {frames} of {d_head}", cpu.kernels.name);
                assert!(error < CODE_TOLERANCE, "{what}: {error:e}");
                if head == 0 {
                    let found = collected.weights.chunks_exact(FRAMES).map(|row| &row[..frames]);
                    let error = relative_rms(&found.collect::<Vec<_>>().concat(), &shares.concat());
                    assert!(error < CODE_TOLERANCE, "shares of {what}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn scores_may_rise_by_more_than_an_exponential_can() {
    let (frames, d) = (200, 16);
    for cpu in backends() {
        let mut kv = noise(frames * 2 * d, 12);
        // After the first panel of any width: the scores of one key are in the thousands.
        kv[150 * 2 * d..150 * 2 * d + d].iter_mut().for_each(|key| *key *= 2000.0);
        let q = noise(3 * d, 13);
        let all = heads_of(&cpu, Format::F32, &kv, d, 1);
        let mut out = vec![0.0; 3 * d];
        let mut scratch = cpu.arena.lend(all.shape.scratch_words());
        let block = AttendBlock {
            queries: View::new(&q, d),
            rows: &[0, 1, 2],
            scale: 0.25,
            head: all.head(0),
            output: Target::new(&mut out, d),
            scratch: scratch.as_mut_ptr(),
            probabilities: None,
        };
        // SAFETY: the buffers were made for these sizes and the machine has the kernels.
        unsafe { (cpu.kernels.f32.attend)(&block) };
        let rows = kv.chunks_exact(2 * d).map(|row| row.split_at(d));
        let (keys, values): (Vec<_>, Vec<_>) = rows.unzip();
        for (query, found) in q.chunks_exact(d).zip(out.chunks_exact(d)) {
            assert_close(found, &attention(query, &keys, &values).0, cpu.kernels.name);
        }
    }
}

#[test]
fn a_short_window_is_the_beginning_of_one_filled_up_with_nothing() {
    let (n_mels, d, frames) = (7, 16, 65);
    for cpu in backends() {
        let tensor =
            |shape: &[usize], seed| Tensor::from_f32(shape, &noise(shape.iter().product(), seed));
        let (conv1, conv2) = (tensor(&[d, n_mels, 3], 1), tensor(&[d, d, 3], 2));
        let positions = tensor(&[FRAMES, d], 3);
        let stem = cpu.stem((conv1, None), (conv2, None), positions).unwrap();
        let short = noise(n_mels * 2 * frames, 4);
        let mut whole = vec![0.0; n_mels * 2 * FRAMES];
        for (whole, short) in whole.chunks_mut(2 * FRAMES).zip(short.chunks(2 * frames)) {
            whole[..2 * frames].copy_from_slice(short);
        }
        let run = |mel: &[f32]| cpu.to_host(&cpu.run_stem(&stem, &[mel]).unwrap()).unwrap();
        let (short, whole) = (run(&short), run(&whole));
        // The last frame hears what the first convolution makes of nothing.
        let heard = (frames - 1) * d;
        assert_eq!(short.len(), frames * d);
        assert_close(&short[..heard], &to_f64(&whole[..heard]), cpu.kernels.name);
    }
}

#[test]
fn a_query_attends_to_keys_that_lie_anywhere() {
    for cpu in backends() {
        for (len, d_head) in [(1, 64), (2, 16), (17, 64), (100, 24), (33, 5)] {
            let rows = noise(len * 2 * d_head, 10).iter().map(|v| v * 3.0).collect::<Vec<_>>();
            let query = noise(d_head, 11);
            let slot = |i: usize| &rows[i * 2 * d_head..(i + 1) * 2 * d_head];
            let keys = (0..len).map(|i| &slot(i)[..d_head]).collect::<Vec<_>>();
            let values = (0..len).map(|i| &slot(i)[d_head..]).collect::<Vec<_>>();
            let (wanted, _) = attention(&query, &keys, &values);
            for in_halves in [false, true] {
                // Two heads, the other empty; said backwards, as no contiguous read would find it.
                let mut past = Past::new(1, (2, 2 * d_head), 1, in_halves);
                past.extend(0, 0, len).unwrap();
                for (position, slot) in (0..len).rev().zip((0..len).map(slot)) {
                    let (key, value) = slot.split_at(d_head);
                    let empty = vec![0.0; d_head];
                    past.store(0, 0, position, &[&empty, key, &empty, value].concat());
                }
                let mut views = Vec::new();
                past.views(0, 0, &mut views);
                let mut scratch = vec![0.0; len.next_multiple_of(MAX_WIDTH)];
                let mut out = vec![0.0; d_head];
                let job = AttendPast {
                    query: query.as_ptr(),
                    past: &views,
                    offset: past.head_words(),
                    d_head,
                    scale: (d_head as f32).powf(-0.5),
                    scratch: scratch.as_mut_ptr(),
                    output: out.as_mut_ptr(),
                };
                let kernels = (cpu.kernels.attend_past, cpu.kernels.attend_past_halves);
                let attend_past = if in_halves { kernels.1 } else { kernels.0 };
                // SAFETY: the buffers were made for these sizes and the machine has the kernels.
                unsafe { attend_past(&job) };
                let what = format!("{} {len} of {d_head}", cpu.kernels.name);
                if in_halves {
                    let error = out.iter().zip(&wanted).map(|(a, b)| (f64::from(*a) - b).abs());
                    let worst = error.fold(0.0, f64::max);
                    assert!(worst < 5e-3, "{what}, in halves: {worst}");
                } else {
                    assert_close(&out, &wanted, &what);
                }
            }
        }
    }
}

fn buffer(cpu: &Cpu, rows: usize, columns: usize, values: &[f32]) -> Buffer {
    let mut buffer = Buffer::new(&cpu.arena, rows, columns);
    buffer.data.copy_from_slice(values);
    buffer
}

fn layer(cpu: &Cpu, outputs: usize, inputs: usize, seed: u64) -> Packed {
    let weights = Tensor::from_f32(&[outputs, inputs], &noise(outputs * inputs, seed));
    let bias = Tensor::from_f32(&[outputs], &noise(outputs, seed + 1));
    cpu.linear(&[(weights, Some(bias))]).unwrap()
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

#[test]
fn verbs_give_the_same_for_many_rows_as_row_by_row() {
    let d_model = 48;
    for cpu in backends() {
        let ones = Tensor::from_f32(&[d_model], &noise(d_model, 20));
        let norm = cpu.norm(ones.clone(), ones).unwrap();
        let (up, down) = (layer(&cpu, 100, d_model, 21), layer(&cpu, d_model, 100, 23));
        let values = noise(200 * d_model, 25);
        let run = |values: &[f32]| {
            let rows = values.len() / d_model;
            let mut x = buffer(&cpu, rows, d_model, values);
            let wide = cpu.norm_linear(&x, &norm, &up).unwrap();
            cpu.linear_add(&wide, &down, &mut x).unwrap();
            cpu.mlp(&mut x, &norm, &up, &down).unwrap();
            cpu.to_host(&cpu.run_norm(&x, &norm).unwrap()).unwrap()
        };
        let together = run(&values);
        let alone = values.chunks_exact(d_model).flat_map(run).collect::<Vec<_>>();
        assert_close(&together, &to_f64(&alone), cpu.kernels.name);
    }
}

#[test]
fn tokens_and_positions_outside_the_tables_are_errors() {
    let cpu = Cpu::new(ComputeType::F32, 1).unwrap();
    let table = |rows: usize| Tensor::from_f32(&[rows, 4], &noise(rows * 4, 70));
    let embedding = cpu.embedding(table(3), table(2)).unwrap();
    assert!(cpu.embed(&embedding, &[2], &[1]).is_ok());
    assert!(cpu.embed(&embedding, &[3], &[0]).is_err());
    assert!(cpu.embed(&embedding, &[0], &[2]).is_err());
}
