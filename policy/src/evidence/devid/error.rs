//! Why an IDevID or IAK certificate is not believed, and why it does not vouch for an attestation key.

use crate::digest::Digest;
use crate::evidence::endorsement::EndorsementError;
use crate::evidence::identity::IdentityKeyError;
use crate::tpm::signature::SignatureError;
use crate::x509::der::DerError;
use crate::x509::readout::ReadoutError;

use super::certificate::MAX_SERIAL_NUMBER;

/// Why a certificate is no IDevID or IAK certificate that is believed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DevIdError {
    /// The bytes hold no certificate.
    #[error("the {0} certificate cannot be taken from its file or NV index")]
    Readout(&'static str, #[source] ReadoutError),
    /// The certificate is malformed.
    #[error("the {0} certificate is malformed")]
    Parse(&'static str, #[source] DerError),
    /// It, or the chain above it, does not hold.
    #[error("the {0} certificate does not chain to a root of the device's manufacturer")]
    Chain(&'static str, #[source] EndorsementError),
    /// It is an authority's.
    #[error("`{0}` is a certification authority, no device")]
    IsAuthority(String),
    /// The subject names no box.
    #[error(
        "`{certificate}`: the subject {problem} serialNumber; a device's certificate has one, printable and of up to {MAX_SERIAL_NUMBER} characters"
    )]
    SerialNumber {
        /// The certificate.
        certificate: String,
        /// `lacks`, `repeats`, `has a malformed`.
        problem: &'static str,
    },
    /// The issuer does not say that it verified what the certificate is used for.
    #[error(
        "`{certificate}` lacks policy {policy}: its issuer does not say that it verified the key; bind the device by TPM2_Certify instead"
    )]
    Policy {
        /// The certificate.
        certificate: String,
        /// Name and number of the policy.
        policy: &'static str,
    },
    /// The signature cannot be read.
    #[error("the signature of the IDevID key cannot be read; send it as TPMT_SIGNATURE")]
    Signature(#[source] SignatureError),
    /// The IDevID key did not sign this challenge and statement.
    #[error(
        "the key of `{certificate}` did not sign this challenge and statement; sign with the IDevID key, ECDSA with the hash of its curve or RSASSA with SHA-256"
    )]
    NotSigned {
        /// The certificate.
        certificate: String,
    },
}

/// Why an IDevID identifies a box and does not vouch for its attestation key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The certification does not hold.
    #[error("the attestation key does not certify the IDevID key")]
    Certify(#[source] IdentityKeyError),
    /// The attestation key certified another key.
    #[error(
        "the attestation key certifies key {certified}, the IDevID key is {idevid}; certify the IDevID key"
    )]
    OtherKey {
        /// The certified key.
        certified: Digest,
        /// The key of the IDevID certificate.
        idevid: Digest,
    },
    /// The manufacturer does not say that the IDevID key lives in a TPM.
    #[error(
        "`{certificate}` lacks policy {policy}: its issuer does not say that the key lives in a TPM, and without that any program can have certified it; register the device's EK"
    )]
    Policy {
        /// The certificate.
        certificate: String,
        /// Name and number of the policy.
        policy: &'static str,
    },
    /// The IAK certificate is for another attestation key.
    #[error(
        "the IAK certificate is for key {certified}, the device attests with {presented}: this IDevID does not vouch for it; attest with the IAK"
    )]
    OtherAk {
        /// The key of the IAK certificate.
        certified: Digest,
        /// The key that attests.
        presented: Digest,
    },
    /// The two certificates are of different manufacturers.
    #[error(
        "the IDevID certificate ends at root `{idevid}` and the IAK certificate at `{iak}`; serial numbers count under one root"
    )]
    OtherRoot {
        /// The IDevID's root.
        idevid: String,
        /// The IAK's root.
        iak: String,
    },
    /// The two certificates are of different boxes.
    #[error(
        "the IDevID certificate is of box `{idevid}`, the IAK certificate of box `{iak}`; send those of one box"
    )]
    OtherSerial {
        /// The IDevID's serial number.
        idevid: String,
        /// The IAK's.
        iak: String,
    },
}
