//! Connections to the broker, as its tool and its devices make them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// How the plant's broker is called.
const BROKER: &str = "broker.control.plant.example";

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Vec<u8>,
}

impl Identity {
    /// Reads PEM files.
    pub(crate) fn read(chain: &Path, key: &Path) -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap();
        let chain = pem::parse_many(text(chain)).unwrap().into_iter().map(pem::Pem::into_contents);
        Self { chain: chain.collect(), key: pem::parse(text(key)).unwrap().contents().to_vec() }
    }
}

/// Where the broker of the plant in `dir` listens, once it does.
pub(crate) async fn address(dir: &Path) -> String {
    loop {
        if let Ok(address) = std::fs::read_to_string(dir.join("address")) {
            return address.trim().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A connection as whoever `identity` names.
pub(crate) async fn connect(
    dir: &Path,
    address: &str,
    identity: &Identity,
) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(config(dir, identity)));
    let address = address.to_owned();
    let dial = tower::service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let stream = connector.connect(ServerName::try_from(BROKER).unwrap(), tcp).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let origin = format!("https://{BROKER}").parse().unwrap();
    Endpoint::from_static("http://broker").origin(origin).connect_with_connector(dial).await
}

fn config(dir: &Path, identity: &Identity) -> ClientConfig {
    let root = std::fs::read_to_string(dir.join("plant-root.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pem::parse(root).unwrap().contents().to_vec())).unwrap();
    let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}
