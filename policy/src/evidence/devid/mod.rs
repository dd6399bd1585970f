//! Device identity by the manufacturer of the box: IDevID and IAK certificates (IEEE 802.1AR; TCG, TPM 2.0 Keys
//! for Device Identity and Attestation).
//!
//! [`verify_idevid`] and [`verify_iak`] walk from a certificate to a root of the manufacturer's;
//! [`IdevId::prove`] takes the device's signature over the qualifying data. A [`ProvenIdevId`] says which box
//! holds the key, and nothing about the TPM that signs quotes: box A's IDevID can vouch for box B's AK. So it
//! [identifies](ProvenIdevId::identify), and it is [`Binding::Bound`] only if the AK certifies its key to be in
//! the same TPM and the manufacturer says that it is in one, or if the manufacturer says with an IAK certificate that
//! the AK belongs to the box with this serial number.
//!
//! Serial numbers are unique for each manufacturer only. So an IAK counts if its chain ends at the same root as
//! the IDevID's: with two manufacturers trusted, box 123 of the one is not box 123 of the other.
//!
//! Not promised: revocation, and what a box's other names mean: `hwSerialNum` and permanent identifiers are
//! handed on as they are, for registers and people.

mod certificate;
mod error;

use aws_lc_rs::signature::{self as backend, UnparsedPublicKey, VerificationAlgorithm};

use super::endorsement::{RootStore, ValidityPolicy};
use super::identity::resident;
use crate::time::UnixTime;
use crate::tpm::alg::HashAlg;
use crate::tpm::public::{AttestationKey, Name};
use crate::tpm::signature::Signature;
use crate::x509::der;
use crate::x509::spki::{Curve, SubjectKey};

pub use certificate::{
    Described, DevIdCertificate, HardwareModule, MAX_SERIAL_NUMBER, PermanentIdentifier, describe,
};
use certificate::{IN_TPM, RESTRICTED};
pub use error::{BindingError, DevIdError};

/// An IDevID certificate that a trusted manufacturer issued. Only [`verify_idevid`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdevId(DevIdCertificate);

/// An IAK certificate that a trusted manufacturer issued. Only [`verify_iak`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iak(DevIdCertificate);

/// Verifies an IDevID certificate (DER, PEM or NV readout) at `at`. The intermediates come from the device; they
/// help to find a path and are never a root.
pub fn verify_idevid(
    idevid: &[u8],
    intermediates: &[&[u8]],
    roots: &RootStore,
    at: UnixTime,
    policy: ValidityPolicy,
) -> Result<IdevId, DevIdError> {
    DevIdCertificate::verify("IDevID", idevid, intermediates, roots, (at, policy)).map(IdevId)
}

/// Verifies an IAK certificate as [`verify_idevid`] does an IDevID's. Its issuer must say that it verified the
/// key to live in a TPM and to be restricted: else it could be any key, and sign any quote.
pub fn verify_iak(
    iak: &[u8],
    intermediates: &[&[u8]],
    roots: &RootStore,
    at: UnixTime,
    policy: ValidityPolicy,
) -> Result<Iak, DevIdError> {
    let certificate = DevIdCertificate::verify("IAK", iak, intermediates, roots, (at, policy))?;
    match certificate.unverified(&[IN_TPM.as_slice(), &[RESTRICTED]].concat()) {
        Some(policy) => Err(DevIdError::Policy { certificate: certificate.label().to_owned(), policy }),
        None => Ok(Iak(certificate)),
    }
}

impl Iak {
    /// What the certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &DevIdCertificate {
        &self.0
    }
}

impl IdevId {
    /// What the certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &DevIdCertificate {
        &self.0
    }

    /// Verifies that the IDevID key signed `qualifying_data`, made for
    /// [`Purpose::DeviceIdentity`](super::Purpose::DeviceIdentity). `signature` is a `TPMT_SIGNATURE`: ECDSA with
    /// the hash of the curve's size (802.1AR-2018, section 9), or RSASSA with SHA-256.
    pub fn prove(self, qualifying_data: [u8; 32], signature: &[u8]) -> Result<ProvenIdevId, DevIdError> {
        let signature = Signature::parse(signature).map_err(DevIdError::Signature)?;
        let refuse = || DevIdError::NotSigned { certificate: self.0.label().to_owned() };
        let (algorithm, key, bytes): (&'static dyn VerificationAlgorithm, Vec<u8>, Vec<u8>) =
            match (self.0.key(), &signature) {
                (SubjectKey::Ec { curve, point }, Signature::Ecdsa { hash, r, s }) => {
                    let algorithm = ecdsa(*curve, *hash).ok_or_else(refuse)?;
                    let numbers = [der::encode_unsigned(r), der::encode_unsigned(s)];
                    let [r, s] = &numbers;
                    (algorithm, point.clone(), der::encode(der::SEQUENCE, &[r, s]))
                }
                (SubjectKey::Rsa { .. }, Signature::RsaSsa { hash: HashAlg::Sha256, signature }) => {
                    (&backend::RSA_PKCS1_2048_8192_SHA256, self.0.key().to_der(), signature.to_vec())
                }
                _ => return Err(refuse()),
            };
        let verified = UnparsedPublicKey::new(algorithm, key).verify(&qualifying_data, &bytes);
        verified.map_err(|_| refuse())?;
        Ok(ProvenIdevId(self.0))
    }
}

fn ecdsa(curve: Curve, hash: HashAlg) -> Option<&'static dyn VerificationAlgorithm> {
    match (curve, hash) {
        (Curve::P256, HashAlg::Sha256) => Some(&backend::ECDSA_P256_SHA256_ASN1),
        (Curve::P384, HashAlg::Sha384) => Some(&backend::ECDSA_P384_SHA384_ASN1),
        (Curve::P521, HashAlg::Sha512) => Some(&backend::ECDSA_P521_SHA512_ASN1),
        _ => None,
    }
}

/// An IDevID whose key signed for this challenge and statement. Only [`IdevId::prove`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenIdevId(DevIdCertificate);

/// What ties the box to the TPM that signs its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// The attestation key with this Name belongs to the box.
    Bound {
        /// Name of the attestation key.
        ak: Name,
        /// How that is known.
        by: BoundBy,
    },
    /// Nothing: the PCR claims of whoever presents this identity stay 0.
    IdentifiesOnly,
}

/// How it is known that a box and an attestation key belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundBy {
    /// The attestation key certified the IDevID key to live in its own TPM (TPM2_Certify).
    Certify,
    /// The manufacturer certified the attestation key for the box with the same serial number.
    IakCertificate,
}

/// Which box it is. Only [`ProvenIdevId`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceIdentity {
    certificate: DevIdCertificate,
    binding: Binding,
}

impl DeviceIdentity {
    /// What the IDevID certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &DevIdCertificate {
        &self.certificate
    }

    /// What ties the box to an attestation key.
    #[must_use]
    pub const fn binding(&self) -> Binding {
        self.binding
    }
}

impl ProvenIdevId {
    /// The box is identified, and bound to no TPM.
    #[must_use]
    pub fn identify(self) -> DeviceIdentity {
        DeviceIdentity { certificate: self.0, binding: Binding::IdentifiesOnly }
    }

    /// Binds the box to `ak` by a certification of the IDevID key: `public` is its `TPMT_PUBLIC`, `certification`
    /// the `TPMS_ATTEST` and `TPMT_SIGNATURE` of TPM2_Certify by `ak` over `qualifying_data`.
    ///
    /// The manufacturer must say that the key lives in a TPM. Whoever has it in a file makes an attestation key in
    /// software as well, which certifies whatever they like.
    pub fn bind_by_certify(
        self,
        public: &[u8],
        certification: (&[u8], &[u8]),
        ak: &AttestationKey,
        qualifying_data: [u8; 32],
    ) -> Result<DeviceIdentity, BindingError> {
        let key = resident(public, certification, ak, qualifying_data).map_err(BindingError::Certify)?;
        let (certified, idevid) = (key.spki_digest(), self.0.key().digest());
        if certified != idevid {
            return Err(BindingError::OtherKey { certified, idevid });
        }
        if let Some(policy) = self.0.unverified(&IN_TPM) {
            return Err(BindingError::Policy { certificate: self.0.label().to_owned(), policy });
        }
        Ok(self.bound(ak, BoundBy::Certify))
    }

    /// Binds the box to `ak` by the manufacturer's IAK certificate.
    pub fn bind_by_iak(self, iak: &Iak, ak: &AttestationKey) -> Result<DeviceIdentity, BindingError> {
        let (certified, presented) = (iak.0.key().digest(), ak.public().spki_digest());
        if certified != presented {
            return Err(BindingError::OtherAk { certified, presented });
        }
        if iak.0.root_digest() != self.0.root_digest() {
            return Err(BindingError::OtherRoot {
                idevid: self.0.root_subject().to_owned(),
                iak: iak.0.root_subject().to_owned(),
            });
        }
        if iak.0.serial_number() != self.0.serial_number() {
            return Err(BindingError::OtherSerial {
                idevid: self.0.serial_number().to_owned(),
                iak: iak.0.serial_number().to_owned(),
            });
        }
        Ok(self.bound(ak, BoundBy::IakCertificate))
    }

    fn bound(self, ak: &AttestationKey, by: BoundBy) -> DeviceIdentity {
        DeviceIdentity { certificate: self.0, binding: Binding::Bound { ak: ak.name(), by } }
    }
}
