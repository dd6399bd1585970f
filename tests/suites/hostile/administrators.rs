//! The Admin service and who may not call it.

use std::fs;
use std::sync::Arc;

use attestor::role::Role;
use attestor::tpm::TpmIdentityKey;
use e2e::World;
use hyper_util::rt::TokioIo;
use proto::v1;
use proto::v1::DenialReason;
use proto::v1::admin_client::AdminClient;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::Endpoint;

use super::thief::Thief;

/// Asks for the status of the plant with a certificate and key, or without.
async fn status(world: &World, identity: Option<(Vec<u8>, Arc<dyn SigningKey>)>) -> Result<(), Status> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(world.plant.path("plant-root.pem")).expect("the plant root");
    roots.add(root).expect("the plant root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
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
    let tcp = TcpStream::connect(world.address()).await.expect("the broker listens");
    let name = ServerName::try_from("broker.control.plant.example").expect("a name");
    let stream =
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("the broker is believed");
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection ended"));
        async move { stream }
    });
    let endpoint = Endpoint::from_static("http://broker.control.plant.example");
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    AdminClient::new(channel).get_status(v1::GetStatusRequest {}).await.map(drop)
}

fn software_key(pkcs8: &[u8]) -> Arc<dyn SigningKey> {
    let key = PrivateKeyDer::try_from(pkcs8.to_vec()).expect("a key");
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key")
}

fn not_permitted(result: Result<(), Status>) {
    let status = result.expect_err("the Admin service answered");
    let denial = proto::denial::from_status(&status).expect("a refusal with a reason");
    assert_eq!(denial.reason(), DenialReason::NotPermitted);
    assert!(denial.message.contains("administrator's certificate"), "{}", denial.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_administer() {
    let Some((world, [device])) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe");
    device.measure("boot-a");
    world.register(&device, "press");
    let mut thief = Thief::of(&device).await;
    thief.make_keys("press").await;
    let svids = thief.enroll().await.svids;
    let before = world.store();

    not_permitted(status(&world, None).await);

    let caller = svids.iter().find(|svid| svid.role() == v1::Role::Caller).expect("a caller certificate");
    let (_, key) = thief.keys.iter().find(|(seat, _)| seat.role == Role::Caller).expect("a caller key");
    let key = TpmIdentityKey::new(thief.prover.tpm().clone(), key.clone());
    not_permitted(status(&world, Some((caller.chain[0].clone(), Arc::new(key)))).await);

    // The names of the owner, signed by nobody.
    let owner = pem::parse(fs::read(world.plant.path("owner/admin.pem")).expect("the owner")).expect("PEM");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    let uri = "spiffe://control.plant.example/admin/alice".try_into().expect("a URI");
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let forged = params.self_signed(&key).expect("a certificate").der().to_vec();
    let stolen = owner.contents().to_vec();
    for leaf in [forged, stolen] {
        let refused = status(&world, Some((leaf, software_key(&key.serialize_der())))).await;
        let refused = refused.expect_err("the Admin service answered a stranger");
        assert!(proto::denial::from_status(&refused).is_none(), "refused below gRPC: {refused:?}");
    }
    assert_eq!(world.store(), before, "a refusal changes nothing");
}
