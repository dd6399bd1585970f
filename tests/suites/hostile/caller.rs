//! A connection to the broker's port with any certificate, or none.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use e2e::World;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A certificate and a key that need not belong together.
pub(crate) type Identity = (Vec<u8>, Arc<dyn SigningKey>);

/// A key outside any TPM, from its PKCS#8 document.
pub(crate) fn software_key(pkcs8: &[u8]) -> Arc<dyn SigningKey> {
    let key = PrivateKeyDer::try_from(pkcs8.to_vec()).expect("a key");
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key")
}

/// A clock that is so much ahead.
#[derive(Debug)]
struct Ahead(Duration);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + self.0))
    }
}

/// A connection of TLS to the broker at `address` as `identity`, or as nobody, whose clock is ahead.
pub(crate) async fn tls(
    address: &str,
    root: &Path,
    identity: Option<Identity>,
    ahead: Duration,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).expect("the plant root");
    roots.add(root).expect("the plant root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Ahead(ahead)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((leaf, key)) => {
            let certified = CertifiedKey::new(vec![CertificateDer::from(leaf)], key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.expect("the broker listens");
    let name = ServerName::try_from("broker.control.plant.example").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("the broker is believed")
}

/// Connects as `identity`, or as nobody.
pub(crate) async fn connect(world: &World, identity: Option<Identity>) -> Result<Channel, Status> {
    connect_ahead(world, identity, Duration::ZERO).await
}

/// The same by a clock that is ahead.
pub(crate) async fn connect_ahead(
    world: &World,
    identity: Option<Identity>,
    ahead: Duration,
) -> Result<Channel, Status> {
    let stream = tls(world.address(), &world.plant.path("plant-root.pem"), identity, ahead).await;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection ended"));
        async move { stream }
    });
    let endpoint = Endpoint::from_static("http://broker.control.plant.example");
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| Status::unavailable(error.to_string()))
}
