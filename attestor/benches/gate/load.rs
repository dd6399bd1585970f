//! A server without TLS, and peers that load it through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::plant;

/// A small request, as of Modbus.
const REQUEST: [u8; 12] = [7; 12];

/// A connection through a proxy.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Answers requests; after a first byte of 1 it only counts what comes, and says so at the end.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream));
            }
        });
        Self { address }
    }
}

async fn serve(mut stream: TcpStream) {
    let mut bytes = [0; REQUEST.len()];
    while stream.read_exact(&mut bytes).await.is_ok() {
        if bytes[0] == 1 {
            let mut sink = vec![0; 256 << 10];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
            drop(stream.write_all(&bytes).await);
            return;
        }
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// camera-1, which a conduit lets in.
pub(crate) struct Peer(TlsConnector);

impl Peer {
    pub(crate) fn new() -> Self {
        let plant = plant();
        let leaf = plant.usual("camera-1", "cell", "caller");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(plant.certificate("press", "listener").into()).unwrap();
        let key = PrivateKeyDer::Pkcs8(leaf.key.pkcs8().to_vec().into());
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![leaf.der.into()], key)
            .unwrap();
        config.resumption = Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Box<dyn Stream> {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("press-1.press.plant.example").unwrap();
        Box::new(self.0.connect(name, tcp).await.unwrap())
    }
}

async fn connect(peer: Option<&Peer>, address: SocketAddr) -> Box<dyn Stream> {
    match peer {
        Some(peer) => peer.connect(address).await,
        None => {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            Box::new(stream)
        }
    }
}

/// One request and its answer.
pub(crate) async fn ask(stream: &mut (impl Stream + ?Sized)) {
    let mut bytes = [0; REQUEST.len()];
    stream.write_all(&REQUEST).await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut bytes).await.unwrap();
}

/// p50 and p99 of requests, one in flight.
pub(crate) async fn latency(
    peer: Option<&Peer>,
    address: SocketAddr,
    requests: usize,
) -> (Duration, Duration) {
    let mut stream = connect(peer, address).await;
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests {
        let begun = Instant::now();
        ask(&mut *stream).await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    (took[requests / 2], took[requests * 99 / 100])
}

/// Bytes a second from peer to server.
pub(crate) async fn throughput(peer: Option<&Peer>, address: SocketAddr, bytes: usize) -> f64 {
    let block = vec![1; 256 << 10];
    let mut stream = connect(peer, address).await;
    let begun = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len());
        stream.write_all(&block[..part]).await.unwrap();
        left -= part;
    }
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // What was sent is at the server once it says so, or the proxy has hung up, which some do.
    drop(stream.read_to_end(&mut answer).await);
    f64::from(u32::try_from(bytes).unwrap()) / begun.elapsed().as_secs_f64()
}
