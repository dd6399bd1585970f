//! Connections to the nodes of etcd: TLS 1.3 with certificates from files, or plain text to this machine only.

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a connection may take: nodes of one plant are near each other.
const CONNECT: Duration = Duration::from_secs(1);

/// How often a silent connection is asked whether it is there, and how long the answer may take. etcd ends the
/// connection of a client that asks more often than every 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));

/// Where etcd is, and whose certificate the broker shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// Its nodes, each as `https://host:port`, or `http://127.0.0.1:port`.
    pub endpoints: Vec<String>,
    /// What all keys of this plant begin with, so that one etcd may serve several.
    pub prefix: String,
    /// Certificates for `https`.
    pub tls: Option<EtcdTls>,
}

/// PEM files for TLS with etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who signed the certificates of etcd's nodes (etcd's `--trusted-ca-file`).
    pub ca: PathBuf,
    /// The broker's certificate for etcd, which runs with `--client-cert-auth`.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The options cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// No node is named.
    #[error("no etcd node is named; write store.endpoints = [\"https://host:2379\"] in broker.toml")]
    NoEndpoint,
    /// A node's address cannot be used.
    #[error("store.endpoints: {endpoint:?} cannot be used ({why}); write for example \"https://host:2379\"")]
    Endpoint {
        /// The address.
        endpoint: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file cannot be used.
    #[error(
        "{file} cannot be used for TLS with etcd ({why}); give store.{key} a PEM file that the broker can read"
    )]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key are not of each other, or of a kind that is not known.
    #[error(
        "the certificate and key for etcd cannot be used ({0}); give store.certificate and store.key one pair"
    )]
    Pair(rustls::Error),
}

/// A connection to each node; it is made when it is first needed.
pub(super) fn channels(options: &EtcdOptions) -> Result<Vec<(String, Channel)>, OptionsError> {
    let tls = options.tls.as_ref().map(client_config).transpose()?;
    options
        .endpoints
        .iter()
        .map(|endpoint| Ok((endpoint.clone(), channel(endpoint, tls.as_ref())?)))
        .collect()
}

fn channel(text: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Channel, OptionsError> {
    let unusable = |why| OptionsError::Endpoint { endpoint: text.to_owned(), why };
    let uri: Uri = text.parse().map_err(|_| unusable("it is no address"))?;
    let host = uri.host().ok_or_else(|| unusable("it names no host"))?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().ok_or_else(|| unusable("it names no port"))?;
    let dial = match (uri.scheme_str(), tls) {
        (Some("https"), Some(config)) => {
            let name = ServerName::try_from(host.clone()).map_err(|_| unusable("its host is no name"))?;
            Some((config.clone(), name))
        }
        (Some("https"), None) => {
            return Err(unusable("store.ca, store.certificate and store.key are missing"));
        }
        (Some("http"), _) if host.parse().is_ok_and(|address: IpAddr| address.is_loopback()) => None,
        (Some("http"), _) => {
            return Err(unusable("plain text would show the plant's keys to the network; use https"));
        }
        _ => return Err(unusable("it begins with neither https:// nor http://")),
    };
    // The TLS below is ours, so the scheme only names the protocol inside.
    let endpoint =
        Endpoint::from_shared(format!("http://{}", uri.authority().map_or("etcd", |part| part.as_str())))
            .map_err(|_| unusable("it is no address"))?
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true);
    let connector = tower::service_fn(move |_: Uri| {
        let (host, dial) = (host.clone(), dial.clone());
        async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
            tokio::time::timeout(CONNECT, open(host, port, dial)).await.map_err(late)?
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A stream of bytes to a node.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn open(
    host: String,
    port: u16,
    dial: Option<(Arc<ClientConfig>, ServerName<'static>)>,
) -> io::Result<TokioIo<Box<dyn Stream>>> {
    let tcp = TcpStream::connect((host, port)).await?;
    // Requests are small and wait for each other.
    tcp.set_nodelay(true)?;
    Ok(TokioIo::new(match dial {
        Some((config, name)) => Box::new(TlsConnector::from(config).connect(name, tcp).await?),
        None => Box::new(tcp),
    }))
}

fn client_config(tls: &EtcdTls) -> Result<Arc<ClientConfig>, OptionsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", &tls.ca)? {
        roots.add(certificate).map_err(|why| unreadable("ca", &tls.ca, &why))?;
    }
    let chain = certificates("certificate", &tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|why| unreadable("key", &tls.key, &why))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(OptionsError::Pair)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(OptionsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, OptionsError> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(key, file, &"it holds no certificate")),
        Ok(found) => Ok(found),
        Err(why) => Err(unreadable(key, file, &why)),
    }
}

fn unreadable(key: &'static str, file: &Path, why: &dyn std::fmt::Display) -> OptionsError {
    OptionsError::File { key, file: file.to_owned(), why: why.to_string() }
}
