//! What the broker asks for, read strictly. The sealed part is the broker's own memory and stays unread.

use proto::v1;

use crate::tpm::{PCR_COUNT, PcrBank, PcrIndex, PcrSelection};

/// The protocol version of this attestor.
pub const VERSION: u32 = 1;
/// Longest sealed part in bytes; one with a few zones takes under 1 KiB.
const MAX_SEALED: usize = 8 * 1024;

/// A challenge that this attestor can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    sealed: Vec<u8>,
    bank: PcrBank,
    bank_id: u32,
    mask: u32,
    broker_time: u64,
}

/// The challenge cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// There is none in the broker's answer, or its sealed part is empty or too long.
    #[error("the broker's challenge is malformed; update the attestor to the broker's release")]
    Malformed,
    /// Another protocol version.
    #[error("the broker speaks protocol version {0}, this attestor {VERSION}; update the attestor")]
    Version(u32),
    /// A bank that is too weak or unknown.
    #[error(
        "the broker asks for PCR bank {0:#06x}; this attestor quotes sha256, sha384 and sha512: update it"
    )]
    Bank(u32),
    /// No PCR, or one that does not exist.
    #[error("the broker asks for PCRs {0:#x}; there are PCRs 0 to 23: update broker and attestor")]
    Mask(u32),
}

impl Challenge {
    /// Reads the challenge of a broker's answer.
    pub fn parse(wire: Option<v1::Challenge>) -> Result<Self, ChallengeError> {
        let wire = wire.ok_or(ChallengeError::Malformed)?;
        if wire.version != VERSION {
            return Err(ChallengeError::Version(wire.version));
        }
        if wire.sealed.is_empty() || wire.sealed.len() > MAX_SEALED {
            return Err(ChallengeError::Malformed);
        }
        // TPM_ALG_ID (TPM 2.0 part 2, section 6.3).
        let bank = match wire.pcr_bank {
            0x000b => PcrBank::Sha256,
            0x000c => PcrBank::Sha384,
            0x000d => PcrBank::Sha512,
            other => return Err(ChallengeError::Bank(other)),
        };
        if wire.pcr_mask == 0 || wire.pcr_mask >> PCR_COUNT != 0 {
            return Err(ChallengeError::Mask(wire.pcr_mask));
        }
        Ok(Self {
            sealed: wire.sealed,
            bank,
            bank_id: wire.pcr_bank,
            mask: wire.pcr_mask,
            broker_time: wire.broker_time,
        })
    }

    /// The sealed part, returned as it came.
    #[must_use]
    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// The bank to quote.
    #[must_use]
    pub const fn bank(&self) -> PcrBank {
        self.bank
    }

    /// Its TPM_ALG_ID.
    #[must_use]
    pub const fn bank_id(&self) -> u32 {
        self.bank_id
    }

    /// The PCRs to quote, bit n for PCR n.
    #[must_use]
    pub const fn mask(&self) -> u32 {
        self.mask
    }

    /// The PCRs to quote.
    #[must_use]
    pub fn selection(&self) -> PcrSelection {
        (0..PCR_COUNT)
            .filter(|index| self.mask & (1 << index) != 0)
            .filter_map(|index| PcrIndex::try_from(index).ok())
            .collect()
    }

    /// The broker's clock, seconds since 1970.
    #[must_use]
    pub const fn broker_time(&self) -> u64 {
        self.broker_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::Challenge {
        let (version, pcr_bank, pcr_mask) = (1, 0x000b, 0xffff);
        v1::Challenge { sealed: vec![1], version, pcr_bank, pcr_mask, broker_time: 9, expires_at: 99 }
    }

    #[test]
    fn a_challenge_is_read() {
        let challenge = Challenge::parse(Some(wire())).unwrap();
        assert_eq!(challenge.selection(), PcrSelection::QUOTED);
        assert_eq!(challenge.bank(), PcrBank::Sha256);
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_reason() {
        let refuse = |wire| Challenge::parse(Some(wire)).unwrap_err();
        assert_eq!(Challenge::parse(None), Err(ChallengeError::Malformed));
        assert_eq!(refuse(v1::Challenge { version: 2, ..wire() }), ChallengeError::Version(2));
        assert_eq!(refuse(v1::Challenge { sealed: vec![], ..wire() }), ChallengeError::Malformed);
        assert_eq!(refuse(v1::Challenge { sealed: vec![0; 9000], ..wire() }), ChallengeError::Malformed);
        assert_eq!(refuse(v1::Challenge { pcr_bank: 4, ..wire() }), ChallengeError::Bank(4));
        assert_eq!(refuse(v1::Challenge { pcr_mask: 0, ..wire() }), ChallengeError::Mask(0));
        assert_eq!(refuse(v1::Challenge { pcr_mask: 1 << 24, ..wire() }), ChallengeError::Mask(1 << 24));
    }
}
