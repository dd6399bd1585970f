//! A manufacturer's workshop: authorities and EK certificates to order, right and wrong.
#![expect(clippy::unwrap_used, reason = "tests")]

use base64::Engine;
use policy::evidence::endorsement::{EndorsedEk, EndorsementError, RootStore, ValidityPolicy, endorse};
use policy::time::UnixTime;
use policy::x509::der;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// When certificates are judged, unless a test says otherwise.
pub(crate) const AT: &str = "2026-06-01T00:00:00Z";

/// The contents of a key purpose for EKs, by its arcs.
pub(crate) const EK_PURPOSE: [u64; 5] = [2, 23, 133, 8, 1];

/// An authority with a key and one certificate.
pub(crate) struct Authority {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

impl Authority {
    /// A self-signed authority.
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    /// A self-signed authority with changes.
    pub(crate) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::root_of(KeyPair::generate().unwrap(), name, change)
    }

    /// A self-signed authority of this key, with changes.
    pub(crate) fn root_of(key: KeyPair, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        self.below_with(name, |_| {})
    }

    /// An authority below this one, with changes.
    pub(crate) fn below_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        self.below_of(KeyPair::generate().unwrap(), name, change)
    }

    /// An authority of this key below this one, with changes.
    pub(crate) fn below_of(
        &self,
        key: KeyPair,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// A certificate of this authority for another one's name and key.
    pub(crate) fn cross_sign(&self, other: &Self) -> Vec<u8> {
        other.params.signed_by(&other.key, &self.issuer()).unwrap().der().to_vec()
    }

    /// An EK certificate.
    pub(crate) fn ek(&self) -> Vec<u8> {
        self.ek_with(|_| {})
    }

    /// An EK certificate with changes.
    pub(crate) fn ek_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        self.ek_for(&KeyPair::generate().unwrap(), change)
    }

    /// An EK certificate for a key, with changes.
    pub(crate) fn ek_for(
        &self,
        key: &impl rcgen::PublicKeyData,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<u8> {
        let mut params = ek_params();
        change(&mut params);
        params.signed_by(key, &self.issuer()).unwrap().der().to_vec()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2050, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ek_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_PURPOSE.to_vec())];
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = vec![tpm_names(&TPM)];
    params
}

/// The TCG attributes of the workshop's TPMs: last arc of the type, value.
pub(crate) const TPM: [(u8, &str); 3] = [(1, "id:49465800"), (2, "SLB 9670"), (3, "id:073D")];

/// A critical subjectAltName with one directoryName of these attributes.
pub(crate) fn tpm_names(attributes: &[(u8, &str)]) -> CustomExtension {
    let rdns = attributes.iter().map(|(arc, value)| {
        let oid = der::encode(der::OBJECT_IDENTIFIER, &[&[0x67, 0x81, 0x05, 0x02, *arc]]);
        let value = der::encode(0x0c, &[value.as_bytes()]);
        der::encode(der::SET, &[&der::encode(der::SEQUENCE, &[&oid, &value])])
    });
    let name = der::encode(der::SEQUENCE, &[&rdns.collect::<Vec<_>>().concat()]);
    let names = der::encode(der::SEQUENCE, &[&der::encode(0xa4, &[&name])]);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
    extension.set_criticality(true);
    extension
}

/// A certificate in PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A store of these certificates.
pub(crate) fn store(certificates: &[&[u8]]) -> RootStore {
    let mut roots = RootStore::new();
    for certificate in certificates {
        roots.add("roots.pem", certificate).unwrap();
    }
    roots
}

/// Judges an EK certificate at [`AT`].
pub(crate) fn judge(ek: &[u8], extras: &[&[u8]], roots: &RootStore) -> Result<EndorsedEk, EndorsementError> {
    let at: UnixTime = AT.parse().unwrap();
    endorse(ek, extras, roots, at, ValidityPolicy::AtTime)
}
