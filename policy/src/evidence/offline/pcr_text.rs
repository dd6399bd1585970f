//! PCR values as text: one line `bank:index:hex` each, as people and tools write them down.
//!
//! Hex in either case and with or without `0x`, blank lines, `#` comments, CRLF and a byte order mark are all read.
//! What is said twice must be said alike.

use std::collections::BTreeMap;

use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrSelection, PcrValues};

/// Longest text in bytes: 24 PCRs of six banks take 16 KiB, comments have the same room again.
pub const MAX_PCR_TEXT: usize = 64 * 1024;

/// Banks that a TPM can have and that cannot be computed here, by the names that tpm2-tools gives
/// them: their lines are passed over.
const OTHER_BANKS: [&str; 4] = ["sm3_256", "sha3_256", "sha3_384", "sha3_512"];

/// What some editors write before UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text is no list of PCR values. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcrTextError {
    /// Too long.
    #[error("{0} bytes of PCR values; at most {MAX_PCR_TEXT} are read")]
    TooLarge(usize),
    /// Not text.
    #[error("the PCR values are no UTF-8 text")]
    NotText,
    /// Not three fields.
    #[error("line {0} is not bank:index:hex, for example sha256:0:00ff...")]
    Fields(usize),
    /// An unknown bank.
    #[error("line {line}: `{bank}` is no PCR bank; write sha256, sha384 or sha512")]
    Bank {
        /// The line.
        line: usize,
        /// What stands there, cut to 40 characters.
        bank: String,
    },
    /// Not a PCR of a TPM.
    #[error("line {0}: a TPM has PCRs 0 to 23")]
    Index(usize),
    /// Not a digest of the bank.
    #[error("line {line}: a {bank} PCR has {} hex digits", 2 * .bank.len())]
    Value {
        /// The line.
        line: usize,
        /// The bank.
        bank: HashAlg,
    },
    /// Two values for one PCR.
    #[error("line {line} gives {bank} PCR {pcr} another value than a line before; which one is true?")]
    Twice {
        /// The line.
        line: usize,
        /// The bank.
        bank: HashAlg,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// No value at all.
    #[error("there is no PCR value in it")]
    Empty,
}

/// The values of each bank that was written down; nothing is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrTable(BTreeMap<HashAlg, PcrValues>);

impl PcrTable {
    /// Reads the text, whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, PcrTextError> {
        if bytes.len() > MAX_PCR_TEXT {
            return Err(PcrTextError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PcrTextError::NotText)?;
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut table = Self(BTreeMap::new());
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split_once('#').map_or(content, |(before, _)| before).trim();
            if !content.is_empty() {
                table.insert(line, content)?;
            }
        }
        if table.0.is_empty() { Err(PcrTextError::Empty) } else { Ok(table) }
    }

    /// The values of a bank; none if it was not written down.
    #[must_use]
    pub fn values(&self, bank: HashAlg) -> Option<&PcrValues> {
        self.0.get(&bank)
    }

    /// The PCRs of a bank that were written down.
    #[must_use]
    pub fn selection(&self, bank: HashAlg) -> PcrSelection {
        let mut octets = [0_u8; 3];
        for (pcr, _) in self.values(bank).into_iter().flat_map(PcrValues::iter) {
            let (octet, bit) = (usize::from(pcr.number() / 8), pcr.number() % 8);
            if let Some(octet) = octets.get_mut(octet) {
                *octet |= 1 << bit;
            }
        }
        PcrSelection::from_bitmap(bank, octets)
    }

    fn insert(&mut self, line: usize, content: &str) -> Result<(), PcrTextError> {
        let fields: Vec<&str> = content.split(':').map(str::trim).collect();
        let [bank, index, value] = fields.as_slice() else { return Err(PcrTextError::Fields(line)) };
        let bank = bank.to_ascii_lowercase();
        if OTHER_BANKS.contains(&bank.as_str()) {
            return Ok(());
        }
        let bank: HashAlg =
            bank.parse().map_err(|_| PcrTextError::Bank { line, bank: bank.chars().take(40).collect() })?;
        let pcr = decimal(index).and_then(PcrIndex::new).ok_or(PcrTextError::Index(line))?;
        let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")).unwrap_or(value);
        let value = HashValue::from_hex(bank, digits).ok_or(PcrTextError::Value { line, bank })?;
        let values = self.0.entry(bank).or_insert_with(|| PcrValues::new(bank));
        if values.value(pcr).is_some_and(|known| *known != value) {
            return Err(PcrTextError::Twice { line, bank, pcr });
        }
        values.set(pcr, value);
        Ok(())
    }
}

/// A number of digits alone: `parse` would take a sign too.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PcrTable, PcrTextError> {
        PcrTable::parse(text.as_bytes())
    }

    #[test]
    fn every_way_of_writing_is_read() {
        let (low, high) = ("ab".repeat(32), "AB".repeat(32));
        let table = parse(&format!(
            "\u{feff}# values\r\n\r\nsha256:0:{low}\r\n SHA256 : 0 : 0x{high} # again\nsha1:23:0X{}\nsm3_256:0:00\n",
            "00".repeat(20)
        ))
        .unwrap();
        let pcr = PcrIndex::new(0).unwrap();
        let value = HashValue::new(HashAlg::Sha256, &[0xab; 32]);
        assert_eq!(table.values(HashAlg::Sha256).unwrap().value(pcr).copied(), value);
        assert_eq!(table.selection(HashAlg::Sha1).bitmap(), [0, 0, 0x80]);
        assert_eq!(table.selection(HashAlg::Sha384).bitmap(), [0, 0, 0]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let zeros = "00".repeat(32);
        let bank = HashAlg::Sha256;
        let pcr = PcrIndex::new(1).unwrap();
        for (text, error) in [
            (String::new(), PcrTextError::Empty),
            ("# none\n".to_owned(), PcrTextError::Empty),
            (format!("\nsha256 0 {zeros}"), PcrTextError::Fields(2)),
            (format!("md5:0:{zeros}"), PcrTextError::Bank { line: 1, bank: "md5".to_owned() }),
            (format!("sha256:24:{zeros}"), PcrTextError::Index(1)),
            (format!("sha256:+1:{zeros}"), PcrTextError::Index(1)),
            (format!("sha256::{zeros}"), PcrTextError::Index(1)),
            (format!("sha256:1:{}", &zeros[1..]), PcrTextError::Value { line: 1, bank }),
            (
                format!("sha256:1:{zeros}\nsha256:1:{}", "ff".repeat(32)),
                PcrTextError::Twice { line: 2, bank, pcr },
            ),
        ] {
            assert_eq!(parse(&text), Err(error), "{text}");
        }
        assert_eq!(PcrTable::parse(&[0xff]), Err(PcrTextError::NotText));
        assert_eq!(
            PcrTable::parse(&vec![b'\n'; MAX_PCR_TEXT + 1]),
            Err(PcrTextError::TooLarge(MAX_PCR_TEXT + 1))
        );
    }
}
