//! TLS of the broker's one port: TLS 1.3, a client certificate if the client has one, no resumption.
//!
//! A resumed session never meets the verifier again, so tickets are off. Server certificate and
//! client anchors are swapped while the broker runs; new handshakes follow at once.

use std::iter;
use std::sync::Arc;

use arc_swap::ArcSwap;
use policy::time::{UnixTime, Validity};
use rustls::DigitallySignedStruct;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, ServerConfig, SignatureScheme};

use crate::ca::{AuthorityKey, CaError, profile};
use crate::grpc::peer::Anchors;
use crate::metrics::CertificateKind;
use crate::plant::Plant;
use crate::ports::{Clock, EntropyError};

/// How long the broker's own certificate lives. A new one is made at each start, halfway, and when the clock was set.
const SERVER_LIFETIME: u64 = 30 * 86_400;
/// A day back, for devices whose clocks run late.
const SERVER_BACKDATE: u64 = 86_400;

/// The broker's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server certificate cannot be made.
    #[error("the broker's own certificate cannot be made")]
    Ca(#[from] CaError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// rustls refused the configuration.
    #[error("TLS cannot be configured: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The TLS material of the port, each part swappable.
#[derive(Debug)]
pub struct Tls {
    /// What client certificates are verified against.
    pub anchors: ArcSwap<Anchors>,
    server: ArcSwap<Shown>,
}

/// The broker's own certificate.
#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

impl Tls {
    /// Makes a server certificate and an empty set of anchors.
    pub fn new(plant: &Plant) -> Result<Arc<Self>, TlsError> {
        let server = ArcSwap::from_pointee(server_certificate(plant)?);
        Ok(Arc::new(Self { anchors: ArcSwap::default(), server }))
    }

    /// Whether it is time for another server certificate. A clock that was set makes it so at once: the broker may have
    /// started with another time, or slept.
    #[must_use]
    pub fn is_due(&self, now: UnixTime) -> bool {
        let Validity { not_before, not_after } = self.server.load().validity;
        now < not_before || now >= not_before.plus(not_after.since(not_before) / 2)
    }

    /// Replaces the server certificate with a fresh one.
    pub fn renew(&self, plant: &Plant) -> Result<(), TlsError> {
        self.server.store(Arc::new(server_certificate(plant)?));
        Ok(())
    }

    /// What the broker shows of itself.
    pub(crate) fn server(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.server.load().certified)
    }

    /// The configuration of the port.
    pub fn config(self: &Arc<Self>, clock: Arc<dyn Clock>) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier { tls: Arc::clone(self), clock, provider: Arc::clone(&provider) };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

fn server_certificate(plant: &Plant) -> Result<Shown, TlsError> {
    let now = plant.now();
    let keys = plant.keys.load();
    let key = AuthorityKey::generate()?;
    let not_after = now.plus(SERVER_LIFETIME).min(keys.issuing.not_after());
    let validity = Validity { not_before: now.minus(SERVER_BACKDATE), not_after };
    let params = profile::broker_server(&keys.domain, validity, plant.serial()?)?;
    let leaf = keys.issuing.sign_certificate(&params, &key.spki())?;
    // The root too: who was given only its fingerprint finds the certificate here.
    let above = [keys.issuing.certificate().to_vec(), keys.root.clone()].map(CertificateDer::from);
    let chain = iter::once(CertificateDer::from(leaf)).chain(above).collect();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()));
    plant.metrics.issued(CertificateKind::Server);
    plant.metrics.serves_until(validity.not_after);
    let certified = Arc::new(CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&der)?));
    Ok(Shown { certified, validity })
}

#[derive(Debug)]
struct Resolver(Arc<Tls>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.server())
    }
}

#[derive(Debug)]
struct Verifier {
    tls: Arc<Tls>,
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let now: UnixTime = self.clock.now();
        self.tls
            .anchors
            .load()
            .identify(leaf, chain, now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
