//! Attention: of frames to frames, of tokens to tokens, of tokens to frames.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::cache::Past;
use super::context::Grid;
use super::memory::Block;
use super::{ARRIVALS, Buffer, Cuda};
use crate::error::{Error, Result};
use crate::kernels::{CollectedAttention, FRAMES, Row};

/// Frames with what pads them to blocks of 32.
const PADDED_FRAMES: usize = FRAMES.next_multiple_of(32);

/// Tokens that read a window's frames together, see `cross_attention.cu`.
const GROUP_TOKENS: usize = 16;

/// Numbers for each group: window, count, tokens.
const GROUP_WORDS: usize = 2 + GROUP_TOKENS;

/// Queries of a block of `encoder_attention.cu`.
const BLOCK_QUERIES: usize = 128;

/// Parts that a window's frames are cut into at most: one turn for each warp.
const MOST_PARTS: usize = 12;

const CONTEXT: &str = "attention";

/// Keys and values of one decoder layer over the windows' frames.
#[derive(Debug)]
pub(crate) struct Cross {
    /// What windows were encoded together lie in one block.
    blocks: Vec<Block>,
    /// Of each window, where its keys start.
    addresses: Vec<u64>,
    /// The addresses on the device.
    table: Block,
    heads: usize,
    d_model: usize,
}

/// Who listens to which window in a step; the same for many steps.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Each hypothesis' window and tokens.
    rows: Vec<(usize, Range<usize>)>,
    windows: usize,
    n_tokens: usize,
    n_groups: usize,
    groups: Block,
}

impl Cross {
    pub(super) fn windows(&self) -> usize {
        self.addresses.len()
    }

    /// Puts the windows of `more` behind these.
    pub(super) fn append(&mut self, cuda: &Cuda, more: Self) -> Result<()> {
        self.blocks.extend(more.blocks);
        self.addresses.extend(more.addresses);
        self.table = upload_table(cuda, &self.addresses)?;
        Ok(())
    }
}

impl Cuda {
    /// Unmasked attention within windows.
    pub(super) fn attend_frames(&self, qkv: &Buffer, batch: usize, heads: usize) -> Result<Buffer> {
        let d_model = qkv.columns / 3;
        let (name, _) = by_width(["encoder_attention_32", "encoder_attention_64"], d_model, heads)?;
        if qkv.rows != batch * FRAMES {
            return Err(Error::inference(CONTEXT, "windows of another length"));
        }
        let y = self.buffer(qkv.rows, d_model)?;
        let blocks = (FRAMES.div_ceil(BLOCK_QUERIES), heads, batch);
        let grid = Grid { blocks, threads: 128, shared_bytes: 0 };
        // SAFETY: `qkv` is (batch * FRAMES, 3 * d_model) and `y` (batch * FRAMES, d_model).
        unsafe {
            let scale = scale(d_model / heads).into();
            let arguments =
                &mut [qkv.block.at(0), y.block.at(0), FRAMES.into(), heads.into(), scale];
            self.gpu.launch(name, grid, arguments)?;
        }
        Ok(y)
    }

    /// Causal attention to earlier tokens; new ones go into the cache.
    pub(super) fn attend_tokens(
        &self,
        qkv: &Buffer,
        past: &mut Past,
        layer: usize,
        rows: &[Row],
    ) -> Result<Buffer> {
        let (heads, d_model) = (past.heads, past.d_model);
        let (name, d_head) = by_width(["self_attention_32", "self_attention_64"], d_model, heads)?;
        let n_tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        if qkv.columns != 3 * d_model || qkv.rows != n_tokens {
            return Err(Error::inference(CONTEXT, "tokens of another shape"));
        }
        let y = self.buffer(n_tokens, d_model)?;
        let plan = past.plan(self, layer, rows)?.at(0);
        // Only now: the plan may have made the storage grow.
        let (storage, (keys, values)) = (past.storage(), past.places(layer));
        let grid = Grid { blocks: (n_tokens, heads, 1), threads: 128, shared_bytes: 0 };
        // SAFETY: the plan names slots of the storage, tokens of `qkv` and lists inside itself.
        unsafe {
            let arguments = &mut [
                qkv.block.at(0),
                storage.at(keys),
                storage.at(values),
                plan,
                y.block.at(0),
                heads.into(),
                scale(d_head).into(),
            ];
            self.gpu.launch(name, grid, arguments)?;
        }
        Ok(y)
    }

    /// Lays the frames' keys and values out for [`Cuda::attend_windows`].
    pub(super) fn split_frames(&self, kv: &Buffer, batch: usize, heads: usize) -> Result<Cross> {
        let d_model = kv.columns / 2;
        let (_, d_head) = by_width([""; 2], d_model, heads)?;
        if kv.rows != batch * FRAMES {
            return Err(Error::inference(CONTEXT, "windows of another length"));
        }
        let window_bytes = 2 * 2 * PADDED_FRAMES * d_model;
        let block = self.memory.take(batch * window_bytes)?;
        let grid = Grid {
            blocks: (PADDED_FRAMES / 32, heads, batch),
            threads: 4 * d_head,
            shared_bytes: 0,
        };
        // SAFETY: `kv` is (batch * FRAMES, 2 * d_model); the block holds keys and values of
        // PADDED_FRAMES frames for each window.
        unsafe {
            let (frames, padded) = (FRAMES.into(), PADDED_FRAMES.into());
            let arguments =
                &mut [kv.block.at(0), block.at(0), frames, padded, heads.into(), d_head.into()];
            self.gpu.launch("split_cross", grid, arguments)?;
        }
        let start = block.address();
        let addresses: Vec<u64> =
            (0..batch).map(|window| start + (window * window_bytes) as u64).collect();
        let table = upload_table(self, &addresses)?;
        Ok(Cross { blocks: vec![block], addresses, table, heads, d_model })
    }

    /// The step's tokens by window, made once for all layers.
    pub(super) fn listeners(&self, rows: &[Row], windows: usize) -> Result<Arc<Listeners>> {
        let rows: Vec<(usize, Range<usize>)> =
            rows.iter().map(|row| (row.window, row.tokens.clone())).collect();
        let mut last = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*last
            && known.rows == rows
            && known.windows == windows
        {
            return Ok(Arc::clone(known));
        }
        let mut tokens: Vec<Vec<usize>> = vec![Vec::new(); windows];
        for (window, own) in &rows {
            match tokens.get_mut(*window) {
                Some(tokens) => tokens.extend(own.clone()),
                None => {
                    let reason = format!("window {window} of {windows}");
                    return Err(Error::inference(CONTEXT, reason));
                }
            }
        }
        let n_tokens = tokens.iter().map(Vec::len).sum();
        let mut words = Vec::new();
        let mut windows_of_tokens = vec![0; n_tokens];
        for (window, tokens) in tokens.iter().enumerate() {
            for group in tokens.chunks(GROUP_TOKENS) {
                let start = words.len();
                words.extend([window as u32, group.len() as u32]);
                words.extend(group.iter().map(|&token| token as u32));
                words.resize(start + GROUP_WORDS, 0);
            }
            for &token in tokens {
                let Some(own) = windows_of_tokens.get_mut(token) else {
                    return Err(Error::inference(CONTEXT, "tokens with gaps between them"));
                };
                *own = window as u32;
            }
        }
        let n_groups = words.len() / GROUP_WORDS;
        words.extend(windows_of_tokens);
        let groups = self.memory.upload_plan(&words)?;
        let made = Arc::new(Listeners { rows, windows, n_tokens, n_groups, groups });
        *last = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Attention of tokens to the frames of their windows.
    pub(super) fn attend_windows(
        &self,
        q: &Buffer,
        cross: &Cross,
        listeners: &Listeners,
    ) -> Result<Buffer> {
        let (heads, d_model) = (cross.heads, cross.d_model);
        let (name, d_head) =
            by_width(["cross_attention_32", "cross_attention_64"], d_model, heads)?;
        self.check_queries(q, cross, listeners)?;
        let y = self.buffer(q.rows, d_model)?;
        if listeners.n_groups == 0 {
            return Ok(y);
        }
        let pairs = listeners.n_groups * heads;
        // Three blocks fit a processor at once.
        let parts = match pairs {
            0..=ARRIVALS => (3 * self.gpu.processors / pairs).clamp(1, MOST_PARTS),
            _ => 1,
        };
        let scratch = self.memory.take(4 * pairs * parts * GROUP_TOKENS * (d_head + 2))?;
        let grid =
            Grid { blocks: (parts, heads, listeners.n_groups), threads: 128, shared_bytes: 0 };
        // SAFETY: groups name windows of the table and rows of `q` and `y`; the scratch memory has
        // a place for each part, and there is a counter for each pair if there are several parts.
        unsafe {
            let arguments = &mut [
                q.block.at(0),
                cross.table.at(0),
                listeners.groups.at(0),
                y.block.at(0),
                scratch.at(0),
                self.arrivals.at(0),
                FRAMES.into(),
                PADDED_FRAMES.into(),
                scale(d_head).into(),
            ];
            self.gpu.launch(name, grid, arguments)?;
        }
        Ok(y)
    }

    /// The probabilities of some heads.
    pub(super) fn collect_weights(
        &self,
        q: &Buffer,
        cross: &Cross,
        listeners: &Listeners,
        collected: &mut CollectedAttention,
    ) -> Result<()> {
        let (heads, d_model) = (cross.heads, cross.d_model);
        let (_, d_head) = by_width([""; 2], d_model, heads)?;
        self.check_queries(q, cross, listeners)?;
        if collected.heads.iter().any(|&head| head >= heads) {
            return Err(Error::inference(CONTEXT, format!("heads {:?}", collected.heads)));
        }
        let count = collected.heads.len() * q.rows * FRAMES;
        if count == 0 {
            collected.weights.clear();
            return Ok(());
        }
        let words: Vec<u32> = collected.heads.iter().map(|&head| head as u32).collect();
        let chosen = self.memory.upload_plan(&words)?;
        let weights = self.memory.take(4 * count)?;
        let blocks = (q.rows, collected.heads.len(), 1);
        let grid = Grid { blocks, threads: 256, shared_bytes: 4 * FRAMES };
        // SAFETY: heads exist, as checked; each token's window is one of the table's.
        unsafe {
            let arguments = &mut [
                q.block.at(0),
                cross.table.at(0),
                listeners.groups.at(4 * listeners.n_groups * GROUP_WORDS),
                chosen.at(0),
                weights.at(0),
                FRAMES.into(),
                PADDED_FRAMES.into(),
                heads.into(),
                d_head.into(),
                scale(d_head).into(),
            ];
            self.gpu.launch("cross_weights", grid, arguments)?;
        }
        collected.weights = self.memory.read_f32(&weights, count)?;
        Ok(())
    }

    fn check_queries(&self, q: &Buffer, cross: &Cross, listeners: &Listeners) -> Result<()> {
        if q.columns == cross.d_model && q.rows == listeners.n_tokens {
            return Ok(());
        }
        Err(Error::inference(CONTEXT, "queries of another shape"))
    }
}

fn upload_table(cuda: &Cuda, addresses: &[u64]) -> Result<Block> {
    let bytes: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
    cuda.memory.upload(&bytes)
}

/// The kernel for heads of 32 or 64 columns, and how many it is.
fn by_width(
    kernels: [&'static str; 2],
    d_model: usize,
    heads: usize,
) -> Result<(&'static str, usize)> {
    match d_model.checked_div(heads) {
        Some(32) => Ok((kernels[0], 32)),
        Some(64) => Ok((kernels[1], 64)),
        _ => {
            let reason = format!("{heads} heads in {d_model} columns: heads have 32 or 64");
            Err(Error::inference(CONTEXT, reason))
        }
    }
}

/// Of scores, for powers of two instead of e.
fn scale(d_head: usize) -> f32 {
    std::f32::consts::LOG2_E / (d_head as f32).sqrt()
}
