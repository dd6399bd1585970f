//! What an EK certificate says about itself, for people: also when no root vouches for it.
//!
//! Nothing here is a judgement; a description is never an input to a decision.

use serde::Serialize;

use super::advisory::{ROCA_KEY, SHA1_CHAIN};
use super::tcg::TpmIdentity;
use crate::digest::Digest;
use crate::evidence::roca::RocaKey;
use crate::time::UnixTime;
use crate::x509::der::DerError;
use crate::x509::readout::{self, ReadoutError};
use crate::x509::{Certificate, SubjectKey, name, signature};

/// Why an EK certificate cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// The bytes hold no certificate.
    #[error("the EK certificate cannot be taken from its file or NV index")]
    Readout(#[source] ReadoutError),
    /// The certificate is malformed.
    #[error("the EK certificate is malformed")]
    Parse(#[source] DerError),
}

/// What an EK certificate says about itself. Times are RFC 3339, names RFC 4514.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EkDescription {
    /// The subject; empty on most EK certificates.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The serial number in hex, as received.
    pub serial: String,
    /// `rsa` or `ecc`; none if the key cannot be read.
    pub key_type: Option<&'static str>,
    /// `2048` or `P-256`; none if the key cannot be read.
    pub key_size: Option<String>,
    /// SHA-256 of the key in canonical form: what a device is registered by.
    pub ek_digest: Option<Digest>,
    /// SHA-256 of the certificate without wrapping and fill.
    pub certificate_digest: Digest,
    /// The TPM's manufacturer; none if the TCG attributes are missing or malformed.
    pub manufacturer: Option<String>,
    /// The manufacturer's name of the model.
    pub model: Option<String>,
    /// The firmware version at manufacture.
    pub firmware_version: Option<String>,
    /// First second of validity.
    pub not_before: String,
    /// Last second of validity.
    pub not_after: String,
    /// Names of public advisories on the TPM's family, `ROCA` where the key itself is weak, and `SHA-1` where the
    /// certificate is signed with it; what the authorities above it are signed with is not seen here.
    pub advisories: Vec<&'static str>,
}

/// Describes an EK certificate, given as DER, PEM or NV readout.
pub fn describe(ek_certificate: &[u8]) -> Result<EkDescription, DescribeError> {
    let der = readout::certificate_in(ek_certificate).map_err(DescribeError::Readout)?;
    let certificate = Certificate::parse(&der).map_err(DescribeError::Parse)?;
    let key = SubjectKey::parse(certificate.spki()).ok();
    let tpm = TpmIdentity::parse(&certificate).ok();
    let time = |at: UnixTime| at.to_string();
    let mut known =
        tpm.as_ref().map(|tpm| super::advisories(tpm.manufacturer, tpm.version)).unwrap_or_default();
    known.extend(key.as_ref().and_then(RocaKey::find_certified).map(|_| &ROCA_KEY));
    known.extend(signature::names_sha1(&certificate).then_some(&SHA1_CHAIN));
    Ok(EkDescription {
        subject: name::text(certificate.subject()),
        issuer: name::text(certificate.issuer()),
        serial: certificate.serial_text(),
        key_type: key.as_ref().map(SubjectKey::kind),
        key_size: key.as_ref().map(SubjectKey::size),
        ek_digest: key.as_ref().map(SubjectKey::digest),
        certificate_digest: Digest::of(&der),
        manufacturer: tpm.as_ref().map(|tpm| tpm.manufacturer.to_string()),
        model: tpm.as_ref().map(|tpm| tpm.model.clone()),
        firmware_version: tpm.as_ref().map(|tpm| tpm.version.to_string()),
        not_before: time(certificate.validity().not_before),
        not_after: time(certificate.validity().not_after),
        advisories: known.iter().map(|advisory| advisory.id).collect(),
    })
}
