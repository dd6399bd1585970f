//! EFI variables as events tell them: `UEFI_VARIABLE_DATA` (TCG PC Client Platform Firmware Profile 1.06,
//! clause 10.4.2.6).

use super::bound::{Bound, Data};
use super::guid::Guid;
use super::text;
use crate::digest::Digest;
use crate::eventlog::tcg::Event;
use crate::reader::{ReadError, Reader};
use crate::tpm::alg::HashAlg;

/// Longest name in characters: the longest of a collected log has 20, UEFI implementations allow some hundred.
const MAX_NAME: usize = 256;
/// What older shim hashes behind the variable: it takes the size of an aligned structure, eight bytes
/// for the last three.
const SHIM_PADDING: &[u8] = &[0; 5];

/// An EFI variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Vendor GUID.
    pub guid: Guid,
    /// Name, exactly.
    pub name: String,
    /// Contents; empty for a variable that does not exist.
    pub value: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Parses a variable, whole.
    pub fn parse(data: &'a [u8]) -> Result<Self, ReadError> {
        let (variable, reader) = Self::parse_front(data)?;
        reader.finish("variable")?;
        Ok(variable)
    }

    /// Parses a variable with the zeros that shim may hash behind it.
    fn parse_padded(data: &'a [u8]) -> Result<Self, ReadError> {
        let (variable, reader) = Self::parse_front(data)?;
        if reader.rest() == SHIM_PADDING {
            return Ok(variable);
        }
        reader.finish("variable")?;
        Ok(variable)
    }

    /// The SHA-256 of the variable as the profile has it measured: GUID, name and contents, without
    /// anything behind them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let name: Vec<u8> = self.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let characters = u64::try_from(name.len() / 2).unwrap_or(u64::MAX).to_le_bytes();
        let len = u64::try_from(self.value.len()).unwrap_or(u64::MAX).to_le_bytes();
        Digest::of_parts(&[&self.guid.0, &characters, &len, &name, self.value])
    }

    /// The name for people, whatever follows it; `None` if it cannot be read.
    #[must_use]
    pub fn name_of(data: &[u8]) -> Option<String> {
        Variable::parse_front(data).ok().map(|(variable, _)| variable.name)
    }

    fn parse_front(data: &'a [u8]) -> Result<(Self, Reader<'a>), ReadError> {
        let mut reader = Reader::new(data);
        let guid = Guid(reader.array("variable GUID")?);
        let characters = reader.u64_le("length of a variable's name")?;
        let len = reader.u64_le("length of a variable")?;
        let offset = reader.offset();
        let name = reader.bounded(characters.saturating_mul(2), MAX_NAME * 2, "variable name")?;
        let unreadable =
            ReadError::Invalid { offset, what: "the name of a variable is no plain UTF-16 text" };
        let name = text::exact_utf16(name).ok_or(unreadable)?;
        let value = reader.bounded(len, data.len(), "variable")?;
        Ok((Self { guid, name, value }, reader))
    }
}

/// A boot variable. Firmware hashes the whole structure or the contents alone; the profile changed its mind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootVariable<'a> {
    /// GUID, name and contents are covered.
    Whole(Bound<Variable<'a>>),
    /// The contents are covered, GUID and name are what the log says.
    Contents {
        /// What the log says.
        told: Variable<'a>,
        /// What the digest covers.
        value: Bound<&'a [u8]>,
    },
    /// Nothing is covered.
    Hint(Variable<'a>),
}

impl<'a> BootVariable<'a> {
    /// Reads an event of type `EV_EFI_VARIABLE_BOOT` or `EV_EFI_VARIABLE_BOOT2`.
    pub fn parse(event: &Event<'a>, bank: HashAlg) -> Result<Self, ReadError> {
        if let Some(whole) = Bound::whole(event, bank) {
            return whole.try_map(Variable::parse).map(Self::Whole);
        }
        let told = Variable::parse(event.data)?;
        Ok(match Bound::part(event, bank, told.value) {
            Some(value) => Self::Contents { told, value },
            None => Self::Hint(told),
        })
    }

    /// What the log says, covered or not.
    #[must_use]
    pub const fn told(&self) -> &Variable<'a> {
        match self {
            Self::Whole(bound) => bound.value(),
            Self::Contents { told, .. } | Self::Hint(told) => told,
        }
    }
}

/// Reads an event of type `EV_EFI_VARIABLE_AUTHORITY`.
///
/// The digest is of the whole structure. Older shim hashes five zeros behind it too and logs one more byte
/// that it never wrote and that no digest covers (shim's `tpm_log_event_raw` adds one to the event's size).
/// That byte is allowed here and nowhere else, and is no part of what is read.
pub fn parse_authority<'a>(event: &Event<'a>, bank: HashAlg) -> Result<Data<Variable<'a>>, ReadError> {
    if let Some(whole) = Bound::whole(event, bank) {
        return whole.try_map(Variable::parse_padded).map(Data::Bound);
    }
    let covered = event.data.split_last().map_or(event.data, |(_, covered)| covered);
    if let Some(covered) = Bound::part(event, bank, covered) {
        return covered.try_map(Variable::parse_padded).map(Data::Bound);
    }
    Variable::parse_front(event.data).map(|(variable, _)| Data::Hint(variable))
}
