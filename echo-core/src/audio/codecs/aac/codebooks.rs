//! Codebooks of AAC-LC as trees, and the edges of its bands.
//!
//! What a codeword stands for is left to the decoder; here it only counts how many bits follow it.

use std::sync::LazyLock;

use super::tables::*;

/// The codebook of scale factors, behind those of spectra 1 to 11.
pub(super) const SCALE_FACTORS: usize = 0;

/// A codebook as a tree: where to go for a 0 and for a 1.
pub(super) struct Codebook {
    nodes: Vec<[Node; 2]>,
    /// Lines of the spectrum in one codeword.
    pub(super) lines: usize,
}

/// What follows a bit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    Inner(u16),
    Leaf(Tail),
    /// No codeword begins like this.
    None,
}

/// What follows a codeword: signs, then magnitudes of 16 and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) sign_bits: u8,
    pub(super) escapes: u8,
}

impl Codebook {
    fn new(table: &Table) -> Self {
        let mut nodes = vec![[Node::None; 2]];
        for (symbol, (code, length)) in table.codes.iter().zip(table.lengths).enumerate() {
            let mut node = 0;
            for bit in (0..*length).rev() {
                let branch = usize::from(*code >> bit & 1 == 1);
                if bit == 0 {
                    nodes[node][branch] = Node::Leaf(table.tail(symbol));
                } else if let Node::Inner(next) = nodes[node][branch] {
                    node = usize::from(next);
                } else {
                    nodes[node][branch] = Node::Inner(nodes.len() as u16);
                    node = nodes.len();
                    nodes.push([Node::None; 2]);
                }
            }
        }
        Self { nodes, lines: table.lines }
    }

    /// The node behind a bit; node 0 is where a codeword begins.
    pub(super) fn step(&self, node: u16, bit: bool) -> Node {
        self.nodes[usize::from(node)][usize::from(bit)]
    }
}

/// All codebooks, by their numbers.
pub(super) static CODEBOOKS: LazyLock<Vec<Codebook>> =
    LazyLock::new(|| TABLES.iter().map(Codebook::new).collect());

/// Widths of the bands of a spectrum at one rate, as their edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bands {
    pub(super) long: &'static [u16],
    pub(super) short: &'static [u16],
}

impl Bands {
    /// Those for a rate: each table serves all rates above a limit.
    pub(super) fn for_rate(sample_rate_hz: u32) -> Self {
        let (long, short) = match sample_rate_hz {
            75_132.. => (LONG_96K, SHORT_64K),
            55_426..75_132 => (LONG_64K, SHORT_64K),
            37_566..55_426 => (LONG_48K, SHORT_48K),
            27_713..37_566 => (LONG_32K, SHORT_48K),
            18_783..27_713 => (LONG_24K, SHORT_24K),
            9_391..18_783 => (LONG_16K, SHORT_16K),
            _ => (LONG_8K, SHORT_8K),
        };
        Self { long, short }
    }
}

/// A codebook as it is printed.
struct Table {
    lines: usize,
    /// Magnitudes of each line, if signs follow the codeword; else 0.
    magnitudes: usize,
    lengths: &'static [u8],
    codes: &'static [u32],
}

impl Table {
    fn tail(&self, symbol: usize) -> Tail {
        let mut tail = Tail { sign_bits: 0, escapes: 0 };
        if self.magnitudes > 0 {
            let mut rest = symbol;
            for _ in 0..self.lines {
                let magnitude = rest % self.magnitudes;
                rest /= self.magnitudes;
                tail.sign_bits += u8::from(magnitude > 0);
                tail.escapes += u8::from(magnitude == 16);
            }
        }
        tail
    }
}

static TABLES: [Table; 12] = [
    Table { lines: 1, magnitudes: 0, lengths: &LENGTHS_0, codes: &CODES_0 },
    Table { lines: 4, magnitudes: 0, lengths: &LENGTHS_1, codes: &CODES_1 },
    Table { lines: 4, magnitudes: 0, lengths: &LENGTHS_2, codes: &CODES_2 },
    Table { lines: 4, magnitudes: 3, lengths: &LENGTHS_3, codes: &CODES_3 },
    Table { lines: 4, magnitudes: 3, lengths: &LENGTHS_4, codes: &CODES_4 },
    Table { lines: 2, magnitudes: 0, lengths: &LENGTHS_5, codes: &CODES_5 },
    Table { lines: 2, magnitudes: 0, lengths: &LENGTHS_6, codes: &CODES_6 },
    Table { lines: 2, magnitudes: 8, lengths: &LENGTHS_7, codes: &CODES_7 },
    Table { lines: 2, magnitudes: 8, lengths: &LENGTHS_8, codes: &CODES_8 },
    Table { lines: 2, magnitudes: 13, lengths: &LENGTHS_9, codes: &CODES_9 },
    Table { lines: 2, magnitudes: 13, lengths: &LENGTHS_10, codes: &CODES_10 },
    Table { lines: 2, magnitudes: 17, lengths: &LENGTHS_11, codes: &CODES_11 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codebooks_leave_no_bits_over() {
        for (number, codebook) in CODEBOOKS.iter().enumerate() {
            let missing = codebook.nodes.iter().flatten().filter(|n| matches!(n, Node::None));
            assert_eq!(missing.count(), 0, "codebook {number}");
        }
    }

    #[test]
    fn escapes_follow_the_largest_magnitude_of_the_last_codebook() {
        assert_eq!(TABLES[11].tail(16 * 17 + 16), Tail { sign_bits: 2, escapes: 2 });
        assert_eq!(TABLES[10].tail(13), Tail { sign_bits: 1, escapes: 0 });
        assert_eq!(TABLES[1].tail(80), Tail { sign_bits: 0, escapes: 0 });
    }
}
