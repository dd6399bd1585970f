//! `GET /metrics` over plain HTTP, for who may reach the address: nobody is asked who they are.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::page::Page;

/// Connections at once: two Prometheus servers and a curious person.
const CONNECTIONS: usize = 4;
/// Bytes of a request's head: the least that the library takes, and more than any scraper sends.
const MAX_HEAD: usize = 8 << 10;
/// Time for the request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Time for everything on one connection: as long as Prometheus waits for a page by default.
const WHOLE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);
/// What the page is (OpenMetrics 1.0).
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Serves the page for ever.
pub async fn serve(listener: TcpListener, page: Arc<Page>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(peer.addr = %address, "too many read the metrics; this one is closed");
            continue;
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let _place = place;
            if tokio::time::timeout(WHOLE, converse(tcp, page, HEAD)).await.is_err() {
                tracing::debug!(peer.addr = %address, "a reader of metrics was too slow");
            }
        });
    }
}

/// One request and its answer. A client that says nonsense, or leaves, is no news.
async fn converse(tcp: TcpStream, page: Arc<Page>, head: Duration) {
    let service = service_fn(|request| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(answer(&page, &request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD).keep_alive(false);
    drop(http.serve_connection(TokioIo::new(tcp), service).await);
}

async fn answer(page: &Arc<Page>, request: &Request<Incoming>) -> Response<String> {
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "the metrics are read with GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let mut response = Response::new(page.text().await);
    response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
    response
}

fn said(status: StatusCode, words: &str) -> Response<String> {
    let mut response = Response::new(words.to_owned());
    *response.status_mut() = status;
    response
}

/// What the log says of an address that others than this host reach.
#[must_use]
pub fn warning(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "metrics are served on {address} to whoever asks, not encrypted: names of zones, numbers of devices and \
             certificates; let only the monitoring host reach it"
        )
    })
}

#[cfg(test)]
mod tests;
