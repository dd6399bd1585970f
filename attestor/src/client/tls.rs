//! TLS to the broker: version 1.3, the pinned plant root as the only anchor, the plant's name for the broker.

use std::sync::Arc;

use policy::id::PlantDomain;
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime as TlsTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};

use super::verifier::BrokerVerifier;
use crate::plant::PlantRoot;
use crate::ports::Clock;

/// What the device presents where the broker asks who it is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Its caller certificate with its chain, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The key of it.
    pub key: Arc<dyn SigningKey>,
}

/// Whom the device believes to be the broker.
pub(super) struct Believed<'a> {
    pub(super) root: &'a PlantRoot,
    pub(super) plant: &'a PlantDomain,
    /// The highest number of an issuing key that was seen.
    pub(super) issuing_number: u32,
    pub(super) clock: &'a Arc<dyn Clock>,
}

impl Believed<'_> {
    /// No client certificate: enrollment and attestation prove themselves by the TPM.
    pub(super) fn anonymous(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        Ok(finished(self.base()?.with_no_client_auth()))
    }

    /// The device's own certificate.
    pub(super) fn identified(&self, credentials: Credentials) -> Result<Arc<ClientConfig>, rustls::Error> {
        let chain = credentials.chain.into_iter().map(CertificateDer::from).collect();
        let certified = CertifiedKey::new(chain, credentials.key);
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        Ok(finished(self.base()?.with_client_cert_resolver(resolver)))
    }

    fn base(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (plant, seen) = (self.plant.clone(), self.issuing_number);
        let verifier = BrokerVerifier::new(self.root, plant, seen, Arc::clone(&provider))?;
        let clock = Arc::new(TlsClock(Arc::clone(self.clock)));
        let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
            ClientConfig::builder_with_details(provider, clock).with_protocol_versions(&[&TLS13])?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
    }
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    // A resumed session would not verify the broker's certificate again.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// The attestor's clock, which has a floor, for certificate checks.
#[derive(Debug)]
struct TlsClock(Arc<dyn Clock>);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<TlsTime> {
        Some(TlsTime::since_unix_epoch(std::time::Duration::from_secs(self.0.now().0)))
    }
}
