//! The verbs of [`Backend`] on the CPU: sizes are checked here, the work is done next door.

use super::Cpu;
use super::aligned::Aligned;
use super::buffer::{Buffer, Target, View};
use super::cache::Past;
use super::decoder::{Cross, Embedding};
use super::encoder::Stem;
use super::isa::Norm;
use super::layout::{Format, Packed};
use super::product::Product;
use super::rows::{Rows, decode_all, stacked_bias};
use super::trim::trim;
use crate::error::{Error, Result};
use crate::kernels::rank::{Ranked, Restriction};
use crate::kernels::{Backend, CollectedAttention, FRAMES, LinearParts, Row};
use crate::models::weights::{Tensor, Values};

/// An error if sizes that the network must keep are not kept.
fn check(is_right: bool, what: &'static str) -> Result<()> {
    if is_right { Ok(()) } else { Err(Error::inference("sizes given to a CPU kernel", what)) }
}

impl Cpu {
    /// The format that keeps what is stored: halves stay halves where instructions widen them,
    /// everything else becomes f32.
    fn format_of(&self, tensor: &Tensor<'_>) -> Format {
        match tensor.values {
            Values::F16(_) if self.kernels.has(Format::F16) => Format::F16,
            _ => Format::F32,
        }
    }

    /// Packs layers stacked along their outputs.
    fn pack(&self, parts: &[LinearParts<'_>]) -> Result<Packed> {
        let rows = parts.iter().map(|(weight, _)| Rows::new(weight)).collect::<Result<Vec<_>>>()?;
        let inputs = rows.first().map_or(0, |rows| rows.len);
        check(
            inputs > 0 && rows.iter().all(|rows| rows.len == inputs),
            "inputs of stacked layers",
        )?;
        let outputs = rows.iter().map(|rows| rows.count).sum();
        let bias = stacked_bias(parts)?;
        check(bias.len() == outputs, "biases of stacked layers")?;
        let format = self.precision.linear.unwrap_or_else(|| self.format_of(&parts[0].0));
        let row = |output: usize, values: &mut [f32]| {
            let mut output = output;
            for rows in &rows {
                if output < rows.count {
                    return rows.decode(output, values);
                }
                output -= rows.count;
            }
        };
        Ok(Packed::new(&self.pool, self.kernels.layout(format), [outputs, inputs], &bias, &row))
    }

    /// Packs a convolution over three frames, `(outputs, channels, 3)`, as a linear layer whose
    /// inputs are the channels of the first frame, then of the second and the third.
    fn pack_convolution(&self, (weight, bias): &LinearParts<'_>) -> Result<Packed> {
        let rows = Rows::new(weight)?;
        check(weight.shape.len() == 3 && weight.shape[2] == 3, "a convolution of three frames")?;
        let channels = weight.shape[1];
        let bias = bias.as_ref().map_or(Ok(vec![0.0; rows.count]), decode_all)?;
        check(bias.len() == rows.count, "biases of a convolution")?;
        let row = |output: usize, values: &mut [f32]| {
            let mut filter = vec![0.0; 3 * channels];
            rows.decode(output, &mut filter);
            for (channel, taps) in filter.chunks_exact(3).enumerate() {
                for (tap, &weight) in taps.iter().enumerate() {
                    values[tap * channels + channel] = weight;
                }
            }
        };
        let format = self.precision.stem.unwrap_or_else(|| self.format_of(weight));
        let sizes = [rows.count, 3 * channels];
        Ok(Packed::new(&self.pool, self.kernels.layout(format), sizes, &bias, &row))
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Linear = Packed;
    type Norm = Norm;
    type Embedding = Embedding;
    type Stem = Stem;
    type Cross = Cross;
    type Past = Past;

    fn linear(&self, parts: &[LinearParts<'_>]) -> Result<Packed> {
        check(!parts.is_empty(), "a linear layer of no parts")?;
        self.pack(parts)
    }

    fn norm(&self, weight: Tensor<'_>, bias: Tensor<'_>) -> Result<Norm> {
        let (weight, bias) = (decode_all(&weight)?, decode_all(&bias)?);
        check(weight.len() == bias.len(), "scale and shift of a layer norm")?;
        Ok(Norm { weight: Aligned::padded(&weight, 1), bias: Aligned::padded(&bias, 1) })
    }

    fn embedding(&self, tokens: Tensor<'_>, positions: Tensor<'_>) -> Result<Embedding> {
        let tokens = self.pack(&[(tokens, None)])?;
        Ok(Embedding { tokens, positions: Aligned::padded(&decode_all(&positions)?, 1) })
    }

    fn stem(
        &self,
        conv1: LinearParts<'_>,
        conv2: LinearParts<'_>,
        positions: Tensor<'_>,
    ) -> Result<Stem> {
        let n_mels = conv1.0.shape.get(1).copied().unwrap_or(0);
        let (conv1, conv2) = (self.pack_convolution(&conv1)?, self.pack_convolution(&conv2)?);
        let d_model = conv1.outputs;
        check(conv2.inputs == 3 * d_model && conv2.outputs == d_model, "convolutions in a row")?;
        let positions = decode_all(&positions)?;
        check(positions.len() == FRAMES * d_model, "positions of the encoder")?;
        Ok(Stem { conv1, conv2, positions: Aligned::padded(&positions, 1), n_mels })
    }

    fn run_stem(&self, stem: &Stem, mels: &[&[f32]]) -> Result<Buffer> {
        let d_model = stem.conv1.outputs;
        let values = mels.first().map_or(0, |mel| mel.len());
        let frames = values / (2 * stem.n_mels).max(1);
        let fits = frames <= FRAMES && values == 2 * frames * stem.n_mels;
        check(fits && mels.iter().all(|mel| mel.len() == values), "a mel spectrogram")?;
        let mut out = Buffer::new(&self.arena, mels.len() * frames, d_model);
        let output = Target::new(&mut out.data, d_model);
        for (window, mel) in mels.iter().enumerate() {
            self.stem_window(stem, mel, output.at(window * frames, 0));
        }
        Ok(out)
    }

    fn run_norm(&self, x: &Buffer, norm: &Norm) -> Result<Buffer> {
        check(x.columns == norm.weight.len(), "a layer norm")?;
        let mut out = Buffer::new(&self.arena, x.rows, x.columns);
        let (input, output) =
            (View::new(&x.data, x.columns), Target::new(&mut out.data, x.columns));
        self.by_rows(x.rows, &|rows| {
            // SAFETY: both buffers have these rows and columns; each chunk has its own.
            unsafe {
                (self.kernels.norm)(
                    input.at(rows.start, 0),
                    rows.len(),
                    norm,
                    output.at(rows.start, 0),
                );
            }
        });
        Ok(out)
    }

    fn norm_linear(&self, x: &Buffer, norm: &Norm, linear: &Packed) -> Result<Buffer> {
        check(x.columns == norm.weight.len() && x.columns == linear.inputs, "a linear layer")?;
        let mut out = Buffer::new(&self.arena, x.rows, linear.outputs);
        let output = Target::new(&mut out.data, linear.outputs);
        let product = Product::new(x.rows, View::new(&x.data, x.columns), linear, output);
        // SAFETY: the buffers were made for these rows and columns.
        unsafe { self.multiply(&Product { norm: Some(norm), ..product }) };
        Ok(out)
    }

    fn norm_attend(
        &self,
        x: &Buffer,
        norm: &Norm,
        qkv: &Packed,
        batch: usize,
        heads: usize,
    ) -> Result<Buffer> {
        let d_model = x.columns;
        let fits = d_model == norm.weight.len() && d_model == qkv.inputs;
        check(fits && qkv.outputs == 3 * d_model, "queries, keys and values")?;
        let fits = x.rows.is_multiple_of(batch.max(1)) && heads > 0;
        check(fits && d_model.is_multiple_of(heads), "self-attention")?;
        Ok(self.attend_frames(x, (norm, qkv), batch, heads))
    }

    fn linear_add(&self, x: &Buffer, linear: &Packed, residual: &mut Buffer) -> Result<()> {
        let fits = x.columns == linear.inputs && residual.columns == linear.outputs;
        check(fits && x.rows == residual.rows, "a linear layer and its residual")?;
        let output = Target::new(&mut residual.data, residual.columns);
        let product = Product::new(x.rows, View::new(&x.data, x.columns), linear, output);
        // SAFETY: the buffers have these rows and columns, as checked.
        unsafe { self.multiply(&Product { add: Some(output.as_view()), ..product }) };
        Ok(())
    }

    fn mlp(&self, x: &mut Buffer, norm: &Norm, up: &Packed, down: &Packed) -> Result<()> {
        let fits = x.columns == up.inputs && up.outputs == down.inputs && down.outputs == x.columns;
        check(fits && norm.weight.len() == x.columns, "a feed-forward layer")?;
        self.feed_forward(x, norm, up, down);
        Ok(())
    }

    #[cfg(test)]
    fn to_host(&self, x: &Buffer) -> Result<Vec<f32>> {
        Ok(x.data.to_vec())
    }

    fn cross(&self, encoded: &Buffer, kv: &Packed, batch: usize, heads: usize) -> Result<Cross> {
        let fits = encoded.columns == kv.inputs && kv.outputs == 2 * kv.inputs;
        let fits = fits && encoded.rows.is_multiple_of(batch.max(1)) && heads > 0;
        check(fits && kv.inputs.is_multiple_of(heads), "keys and values of windows")?;
        Ok(self.pack_cross(encoded, kv, batch, heads))
    }

    fn append_cross(&self, cross: &mut Cross, mut more: Cross) -> Result<()> {
        cross.windows.append(&mut more.windows);
        Ok(())
    }

    /// One window keeps every core busy.
    fn encoder_batch(&self) -> usize {
        1
    }

    fn end_encoding(&self) {
        self.arena.clear();
        trim();
    }

    fn hears_short_windows(&self) -> bool {
        true
    }

    fn embed(&self, embedding: &Embedding, tokens: &[u32], positions: &[u32]) -> Result<Buffer> {
        check(tokens.len() == positions.len(), "tokens and positions")?;
        self.embed_rows(embedding, tokens, positions)
    }

    fn past(
        &self,
        layers: usize,
        heads: usize,
        d_model: usize,
        rows: usize,
        _capacity: usize,
    ) -> Result<Past> {
        check(heads > 0 && d_model.is_multiple_of(heads), "heads of the decoder")?;
        let in_halves = self.precision.attention != Format::F32;
        Ok(Past::new(layers, (heads, d_model), rows, in_halves))
    }

    fn attend_past(
        &self,
        qkv: &Buffer,
        past: &mut Past,
        layer: usize,
        rows: &[Row],
    ) -> Result<Buffer> {
        let fits = qkv.columns == 3 * past.d_model && layer < past.layers();
        check(fits && are_tokens_of(rows, qkv.rows), "attention to the past")?;
        self.attend_to_past(qkv, past, layer, rows)
    }

    fn attend_cross(
        &self,
        q: &Buffer,
        cross: &Cross,
        rows: &[Row],
        collect: Option<&mut CollectedAttention>,
    ) -> Result<Buffer> {
        let fits =
            cross.windows.iter().all(|window| window.shape.d_head * cross.heads == q.columns);
        check(fits && are_tokens_of(rows, q.rows), "attention to the sound")?;
        self.attend_to_cross(q, cross, rows, collect)
    }

    fn select(&self, past: &mut Past, parents: &[usize]) -> Result<()> {
        past.select(parents)
    }

    fn logits(
        &self,
        x: &Buffer,
        positions: &[usize],
        norm: &Norm,
        embedding: &Embedding,
    ) -> Result<Vec<f32>> {
        let fits = x.columns == norm.weight.len() && x.columns == embedding.tokens.inputs;
        check(fits && positions.iter().all(|&row| row < x.rows), "rows to project")?;
        let mut logits = vec![0.0; positions.len() * embedding.tokens.outputs];
        self.project(x, positions, (norm, embedding), &mut logits);
        Ok(logits)
    }

    fn can_rank(&self, _vocab: usize) -> bool {
        true
    }

    fn rank(
        &self,
        x: &Buffer,
        positions: &[usize],
        weights: (&Norm, &Embedding),
        restrictions: &[Restriction],
        count: usize,
    ) -> Result<Vec<Ranked>> {
        let (norm, embedding) = weights;
        let fits = x.columns == norm.weight.len() && x.columns == embedding.tokens.inputs;
        check(fits && positions.iter().all(|&row| row < x.rows), "rows to rank")?;
        check(restrictions.len() == positions.len(), "restrictions of rows to rank")?;
        Ok(self.rank_rows(x, positions, weights, restrictions, count))
    }
}

/// Whether hypotheses own rows of a buffer one after the other, each row once.
fn are_tokens_of(rows: &[Row], n_tokens: usize) -> bool {
    let mut next = 0;
    rows.iter().all(|row| {
        let follows = row.tokens.start == next && row.tokens.end >= next;
        next = row.tokens.end;
        follows
    }) && next == n_tokens
}
