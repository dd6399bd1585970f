//! The Invitation service: open to callers without a certificate, and worth nothing without a code.

use std::sync::Arc;

use proto::v1;
use proto::v1::invitation_server::Invitation;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::admin::people::zones;
use super::status::status;
use crate::admin::people::accept::accept;
use crate::audit::refusals::Caller;
use crate::plant::Plant;
use crate::session::Refusal;

/// Invitations that are looked at at once: there are a few in a year, and a flood must not cost the devices.
const PLACES: usize = 2;
/// Seconds after which whoever found no place asks again.
const BUSY: u32 = 5;

/// Longest request: an id, a proof, and a request for a certificate of at most 2 KiB.
pub const MAX_REQUEST: usize = 4096;

/// What is refused, as the audit names it.
const ACTION: &str = "admin.accept";

/// The service.
#[derive(Clone)]
pub struct Invitations {
    plant: Arc<Plant>,
    places: Arc<Semaphore>,
}

impl Invitations {
    /// The service of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Self {
        Self { plant, places: Arc::new(Semaphore::new(PLACES)) }
    }

    async fn decide(
        &self,
        request: v1::AcceptInvitationRequest,
    ) -> Result<v1::AcceptInvitationResponse, Refusal> {
        let busy = |_| Refusal::TryLater {
            why: "others accept invitations at this moment".to_owned(),
            seconds: BUSY,
        };
        let _place = self.places.try_acquire().map_err(busy)?;
        let accepted = accept(&self.plant, &request.id, &request.csr, &request.proof).await?;
        Ok(v1::AcceptInvitationResponse {
            chain: accepted.chain,
            name: accepted.name,
            role: accepted.role.name().to_owned(),
            zones: zones(accepted.zones.as_ref()),
            not_after: accepted.not_after.0,
        })
    }
}

#[tonic::async_trait]
impl Invitation for Invitations {
    async fn accept(
        &self,
        request: Request<v1::AcceptInvitationRequest>,
    ) -> Result<Response<v1::AcceptInvitationResponse>, Status> {
        match self.decide(request.into_inner()).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => {
                tracing::info!(reason = %refusal, "refused");
                self.plant.metrics.refused(ACTION, &refusal);
                let nobody = Caller::Claimed("nobody");
                self.plant.refusals.note(&self.plant, nobody, ACTION, &refusal).await;
                Err(status(&self.plant, &refusal))
            }
        }
    }
}
