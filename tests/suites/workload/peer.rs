//! A workload that takes everything the API says, CRLs too, and meets another over TLS.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::workload::X509svidRequest;
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// What a workload has.
pub(crate) struct Svid {
    pub(crate) id: String,
    pub(super) chain: Vec<u8>,
    key: Vec<u8>,
    bundles: BTreeMap<String, Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

/// What the API at `socket` says first.
pub(crate) async fn svid(socket: &Path) -> Result<Svid, Status> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://workload").connect_with_connector(connect).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().expect("a value"));
    let mut stream = SpiffeWorkloadApiClient::new(channel).fetch_x509svid(request).await?.into_inner();
    let mut said = stream.message().await?.ok_or_else(|| Status::unavailable("it said nothing"))?;
    let svid = said.svids.remove(0);
    let own = svid.spiffe_id.split("/device/").next().expect("a trust domain").to_owned();
    let mut bundles: BTreeMap<String, Vec<u8>> = said.federated_bundles.into_iter().collect();
    bundles.insert(own, svid.bundle);
    Ok(Svid { id: svid.spiffe_id, chain: svid.x509_svid, key: svid.x509_svid_key, bundles, crls: said.crl })
}

impl Svid {
    /// The trust domains that it believes.
    pub(super) fn domains(&self) -> Vec<&str> {
        self.bundles.keys().map(String::as_str).collect()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for mut bundle in self.bundles.values().map(Vec::as_slice) {
            while let Some(length) = length(bundle) {
                let (one, rest) = bundle.split_at(length);
                roots.add(CertificateDer::from(one.to_vec())).expect("an authority");
                bundle = rest;
            }
        }
        Arc::new(roots)
    }

    fn crls(&self) -> Vec<CertificateRevocationListDer<'static>> {
        self.crls.iter().cloned().map(CertificateRevocationListDer::from).collect()
    }

    fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.clone()).expect("a key");
        (vec![CertificateDer::from(self.chain.clone())], key)
    }
}

/// Bytes of the first certificate of a bundle: a DER sequence with two bytes of length.
fn length(bundle: &[u8]) -> Option<usize> {
    let [0x30, 0x82, high, low, ..] = bundle else { return None };
    Some(usize::from(u16::from_be_bytes([*high, *low])) + 4)
}

/// `client` opens `server`: Ok once something of the application was served.
pub(super) async fn meet(server: &Svid, client: &Svid) -> Result<(), String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let verifier = WebPkiClientVerifier::builder_with_provider(server.roots(), Arc::clone(&provider))
        .with_crls(server.crls())
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| said(&error))?;
    let (chain, key) = server.identity();
    let accepts = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("its key");
    let verifier = WebPkiServerVerifier::builder_with_provider(client.roots(), Arc::clone(&provider))
        .with_crls(client.crls())
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| said(&error))?;
    let (chain, key) = client.identity();
    let opens = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .expect("its key");
    talk(Arc::new(accepts), Arc::new(opens), dns_name(&server.id)).await
}

/// Ok once something of the application was served, over a connection to `host`.
pub(super) async fn talk(
    accepts: Arc<ServerConfig>,
    opens: Arc<ClientConfig>,
    host: String,
) -> Result<(), String> {
    let (ours, theirs) = tokio::io::duplex(16 << 10);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(accepts).accept(theirs).await?;
        stream.write_all(b"the press is running").await?;
        stream.shutdown().await
    });
    let opened = async {
        let name = ServerName::try_from(host).expect("a name");
        let mut stream = TlsConnector::from(opens).connect(name, ours).await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        Ok::<_, std::io::Error>(heard)
    };
    let opened = opened.await;
    let served = serving.await.expect("the server ends");
    match (opened, served) {
        (Ok(heard), Ok(())) if heard == "the press is running" => Ok(()),
        (opened, served) => Err(format!("client: {opened:?}, server: {served:?}")),
    }
}

/// `spiffe://<zone>/device/<device>/workload/<name>` as a host.
fn dns_name(id: &str) -> String {
    let parts: Vec<&str> = id.split('/').collect();
    let [_, _, zone, _, device, _, name] = parts[..] else { panic!("{id} is no workload") };
    format!("{name}.{device}.{zone}")
}
