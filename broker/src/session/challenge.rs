//! Challenges: the broker's memory of a session, sealed and given to the device.
//!
//! Nothing is stored, so any replica finishes what another began. A challenge is used once because it
//! carries the device's attestation counter, which rises in the transaction that it leads to.

use policy::appraisal::Prover;
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::PcrSelection;
use proto::v1;
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::plant::PlantKeys;
use crate::ports::Entropy;
use crate::record::Bytes;

/// Protocol version that this broker speaks.
pub const VERSION: u32 = 1;
/// Seconds within which a challenge must be answered: a slow TPM needs some ten.
const LIFETIME: u64 = 120;
/// Seconds by which the clocks of brokers may differ.
const SKEW: u64 = 5;
/// Largest sealed challenge that is looked at.
const MAX_SEALED: usize = 4096;
/// The one PCR bank that is asked for.
const BANK: HashAlg = HashAlg::Sha256;
/// The PCRs that every quote covers, all and only.
pub(super) const SELECTION: PcrSelection = PcrSelection::quoted(BANK);

/// Why the device attests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// It is not known, or its AK is not bound.
    Enroll,
    /// By its own schedule.
    Renew,
    /// Because it was told to.
    OnDemand,
}

/// The service that an answer came through: unknown devices never take the places of known ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// For devices whose AK is not bound.
    Enrollment,
    /// For devices whose AK is bound.
    Attestation,
}

/// What the broker wants to know again when the answer comes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Challenge {
    /// Why.
    pub purpose: Purpose,
    /// What the answer is to be proven with: an answer by the other is none.
    #[serde(default)]
    pub prover: Prover,
    /// The device that the EK or the caller named; none for an unknown EK.
    pub device: Option<DeviceName>,
    /// Name of the EK that opens the credential; empty when the AK is bound already, and without a TPM.
    pub ek_name: Bytes,
    /// Name of the AK; without a TPM the digest of the key that is expected, which is shorter than any Name.
    pub ak_name: Bytes,
    /// The secret of the credential; none when the AK is bound already.
    pub secret: Option<Bytes>,
    /// The record's attestation counter as read at Begin; 0 without a record.
    pub counter: u64,
    /// When it was made.
    pub issued: UnixTime,
    /// 32 random bytes: no two challenges are equal.
    pub random: Digest,
}

impl Challenge {
    /// The PCRs that the quote must cover, all and only.
    #[must_use]
    pub const fn selection(&self) -> PcrSelection {
        SELECTION
    }

    /// Seals the challenge for the device to bring back.
    pub fn seal(
        &self,
        keys: &PlantKeys,
        entropy: &dyn Entropy,
        now: UnixTime,
    ) -> Result<v1::Challenge, Refusal> {
        let plain = serde_json::to_vec(self).map_err(Refusal::internal)?;
        let sealed = keys.sealing.seal(entropy, &context(keys), &plain).map_err(Refusal::internal)?;
        let mut bytes = keys.sealing_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&sealed);
        let [a, b, c] = self.selection().bitmap();
        Ok(v1::Challenge {
            sealed: bytes,
            version: VERSION,
            pcr_bank: BANK.id().into(),
            pcr_mask: u32::from_le_bytes([a, b, c, 0]),
            broker_time: now.0,
            expires_at: self.issued.plus(LIFETIME).0,
        })
    }

    /// The challenge, if it was begun at the same door.
    pub fn begun_at(self, door: Door) -> Result<Self, Refusal> {
        let enrolls = self.purpose == Purpose::Enroll;
        if enrolls == (door == Door::Enrollment) {
            return Ok(self);
        }
        Err(Refusal::MustReattest("the challenge was begun through another service"))
    }

    /// The challenge, if it is to be answered with `prover`.
    pub fn proven_by(self, prover: Prover) -> Result<Self, Refusal> {
        if self.prover == prover {
            return Ok(self);
        }
        Err(Refusal::EvidenceInvalid(match self.prover {
            Prover::Tpm => "the session began with a TPM and is answered without one".to_owned(),
            Prover::Key => "the session began without a TPM and is answered with one".to_owned(),
        }))
    }

    /// Opens a challenge that is authentic, of this plant epoch and not too old.
    pub fn open(keys: &PlantKeys, now: UnixTime, bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_SEALED {
            return Err(Refusal::malformed(format!(
                "the challenge has {} bytes, at most {MAX_SEALED}",
                bytes.len()
            )));
        }
        let stale = |why| Refusal::MustReattest(why);
        let (id, sealed) =
            bytes.split_first_chunk::<4>().ok_or_else(|| stale("the challenge is cut short"))?;
        if u32::from_be_bytes(*id) != keys.sealing_id {
            return Err(stale("the challenge was made under a key that is no longer in use"));
        }
        let plain = keys
            .sealing
            .open(&context(keys), sealed)
            .map_err(|_| stale("the challenge was not made by this plant in this epoch, or was changed"))?;
        let challenge: Self = serde_json::from_slice(&plain).map_err(Refusal::internal)?;
        if now > challenge.issued.plus(LIFETIME).plus(SKEW) {
            return Err(stale("the challenge is older than 120 s"));
        }
        if challenge.issued > now.plus(SKEW) {
            return Err(stale("the challenge comes from a broker whose clock is ahead of this one's"));
        }
        Ok(challenge)
    }
}

/// Associated data: a challenge opens in the plant, epoch and protocol version that made it only.
fn context(keys: &PlantKeys) -> Vec<u8> {
    format!("touchstone/v{VERSION}/challenge {} {} {}", keys.plant_id, keys.epoch, keys.sealing_id)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_through_the_door_it_was_begun_at() {
        for (purpose, door, other) in [
            (Purpose::Enroll, Door::Enrollment, Door::Attestation),
            (Purpose::Renew, Door::Attestation, Door::Enrollment),
            (Purpose::OnDemand, Door::Attestation, Door::Enrollment),
        ] {
            let challenge = Challenge {
                purpose,
                prover: Prover::Tpm,
                device: None,
                ek_name: Vec::new().into(),
                ak_name: Vec::new().into(),
                secret: None,
                counter: 0,
                issued: UnixTime(0),
                random: Digest([0; 32]),
            };
            assert!(challenge.clone().begun_at(door).is_ok());
            let refusal = challenge.begun_at(other).unwrap_err();
            assert!(matches!(
                refusal,
                Refusal::MustReattest("the challenge was begun through another service")
            ));
        }
    }
}
