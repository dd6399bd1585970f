//! Cabinets (MS-CAB), the form in which Microsoft publishes the certificates of TPM manufacturers.
//!
//! Promises: every file lies inside its folder, what comes out is bounded whatever the cabinet says, and each
//! folder is inflated once. Read are stored folders and MSZIP, which Microsoft's cabinet is; LZX, Quantum and
//! cabinets in several parts are refused by name.
//!
//! Not promised: that the cabinet is Microsoft's. Its signature is not verified here; who imports it does that
//! first. Block checksums are not compared either: they find damage, not forgery, and a damaged certificate is
//! refused where it is read.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::reader::{ReadError, Reader};

/// Most files in a cabinet: Microsoft's has 2,193.
pub const MAX_CABINET_FILES: u16 = 16_384;
/// Most bytes that a cabinet may unpack to: Microsoft's takes 5 MB.
pub const MAX_CABINET_DATA: usize = 32 * 1024 * 1024;
/// Most folders (units of compression) in a cabinet: Microsoft's has 1.
const MAX_CABINET_FOLDERS: u16 = 64;
/// Most bytes that one block unpacks to (MS-CAB, section 2.4, CFDATA).
const MAX_BLOCK: usize = 32 * 1024;
/// Longest name of a file (MS-CAB, section 2.3, CFFILE).
const MAX_NAME: usize = 256;

/// The first bytes of every cabinet.
const SIGNATURE: &[u8] = b"MSCF";
/// Flags of the header (MS-CAB, section 2.1): another cabinet precedes or follows; reserved fields are there.
const IN_PARTS: u16 = 0x0003;
const RESERVE_PRESENT: u16 = 0x0004;
/// Methods of compression (MS-CAB, section 2.2), in the lower four bits.
const METHOD: u16 = 0x000f;
const STORED: u16 = 0;
const MSZIP: u16 = 1;
/// What each MSZIP block begins with.
const BLOCK_SIGNATURE: &[u8] = b"CK";

/// Why a cabinet cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CabinetError {
    /// The structure is broken or above a bound.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// One of several parts.
    #[error("it is one part of a set of cabinets; unpack the set and give the folder")]
    InParts,
    /// Compressed in a way that is not read here.
    #[error("it is compressed by method {0} (2 is Quantum, 3 is LZX); unpack it and give the folder")]
    Method(u16),
    /// It unpacks to too much.
    #[error("it unpacks to more than {MAX_CABINET_DATA} bytes; unpack it and give the folder")]
    TooMuch,
    /// A block does not unpack to what it says.
    #[error("block {block} of folder {folder} does not unpack; fetch the cabinet again")]
    Block {
        /// Which folder, counted from 1.
        folder: usize,
        /// Which block of it, counted from 1.
        block: usize,
    },
    /// A file outside of the folder it says it is in.
    #[error("its file `{0}` lies outside of what it unpacks to; fetch the cabinet again")]
    Outside(String),
}

/// One file of a cabinet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CabinetFile<'a> {
    /// Its path in the cabinet, with `/` between folders and without control characters.
    pub(super) name: &'a str,
    /// What it holds.
    pub(super) bytes: &'a [u8],
}

/// Whether the bytes are a cabinet's and not a certificate's.
pub(super) fn is_cabinet(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// A cabinet, unpacked.
#[derive(Debug)]
pub(super) struct Cabinet {
    folders: Vec<Vec<u8>>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    folder: usize,
    start: usize,
    end: usize,
}

/// What the header says (MS-CAB, section 2.1).
struct Header {
    files_offset: usize,
    folders: u16,
    files: u16,
    folder_reserve: usize,
    data_reserve: usize,
}

impl Cabinet {
    /// Unpacks a cabinet. Bytes after its end are ignored: a signature stands there.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, CabinetError> {
        let mut reader = Reader::new(bytes);
        let header = Header::parse(&mut reader)?;
        let mut folders = Vec::new();
        let mut left = MAX_CABINET_DATA;
        for number in 1..=usize::from(header.folders) {
            let folder = unpack(bytes, &mut reader, &header, number, left)?;
            left = left.saturating_sub(folder.len());
            folders.push(folder);
        }
        let mut reader = at(bytes, header.files_offset, "list of files")?;
        let mut entries = Vec::new();
        for _ in 0..header.files {
            entries.push(Entry::parse(&mut reader)?);
        }
        let cabinet = Self { folders, entries };
        match cabinet.entries.iter().find(|entry| cabinet.bytes(entry).is_none()) {
            Some(outside) => Err(CabinetError::Outside(outside.name.clone())),
            None => Ok(cabinet),
        }
    }

    /// The files in the order of the cabinet.
    pub(super) fn files(&self) -> impl Iterator<Item = CabinetFile<'_>> {
        self.entries
            .iter()
            .filter_map(|entry| Some(CabinetFile { name: &entry.name, bytes: self.bytes(entry)? }))
    }

    fn bytes(&self, entry: &Entry) -> Option<&[u8]> {
        self.folders.get(entry.folder)?.get(entry.start..entry.end)
    }
}

impl Header {
    fn parse(reader: &mut Reader<'_>) -> Result<Self, CabinetError> {
        if reader.take(SIGNATURE.len(), "signature")? != SIGNATURE {
            return Err(ReadError::Invalid { offset: 0, what: "this is no cabinet" }.into());
        }
        // Reserved, size of the cabinet, reserved.
        reader.take(12, "header")?;
        let files_offset = usize_of(reader.u32_le("offset of the files")?);
        // Reserved, version.
        reader.take(6, "header")?;
        let folders = at_most(reader, MAX_CABINET_FOLDERS, "number of folders")?;
        let files = at_most(reader, MAX_CABINET_FILES, "number of files")?;
        let flags = reader.u16_le("flags")?;
        // Number of the set, place in the set.
        reader.take(4, "header")?;
        if flags & IN_PARTS != 0 {
            return Err(CabinetError::InParts);
        }
        let (mut folder_reserve, mut data_reserve) = (0, 0);
        if flags & RESERVE_PRESENT != 0 {
            let header_reserve = usize::from(reader.u16_le("reserved size")?);
            folder_reserve = usize::from(reader.u8("reserved size")?);
            data_reserve = usize::from(reader.u8("reserved size")?);
            reader.take(header_reserve, "reserved field")?;
        }
        Ok(Self { files_offset, folders, files, folder_reserve, data_reserve })
    }
}

impl Entry {
    /// CFFILE (MS-CAB, section 2.3).
    fn parse(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let size = usize_of(reader.u32_le("size of a file")?);
        let start = usize_of(reader.u32_le("offset of a file")?);
        let folder = usize::from(reader.u16_le("folder of a file")?);
        // Date, time, attributes.
        reader.take(6, "file")?;
        let name = reader.rest().iter().take(MAX_NAME).take_while(|byte| **byte != 0).count();
        let text = String::from_utf8_lossy(reader.take(name, "name of a file")?);
        let offset = reader.offset();
        if reader.u8("name of a file")? != 0 {
            return Err(ReadError::Invalid { offset, what: "the name of a file is longer than 256 bytes" });
        }
        let spelled = |letter: char| match letter {
            '\\' => '/',
            control if control.is_control() => '?',
            other => other,
        };
        Ok(Self { name: text.chars().map(spelled).collect(), folder, start, end: start.saturating_add(size) })
    }
}

/// Reads CFFOLDER (MS-CAB, section 2.2) at the reader and unpacks its blocks, which lie elsewhere.
fn unpack(
    cabinet: &[u8],
    reader: &mut Reader<'_>,
    header: &Header,
    folder: usize,
    limit: usize,
) -> Result<Vec<u8>, CabinetError> {
    let offset = usize_of(reader.u32_le("offset of a folder")?);
    let blocks = usize::from(reader.u16_le("number of blocks")?);
    let method = reader.u16_le("compression")? & METHOD;
    reader.take(header.folder_reserve, "reserved field")?;
    if !matches!(method, STORED | MSZIP) {
        return Err(CabinetError::Method(method));
    }
    let mut data = at(cabinet, offset, "blocks of a folder")?;
    let mut out = Vec::new();
    for block in 1..=blocks {
        data.take(4, "checksum")?;
        let packed = usize::from(data.u16_le("size of a block")?);
        let unpacked = usize::from(data.u16_le("size of a block")?);
        data.take(header.data_reserve, "reserved field")?;
        let packed = data.take(packed, "block")?;
        let broken = CabinetError::Block { folder, block };
        if unpacked > MAX_BLOCK {
            return Err(broken);
        }
        if out.len().saturating_add(unpacked) > limit {
            return Err(CabinetError::TooMuch);
        }
        match method {
            STORED if packed.len() == unpacked => out.extend_from_slice(packed),
            MSZIP => inflate(packed, unpacked, &mut out).ok_or(broken)?,
            _ => return Err(broken),
        }
    }
    Ok(out)
}

/// Appends one MSZIP block: a deflate stream of its own that may refer back to the blocks before.
fn inflate(packed: &[u8], unpacked: usize, out: &mut Vec<u8>) -> Option<()> {
    let stream = packed.strip_prefix(BLOCK_SIGNATURE)?;
    let start = out.len();
    out.resize(start.checked_add(unpacked)?, 0);
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = decompress(&mut DecompressorOxide::new(), stream, out, start, flags);
    (status == TINFLStatus::Done && written == unpacked).then_some(())
}

fn at<'a>(bytes: &'a [u8], offset: usize, what: &'static str) -> Result<Reader<'a>, ReadError> {
    let left = bytes.len();
    let rest = bytes.get(offset..).ok_or(ReadError::Truncated { offset, what, needed: 1, left })?;
    Ok(Reader::within(rest, offset))
}

fn at_most(reader: &mut Reader<'_>, limit: u16, what: &'static str) -> Result<u16, ReadError> {
    let offset = reader.offset();
    let found = reader.u16_le(what)?;
    if found > limit {
        return Err(ReadError::TooLarge { offset, what, found: found.into(), limit: limit.into() });
    }
    Ok(found)
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
