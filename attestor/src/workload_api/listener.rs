//! The Unix socket: who connects is known and counted before a byte of theirs is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};

use super::peer::{Caller, Connection, Places};
use super::service::{Api, Source};
use crate::config::WorkloadApi;
use crate::local_socket;

/// Connections at once of one user: its programs have one each.
const EACH: usize = 16;
/// Connections at once: with every workload at its bound, and as many users that are none.
const ALL: usize = 128;
/// Streams at once on one connection: both of the API, opened anew a few times.
const STREAMS: u32 = 8;
/// Bytes of a request's head; the API has one header.
const MAX_HEAD: u32 = 4 << 10;
/// Bytes of a request; those that are answered are empty.
const MAX_REQUEST: usize = 4 << 10;
/// Bytes that a caller may send unasked.
const WINDOW: u32 = 64 << 10;
/// Time until the first byte of a connection.
const FIRST: Duration = Duration::from_secs(5);
/// How often a silent caller is asked whether it is there, and how long it has to say so.
const ALIVE_EVERY: Duration = Duration::from_secs(60);
const ALIVE: Duration = Duration::from_secs(20);
/// Pause after an accept that failed, out of file descriptors say: the next would fail at once too.
const PAUSE: Duration = Duration::from_millis(100);
/// The header that no browser sends by itself (SPIFFE_Workload_Endpoint.md, section 6).
const HEADER: &str = "workload.spiffe.io";

/// The bound socket.
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// Binds the socket. One that a former run left behind is replaced.
    pub async fn bind(api: &WorkloadApi) -> io::Result<Self> {
        local_socket::bind(&api.socket, api.mode, api.group).await.map(Self)
    }
}

/// Requires the header of the API.
#[derive(Clone, Copy)]
struct Guard;

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request.metadata().get(HEADER).is_some_and(|value| value.as_bytes() == b"true") {
            true => Ok(request),
            false => Err(Status::invalid_argument("security header missing: workload.spiffe.io: true")),
        }
    }
}

/// Answers for ever.
pub async fn serve<S: Source>(listener: Listener, source: Arc<S>) {
    let (sender, incoming) = mpsc::channel(1);
    let accepting = tokio::spawn(accept(listener, sender));
    let api = SpiffeWorkloadApiServer::new(Api::new(source)).max_decoding_message_size(MAX_REQUEST);
    let served = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(ALIVE_EVERY))
        .http2_keepalive_timeout(Some(ALIVE))
        .add_service(InterceptedService::new(api, Guard))
        .serve_with_incoming(ReceiverStream::new(incoming))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "workloads are not answered any more; restart the attestor");
    }
    accepting.abort();
}

async fn accept(Listener(listener): Listener, sender: mpsc::Sender<io::Result<Connection>>) {
    let places = Places::new(EACH, ALL);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Whom there is no place for, or whom the kernel does not name, is hung up on.
                let Ok(peer) = stream.peer_cred() else { continue };
                let caller = Caller { uid: peer.uid(), gid: peer.gid() };
                let Some(place) = places.take(caller.uid) else {
                    tracing::debug!(uid = caller.uid, "too many connections of one user");
                    continue;
                };
                tokio::spawn(admit(Connection { stream, caller, _place: place }, sender.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a workload could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Hands on a connection that says something.
async fn admit(connection: Connection, sender: mpsc::Sender<io::Result<Connection>>) {
    if let Ok(Ok(())) = tokio::time::timeout(FIRST, connection.stream.readable()).await {
        drop(sender.send(Ok(connection)).await);
    }
}

#[cfg(test)]
mod tests;
