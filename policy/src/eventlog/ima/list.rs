//! Binary lists: records one after the other (`ima_measurements_show` of Linux).
//!
//! A record is PCR, template digest, template name, template data. The digest field of the classic list
//! is SHA-1; newer kernels also show one list for each bank, whose field has the bank's width. Nothing
//! in a list says which it is, so the first record's name tells: it fits under one width only.
//!
//! Numbers are in the byte order of the device's processor; little-endian is read, and big-endian told.

use super::template::{self, Fields, LEGACY};
use crate::budget::{IMA_LEGACY_NAME, MAX_IMA_BYTES, MAX_IMA_NAME, MAX_IMA_RECORDS};
use crate::reader::{ReadError, Reader};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// A list cannot be read. Every text names the offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImaListError {
    /// No record at all.
    #[error(
        "offset 0: the list holds no record; read it from /sys/kernel/security/ima/binary_runtime_measurements"
    )]
    Empty,
    /// The first record fits no width of digest.
    #[error(
        "offset 0: no template name follows a digest of 20, 32, 48 or 64 bytes; this is no IMA list, or one of another width"
    )]
    Width,
    /// Numbers are in the other byte order.
    #[error(
        "offset 0: the list is in big-endian byte order, which is not read here; boot the device with ima_canonical_fmt"
    )]
    BigEndian,
    /// More records than are read.
    #[error("offset {offset}: the list goes on after {MAX_IMA_RECORDS} records; send it in parts")]
    TooManyRecords {
        /// Offset of the first record too many.
        offset: usize,
    },
    /// A PCR that does not exist.
    #[error("offset {offset}: the record extends PCR {pcr}, a TPM has PCRs 0 to 23")]
    Pcr {
        /// Offset of the record.
        offset: usize,
        /// The index.
        pcr: u32,
    },
    /// A template name that is empty or not plain text.
    #[error(
        "offset {offset}: the template name is empty or not plain text; the list is of another width, or cut"
    )]
    Name {
        /// Offset of the name.
        offset: usize,
    },
    /// The fields do not make up the template data.
    #[error("offset {offset}: the data is not {fields} fields, as template {template} has")]
    Fields {
        /// Offset of the template data.
        offset: usize,
        /// The template.
        template: String,
        /// How many fields it has.
        fields: usize,
    },
    /// The stated digest is not the hash of the data.
    #[error(
        "offset {offset}: the {alg} template digest of record {position} is not that of its data; the list was changed"
    )]
    Digest {
        /// Place of the record, from 0.
        position: u64,
        /// Its offset.
        offset: usize,
        /// The algorithm that the list's width stands for.
        alg: HashAlg,
    },
    /// The bytes stop making sense.
    #[error(transparent)]
    Structure(#[from] ReadError),
}

/// A list whose width is known; nothing of it is proven and its records are not read yet.
#[derive(Debug, Clone, Copy)]
pub struct ImaList<'a> {
    bytes: &'a [u8],
    alg: HashAlg,
    first: u64,
}

impl<'a> ImaList<'a> {
    /// Finds out the width of a list that begins with record `first` of its boot.
    pub fn parse(bytes: &'a [u8], first: u64) -> Result<Self, ImaListError> {
        Reader::at_most(bytes, MAX_IMA_BYTES, "IMA list")?;
        if bytes.is_empty() {
            return Err(ImaListError::Empty);
        }
        let fits = |alg: &HashAlg, endian| names_template(bytes, *alg, endian);
        if let Some(alg) = HashAlg::ALL.into_iter().find(|alg| fits(alg, u32::from_le_bytes)) {
            return Ok(Self { bytes, alg, first });
        }
        let big = HashAlg::ALL.iter().any(|alg| fits(alg, u32::from_be_bytes));
        Err(if big { ImaListError::BigEndian } else { ImaListError::Width })
    }

    /// The list of a part that was verified.
    pub(super) const fn verified(bytes: &'a [u8], alg: HashAlg, first: u64) -> Self {
        Self { bytes, alg, first }
    }

    /// The algorithm of the digest field: the one that its width stands for.
    #[must_use]
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// The records, in the list's order; nothing follows an error.
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        let Self { bytes, alg, first } = *self;
        Records { reader: Reader::new(bytes), alg, first, legacy: None, read: 0, failed: false }
    }
}

/// Whether a template name stands where a digest of `alg` would end.
fn names_template(bytes: &[u8], alg: HashAlg, number: fn([u8; 4]) -> u32) -> bool {
    let mut reader = Reader::new(bytes);
    let mut name = || {
        reader.take(size_of::<u32>(), "PCR index")?;
        reader.take(alg.len(), "template digest")?;
        let len = number(reader.array("length of the template name")?);
        reader.bounded(len.into(), MAX_IMA_NAME, "template name")
    };
    name().is_ok_and(is_plain)
}

fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// One record of a list.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Place in the list since boot, from 0.
    pub position: u64,
    /// Offset of its first byte in what was sent.
    pub offset: usize,
    /// The PCR that it extends.
    pub pcr: PcrIndex,
    /// The template's name: a standard one, or its fields separated by `|`.
    pub template: &'a str,
    /// What the list states as the hash of the template data; all zero for a violation.
    pub digest: &'a [u8],
    /// The template data as it is in the list.
    pub data: &'a [u8],
    /// The fields of the data; empty for a template that is not known, or is not of its list's kind.
    pub fields: Fields<'a>,
}

impl Record<'_> {
    /// Whether the kernel could not measure what was used: the file was open for writing meanwhile. The
    /// PCR was extended with ones, so nothing binds the data.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.digest.iter().all(|byte| *byte == 0)
    }

    /// The hash of the template data in `bank`: what the kernel extends into the PCR of that bank.
    #[must_use]
    pub fn template_hash(&self, bank: HashAlg) -> HashValue {
        let legacy = (self.template == LEGACY).then(|| template::legacy_parts(self.data)).flatten();
        match legacy {
            Some((digest, name)) => {
                let padding = IMA_LEGACY_NAME.saturating_sub(name.len());
                let zeros = [0; IMA_LEGACY_NAME];
                bank.hash(&[digest, name, zeros.get(..padding).unwrap_or_default()])
            }
            None => bank.hash(&[self.data]),
        }
    }

    /// What the record extends in `bank`: ones for a violation.
    #[must_use]
    pub fn extends(&self, bank: HashAlg) -> HashValue {
        if self.is_violation() {
            return HashValue::repeated(bank, 0xff);
        }
        // In the list of the bank itself it is the stated digest, which was compared when the record was read.
        HashValue::new(bank, self.digest).unwrap_or_else(|| self.template_hash(bank))
    }
}

/// The records of a list, read as they are asked for. Each is whole: its fields are those of its
/// template, and its stated digest is the hash of its data unless it is a violation (checklist row 26).
#[derive(Debug, Clone)]
pub struct Records<'a> {
    reader: Reader<'a>,
    alg: HashAlg,
    first: u64,
    legacy: Option<bool>,
    read: usize,
    failed: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ImaListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let record = self.record();
        self.failed = record.is_err();
        Some(record)
    }
}

impl<'a> Records<'a> {
    /// Offset of the next record.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.reader.offset()
    }

    /// The next record of a list that was read to its end before: its digest was compared then.
    pub(super) fn read_again(&mut self) -> Option<Record<'a>> {
        let offset = self.reader.offset();
        if self.reader.is_empty() { None } else { self.unverified(offset).ok() }
    }

    fn record(&mut self) -> Result<Record<'a>, ImaListError> {
        let offset = self.reader.offset();
        if self.read >= MAX_IMA_RECORDS {
            return Err(ImaListError::TooManyRecords { offset });
        }
        let record = self.unverified(offset)?;
        if !record.is_violation() && record.template_hash(self.alg).as_bytes() != record.digest {
            return Err(ImaListError::Digest { position: record.position, offset, alg: self.alg });
        }
        Ok(record)
    }

    fn unverified(&mut self, offset: usize) -> Result<Record<'a>, ImaListError> {
        let reader = &mut self.reader;
        let pcr = reader.u32_le("PCR index")?;
        let pcr = PcrIndex::new(pcr).ok_or(ImaListError::Pcr { offset, pcr })?;
        let digest = reader.take(self.alg.len(), "template digest")?;
        let len = reader.u32_le("length of the template name")?;
        let name_offset = reader.offset();
        let name = reader.bounded(len.into(), MAX_IMA_NAME, "template name")?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_plain(name.as_bytes()));
        let template = name.ok_or(ImaListError::Name { offset: name_offset })?;
        let (data, fields) = template::read(reader, template)?;
        let fields = if self.is_of_list(template) { fields } else { Fields::default() };
        let position = self.first.saturating_add(u64::try_from(self.read).unwrap_or(u64::MAX));
        self.read = self.read.saturating_add(1);
        Ok(Record { position, offset, pcr, template, digest, data, fields })
    }

    /// Whether a record is of the first template exactly if its list is. The first template hashes its
    /// fields without their lengths, so a record that is renamed to it has other bytes as its path. Only
    /// the boot aggregate shows of which kind a list is: its bytes have no second meaning. A part does not
    /// begin with it and counts as being of the newer templates.
    fn is_of_list(&mut self, template: &str) -> bool {
        let legacy = template == LEGACY;
        let of_list = self.legacy.get_or_insert(legacy && self.first == 0);
        legacy == *of_list
    }
}
