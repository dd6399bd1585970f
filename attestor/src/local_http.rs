//! HTTP for software on this machine: one request is one connection, on a Unix socket or a loopback address.
//!
//! Promises: connections, heads and time are bounded, and bodies are not read. Does not promise who asks: every program
//! that may connect does.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::config::LocalAddress;
use crate::local_socket;

/// Connections at once: every worker of a web server, many times over. Another waits for its turn in the backlog.
const CONNECTIONS: usize = 256;
/// Bytes of a request's head: a certificate and a grant.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// Time for a request's head and for everything on one connection; an answer takes well under a millisecond.
const HEAD: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);
/// Every program of the machine may ask.
const SOCKET: u32 = 0o666;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// A loopback address.
    Tcp(TcpListener),
}

impl Listener {
    /// Binds `address`. A socket that a former run left behind is replaced.
    pub async fn bind(address: &LocalAddress) -> io::Result<Self> {
        match address {
            LocalAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            LocalAddress::Unix(path) => local_socket::bind(path, SOCKET, None).await.map(Self::Unix),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Answers for ever.
pub(crate) async fn serve<A>(listener: Listener, answer: A)
where
    A: Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let answer = Arc::new(answer);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let _place = place;
                    drop(tokio::time::timeout(WHOLE, converse(stream, answer)).await);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a local question could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One request and its answer. A client that says nonsense, or leaves, is no news.
async fn converse<A>(stream: Box<dyn Stream>, answer: Arc<A>)
where
    A: Fn(&Request<Incoming>) -> Response<String> + Send + Sync + 'static,
{
    type Reply = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;
    let service = service_fn(move |request: Request<Incoming>| -> Reply {
        let response = answer(&request);
        Box::pin(async move { Ok(response) })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD).keep_alive(false);
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

/// A response with these words.
pub(crate) fn said(status: StatusCode, words: String) -> Response<String> {
    let mut response = Response::new(words);
    *response.status_mut() = status;
    response
}
