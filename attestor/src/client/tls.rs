//! TLS to the broker: version 1.3, the pinned plant root as the only anchor, the plant's name for the broker.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime as TlsTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};

use crate::plant::PlantRoot;
use crate::ports::Clock;
use crate::tpm::TpmIdentityKey;

/// What the device presents where the broker asks who it is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Its caller certificate with its chain, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The key of it, in the TPM.
    pub key: TpmIdentityKey,
}

/// No client certificate: enrollment and attestation prove themselves by the TPM.
pub(super) fn anonymous(root: &PlantRoot, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = base(root, clock)?.with_no_client_auth();
    Ok(finished(config))
}

/// The device's own certificate.
pub(super) fn identified(
    root: &PlantRoot,
    clock: Arc<dyn Clock>,
    credentials: Credentials,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let chain = credentials.chain.into_iter().map(CertificateDer::from).collect();
    let certified = CertifiedKey::new(chain, Arc::new(credentials.key));
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let config = base(root, clock)?.with_client_cert_resolver(resolver);
    Ok(finished(config))
}

fn base(
    root: &PlantRoot,
    clock: Arc<dyn Clock>,
) -> Result<ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_details(provider, Arc::new(TlsClock(clock)))
            .with_protocol_versions(&[&TLS13])?;
    Ok(builder.with_root_certificates(root.store()))
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
