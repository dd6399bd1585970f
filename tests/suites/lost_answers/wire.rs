//! The broker without a network: each call has the fate that the test gave it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use attestor::client::{CallError, Calls};
use broker::admin::{Act, Actor, authorize, token, zone};
use broker::grpc::peer::AdministratorPeer;
use broker::grpc::status::denial;
use broker::init::{Request, init};
use broker::ports::{Clock, System};
use broker::record::device::{Tpm, ek_key, no_ek};
use broker::record::fetch;
use broker::record::plant::{Administrator, admin_key};
use broker::server;
use broker::session::challenge::Door;
use broker::session::{Refusal, begin, complete};
use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::time::UnixTime;
use policy::zone::Zone;
use proto::v1;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

/// Seconds between two turns: devices are not to come faster for long.
const TURN: u64 = 10;

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
    /// The caller gives up, and the request arrives just before the call that it makes so many calls later.
    Late(u8),
}

#[derive(Debug)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

/// A plant with one zone that asks for no TPM.
pub(super) struct Plant {
    dir: TempDir,
    clock: Arc<Hand>,
    plant: Arc<broker::plant::Plant>,
    fates: Mutex<VecDeque<Fate>>,
    late: Mutex<Vec<(u8, Door, v1::CompleteRequest)>>,
}

impl Plant {
    pub(super) async fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let request = Request {
            dir: dir.path().to_owned(),
            plant: "plant.example".parse().expect("a domain"),
            listen: "127.0.0.1:0".to_owned(),
            address: "127.0.0.1:8443".to_owned(),
            owner: "ada".to_owned(),
            tpm_roots: Vec::new(),
            idevid_roots: Vec::new(),
            kek: None,
            store: broker::config::Backend::Sled,
        };
        init(&request, &System::default(), &System::default()).await.expect("a plant");
        let mut plant = server::open(dir.path()).await.expect("it opens");
        let clock = Arc::new(Hand(AtomicU64::new(plant.now().0)));
        let opened = Arc::get_mut(&mut plant).expect("nobody else has it yet");
        opened.clock = Arc::<Hand>::clone(&clock);
        let (fates, late) = (Mutex::default(), Mutex::default());
        let this = Self { dir, clock, plant, fates, late };
        let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
        let yard = Zone { least, ..Zone::new("yard".parse().expect("a name")) };
        zone::create(&this.plant, &this.owner(Act::CreateZone).await, &yard, false).await.expect("a zone");
        this
    }

    async fn owner(&self, act: Act) -> Actor {
        let held = fetch::<Administrator>(self.plant.store.as_ref(), admin_key("ada")).await;
        let held = held.expect("the store reads").expect("the owner");
        let peer = AdministratorPeer {
            name: "ada".to_owned(),
            spki: held.record.spki,
            not_after: UnixTime(u64::MAX),
        };
        authorize(&self.plant, &peer, act).await.expect("she may")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("plant-root.pem")
    }

    /// A token for a device without a TPM.
    pub(super) async fn token(&self, name: &str) -> String {
        let request = token::Request {
            zones: vec!["yard".parse().expect("a name")],
            ek: None,
            device: Some(name.parse().expect("a name")),
            lifetime: 0,
            without_tpm: true,
        };
        let owner = self.owner(Act::CreateToken).await;
        token::create(&self.plant, &owner, &request).await.expect("a token").text.to_string()
    }

    /// Whether the clone alarm stopped the device.
    pub(super) async fn is_stopped(&self, name: &str) -> bool {
        let key = ek_key(&no_ek(&name.parse().expect("a name")));
        let tpm = fetch::<Tpm>(self.plant.store.as_ref(), key).await.expect("the store reads");
        tpm.is_some_and(|held| held.record.quarantine.is_some())
    }

    pub(super) fn pass_time(&self) {
        self.clock.0.fetch_add(TURN, Ordering::Relaxed);
    }

    /// What becomes of the next calls; those after them are answered.
    pub(super) fn set_fates(&self, fates: &[Fate]) {
        *self.fates.lock().expect("fates") = fates.iter().copied().collect();
    }

    async fn arrived(&self) {
        let late: Vec<_> = std::mem::take(&mut *self.late.lock().expect("late requests"));
        for (calls, door, request) in late {
            match calls {
                0 | 1 => drop(complete::complete(&self.plant, request, door).await),
                _ => self.late.lock().expect("late requests").push((calls - 1, door, request)),
            }
        }
    }

    fn fate(&self) -> Fate {
        self.fates.lock().expect("fates").pop_front().unwrap_or(Fate::Answered)
    }

    fn answer<T>(&self, fate: Fate, done: Result<T, Refusal>) -> Result<T, CallError> {
        match fate {
            Fate::Answered => {
                done.map_err(|refusal| CallError::Denied(Box::new(denial(&self.plant, &refusal))))
            }
            Fate::RequestLost | Fate::AnswerLost | Fate::Late(_) => Err(unreachable()),
        }
    }

    async fn complete(
        &self,
        door: Door,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, CallError> {
        self.arrived().await;
        let fate = self.fate();
        match fate {
            Fate::RequestLost => return Err(unreachable()),
            Fate::Late(calls) => {
                self.late.lock().expect("late requests").push((calls, door, request));
                return Err(unreachable());
            }
            Fate::Answered | Fate::AnswerLost => {}
        }
        self.answer(fate, complete::complete(&self.plant, request, door).await)
    }
}

fn unreachable() -> CallError {
    let broker = "127.0.0.1:1".parse().expect("an address");
    CallError::Unreachable { broker, reason: "lost".to_owned() }
}

impl Calls for Plant {
    async fn begin_enrollment(
        &self,
        request: v1::BeginEnrollmentRequest,
    ) -> Result<v1::BeginEnrollmentResponse, CallError> {
        self.arrived().await;
        self.answer(self.fate(), begin::enrollment(&self.plant, &request).await)
    }

    async fn begin_attestation(
        &self,
        request: v1::BeginAttestationRequest,
    ) -> Result<v1::BeginAttestationResponse, CallError> {
        self.arrived().await;
        self.answer(self.fate(), begin::attestation(&self.plant, &request).await)
    }

    async fn complete_enrollment(
        &self,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, CallError> {
        self.complete(Door::Enrollment, request).await
    }

    async fn complete_attestation(
        &self,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, CallError> {
        self.complete(Door::Attestation, request).await
    }

    async fn complete_enrollment_in_parts(
        &self,
        _: Receiver<v1::CompletePart>,
    ) -> Result<v1::CompleteResponse, CallError> {
        unreachable!("a device without a TPM has no list")
    }

    async fn complete_attestation_in_parts(
        &self,
        _: Receiver<v1::CompletePart>,
    ) -> Result<v1::CompleteResponse, CallError> {
        unreachable!("a device without a TPM has no list")
    }
}
