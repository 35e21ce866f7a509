//! Reading the bits of a packet.

/// The bits of a packet, most significant first; behind the end there are zeros.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn remaining(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.position)
    }

    pub(super) fn peek(&self, count: usize) -> usize {
        (self.position..self.position + count).fold(0, |value, at| {
            let byte = self.bytes.get(at / 8).copied().unwrap_or(0);
            value << 1 | usize::from(byte >> (7 - at % 8) & 1)
        })
    }

    pub(super) fn take(&mut self, count: usize) -> usize {
        let value = self.peek(count);
        self.position += count;
        value
    }

    /// Goes on to the next whole byte.
    pub(super) fn align(&mut self) {
        self.position = self.position.next_multiple_of(8);
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.position += count;
    }
}
