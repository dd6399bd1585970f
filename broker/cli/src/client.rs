//! The connection to the broker: TLS 1.3 under the plant root, with the administrator's certificate.

pub(crate) mod pinned;
mod trouble;

use std::error::Error as StdError;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use policy::issuing::issuing_number;
use policy::x509::certificate::Certificate;
use proto::invitation;
use proto::v1::DenialReason;
use proto::v1::admin_client::AdminClient;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use pinned::Pinned;

/// How long a connection may take: several round trips over a slow plant network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call may take: a forecast for a whole fleet is the slowest.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for the broker to speak first, and for how many bytes: its SETTINGS are fewer.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);
const GREETING: usize = 1024;
/// Largest answer: a page of devices with all their findings stays far below.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// One question, one answer.
    Call,
    /// A stream as long as the data is.
    Stream,
}

/// Connects to the broker of the context, to administer it.
pub(crate) async fn connect(context: &Context, patience: Patience) -> Result<AdminClient<Channel>> {
    Ok(AdminClient::new(channel(context, patience).await?).max_decoding_message_size(MAX_ANSWER))
}

/// A connection to the broker of the context, as whoever it is the context of.
pub(crate) async fn channel(context: &Context, patience: Patience) -> Result<Channel> {
    let dialled = tokio::time::timeout(CONNECT_TIMEOUT, dial(context)).await;
    let stream = dialled.unwrap_or_else(|_| Err(late(context)))?;
    let internal = |e: tonic::transport::Error| Failure::new(Exit::Internal, format!("connection: {e}"));
    let origin = format!("https://{}", context.plant.broker_name())
        .parse()
        .map_err(|e| Failure::unusable(format!("{}: no plant name: {e}", context.plant)))?;
    let mut endpoint = Endpoint::from_static("http://broker").origin(origin);
    if patience == Patience::Call {
        endpoint = endpoint.timeout(CALL_TIMEOUT);
    }
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.take().ok_or_else(|| io::Error::other("the broker closed the connection"));
        async move { stream }
    });
    endpoint.connect_with_connector(connector).await.map_err(internal)
}

/// The plant root that the broker of `context` shows, if it has the fingerprint in `code` and the broker is under it.
pub(crate) async fn plant_root(
    context: &Context,
    code: &invitation::Code,
) -> Result<CertificateDer<'static>> {
    let verifier = Arc::new(Pinned::new(code.clone()));
    let shared: Arc<dyn ServerCertVerifier> = verifier.clone();
    let config = builder()?.dangerous().with_custom_certificate_verifier(shared);
    let dialled =
        tokio::time::timeout(CONNECT_TIMEOUT, shake(context, finished(config.with_no_client_auth())));
    dialled.await.unwrap_or_else(|_| Err(late(context)))?;
    verifier
        .found()
        .ok_or_else(|| Failure::new(Exit::Internal, "the broker was verified under no plant root"))
}

async fn dial(context: &Context) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
    let stream = shake(context, tls_config(context)?).await?;
    greeted(stream).await.map_err(|e| trouble::tls(context, &e, clock::now()))
}

async fn shake(context: &Context, config: ClientConfig) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(&context.address)
        .await
        .map_err(|e| trouble::unreachable(&context.address, &e.to_string()))?;
    tcp.set_nodelay(true).map_err(|e| trouble::unreachable(&context.address, &e.to_string()))?;
    let name = context.plant.broker_name();
    let server = ServerName::try_from(name.clone())
        .map_err(|e| Failure::unusable(format!("`{name}` is no DNS name: {e}")))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(server, tcp).await.map_err(|e| trouble::tls(context, &e, clock::now()))?;
    newest(context, stream.get_ref().1.peer_certificates().unwrap_or_default())?;
    Ok(stream)
}

/// A broker whose issuing key was replaced before it certified this administrator is none: the key may be stolen.
fn newest(context: &Context, shown: &[CertificateDer<'_>]) -> Result<()> {
    let number = |chain: &[CertificateDer<'_>]| {
        let leaf = Certificate::parse(chain.first()?).ok()?;
        issuing_number(leaf.issuer(), &context.plant)
    };
    let own = context.identity.as_ref().and_then(|identity| number(&identity.chain)).unwrap_or_default();
    match number(shown) {
        Some(number) if number >= own => Ok(()),
        number => Err(trouble::replaced(context, number, own)),
    }
}

/// Waits for the first bytes of the broker, and gives them back in front of the stream.
///
/// In TLS 1.3 a server refuses a client's certificate when the client already thinks the handshake
/// done. Who speaks at once loses the reason: the server closes, and the reset that answers the
/// client's bytes takes the unread alert with it. An HTTP/2 server begins with its SETTINGS (RFC 9113,
/// section 3.4), so the first thing to come is either these or the alert.
async fn greeted(mut stream: TlsStream<TcpStream>) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin> {
    let mut first = Vec::with_capacity(GREETING);
    match tokio::time::timeout(GREETING_TIMEOUT, stream.read_buf(&mut first)).await {
        Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => return Err(error),
        // A server that waits for the client may be a relay: the first call will tell.
        Ok(Ok(_)) | Err(_) => {}
    }
    let (read, write) = tokio::io::split(stream);
    Ok(tokio::io::join(Cursor::new(first).chain(read), write))
}

fn late(context: &Context) -> Failure {
    trouble::unreachable(&context.address, &format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
}

fn tls_config(context: &Context) -> Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for root in &context.plant_root {
        roots.add(root.clone()).map_err(|e| Failure::unusable(format!("plant-root.pem: {e}")))?;
    }
    let config = builder()?.with_root_certificates(roots);
    Ok(finished(match &context.identity {
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|e| Failure::unusable(format!("admin.pem and admin.key: {e}")))?,
        None => config.with_no_client_auth(),
    }))
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Failure::new(Exit::Internal, format!("TLS 1.3: {e}")))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One command, one connection: nothing to resume, and a resumed session skips verification.
    config.resumption = Resumption::disabled();
    config
}

/// What a refused or failed call means to the person who made it.
pub(crate) fn failed(status: &Status) -> Failure {
    if let Some(denial) = proto::denial::from_status(status) {
        return Failure::denied(denial, clock::now());
    }
    let transport = StdError::source(status).is_some();
    let what = if status.message().is_empty() { status.code().description() } else { status.message() };
    match status.code() {
        _ if transport => unreachable_call(what),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => unreachable_call(what),
        Code::PermissionDenied | Code::Unauthenticated => {
            Failure::new(Exit::NotPermitted, what).next("ask an administrator whose certificate allows it")
        }
        Code::InvalidArgument | Code::OutOfRange => Failure::new(Exit::UnusableInput, what),
        Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::ResourceExhausted => Failure::new(Exit::Negative, what),
        Code::Unimplemented => Failure::outdated(),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
            Failure::new(Exit::Internal, format!("the broker reported an internal error: {what}"))
                .next("its log says more: journalctl -u touchstone-broker")
        }
    }
}

/// Whether the broker asks to come back later: it may be at work for somebody else.
pub(crate) fn is_busy(status: &Status) -> bool {
    proto::denial::from_status(status).is_some_and(|denial| denial.reason() == DenialReason::TryLater)
}

fn unreachable_call(what: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("the broker did not answer: {what}"))
        .next("is touchstone-broker running? its log says more: journalctl -u touchstone-broker")
}

#[cfg(test)]
mod tests {
    use proto::v1::Denial;

    use super::*;
    use crate::context::Identity;

    /// A certificate by an issuer of this name.
    fn certified(issuer: &str) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, issuer);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_broker_under_an_issuing_key_that_was_replaced_is_none() {
        let context = |own: &str| Context {
            plant: "plant.example".parse().unwrap(),
            address: "broker:8443".to_owned(),
            plant_root: Vec::new(),
            identity: Some(Identity {
                chain: vec![certified(own)],
                key: rustls::pki_types::PrivatePkcs8KeyDer::from(Vec::new()).into(),
            }),
            folder: "context".into(),
        };
        let first = [certified("plant.example issuing 1")];
        let next = [certified("plant.example issuing 20000")];
        assert!(newest(&context("plant.example issuing 1"), &first).is_ok());
        assert!(newest(&context("plant.example issuing 1"), &next).is_ok());
        let said = newest(&context("plant.example issuing 20000"), &first).unwrap_err().text();
        assert!(said.contains("issuing key 1 of plant.example, and 20000 has taken its place"), "{said}");
        let other = [certified("plant.example audit")];
        assert!(newest(&context("plant.example issuing 1"), &other).is_err());
    }

    #[test]
    fn statuses_choose_their_exit_code() {
        let exits = [
            (Status::unavailable("x"), Exit::Unreachable),
            (Status::deadline_exceeded("x"), Exit::Unreachable),
            (Status::permission_denied("x"), Exit::NotPermitted),
            (Status::invalid_argument("x"), Exit::UnusableInput),
            (Status::not_found("x"), Exit::Negative),
            (Status::internal("x"), Exit::Internal),
        ];
        for (status, exit) in exits {
            assert_eq!(failed(&status).exit(), exit, "{status:?}");
        }
    }

    #[test]
    fn a_denial_goes_before_the_code() {
        let denial = Denial {
            reason: DenialReason::TryLater.into(),
            message: "the broker starts up".to_owned(),
            retry_after_seconds: 5,
            ..Denial::default()
        };
        let failure = failed(&proto::denial::to_status(&denial));
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(failure.text(), "touchstone: the broker starts up\ntry again in 5 s\n");
    }
}
