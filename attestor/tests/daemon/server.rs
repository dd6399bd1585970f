//! The broker's port: TLS 1.3 on loopback, client certificates asked for and only wanted by Watch.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{self, BoxStream, StreamExt};
use proto::v1;
use proto::v1::attestation_server::AttestationServer;
use proto::v1::enrollment_server::EnrollmentServer;
use proto::v1::watch_server::{Watch, WatchServer};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, Server};
use tonic::{Request, Response, Status};

use crate::broker::Broker;

/// A connection that remembers whether the client showed a certificate.
pub(crate) struct Conn(TlsStream<TcpStream>);

/// Whether the client showed a certificate.
#[derive(Clone, Copy)]
pub(crate) struct Identified(bool);

impl Connected for Conn {
    type ConnectInfo = Identified;

    fn connect_info(&self) -> Identified {
        Identified(self.0.get_ref().1.peer_certificates().is_some())
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tonic::async_trait]
impl Watch for Broker {
    type WatchStream = BoxStream<'static, Result<v1::WatchEvent, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        assert!(request.extensions().get::<Identified>().is_some_and(|identified| identified.0));
        let events = self.push.subscribe();
        self.script.lock().unwrap().watchers += 1;
        let next = |mut events: tokio::sync::broadcast::Receiver<_>| async move {
            events.recv().await.ok().map(|event| (Ok(event), events))
        };
        Ok(Response::new(stream::unfold(events, next).boxed()))
    }
}

/// Serves until the task is aborted; gives the address.
pub(crate) async fn serve(broker: &Broker, address: &str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = acceptor(broker);
    let incoming = stream::unfold((listener, acceptor), |(listener, acceptor)| async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(tls) = acceptor.accept(tcp).await {
                return Some((Ok::<_, std::io::Error>(Conn(tls)), (listener, acceptor)));
            }
        }
    });
    let serving = Server::builder()
        .add_service(EnrollmentServer::new(broker.clone()))
        .add_service(AttestationServer::new(broker.clone()))
        .add_service(WatchServer::new(broker.clone()))
        .serve_with_incoming(incoming);
    (address, tokio::spawn(async move { serving.await.unwrap() }))
}

/// What proves to be the broker.
pub(crate) fn acceptor(broker: &Broker) -> TlsAcceptor {
    TlsAcceptor::from(tls(broker))
}

fn tls(broker: &Broker) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(broker.plant.callers.certificate.clone())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (chain, key) = broker.plant.server();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
