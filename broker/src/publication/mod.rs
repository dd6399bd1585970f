//! What a plant publishes to whoever asks, over HTTPS on an address of its own: off by default.
//!
//! ```text
//! /zones/<zone>/bundle.json    the zone's authorities as a SPIFFE bundle (SPIFFE Federation, https_web)
//! /.well-known/margo           where Margo clients find the bundle of the zone that margo_zone names
//! /zones/<zone>/margo.json     the same for each zone: of several trust domains behind one address Margo asks for
//!                              other URLs (Margo, Trust Bundle and Discovery)
//! /.well-known/jwks.json       public keys of attestation results and grants (RFC 7517)
//! ```
//!
//! Certificates and public keys only, and no client certificate is asked for. A zone whose authorities are all
//! distrusted is answered with an error: an empty set of keys would mean "distrust everything" for good.

mod bundle;
mod server;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use policy::digest::Digest;
use policy::id::ZoneName;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use self::server::ServerFilesError;
use crate::config::Publish;
use crate::http::{self, Site, said, wrong_method};
use crate::plant::Plant;
use crate::session::Refusal;
use crate::tls::Tls;
use crate::token_key::{make_all, published};
use crate::trust;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Seconds after which a client asks again (`spiffe_refresh_hint`): a new authority signs only after it was published
/// for longer.
pub(crate) const REFRESH: u64 = 300;

/// Serves for ever what `config` says, with the certificate that `tls` shows or the operator's own.
pub(crate) async fn serve(
    listener: TcpListener,
    plant: Arc<Plant>,
    config: &Publish,
    tls: Arc<Tls>,
) -> Result<impl Future<Output = ()> + use<>, ServerFilesError> {
    // A store that refuses to write must not keep bundles from being read.
    if let Err(error) = make_all(&plant).await {
        tracing::error!(%error, "a key for tokens is not there to be published");
    }
    let (tls, reading) = server::config(config.server.as_ref(), tls, &plant)?;
    let site = Arc::new(Publication { plant, config: config.clone() });
    Ok(async move {
        tokio::join!(http::serve(listener, Some(TlsAcceptor::from(tls)), site), reading);
    })
}

struct Publication {
    plant: Arc<Plant>,
    config: Publish,
}

impl Site for Publication {
    const NAME: &'static str = "publication";
    /// Servers of other trust domains ask every few minutes, each for a moment.
    const CONNECTIONS: usize = 64;

    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return wrong_method("GET, HEAD", "what is published is read with GET\n");
        }
        match self.page(request.uri().path()).await {
            Ok(Some(page)) => document(request.headers(), page),
            Ok(None) => said(
                StatusCode::NOT_FOUND,
                "published are /zones/NAME/bundle.json and /.well-known/jwks.json; /zones/NAME/margo.json if url is set, \
                 /.well-known/margo if margo_zone is\n",
            ),
            Err(error) => {
                tracing::error!(%error, "what is asked for cannot be published");
                said(StatusCode::SERVICE_UNAVAILABLE, "not now; ask again later, the broker's log says why\n")
            }
        }
    }
}

impl Publication {
    /// The document under this path, if there is one.
    async fn page(&self, path: &str) -> Result<Option<String>, Refusal> {
        let document = match path {
            "/.well-known/jwks.json" => {
                let keys = published(&self.plant).await.map_err(Refusal::internal)?;
                serde_json::to_string(&keys).map_err(Refusal::internal)?
            }
            "/.well-known/margo" => {
                let Some(zone) = &self.config.margo else { return Ok(None) };
                let view = trust::view(&self.plant).await.map_err(Refusal::internal)?;
                return Ok(view.zones().zone(zone).and_then(|_| self.discovery(zone)));
            }
            other => {
                let found = other.strip_prefix("/zones/").and_then(|rest| rest.split_once('/'));
                let Some((zone, file)) = found else { return Ok(None) };
                let Ok(zone) = zone.parse::<ZoneName>() else { return Ok(None) };
                let view = trust::view(&self.plant).await.map_err(Refusal::internal)?;
                if view.zones().zone(&zone).is_none() {
                    return Ok(None);
                }
                match file {
                    "bundle.json" => {
                        bundle::of(&view, &zone, self.plant.keys.load().epoch).map_err(Refusal::internal)?
                    }
                    "margo.json" => return Ok(self.discovery(&zone)),
                    _ => return Ok(None),
                }
            }
        };
        Ok(Some(document))
    }

    /// Where Margo clients find the bundle of `zone`, if the plant says under which URL it is reached.
    fn discovery(&self, zone: &ZoneName) -> Option<String> {
        let url = self.config.url.as_ref()?;
        let domain = self.plant.domain().trust_domain(zone).to_string();
        let uri = format!("{url}/zones/{zone}/bundle.json");
        Some(serde_json::json!({ "trustDomain": domain, "trustBundleUri": uri }).to_string())
    }
}

/// The document, or word that the client has it already (RFC 9110, section 13.1.2).
fn document(asked: &HeaderMap, page: String) -> Response<String> {
    let tag = format!("\"{}\"", Digest::of(page.as_bytes()).hex());
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
    let has = known.any(|value| value == "*" || value.strip_prefix("W/").unwrap_or(value) == tag);
    let mut response = match has {
        true => said(StatusCode::NOT_MODIFIED, ""),
        false => Response::new(page),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests;
