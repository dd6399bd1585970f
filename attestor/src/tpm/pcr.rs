//! PCR banks and selections, as the port takes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// PCRs of a PC Client TPM (TCG PC Client Platform TPM Profile).
pub const PCR_COUNT: u8 = 24;

/// A PCR bank. SHA-1 is left out: no quote of ours covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcrBank {
    /// SHA-256, 32-byte PCRs.
    Sha256,
    /// SHA-384, 48-byte PCRs.
    Sha384,
    /// SHA-512, 64-byte PCRs.
    Sha512,
}

impl PcrBank {
    /// Length of a PCR value in bytes.
    pub fn digest_length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The bank's usual name, such as `sha256`.
impl fmt::Display for PcrBank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

/// The index of a PCR, 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrIndex(u8);

/// The number names no PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no PCR {0}: PCRs are numbered 0 to 23")]
pub struct PcrIndexError(u8);

impl TryFrom<u8> for PcrIndex {
    type Error = PcrIndexError;

    fn try_from(index: u8) -> Result<Self, Self::Error> {
        if index < PCR_COUNT { Ok(Self(index)) } else { Err(PcrIndexError(index)) }
    }
}

impl From<PcrIndex> for u8 {
    fn from(index: PcrIndex) -> u8 {
        index.0
    }
}

/// A set of PCRs of one bank: bit n stands for PCR n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrSelection(u32);

impl PcrSelection {
    /// PCRs 0 to 15: what every quote of ours covers, whatever the rules ask.
    pub const QUOTED: Self = Self(0xffff);

    /// The selected PCRs in ascending order, the order in which a quote digests them.
    pub fn iter(self) -> impl Iterator<Item = PcrIndex> {
        (0..PCR_COUNT).filter(move |index| self.0 & (1 << index) != 0).map(PcrIndex)
    }

    /// Whether nothing is selected.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<PcrIndex> for PcrSelection {
    fn from_iter<I: IntoIterator<Item = PcrIndex>>(indices: I) -> Self {
        Self(indices.into_iter().fold(0, |bits, index| bits | 1 << index.0))
    }
}

/// One PCR and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrValue {
    /// Which PCR.
    pub index: PcrIndex,
    /// Its value, as long as a digest of the bank.
    pub digest: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_ascending_whatever_order_it_was_made_in() {
        let selection: PcrSelection =
            [23, 0, 7].map(|n| PcrIndex::try_from(n).unwrap()).into_iter().collect();
        assert_eq!(selection.iter().map(u8::from).collect::<Vec<_>>(), [0, 7, 23]);
        assert_eq!(PcrSelection::QUOTED.iter().count(), 16);
    }

    #[test]
    fn pcr_24_does_not_exist() {
        assert_eq!(PcrIndex::try_from(24), Err(PcrIndexError(24)));
    }
}
