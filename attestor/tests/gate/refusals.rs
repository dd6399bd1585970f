//! Whom a gate lets not even one byte through.

use std::sync::Arc;
use std::time::Duration;

use attestor::config::Limits;
use attestor::role::Role;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime as TlsTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::rig::{Device, Leaf, Plant, Running, Told, local};
use crate::sessions::{Pair, until, until_refused};

/// Believes whoever answers: a client that means harm.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS client that shows `leaf`.
fn connector(leaf: Option<Leaf>) -> TlsConnector {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let key = PrivateKeyDer::Pkcs8(leaf.key.pkcs8().to_vec().into());
            builder.with_client_auth_cert(vec![leaf.der.into()], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Speaks to the gate with `leaf`: what it read before it was hung up on.
async fn speak(gate: &Running, leaf: Option<Leaf>) -> Vec<u8> {
    let tcp = TcpStream::connect(gate.address).await.unwrap();
    let name = ServerName::try_from("press-1.press.plant.example").unwrap();
    let mut got = Vec::new();
    if let Ok(mut stream) = connector(leaf).connect(name, tcp).await {
        drop(stream.write_all(b"read").await);
        drop(stream.read_to_end(&mut got).await);
    }
    got
}

/// A server that nobody must reach.
fn untouched(server: &TcpListener) -> bool {
    let accept = std::pin::pin!(server.accept());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::future::Future::poll(accept, &mut context).is_pending()
}

#[tokio::test]
async fn nobody_without_leave_reaches_the_server() {
    let plant = Arc::new(Plant::new());
    let other = Plant::new();
    let press = Device::new(&plant, Role::Listener, plant.usual("press-1", "press", "listener"));
    let (server, address) = local().await;
    let gate = Running::open(&press, address, Limits::default()).await;
    press.tell(&Told { revoked: vec![0x66], ..Told::default() });
    for (leaf, code) in [
        (None, "no-certificate-shown"),
        (Some(other.usual("camera-1", "cell", "caller")), "unknown-authority"),
        (Some(plant.usual("press-2", "press", "caller")), "intra-zone"),
        (Some(plant.usual("camera-1", "cell", "listener")), "unknown-authority"),
        (Some(plant.leaf("camera-1", "cell", "caller", 0x66, 1_821_536_000)), "revoked"),
        (Some(plant.leaf("camera-1", "cell", "caller", 0x41, 1_789_999_999)), "ended"),
    ] {
        let before = gate.gate.status().refused.get(code).copied().unwrap_or_default();
        assert_eq!(speak(&gate, leaf).await, b"", "{code}");
        until_refused(&gate, code, before + 1).await;
        assert!(untouched(&server), "{code}");
    }
    press.tell(&Told { conduit: None, ..Told::default() });
    assert_eq!(speak(&gate, Some(plant.usual("camera-1", "cell", "caller"))).await, b"");
    until_refused(&gate, "no-conduit", 1).await;
    press.tell(&Told { conduit: Some("sun 01:00-02:00"), ..Told::default() });
    assert_eq!(speak(&gate, Some(plant.usual("camera-1", "cell", "caller"))).await, b"");
    until_refused(&gate, "conduit-closed", 1).await;
    press.change(attestor::state::State::void_certificates);
    assert_eq!(speak(&gate, Some(plant.usual("camera-1", "cell", "caller"))).await, b"");
    until_refused(&gate, "no-own-certificate", 1).await;
    assert!(untouched(&server));
    assert_eq!(gate.gate.status().opened, 0);
}

#[tokio::test]
async fn certificates_of_another_boot_open_nothing_until_this_boot_is_accepted() {
    let pair = Pair::new(Limits::default()).await;
    pair.press.doubts(Some("PCR 4 differs from the boot that was accepted"));
    let mut peer = TcpStream::connect(pair.outer.address).await.unwrap();
    drop(peer.write_all(b"read").await);
    until_refused(&pair.inner, "other-boot", 1).await;
    assert!(untouched(&pair.server));
    pair.press.doubts(None);
    pair.connect().await;
}

#[tokio::test]
async fn a_conduit_to_one_service_opens_no_other() {
    let plant = Arc::new(Plant::new());
    let press = Device::new(&plant, Role::Listener, plant.usual("press-1", "press", "listener"));
    let (server, address) = local().await;
    let gate = Running::open_for(&press, "ssh", address, Limits::default()).await;
    assert_eq!(speak(&gate, Some(plant.usual("camera-1", "cell", "caller"))).await, b"");
    until_refused(&gate, "no-conduit", 1).await;
    assert!(untouched(&server));
}

#[tokio::test]
async fn what_is_no_tls_13_and_who_says_nothing_are_hung_up_on() {
    let limits = Limits { handshake: Duration::from_secs(1), ..Limits::default() };
    let pair = Pair::new(limits).await;
    let mut plain = TcpStream::connect(pair.inner.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    drop(plain.read_to_end(&mut got).await);
    assert!(got.len() < 16, "at most an alert: {got:?}");
    until_refused(&pair.inner, "no-handshake", 1).await;
    let mut silent = TcpStream::connect(pair.inner.address).await.unwrap();
    drop(silent.read_to_end(&mut got).await);
    until_refused(&pair.inner, "late", 1).await;
    assert!(untouched(&pair.server));
}

#[tokio::test]
async fn a_client_reaches_nobody_but_the_peer_that_it_means() {
    let plant = Arc::new(Plant::new());
    let camera = Device::new(&plant, Role::Caller, plant.usual("camera-1", "cell", "caller"));
    for (leaf, code) in [
        (plant.usual("press-2", "press", "listener"), "other-peer"),
        (plant.usual("press-1", "press", "caller"), "unknown-authority"),
        (Plant::new().usual("press-1", "press", "listener"), "unknown-authority"),
    ] {
        let (server, address) = local().await;
        let outer = Running::open(&camera, address, Limits::default()).await;
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der.into()], PrivateKeyDer::Pkcs8(leaf.key.pkcs8().to_vec().into()))
            .unwrap();
        config.send_tls13_tickets = 2;
        let mut client = TcpStream::connect(outer.address).await.unwrap();
        client.write_all(b"secret").await.unwrap();
        let (tcp, _) = server.accept().await.unwrap();
        let accepted = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await;
        let mut got = Vec::new();
        if let Ok(mut stream) = accepted {
            drop(stream.read_to_end(&mut got).await);
        }
        assert_eq!(got, b"", "{code}");
        until_refused(&outer, code, 1).await;
        let mut answer = Vec::new();
        drop(client.read_to_end(&mut answer).await);
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn a_peer_has_its_share_of_sessions_and_all_have_the_whole() {
    let pair = Pair::new(Limits { connections: 3, each: 2, ..Limits::default() }).await;
    let _one = pair.connect().await;
    let two = pair.connect().await;
    let mut third = TcpStream::connect(pair.outer.address).await.unwrap();
    let mut got = Vec::new();
    drop(third.read_to_end(&mut got).await);
    until("its share", || pair.inner.gate.status().refused.contains_key("too-many-of-peer")).await;
    drop(two);
    until("given back", || pair.inner.gate.status().sessions == 1 && pair.outer.gate.status().sessions == 1)
        .await;
    let _two = pair.connect().await;
    let silent: Vec<TcpStream> = vec![TcpStream::connect(pair.inner.address).await.unwrap()];
    until("everything", || {
        drop(std::net::TcpStream::connect(pair.inner.address));
        pair.inner.gate.status().refused.contains_key("too-many-connections")
    })
    .await;
    drop(silent);
}

#[tokio::test]
async fn half_a_message_does_not_look_whole() {
    let plant = Arc::new(Plant::new());
    let press = Device::new(&plant, Role::Listener, plant.usual("press-1", "press", "listener"));
    let (server, address) = local().await;
    let gate = Running::open(&press, address, Limits::default()).await;
    let tcp = TcpStream::connect(gate.address).await.unwrap();
    let name = ServerName::try_from("press-1.press.plant.example").unwrap();
    let leaf = plant.usual("camera-1", "cell", "caller");
    let mut stream = connector(Some(leaf)).connect(name, tcp).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    let (mut local, _) = server.accept().await.unwrap();
    let mut bytes = [0; 4];
    local.read_exact(&mut bytes).await.unwrap();
    // Somebody on the way closes the connection; TLS did not say that this is the end.
    let (tcp, _) = stream.into_inner();
    drop(tcp);
    let error = local.read(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
