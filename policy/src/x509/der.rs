//! A cursor over DER (X.690): tag, length, contents, and the raw bytes of each element.
//!
//! Lengths are definite and minimal, tags are one byte. Contents are not judged here: the order of a SET or
//! the sign of a serial number is no concern of a signature check. Nothing is allocated while reading.

use crate::reader::{ReadError, Reader};

/// `BOOLEAN`
pub const BOOLEAN: u8 = 0x01;
/// `INTEGER`
pub const INTEGER: u8 = 0x02;
/// `BIT STRING`
pub const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`
pub const OCTET_STRING: u8 = 0x04;
/// `NULL`
pub const NULL: u8 = 0x05;
/// `OBJECT IDENTIFIER`
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// `UTCTime`
pub const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`
pub const GENERALIZED_TIME: u8 = 0x18;
/// `SEQUENCE`, `SEQUENCE OF`
pub const SEQUENCE: u8 = 0x30;
/// `SET`, `SET OF`
pub const SET: u8 = 0x31;

/// Why bytes are not the DER that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// The bytes end too early, go on too long, or hold a value that is not allowed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another kind of element than the structure has at this place.
    #[error("offset {offset}: {what} has tag {found:#04x}, expected {expected:#04x}")]
    Tag {
        /// Offset of the tag.
        offset: usize,
        /// The field.
        what: &'static str,
        /// The tag that is there.
        found: u8,
        /// The tag that belongs there.
        expected: u8,
    },
}

/// One element: its tag, its contents, and all its bytes.
#[derive(Debug, Clone)]
pub struct Element<'a> {
    tag: u8,
    raw: &'a [u8],
    contents: Reader<'a>,
}

impl<'a> Element<'a> {
    /// The identifier octet.
    #[must_use]
    pub const fn tag(&self) -> u8 {
        self.tag
    }

    /// Tag, length and contents, as received.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The contents alone.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.contents.rest()
    }

    /// Offset of the contents from the start of the outermost buffer.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.contents.offset()
    }

    /// A cursor over the elements inside.
    #[must_use]
    pub fn inside(&self) -> Der<'a> {
        Der(self.contents.clone())
    }

    /// An error about the value of this element.
    #[must_use]
    pub const fn invalid(&self, what: &'static str) -> DerError {
        DerError::Read(ReadError::Invalid { offset: self.offset(), what })
    }

    /// The magnitude of a non-negative `INTEGER`, without leading zeros; zero is empty.
    pub fn magnitude(&self) -> Result<&'a [u8], DerError> {
        match self.bytes() {
            [] => Err(self.invalid("an INTEGER has no contents")),
            [first, ..] if *first >= 0x80 => Err(self.invalid("an INTEGER is negative")),
            bytes => Ok(trimmed(bytes)),
        }
    }

    /// A small non-negative `INTEGER`.
    pub fn number(&self) -> Result<u32, DerError> {
        let bytes = self.magnitude()?;
        if bytes.len() > 4 {
            return Err(self.invalid("an INTEGER is larger than 32 bits"));
        }
        Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
    }

    /// The octets of a `BIT STRING` that is made of whole octets.
    pub fn octets(&self) -> Result<&'a [u8], DerError> {
        match self.bytes() {
            [0, octets @ ..] => Ok(octets),
            _ => Err(self.invalid("a BIT STRING does not end at an octet")),
        }
    }
}

/// `bytes` without leading zero octets.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// A cursor over a row of elements.
#[derive(Debug, Clone)]
pub struct Der<'a>(Reader<'a>);

impl<'a> Der<'a> {
    /// Starts at the first byte of `bytes`, which has offset 0.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// True when every element was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0.rest()
    }

    /// The next element, whatever its tag is.
    pub fn any(&mut self, what: &'static str) -> Result<Element<'a>, DerError> {
        let mut start = self.0.clone();
        let tag = self.0.u8(what)?;
        if tag & 0x1f == 0x1f {
            let offset = start.offset();
            return Err(
                ReadError::Invalid { offset, what: "a tag number above 30 is in no certificate" }.into()
            );
        }
        let length = self.length(what)?;
        let contents = self.0.sub(length, what)?;
        let raw = start.take(self.0.offset().saturating_sub(start.offset()), what)?;
        Ok(Element { tag, raw, contents })
    }

    /// The next element, which has tag `tag`.
    pub fn expect(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, DerError> {
        let offset = self.0.offset();
        let element = self.any(what)?;
        if element.tag != tag {
            return Err(DerError::Tag { offset, what, found: element.tag, expected: tag });
        }
        Ok(element)
    }

    /// The next element if it has tag `tag`.
    pub fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<Element<'a>>, DerError> {
        if self.0.rest().first() != Some(&tag) {
            return Ok(None);
        }
        self.any(what).map(Some)
    }

    /// Ends the structure; refuses surplus bytes.
    pub fn finish(self, what: &'static str) -> Result<(), DerError> {
        Ok(self.0.finish(what)?)
    }

    /// A length (X.690, 8.1.3 and 10.1): definite, minimal, at most three octets long.
    fn length(&mut self, what: &'static str) -> Result<usize, DerError> {
        let offset = self.0.offset();
        let refuse = |what| Err(DerError::Read(ReadError::Invalid { offset, what }));
        let first = self.0.u8(what)?;
        let octets = match first {
            0..=0x7f => return Ok(usize::from(first)),
            0x80 => return refuse("a length is indefinite, which is not DER"),
            0x81..=0x83 => self.0.take(usize::from(first & 0x7f), what)?,
            _ => return refuse("a length takes more than three octets"),
        };
        let length = octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet));
        let minimal = if octets.len() == 1 { length >= 0x80 } else { octets.first() != Some(&0) };
        if minimal { Ok(length) } else { refuse("a length is not minimal, which is not DER") }
    }
}

/// The DER encoding of an element with these contents; for lengths up to 65,535, far above any key.
#[must_use]
pub fn encode(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let [.., high, low] = length.to_be_bytes();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    for part in contents {
        out.extend_from_slice(part);
    }
    out
}

/// The DER encoding of a non-negative `INTEGER` with this magnitude.
#[must_use]
pub fn encode_unsigned(magnitude: &[u8]) -> Vec<u8> {
    let digits = trimmed(magnitude);
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    encode(INTEGER, &[sign, digits])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        Der::new(bytes).any("it").unwrap_err().to_string()
    }

    #[test]
    fn lengths_that_are_not_der_are_refused() {
        assert_eq!(refusal(&[0x30, 0x80, 0, 0]), "offset 1: a length is indefinite, which is not DER");
        assert_eq!(refusal(&[0x30, 0x81, 0x01, 0]), "offset 1: a length is not minimal, which is not DER");
        assert_eq!(refusal(&[0x30, 0x82, 0x00, 0xff]), "offset 1: a length is not minimal, which is not DER");
        assert_eq!(
            refusal(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
            "offset 1: a length takes more than three octets"
        );
        assert_eq!(refusal(&[0x30, 0x83, 0xff, 0xff, 0xff]), "offset 5: it needs 16777215 bytes, 0 are left");
        assert_eq!(refusal(&[0x1f, 0x20, 0]), "offset 0: a tag number above 30 is in no certificate");
    }

    #[test]
    fn what_is_encoded_is_read() {
        for length in [0_usize, 1, 0x7f, 0x80, 0xff, 0x100, 0x1234] {
            let contents = vec![7; length];
            let bytes = encode(OCTET_STRING, &[&contents]);
            let mut der = Der::new(&bytes);
            let element = der.expect(OCTET_STRING, "it").unwrap();
            assert_eq!((element.bytes(), element.raw()), (&*contents, &*bytes));
            der.finish("it").unwrap();
        }
    }

    #[test]
    fn integers_are_minimal() {
        assert_eq!(encode_unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(encode_unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(encode_unsigned(&[]), [2, 1, 0]);
    }
}
