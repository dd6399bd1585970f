//! Enrollment and attestation services: convert, call, convert.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use policy::appraisal::Prover;
use policy::digest::Digest;
use policy::id::DeviceName;
use proto::v1;
use proto::v1::attestation_server::Attestation;
use proto::v1::enrollment_server::Enrollment;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status, Streaming};

use super::parts::{self, Places};
use super::status::status;
use crate::audit::refusals::Caller;
use crate::drill::{self, Passage};
use crate::metrics;
use crate::plant::Plant;
use crate::session::challenge::{Challenge, Door};
use crate::session::{Refusal, begin, complete};

/// Sessions of unknown devices that are worked on at once: known ones never wait behind them.
pub(crate) const ENROLLMENTS: usize = 8;
/// Sessions of known devices that are worked on at once.
pub(crate) const ATTESTATIONS: usize = 256;
/// Seconds after which a device that found no place asks again.
const BUSY: u32 = 5;

/// Whoever says nothing that can be told apart.
const UNKNOWN: &str = "unknown";

/// The services that devices call without a certificate.
#[derive(Clone)]
pub struct Devices {
    plant: Arc<Plant>,
    enrollments: Arc<Semaphore>,
    attestations: Arc<Semaphore>,
    lists: Places,
}

impl Devices {
    /// The services of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Self {
        Self {
            plant,
            enrollments: Arc::new(Semaphore::new(ENROLLMENTS)),
            attestations: Arc::new(Semaphore::new(ATTESTATIONS)),
            lists: Places::default(),
        }
    }

    /// Completes a request that comes in parts. Only with all of them does it take a place of its door, so that a slow
    /// sender keeps nobody out.
    async fn complete_in_parts(
        &self,
        mut parts: Streaming<v1::CompletePart>,
        door: Door,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let first = parts::first(&mut parts).await;
        let caller =
            first.as_ref().map_or_else(|_| UNKNOWN.to_owned(), |first| challenged(&self.plant, first));
        let whole = match first {
            Ok(first) => parts::rest(&self.plant, &self.lists, door, first, parts).await,
            Err(refusal) => Err(refusal),
        };
        let work = async {
            let (request, _place) = whole?;
            complete::complete(&self.plant, request, door).await
        };
        self.run(Session { door, caller }, work).await
    }

    /// Runs `work` if a place is free, and turns its refusal into a status.
    async fn run<T>(
        &self,
        session: Session,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        if let Ok(name) = session.caller.parse() {
            match drill::passage(&self.plant, &name).await.map_err(|refusal| status(&self.plant, &refusal))? {
                Passage::Free => {}
                Passage::Late(by) => tokio::time::sleep(by).await,
                Passage::Lost => return Err(drill::lost()),
            }
        }
        let (places, running) = match session.door {
            Door::Enrollment => (&self.enrollments, &self.plant.metrics.enrolling),
            Door::Attestation => (&self.attestations, &self.plant.metrics.attesting),
        };
        let result = match admit(places) {
            Ok(_place) => {
                let _running = running.begin();
                work.await
            }
            Err(refusal) => {
                self.plant.turned_away.fetch_add(1, Ordering::Relaxed);
                self.plant.metrics.turned_away(session.counted());
                Err(refusal)
            }
        };
        match result {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => {
                tracing::info!(reason = %refusal, "refused");
                self.plant.metrics.refused(session.action(), &refusal);
                let caller = Caller::Claimed(&session.caller);
                self.plant.refusals.note(&self.plant, caller, session.action(), &refusal).await;
                Err(status(&self.plant, &refusal))
            }
        }
    }
}

/// Who asks for what, for the audit. Nothing is proven of it.
struct Session {
    door: Door,
    caller: String,
}

impl Session {
    const fn enrollment(caller: String) -> Self {
        Self { door: Door::Enrollment, caller }
    }

    const fn attestation(caller: String) -> Self {
        Self { door: Door::Attestation, caller }
    }

    const fn counted(&self) -> metrics::Door {
        match self.door {
            Door::Enrollment => metrics::Door::Enrollment,
            Door::Attestation => metrics::Door::Attestation,
        }
    }

    const fn action(&self) -> &'static str {
        match self.door {
            Door::Enrollment => "device.enroll",
            Door::Attestation => "device.attest",
        }
    }
}

/// What a device that begins calls itself.
fn claimed(name: &str) -> String {
    name.parse::<DeviceName>().map_or_else(|_| UNKNOWN.to_owned(), |name| name.to_string())
}

/// Whom an authentic challenge was made for: the device, or the Name of its EK.
fn challenged(plant: &Plant, request: &v1::CompleteRequest) -> String {
    match Challenge::open(&plant.keys.load(), plant.now(), &request.sealed) {
        Ok(Challenge { device: Some(device), .. }) => device.to_string(),
        Ok(challenge) if challenge.prover == Prover::Key => {
            format!("key {}", hex::encode(&challenge.ak_name.0))
        }
        Ok(challenge) => format!("EK name {}", hex::encode(&challenge.ek_name.0)),
        Err(_) => UNKNOWN.to_owned(),
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
        let begins = request.get_ref();
        let caller = match begins.device_key.is_empty() {
            true => format!("ek {}", Digest::of(&begins.ek_public)),
            false => claimed(&begins.device),
        };
        self.run(Session::enrollment(caller), begin::enrollment(&self.plant, request.get_ref())).await
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let session = Session::enrollment(challenged(&self.plant, request.get_ref()));
        let work = complete::complete(&self.plant, request.into_inner(), Door::Enrollment);
        self.run(session, work).await
    }

    async fn complete_in_parts(
        &self,
        request: Request<Streaming<v1::CompletePart>>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Self::complete_in_parts(self, request.into_inner(), Door::Enrollment).await
    }
}

#[tonic::async_trait]
impl Attestation for Devices {
    async fn begin(
        &self,
        request: Request<v1::BeginAttestationRequest>,
    ) -> Result<Response<v1::BeginAttestationResponse>, Status> {
        let session = Session::attestation(claimed(&request.get_ref().device));
        self.run(session, begin::attestation(&self.plant, request.get_ref())).await
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let session = Session::attestation(challenged(&self.plant, request.get_ref()));
        let work = complete::complete(&self.plant, request.into_inner(), Door::Attestation);
        self.run(session, work).await
    }

    async fn complete_in_parts(
        &self,
        request: Request<Streaming<v1::CompletePart>>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Self::complete_in_parts(self, request.into_inner(), Door::Attestation).await
    }
}
