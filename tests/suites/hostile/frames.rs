//! HTTP/2 as no client speaks it: frames by hand (RFC 9113), from a stranger.

use std::time::Duration;

use e2e::World;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::caller::tls;

/// Kinds of frames (RFC 9113, 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;
/// Flags of HEADERS: nothing follows in the stream, and nothing of the headers.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Longest payload that a peer takes unless it says otherwise.
pub(crate) const MOST: usize = 16 << 10;
/// A server that takes nothing for so long does not let itself be flooded.
const STALLED: Duration = Duration::from_secs(2);

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not indexed (RFC 7541, 6.2.2), with a name and value of less than 127 bytes.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The headers of a call of gRPC to `path`.
pub(crate) fn call(path: &str) -> Vec<u8> {
    [
        literal(":method", "POST"),
        literal(":scheme", "https"),
        literal(":authority", "broker"),
        literal(":path", path),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

/// How a flood ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    /// The server took all of it.
    Taken,
    /// It reads no more.
    Stalled,
    /// It ended the connection.
    Cut,
}

/// A stranger's connection, on which it never reads.
pub(crate) struct Stranger(TlsStream<TcpStream>);

impl Stranger {
    /// Connects and begins HTTP/2.
    pub(crate) async fn connect(world: &World) -> Self {
        let mut stream =
            tls(world.address(), &world.plant.path("plant-root.pem"), None, Duration::ZERO).await;
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&preface).await.expect("the broker listens");
        Self(stream)
    }

    /// Sends `pieces` one after the other.
    pub(crate) async fn flood(mut self, pieces: impl IntoIterator<Item = Vec<u8>>) -> Ended {
        for piece in pieces {
            match timeout(STALLED, self.0.write_all(&piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ended::Cut,
                Err(_) => return Ended::Stalled,
            }
        }
        match timeout(STALLED, self.0.flush()).await {
            Ok(Ok(())) => Ended::Taken,
            Ok(Err(_)) => Ended::Cut,
            Err(_) => Ended::Stalled,
        }
    }
}
