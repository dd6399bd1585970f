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

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::{Answer, Question, escaped};
use crate::local_http::{self, Listener, said};
use crate::trust::Direction;

/// The certificate, percent-encoded PEM.
const CERTIFICATE: HeaderName = HeaderName::from_static("x-client-cert");
/// A grant that the peer brought along.
const GRANT: HeaderName = HeaderName::from_static("x-touchstone-grant");

/// Answers a question.
pub trait Desk: Send + Sync + 'static {
    /// The answer as of now.
    fn answer(&self, question: &Question) -> Answer;
}

/// Answers for ever.
pub async fn serve<D: Desk>(listener: Listener, desk: Arc<D>) {
    local_http::serve(listener, move |request| {
        respond(desk.as_ref(), request.method(), request.uri(), request.headers())
    })
    .await;
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

#[cfg(test)]
mod tests;
