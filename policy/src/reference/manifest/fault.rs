//! What can be wrong with a manifest, each with its place and what to write instead.

use std::fmt;

use super::super::event_type::ParseEventTypeError;
use super::super::release::ReleaseNameError;
use super::{MAX_MANIFEST_BYTES, MAX_PCR};
use crate::id::NameError;

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestProblem {
    /// More bytes than are read.
    #[error("the manifest has {0} bytes; {MAX_MANIFEST_BYTES} are allowed, so split the release by product")]
    TooLarge(usize),
    /// Not TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// A field that is not known.
    #[error("`{found}` is no field here; use one of {known}")]
    UnknownField {
        /// The field's name.
        found: String,
        /// What may be written here.
        known: String,
    },
    /// A field that must be there.
    #[error("`{field}` is missing; write for example {example}")]
    Missing {
        /// The field's name.
        field: &'static str,
        /// A line to write.
        example: &'static str,
    },
    /// A value of another kind.
    #[error("`{field}` must be {wanted}, for example {example}")]
    WrongType {
        /// The field's name.
        field: String,
        /// The kind of value.
        wanted: &'static str,
        /// A value to write.
        example: &'static str,
    },
    /// A layout of another version of Touchstone.
    #[error("schema {0} is not known here; write schema = 1")]
    Schema(String),
    /// Not a product's name.
    #[error("{0}")]
    Product(NameError),
    /// Not a version.
    #[error("{0}")]
    Version(ReleaseNameError),
    /// Not an event type.
    #[error("{0}")]
    EventType(ParseEventTypeError),
    /// A bank that proves nothing or is not known.
    #[error("`{0}` is no PCR bank that is accepted; write sha256, sha384 or sha512")]
    Bank(String),
    /// Not a PCR that is quoted.
    #[error("`{0}` is no PCR of a quote; write a number from 0 to {MAX_PCR}")]
    Pcr(String),
    /// Not a digest of the bank.
    #[error("`{found}` is no {wanted} digest; write its hex digits")]
    Digest {
        /// What is written.
        found: String,
        /// The bank, or the banks.
        wanted: String,
    },
    /// Not a digest of a file with its algorithm.
    #[error("`{0}` is no digest of a file; write sha256:, sha384: or sha512: and its hex digits")]
    FileDigest(String),
    /// Paths that cannot be excluded.
    #[error(
        "`{0}` cannot be excluded; write one path from `/` on, or a folder and `/**` for everything below it, but not everything"
    )]
    Excluded(String),
    /// Not a key whose signatures vouch for files.
    #[error("{0}")]
    Key(String),
    /// The same thing twice.
    #[error("{0} is stated twice; remove one")]
    Duplicate(String),
    /// A list without entries.
    #[error("`{0}` is empty; state at least one digest or remove it")]
    Empty(String),
    /// A list or text that is too long.
    #[error("{what} has {found} entries or characters; {limit} are allowed")]
    TooLong {
        /// What it is.
        what: String,
        /// How many there are.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Text that does not look like what it is.
    #[error("`{0}` has line breaks, control or direction characters; write plain text in one line")]
    NotPlain(&'static str),
    /// A rule about events that are in no PCR.
    #[error("EV_NO_ACTION events are extended into no PCR and prove nothing; remove the rule")]
    NoAction,
    /// An absent rule that also states what to find.
    #[error("`absent = true` goes without `{0}`; remove one of them")]
    AbsentWith(&'static str),
    /// A rule about an event that has no early place.
    #[error(
        "`early` is about an EV_EFI_BOOT_SERVICES_APPLICATION in PCR 4; remove it from a rule about anything else"
    )]
    Early,
    /// Events of a type are both asked for and forbidden.
    #[error("PCR {pcr} both lists and forbids {event_type}; remove one of the rules")]
    Contradiction {
        /// The PCR.
        pcr: u8,
        /// The type of the event.
        event_type: String,
    },
    /// A `[secure_boot]` section for machines without it.
    #[error(
        "[secure_boot] is about machines with Secure Boot on; write enabled = true, or remove the section and state the value of PCR 7"
    )]
    SecureBootOff,
    /// A manifest that every device would pass.
    #[error(
        "the release constrains none of the PCRs that say what was booted, so every device could pass; state values or events of PCRs 0, 2, 4 and 7, or all of [secure_boot]"
    )]
    AcceptsEverything,
    /// A manifest that a device passes which measured nothing.
    #[error(
        "every rule about PCRs 0, 2, 4 and 7 is optional, so a device that measured nothing passes; take `optional` from what every device of the release starts, its boot loader or kernel"
    )]
    OnlyOptional,
    /// A manifest that asks for nothing but what every machine measures.
    #[error(
        "all that the release asks of PCRs 0, 2, 4 and 7 is measured by every machine, whatever it boots; state the firmware, boot loader or kernel, or all of [secure_boot]"
    )]
    OnlyCommon,
    /// A value of a PCR that says nothing about the device.
    #[error(
        "this value of PCR {pcr} {what}; state what a device of the release has, as `touchstone golden learn` writes it"
    )]
    Hollow {
        /// The PCR.
        pcr: u8,
        /// Which value it is.
        what: HollowValue,
    },
}

/// A value that says nothing about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HollowValue {
    /// The value that a PCR starts with.
    Zeros,
    /// What no PCR from 0 to 15 holds.
    Ones,
    /// What a PCR holds in which the firmware only ended its measurements.
    Separator,
}

impl fmt::Display for HollowValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zeros => "is all zeros, as on any machine whose firmware measures nothing",
            Self::Ones => "is all ones, which no PCR from 0 to 15 ever holds",
            Self::Separator => {
                "is that of the separator alone, as on any machine whose firmware measured nothing into it"
            }
        })
    }
}

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub problem: ManifestProblem,
}

impl fmt::Display for ManifestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.problem)
    }
}

/// What is wrong with a manifest, first line first; never empty. Of more than [`MAX_FAULTS`] faults those
/// are told that were found first.
///
/// [`MAX_FAULTS`]: super::MAX_FAULTS
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestFaults {
    pub(super) told: Vec<ManifestFault>,
    pub(super) left_out: usize,
}

impl ManifestFaults {
    /// The faults, first line first.
    #[must_use]
    pub fn faults(&self) -> &[ManifestFault] {
        &self.told
    }

    /// How many more were found.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }
}

impl fmt::Display for ManifestFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manifest has {} fault(s)", self.told.len().saturating_add(self.left_out))?;
        self.told.iter().try_for_each(|fault| write!(f, "\n{fault}"))?;
        if self.left_out > 0 {
            write!(f, "\nand {} more; mend these first", self.left_out)?;
        }
        Ok(())
    }
}
