//! The pinned plant root: the only thing a device believes before it has spoken to anyone.

use std::path::{Path, PathBuf};

use policy::digest::Digest;
use policy::id::PlantDomain;
use policy::x509::certificate::Certificate;
use policy::x509::name::attributes;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::durable;
use crate::svid::spki_digest;

/// Longest root file in bytes; a certificate in PEM takes about 900.
const MAX_FILE: u64 = 64 * 1024;

/// `id-at-commonName` (RFC 5280, appendix A.1), contents of the object identifier.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// Ends the common name of a plant's root, after the plant.
const ROOT: &str = " plant root";

/// The plant root's certificate.
#[derive(Debug, Clone)]
pub struct PlantRoot {
    certificate: CertificateDer<'static>,
    spki_digest: Digest,
}

/// The plant root cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PlantRootError {
    /// The file cannot be read.
    #[error(
        "the plant root {} cannot be read: {source}; copy plant-root.pem from the broker's recovery kit there",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It is not exactly one certificate.
    #[error(
        "the plant root {} is not one certificate in PEM; copy plant-root.pem from the broker's recovery kit there",
        file.display()
    )]
    NotOne {
        /// The file.
        file: PathBuf,
    },
}

impl PlantRoot {
    /// Pins the one certificate of a PEM file.
    pub fn load(file: &Path) -> Result<Self, PlantRootError> {
        let pem = durable::read_bounded(file, MAX_FILE)
            .map_err(|source| PlantRootError::Unreadable { file: file.to_owned(), source })?;
        let not_one = || PlantRootError::NotOne { file: file.to_owned() };
        let blocks = pem::parse_many(pem).map_err(|_| not_one())?;
        match blocks.as_slice() {
            [block] if block.tag() == "CERTIFICATE" => Self::pin(block.contents()).ok_or_else(not_one),
            _ => Err(not_one()),
        }
    }

    /// Pins a certificate (DER); None if it is none.
    #[must_use]
    pub fn pin(der: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from(der.to_vec());
        webpki::anchor_from_trusted_cert(&certificate).ok()?;
        Some(Self { spki_digest: spki_digest(der)?, certificate })
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub const fn spki_digest(&self) -> Digest {
        self.spki_digest
    }

    /// The plant that it says it is the root of.
    #[must_use]
    pub fn plant(&self) -> Option<PlantDomain> {
        let certificate = Certificate::parse(&self.certificate).ok()?;
        let names = attributes(certificate.subject()).ok()?;
        let [only] = names.as_slice() else { return None };
        let text = std::str::from_utf8(only.value).ok().filter(|_| only.oid == COMMON_NAME)?;
        text.strip_suffix(ROOT)?.parse().ok()
    }

    /// A store of roots with this one alone.
    pub(crate) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates([self.certificate.clone()]);
        store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content: &str) -> PlantRootError {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("root.pem");
        std::fs::write(&file, content).unwrap();
        PlantRoot::load(&file).unwrap_err()
    }

    #[test]
    fn exactly_one_certificate_is_pinned() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        assert!(matches!(refusal(""), PlantRootError::NotOne { .. }));
        assert!(matches!(refusal(&pem.repeat(2)), PlantRootError::NotOne { .. }));
        assert!(matches!(refusal(&key.serialize_pem()), PlantRootError::NotOne { .. }));
        let gone = PlantRoot::load(Path::new("/nonexistent/root.pem")).unwrap_err();
        assert!(gone.to_string().contains("recovery kit"), "{gone}");
    }
}
