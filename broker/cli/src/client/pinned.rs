//! The plant root as the broker shows it, believed for its fingerprint alone.

use std::sync::{Arc, OnceLock};

use policy::digest::Digest;
use proto::invitation::Code;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::context::spki;

/// Whether `certificate` is for the plant root's key whose fingerprint the code of an invitation has.
pub(crate) fn is_root(code: &Code, certificate: &[u8]) -> bool {
    spki(certificate).is_some_and(|spki| code.is_for(&Digest::of(&spki)))
}

/// Verifies a server under that certificate of its own chain which is the plant root of a code.
///
/// Who has no key of that fingerprint can show the root's certificate, and cannot sign what must be under it.
#[derive(Debug)]
pub(super) struct Pinned {
    code: Code,
    found: OnceLock<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// A verifier that knows the root by `code`.
    pub(super) fn new(code: Code) -> Self {
        Self { code, found: OnceLock::new(), provider: Arc::new(aws_lc_rs::default_provider()) }
    }

    /// The root under which a server was verified.
    pub(super) fn found(&self) -> Option<CertificateDer<'static>> {
        self.found.get().cloned()
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = chain.iter().find(|certificate| is_root(&self.code, certificate));
        let root = root.ok_or(CertificateError::UnknownIssuer)?.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(leaf, chain, name, ocsp, now)?;
        // One connection, one server: there is no second root to keep.
        let _ = self.found.set(root);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
