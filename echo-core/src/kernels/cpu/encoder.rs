//! The encoder's verbs: convolutions, attention within a window, feed-forward.

use std::ops::Range;

use super::Cpu;
use super::attention::{AttendBlock, BLOCK_QUERIES, HeadShape, PackedHeads, pack_head};
use super::buffer::{Aligned, Buffer, Target, View};
use super::isa::{Norm, Prepare};
use super::layout::{Format, Packed};
use super::product::Product;

/// Mel frames that a thread transposes at a time.
const TRANSPOSED_FRAMES: usize = 120;
/// Query blocks that a thread attends from at a time.
const CHUNK_BLOCKS: usize = 16;

/// The convolutions in front of the encoder as linear layers over three neighbouring frames.
#[derive(Debug)]
pub(crate) struct Stem {
    pub(super) conv1: Packed,
    pub(super) conv2: Packed,
    /// `(FRAMES, d_model)`.
    pub(super) positions: Aligned,
    pub(super) n_mels: usize,
}

impl Cpu {
    /// Convolutions and positions of one window into `output`, `(FRAMES, d_model)`.
    ///
    /// Frames lie one after the other with a frame of zeros at either end, so the three frames
    /// under a filter are one contiguous row, and rows overlap: no copy is made of them.
    pub(super) fn stem_window(&self, stem: &Stem, mel: &[f32], output: Target) {
        let (n_mels, d_model) = (stem.n_mels, stem.conv1.outputs);
        let mel_frames = mel.len() / n_mels;
        let mut frames = self.arena.lend((mel_frames + 2) * n_mels);
        frames[..n_mels].fill(0.0);
        frames[(mel_frames + 1) * n_mels..].fill(0.0);
        let inner = &mut frames[n_mels..(mel_frames + 1) * n_mels];
        let target = Target::new(inner, n_mels);
        self.pool.run(mel_frames.div_ceil(TRANSPOSED_FRAMES), &|chunk| {
            for frame in chunk * TRANSPOSED_FRAMES..mel_frames.min((chunk + 1) * TRANSPOSED_FRAMES)
            {
                for band in 0..n_mels {
                    // SAFETY: a frame and a band of `inner`, and each chunk has its own frames.
                    unsafe { *target.at(frame, band).data = mel[band * mel_frames + frame] };
                }
            }
        });
        let mut first = self.arena.lend((mel_frames + 2) * d_model);
        first[..d_model].fill(0.0);
        first[(mel_frames + 1) * d_model..].fill(0.0);
        let target = Target::new(&mut first[d_model..], d_model);
        let conv1 = Product {
            has_gelu: true,
            ..Product::new(mel_frames, View::new(&frames, n_mels), &stem.conv1, target)
        };
        let conv2 = Product {
            has_gelu: true,
            add: Some(View::new(&stem.positions, d_model)),
            ..Product::new(mel_frames / 2, View::new(&first, 2 * d_model), &stem.conv2, output)
        };
        // SAFETY: three frames of input follow each row's start, as padding ends both buffers; outputs
        // were made for these rows.
        unsafe {
            self.multiply(&conv1);
            self.multiply(&conv2);
        }
    }

    /// Attention within one window: `qkv` is `(frames, 3 * d_model)`, `output` `(frames, d_model)`.
    pub(super) fn attend_window(&self, qkv: &[f32], heads: usize, d_model: usize, output: Target) {
        let frames = qkv.len() / (3 * d_model);
        let d_head = d_model / heads;
        let packed = self.pack_heads(qkv, 3 * d_model, d_model, heads);
        let attend = self.kernels.of(packed.format).attend;
        let queries = View::new(qkv, 3 * d_model);
        let blocks = frames.div_ceil(BLOCK_QUERIES);
        let chunks = blocks.div_ceil(CHUNK_BLOCKS);
        self.pool.run(heads * chunks, &|chunk| {
            let (head, chunk) = (chunk / chunks, chunk % chunks);
            let mut scratch = self.arena.lend(packed.shape.scratch_words());
            for block in chunk * CHUNK_BLOCKS..blocks.min((chunk + 1) * CHUNK_BLOCKS) {
                let mut rows = [0; BLOCK_QUERIES];
                let queried = block * BLOCK_QUERIES..frames.min((block + 1) * BLOCK_QUERIES);
                let n = queried.len();
                rows.iter_mut().zip(queried).for_each(|(row, query)| *row = query);
                let block = AttendBlock {
                    queries: queries.at(0, head * d_head),
                    rows: &rows[..n],
                    scale: (d_head as f32).powf(-0.5),
                    head: packed.head(head),
                    output: output.at(0, head * d_head),
                    scratch: scratch.as_mut_ptr(),
                    probabilities: None,
                };
                // SAFETY: the kernels are of this machine, sizes are as the buffers were made, and
                // each chunk writes rows and columns of its own.
                unsafe { attend(&block) };
            }
        });
    }

    /// Packs keys and values of all heads: the last `2 * d_model` of each `stride` columns.
    pub(super) fn pack_heads(
        &self,
        rows: &[f32],
        stride: usize,
        d_model: usize,
        heads: usize,
    ) -> PackedHeads {
        let (frames, d_head) = (rows.len() / stride, d_model / heads);
        let wanted = self.precision.attention;
        let format = if d_head.is_multiple_of(wanted.depth()) { wanted } else { Format::F32 };
        let depth = format.depth();
        let shape = HeadShape { frames, d_head, width: self.kernels.width, depth };
        // Rows of lanes, keys first: the rows themselves where a lane is a float.
        let mut lanes = self.arena.lend(if depth == 1 { 0 } else { frames * 2 * d_model / depth });
        if depth > 1 {
            let input = View::new(rows, stride).at(0, stride - 2 * d_model);
            let target = Target::new(&mut lanes, 2 * d_model / depth);
            self.by_rows(frames, &|rows| {
                let job = Prepare {
                    rows: rows.len(),
                    input: input.at(rows.start, 0),
                    len: 2 * d_model,
                    norm: None,
                    normed: std::ptr::null_mut(),
                    lanes: target.at(rows.start, 0),
                    scales: std::ptr::null_mut(),
                };
                // SAFETY: both buffers have these rows; each chunk has its own.
                unsafe { (self.kernels.of(format).prepare)(&job) };
            });
        }
        let (source, stride, first) = match depth {
            1 => (rows, stride, stride - 2 * d_model),
            _ => (&*lanes, 2 * d_model / depth, 0),
        };
        let head_words = shape.key_words() + shape.value_words();
        let mut data = self.arena.lend(heads * head_words);
        let target = Target::new(&mut data, head_words);
        self.pool.run(heads, &|head| {
            // SAFETY: each chunk has a head of its own.
            let packed =
                unsafe { std::slice::from_raw_parts_mut(target.at(head, 0).data, head_words) };
            let keys = first + head * d_head / depth;
            let source = (&source[keys..], &source[keys + d_model / depth..]);
            pack_head(source, stride, shape, packed.split_at_mut(shape.key_words()));
        });
        PackedHeads { data, format, shape }
    }

    /// `x += down(gelu(up(norm(x))))`.
    pub(super) fn feed_forward(&self, x: &mut Buffer, norm: &Norm, up: &Packed, down: &Packed) {
        let rows = x.rows;
        let output = Target::new(&mut x.data, x.columns);
        let products = |hidden: Target| {
            let up =
                Product { norm: Some(norm), ..Product::new(rows, output.as_view(), up, hidden) };
            let up = Product { has_gelu: true, ..up };
            let down = Product::new(rows, hidden.as_view(), down, output);
            (up, Product { add: Some(output.as_view()), ..down })
        };
        if !self.are_many(rows) {
            let mut hidden = self.arena.lend(rows * up.outputs);
            let (up, down) = products(Target::new(&mut hidden, up.outputs));
            // SAFETY: `x` and `hidden` have these rows and columns; the second product starts after
            // the first has read all of `x`.
            unsafe {
                self.multiply(&up);
                self.multiply(&down);
            }
            return;
        }
        self.by_rows(rows, &|block: Range<usize>| {
            let mut hidden = self.arena.lend(block.len() * up.outputs);
            // `hidden` holds this block only: its first row stands for the block's first.
            let target = Target::new(&mut hidden, up.outputs);
            let (up, down) = products(target);
            let up = Product { output: target, ..up.part(block.clone()) };
            let down = Product { input: target.as_view(), ..down.part(block) };
            // SAFETY: as above, and each chunk has rows of its own.
            unsafe {
                self.multiply_here(&up);
                self.multiply_here(&down);
            }
        });
    }
}
