//! `GET /metrics` over plain HTTP, for who may reach the address: nobody is asked who they are.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;

use super::page::Page;
use crate::http::{self, Site, said, wrong_method};

/// What the page is (OpenMetrics 1.0).
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Serves the page for ever.
pub async fn serve(listener: TcpListener, page: Arc<Page>) {
    http::serve(listener, None, Arc::new(Metrics(page))).await;
}

/// The page as a site.
struct Metrics(Arc<Page>);

impl Site for Metrics {
    const NAME: &'static str = "metrics";
    /// Two Prometheus servers and a curious person.
    const CONNECTIONS: usize = 4;

    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        if request.uri().path() != "/metrics" {
            return said(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
        }
        if request.method() != Method::GET {
            return wrong_method("GET", "the metrics are read with GET\n");
        }
        let mut response = Response::new(self.0.text().await);
        response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
        response
    }
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
