//! Codewords of unequal length, as a tree.

use super::super::bits::Bits;

/// A codebook: where to go for a 0 and for a 1; below 0 stand the symbols.
pub(super) struct Codebook {
    nodes: Vec<[i32; 2]>,
}

impl Codebook {
    pub(super) fn new(codes: &[u32], lengths: &[u8]) -> Self {
        let mut nodes = vec![[0; 2]];
        for (symbol, (code, length)) in codes.iter().zip(lengths).enumerate() {
            let mut node = 0;
            for bit in (0..*length).rev() {
                let branch = (code >> bit & 1) as usize;
                if bit == 0 {
                    nodes[node][branch] = -1 - symbol as i32;
                } else {
                    if nodes[node][branch] == 0 {
                        nodes[node][branch] = nodes.len() as i32;
                        nodes.push([0; 2]);
                    }
                    node = nodes[node][branch] as usize;
                }
            }
        }
        Self { nodes }
    }

    /// The symbol of the next codeword; `None` if no codeword begins like this.
    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let mut node = 0;
        loop {
            match self.nodes[node][bits.take(1)] {
                0 => return None,
                next @ 1.. => node = next as usize,
                leaf => return Some((-1 - leaf) as usize),
            }
        }
    }
}

/// A codebook of lines: runs of zeros before a level.
pub(super) struct Lines {
    codebook: Codebook,
    /// Zeros and level, by symbol from 2 on.
    runs: Vec<(u16, u16)>,
}

/// What a codeword of lines says.
pub(super) enum Run {
    Line { zeros: usize, level: f32 },
    Escape,
    End,
}

impl Lines {
    pub(super) fn new(codes: &[u32], lengths: &[u8], level_runs: &[u16]) -> Self {
        let levels = (1..).zip(level_runs);
        let runs = levels.flat_map(|(level, count)| (0..*count).map(move |zeros| (zeros, level)));
        Self { codebook: Codebook::new(codes, lengths), runs: runs.collect() }
    }

    pub(super) fn read(&self, bits: &mut Bits<'_>) -> Option<Run> {
        Some(match self.codebook.read(bits)? {
            0 => Run::Escape,
            1 => Run::End,
            symbol => {
                let (zeros, level) = *self.runs.get(symbol - 2)?;
                Run::Line { zeros: usize::from(zeros), level: f32::from(level) }
            }
        })
    }
}
