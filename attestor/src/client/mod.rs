//! The broker, as the device calls it.
//!
//! Promises: every call has a deadline and a bound on what it reads; the broker is believed only under the pinned
//! plant root, by its newest issuing key, and by the plant's name for it, whatever address it is reached at; a refusal comes back as the
//! broker's structured [`Denial`](proto::v1::Denial).
//! Does not promise that what a broker says is right: answers are verified where they are used.

mod brokers;
mod error;
mod tls;
mod verifier;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use policy::id::PlantDomain;
use prost::Message;
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

use brokers::Brokers;
pub use error::CallError;
pub use tls::Credentials;
pub(crate) use verifier::BrokerVerifier;

use tls::Believed;

/// Longest message of the broker in bytes: a trust set and some certificates.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Time for TCP and TLS, with a slow TPM signing in the handshake.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// The same before another broker is asked.
const NEXT_BROKER: Duration = Duration::from_secs(3);
/// Time for one call; the broker verifies and commits well below a second, a queue may hold it longer.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Time for a call with some MiB in it, on a narrow line. The broker gives up on a request after 120 s.
const PARTS_DEADLINE: Duration = Duration::from_secs(110);
/// Time for the answer to a Watch, which waits in no queue; what comes over it has heartbeats.
const WATCH_DEADLINE: Duration = Duration::from_secs(10);
/// While a call is in flight and nothing comes, the broker is asked after this time whether it lives, and has as much
/// again to answer; a live one may take as long as the call's deadline.
const LIFE_SIGN: Duration = Duration::from_secs(5);
/// Bytes that a line of 2 KB/s carries while the broker may be silent: more of them hold up the question whether it lives.
const SMALL: usize = 16 << 10;

/// A connection that was opened ahead is used within this time: the broker ends those that say nothing.
const FRESH: Duration = Duration::from_secs(20);

/// Calls the broker of one plant. Each exchange has a connection of its own: a device calls every few minutes.
#[derive(Debug, Clone)]
pub struct BrokerClient {
    brokers: Arc<Brokers>,
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
        let brokers = Arc::new(Brokers::new(address, Vec::new()));
        Ok(Self { brokers, plant, name, authority, root, clock, ahead: Arc::default() })
    }

    /// The same client, which goes to `others` when the first broker does not answer.
    #[must_use]
    pub fn or(self, others: &[BrokerAddress]) -> Self {
        let first = self.brokers.current().clone();
        Self { brokers: Arc::new(Brokers::new(first, others.to_vec())), ..self }
    }

    /// The broker that is asked first.
    #[must_use]
    pub fn broker(&self) -> &BrokerAddress {
        self.brokers.current()
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
        let ask = self.brokers.are_several().then_some(LIFE_SIGN);
        let (channel, broker) = self.open(config, ask).await?;
        let way = Way { broker, brokers: Arc::clone(&self.brokers) };
        Ok(Connection { channel, way, client: self.clone(), issuing_number })
    }

    /// Opens the stream of what the broker has to tell this device, and says which broker. `trust_sequence` is the set it has.
    pub async fn watch(
        &self,
        credentials: Credentials,
        issuing_number: u32,
        trust_sequence: u64,
    ) -> Result<(Streaming<WatchEvent>, BrokerAddress), CallError> {
        let config = self.believed(issuing_number).identified(credentials).map_err(CallError::Tls)?;
        // A question every few seconds would wake an idle device.
        let (channel, broker) = self.open(config, None).await?;
        let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let way = Way { broker, brokers: Arc::clone(&self.brokers) };
        // Only the answer to the request has a deadline; the stream lives, its heartbeats are watched.
        let stream = within(WATCH_DEADLINE, &way, client.watch(WatchRequest { trust_sequence })).await?;
        Ok((stream, way.broker))
    }

    /// Ends when a call finds that `broker`, which is asked first, does not answer, and another will be asked.
    pub async fn left(&self, broker: &BrokerAddress) {
        self.brokers.left(broker).await;
    }

    /// A connection to the first broker that answers; what kept it from the first of them if none does.
    async fn open(
        &self,
        config: Arc<ClientConfig>,
        ask: Option<Duration>,
    ) -> Result<(Channel, BrokerAddress), CallError> {
        let mut failed = None;
        for (broker, last) in self.brokers.in_order() {
            let deadline = if last { CONNECT_DEADLINE } else { NEXT_BROKER };
            match self.open_at(broker, Arc::clone(&config), (deadline, ask)).await {
                Ok(channel) => return Ok((channel, broker.clone())),
                Err(
                    error @ (CallError::Unreachable { .. }
                    | CallError::NotTheBroker { .. }
                    | CallError::Ended { .. }),
                ) => {
                    self.brokers.leave(broker);
                    failed = failed.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| CallError::late(self.brokers.current(), CONNECT_DEADLINE)))
    }

    async fn open_at(
        &self,
        broker: &BrokerAddress,
        config: Arc<ClientConfig>,
        (deadline, ask): (Duration, Option<Duration>),
    ) -> Result<Channel, CallError> {
        let stream = match timeout(deadline, self.handshake(broker, config)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(CallError::late(broker, deadline)),
        };
        // The TLS below is ours, so the scheme only names the protocol inside.
        let mut endpoint = Endpoint::from_shared(format!("http://{}", self.authority))
            .map_err(|error| CallError::unreachable(broker, &error))?;
        if let Some(after) = ask {
            endpoint = endpoint.http2_keep_alive_interval(after).keep_alive_timeout(after);
        }
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection ended"));
            async move { stream }
        });
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| CallError::unreachable(broker, &error))
    }

    async fn handshake(
        &self,
        broker: &BrokerAddress,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, CallError> {
        let tcp = TcpStream::connect((broker.host.as_str(), broker.port))
            .await
            .map_err(|error| CallError::unreachable(broker, &error))?;
        // Requests are small and wait for each other.
        tcp.set_nodelay(true).map_err(|error| CallError::unreachable(broker, &error))?;
        TlsConnector::from(config)
            .connect(self.name.clone(), tcp)
            .await
            .map_err(|error| CallError::handshake(broker, &self.authority, error))
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
    way: Way,
    client: BrokerClient,
    issuing_number: u32,
}

/// The broker that a call goes to, and those there are.
#[derive(Debug, Clone)]
struct Way {
    broker: BrokerAddress,
    brokers: Arc<Brokers>,
}

impl Calls for Connection {
    async fn begin_enrollment(
        &self,
        request: BeginEnrollmentRequest,
    ) -> Result<BeginEnrollmentResponse, CallError> {
        bounded(&self.way, enrollment(self.channel.clone()).begin(request)).await
    }

    async fn complete_enrollment(&self, request: CompleteRequest) -> Result<CompleteResponse, CallError> {
        let channel = self.channel_for(request.encoded_len()).await?;
        bounded(&self.way, enrollment(channel).complete(request)).await
    }

    async fn begin_attestation(
        &self,
        request: BeginAttestationRequest,
    ) -> Result<BeginAttestationResponse, CallError> {
        bounded(&self.way, attestation(self.channel.clone()).begin(request)).await
    }

    async fn complete_attestation(&self, request: CompleteRequest) -> Result<CompleteResponse, CallError> {
        let channel = self.channel_for(request.encoded_len()).await?;
        bounded(&self.way, attestation(channel).complete(request)).await
    }

    async fn complete_enrollment_in_parts(
        &self,
        parts: Receiver<CompletePart>,
    ) -> Result<CompleteResponse, CallError> {
        let channel = self.channel_for(usize::MAX).await?;
        let call = async { enrollment(channel).complete_in_parts(ReceiverStream::new(parts)).await };
        within(PARTS_DEADLINE, &self.way, call).await
    }

    async fn complete_attestation_in_parts(
        &self,
        parts: Receiver<CompletePart>,
    ) -> Result<CompleteResponse, CallError> {
        let channel = self.channel_for(usize::MAX).await?;
        let call = async { attestation(channel).complete_in_parts(ReceiverStream::new(parts)).await };
        within(PARTS_DEADLINE, &self.way, call).await
    }
}

impl Connection {
    /// Another broker is asked first from now on.
    pub fn leave(&self) {
        self.way.brokers.leave(&self.way.broker);
    }

    /// What carries a request of so many bytes: a long one goes over a line on which nobody asks whether the broker lives.
    async fn channel_for(&self, bytes: usize) -> Result<Channel, CallError> {
        if bytes <= SMALL || !self.way.brokers.are_several() {
            return Ok(self.channel.clone());
        }
        let config = self.client.believed(self.issuing_number).anonymous().map_err(CallError::Tls)?;
        let opened = self.client.open_at(&self.way.broker, config, (NEXT_BROKER, None)).await;
        opened.inspect_err(|error| self.way.leave_if_absent(error))
    }
}

impl Way {
    /// A broker that failed may be cut off from what the others reach.
    fn leave_if_absent(&self, error: &CallError) {
        if let CallError::Unreachable { broker, .. } | CallError::Failed { broker, .. } = error {
            self.brokers.leave(broker);
        }
    }
}

fn enrollment(channel: Channel) -> EnrollmentClient<Channel> {
    EnrollmentClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

fn attestation(channel: Channel) -> AttestationClient<Channel> {
    AttestationClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

async fn bounded<T>(
    way: &Way,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    within(CALL_DEADLINE, way, call).await
}

async fn within<T>(
    deadline: Duration,
    way: &Way,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    let answer = match timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::from_status(&way.broker, &status)),
        Err(_) => Err(CallError::late(&way.broker, deadline)),
    };
    answer.inspect_err(|error| way.leave_if_absent(error))
}
