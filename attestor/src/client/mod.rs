//! The broker, as the device calls it.
//!
//! Promises: every call has a deadline and a bound on what it reads; the broker is believed only under the pinned
//! plant root, by its newest issuing key, and by the plant's name for it, whatever address it is reached at; a refusal comes back as the
//! broker's structured [`Denial`](proto::v1::Denial).
//! Does not promise that what a broker says is right: answers are verified where they are used.

mod error;
mod tls;
mod verifier;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use policy::id::PlantDomain;
use proto::v1::attestation_client::AttestationClient;
use proto::v1::enrollment_client::EnrollmentClient;
use proto::v1::watch_client::WatchClient;
use proto::v1::{
    BeginAttestationRequest, BeginAttestationResponse, BeginEnrollmentRequest, BeginEnrollmentResponse,
    CompletePart, CompleteRequest, CompleteResponse, WatchEvent, WatchRequest,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::config::BrokerAddress;
use crate::plant::PlantRoot;
use crate::ports::Clock;

pub use error::CallError;
pub use tls::Credentials;
pub(crate) use verifier::BrokerVerifier;

use tls::Believed;

/// Longest message of the broker in bytes: a trust set and some certificates.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Time for TCP and TLS, with a slow TPM signing in the handshake.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// Time for one call; the broker verifies and commits well below a second, a queue may hold it longer.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Time for a call with some MiB in it, on a narrow line. The broker gives up on a request after 120 s.
const PARTS_DEADLINE: Duration = Duration::from_secs(110);

/// A connection that was opened ahead is used within this time: the broker ends those that say nothing.
const FRESH: Duration = Duration::from_secs(20);

/// Calls the broker of one plant. Each exchange has a connection of its own: a device calls every few minutes.
#[derive(Debug, Clone)]
pub struct BrokerClient {
    address: BrokerAddress,
    plant: PlantDomain,
    name: ServerName<'static>,
    authority: String,
    root: PlantRoot,
    clock: Arc<dyn Clock>,
    ahead: Arc<Mutex<Option<Ahead>>>,
}

/// A connection that is opened while the device is busy with its TPM.
#[derive(Debug)]
struct Ahead {
    since: Instant,
    issuing_number: u32,
    opening: JoinHandle<Result<Connection, CallError>>,
}

/// The plant's name gives no TLS server name. Names of [`policy::id::PlantDomain`] always do.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no TLS server name; correct `plant` in the configuration")]
pub struct BrokerNameError(String);

impl BrokerClient {
    /// A client for the broker of `plant` at `address`, under the pinned `root`.
    pub fn new(
        address: BrokerAddress,
        plant: PlantDomain,
        root: PlantRoot,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerNameError> {
        let authority = plant.broker_name();
        let name = ServerName::try_from(authority.clone()).map_err(|_| BrokerNameError(authority.clone()))?;
        Ok(Self { address, plant, name, authority, root, clock, ahead: Arc::default() })
    }

    fn believed(&self, issuing_number: u32) -> Believed<'_> {
        Believed { root: &self.root, plant: &self.plant, issuing_number, clock: &self.clock }
    }

    /// Begins to open the connection that is asked for next.
    pub fn connect_ahead(&self, issuing_number: u32) {
        let client = self.clone();
        let opening = tokio::spawn(async move { client.open_anonymous(issuing_number).await });
        *self.ahead() = Some(Ahead { since: Instant::now(), issuing_number, opening });
    }

    /// A connection for enrollment and attestation to a broker whose issuing key has `issuing_number` or a higher one.
    pub async fn connect(&self, issuing_number: u32) -> Result<Connection, CallError> {
        let ahead = self.ahead().take();
        let fresh =
            ahead.filter(|ahead| ahead.issuing_number == issuing_number && ahead.since.elapsed() < FRESH);
        let Some(ahead) = fresh else { return self.open_anonymous(issuing_number).await };
        let failed_before = ahead.opening.is_finished();
        match ahead.opening.await {
            Ok(Ok(connection)) => Ok(connection),
            // Nobody waits for the same twice; what failed before somebody waited may go by now.
            Ok(Err(error)) if !failed_before => Err(error),
            _ => self.open_anonymous(issuing_number).await,
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open_anonymous(&self, issuing_number: u32) -> Result<Connection, CallError> {
        let config = self.believed(issuing_number).anonymous().map_err(CallError::Tls)?;
        Ok(Connection { channel: self.open(config).await?, broker: self.address.clone() })
    }

    /// Opens the stream of what the broker has to tell this device. `trust_sequence` is the set it has.
    pub async fn watch(
        &self,
        credentials: Credentials,
        issuing_number: u32,
        trust_sequence: u64,
    ) -> Result<Streaming<WatchEvent>, CallError> {
        let config = self.believed(issuing_number).identified(credentials).map_err(CallError::Tls)?;
        let mut client = WatchClient::new(self.open(config).await?).max_decoding_message_size(MAX_MESSAGE);
        // Only the answer to the request has a deadline; the stream lives, its heartbeats are watched.
        bounded(&self.address, client.watch(WatchRequest { trust_sequence })).await
    }

    async fn open(&self, config: Arc<ClientConfig>) -> Result<Channel, CallError> {
        let stream = match timeout(CONNECT_DEADLINE, self.handshake(config)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(CallError::late(&self.address, CONNECT_DEADLINE)),
        };
        // The TLS below is ours, so the scheme only names the protocol inside.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.authority))
            .map_err(|error| CallError::unreachable(&self.address, &error))?;
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection ended"));
            async move { stream }
        });
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| CallError::unreachable(&self.address, &error))
    }

    async fn handshake(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, CallError> {
        let tcp = TcpStream::connect((self.address.host.as_str(), self.address.port))
            .await
            .map_err(|error| CallError::unreachable(&self.address, &error))?;
        // Requests are small and wait for each other.
        tcp.set_nodelay(true).map_err(|error| CallError::unreachable(&self.address, &error))?;
        TlsConnector::from(config)
            .connect(self.name.clone(), tcp)
            .await
            .map_err(|error| CallError::handshake(&self.address, &self.authority, error))
    }
}

/// What an exchange asks of the broker.
pub trait Calls: Sync {
    /// Asks for a challenge to enroll.
    fn begin_enrollment(
        &self,
        request: BeginEnrollmentRequest,
    ) -> impl Future<Output = Result<BeginEnrollmentResponse, CallError>> + Send;

    /// Answers it.
    fn complete_enrollment(
        &self,
        request: CompleteRequest,
    ) -> impl Future<Output = Result<CompleteResponse, CallError>> + Send;

    /// Asks for a challenge under the bound AK, or the device's key.
    fn begin_attestation(
        &self,
        request: BeginAttestationRequest,
    ) -> impl Future<Output = Result<BeginAttestationResponse, CallError>> + Send;

    /// Answers it.
    fn complete_attestation(
        &self,
        request: CompleteRequest,
    ) -> impl Future<Output = Result<CompleteResponse, CallError>> + Send;

    /// Completes an enrollment with an IMA list that no message holds: the request, and the list after it.
    fn complete_enrollment_in_parts(
        &self,
        parts: Receiver<CompletePart>,
    ) -> impl Future<Output = Result<CompleteResponse, CallError>> + Send;

    /// The same of an attestation.
    fn complete_attestation_in_parts(
        &self,
        parts: Receiver<CompletePart>,
    ) -> impl Future<Output = Result<CompleteResponse, CallError>> + Send;
}

/// An open connection for one exchange.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
    broker: BrokerAddress,
}

impl Calls for Connection {
    async fn begin_enrollment(
        &self,
        request: BeginEnrollmentRequest,
    ) -> Result<BeginEnrollmentResponse, CallError> {
        bounded(&self.broker, self.enrollment().begin(request)).await
    }

    async fn complete_enrollment(&self, request: CompleteRequest) -> Result<CompleteResponse, CallError> {
        bounded(&self.broker, self.enrollment().complete(request)).await
    }

    async fn begin_attestation(
        &self,
        request: BeginAttestationRequest,
    ) -> Result<BeginAttestationResponse, CallError> {
        bounded(&self.broker, self.attestation().begin(request)).await
    }

    async fn complete_attestation(&self, request: CompleteRequest) -> Result<CompleteResponse, CallError> {
        bounded(&self.broker, self.attestation().complete(request)).await
    }

    async fn complete_enrollment_in_parts(
        &self,
        parts: Receiver<CompletePart>,
    ) -> Result<CompleteResponse, CallError> {
        let call = async { self.enrollment().complete_in_parts(ReceiverStream::new(parts)).await };
        within(PARTS_DEADLINE, &self.broker, call).await
    }

    async fn complete_attestation_in_parts(
        &self,
        parts: Receiver<CompletePart>,
    ) -> Result<CompleteResponse, CallError> {
        let call = async { self.attestation().complete_in_parts(ReceiverStream::new(parts)).await };
        within(PARTS_DEADLINE, &self.broker, call).await
    }
}

impl Connection {
    fn enrollment(&self) -> EnrollmentClient<Channel> {
        EnrollmentClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn attestation(&self) -> AttestationClient<Channel> {
        AttestationClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }
}

async fn bounded<T>(
    broker: &BrokerAddress,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    within(CALL_DEADLINE, broker, call).await
}

async fn within<T>(
    deadline: Duration,
    broker: &BrokerAddress,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::from_status(broker, &status)),
        Err(_) => Err(CallError::late(broker, deadline)),
    }
}
