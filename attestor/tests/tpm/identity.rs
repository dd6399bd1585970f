//! An identity key at work: certificate request, TLS client, and key file of OpenSSL.

use std::{fs, sync::Arc, time::Duration};

use attestor::{
    testing::command,
    tpm::{IdentityKeyBlob, PcrBank, PcrSelection, TpmHandle, TpmIdentityKey},
    tss2_key,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKeyData};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::Device;

async fn make_key(tpm: &TpmHandle) -> TpmIdentityKey {
    TpmIdentityKey::new(tpm.clone(), tpm.create_identity_key().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_request_is_signed_in_the_tpm() {
    let Some(device) = Device::make(&[]) else { return };
    let key = make_key(&device.handle()).await;
    let request = CertificateParams::new(vec![]).unwrap().serialize_request(&key).unwrap();
    // The parser verifies the signature.
    let parsed = CertificateSigningRequestParams::from_der(request.der()).unwrap();
    assert_eq!(parsed.public_key.der_bytes(), key.blob().point());
    assert_eq!(key.public_key().unwrap().as_ref(), parsed.public_key.subject_public_key_info());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_p256_with_sha256_is_offered() {
    let Some(device) = Device::make(&[]) else { return };
    let key = make_key(&device.handle()).await;
    assert!(key.choose_scheme(&[SignatureScheme::ECDSA_NISTP384_SHA384, SignatureScheme::ED25519]).is_none());
    let signer =
        key.choose_scheme(&[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let signature = signer.sign(b"message").unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.blob().point())
        .verify(b"message", &signature)
        .unwrap();
}

/// As many handshakes at once as would stop a runtime whose workers all waited for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_opens_many_tls_connections_at_once() {
    let Some(device) = Device::make(&[]) else { return };
    let key = make_key(&device.handle()).await;
    let (client, server) = tls_pair(key);
    let handshakes: Vec<_> = (0..8).map(|_| tokio::spawn(greet(client.clone(), server.clone()))).collect();
    for handshake in handshakes {
        assert_eq!(handshake.await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn the_key_opens_a_tls_connection_on_a_current_thread_runtime() {
    let Some(device) = Device::make(&[]) else { return };
    let (client, server) = tls_pair(make_key(&device.handle()).await);
    assert_eq!(greet(client, server).await, "hello");
}

fn tls_pair(key: TpmIdentityKey) -> (TlsConnector, TlsAcceptor) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let server_key = KeyPair::generate().unwrap();
    let server_certificate =
        CertificateParams::new(vec!["broker.example".to_owned()]).unwrap().self_signed(&server_key).unwrap();

    let certified = CertifiedKey::new(vec![certificate.der().clone()], Arc::new(key));
    certified.keys_match().unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots(server_certificate.der()))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(certificate.der())),
        Arc::clone(&provider),
    )
    .build()
    .unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![server_certificate.der().clone()],
            PrivatePkcs8KeyDer::from(server_key.serialize_der()).into(),
        )
        .unwrap();
    (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)))
}

fn roots(certificate: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    roots
}

/// One mutually authenticated connection; what the client heard.
async fn greet(client: TlsConnector, server: TlsAcceptor) -> String {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serving = tokio::spawn(async move {
        let mut stream = server.accept(far).await.unwrap();
        assert!(stream.get_ref().1.peer_certificates().is_some());
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut stream = client.connect(ServerName::try_from("broker.example").unwrap(), near).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    serving.await.unwrap();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_uses_the_key_file_beside_a_renewing_attestor() {
    let Some(device) = Device::make(&["openssl"]) else { return };
    let mut list = command("openssl");
    list.args(["list", "-providers", "-provider", "tpm2"]);
    // The provider loads only where its TPM answers.
    let provider = list.env("TPM2OPENSSL_TCTI", device.swtpm.address().to_string()).output().unwrap();
    if !provider.status.success() {
        eprintln!("skipped: the OpenSSL provider tpm2 is not installed (package tpm2-openssl)");
        return;
    }
    let tpm = device.handle();
    let key = tpm.create_identity_key().await.unwrap();
    let text = tss2_key::write(&key).unwrap();
    assert_eq!(tss2_key::parse(&text).unwrap(), key);

    let renewal = tokio::spawn(async move {
        loop {
            tpm.quote(vec![1; 32], PcrBank::Sha256, PcrSelection::QUOTED).await.unwrap();
        }
    });
    assert_openssl_signs(&device, &text, &key);
    assert!(!renewal.is_finished(), "the renewal failed");
    renewal.abort();
}

fn assert_openssl_signs(device: &Device, text: &str, key: &IdentityKeyBlob) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("key"), text).unwrap();
    fs::write(path("message"), b"message").unwrap();
    let (key_file, message) = (path("key"), path("message"));

    let spki = openssl(device, "pkey", &["-in", &key_file, "-pubout", "-outform", "DER"]);
    assert_eq!(spki[spki.len() - 65..], *key.point());

    let signature = openssl(device, "dgst", &["-sha256", "-sign", &key_file, &message]);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point()).verify(b"message", &signature).unwrap();
}

fn openssl(device: &Device, command: &str, arguments: &[&str]) -> Vec<u8> {
    // Without the query openssl may hand the key to the default provider, which finds no private half in it.
    let providers = ["-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2"];
    device.tool("openssl", &[&[command][..], &providers, arguments].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_off_tpm_fails_the_signature_with_its_reason() {
    let Some(mut device) = Device::make(&[]) else { return };
    let tpm = device.handle().with_deadline(Duration::from_secs(20));
    let key = make_key(&tpm).await;
    device.swtpm.switch_off().unwrap();
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let refusal = signer.sign(b"message").unwrap_err().to_string();
    assert!(refusal.contains("no software TPM answers at"), "{refusal}");
    device.swtpm.switch_on().unwrap();
    signer.sign(b"message").unwrap();
}
