//! What each certificate of a chain must be (RFC 5280, section 4.2; TCG EK Credential Profile):
//! the EK certificate, and the authorities above it.

use super::error::EndorsementError;
use super::tcg::TpmIdentity;
use crate::time::{UnixTime, Validity};
use crate::x509::der::DerError;
use crate::x509::extension::{self, BasicConstraints, KeyUsage};
use crate::x509::spki::{Curve, SubjectKey, modulus_bits};
use crate::x509::{Certificate, oid};

/// Critical extensions that are evaluated here, or, as certificatePolicies, that narrow nothing: a policy is
/// only ever asked for by a relying party, and this one asks for none.
const UNDERSTOOD: [&[u8]; 5] = [
    oid::BASIC_CONSTRAINTS,
    oid::KEY_USAGE,
    oid::SUBJECT_ALT_NAME,
    oid::EXTENDED_KEY_USAGE,
    oid::CERTIFICATE_POLICIES,
];
/// Sizes of RSA EKs in bits (TCG EK Credential Profile, default templates L-1, H-1, H-6, H-7); the upper
/// bound keeps a stranger's key from costing much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// 65537, the exponent of every EK template.
const RSA_EXPONENT: &[u8] = &[1, 0, 1];

/// Judges an EK certificate by itself: its key and the TPM it names, if it is one.
pub(super) fn verify_leaf(leaf: &Certificate<'_>) -> Result<(SubjectKey, TpmIdentity), EndorsementError> {
    verify_extensions(leaf)?;
    if basic_constraints(leaf)?.is_some_and(|constraints| constraints.ca) {
        return Err(EndorsementError::LeafIsAuthority { certificate: leaf.label() });
    }
    let usage = key_usage(leaf)?;
    if usage.is_some_and(KeyUsage::key_cert_sign) {
        return Err(EndorsementError::LeafIsAuthority { certificate: leaf.label() });
    }
    if usage.is_some_and(|usage| !usage.key_encipherment() && !usage.key_agreement()) {
        let wanted = "keyEncipherment and keyAgreement, one of which an EK has";
        return Err(EndorsementError::KeyUsage { certificate: leaf.label(), wanted });
    }
    let purposes = purposes(leaf)?.unwrap_or_default();
    if !purposes.contains(&oid::TCG_EK_CERTIFICATE) {
        return Err(EndorsementError::KeyPurpose { certificate: leaf.label() });
    }
    let identity = TpmIdentity::parse(leaf)?;
    Ok((verify_key(leaf)?, identity))
}

/// Judges a certificate as the issuer of another, with `below` authorities between it and the leaf. An authority
/// that names purposes must name `purpose`.
///
/// Self-issued authorities count as well, which RFC 5280 leaves out: manufacturers have none.
pub(super) fn verify_authority(
    authority: &Certificate<'_>,
    below: usize,
    purpose: Option<&[u8]>,
) -> Result<(), EndorsementError> {
    verify_extensions(authority)?;
    let refuse = || EndorsementError::NotAnAuthority { certificate: authority.label() };
    let constraints = basic_constraints(authority)?.filter(|found| found.ca).ok_or_else(refuse)?;
    if let Some(allowed) = constraints.path_len
        && usize::try_from(allowed).is_ok_and(|allowed| below > allowed)
    {
        return Err(EndorsementError::PathLength { certificate: authority.label(), allowed, found: below });
    }
    if key_usage(authority)?.is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(EndorsementError::KeyUsage { certificate: authority.label(), wanted: "keyCertSign" });
    }
    match (purpose, purposes(authority)?) {
        (Some(purpose), Some(purposes)) if !purposes.contains(&purpose) => {
            Err(EndorsementError::KeyPurpose { certificate: authority.label() })
        }
        _ => Ok(()),
    }
}

/// What a certificate's validity is held against. The two times differ when expiry is judged at manufacture:
/// manufacturers replace the certificates of their authorities, so the one at hand may have begun long after an
/// EK certificate of its making.
#[derive(Debug, Clone, Copy)]
pub(in crate::evidence) struct When {
    /// Certificates must have begun by now.
    pub(in crate::evidence) now: UnixTime,
    /// Certificates must not have ended before this.
    pub(in crate::evidence) alive_at: UnixTime,
}

/// Holds a certificate's validity against a time.
pub(super) fn verify_validity(certificate: &Certificate<'_>, when: When) -> Result<(), EndorsementError> {
    let Validity { not_before, not_after } = certificate.validity();
    if when.now < not_before {
        return Err(EndorsementError::NotYetValid {
            certificate: certificate.label(),
            not_before,
            at: when.now,
        });
    }
    if when.alive_at > not_after {
        return Err(EndorsementError::Expired {
            certificate: certificate.label(),
            not_after,
            at: when.alive_at,
        });
    }
    Ok(())
}

/// Version 3, no critical extension that is not understood, no name constraints at all.
pub(in crate::evidence) fn verify_extensions(certificate: &Certificate<'_>) -> Result<(), EndorsementError> {
    if certificate.version() != 3 {
        let version = certificate.version();
        return Err(EndorsementError::Version { certificate: certificate.label(), version });
    }
    if certificate.extension(oid::NAME_CONSTRAINTS).is_some() {
        return Err(EndorsementError::NameConstraints { certificate: certificate.label() });
    }
    let mut critical = certificate.extensions().iter().filter(|extension| extension.critical);
    match critical.find(|extension| !UNDERSTOOD.contains(&extension.oid)) {
        Some(unknown) => Err(EndorsementError::CriticalExtension {
            certificate: certificate.label(),
            extension: oid::text(unknown.oid),
        }),
        None => Ok(()),
    }
}

/// The certified key, if it is one that an EK can be.
fn verify_key(leaf: &Certificate<'_>) -> Result<SubjectKey, EndorsementError> {
    let unusable = |source| EndorsementError::Key { certificate: leaf.label(), source };
    let key = SubjectKey::parse(leaf.spki()).map_err(unusable)?;
    let fits = match &key {
        SubjectKey::Rsa { modulus, exponent } => {
            RSA_BITS.contains(&modulus_bits(modulus)) && exponent == RSA_EXPONENT
        }
        SubjectKey::Ec { curve, .. } => matches!(curve, Curve::P256 | Curve::P384 | Curve::P521),
    };
    if !fits {
        let key = format!("{} {}", key.kind(), key.size());
        return Err(EndorsementError::KeyKind { certificate: leaf.label(), key });
    }
    key.validate().map_err(unusable)?;
    Ok(key)
}

pub(in crate::evidence) fn basic_constraints(
    certificate: &Certificate<'_>,
) -> Result<Option<BasicConstraints>, EndorsementError> {
    read(certificate, oid::BASIC_CONSTRAINTS, extension::parse_basic_constraints)
}

pub(in crate::evidence) fn key_usage(
    certificate: &Certificate<'_>,
) -> Result<Option<KeyUsage>, EndorsementError> {
    read(certificate, oid::KEY_USAGE, extension::parse_key_usage)
}

fn purposes<'a>(certificate: &Certificate<'a>) -> Result<Option<Vec<&'a [u8]>>, EndorsementError> {
    read(certificate, oid::EXTENDED_KEY_USAGE, extension::parse_purposes)
}

/// Reads an extension if it is there.
pub(in crate::evidence) fn read<'a, T>(
    certificate: &Certificate<'a>,
    oid: &[u8],
    parse: impl Fn(&'a [u8]) -> Result<T, DerError>,
) -> Result<Option<T>, EndorsementError> {
    certificate.extension(oid).map(|found| parse(found.value)).transpose().map_err(|source| {
        EndorsementError::Extension { certificate: certificate.label(), extension: oid::text(oid), source }
    })
}
