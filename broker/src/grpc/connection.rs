//! Connections: how many, how long, and who is on each.

mod places;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use policy::time::UnixTime;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use self::places::{Place, Places};
use super::peer::{Anchors, Peer, PeerError};
use crate::audit::refusals::HandshakeFault;
use crate::plant::Plant;
use crate::tls::Tls;

/// A handshake takes a few round trips; a TPM that signs slowly needs a second or two more.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that may wait between accept and service.
const BACKLOG: usize = 64;
/// An enrollment or attestation is two calls; who shows no certificate gets this long for them.
const ANONYMOUS: u64 = 120;
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);

/// A TLS connection with its peer. It ends when the peer's certificate does, or soon if there is none.
pub struct Connection<S = TlsStream<TcpStream>> {
    stream: S,
    peer: Peer,
    end: Pin<Box<Sleep>>,
    place: Place,
}

impl<S> Connection<S> {
    fn new(stream: S, peer: Peer, now: UnixTime, place: Place) -> Self {
        let end = Box::pin(tokio::time::sleep(lifetime(&peer, now)));
        Self { stream, peer, end, place }
    }
}

/// What handlers learn of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Who is on the other end.
    pub peer: Peer,
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo { peer: self.peer.clone() }
    }
}

/// What every handshake needs.
#[derive(Clone)]
struct Door {
    acceptor: TlsAcceptor,
    tls: Arc<Tls>,
    plant: Arc<Plant>,
}

/// Accepts connections for ever, each handshake in a task of its own.
pub fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    tls: Arc<Tls>,
    plant: Arc<Plant>,
) -> ReceiverStream<io::Result<Connection>> {
    let (send, receive) = mpsc::channel(BACKLOG);
    let places = Places::new(plant.config.max_connections);
    let door = Door { acceptor, tls, plant };
    tokio::spawn(async move {
        while !send.is_closed() {
            let (tcp, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(place) = places.take() else {
                door.plant.turned_away.fetch_add(1, Ordering::Relaxed);
                door.plant.metrics.turned_away(crate::metrics::Door::Connection);
                tracing::warn!(peer.addr = %address, "too many connections; this one is closed");
                continue;
            };
            let (door, send) = (door.clone(), send.clone());
            tokio::spawn(async move {
                match handshake(tcp, &door, place).await {
                    Ok(connection) => drop(send.send(Ok(connection)).await),
                    Err(error) => failed(&door.plant, address, &error).await,
                }
            });
        }
    });
    ReceiverStream::new(receive)
}

/// Puts a handshake that was refused on record. A peer that left, or refused us, was not refused.
async fn failed(plant: &Plant, address: SocketAddr, error: &io::Error) {
    tracing::info!(peer.addr = %address, %error, "a TLS handshake failed");
    if let Some(fault) = fault(error) {
        plant.metrics.handshake_refused(fault);
        plant.refusals.note_handshake(plant, fault, &format!("from {address}: {error}")).await;
    }
}

fn fault(error: &io::Error) -> Option<HandshakeFault> {
    if error.kind() == io::ErrorKind::TimedOut {
        return Some(HandshakeFault::Timeout);
    }
    let inner = error.get_ref()?;
    if inner.is::<PeerError>() {
        return Some(HandshakeFault::Certificate);
    }
    match inner.downcast_ref::<rustls::Error>()? {
        // The words of the port's own verifier.
        rustls::Error::General(_)
        | rustls::Error::InvalidCertificate(_)
        | rustls::Error::NoCertificatesPresented => Some(HandshakeFault::Certificate),
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            Some(HandshakeFault::Incompatible)
        }
        rustls::Error::AlertReceived(_) => None,
        _ => Some(HandshakeFault::Malformed),
    }
}

async fn handshake(tcp: TcpStream, door: &Door, mut place: Place) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took longer than 10 s");
    let shaken = tokio::time::timeout(HANDSHAKE, door.acceptor.accept(tcp));
    let stream = tokio::select! {
        shaken = shaken => shaken.map_err(late)??,
        () = place.lost() => return Err(given_away()),
    };
    let now = door.plant.now();
    let peer = peer(&door.tls.anchors.load(), stream.get_ref().1.peer_certificates(), now)?;
    if !matches!(peer, Peer::Anonymous) && !place.keep() {
        return Err(given_away());
    }
    Ok(Connection::new(stream, peer, now, place))
}

/// The end of a stranger that somebody else needs the place of. It says nothing about either of them.
fn given_away() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "its place was needed for somebody else")
}

/// How long a connection of `peer` lives.
fn lifetime(peer: &Peer, now: UnixTime) -> Duration {
    Duration::from_secs(match peer {
        Peer::Anonymous => ANONYMOUS,
        Peer::Device(device) => device.not_after.since(now),
        Peer::Administrator(administrator) => administrator.not_after.since(now),
    })
}

fn peer(anchors: &Anchors, certificates: Option<&[CertificateDer<'_>]>, now: UnixTime) -> io::Result<Peer> {
    let Some((leaf, chain)) = certificates.and_then(<[_]>::split_first) else { return Ok(Peer::Anonymous) };
    anchors.identify(leaf, chain, now).map_err(io::Error::other)
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other("the connection's time is over")));
        }
        if self.place.poll_lost(cx).is_ready() {
            return Poll::Ready(Err(given_away()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.place.sent(buf.filled().len().saturating_sub(before));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
