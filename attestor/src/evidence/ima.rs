//! The list of Linux IMA: what the kernel measured since it booted.
//!
//! Promises: it is sent whole, without the beginning that the broker has, or not at all: in the message where that has room
//! for it, otherwise after it in parts, of which a few are in memory at once. A beginning is left out only of a list that
//! has it to the byte. Does not promise that the quote confirms it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use policy::budget::MAX_IMA_BYTES;
use policy::digest::Digest;
use proto::MAX_IMA_IN_PARTS;
use proto::v1;
use proto::v1::complete_part::Part;
use tokio::sync::mpsc::Sender;

use crate::durable;

/// Bytes that the fields `ima_log`, `ima_first` and `ima_before` take besides the list: five tags of at most two bytes, five
/// numbers of at most ten, and a digest.
const FIELDS: usize = 92;

/// The shortest beginning that is left out: to put a shorter one before the rest costs the broker more than to get it again.
const WORTHWHILE: u64 = 64 << 10;

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

/// The first bytes of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    length: u64,
    digest: Digest,
}

impl Beginning {
    /// All of `list`.
    fn of(list: &[u8]) -> Self {
        let mut bytes = Hashed::new();
        bytes.add(list);
        bytes.so_far()
    }

    /// As it is sent.
    fn to_wire(self) -> v1::LogBeginning {
        v1::LogBeginning { length: self.length, digest: self.digest.0.to_vec() }
    }
}

/// The list, as it can be sent.
#[derive(Debug)]
pub enum List {
    /// Whole; empty where the kernel has none, which the broker judges.
    InMessage(Vec<u8>),
    /// What follows the beginning that the broker has.
    Rest {
        /// That beginning.
        before: Beginning,
        /// Its rest.
        rest: Vec<u8>,
        /// Both.
        whole: Beginning,
    },
    /// It has no room in the message.
    InParts(LongList),
}

impl List {
    /// Puts into `request` what the message has of the list, and gives what follows the message, or else all that the broker
    /// has once it took it.
    pub fn put_into(self, request: &mut v1::CompleteRequest) -> Result<Beginning, LongList> {
        match self {
            Self::InMessage(list) => {
                let whole = Beginning::of(&list);
                request.ima_log = list;
                Ok(whole)
            }
            Self::Rest { before, rest, whole } => {
                (request.ima_log, request.ima_before) = (rest, Some(before.to_wire()));
                Ok(whole)
            }
            Self::InParts(list) => Err(list),
        }
    }
}

/// The list of `file`, where a message has `room` bytes for it, and the broker has `known` of it.
pub(super) fn read(file: &Path, room: u64, known: Option<Beginning>) -> Result<List, ImaLogError> {
    let unreadable = |source| ImaLogError::Unreadable { file: file.to_owned(), source };
    if let Some(before) = known.filter(|known| known.length >= WORTHWHILE)
        && let Ok(list) = File::open(file)
        && let Some((rest, whole)) = after(before, list, room).map_err(unreadable)?
    {
        return Ok(List::Rest { before, rest, whole });
    }
    whole(file, room)
}

/// What follows `before` in `list`, and both; None if it does not begin so, or the rest or the whole is too long.
fn after(before: Beginning, list: impl Read, room: u64) -> io::Result<Option<(Vec<u8>, Beginning)>> {
    let mut hashed = Hashed::new();
    let mut beginning = list.take(before.length);
    io::copy(&mut beginning, &mut hashed)?;
    if hashed.so_far() != before {
        return Ok(None);
    }
    let mut rest = Vec::new();
    beginning.into_inner().take(room.saturating_add(1)).read_to_end(&mut rest)?;
    hashed.add(&rest);
    let whole = hashed.so_far();
    let fits = whole.length.saturating_sub(before.length) <= room && whole.length <= longest();
    Ok(fits.then_some((rest, whole)))
}

/// Bytes that passed.
struct Hashed {
    digest: Context,
    length: u64,
}

impl Hashed {
    fn new() -> Self {
        Self { digest: Context::new(&SHA256), length: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    fn so_far(&self) -> Beginning {
        let mut digest = [0; 32];
        digest.iter_mut().zip(self.digest.clone().finish().as_ref()).for_each(|(to, from)| *to = *from);
        Beginning { length: self.length, digest: Digest(digest) }
    }
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The list of `file`, where a message has `room` bytes for it.
fn whole(file: &Path, room: u64) -> Result<List, ImaLogError> {
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
    /// The request and the list in parts, through `parts`, and what was sent of it. It is closed after the last part; an error
    /// leaves it open, since a list that ends early is the list of another device.
    pub fn send(
        self,
        request: v1::CompleteRequest,
        parts: &Sender<v1::CompletePart>,
    ) -> Result<Beginning, ImaLogError> {
        let send = |part| parts.blocking_send(v1::CompletePart { part: Some(part) }).is_ok();
        let unreadable = |source| ImaLogError::Unreadable { file: self.file.clone(), source };
        let mut list = File::open(&self.file).map_err(unreadable)?.take(longest());
        let mut sent = Hashed::new();
        // Whoever does not listen any more has answered already.
        let mut heard = send(Part::Request(request));
        while heard {
            let mut part = Vec::new();
            list.by_ref().take(PART).read_to_end(&mut part).map_err(unreadable)?;
            if part.is_empty() {
                break;
            }
            sent.add(&part);
            heard = send(Part::ImaLog(part));
        }
        Ok(sent.so_far())
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
            list => panic!("{list:?}"),
        }
    }

    /// What is sent of `list` where the broker has `known`, and a message has `room` bytes.
    fn sent(list: &[u8], known: Beginning, room: u64) -> List {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ima.bin");
        std::fs::write(&file, list).unwrap();
        read(&file, room, Some(known)).unwrap()
    }

    #[test]
    fn what_the_broker_has_is_left_out_of_a_list_that_begins_with_it_and_of_no_other() {
        let known = vec![1; usize::try_from(WORTHWHILE).unwrap()];
        let grown = [&known[..], b"rest"].concat();
        let other = [b"other", &grown[..]].concat();
        let of = Beginning::of(&known);
        let room = u64::try_from(grown.len()).unwrap();
        for (list, follows) in [(&grown, &b"rest"[..]), (&known, b"")] {
            let mut request = CompleteRequest::default();
            let whole = sent(list, of, room).put_into(&mut request).unwrap();
            assert_eq!((request.ima_log.as_slice(), request.ima_before), (follows, Some(of.to_wire())));
            assert_eq!(whole, Beginning::of(list));
        }
        assert!(matches!(sent(&grown, of, 4), List::Rest { .. }));
        assert!(matches!(sent(&grown, of, 3), List::InParts(_)), "the rest has no room");
        assert_eq!(whole(sent(&other, of, 2 * room)), other, "another boot");
        assert_eq!(whole(sent(&known[1..], of, room)), &known[1..], "it never gets shorter");
        let short = Beginning::of(&known[1..]);
        assert_eq!(whole(sent(&grown, short, room)), grown, "it is not worthwhile");
        let long = [vec![1; MAX_IMA_IN_PARTS - 3], b"rest".to_vec()].concat();
        let known = Beginning::of(&long[..long.len() - 4]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("long"), &long).unwrap();
        let text = read(&dir.path().join("long"), room, Some(known)).unwrap_err().to_string();
        assert!(text.contains("has 16777217 bytes"), "{text}");
    }

    #[test]
    fn a_list_is_read_or_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ima.bin");
        assert_eq!(whole(read(&file, 8, None).unwrap()), b"", "no list is no error");
        std::fs::write(&file, b"12345678").unwrap();
        assert_eq!(whole(read(&file, 8, None).unwrap()), b"12345678");
        assert!(matches!(read(&file, 7, None).unwrap(), List::InParts(_)));
        File::create(&file).unwrap().set_len(longest() + 1).unwrap();
        let text = read(&file, 7, None).unwrap_err().to_string();
        assert!(text.contains("has 16777217 bytes and the broker takes at most 16777216"), "{text}");
        assert!(text.contains("measure less") && text.contains("remove ima_log"), "{text}");
        let text = read(dir.path(), 8, None).unwrap_err().to_string();
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
        assert_eq!(sent.await.unwrap().unwrap(), Beginning::of(&bytes));

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
        request.ima_before = Some(v1::LogBeginning { length: u64::MAX, digest: vec![1; 32] });
        let left = proto::MAX_REQUEST - request.encoded_len();
        assert!(left < FIELDS, "{left} bytes are left");
    }
}
