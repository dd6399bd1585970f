//! TCG wire form, as far as this room needs it: sized buffers (TPM2B, TPM 2.0 part 2, section 10.4).
//!
//! Parsing of whole structures is the Verifier's business; here bytes are carried, not understood.

/// A TPM2B: big-endian 16-bit size, then the content. TPM structures are far shorter than 64 KiB.
pub(super) fn sized(content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let mut buffer = vec![high, low];
    buffer.extend_from_slice(content);
    buffer
}

/// Splits the TPM2B at the front of `bytes` into its content and what follows it.
pub(super) fn split_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*size).into())
}

/// The content of a TPM2B that fills `bytes` exactly.
pub(super) fn unwrap_sized(bytes: &[u8]) -> Option<&[u8]> {
    split_sized(bytes).and_then(|(content, rest)| rest.is_empty().then_some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sized_buffer_is_read_back() {
        assert_eq!(sized(b"abc"), [0, 3, b'a', b'b', b'c']);
        assert_eq!(unwrap_sized(&sized(b"abc")), Some(b"abc".as_slice()));
    }

    #[test]
    fn short_and_trailing_bytes_are_refused() {
        assert_eq!(unwrap_sized(&[0]), None);
        assert_eq!(unwrap_sized(&[0, 2, 1]), None);
        assert_eq!(unwrap_sized(&[0, 1, 1, 1]), None);
    }
}
