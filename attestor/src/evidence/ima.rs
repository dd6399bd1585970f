//! The list of Linux IMA: what the kernel measured since it booted.
//!
//! Promises: it is sent whole or not at all: in the message where that has room for it, otherwise after it in parts, of
//! which a few are in memory at once. Does not promise that the quote confirms it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use policy::budget::MAX_IMA_BYTES;
use proto::MAX_IMA_IN_PARTS;
use proto::v1;
use proto::v1::complete_part::Part;
use tokio::sync::mpsc::Sender;

use crate::durable;

/// Bytes that the fields `ima_log` and `ima_first` take besides the list: two tags of at most two bytes, and
/// two numbers of at most ten.
const FIELDS: usize = 24;

/// Bytes of a part.
const PART: u64 = 64 << 10;

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
    /// The broker takes no list of this length.
    #[error(
        "the IMA list {} has {} bytes and the broker takes at most {MAX_IMA_IN_PARTS}; let the kernel's IMA policy measure \
         less and reboot, or remove ima_log",
        file.display(),
        Length(*length)
    )]
    TooLong {
        /// The file.
        file: PathBuf,
        /// Its length in bytes, counted up to [`MAX_IMA_BYTES`]; none if it is longer.
        length: Option<u64>,
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

/// The list, as it can be sent.
#[derive(Debug)]
pub enum List {
    /// Whole; empty where the kernel has none, which the broker judges.
    InMessage(Vec<u8>),
    /// It has no room in the message.
    InParts(LongList),
}

/// The list of `file`, where a message has `room` bytes for it.
pub(super) fn read(file: &Path, room: u64) -> Result<List, ImaLogError> {
    let unreadable = |source| ImaLogError::Unreadable { file: file.to_owned(), source };
    match durable::read_bounded(file, room) {
        Ok(list) => Ok(List::InMessage(list)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), "there is no IMA list: mount securityfs, or correct ima_log; sending none");
            Ok(List::InMessage(Vec::new()))
        }
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            let length = length(file).map_err(unreadable)?;
            match length.is_some_and(|length| length <= longest()) {
                true => Ok(List::InParts(LongList { file: file.to_owned() })),
                false => Err(ImaLogError::TooLong { file: file.to_owned(), length }),
            }
        }
        Err(source) => Err(unreadable(source)),
    }
}

/// A list that has no room in a message. It is read when it is sent.
#[derive(Debug)]
pub struct LongList {
    file: PathBuf,
}

impl LongList {
    /// The request and the list in parts, through `parts`. It is closed after the last part; an error leaves it open, since
    /// a list that ends early is the list of another device.
    pub fn send(
        self,
        request: v1::CompleteRequest,
        parts: &Sender<v1::CompletePart>,
    ) -> Result<(), ImaLogError> {
        let send = |part| parts.blocking_send(v1::CompletePart { part: Some(part) }).is_ok();
        let unreadable = |source| ImaLogError::Unreadable { file: self.file.clone(), source };
        let mut list = File::open(&self.file).map_err(unreadable)?.take(longest());
        // Whoever does not listen any more has answered already.
        let mut heard = send(Part::Request(request));
        while heard {
            let mut part = Vec::new();
            list.by_ref().take(PART).read_to_end(&mut part).map_err(unreadable)?;
            if part.is_empty() {
                break;
            }
            heard = send(Part::ImaLog(part));
        }
        Ok(())
    }
}

/// The longest list that the broker takes.
fn longest() -> u64 {
    u64::try_from(MAX_IMA_IN_PARTS).unwrap_or(u64::MAX)
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

    fn whole(list: List) -> Vec<u8> {
        match list {
            List::InMessage(list) => list,
            List::InParts(list) => panic!("{list:?}"),
        }
    }

    #[test]
    fn a_list_is_read_or_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ima.bin");
        assert_eq!(whole(read(&file, 8).unwrap()), b"", "no list is no error");
        std::fs::write(&file, b"12345678").unwrap();
        assert_eq!(whole(read(&file, 8).unwrap()), b"12345678");
        assert!(matches!(read(&file, 7).unwrap(), List::InParts(_)));
        File::create(&file).unwrap().set_len(longest() + 1).unwrap();
        let text = read(&file, 7).unwrap_err().to_string();
        assert!(text.contains("has 16777217 bytes and the broker takes at most 16777216"), "{text}");
        assert!(text.contains("measure less") && text.contains("remove ima_log"), "{text}");
        let text = read(dir.path(), 8).unwrap_err().to_string();
        assert!(text.contains("cannot be read") && text.contains("SupplementaryGroups=root"), "{text}");
    }

    #[tokio::test]
    async fn a_long_list_follows_its_request_in_order_and_no_error_looks_like_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ima.bin");
        let bytes: Vec<u8> = (0..PART * 2 + 100).map(|n| (n % 251).try_into().unwrap()).collect();
        std::fs::write(&file, &bytes).unwrap();
        let (sender, mut parts) = tokio::sync::mpsc::channel(1);
        let list = LongList { file: file.clone() };
        let sent = tokio::task::spawn_blocking(move || list.send(CompleteRequest::default(), &sender));
        let mut next = async || parts.recv().await.map(|part| part.part.unwrap());
        assert!(matches!(next().await, Some(Part::Request(_))));
        let mut got = Vec::new();
        while let Some(part) = next().await {
            let Part::ImaLog(part) = part else { panic!("{part:?}") };
            assert!((1..=65536).contains(&part.len()), "{}", part.len());
            got.extend(part);
        }
        assert_eq!(got, bytes);
        sent.await.unwrap().unwrap();

        let (sender, parts) = tokio::sync::mpsc::channel(1);
        let list = LongList { file: dir.path().join("gone") };
        let (sent, sender) =
            tokio::task::spawn_blocking(move || (list.send(CompleteRequest::default(), &sender), sender))
                .await
                .unwrap();
        assert!(sent.unwrap_err().to_string().contains("gone cannot be read"));
        assert!(!sender.is_closed() && !parts.is_closed(), "the broker is not told that this was all");
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
