//! A bounded reader over hostile bytes.
//!
//! It never allocates, never panics, and every error names the offset at which the bytes stopped
//! making sense. A structure is read whole: [`Reader::finish`] refuses what is left over.

/// Why bytes could not be read: what was wanted, where, and what was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes end before the field does.
    #[error("offset {offset}: {what} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Offset of the field from the start of the outermost buffer.
        offset: usize,
        /// The field.
        what: &'static str,
        /// Its length in bytes.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length or count is above its bound.
    #[error("offset {offset}: {what} is {found}, at most {limit} is accepted")]
    TooLarge {
        /// Offset of the field.
        offset: usize,
        /// The field.
        what: &'static str,
        /// What the bytes say.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// A field has a value that its specification does not allow.
    #[error("offset {offset}: {what}")]
    Invalid {
        /// Offset of the field.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Bytes are left after the structure.
    #[error("offset {offset}: {left} bytes are left after {what}")]
    TrailingBytes {
        /// Offset of the first surplus byte.
        offset: usize,
        /// The structure.
        what: &'static str,
        /// How many.
        left: usize,
    },
}

/// A cursor over a byte slice that remembers its offset in the outermost buffer.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`, which has offset 0.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// Starts at the first byte of a structure that is at most `limit` bytes long.
    pub fn at_most(bytes: &'a [u8], limit: usize, what: &'static str) -> Result<Self, ReadError> {
        if bytes.len() <= limit {
            return Ok(Self::new(bytes));
        }
        let number = |n| u64::try_from(n).unwrap_or(u64::MAX);
        Err(ReadError::TooLarge { offset: 0, what, found: number(bytes.len()), limit: number(limit) })
    }

    /// Starts at the first byte of `bytes`, which lies at `offset` of the outermost buffer.
    #[must_use]
    pub const fn within(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    /// Offset of the next byte from the start of the outermost buffer.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when every byte was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], ReadError> {
        let Some((head, tail)) = self.rest.split_at_checked(n) else {
            return Err(ReadError::Truncated { offset: self.offset, what, needed: n, left: self.rest.len() });
        };
        self.rest = tail;
        self.offset = self.offset.saturating_add(n);
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        let offset = self.offset;
        let bytes = self.take(N, what)?;
        bytes.try_into().map_err(|_| ReadError::Invalid { offset, what })
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ReadError> {
        self.array(what).map(u8::from_be_bytes)
    }

    /// Two bytes, most significant first (TPM structures).
    pub fn u16_be(&mut self, what: &'static str) -> Result<u16, ReadError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Four bytes, most significant first.
    pub fn u32_be(&mut self, what: &'static str) -> Result<u32, ReadError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Eight bytes, most significant first.
    pub fn u64_be(&mut self, what: &'static str) -> Result<u64, ReadError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Two bytes, least significant first (firmware event logs).
    pub fn u16_le(&mut self, what: &'static str) -> Result<u16, ReadError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes, least significant first.
    pub fn u32_le(&mut self, what: &'static str) -> Result<u32, ReadError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes, least significant first.
    pub fn u64_le(&mut self, what: &'static str) -> Result<u64, ReadError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A field of `len` bytes where `len` was read from the bytes and is bounded by `limit`.
    pub fn bounded(&mut self, len: u64, limit: usize, what: &'static str) -> Result<&'a [u8], ReadError> {
        match usize::try_from(len) {
            Ok(n) if n <= limit => self.take(n, what),
            _ => Err(ReadError::TooLarge {
                offset: self.offset,
                what,
                found: len,
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            }),
        }
    }

    /// A TPM2B: a 16-bit length and that many bytes, at most `limit` (TPM 2.0 Part 2, 10.4).
    pub fn tpm2b(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], ReadError> {
        let len = self.u16_be(what)?;
        self.bounded(u64::from(len), limit, what)
    }

    /// A reader over the next `n` bytes alone, with offsets that go on counting.
    pub fn sub(&mut self, n: usize, what: &'static str) -> Result<Self, ReadError> {
        let offset = self.offset;
        let rest = self.take(n, what)?;
        Ok(Self { rest, offset })
    }

    /// Ends the structure; refuses surplus bytes.
    pub fn finish(self, what: &'static str) -> Result<(), ReadError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(ReadError::TrailingBytes { offset: self.offset, what, left: self.rest.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_above_its_bound_is_refused_before_it_is_read() {
        let mut reader = Reader::new(&[0xff, 0xff, 1]);
        let error = reader.tpm2b(64, "nonce").unwrap_err();
        assert_eq!(error, ReadError::TooLarge { offset: 2, what: "nonce", found: 0xffff, limit: 64 });
    }

    #[test]
    fn a_cut_names_the_offset() {
        let mut reader = Reader::new(&[0, 4, 1]);
        let error = reader.tpm2b(64, "nonce").unwrap_err();
        assert_eq!(error.to_string(), "offset 2: nonce needs 4 bytes, 1 are left");
    }

    #[test]
    fn a_structure_above_its_bound_is_refused_before_it_is_read() {
        let error = Reader::at_most(&[0; 3], 2, "pair").unwrap_err();
        assert_eq!(error, ReadError::TooLarge { offset: 0, what: "pair", found: 3, limit: 2 });
    }

    #[test]
    fn surplus_bytes_are_refused() {
        let mut reader = Reader::new(&[1, 2]);
        reader.u8("a").unwrap();
        let error = reader.finish("pair").unwrap_err();
        assert_eq!(error, ReadError::TrailingBytes { offset: 1, what: "pair", left: 1 });
    }
}
