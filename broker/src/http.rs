//! Small pages over HTTP/1.1 for whoever asks: metrics, and what the plant publishes.
//!
//! Promises: connections, the head of a request and the time for one are bounded, and one connection carries one
//! request. Does not ask who anybody is.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Bytes of a request's head: the least that the library takes, and more than any scraper sends.
pub(crate) const MAX_HEAD: usize = 8 << 10;
/// Time for the request's head.
pub(crate) const HEAD: Duration = Duration::from_secs(5);
/// Time for everything on one connection: as long as Prometheus waits for a page by default.
const WHOLE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);

/// What is served.
pub(crate) trait Site: Send + Sync + 'static {
    /// Names it in the log.
    const NAME: &'static str;
    /// Connections at once.
    const CONNECTIONS: usize;

    /// The answer to a request; the body of a request is never read.
    fn answer(&self, request: &Request<Incoming>) -> impl Future<Output = Response<String>> + Send;
}

/// Serves `site` for ever, inside TLS where there is an acceptor.
pub(crate) async fn serve<S: Site>(listener: TcpListener, tls: Option<TlsAcceptor>, site: Arc<S>) {
    let places = Arc::new(Semaphore::new(S::CONNECTIONS));
    loop {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, site = S::NAME, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(peer.addr = %address, site = S::NAME, "too many read; this one is closed");
            continue;
        };
        let (site, tls) = (Arc::clone(&site), tls.clone());
        tokio::spawn(async move {
            let _place = place;
            if tokio::time::timeout(WHOLE, greet(tcp, address, tls, site)).await.is_err() {
                tracing::debug!(peer.addr = %address, site = S::NAME, "a reader was too slow");
            }
        });
    }
}

async fn greet<S: Site>(tcp: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, site: Arc<S>) {
    let Some(tls) = tls else { return converse(tcp, site, HEAD).await };
    match tls.accept(tcp).await {
        Ok(stream) => converse(stream, site, HEAD).await,
        Err(error) => {
            tracing::debug!(peer.addr = %address, %error, site = S::NAME, "a TLS handshake failed");
        }
    }
}

/// One request and its answer. A client that says nonsense, or leaves, is no news.
pub(crate) async fn converse<S: Site>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    site: Arc<S>,
    head: Duration,
) {
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD).keep_alive(false);
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

/// An answer in words.
pub(crate) fn said(status: StatusCode, words: &str) -> Response<String> {
    let mut response = Response::new(words.to_owned());
    *response.status_mut() = status;
    response
}

/// The answer to another method than those allowed.
pub(crate) fn wrong_method(allowed: &'static str, words: &str) -> Response<String> {
    let mut response = said(StatusCode::METHOD_NOT_ALLOWED, words);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
