//! PE/COFF images, and their Authenticode hash: the identity by which firmware measures what it starts.
//!
//! Sources: Microsoft PE Format; Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image
//! Hash"; UEFI 2.10, 32.5.2.1; TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5 (`EV_EFI_BOOT_SERVICES_APPLICATION`).
//!
//! Firmware trusts nothing of an image either, and the images come from a build that may be broken: every offset is
//! added checked and lies inside the file, or the image is refused. Not read: TE images, and 16-bit programs.

use std::borrow::Cow;

use crate::reader::{ReadError, Reader};
use crate::tpm::alg::{HashAlg, HashValue};

/// Longest image in bytes. A unified kernel image with a whole root file system in its initrd has some hundred
/// million; the file is read whole.
pub const MAX_PE_BYTES: usize = 1024 * 1024 * 1024;
/// Most sections: systemd takes 256 profiles, each with a few sections, from images that have some dozen in practice.
pub const MAX_SECTIONS: u16 = 1024;
/// Most zeros that memory holds behind the bytes of a section in the file. Sections that are measured have none, but
/// for what a linker rounds up to.
pub const MAX_ZEROS: usize = 1024 * 1024;
/// Signed images are padded to this, as the table of certificates begins at such an offset.
const ALIGNMENT: usize = 8;

const DOS_MAGIC: &[u8] = b"MZ";
const PE_OFFSET_AT: usize = 0x3c;
const PE_MAGIC: &[u8] = b"PE\0\0";
const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
/// Offset of the checksum in both optional headers.
const CHECKSUM_AT: usize = 64;
const CHECKSUM_LEN: usize = 4;
/// Place of the table of certificates among the data directories, and the length of each entry.
const CERTIFICATES: u32 = 4;
const DIRECTORY_LEN: usize = 8;
const SECTION_HEADER_LEN: usize = 40;

/// An image cannot be hashed as firmware would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// The file is cut off or a field in it cannot be.
    #[error("the file is no whole PE image: {0}")]
    Read(#[from] ReadError),
    /// Another kind of file.
    #[error("the file is no PE image: {0}")]
    NotPe(&'static str),
    /// The table of certificates is not the end of the file, where firmware takes it to be.
    #[error(
        "the signatures are not the end of the file, so firmware and signing tools hash it differently; sign it again"
    )]
    Certificates,
    /// Sections take more bytes than the file has, so they overlap.
    #[error("the sections overlap; build the image again")]
    Overlap,
    /// A section is far longer in memory than in the file.
    #[error("section {0} is longer in memory than in the file; build the image again")]
    Zeros(String),
}

/// A section of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    name: [u8; 8],
    in_memory: usize,
    in_file: &'a [u8],
    at: usize,
}

impl<'a> Section<'a> {
    /// Its name without the zeros that fill it up.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(self.name.get(..end).unwrap_or_default())
    }

    /// Whether memory holds nothing of it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.in_memory == 0
    }

    /// What memory holds of it once it is loaded: without what only rounds it up in the file, and with the zeros that
    /// the file leaves out.
    pub fn content(&self) -> Result<Cow<'a, [u8]>, PeError> {
        let Some(zeros) = self.in_memory.checked_sub(self.in_file.len()) else {
            return Ok(Cow::Borrowed(self.in_file.get(..self.in_memory).unwrap_or(self.in_file)));
        };
        match zeros {
            0 => Ok(Cow::Borrowed(self.in_file)),
            1..=MAX_ZEROS => {
                let mut content = self.in_file.to_vec();
                content.resize(self.in_memory, 0);
                Ok(Cow::Owned(content))
            }
            _ => Err(PeError::Zeros(self.name().into_owned())),
        }
    }
}

/// A PE image whose parts lie inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pe<'a> {
    /// What is hashed, in order: the headers without checksum and certificate entry, the sections by their place in
    /// the file, and what follows them without the certificates.
    hashed: Vec<&'a [u8]>,
    sections: Vec<Section<'a>>,
    signed: bool,
    len: usize,
}

/// What the optional header says, with offsets from the start of the file.
struct Optional {
    checksum: usize,
    headers_len: usize,
    /// Where the entry of the certificates is, if there is one, and what it says: offset and length.
    certificates: Option<(usize, usize, usize)>,
}

impl<'a> Pe<'a> {
    /// Reads an image, whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        let (optional, sections) = headers(bytes)?;
        let certificates_len = certificates_len(&optional, bytes.len())?;
        let mut hashed = hashed_headers(bytes, &optional)?;
        let mut by_place: Vec<&Section<'_>> = sections.iter().filter(|s| !s.in_file.is_empty()).collect();
        by_place.sort_by_key(|section| section.at);
        let mut sum = optional.headers_len;
        for section in by_place {
            sum = sum.checked_add(section.in_file.len()).ok_or(PeError::Overlap)?;
            hashed.push(section.in_file);
        }
        // The specification counts what was hashed and goes on there, gaps or not; so do firmware and signing tools.
        let end = bytes.len().checked_sub(certificates_len).ok_or(PeError::Certificates)?;
        if sum > end {
            return Err(PeError::Overlap);
        }
        hashed.push(bytes.get(sum..end).unwrap_or_default());
        Ok(Self { hashed, sections, signed: certificates_len > 0, len: bytes.len() })
    }

    /// The Authenticode hash of the image as it is: what firmware measures when it starts it.
    #[must_use]
    pub fn authenticode(&self, alg: HashAlg) -> HashValue {
        alg.hash(&self.hashed)
    }

    /// The hash that the image has once it is signed, where that is another one: signing fills an image up to eight
    /// bytes.
    #[must_use]
    pub fn authenticode_once_signed(&self, alg: HashAlg) -> Option<HashValue> {
        let surplus = self.len.checked_rem(ALIGNMENT).filter(|surplus| *surplus > 0 && !self.signed)?;
        let zeros = [0; ALIGNMENT];
        let padding = zeros.get(surplus..)?;
        let parts: Vec<&[u8]> = self.hashed.iter().copied().chain([padding]).collect();
        Some(alg.hash(&parts))
    }

    /// Whether it carries signatures. Nothing here verifies them.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.signed
    }

    /// The sections, in the order of their table.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }
}

fn headers(bytes: &[u8]) -> Result<(Optional, Vec<Section<'_>>), PeError> {
    let mut dos = Reader::at_most(bytes, MAX_PE_BYTES, "image")?;
    if dos.take(DOS_MAGIC.len(), "DOS header")? != DOS_MAGIC {
        return Err(PeError::NotPe("it does not begin with MZ"));
    }
    dos.take(PE_OFFSET_AT.saturating_sub(DOS_MAGIC.len()), "DOS header")?;
    let at = dos.u32_le("offset of the PE header")?;
    let mut reader = Reader::new(bytes);
    reader.bounded(at.into(), bytes.len(), "what is before the PE header")?;
    if reader.take(PE_MAGIC.len(), "PE header")? != PE_MAGIC {
        return Err(PeError::NotPe("its header does not begin with PE"));
    }
    reader.u16_le("machine")?;
    let count = reader.u16_le("number of sections")?;
    if count > MAX_SECTIONS {
        let (found, limit) = (count.into(), MAX_SECTIONS.into());
        return Err(ReadError::TooLarge {
            offset: reader.offset(),
            what: "number of sections",
            found,
            limit,
        }
        .into());
    }
    reader.take(12, "time stamp and symbols")?;
    let optional_len = reader.u16_le("length of the optional header")?;
    reader.u16_le("characteristics")?;
    let optional = optional(reader.sub(optional_len.into(), "optional header")?)?;
    let mut table = reader.sub(usize::from(count).saturating_mul(SECTION_HEADER_LEN), "table of sections")?;
    let sections = (0..count).map(|_| section(&mut table, bytes)).collect::<Result<_, _>>()?;
    Ok((optional, sections))
}

fn optional(mut reader: Reader<'_>) -> Result<Optional, PeError> {
    let start = reader.offset();
    let magic = reader.u16_le("magic of the optional header")?;
    // From the checksum on: subsystem and characteristics, four sizes that are wider in PE32+, and the flags.
    let to_directories = match magic {
        PE32 => 4 + 4 * 4 + 4,
        PE32_PLUS => 4 + 4 * 8 + 4,
        _ => return Err(PeError::NotPe("its optional header is neither PE32 nor PE32+")),
    };
    // Magic and length of the headers are before and after this.
    reader.take(CHECKSUM_AT - 2 - 4, "optional header")?;
    let headers_len = to_usize(reader.u32_le("length of the headers")?);
    let checksum = reader.offset();
    debug_assert_eq!(checksum.checked_sub(start), Some(CHECKSUM_AT));
    reader.take(CHECKSUM_LEN, "checksum")?;
    reader.take(to_directories, "optional header")?;
    let directories = reader.u32_le("number of data directories")?;
    let mut certificates = None;
    if directories > CERTIFICATES {
        reader.take(to_usize(CERTIFICATES).saturating_mul(DIRECTORY_LEN), "data directories")?;
        let entry = reader.offset();
        let at = to_usize(reader.u32_le("offset of the certificates")?);
        let len = to_usize(reader.u32_le("length of the certificates")?);
        certificates = Some((entry, at, len));
    }
    Ok(Optional { checksum, headers_len, certificates })
}

fn section<'a>(table: &mut Reader<'_>, bytes: &'a [u8]) -> Result<Section<'a>, PeError> {
    let name = table.array("name of a section")?;
    let in_memory = to_usize(table.u32_le("length of a section in memory")?);
    table.u32_le("address of a section")?;
    let len = table.u32_le("length of a section")?;
    let at = table.u32_le("offset of a section")?;
    table.take(16, "relocations of a section")?;
    let mut reader = Reader::new(bytes);
    // A section without bytes in the file may point anywhere.
    if len > 0 {
        reader.bounded(at.into(), bytes.len(), "what is before a section")?;
    }
    let in_file = reader.bounded(len.into(), bytes.len(), "section")?;
    Ok(Section { name, in_memory, in_file, at: to_usize(at) })
}

/// How long the certificates are, which must be the end of the file.
fn certificates_len(optional: &Optional, file_len: usize) -> Result<usize, PeError> {
    match optional.certificates {
        None | Some((_, _, 0)) => Ok(0),
        Some((_, at, len)) if at.checked_add(len) == Some(file_len) => Ok(len),
        Some(_) => Err(PeError::Certificates),
    }
}

/// The headers without the checksum and without the entry of the certificates, which signing changes.
fn hashed_headers<'a>(bytes: &'a [u8], optional: &Optional) -> Result<Vec<&'a [u8]>, PeError> {
    let mut reader = Reader::at_most(bytes, MAX_PE_BYTES, "image")?.sub(optional.headers_len, "headers")?;
    let before = reader.take(optional.checksum, "headers before the checksum")?;
    reader.take(CHECKSUM_LEN, "checksum")?;
    let mut parts = vec![before];
    if let Some((entry, ..)) = optional.certificates {
        let len = entry.saturating_sub(reader.offset());
        parts.push(reader.take(len, "headers before the entry of the certificates")?);
        reader.take(DIRECTORY_LEN, "entry of the certificates")?;
    }
    parts.push(reader.rest());
    Ok(parts)
}

/// `u32` fits on every machine that this is built for; elsewhere no file is that long.
fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
