//! Connections end: without a certificate after two minutes, with one when it does.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::grpc::peer::{AdministratorPeer, DevicePeer};
use policy::digest::Digest;
use policy::id::SpiffeId;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn device(not_after: UnixTime) -> Peer {
    let (zone, id) =
        SpiffeId::parse("spiffe://cell-3.plant.example/device/press-7", &"plant.example".parse().unwrap())
            .unwrap();
    Peer::Device(Arc::new(DevicePeer {
        id,
        zone,
        serial: "41".repeat(16),
        authority: Digest([0; 32]),
        not_after,
    }))
}

fn connection(peer: Peer) -> (Connection<DuplexStream>, DuplexStream) {
    let place = Places::new(1).take().unwrap();
    let (near, far) = duplex(64);
    (Connection::new(near, peer, NOW, place), far)
}

#[test]
fn whoever_shows_no_certificate_gets_two_minutes() {
    let administrator = Peer::Administrator(Arc::new(AdministratorPeer {
        name: "ada".to_owned(),
        spki: Digest([0; 32]),
        not_after: NOW.plus(7),
    }));
    assert_eq!(lifetime(&Peer::Anonymous, NOW), Duration::from_secs(120));
    assert_eq!(lifetime(&device(NOW.plus(3600)), NOW), Duration::from_secs(3600));
    assert_eq!(lifetime(&administrator, NOW), Duration::from_secs(7));
    assert_eq!(lifetime(&device(NOW.minus(1)), NOW), Duration::ZERO, "ended during the handshake");
}

#[tokio::test]
async fn a_connection_whose_time_is_over_reads_nothing_more() {
    let (mut near, mut far) = connection(Peer::Anonymous);
    far.write_all(b"begin").await.unwrap();
    let mut read = [0; 5];
    near.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"begin");
    assert!(!near.end.is_elapsed());

    let (mut near, mut far) = connection(device(NOW));
    near.end.as_mut().await;
    far.write_all(b"begin").await.unwrap();
    let error = near.read_exact(&mut read).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection's time is over");
}

#[tokio::test]
async fn a_stranger_whose_place_is_needed_reads_nothing_more() {
    let places = Places::new(1);
    let (near, mut far) = duplex(64);
    let mut near = Connection::new(near, Peer::Anonymous, NOW, places.take().unwrap());
    let _newcomer = places.take().expect("the stranger's place");
    far.write_all(b"begin").await.unwrap();
    let error = near.read_exact(&mut [0; 5]).await.unwrap_err();
    assert_eq!(error.to_string(), "its place was needed for somebody else");
}

#[test]
fn only_what_was_refused_is_a_fault() {
    let of = |error: rustls::Error| fault(&io::Error::new(io::ErrorKind::InvalidData, error));
    let general = rustls::Error::General("the client certificate is not accepted: UnknownIssuer".to_owned());
    assert_eq!(of(general), Some(HandshakeFault::Certificate));
    assert_eq!(of(rustls::Error::NoApplicationProtocol), Some(HandshakeFault::Incompatible));
    let garbage = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    assert_eq!(of(garbage), Some(HandshakeFault::Malformed));
    assert_eq!(fault(&io::ErrorKind::TimedOut.into()), Some(HandshakeFault::Timeout));
    let left = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
    assert_eq!(of(left), None, "the peer refused us");
    assert_eq!(fault(&io::ErrorKind::UnexpectedEof.into()), None, "it left");
}
