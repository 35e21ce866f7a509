//! Reading numbers from bytes that may be anything: every read can fail, none can panic.

use std::io::{Read, Seek, SeekFrom};

use super::Fault;
use crate::audio::source::Media;

/// A position in a slice of bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::audio) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(in crate::audio) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(in crate::audio) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(in crate::audio) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(in crate::audio) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }

    pub(in crate::audio) fn u16_le(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(in crate::audio) fn u16_be(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(in crate::audio) fn u32_le(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::audio) fn u32_be(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::audio) fn u64_le(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(in crate::audio) fn u64_be(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    pub(in crate::audio) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Media {
    /// The `count` bytes at `offset`, fewer where the source ends.
    pub(in crate::audio) fn read_at(
        &mut self,
        offset: u64,
        count: usize,
    ) -> Result<Vec<u8>, Fault> {
        self.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        // Grows with what is there, not with what a header claims.
        self.take(count as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
