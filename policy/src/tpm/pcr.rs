//! Platform Configuration Registers: indices, selections, values.

use std::collections::BTreeMap;
use std::fmt;

use super::alg::{HashAlg, HashValue};

/// A PCR that evidence may speak of: 0 to 23 (TCG PC Client Platform TPM Profile, 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrIndex(u8);

impl PcrIndex {
    /// What the attestor extends by what it measures itself.
    pub const IMAGES: Self = Self(13);
    /// Into which systemd measures the Names of its NvPCRs.
    pub const NVPCR_INIT: Self = Self(9);
    /// Into which Linux IMA measures, and nothing else.
    pub const IMA: Self = Self(10);

    /// The PCR with this index; `None` above 23.
    #[must_use]
    pub const fn new(index: u32) -> Option<Self> {
        match index {
            0..=23 => Some(Self(index.to_le_bytes()[0])),
            _ => None,
        }
    }

    /// The index as a number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of PCRs of one bank, as a quote names them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PcrSelection {
    /// The bank.
    pub bank: HashAlg,
    mask: u32,
}

impl PcrSelection {
    /// What every quote covers: PCRs 0 to 15 of `bank`.
    #[must_use]
    pub const fn quoted(bank: HashAlg) -> Self {
        Self { bank, mask: 0xffff }
    }

    /// The selection with these three octets of bits, PCR 0 lowest (TPM 2.0 Part 2, 10.6.1).
    #[must_use]
    pub const fn from_bitmap(bank: HashAlg, octets: [u8; 3]) -> Self {
        let [a, b, c] = octets;
        Self { bank, mask: u32::from_le_bytes([a, b, c, 0]) }
    }

    /// The three octets of bits.
    #[must_use]
    pub const fn bitmap(&self) -> [u8; 3] {
        let [a, b, c, _] = self.mask.to_le_bytes();
        [a, b, c]
    }

    /// Whether `pcr` is in the set.
    #[must_use]
    pub const fn contains(&self, pcr: PcrIndex) -> bool {
        (self.mask >> pcr.0) & 1 == 1
    }

    /// The PCRs of the set, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = PcrIndex> + '_ {
        (0..24).filter_map(PcrIndex::new).filter(|pcr| self.contains(*pcr))
    }
}

impl fmt::Debug for PcrSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.bank)?;
        f.debug_set().entries(self.iter().map(PcrIndex::number)).finish()
    }
}

/// Values of some PCRs of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    bank: HashAlg,
    values: BTreeMap<PcrIndex, HashValue>,
}

impl PcrValues {
    /// No value yet.
    #[must_use]
    pub const fn new(bank: HashAlg) -> Self {
        Self { bank, values: BTreeMap::new() }
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.bank
    }

    /// The value of `pcr`, if there is one.
    #[must_use]
    pub fn value(&self, pcr: PcrIndex) -> Option<&HashValue> {
        self.values.get(&pcr)
    }

    /// Sets a value; a value of another bank is not taken and `false` is returned.
    pub fn set(&mut self, pcr: PcrIndex, value: HashValue) -> bool {
        let fits = value.alg() == self.bank;
        if fits {
            self.values.insert(pcr, value);
        }
        fits
    }

    /// PCRs and values, lowest PCR first.
    pub fn iter(&self) -> impl Iterator<Item = (PcrIndex, &HashValue)> {
        self.values.iter().map(|(pcr, value)| (*pcr, value))
    }

    /// What a TPM signs for `selection`: the hash, under the signing scheme's algorithm, of the
    /// selected values in ascending order (TPM 2.0 Part 3, 18.4). `None` if a value is missing.
    #[must_use]
    pub fn quote_digest(&self, selection: &PcrSelection, scheme: HashAlg) -> Option<HashValue> {
        let values: Vec<&[u8]> =
            selection.iter().map(|pcr| self.value(pcr).map(HashValue::as_bytes)).collect::<Option<_>>()?;
        (selection.bank == self.bank).then(|| scheme.hash(&values))
    }
}
