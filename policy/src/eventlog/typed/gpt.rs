//! The partition table of the boot disk: `UEFI_GPT_DATA` (TCG PC Client Platform Firmware Profile 1.06,
//! clause 10.4.2.5).

use super::guid::Guid;
use super::text;
use crate::reader::{ReadError, Reader};

/// Most partitions of one event: what a table of the usual 16 KiB holds.
pub const MAX_PARTITIONS: usize = 128;
/// Bytes of a partition table header that anything here knows (UEFI 2.10, 5.3.2).
const HEADER: usize = 92;
/// Shortest partition entry (UEFI 2.10, 5.3.3).
const MIN_ENTRY: u32 = 128;
/// Longest partition entry: entries are 128 times a power of two, and nobody writes longer ones.
const MAX_ENTRY: u32 = 4096;
/// Bytes of the name in an entry.
const NAME: usize = 72;

/// A partition table: the used entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The disk.
    pub disk: Guid,
    /// Its used partitions, in their order.
    pub partitions: Vec<Partition>,
}

/// An entry of a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Guid,
    /// The partition itself.
    pub id: Guid,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Attributes.
    pub attributes: u64,
    /// Name, if it is plain text.
    pub name: Option<String>,
}

impl Gpt {
    /// Parses the event's data, whole.
    pub fn parse(data: &[u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(data);
        let mut header = reader.sub(HEADER, "partition table header")?;
        if header.array("partition table signature")? != *b"EFI PART" {
            return Err(ReadError::Invalid { offset: 0, what: "a partition table has another signature" });
        }
        header.take(48, "partition table header")?;
        let disk = Guid(header.array("disk GUID")?);
        header.take(12, "place and number of partition entries")?;
        let entry_len = header.u32_le("length of a partition entry")?;
        if !(MIN_ENTRY..=MAX_ENTRY).contains(&entry_len) {
            let offset = 84;
            return Err(ReadError::Invalid { offset, what: "the length of a partition entry is odd" });
        }
        let offset = reader.offset();
        let count = reader.u64_le("number of partitions")?;
        let count = usize::try_from(count).ok().filter(|count| *count <= MAX_PARTITIONS);
        let too_many = ReadError::Invalid { offset, what: "there are too many partitions" };
        let entry_len = usize::try_from(entry_len).unwrap_or(usize::MAX);
        let mut partitions = Vec::new();
        for _ in 0..count.ok_or(too_many)? {
            partitions.push(Partition::parse(reader.sub(entry_len, "partition entry")?)?);
        }
        reader.finish("partition table")?;
        Ok(Self { disk, partitions })
    }
}

impl Partition {
    fn parse(mut entry: Reader<'_>) -> Result<Self, ReadError> {
        Ok(Self {
            kind: Guid(entry.array("partition type")?),
            id: Guid(entry.array("partition GUID")?),
            first: entry.u64_le("first block")?,
            last: entry.u64_le("last block")?,
            attributes: entry.u64_le("partition attributes")?,
            name: text::utf16(entry.take(NAME, "partition name")?),
        })
    }
}
