//! The gRPC service (SPIFFE_Workload_API.md): each stream says what its program has, and again when that is another.

use std::sync::Arc;
use std::time::Duration;

use proto::workload as pb;
use proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::offer::{Offer, Withheld};
use super::peer::{Caller, Place, Places};
use crate::config::{Program, Workload};

/// Streams at once of one user: two for each connection that it may have.
const EACH: usize = 32;
/// Streams at once. Each keeps what it said last, some kilobytes.
const ALL: usize = 128;
/// Time that a caller has to take a message before it loses the stream: on one machine that takes a moment.
const SLOW: Duration = Duration::from_secs(30);

/// What workloads have, as of now.
pub trait Source: Send + Sync + 'static {
    /// The workloads, in the order in which a caller is looked for.
    fn workloads(&self) -> &[Workload];

    /// What `program` has, and how long that is so if nothing changes.
    fn offer(&self, program: &Program) -> Result<(Offer, Duration), Withheld>;

    /// Hears whenever what workloads have may be another.
    fn changes(&self) -> watch::Receiver<()>;
}

impl From<Withheld> for Status {
    fn from(withheld: Withheld) -> Self {
        let words = withheld.to_string();
        match withheld {
            Withheld::Unknown { .. }
            | Withheld::Refused(_)
            | Withheld::Void(_)
            | Withheld::Elsewhere(_)
            | Withheld::NotCertified(_) => Self::permission_denied(words),
            Withheld::NotYet(_) | Withheld::OtherBoot(_) | Withheld::Ended { .. } => Self::unavailable(words),
        }
    }
}

/// The service over a [`Source`].
pub(super) struct Api<S> {
    source: Arc<S>,
    streams: Arc<Places>,
}

impl<S: Source> Api<S> {
    pub(super) fn new(source: Arc<S>) -> Self {
        Self { source, streams: Places::new(EACH, ALL) }
    }

    /// The program that calls, and a place for its stream.
    fn admit<T>(&self, request: &Request<T>) -> Result<(Program, Place), Status> {
        let caller = request.extensions().get::<Caller>();
        let Caller { uid, gid } = *caller.ok_or_else(|| Status::internal("the connection has no caller"))?;
        let found = Program::of(self.source.workloads(), uid, gid);
        let found = found.ok_or(Withheld::Unknown { uid, gid }).inspect_err(|withheld| {
            tracing::info!(uid, gid, "a program is refused: {withheld}");
        })?;
        let place = self.streams.take(uid);
        Ok((found, place.ok_or_else(|| Status::unavailable("too many streams; close some, or ask again"))?))
    }

    fn stream<M: Send + 'static>(
        &self,
        (program, place): (Program, Place),
        say: impl Fn(&Offer) -> M + Send + 'static,
    ) -> Response<ReceiverStream<Result<M, Status>>> {
        let (sender, receiver) = mpsc::channel(1);
        let source = Arc::clone(&self.source);
        tokio::spawn(async move {
            let _place = place;
            follow(source.as_ref(), &program, &sender, say).await;
        });
        Response::new(ReceiverStream::new(receiver))
    }
}

/// Says what `program` has until there is nothing, or nobody listens.
async fn follow<S: Source, M>(
    source: &S,
    program: &Program,
    sender: &mpsc::Sender<Result<M, Status>>,
    say: impl Fn(&Offer) -> M,
) {
    let mut changes = source.changes();
    let mut said = None;
    loop {
        changes.mark_unchanged();
        let (offer, lasts) = match source.offer(program) {
            Ok(offered) => offered,
            Err(withheld) => {
                tracing::info!(workload = %program.first.name, "a workload gets nothing: {withheld}");
                return drop(sender.send_timeout(Err(withheld.into()), SLOW).await);
            }
        };
        if said.as_ref() != Some(&offer) {
            for name in offer.left_out() {
                tracing::warn!(
                    workload = %name,
                    "not served beside {}, because other zones are at its other end or it has no certificate; run its \
                     program as another user",
                    program.first.name
                );
            }
            if sender.send_timeout(Ok(say(&offer)), SLOW).await.is_err() {
                return;
            }
            said = Some(offer);
        }
        tokio::select! {
            () = sender.closed() => return,
            heard = timeout(lasts, changes.changed()) => if let Ok(Err(_)) = heard { return },
        }
    }
}

/// JWT and WIT are profiles that this plant does not have: a bearer token proves nothing about who shows it.
fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this plant issues X.509-SVIDs only"))
}

type Stream<M> = ReceiverStream<Result<M, Status>>;

#[tonic::async_trait]
impl<S: Source> SpiffeWorkloadApi for Api<S> {
    type FetchX509SVIDStream = Stream<pb::X509svidResponse>;
    type FetchX509BundlesStream = Stream<pb::X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<pb::JwtBundlesResponse>;
    type FetchWITSVIDStream = Stream<pb::WitsvidResponse>;
    type FetchWITBundlesStream = Stream<pb::WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<pb::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Ok(self.stream(self.admit(&request)?, Offer::svids))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<pb::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Ok(self.stream(self.admit(&request)?, Offer::bundles))
    }

    async fn fetch_jwtsvid(
        &self,
        _: Request<pb::JwtsvidRequest>,
    ) -> Result<Response<pb::JwtsvidResponse>, Status> {
        absent()
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<pb::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        absent()
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<pb::ValidateJwtsvidRequest>,
    ) -> Result<Response<pb::ValidateJwtsvidResponse>, Status> {
        absent()
    }

    async fn fetch_witsvid(
        &self,
        _: Request<pb::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        absent()
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<pb::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        absent()
    }
}
