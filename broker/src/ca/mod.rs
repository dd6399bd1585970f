//! Certificates: the keys that sign them, what they look like, and the one door through which a
//! device gets one.
//!
//! [`Issuer::issue`] takes an [`IssuanceGrant`] and nothing else, so no certificate leaves for a
//! device that was not appraised.

pub mod profile;

use policy::grant::IssuanceGrant;
use policy::time::{UnixTime, Validity};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SigningKey, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

pub use self::profile::Serial;

/// Why a certificate or CRL could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate library refused.
    #[error("the certificate could not be built")]
    Build(#[source] rcgen::Error),
    /// A field could not be encoded.
    #[error("a certificate field could not be encoded")]
    Encode(#[source] x509_cert::der::Error),
    /// A point in time that a certificate cannot state.
    #[error("{0} cannot be written into a certificate; set the broker's clock")]
    Time(UnixTime),
}

/// A P-256 signing key of an authority. Never printed.
pub struct AuthorityKey(KeyPair);

impl std::fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthorityKey(..)")
    }
}

impl AuthorityKey {
    /// A new key.
    pub fn generate() -> Result<Self, CaError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(CaError::Build)
    }

    /// The key in this PKCS#8 document.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CaError> {
        KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).map(Self).map_err(CaError::Build)
    }

    /// The key as PKCS#8, to be wrapped before it is stored.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.0)
    }

    /// A self-signed certificate for this key.
    pub fn self_signed(&self, params: &CertificateParams) -> Result<Vec<u8>, CaError> {
        Ok(params.self_signed(&self.0).map_err(CaError::Build)?.der().to_vec())
    }
}

/// An entry of a CRL.
#[derive(Debug, Clone, Copy)]
pub struct Revoked {
    /// The certificate.
    pub serial: Serial,
    /// When it was revoked.
    pub at: UnixTime,
}

/// A certificate that was issued to a device.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// When it holds.
    pub validity: Validity,
}

/// The public key (`SubjectPublicKeyInfo`, DER) of a PKCS#10 request (RFC 2986) that its key signed. Only P-256 is
/// certified, and nothing else of the request is used.
pub(crate) fn requested_key(csr: &[u8]) -> Result<Vec<u8>, CaError> {
    let request = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).map_err(CaError::Build)?;
    let key = request.public_key;
    let point = rcgen::PublicKeyData::der_bytes(&key);
    // The algorithm is that of the signature: the point must be one of P-256 itself, not compressed (SEC 1, 2.3.3).
    if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || point.len() != 65 || point.first() != Some(&4) {
        return Err(CaError::Build(rcgen::Error::UnsupportedSignatureAlgorithm));
    }
    Ok(rcgen::PublicKeyData::subject_public_key_info(&key))
}

/// A key together with the certificate that says what it may sign.
#[derive(Debug)]
pub struct Issuer {
    certificate: Vec<u8>,
    not_after: UnixTime,
    issuer: rcgen::Issuer<'static, AuthorityKey>,
}

impl rcgen::PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Issuer {
    /// The issuer with this certificate (DER) and its key.
    pub fn new(certificate: Vec<u8>, not_after: UnixTime, key: AuthorityKey) -> Result<Self, CaError> {
        let der = CertificateDer::from(certificate.as_slice());
        let issuer = rcgen::Issuer::from_ca_cert_der(&der, key).map_err(CaError::Build)?;
        Ok(Self { certificate, not_after, issuer })
    }

    /// DER of the issuer's certificate.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// When the issuer's certificate ends.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// ECDSA P-256 SHA-256 over `message`, ASN.1.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CaError> {
        self.issuer.key().sign(message).map_err(CaError::Build)
    }

    /// The only way to a device's certificate.
    pub fn issue(&self, grant: &IssuanceGrant, serial: Serial) -> Result<IssuedCertificate, CaError> {
        let validity = grant.validity();
        // A leaf must not outlive its authority: verifiers would refuse it earlier than it says.
        let not_after = validity.not_after.min(self.not_after);
        let validity = Validity { not_after, ..validity };
        let params = profile::leaf(grant.spiffe_id(), grant.role(), grant.addresses(), validity, serial)?;
        let der = self.sign_certificate(&params, grant.spki_der())?;
        Ok(IssuedCertificate { der, validity })
    }

    /// A certificate for the public key `spki` (DER) with exactly these parameters. For the broker's
    /// own certificates and administrators; devices go through [`Self::issue`].
    pub(crate) fn sign_certificate(
        &self,
        params: &CertificateParams,
        spki: &[u8],
    ) -> Result<Vec<u8>, CaError> {
        let key = SubjectPublicKeyInfo::from_der(spki).map_err(CaError::Build)?;
        Ok(params.signed_by(&key, &self.issuer).map_err(CaError::Build)?.der().to_vec())
    }

    /// The CRL of this issuer. Its nextUpdate is the issuer's own notAfter: a stale CRL must not stop a
    /// plant; freshness comes from push and from the trust set's sequence.
    pub fn crl(&self, number: u64, this_update: UnixTime, revoked: &[Revoked]) -> Result<Vec<u8>, CaError> {
        let revoked_certs = revoked
            .iter()
            .map(|entry| {
                Ok(RevokedCertParams {
                    serial_number: entry.serial.to_rcgen(),
                    revocation_time: profile::instant(entry.at)?,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<Vec<_>, CaError>>()?;
        let params = CertificateRevocationListParams {
            this_update: profile::instant(this_update)?,
            next_update: profile::instant(self.not_after)?,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer).map_err(CaError::Build)?.der().to_vec())
    }
}
