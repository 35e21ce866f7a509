//! The encoder's verbs: convolutions, attention within a window, feed-forward.

use std::ops::Range;

use super::Cpu;
use super::aligned::Aligned;
use super::attention::{AttendBlock, HeadShape, MOST_QUERIES, PackedHeads, pack_rows};
use super::buffer::{self, Buffer, Target, View};
use super::codes::Encode;
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

    /// Attention within each of `batch` windows, from the rows of `x` normed and projected.
    pub(super) fn attend_frames(
        &self,
        x: &Buffer,
        (norm, qkv): (&Norm, &Packed),
        batch: usize,
        heads: usize,
    ) -> Buffer {
        let (frames, d_model) = (x.rows / batch.max(1), x.columns);
        let mut out = Buffer::new(&self.arena, x.rows, d_model);
        let output = Target::new(&mut out.data, d_model);
        let mut queries = self.arena.lend(frames * d_model);
        for window in 0..batch {
            let input = View::new(&x.data, d_model).at(window * frames, 0);
            let queries = Target::new(&mut queries, d_model);
            let product = Product::new(frames, input, qkv, queries);
            let product = Product { norm: Some(norm), ..product };
            // SAFETY: `x` has the window's rows, `queries` was made for them.
            let packed = unsafe { self.project_heads(&product, heads, self.precision.attention) };
            self.attend_window(queries.as_view(), &packed, output.at(window * frames, 0));
        }
        out
    }

    /// Attention within one window from `(frames, d_model)` queries to as many of `output`.
    pub(super) fn attend_window(&self, queries: View, packed: &PackedHeads, output: Target) {
        let (frames, d_head) = (packed.shape.frames, packed.shape.d_head);
        let heads = packed.data.len() / packed.shape.head_words();
        let block_queries = self.kernels.of(packed.shape.format).block_queries;
        let attend = self.kernels.attention_to(packed.shape.format);
        let blocks = frames.div_ceil(block_queries);
        let chunks = blocks.div_ceil(CHUNK_BLOCKS);
        self.pool.run(heads * chunks, &|chunk| {
            let (head, chunk) = (chunk / chunks, chunk % chunks);
            let mut scratch = self.arena.lend(packed.shape.scratch_words());
            for block in chunk * CHUNK_BLOCKS..blocks.min((chunk + 1) * CHUNK_BLOCKS) {
                let mut rows = [0; MOST_QUERIES];
                let queried = block * block_queries..frames.min((block + 1) * block_queries);
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

    /// Projects the frames of a window to keys and values, the last `2 * d_model` outputs of the
    /// product, and packs them in the `wanted` format, if it can be, while they are near; outputs in
    /// front of them go to its output.
    ///
    /// # Safety
    /// `input` has the product's rows, and so has `output` of what is in front; nobody else uses it.
    pub(super) unsafe fn project_heads(
        &self,
        product: &Product<'_>,
        heads: usize,
        wanted: Format,
    ) -> PackedHeads {
        let (frames, columns) = (product.rows, product.weights.outputs);
        let d_model = product.weights.inputs;
        let (d_head, front) = (d_model / heads, columns - 2 * d_model);
        let format = if d_head.is_multiple_of(wanted.depth()) { wanted } else { Format::F32 };
        let depth = format.depth();
        let shape = HeadShape { frames, d_head, width: self.kernels.width, format };
        let words = heads * shape.head_words();
        // A decoder's, with nothing in front, stay as long as their window is heard.
        let data = if front == 0 { buffer::own(words) } else { self.arena.lend(words) };
        let mut packed = PackedHeads::new(data, shape);
        let target = Target::new(&mut packed.data, shape.head_words());
        self.by_rows(frames, &|rows| {
            let mut projected = self.arena.lend(rows.len() * columns);
            let output = Target::new(&mut projected, columns);
            let (keys, part) = (output.at(0, front), product.part(rows.clone()));
            // SAFETY: `projected` was made for these rows; each chunk has its own of everything else.
            unsafe {
                self.multiply_here(&Product { output, ..part });
                for row in 0..rows.len() {
                    output.at(row, 0).data.copy_to(part.output.at(row, 0).data, front);
                }
                if let Some(codes) = self.kernels.codes.filter(|_| format.has_steps()) {
                    for head in 0..heads {
                        let keys = keys.as_view().at(0, head * d_head);
                        let (values, head) = (keys.at(0, d_model), target.at(head, 0));
                        (codes.encode)(&Encode { rows: rows.clone(), keys, values, shape, head });
                    }
                    return;
                }
                if depth > 1 {
                    (self.kernels.of(format).prepare)(&Prepare {
                        rows: rows.len(),
                        input: keys.as_view(),
                        len: 2 * d_model,
                        norm: None,
                        normed: std::ptr::null_mut(),
                        lanes: keys,
                        scales: std::ptr::null_mut(),
                    });
                }
                for head in 0..heads {
                    let keys = keys.as_view().at(0, head * d_head / depth);
                    let from = (keys, keys.at(0, d_model / depth));
                    let to = (target.at(head, 0), target.at(head, shape.key_words()));
                    pack_rows(rows.clone(), from, shape, to);
                }
            }
        });
        packed
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
