//! Certificates for a plant that exists for one test.
#![expect(clippy::unwrap_used, reason = "a test without certificates has failed")]

use std::ops::Range;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// What a certificate is for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Server,
    Client,
}

/// A self-signed root.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// A new root of this name.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// The root's certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The root as a trust anchor.
    pub(crate) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        store
    }

    /// A certificate under the root.
    pub(crate) fn issue(&self, name: &str, purpose: Purpose) -> Issued {
        self.issue_for(name, purpose, -3_600..86_400)
    }

    /// A certificate that holds from so many seconds from now to so many.
    pub(crate) fn issue_for(&self, name: &str, purpose: Purpose, held: Range<i64>) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + Duration::seconds(held.start);
        params.not_after = now + Duration::seconds(held.end);
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Issued {
    /// The certificate as rustls takes it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    /// The key as rustls takes it.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}
