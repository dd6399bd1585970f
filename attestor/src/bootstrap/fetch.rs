//! A plant root that is known by its fingerprint: the broker shows the certificate in its own chain.
//!
//! Promises: what is given back has a key of that fingerprint, and who showed it has a key under it in the name of the
//! plant's broker. Who has no such key can show the certificate, and cannot sign what must be under it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use policy::digest::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::BrokerVerifier;
use crate::config::BrokerAddress;
use crate::plant::PlantRoot;

/// Time for TCP and TLS.
const DEADLINE: Duration = Duration::from_secs(15);

/// The plant root is not known yet.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody is there.
    #[error(
        "the plant root cannot be fetched from {broker}: {reason}; bring the network to the broker up, it is tried again"
    )]
    Unreachable {
        /// Whom was asked.
        broker: BrokerAddress,
        /// Why.
        reason: String,
    },
    /// Somebody is, and not the plant's broker.
    #[error(
        "{broker} shows no plant root whose key has the digest {fingerprint}, or is not under it: {reason}; correct \
         touchstone.root_sha256 or the broker's address"
    )]
    Another {
        /// Whom was asked.
        broker: BrokerAddress,
        /// Whom it should be.
        fingerprint: Digest,
        /// Why.
        reason: String,
    },
}

/// The plant root (DER) with this fingerprint, as the broker shows it.
pub(super) async fn fetch(broker: &BrokerAddress, fingerprint: Digest) -> Result<Vec<u8>, FetchError> {
    let unreachable = |reason: String| FetchError::Unreachable { broker: broker.clone(), reason };
    let another = |reason: String| FetchError::Another { broker: broker.clone(), fingerprint, reason };
    let pinned = Arc::new(Pinned::new(fingerprint));
    let config = config(Arc::clone(&pinned)).map_err(|error| another(error.to_string()))?;
    // It only routes: whose name it must be is in the plant root.
    let name = ServerName::try_from(broker.host.clone()).map_err(|error| unreachable(error.to_string()))?;
    let handshake = async {
        let tcp = TcpStream::connect((broker.host.as_str(), broker.port)).await;
        let tcp = tcp.map_err(|error| unreachable(error.to_string()))?;
        let done = TlsConnector::from(config).connect(name, tcp).await;
        done.map(drop).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(refused) => another(refused.to_string()),
                None => unreachable(error.to_string()),
            }
        })
    };
    match timeout(DEADLINE, handshake).await {
        Ok(done) => done?,
        Err(_) => return Err(unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
    pinned.found.get().map(|root| root.to_vec()).ok_or_else(|| another("it showed none".to_owned()))
}

fn config(pinned: Arc<Pinned>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::clone(&pinned.provider);
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = config.dangerous().with_custom_certificate_verifier(pinned).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Verifies a server under that certificate of its own chain which has the fingerprint.
#[derive(Debug)]
struct Pinned {
    fingerprint: Digest,
    found: OnceLock<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn new(fingerprint: Digest) -> Self {
        Self { fingerprint, found: OnceLock::new(), provider: Arc::new(aws_lc_rs::default_provider()) }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut roots = chain.iter().filter_map(|certificate| PlantRoot::pin(certificate));
        let root = roots.find(|root| root.spki_digest() == self.fingerprint);
        let root = root.ok_or(CertificateError::UnknownIssuer)?;
        let plant = root.plant().ok_or(CertificateError::BadEncoding)?;
        let name = ServerName::try_from(plant.broker_name()).map_err(|_| CertificateError::BadEncoding)?;
        let verifier = BrokerVerifier::new(&root, plant, 0, Arc::clone(&self.provider))?;
        let verified = verifier.verify_server_cert(leaf, chain, &name, ocsp, now)?;
        // One connection, one server: there is no second root to keep.
        drop(self.found.set(root.certificate().clone()));
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
