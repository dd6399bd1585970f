//! Seals: the heads of all chains at one moment, signed by the broker's audit key.
//!
//! The audit key is certified for this one use by the issuing key, which the plant root certified; both
//! certificates travel with the seal, so whoever has the plant root verifies it, years later too.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::record::ChainHead;
use crate::id::PlantDomain;
use crate::time::UnixTime;
use crate::x509::certificate::Certificate;
use crate::x509::extension::{parse_basic_constraints, parse_purposes};
use crate::x509::oid;
use crate::x509::signature::verify;
use crate::x509::spki::{Curve, SubjectKey};

/// Extended key usage of the audit key's certificate (an OID of our own under the UUID arc 2.25).
pub const AUDIT_EKU: &[u64] = &[2, 25, 1_152_921_504_606_846_978];
/// The content octets of [`AUDIT_EKU`] in DER, as verifiers compare them.
pub const AUDIT_EKU_DER: &[u8] = &[0x69, 0x90, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
/// What a seal's signature begins with, so that it is never one over anything else.
const LABEL: &[u8] = b"touchstone/v1/audit-seal\0";
/// Largest seal as JSON in bytes: heads of some hundred brokers, and two certificates.
pub const MAX_SEAL: usize = 64 * 1024;

/// The heads of all chains at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The plant.
    pub plant: PlantDomain,
    /// Its epoch, which every restore raises.
    pub epoch: u64,
    /// Counts the seals of the epoch.
    pub number: u64,
    /// When it was made, by the broker's clock.
    pub at: UnixTime,
    /// The last record of each broker.
    pub heads: Vec<ChainHead>,
    /// Where each broker's chain begins: everything up to this record was dropped when its time was over.
    #[serde(default)]
    pub archived: Vec<ChainHead>,
}

impl Seal {
    /// The bytes that are signed; they travel as they are.
    #[must_use]
    pub fn payload(&self) -> String {
        // A struct of strings and numbers always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A seal as it travels: nothing verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSeal {
    /// The [`Seal`] as the bytes that were signed.
    pub payload: String,
    /// ECDSA P-256 SHA-256, ASN.1, in base64.
    pub signature: String,
    /// The audit key's certificate and the issuing certificate, DER in base64.
    pub certificates: Vec<String>,
}

/// A seal does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not the JSON of a seal.
    #[error("the seal cannot be read ({0}); fetch it again with `touchstone audit seal`")]
    Unreadable(String),
    /// A certificate that is none.
    #[error("the seal's certificates cannot be read; fetch it again with `touchstone audit seal`")]
    Certificate,
    /// Not under this plant root.
    #[error("the seal is not of this plant: {0}; verify with the plant-root.pem of the plant that made it")]
    OtherPlant(&'static str),
    /// Outside its certificates' time.
    #[error("the seal says {at}, its key is certified from {from} to {until}; somebody else made it")]
    Time {
        /// When the seal says it was made.
        at: UnixTime,
        /// From when.
        from: UnixTime,
        /// Until when.
        until: UnixTime,
    },
    /// Changed, or signed by somebody else.
    #[error("the seal's signature does not hold; it was changed, or somebody else signed it")]
    Signature,
}

/// What the audit key signs for `payload`.
#[must_use]
pub fn message(payload: &str) -> Vec<u8> {
    [LABEL, payload.as_bytes()].concat()
}

impl SignedSeal {
    /// Reads the JSON of a seal.
    pub fn parse(json: &[u8]) -> Result<Self, SealError> {
        if json.len() > MAX_SEAL {
            return Err(SealError::Unreadable(format!("{} bytes, at most {MAX_SEAL}", json.len())));
        }
        serde_json::from_slice(json).map_err(|error| SealError::Unreadable(error.to_string()))
    }

    /// The seal, if its key was certified for seals under the plant root `root` (DER) when it was made.
    pub fn verify(&self, root: &[u8]) -> Result<Seal, SealError> {
        let seal: Seal =
            serde_json::from_str(&self.payload).map_err(|error| SealError::Unreadable(error.to_string()))?;
        let [key, issuing] = self.certificates.as_slice() else { return Err(SealError::Certificate) };
        let decode = |text: &String| BASE64_STANDARD.decode(text).map_err(|_| SealError::Certificate);
        let (key, issuing) = (decode(key)?, decode(issuing)?);
        let parse = |der| Certificate::parse(der).map_err(|_| SealError::Certificate);
        let (key, issuing, root) = (parse(&key)?, parse(&issuing)?, parse(root)?);
        certified(&key, &issuing, &root)?;
        for validity in [key.validity(), issuing.validity()] {
            let (from, until) = (validity.not_before, validity.not_after);
            if !(from..=until).contains(&seal.at) {
                return Err(SealError::Time { at: seal.at, from, until });
            }
        }
        let Ok(SubjectKey::Ec { curve: Curve::P256, point }) = SubjectKey::parse(key.spki()) else {
            return Err(SealError::Certificate);
        };
        let signature = BASE64_STANDARD.decode(&self.signature).map_err(|_| SealError::Signature)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
            .verify(&message(&self.payload), &signature)
            .map_err(|_| SealError::Signature)?;
        Ok(seal)
    }
}

/// Root, issuing authority and audit key certify one another, each for what it does here.
fn certified(
    key: &Certificate<'_>,
    issuing: &Certificate<'_>,
    root: &Certificate<'_>,
) -> Result<(), SealError> {
    let other = SealError::OtherPlant;
    if issuing.issuer() != root.subject() || verify(issuing, root).is_err() {
        return Err(other("its issuing certificate is not under this plant root"));
    }
    if key.issuer() != issuing.subject() || verify(key, issuing).is_err() {
        return Err(other("its key is not under its issuing certificate"));
    }
    let constraints = issuing.extension(oid::BASIC_CONSTRAINTS);
    let authority = constraints.and_then(|found| parse_basic_constraints(found.value).ok());
    if !authority.is_some_and(|constraints| constraints.ca) {
        return Err(other("its issuing certificate is no authority's"));
    }
    let purposes = key.extension(oid::EXTENDED_KEY_USAGE).map(|found| parse_purposes(found.value));
    match purposes {
        Some(Ok(purposes)) if purposes == [AUDIT_EKU_DER] => Ok(()),
        _ => Err(other("its key is not certified for seals")),
    }
}
