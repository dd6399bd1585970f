//! Endorsement: is this EK one that a TPM manufacturer made?
//!
//! [`endorse`] walks from an EK certificate to a root that an administrator trusts and returns an
//! [`EndorsedEk`]; [`EndorsedEk::bind`] then ties it to the EK of the evidence (row 5 of the checklist: one EK,
//! not one in the certificate and another in the activation). Only these two build their values.
//!
//! A general TLS path library is of no use here: it refuses the critical certificatePolicies of Infineon, Intel
//! and STMicroelectronics, demands the EK's key purpose of every authority, or looks for server names.
//!
//! Signatures with SHA-1 count with RSA on certificates that began before 2017, and no others do; the reason is
//! told at [`crate::x509::signature`]. An EK whose chain rests on one says so in [`EndorsedEk::advisories`].
//!
//! Not promised: revocation (few manufacturers publish usable lists), and that the TPM was not taken apart. A
//! manufacturer's certificate says who made the chip, not whose machine it sits in: admission is another step.

mod advisory;
mod cabinet;
mod describe;
mod error;
mod import;
pub(super) mod path;
mod pinning;
pub(super) mod profile;
mod roots;
mod tcg;

use super::roca::RocaKey;
use crate::digest::Digest;
use crate::time::{UnixTime, Validity};
use crate::x509::signature::Strength;
use crate::x509::{Certificate, SubjectKey, name, oid, readout};

pub use advisory::{Advisory, Applies, ROCA_KEY, SHA1_CHAIN, Weight, advisories, quoted_advisories};
pub use cabinet::{CabinetError, MAX_CABINET_DATA, MAX_CABINET_FILES};
pub use describe::{DescribeError, EkDescription, describe};
pub use error::EndorsementError;
pub use import::{Import, Imported, Outcome};
pub use path::{MAX_CHAIN, MAX_EXTRA_INTERMEDIATES, MAX_SIGNATURES};
pub use roots::{Added, Anchor, MAX_BUNDLE, RootError, RootStore};
pub use tcg::{FirmwareBuild, FirmwareVersion, Manufacturer, ParseFirmwareError};

/// At which time the certificates of a chain must not have ended; all must have begun by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValidityPolicy {
    /// Now. The strict choice.
    #[default]
    AtTime,
    /// When the EK certificate began: for manufacturers whose certificates ended before their TPMs did. An EK
    /// does not get worse with the date. The price: who steals the key of an authority that has ended can make
    /// EK certificates that begin before its end.
    AtLeafNotBefore,
}

/// An EK that a trusted manufacturer certified. Only [`endorse`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsedEk {
    key: SubjectKey,
    digest: Digest,
    certificate_digest: Digest,
    identity: tcg::TpmIdentity,
    validity: Validity,
    root_subject: String,
    root_digest: Digest,
    root_label: String,
    chain_length: usize,
    strength: Strength,
}

impl EndorsedEk {
    /// The EK itself.
    #[must_use]
    pub const fn key(&self) -> &SubjectKey {
        &self.key
    }

    /// The name of the EK: SHA-256 of its SubjectPublicKeyInfo in canonical form.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// SHA-256 of the certificate, without wrapping and fill.
    #[must_use]
    pub const fn certificate_digest(&self) -> Digest {
        self.certificate_digest
    }

    /// Who made the TPM, as its certificate says.
    #[must_use]
    pub const fn manufacturer(&self) -> Manufacturer {
        self.identity.manufacturer
    }

    /// The manufacturer's name of the model, for example `SLB 9665`.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.identity.model
    }

    /// The firmware version at manufacture.
    #[must_use]
    pub const fn version(&self) -> FirmwareVersion {
        self.identity.version
    }

    /// The validity of the EK certificate.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The subject of the root at the end of the chain (RFC 4514).
    #[must_use]
    pub fn root_subject(&self) -> &str {
        &self.root_subject
    }

    /// SHA-256 of the root's certificate.
    #[must_use]
    pub const fn root_digest(&self) -> Digest {
        self.root_digest
    }

    /// The label under which the root was added.
    #[must_use]
    pub fn root_label(&self) -> &str {
        &self.root_label
    }

    /// Certificates in the chain, the EK's and the root's included.
    #[must_use]
    pub const fn chain_length(&self) -> usize {
        self.chain_length
    }

    /// What is publicly known against this TPM's family at the firmware it was made with, as [`ROCA_KEY`]
    /// against the EK itself, and as [`SHA1_CHAIN`] against its chain.
    #[must_use]
    pub fn advisories(&self) -> Vec<&'static Advisory> {
        let mut known = advisories(self.manufacturer(), self.version());
        known.extend(RocaKey::find_certified(&self.key).map(|_| &ROCA_KEY));
        known.extend(self.chain_advisories());
        known
    }

    /// What is known against the certificates that vouch for this EK, whatever firmware its TPM runs.
    pub fn chain_advisories(&self) -> impl Iterator<Item = &'static Advisory> {
        (self.strength == Strength::Sha1).then_some(&SHA1_CHAIN).into_iter()
    }

    /// Ties the certificate to the EK of the evidence: `public` is the digest of the canonical
    /// SubjectPublicKeyInfo of the public area that activation used (see [`SubjectKey::digest`]).
    pub fn bind(self, public: &Digest) -> Result<BoundEk, EkMismatch> {
        if self.digest == *public {
            return Ok(BoundEk(self));
        }
        Err(EkMismatch { certified: self.digest, presented: *public })
    }
}

/// An endorsed EK that is the EK of the evidence. Only [`EndorsedEk::bind`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundEk(EndorsedEk);

impl BoundEk {
    /// The endorsement.
    #[must_use]
    pub const fn endorsed(&self) -> &EndorsedEk {
        &self.0
    }
}

/// The certificate is about another EK than the one presented (row 5 of the checklist).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the EK certificate is for key {certified}, but the TPM presented EK {presented}: send the certificate of this TPM's own EK"
)]
pub struct EkMismatch {
    /// The key in the certificate.
    pub certified: Digest,
    /// The key in the evidence.
    pub presented: Digest,
}

/// Walks from `ek_certificate` to a root of `roots`.
///
/// `ek_certificate` and each of `extra_intermediates` may be DER, PEM or an NV readout; the intermediates come
/// from the device, so they can help to find a path but are never a root. `at` is now.
pub fn endorse(
    ek_certificate: &[u8],
    extra_intermediates: &[&[u8]],
    roots: &RootStore,
    at: UnixTime,
    policy: ValidityPolicy,
) -> Result<EndorsedEk, EndorsementError> {
    let der = readout::certificate_in(ek_certificate).map_err(EndorsementError::Readout)?;
    let leaf = Certificate::parse(&der).map_err(EndorsementError::Parse)?;
    let (key, identity) = profile::verify_leaf(&leaf)?;

    let alive_at = match policy {
        ValidityPolicy::AtTime => at,
        ValidityPolicy::AtLeafNotBefore => leaf.validity().not_before,
    };
    let extras = path::unwrap_extras(extra_intermediates)?;
    let rules =
        path::Rules { purpose: Some(oid::TCG_EK_CERTIFICATE), manufacturer: Some(identity.manufacturer) };
    let found = path::walk(&leaf, rules, &extras, roots, profile::When { now: at, alive_at })?;
    Ok(EndorsedEk {
        digest: key.digest(),
        key,
        certificate_digest: Digest::of(&der),
        identity,
        validity: leaf.validity(),
        root_subject: name::text(found.root.subject()),
        root_digest: Digest::of(found.root.der()),
        root_label: found.root_label,
        chain_length: found.chain_length,
        strength: found.strength,
    })
}
