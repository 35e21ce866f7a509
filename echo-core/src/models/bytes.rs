//! Reading little-endian fields from bytes that may end anywhere.

use super::table::Parsed;

/// A place in a byte slice. Every read says what it was after when the bytes end first.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes, which hold `what`.
    pub(crate) fn take(&mut self, count: usize, what: &str) -> Parsed<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            return Err(format!(
                "ends at byte {} within {what}, which needs {count} bytes from byte {}",
                self.bytes.len(),
                self.at
            ));
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Parsed<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Parsed<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &str) -> Parsed<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Parsed<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Parsed<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A `u32` that counts things of at least `item_bytes` bytes each that follow.
    pub(crate) fn count(&mut self, item_bytes: usize, what: &str) -> Parsed<usize> {
        let count = self.u32(what)?;
        self.fits(u64::from(count), item_bytes, what)
    }

    /// A `u64` that counts things of at least `item_bytes` bytes each that follow.
    pub(crate) fn count_u64(&mut self, item_bytes: usize, what: &str) -> Parsed<usize> {
        let count = self.u64(what)?;
        self.fits(count, item_bytes, what)
    }

    fn fits(&self, count: u64, item_bytes: usize, what: &str) -> Parsed<usize> {
        let most = self.remaining() / item_bytes.max(1);
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= most)
            .ok_or_else(|| format!("claims {count} as {what}, but has room for {most}"))
    }
}
