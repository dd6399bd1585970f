//! The list of Linux IMA: what the kernel measured since it booted.
//!
//! Promises: it is read whole or not at all, and leaves room for everything else in the message. Does not
//! promise that the quote confirms it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use policy::budget::MAX_IMA_BYTES;

use crate::durable;

/// Bytes that the fields `ima_log` and `ima_first` take besides the list: two tags of at most two bytes, and
/// two numbers of at most ten.
const FIELDS: usize = 24;

/// The IMA list cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ImaLogError {
    /// The file cannot be read.
    #[error(
        "the IMA list {} cannot be read: {source}; let the attestor's user read it (SupplementaryGroups=root in its \
         unit), or remove ima_log",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The list does not fit into a message.
    #[error(
        "the IMA list {} has {} bytes and only {room} are left in a message to the broker; let the kernel's IMA policy \
         measure less and reboot, or remove ima_log",
        file.display(),
        Length(*length)
    )]
    TooLong {
        /// The file.
        file: PathBuf,
        /// Its length in bytes, counted up to [`MAX_IMA_BYTES`]; none if it is longer.
        length: Option<u64>,
        /// Bytes that are left for it.
        room: u64,
    },
}

struct Length(Option<u64>);

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(length) => write!(f, "{length}"),
            None => write!(f, "more than {MAX_IMA_BYTES}"),
        }
    }
}

/// Bytes that a message leaves for the list, when all else in it takes `taken`.
pub(super) fn room(taken: usize) -> u64 {
    let room = proto::MAX_REQUEST.saturating_sub(taken).saturating_sub(FIELDS);
    u64::try_from(room).unwrap_or(u64::MAX)
}

/// The whole list; empty where the kernel has none, which the broker judges.
pub(super) fn read(file: &Path, room: u64) -> Result<Vec<u8>, ImaLogError> {
    let unreadable = |source| ImaLogError::Unreadable { file: file.to_owned(), source };
    match durable::read_bounded(file, room) {
        Ok(list) => Ok(list),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), "there is no IMA list: mount securityfs, or correct ima_log; sending none");
            Ok(Vec::new())
        }
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            let length = length(file).map_err(unreadable)?;
            Err(ImaLogError::TooLong { file: file.to_owned(), length, room })
        }
        Err(source) => Err(unreadable(source)),
    }
}

/// Counted by reading: securityfs gives its files no size.
fn length(file: &Path) -> io::Result<Option<u64>> {
    let bound = u64::try_from(MAX_IMA_BYTES).unwrap_or(u64::MAX);
    let length = io::copy(&mut File::open(file)?.take(bound.saturating_add(1)), &mut io::sink())?;
    Ok((length <= bound).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use proto::v1::CompleteRequest;

    #[test]
    fn a_list_that_does_not_fit_is_refused_with_its_size_and_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ima.bin");
        assert_eq!(read(&file, 8).unwrap(), b"", "no list is no error");
        std::fs::write(&file, b"12345678").unwrap();
        assert_eq!(read(&file, 8).unwrap(), b"12345678");
        let text = read(&file, 7).unwrap_err().to_string();
        assert!(text.contains("has 8 bytes and only 7 are left"), "{text}");
        assert!(text.contains("measure less") && text.contains("remove ima_log"), "{text}");
        let text = read(dir.path(), 8).unwrap_err().to_string();
        assert!(text.contains("cannot be read") && text.contains("SupplementaryGroups=root"), "{text}");
    }

    #[test]
    fn the_fullest_message_is_one_that_the_broker_reads() {
        let mut request = CompleteRequest { firmware_log: vec![1; 1 << 20], ..CompleteRequest::default() };
        let room = usize::try_from(room(request.encoded_len())).unwrap();
        (request.ima_log, request.ima_first) = (vec![1; room], u64::MAX);
        let left = proto::MAX_REQUEST - request.encoded_len();
        assert!(left < FIELDS, "{left} bytes are left");
    }
}
