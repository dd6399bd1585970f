//! How the bytes of a blob are kept: what gets smaller by it is packed. The digest is always of the bytes as they were
//! put.

use super::{FetchError, MAX_BLOB};
use lz4_flex::block::{compress_prepend_size, decompress, uncompressed_size};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};
use std::path::Path;

/// How the bytes of a blob lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Form {
    /// As they were put.
    Whole,
    /// Their number in four bytes, least first, then one LZ4 block: a plan unpacks the logs of a whole fleet, and each
    /// attestation packs one.
    Packed,
    /// Deflated (RFC 1951), by an older broker.
    Deflated,
}

/// `bytes` in the form in which they are kept.
pub(in crate::store) fn packed(bytes: Vec<u8>) -> (Form, Vec<u8>) {
    let small = compress_prepend_size(&bytes);
    if small.len() < bytes.len() { (Form::Packed, small) } else { (Form::Whole, bytes) }
}

impl Form {
    /// The bytes that `held` stands for, at most `max`, however many it claims.
    pub(in crate::store) fn unpacked(
        self,
        path: &Path,
        held: Vec<u8>,
        max: usize,
    ) -> Result<Vec<u8>, FetchError> {
        let too_large = || beyond(path, max);
        let altered = || FetchError::Altered { path: path.to_owned() };
        match self {
            Self::Whole => Ok(held),
            Self::Packed => {
                let (length, block) = uncompressed_size(&held).map_err(|_| altered())?;
                if length > max.min(MAX_BLOB) {
                    return Err(too_large());
                }
                decompress(block, length).map_err(|_| altered())
            }
            Self::Deflated => {
                decompress_to_vec_with_limit(&held, max.min(MAX_BLOB)).map_err(|error| match error.status {
                    TINFLStatus::HasMoreOutput => too_large(),
                    _ => altered(),
                })
            }
        }
    }
}

/// What is said of a blob that has more than `max` bytes, or claims to. More than any blob was never put.
pub(in crate::store) fn beyond(path: &Path, max: usize) -> FetchError {
    let path = path.to_owned();
    match max < MAX_BLOB {
        true => FetchError::TooLarge { path, max },
        false => FetchError::Altered { path },
    }
}
