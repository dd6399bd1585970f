//! Enrollment and attestation services: convert, call, convert.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::v1;
use proto::v1::attestation_server::Attestation;
use proto::v1::enrollment_server::Enrollment;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};

use super::status::status;
use crate::plant::Plant;
use crate::session::challenge::Door;
use crate::session::{Refusal, begin, complete};

/// Sessions of unknown devices that are worked on at once: known ones never wait behind them.
const ENROLLMENTS: usize = 8;
/// Sessions of known devices that are worked on at once.
const ATTESTATIONS: usize = 256;
/// Seconds after which a device that found no place asks again.
const BUSY: u32 = 5;

/// The services that devices call without a certificate.
#[derive(Clone)]
pub struct Devices {
    plant: Arc<Plant>,
    enrollments: Arc<Semaphore>,
    attestations: Arc<Semaphore>,
}

impl Devices {
    /// The services of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Self {
        Self {
            plant,
            enrollments: Arc::new(Semaphore::new(ENROLLMENTS)),
            attestations: Arc::new(Semaphore::new(ATTESTATIONS)),
        }
    }

    /// Runs `work` if a place is free, and turns its refusal into a status.
    async fn run<T>(
        &self,
        places: &Semaphore,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let result = match admit(places) {
            Ok(_place) => work.await,
            Err(refusal) => {
                self.plant.turned_away.fetch_add(1, Ordering::Relaxed);
                Err(refusal)
            }
        };
        result.map(Response::new).map_err(|refusal| {
            tracing::info!(reason = %refusal, "refused");
            status(&self.plant, &refusal)
        })
    }
}

/// A place among those that are worked on, or a refusal that says when to come again.
fn admit(places: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    places.try_acquire().map_err(|_| Refusal::TryLater {
        why: "the broker is busy with other devices".to_owned(),
        seconds: BUSY,
    })
}

#[tonic::async_trait]
impl Enrollment for Devices {
    async fn begin(
        &self,
        request: Request<v1::BeginEnrollmentRequest>,
    ) -> Result<Response<v1::BeginEnrollmentResponse>, Status> {
        self.run(&self.enrollments, begin::enrollment(&self.plant, request.get_ref())).await
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        self.run(&self.enrollments, complete::complete(&self.plant, request.into_inner(), Door::Enrollment))
            .await
    }
}

#[tonic::async_trait]
impl Attestation for Devices {
    async fn begin(
        &self,
        request: Request<v1::BeginAttestationRequest>,
    ) -> Result<Response<v1::BeginAttestationResponse>, Status> {
        self.run(&self.attestations, begin::attestation(&self.plant, request.get_ref())).await
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        self.run(&self.attestations, complete::complete(&self.plant, request.into_inner(), Door::Attestation))
            .await
    }
}
