//! Enrollment and attestation services: convert, call, convert.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use policy::appraisal::Prover;
use policy::digest::Digest;
use policy::id::DeviceName;
use prost::Message;
use proto::v1;
use proto::v1::attestation_server::Attestation;
use proto::v1::enrollment_server::Enrollment;
use tonic::{Request, Response, Status, Streaming};

use super::parts::{self, Places};
use super::queue::{Queue, Step};
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
/// Whoever says nothing that can be told apart.
const UNKNOWN: &str = "unknown";

/// The services that devices call without a certificate.
#[derive(Clone)]
pub struct Devices {
    plant: Arc<Plant>,
    enrollments: Arc<Queue>,
    attestations: Arc<Queue>,
    lists: Places,
}

impl Devices {
    /// The services of this plant.
    #[must_use]
    pub fn new(plant: Arc<Plant>) -> Self {
        Self {
            plant,
            enrollments: Arc::new(Queue::new(ENROLLMENTS)),
            attestations: Arc::new(Queue::new(ATTESTATIONS)),
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
        // A list has its room already.
        self.run(Session { door, step: Step::Complete, caller, ek: None, bytes: 0 }, work).await
    }

    /// What a drill makes of a call, if one befalls its device.
    async fn passage(&self, session: &Session) -> Result<Passage, Refusal> {
        let device = match &session.ek {
            Some(ek) => drill::device_of(&self.plant, ek).await?,
            None => session.caller.parse().ok(),
        };
        match device {
            Some(name) => drill::passage(&self.plant, &name).await,
            None => Ok(Passage::Free),
        }
    }

    /// Runs `work` once a place is free, and turns its refusal into a status.
    async fn run<T>(
        &self,
        session: Session,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        match self.passage(&session).await.map_err(|refusal| status(&self.plant, &refusal))? {
            Passage::Free => {}
            Passage::Late(by) => tokio::time::sleep(by).await,
            Passage::Lost => return Err(drill::lost()),
        }
        let (places, running) = match session.door {
            Door::Enrollment => (&self.enrollments, &self.plant.metrics.enrolling),
            Door::Attestation => (&self.attestations, &self.plant.metrics.attesting),
        };
        let result = match places.admit(session.step, session.bytes).await {
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
    step: Step,
    caller: String,
    /// The EK by which a TPM calls that has no challenge yet.
    ek: Option<Digest>,
    /// Of its request, while that waits.
    bytes: usize,
}

impl Session {
    fn begin(door: Door, caller: String, request: &impl Message) -> Self {
        Self { door, step: Step::Begin, caller, ek: None, bytes: request.encoded_len() }
    }

    fn complete(door: Door, plant: &Plant, request: &v1::CompleteRequest) -> Self {
        let (caller, bytes) = (challenged(plant, request), request.encoded_len());
        Self { door, step: Step::Complete, caller, ek: None, bytes }
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

#[tonic::async_trait]
impl Enrollment for Devices {
    async fn begin(
        &self,
        request: Request<v1::BeginEnrollmentRequest>,
    ) -> Result<Response<v1::BeginEnrollmentResponse>, Status> {
        let begins = request.get_ref();
        let ek = begins.device_key.is_empty().then(|| Digest::of(&begins.ek_public));
        let caller = ek.map_or_else(|| claimed(&begins.device), |ek| format!("ek {ek}"));
        let session = Session { ek, ..Session::begin(Door::Enrollment, caller, begins) };
        self.run(session, begin::enrollment(&self.plant, request.get_ref())).await
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let session = Session::complete(Door::Enrollment, &self.plant, request.get_ref());
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
        let begins = request.get_ref();
        let session = Session::begin(Door::Attestation, claimed(&begins.device), begins);
        self.run(session, begin::attestation(&self.plant, request.get_ref())).await
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let session = Session::complete(Door::Attestation, &self.plant, request.get_ref());
        let request = request.into_inner();
        let work = async {
            match parts::completed(&self.plant, &self.lists, Door::Attestation, &request)? {
                None => complete::complete(&self.plant, request, Door::Attestation).await,
                Some(place) => {
                    let plant = Arc::clone(&self.plant);
                    let work = async move { complete::complete(&plant, request, Door::Attestation).await };
                    parts::to_its_end(place, work).await
                }
            }
        };
        self.run(session, work).await
    }

    async fn complete_in_parts(
        &self,
        request: Request<Streaming<v1::CompletePart>>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        Self::complete_in_parts(self, request.into_inner(), Door::Attestation).await
    }
}
