//! The local listener: one question is one HTTP request, as nginx's `auth_request` asks it.
//!
//! ```text
//! GET /authorize?service=S[&zone=Z][&direction=outbound][&grant=required]
//!     X-Client-Cert: percent-encoded PEM          X-Touchstone-Grant: JWT
//! 204 it may: X-Touchstone-Peer, X-Touchstone-Until          403 it may not: X-Touchstone-Reason, -Message, -Remedy
//! ```
//!
//! Promises: connections, heads and time are bounded; anything that is no question is an error, which nginx does not
//! let through. Only this machine reaches it; every program on it may ask, and learns what the certificate that it has
//! in hand is worth here.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Answer, Question, escaped};
use crate::config::LocalAddress;
use crate::local_socket;
use crate::trust::Direction;

/// Connections at once: every worker of a web server, many times over. Another waits for its turn in the backlog.
const CONNECTIONS: usize = 256;
/// Bytes of a request's head: a certificate and a grant.
const MAX_HEAD: usize = 64 << 10;
/// Time for a request's head and for everything on one connection; a decision takes well under a millisecond.
const HEAD: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);
/// Every program of the machine may ask.
const SOCKET: u32 = 0o666;

/// The certificate, percent-encoded PEM.
const CERTIFICATE: HeaderName = HeaderName::from_static("x-client-cert");
/// A grant that the peer brought along.
const GRANT: HeaderName = HeaderName::from_static("x-touchstone-grant");

/// Answers a question.
pub trait Desk: Send + Sync + 'static {
    /// The answer as of now.
    fn answer(&self, question: &Question) -> Answer;
}

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
            LocalAddress::Unix(path) => local_socket::bind(path, SOCKET, None).map(Self::Unix),
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
pub async fn serve<D: Desk>(listener: Listener, desk: Arc<D>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let _place = place;
                    drop(tokio::time::timeout(WHOLE, converse(stream, desk)).await);
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
async fn converse<D: Desk>(stream: Box<dyn Stream>, desk: Arc<D>) {
    type Reply = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;
    let service = service_fn(move |request: Request<Incoming>| -> Reply {
        let response = respond(desk.as_ref(), request.method(), request.uri(), request.headers());
        Box::pin(async move { Ok(response) })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD).keep_alive(false);
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

fn respond(desk: &impl Desk, method: &Method, uri: &hyper::Uri, headers: &HeaderMap) -> Response<String> {
    if *method != Method::GET || uri.path() != "/authorize" {
        return said(StatusCode::NOT_FOUND, "ask with GET /authorize?service=NAME\n".to_owned());
    }
    match question(uri.query().unwrap_or_default(), headers) {
        Ok(question) => told(&desk.answer(&question)),
        Err(fault) => said(StatusCode::BAD_REQUEST, fault + "\n"),
    }
}

/// The question that a request asks. A parameter that is not known is refused: it may be a misspelt demand.
fn question(query: &str, headers: &HeaderMap) -> Result<Question, String> {
    let (mut service, mut zone, mut direction, mut grant_required) = (None, None, Direction::Inbound, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("service", name) => service = Some(name.parse().map_err(|error| format!("service: {error}"))?),
            ("zone", name) => zone = Some(name.parse().map_err(|error| format!("zone: {error}"))?),
            ("direction", "inbound") => direction = Direction::Inbound,
            ("direction", "outbound") => direction = Direction::Outbound,
            ("grant", "required") => grant_required = true,
            _ => {
                return Err(
                    "known are service, zone, direction=inbound|outbound and grant=required".to_owned()
                );
            }
        }
    }
    let grant = headers.get(&GRANT).filter(|value| !value.is_empty()).map(HeaderValue::to_str).transpose();
    let shown = headers.get(&CERTIFICATE).filter(|value| !value.is_empty());
    let unreadable = || "X-Client-Cert holds no certificate; pass $ssl_client_escaped_cert".to_owned();
    let certificate = shown.map(|value| escaped(value.as_bytes()).ok_or_else(unreadable)).transpose()?;
    Ok(Question {
        certificate,
        service: service.ok_or("service is missing")?,
        direction,
        zone,
        grant: grant.map_err(|_| "X-Touchstone-Grant holds no token")?.map(str::to_owned),
        grant_required,
    })
}

/// The answer as status and headers; the body repeats it for people.
fn told(answer: &Answer) -> Response<String> {
    let mut response =
        said(if answer.allowed { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN }, String::new());
    let headers = response.headers_mut();
    let mut add = |name: &'static str, text: String| {
        // What cannot stand in a header is left out: the status alone decides.
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(name, value);
        }
    };
    if answer.allowed {
        add("x-touchstone-peer", answer.peer.clone().unwrap_or_default());
        add("x-touchstone-until", answer.until.map(|until| until.to_string()).unwrap_or_default());
        return response;
    }
    if let Some(first) = answer.reasons.first() {
        add("x-touchstone-reason", first.code.to_owned());
        add("x-touchstone-message", first.message.clone());
        add("x-touchstone-remedy", first.remedy.clone());
    }
    *response.body_mut() = answer.words();
    response
}

fn said(status: StatusCode, words: String) -> Response<String> {
    let mut response = Response::new(words);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
