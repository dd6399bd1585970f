//! The Authorize service: convert, call, convert.

use std::sync::Arc;

use policy::access::Decision;
use policy::zone::Direction;
use proto::v1::authorize_server::Authorize;
use proto::{convert, v1};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::connection::ConnectionInfo;
use super::peer::DevicePeer;
use super::status::status;
use crate::access::{Answer, Question, authorize};
use crate::audit::refusals::Caller;
use crate::plant::Plant;
use crate::session::Refusal;

/// Questions that are worked on at once; each takes about a millisecond.
const PLACES: usize = 64;
/// Seconds after which a device that found no place asks again.
const BUSY: u32 = 1;
/// Longest request: a certificate of at most 16 KiB, and names.
pub const MAX_REQUEST: usize = 20 << 10;

/// What is refused, as the audit names it.
const ACTION: &str = "peer.authorize";

/// The service.
#[derive(Clone)]
pub struct Authorizing {
    plant: Arc<Plant>,
    places: Arc<Semaphore>,
}

impl Authorizing {
    /// The service of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Self {
        Self { plant, places: Arc::new(Semaphore::new(PLACES)) }
    }

    async fn answer(
        &self,
        caller: &DevicePeer,
        request: v1::AuthorizeRequest,
    ) -> Result<v1::AuthorizeResponse, Refusal> {
        let busy = |_| Refusal::TryLater {
            why: "the broker answers other devices at this moment".to_owned(),
            seconds: BUSY,
        };
        let _place = self.places.try_acquire().map_err(busy)?;
        let answer = authorize(&self.plant, caller, &question(request)?).await?;
        Ok(wire(answer, self.plant.now().0))
    }
}

fn question(request: v1::AuthorizeRequest) -> Result<Question, Refusal> {
    let named = |error: policy::id::NameError| Refusal::malformed(error.to_string());
    let direction = match request.direction() {
        v1::Direction::Inbound => Direction::Inbound,
        v1::Direction::Outbound => Direction::Outbound,
        v1::Direction::Unspecified => {
            let why = "say who opens the service: direction INBOUND, the peer, or OUTBOUND, the caller";
            return Err(Refusal::malformed(why.to_owned()));
        }
    };
    let zone = Some(request.zone.as_str()).filter(|zone| !zone.is_empty());
    Ok(Question {
        service: request.service.parse().map_err(named)?,
        zone: zone.map(str::parse).transpose().map_err(named)?,
        direction,
        grant: request.grant,
        certificate: request.peer_certificate,
    })
}

fn wire(answer: Answer, broker_time: u64) -> v1::AuthorizeResponse {
    let mut response = v1::AuthorizeResponse { broker_time, ..v1::AuthorizeResponse::default() };
    match answer.decision {
        Decision::Allowed(allowed) => {
            response.allowed = true;
            response.peer = allowed.peer().to_string();
            response.until = allowed.until().0;
        }
        Decision::Refused { peer, reasons } => {
            response.peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            response.reasons = reasons.iter().map(convert::access_reason).collect();
        }
    }
    if let Some(granted) = answer.grant {
        (response.grant, response.grant_expires_at) = (granted.token, granted.expires.0);
    }
    response
}

#[tonic::async_trait]
impl Authorize for Authorizing {
    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer.clone());
        let none = || Refusal::NotPermitted("this call needs the device's own certificate".to_owned());
        let caller = peer.ok_or_else(none).and_then(|peer| peer.device().cloned());
        let answer = match &caller {
            Ok(caller) => self.answer(caller, request.into_inner()).await,
            Err(_) => Err(none()),
        };
        match answer {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => {
                tracing::info!(reason = %refusal, "refused");
                self.plant.metrics.refused(ACTION, &refusal);
                let name = caller.as_ref().map(|caller| caller.id.device().as_str());
                let caller = name.map_or(Caller::Claimed("nobody"), Caller::Proven);
                self.plant.refusals.note(&self.plant, caller, ACTION, &refusal).await;
                Err(status(&self.plant, &refusal))
            }
        }
    }
}
