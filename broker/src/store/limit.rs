//! Limits of the port, the same for every backend, and the errors that name them.

use std::fmt;
use thiserror::Error;

/// Longest key in bytes. Names in keys are DNS labels and digests, so 256 leaves room for four of them.
pub const MAX_KEY: usize = 256;

/// Longest value in bytes. Above 4 KiB sled 0.34 may put a page in a file that it never syncs.
pub const MAX_VALUE: usize = 4096;

/// Most keys in a transaction, expected, written and audit together. etcd takes 128 operations by default.
pub const MAX_TXN_KEYS: usize = 100;

/// Most bytes of keys and values in a transaction. etcd takes 1.5 MiB by default. The limits on keys and
/// values imply it, which the compiler confirms below, so nothing measures it at run time.
pub const MAX_TXN_BYTES: usize = 1 << 20;

const _: () = assert!(MAX_TXN_KEYS * (MAX_KEY + MAX_VALUE) <= MAX_TXN_BYTES);

/// Longest audit entry in bytes: as base64, with its links, it fits a value.
pub const MAX_AUDIT_ENTRY: usize = 2560;

/// Most records in the answer to one scan: 4 MiB at the very most.
pub const MAX_SCAN: usize = 1000;

/// Highest revision a backup may claim: a thousand transactions a second for two thousand years, and far
/// enough from the end of `u64` that counting on never wraps.
pub const MAX_REVISION: u64 = 1 << 56;

/// A limit of the port that a caller broke. Nothing was read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A key with no bytes.
    #[error("a store key is empty; name the record")]
    KeyEmpty,
    /// A key over [`MAX_KEY`].
    #[error("store key {key:?} has {} bytes, at most {MAX_KEY} are allowed; use shorter names", .key.len())]
    KeyTooLong {
        /// The key.
        key: String,
    },
    /// A key with a space, a control character or a byte outside ASCII.
    #[error("store key {key:?} is not printable ASCII without spaces; encode the name first")]
    KeyNotPrintable {
        /// The key.
        key: String,
    },
    /// A write to a key that only the store itself writes.
    #[error("store key {key:?} belongs to the audit chain; give the entry to the transaction's audit list")]
    KeyReserved {
        /// The key.
        key: String,
    },
    /// One key twice, where the order would decide.
    #[error("store key {key:?} is written twice; keep the last write only")]
    WrittenTwice {
        /// The key.
        key: String,
    },
    /// A value over [`MAX_VALUE`].
    #[error("the value of store key {key:?} has {length} bytes, at most {MAX_VALUE} are allowed; use a blob")]
    ValueTooLong {
        /// The key.
        key: String,
        /// Bytes of the value.
        length: usize,
    },
    /// More than [`MAX_TXN_KEYS`] keys.
    #[error("a transaction names {count} keys, at most {MAX_TXN_KEYS} are allowed; stage it in chunks")]
    TooManyKeys {
        /// Keys named, audit entries among them.
        count: usize,
    },
    /// An audit entry over [`MAX_AUDIT_ENTRY`].
    #[error("an audit entry has {length} bytes, at most {MAX_AUDIT_ENTRY} are allowed; refer to a blob")]
    AuditTooLong {
        /// Bytes of the entry.
        length: usize,
    },
}

/// A key that keeps the limits.
pub(super) fn bounded_key(key: &str) -> Result<&str, LimitError> {
    if key.is_empty() {
        return Err(LimitError::KeyEmpty);
    }
    bounded_prefix(key)
}

/// A prefix that keeps the limits; unlike a key it may be empty.
pub(super) fn bounded_prefix(prefix: &str) -> Result<&str, LimitError> {
    if prefix.len() > MAX_KEY {
        return Err(LimitError::KeyTooLong { key: prefix.to_owned() });
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LimitError::KeyNotPrintable { key: prefix.to_owned() });
    }
    Ok(prefix)
}

/// A value that keeps the limits.
pub(super) fn bounded_value<'a>(key: &str, value: &'a [u8]) -> Result<&'a [u8], LimitError> {
    if value.len() > MAX_VALUE {
        return Err(LimitError::ValueTooLong { key: key.to_owned(), length: value.len() });
    }
    Ok(value)
}

/// Shows a value by its length: it may be a wrapped key.
pub(super) struct Opaque<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
