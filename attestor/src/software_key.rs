//! Keys in software: for workloads, for servers of this device that cannot use one in the TPM, and of a device that has
//! none.
//!
//! Promises: a key is made anew for every certificate and never shown in logs; a [`HeldSoftwareKey`] is a key together
//! with the certificate for that very key.
//! Does not promise that it stays here: whoever reads the state or the delivered file can copy it. What bounds that is
//! the certificate, which ends with the device's own and is revoked with it.

use std::fmt;
use std::sync::Arc;

use pem::{EncodeConfig, LineEnding, Pem};
use policy::digest::Digest;
use policy::id::{DeviceName, PlantDomain, ServiceName, WorkloadName, ZoneName};
use proto::v1;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey,
};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, alg_id};
use rustls::sign::public_key_to_spki;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::role::{Role, Seat};
use crate::svid::{Asked, HeldSvid, SvidError};

/// What a software key is for: one holder on this device in one zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SoftwareSeat {
    /// The zone.
    pub zone: ZoneName,
    /// Who has the key there.
    #[serde(flatten)]
    pub holder: Holder,
}

/// Who has a software key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// The server of a service, in the device's own name.
    Service(ServiceName),
    /// A workload, in a name of its own.
    Workload {
        /// Its name.
        name: WorkloadName,
        /// The side of connections that it is on.
        role: Role,
    },
}

impl SoftwareSeat {
    /// The place of the device's own certificate that a software key's ends with.
    #[must_use]
    pub fn own(&self) -> Seat {
        let role = match &self.holder {
            Holder::Service(_) => Role::Listener,
            Holder::Workload { role, .. } => *role,
        };
        Seat { zone: self.zone.clone(), role }
    }

    /// The workload that its certificate names; None: the device itself.
    #[must_use]
    pub const fn workload(&self) -> Option<&WorkloadName> {
        match &self.holder {
            Holder::Service(_) => None,
            Holder::Workload { name, .. } => Some(name),
        }
    }

    /// The place that a message of the broker names; None if it names none.
    #[must_use]
    pub fn from_wire(zone: &str, service: &str, workload: &str, role: v1::Role) -> Option<Self> {
        let holder = match (service.is_empty(), workload.is_empty()) {
            (false, true) => Holder::Service(service.parse().ok()?),
            (true, false) => Holder::Workload { name: workload.parse().ok()?, role: Role::from_wire(role)? },
            _ => return None,
        };
        Some(Self { zone: zone.parse().ok()?, holder })
    }

    /// What the broker is asked for.
    #[must_use]
    pub fn to_wire(&self, csr: Vec<u8>) -> v1::SoftwareKey {
        let asked = v1::SoftwareKey { zone: self.zone.to_string(), csr, ..v1::SoftwareKey::default() };
        match &self.holder {
            Holder::Service(service) => v1::SoftwareKey { service: service.to_string(), ..asked },
            Holder::Workload { name, role } => {
                v1::SoftwareKey { workload: name.to_string(), role: role.to_wire().into(), ..asked }
            }
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "{service}"),
            Self::Workload { name, .. } => write!(f, "workload {name}"),
        }
    }
}

impl fmt::Display for SoftwareSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in zone {}", self.holder, self.zone)
    }
}

/// A P-256 key in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct SoftwareKey {
    pkcs8: Zeroizing<Vec<u8>>,
    point: Vec<u8>,
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoftwareKey(..)")
    }
}

impl SoftwareKey {
    /// A new key.
    pub fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|key| Self::of(&key))
    }

    /// The key in a PKCS#8 document (DER).
    pub fn from_pkcs8(der: Vec<u8>) -> Result<Self, rcgen::Error> {
        let der = Zeroizing::new(der);
        KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(der.as_slice()),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map(|key| Self::of(&key))
    }

    fn of(key: &KeyPair) -> Self {
        Self { pkcs8: Zeroizing::new(key.serialize_der()), point: key.der_bytes().to_vec() }
    }

    /// The public point, uncompressed.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        public_key_to_spki(&alg_id::ECDSA_P256, &self.point).to_vec()
    }

    /// SHA-256 of [`Self::spki`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.spki())
    }

    /// Signs with ECDSA and SHA-256; gives a DER Ecdsa-Sig-Value (RFC 3279, section 2.2.3).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.pair()?.sign(message)
    }

    /// The key for TLS.
    pub fn signing_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, rustls::Error> {
        any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.as_slice())))
    }

    fn pair(&self) -> Result<KeyPair, rcgen::Error> {
        let key = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
    }

    /// The private key as PKCS#8, DER.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A certificate request (PKCS#10, DER) signed by the key. It names nobody: the broker writes names itself.
    pub fn request(&self) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&self.pair()?)?.der().to_vec())
    }

    /// The private key as PKCS#8 in PEM, as servers read it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new("PRIVATE KEY", self.pkcs8.as_slice()), config)
    }
}

/// A software key with the certificate for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSoftwareKey {
    key: SoftwareKey,
    svid: HeldSvid,
}

impl HeldSoftwareKey {
    /// Takes what `read` makes of the certificate that must be for `key` of `device` at `seat`: either
    /// [`HeldSvid::accept`] or [`HeldSvid::recall`].
    pub(crate) fn take(
        key: SoftwareKey,
        seat: &SoftwareSeat,
        plant: &PlantDomain,
        device: &DeviceName,
        read: impl FnOnce(&Asked<'_>) -> Result<HeldSvid, SvidError>,
    ) -> Result<Self, SvidError> {
        let (own, workload) = (seat.own(), seat.workload());
        let svid = read(&Asked { seat: &own, point: key.point(), plant, device, workload })?;
        Ok(Self { key, svid })
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &SoftwareKey {
        &self.key
    }

    /// Its certificate.
    #[must_use]
    pub const fn svid(&self) -> &HeldSvid {
        &self.svid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_another_one_and_survives_its_encoding() {
        let (key, other) = (SoftwareKey::generate().unwrap(), SoftwareKey::generate().unwrap());
        assert_ne!(key.point(), other.point());
        assert_eq!(SoftwareKey::from_pkcs8(key.pkcs8().to_vec()).unwrap(), key);
        assert!(key.to_pem().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let csr = key.request().unwrap();
        let read = rcgen::CertificateSigningRequestParams::from_der(&csr.as_slice().into()).unwrap();
        assert_eq!(read.public_key.der_bytes(), key.point());
    }

    #[test]
    fn it_is_never_shown() {
        let key = SoftwareKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "SoftwareKey(..)");
    }

    #[test]
    fn keys_of_another_kind_are_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(SoftwareKey::from_pkcs8(other.serialize_der()).is_err());
    }
}
