//! Weights as kernels read them.
//!
//! A linear layer of `outputs x inputs` is cut into panels of as many outputs as a tile has
//! columns. A panel holds, for each lane along the inputs (see [`lane`](super::lane)), that lane of
//! all its outputs: `[panel][lane][output in panel]`. Products then read weights strictly in order,
//! whether one row of activations is multiplied or a thousand. Panels and inner dimension are
//! filled up with zeros. Rows are decoded one by one as they are packed (see [`rows`](super::rows)),
//! so a layer never exists twice.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::aligned::Aligned;
use super::buffer::Target;
use super::pool::Pool;

/// How weights are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// Stored and multiplied as f32.
    F32,
    /// Stored as f16, multiplied as f32.
    F16,
    /// Stored and multiplied as bf16, summed as f32.
    Bf16,
    /// Stored as int8 with a scale for each output; activations become int8 with a scale for each
    /// row as they come.
    Int8,
}

impl Format {
    /// Values along the inner dimension in one lane.
    pub(super) fn depth(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }

    /// Bytes of a stored weight lane.
    pub(super) fn lane_bytes(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::Int8 => 4,
            Self::F16 => 2,
        }
    }

    /// Whether weights and activations are steps of a scale.
    pub(super) fn has_steps(self) -> bool {
        self == Self::Int8
    }
}

/// What a kernel wants weights packed as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) format: Format,
    /// Outputs in a panel.
    pub(super) width: usize,
    /// For int8: up to which code weights may have any, see [`Lane::MOST_CODE`](super::lane::Lane).
    pub(super) most_code: i32,
}

/// A linear layer in panels.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) format: Format,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Lanes along the inputs.
    pub(super) lanes: usize,
    /// Outputs in a panel.
    pub(super) width: usize,
    data: Aligned,
    /// One for each output, filled up to whole panels.
    pub(super) bias: Aligned,
    /// For int8: what one step of each output's weights is worth.
    pub(super) scales: Aligned,
    /// For int8: 128 times the sum of each output's codes, an `i32`, see the lanes of VNNI.
    pub(super) offsets: Aligned,
}

impl Packed {
    /// Packs the rows that `row(output, values)` writes.
    pub(super) fn new(
        pool: &Pool,
        Layout { format, width, most_code }: Layout,
        [outputs, inputs]: [usize; 2],
        bias: &[f32],
        row: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Self {
        let lanes = inputs.div_ceil(format.depth());
        let panels = outputs.div_ceil(width);
        let panel_words = lanes * width * format.lane_bytes() / 4;
        let mut data = Aligned::zeroed(panels * panel_words);
        let scaled = if format.has_steps() { panels * width } else { 0 };
        let (mut scales, mut offsets) = (Aligned::zeroed(scaled), Aligned::zeroed(scaled));
        let target = Target::new(&mut data, panel_words);
        let factors = [Target::new(&mut scales, 1), Target::new(&mut offsets, 1)];
        pool.run(panels, &|panel| {
            // SAFETY: each chunk has a panel of its own, `panel_words` long, and `data` outlives the job.
            let words =
                unsafe { std::slice::from_raw_parts_mut(target.at(panel, 0).data, panel_words) };
            let mut values = vec![0.0; inputs];
            for column in 0..width.min(outputs - panel * width) {
                let output = panel * width + column;
                row(output, &mut values);
                let scale = if scaled > 0 { step_of(&values, most_code) } else { 1.0 };
                let (to, step) = ((&mut *words, width, column), (scale, most_code));
                let sum = pack_output(format, to, &values, step);
                if scaled > 0 {
                    // SAFETY: one of `panels * width` outputs, and each has one chunk.
                    unsafe {
                        *factors[0].at(output, 0).data = scale;
                        *factors[1].at(output, 0).data = f32::from_bits((128 * sum) as u32);
                    }
                }
            }
        });
        let mut padded = Aligned::zeroed(panels * width);
        padded[..bias.len()].copy_from_slice(bias);
        Self { format, outputs, inputs, lanes, width, data, bias: padded, scales, offsets }
    }

    /// How many panels there are.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// Bytes of one panel.
    pub(super) fn panel_bytes(&self) -> usize {
        self.lanes * self.width * self.format.lane_bytes()
    }

    /// Where a panel's weights start.
    pub(super) fn panel(&self, panel: usize) -> *const u8 {
        assert!(panel < self.panels(), "panel {panel} of {}", self.panels());
        self.data.as_ptr().cast::<u8>().wrapping_add(panel * self.panel_bytes())
    }

    /// The weights of one output.
    pub(super) fn output(&self, output: usize, values: &mut [f32]) {
        let words = self.panel_bytes() / 4;
        let panel = &self.data[output / self.width * words..][..words];
        let column = output % self.width;
        for (input, value) in values.iter_mut().enumerate() {
            let index = place(self.format, self.width, column, input);
            *value = match self.format {
                Format::F32 => panel[index],
                Format::F16 => f16::from_bits(read_bits(panel, index, 2) as u16).to_f32(),
                Format::Bf16 => bf16::from_bits(read_bits(panel, index, 2) as u16).to_f32(),
                Format::Int8 => {
                    f32::from(read_bits(panel, index, 1) as u8 as i8) * self.scales[output]
                }
            };
        }
    }
}

/// Where the value of an input lies in a panel, counted in values.
fn place(format: Format, width: usize, column: usize, input: usize) -> usize {
    let depth = format.depth();
    (input / depth * width + column) * depth + input % depth
}

/// Value `index` of values of `bytes` bytes each.
fn read_bits(words: &[f32], index: usize, bytes: usize) -> u32 {
    let at = index * bytes;
    words[at / 4].to_bits() >> (8 * (at % 4))
}

/// What a step of an output's weights is worth.
///
/// Hardly ever are two neighbours among the largest weights of an output. So where there is no room for any
/// two, codes are half as large again as they might be all at once, and the few neighbours that do not fit
/// are made smaller. Outputs with more of them get coarser steps.
fn step_of(values: &[f32], most_code: i32) -> f32 {
    let largest = largest_of(values);
    let Some(room) = room_of_two(most_code) else { return largest / most_code as f32 };
    let fine = largest / (most_code + most_code / 2) as f32;
    let neighbours = values.as_chunks().0.iter();
    let crowded = neighbours.filter(|[a, b]| (a + b).abs() > room as f32 * fine).count();
    if crowded > values.len() / 256 { largest / most_code as f32 } else { fine }
}

/// What the codes of two neighbours may add up to, if not anything.
fn room_of_two(most_code: i32) -> Option<i32> {
    (most_code < i32::from(i8::MAX)).then_some(2 * most_code + 2)
}

/// The largest of some values without their signs, which is not zero.
fn largest_of(values: &[f32]) -> f32 {
    // Sixteen at once: one after the other each would wait for the one before.
    let (sixteens, rest) = values.as_chunks::<16>();
    let mut largest = [f32::MIN_POSITIVE; 16];
    for values in sixteens.iter().map(|values| values.as_slice()).chain([rest]) {
        largest
            .iter_mut()
            .zip(values)
            .for_each(|(largest, value)| *largest = largest.max(value.abs()));
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// Writes one output into its column of a panel of zeros; returns the sum of its int8 codes.
fn pack_output(
    format: Format,
    (panel, width, column): (&mut [f32], usize, usize),
    values: &[f32],
    (step, most_code): (f32, i32),
) -> i32 {
    match format {
        Format::F32 => {
            for (word, &value) in panel[column..].iter_mut().step_by(width).zip(values) {
                *word = value;
            }
        }
        Format::F16 => {
            // Two outputs share a word of each lane.
            let (first, shift) = (column / 2, 16 * (column % 2));
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            for (word, half) in panel[first..].iter_mut().step_by(width / 2).zip(halves) {
                *word = f32::from_bits(word.to_bits() | u32::from(half.to_bits()) << shift);
            }
        }
        Format::Bf16 => {
            let (pairs, last) = values.as_chunks::<2>();
            let mut lanes = vec![0.0; pairs.len() + last.len()];
            lanes.iter_mut().zip(pairs).for_each(|(lane, &[low, high])| *lane = pair(low, high));
            if let (&[value], Some(lane)) = (last, lanes.last_mut()) {
                *lane = pair(value, 0.0);
            }
            for (word, lane) in panel[column..].iter_mut().step_by(width).zip(lanes) {
                *word = lane;
            }
        }
        Format::Int8 => {
            let codes = codes_of(values, step, room_of_two(most_code));
            let lanes = codes.as_chunks::<4>().0;
            for (word, &[a, b, c, d]) in panel[column..].iter_mut().step_by(width).zip(lanes) {
                // `map` of an array would be a call for every value.
                let [a, b, c, d] = [a as u8, b as u8, c as u8, d as u8];
                *word = f32::from_bits(u32::from_le_bytes([a, b, c, d]));
            }
            return codes.iter().map(|&code| i32::from(code)).sum();
        }
    }
    0
}

/// Two values as the nearest bf16 in one word, ties to even. Without a branch, unlike the crate
/// `half`, so that the compiler turns several at once: that is half of the time a model takes to load.
fn pair(low: f32, high: f32) -> f32 {
    let bits = |value: f32| {
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // Rounding up would make some NaN zero.
        if value.is_nan() { bits | 0x0040_0000 } else { nearest }
    };
    f32::from_bits(bits(low) >> 16 | bits(high) & 0xffff_0000)
}

/// Values in steps, filled up to fours with zeros; two neighbours may have no more than some room.
fn codes_of(values: &[f32], step: f32, room: Option<i32>) -> Vec<i8> {
    let factor = 1.0 / step;
    let mut codes = vec![0; values.len().next_multiple_of(4)];
    codes.iter_mut().zip(values).for_each(|(code, value)| *code = nearest(value * factor));
    let Some(room) = room else { return codes };
    for two in codes.as_chunks_mut::<2>().0 {
        let sum = i32::from(two[0]) + i32::from(two[1]);
        let excess = (sum.abs() - room).max(0);
        let each = sum.signum() * ((excess + 1) / 2);
        two.iter_mut().for_each(|code| *code -= each as i8);
    }
    codes
}

/// The nearest integer of -127 to 127, ties to even.
fn nearest(value: f32) -> i8 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
    const SHIFT: f32 = 12_582_912.0;
    ((value.clamp(-127.0, 127.0) + SHIFT).to_bits() & 0xff) as u8 as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_as_the_crate_half_does() {
        // A prime step meets ties, both zeros, numbers below the normal ones, infinities and NaN.
        for bits in (0..=u32::MAX).step_by(32_749).chain([0x7f80_0000, 0x7fff_ffff, 0x3f80_8000]) {
            let value = f32::from_bits(bits);
            let word = pair(value, -value).to_bits();
            let [low, high] = [word as u16, (word >> 16) as u16].map(bf16::from_bits);
            let wanted = [value, -value].map(bf16::from_f32);
            let same = [low, high] == wanted || value.is_nan() && low.is_nan() && high.is_nan();
            assert!(same, "{bits:#x}: {low} {high}, expected {wanted:?}");
        }
    }

    #[test]
    fn two_neighbours_share_what_both_have_room_for() {
        let everywhere = (0..2048).collect::<Vec<_>>();
        // A large weight alone, one beside another, and beside others everywhere.
        for (large, wanted) in [(&[7][..], -94), (&[6, 7, 8], -64), (&everywhere, -63)] {
            let mut values = vec![0.1; 2048];
            large.iter().for_each(|&at| values[at] = -1.0);
            let codes = codes_of(&values, step_of(&values, 63), room_of_two(63));
            assert_eq!(codes[large[0]], wanted, "of {} large ones", large.len());
            let sums =
                codes.as_chunks().0.iter().map(|&[a, b]| (i32::from(a) + i32::from(b)).abs());
            assert!(sums.max() <= Some(128), "{codes:?}");
        }
        let two = [1.0, 1.0];
        assert_eq!(codes_of(&two, step_of(&two, 127), room_of_two(127))[..2], [127, 127]);
    }

    #[test]
    fn packing_keeps_every_weight_whatever_the_panel() {
        let pool = Pool::new(2);
        // What a format may differ by: bf16 has 8 bits of fraction, int8 half of a step.
        let formats = [
            (Format::F32, 0, 0.0),
            (Format::F16, 0, 0.0),
            (Format::Bf16, 0, 0.25),
            (Format::Int8, 127, 0.51),
            (Format::Int8, 63, 1.02),
        ];
        for (format, most_code, tolerance) in formats {
            for (width, outputs, inputs) in [(64, 130, 7), (16, 1, 1), (8, 17, 33), (64, 64, 64)] {
                let weight =
                    |output: usize, input: usize| ((output * 64 + input) % 2048) as f32 / 16.0;
                let row = |output: usize, values: &mut [f32]| {
                    for (input, value) in values.iter_mut().enumerate() {
                        *value = weight(output, input);
                    }
                };
                let layout = Layout { format, width, most_code };
                let packed = Packed::new(&pool, layout, [outputs, inputs], &[1.0], &row);
                assert_eq!(packed.bias.len(), outputs.next_multiple_of(width));
                let mut values = vec![0.0; inputs];
                for output in 0..outputs {
                    packed.output(output, &mut values);
                    for (input, &value) in values.iter().enumerate() {
                        let error = (value - weight(output, input)).abs();
                        assert!(error <= tolerance, "{format:?} {output} {input}: {error}");
                    }
                }
            }
        }
    }
}
