//! Who signed a trust set: the plant root signs the issuing certificate, that signs the set.

use policy::id::PlantDomain;
use policy::issuing::issuing_number;
use policy::time::UnixTime;
use proto::convert::heartbeat;
use proto::v1::{Heartbeat, SignedTrustSet};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::EndEntityCert;
use webpki::aws_lc_rs::{ECDSA_P256_SHA256, ECDSA_P384_SHA384};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::Expected;
use crate::plant::PlantRoot;

/// What the signature covers before the set itself.
const LABEL: &[u8] = b"touchstone/v1/trust-set\0";
/// ecdsa-with-SHA256 and ecdsa-with-SHA384 (RFC 5758, section 3.2): the algorithms of a plant root.
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

/// Why a trust set is not the plant's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The issuing certificate cannot be read.
    #[error("its issuing certificate cannot be read")]
    Certificate,
    /// Another root signed the issuing certificate.
    #[error("its issuing certificate is not signed by the pinned plant root")]
    OtherRoot,
    /// The certificate under the root is no authority.
    #[error("its signer is no issuing authority of the plant, or may sign certificates only")]
    NoAuthority,
    /// The issuing certificate does not hold at this time.
    #[error("its issuing certificate holds from {not_before} to {not_after}, and the time is {at}")]
    Time {
        /// First second.
        not_before: UnixTime,
        /// Last second.
        not_after: UnixTime,
        /// The time in question.
        at: UnixTime,
    },
    /// The set was changed, or somebody else signed it.
    #[error("its signature does not hold")]
    Signature,
}

/// An issuing certificate of the plant whose signature over the set holds.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Which issuing key of the plant it is.
    pub(super) number: u32,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Issuer {
    pub(super) fn holds_at(&self, at: UnixTime) -> Result<(), SignatureFault> {
        let Self { not_before, not_after, .. } = *self;
        match (not_before..=not_after).contains(&at) {
            true => Ok(()),
            false => Err(SignatureFault::Time { not_before, not_after, at }),
        }
    }
}

pub(super) fn verify(
    signed: &SignedTrustSet,
    root: &PlantRoot,
    plant: &PlantDomain,
) -> Result<Issuer, SignatureFault> {
    let message = [LABEL, &signed.trust_set].concat();
    verify_message(&message, &signed.signature, &signed.issuing_certificate, root, plant)
}

/// Whether the broker of the plant gave this sign of life to this device, at a time when its key was not replaced.
pub fn verify_heartbeat(beat: &Heartbeat, expected: &Expected<'_>) -> Result<(), SignatureFault> {
    let message = heartbeat(beat.broker_time, beat.trust_sequence, expected.device);
    let (signature, certificate) = (&beat.signature, &beat.issuing_certificate);
    let issuer = verify_message(&message, signature, certificate, expected.root, expected.plant)?;
    issuer.holds_at(UnixTime(beat.broker_time))?;
    match issuer.number >= expected.seen.issuing_number {
        true => Ok(()),
        false => Err(SignatureFault::NoAuthority),
    }
}

fn verify_message(
    message: &[u8],
    signature: &[u8],
    certificate: &[u8],
    root: &PlantRoot,
    plant: &PlantDomain,
) -> Result<Issuer, SignatureFault> {
    let issuer = verify_issuer(certificate, root, plant)?;
    let der = CertificateDer::from(certificate);
    let signer = EndEntityCert::try_from(&der).map_err(|_| SignatureFault::Certificate)?;
    signer.verify_signature(ECDSA_P256_SHA256, message, signature).map_err(|_| SignatureFault::Signature)?;
    Ok(issuer)
}

/// webpki builds paths to leaves only, and this certificate is an authority: its one link is verified here.
fn verify_issuer(der: &[u8], root: &PlantRoot, plant: &PlantDomain) -> Result<Issuer, SignatureFault> {
    let certificate = Certificate::from_der(der).map_err(|_| SignatureFault::Certificate)?;
    let tbs = certificate.tbs_certificate();
    let signed = tbs.to_der().map_err(|_| SignatureFault::Certificate)?;
    let signature = certificate.signature().as_bytes().ok_or(SignatureFault::Certificate)?;
    let algorithm = algorithm(certificate.signature_algorithm().oid).ok_or(SignatureFault::OtherRoot)?;
    let root = EndEntityCert::try_from(root.certificate()).map_err(|_| SignatureFault::OtherRoot)?;
    root.verify_signature(algorithm, &signed, signature).map_err(|_| SignatureFault::OtherRoot)?;
    let constraints = tbs.get_extension::<BasicConstraints>();
    let usage = tbs.get_extension::<KeyUsage>();
    match (constraints, usage) {
        (Ok(Some((_, constraints))), Ok(Some((_, usage)))) if constraints.ca && usage.digital_signature() => {
        }
        _ => return Err(SignatureFault::NoAuthority),
    }
    let subject = tbs.subject().to_der().map_err(|_| SignatureFault::Certificate)?;
    let number = issuing_number(&subject, plant).ok_or(SignatureFault::NoAuthority)?;
    let validity = tbs.validity();
    Ok(Issuer {
        number,
        not_before: UnixTime(validity.not_before.to_unix_duration().as_secs()),
        not_after: UnixTime(validity.not_after.to_unix_duration().as_secs()),
    })
}

fn algorithm(oid: ObjectIdentifier) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    match oid {
        ECDSA_SHA256 => Some(ECDSA_P256_SHA256),
        ECDSA_SHA384 => Some(ECDSA_P384_SHA384),
        _ => None,
    }
}
