//! Why an EK certificate does not endorse its EK: what is wrong, with which certificate, and what to do.

use crate::time::UnixTime;
use crate::x509::der::DerError;
use crate::x509::readout::ReadoutError;
use crate::x509::signature::SignatureError;
use crate::x509::spki::KeyError;

use super::path::{MAX_CHAIN, MAX_EXTRA_INTERMEDIATES, MAX_SIGNATURES};
use super::tcg::Manufacturer;

/// Why an EK certificate does not endorse its EK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndorsementError {
    /// The bytes hold no certificate.
    #[error("the EK certificate cannot be taken from its file or NV index")]
    Readout(#[source] ReadoutError),
    /// The certificate is malformed.
    #[error("the EK certificate is malformed")]
    Parse(#[source] DerError),
    /// An intermediate certificate that the device sent cannot be taken from its wrapping.
    #[error("intermediate certificate {number} cannot be read; send DER or PEM")]
    IntermediateReadout {
        /// Which, counted from 1.
        number: usize,
        /// Why.
        #[source]
        source: ReadoutError,
    },
    /// An intermediate certificate that the device sent is malformed.
    #[error("intermediate certificate {number} is malformed")]
    IntermediateParse {
        /// Which, counted from 1.
        number: usize,
        /// Why.
        #[source]
        source: DerError,
    },
    /// The device sent too many intermediate certificates.
    #[error(
        "{0} intermediate certificates were sent, at most {MAX_EXTRA_INTERMEDIATES} are read; send only those of this chain"
    )]
    TooManyIntermediates(usize),
    /// Nobody here is the issuer.
    #[error("issuer `{issuer}` of `{certificate}` is not among the roots: add its certificate")]
    UnknownIssuer {
        /// The certificate whose issuer is missing.
        certificate: String,
        /// The issuer's name (RFC 4514).
        issuer: String,
    },
    /// The issuer's name is known, but only with other keys.
    #[error(
        "issuer `{issuer}` of `{certificate}` is among the roots, but not with key identifier {key_id}: add the certificate for that key"
    )]
    IssuerKey {
        /// The certificate whose issuer is missing.
        certificate: String,
        /// The issuer's name (RFC 4514).
        issuer: String,
        /// The key identifier that the certificate names, in hex.
        key_id: String,
    },
    /// Authorities that issued each other, and no root.
    #[error(
        "the chain of certificates runs in a circle: the only certificates of issuer `{issuer}` of `{certificate}` are below it; add a self-signed one"
    )]
    Circle {
        /// The certificate at which the chain came back to itself.
        certificate: String,
        /// The issuer's name (RFC 4514).
        issuer: String,
    },
    /// A signature does not hold.
    #[error("`{certificate}` is not properly signed by `{issuer}`")]
    Signature {
        /// The certificate.
        certificate: String,
        /// Where the issuer's certificate comes from.
        issuer: String,
        /// What is wrong with the signature.
        #[source]
        source: SignatureError,
    },
    /// A signature with SHA-1 that is not old enough to be believed (see [`crate::x509::signature`]).
    #[error(
        "`{certificate}` is signed with SHA-1, which counts only with RSA and on certificates that began before 2017: register the EK by its digest instead"
    )]
    Sha1 {
        /// The certificate.
        certificate: String,
    },
    /// Ended.
    #[error(
        "`{certificate}` expired at {not_after}, judged at {at}: allow validity at manufacture, or register the EK by its digest"
    )]
    Expired {
        /// The certificate.
        certificate: String,
        /// Its last second.
        not_after: UnixTime,
        /// The time it was judged at.
        at: UnixTime,
    },
    /// Not begun.
    #[error("`{certificate}` is valid from {not_before}, judged at {at}: set the clock")]
    NotYetValid {
        /// The certificate.
        certificate: String,
        /// Its first second.
        not_before: UnixTime,
        /// The time it was judged at.
        at: UnixTime,
    },
    /// Not version 3.
    #[error("`{certificate}` is X.509 version {version}; version 3 is needed")]
    Version {
        /// The certificate.
        certificate: String,
        /// Its version.
        version: u32,
    },
    /// A critical extension that is not understood here.
    #[error("`{certificate}` has critical extension {extension}, which is not understood here")]
    CriticalExtension {
        /// The certificate.
        certificate: String,
        /// Its object identifier, dotted.
        extension: String,
    },
    /// Name constraints, which are not evaluated here.
    #[error("`{certificate}` has nameConstraints, which are not evaluated here and so not accepted")]
    NameConstraints {
        /// The certificate.
        certificate: String,
    },
    /// An extension that cannot be read.
    #[error("`{certificate}`: extension {extension} is malformed")]
    Extension {
        /// The certificate.
        certificate: String,
        /// Its object identifier, dotted.
        extension: String,
        /// Why.
        #[source]
        source: DerError,
    },
    /// An issuer that is no certification authority.
    #[error(
        "`{certificate}` is no certification authority (basicConstraints), but issued another certificate"
    )]
    NotAnAuthority {
        /// The certificate.
        certificate: String,
    },
    /// An authority below one that allows no more.
    #[error(
        "`{certificate}` allows {allowed} authorities below it (pathLenConstraint), the chain has {found}"
    )]
    PathLength {
        /// The certificate.
        certificate: String,
        /// How many it allows.
        allowed: u32,
        /// How many there are.
        found: usize,
    },
    /// The key may not be used for what it was used for.
    #[error("keyUsage of `{certificate}` lacks {wanted}")]
    KeyUsage {
        /// The certificate.
        certificate: String,
        /// The usage that is needed.
        wanted: &'static str,
    },
    /// The EK certificate is that of a certification authority.
    #[error("`{certificate}` is a certification authority, no EK certificate")]
    LeafIsAuthority {
        /// The certificate.
        certificate: String,
    },
    /// Not for EKs.
    #[error(
        "`{certificate}` lacks the EK's key purpose 2.23.133.8.1 (tcg-kp-EKCertificate): it is no EK certificate, or its issuer makes none"
    )]
    KeyPurpose {
        /// The certificate.
        certificate: String,
    },
    /// The subjectAltName does not say which TPM this is.
    #[error("`{certificate}`: subjectAltName {problem} {attribute}, which an EK certificate has once")]
    TpmAttribute {
        /// The certificate.
        certificate: String,
        /// The TCG attribute.
        attribute: &'static str,
        /// `lacks`, `repeats`, `has a malformed`.
        problem: &'static str,
    },
    /// The certified key cannot be read or is invalid.
    #[error("the key of `{certificate}` cannot be used")]
    Key {
        /// The certificate.
        certificate: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A key that no EK has.
    #[error(
        "the key of `{certificate}` is {key}; EKs are RSA of 2048 to 4096 bits with exponent 65537, or on P-256, P-384 or P-521"
    )]
    KeyKind {
        /// The certificate.
        certificate: String,
        /// What the key is.
        key: String,
    },
    /// The chain ends at another manufacturer's root (row 33 of the checklist).
    #[error(
        "`{certificate}` claims to be of a TPM by {claimed}, but its root `{root}` vouches for TPMs by {vouches_for} only; if it vouches for {claimed} too, put it into a folder that is named after {claimed}"
    )]
    OtherManufacturer {
        /// The EK certificate.
        certificate: String,
        /// The manufacturer that it names.
        claimed: Manufacturer,
        /// The root, and where it comes from.
        root: String,
        /// For whose TPMs it vouches.
        vouches_for: String,
    },
    /// The chain does not end.
    #[error("the chain of certificates has more than {MAX_CHAIN} certificates")]
    TooLong,
    /// Too many paths.
    #[error("the chain of certificates takes more than {MAX_SIGNATURES} signature verifications")]
    TooMuchWork,
}
