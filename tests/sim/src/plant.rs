//! The plant as every run begins: two zones that enforce two releases, a conduit between them, and devices that are
//! registered and have not come yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use attestor::renewal::machine::Effect;
use attestor::renewal::prove;
use broker::admin::conduit::{self, Unoffered};
use broker::admin::device::import::{Entry, import};
use broker::admin::golden::apply::{Terms, apply};
use broker::admin::golden::learn::draft;
use broker::admin::reach::Scope;
use broker::admin::{Act, Actor, authorize, zone};
use broker::ca::AuthorityKey;
use broker::grpc::peer::AdministratorPeer;
use broker::grpc::status::denial;
use broker::init::{Request as Init, init};
use broker::plant::Plant;
use broker::ports::System;
use broker::record::fetch;
use broker::record::plant::{Administrator, admin_key};
use broker::server::{self, Ground};
use broker::session::challenge::Door;
use broker::session::{Refusal, begin, complete};
use broker::store::memory::{MemoryDisk, MemoryStore};
use broker::store::sled::SledStore;
use broker::store::{MAX_SCAN, Store};
use policy::appraisal::policy::Mode;
use policy::digest::Digest;
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::model::Timing;
use policy::zone::{Conduit, Zone};
use rcgen::SigningKey as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::machine::{Chip, Machine, SERVICE};
use crate::plan::Boot;
use crate::rng::Hand;
use crate::task::{Reply, Request, Step, Work, step};

/// The plant's domain.
pub const DOMAIN: &str = "plant.example";
/// The zone whose devices serve.
pub const PRESS: &str = "press";
/// The zone whose devices call.
pub const CELL: &str = "cell";
/// The devices, and the zone of each.
pub const NAMES: [(&str, &str); 4] =
    [("press-0", PRESS), ("press-1", PRESS), ("cell-0", CELL), ("cell-1", CELL)];
/// Those that the releases are learned from, one each: what differs between two boots of one is left out. They are off in
/// every run.
const BENCH: [(&str, Boot, &str); 2] = [("bench-0", Boot::First, "1.0"), ("bench-1", Boot::Second, "2.0")];
/// Who owns the plant.
const OWNER: &str = "ada";
/// Seconds between two proofs, and of life without the broker.
const TIMING: (u64, u64) = (300, 900);
/// Seconds that a certificate lives.
pub const LIFE: u64 = 1_350;

/// The plant before a run.
pub struct Template {
    /// Its folder.
    pub folder: TempDir,
    /// Its records.
    pub disk: MemoryDisk,
}

/// A folder in memory, where the system has one: nothing in a run must survive it.
#[must_use]
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a folder")
}

/// The plant, made once in a process.
pub fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(make)
}

/// A runtime for one world: nothing runs at the same time but what was handed to other threads.
#[must_use]
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(2)
        .build()
        .expect("a runtime")
}

fn make() -> Template {
    let (runtime, folder, disk) = (runtime(), folder(), MemoryDisk::default());
    let plant = runtime.block_on(async {
        let clock = Hand::default();
        let request = Init {
            dir: folder.path().to_owned(),
            plant: DOMAIN.parse().expect("a domain"),
            listen: "127.0.0.1:0".to_owned(),
            address: "127.0.0.1:8443".to_owned(),
            owner: OWNER.to_owned(),
            tpm_roots: Vec::new(),
            idevid_roots: Vec::new(),
            kek: None,
            store: broker::config::Backend::Sled,
        };
        init(&request, &clock, &System::default()).await.expect("a plant");
        let store = carried(folder.path(), &disk).await;
        let ground = Ground { store, clock: Arc::new(clock), entropy: Arc::new(System::default()) };
        server::open_on(ground, folder.path()).await.expect("the plant opens")
    });
    runtime.block_on(set_up(&plant));
    let root = folder.path().join("plant-root.pem");
    for (number, (name, boot, version)) in BENCH.into_iter().enumerate() {
        let mut bench = Machine::new(name, PRESS, chip(NAMES.len() + number), &root, 0);
        runtime.block_on(bench.start(boot));
        exchange(&runtime, &plant, &mut bench);
        runtime.block_on(learn(&plant, folder.path(), name, version));
    }
    // Nobody who only observes reaches one who enforces.
    for name in [CELL, PRESS] {
        runtime.block_on(set_mode(&plant, name, Mode::Enforce));
    }
    Template { folder, disk }
}

/// The TPM of the device with this number.
#[must_use]
pub fn chip(number: usize) -> Chip {
    Chip::new(number as u64)
}

/// Carries what `init` wrote to a store in memory.
async fn carried(dir: &Path, disk: &MemoryDisk) -> Arc<dyn Store> {
    let broker = server::broker_id(dir).expect("init writes an id");
    let from = SledStore::open(dir, broker.clone()).expect("the store that init made");
    let (mut content, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = from.scan("", after.as_deref(), MAX_SCAN).await.expect("the store reads");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        content.extend(page.into_iter().map(|(key, found)| Ok((key, found.value))));
    }
    let store = MemoryStore::open(disk, broker);
    store.replace_all(Box::new(content.into_iter()), from.revision()).await.expect("it is restored");
    Arc::new(store)
}

async fn set_up(plant: &Plant) {
    for name in [PRESS, CELL] {
        let mut zone = Zone::new(name.parse().expect("a name"));
        zone.products = ["edge-box".parse().expect("a name")].into();
        zone.timing = Timing::new(TIMING.0, TIMING.1, None).expect("times that go together");
        assert_eq!(zone.timing.certificate_lifetime(), LIFE);
        zone::create(plant, &owner(plant, Act::CreateZone).await.expect("an owner"), &zone, false)
            .await
            .expect("a zone");
    }
    let all = NAMES.into_iter().chain(BENCH.map(|(name, ..)| (name, PRESS))).enumerate();
    let entries = all.map(|(number, (name, zone))| Entry {
        name: name.parse().expect("a name"),
        zones: vec![zone.parse().expect("a name")],
        ek: chip(number).ek_digest(),
        inventory: BTreeMap::new(),
    });
    let owner_of = owner(plant, Act::ImportDevices).await.expect("an owner");
    import(plant, &owner_of, &entries.collect::<Vec<_>>(), false).await.expect("devices");
    set_conduit(plant, true).await.expect("a conduit");
}

/// Proves `machine` until its daemon waits, which is trusted then.
pub fn exchange(runtime: &Runtime, plant: &Arc<Plant>, machine: &mut Machine) {
    let on = machine.on.as_mut().expect("it has power");
    while let Some(Effect::Begin(kind)) = on.daemon.next() {
        let mut work: Work<_> = Box::pin(prove(Arc::clone(on.daemon.attester()), on.line.clone(), kind));
        let proof = loop {
            match step(runtime, &mut work, || on.line.is_calling()) {
                Step::Done(proof) => break proof,
                Step::Waits => {
                    let call = on.line.take().expect("a call");
                    let reply = runtime.block_on(answer(Arc::clone(plant), call.request.clone()));
                    assert!(call.answer(Some(reply)), "the exchange waits for it");
                }
            }
        };
        on.daemon.finish(proof);
    }
    assert!(machine.look(|state| state.holds_any()).is_some_and(|holds| holds), "it is trusted");
}

/// What the broker answers.
pub async fn answer(plant: Arc<Plant>, request: Request) -> Reply {
    let plant = plant.as_ref();
    let answered = match request {
        Request::BeginEnrollment(request) => {
            begin::enrollment(plant, &request).await.map(|begun| Reply::Enrollment(Box::new(begun)))
        }
        Request::BeginAttestation(request) => {
            begin::attestation(plant, &request).await.map(|begun| Reply::Attestation(Box::new(begun)))
        }
        Request::CompleteEnrollment(request) => complete::complete(plant, *request, Door::Enrollment)
            .await
            .map(|done| Reply::Complete(Box::new(done))),
        Request::CompleteAttestation(request) => complete::complete(plant, *request, Door::Attestation)
            .await
            .map(|done| Reply::Complete(Box::new(done))),
    };
    answered.unwrap_or_else(|refusal| Reply::Denied(Box::new(denial(plant, &refusal))))
}

/// Makes a release of what a bench runs.
async fn learn(plant: &Plant, dir: &Path, bench: &str, version: &str) {
    let (product, version) = ("edge-box".parse().expect("a name"), version.parse().expect("a version"));
    let names = [bench.parse().expect("a name")];
    let drafted = draft(plant, &Scope::Plant, &names, product, version, false).await.expect("a release");
    let key = fs::read_to_string(dir.join("owner/release.key")).expect("init makes a release key");
    let key = AuthorityKey::from_pkcs8(pem::parse(key).expect("PEM").contents()).expect("a key");
    let unsigned = Unsigned::new(&Manifest::parse(&drafted.manifest).expect("a manifest"));
    let signature = key.sign(&unsigned.to_be_signed()).expect("a signature");
    let envelope = Envelope::new(&unsigned, &[(Digest::of(&key.spki()), signature)]).to_json();
    let terms = Terms {
        to: ReleaseState::Active,
        allow_rollback: None,
        seen: None,
        base: None,
        plan: None,
        reason: String::new(),
        dry_run: false,
    };
    let actor = owner(plant, Act::ApplyRelease).await.expect("an owner");
    apply(plant, &actor, envelope.as_bytes(), &terms).await.expect("the release is applied");
}

/// Lets a zone enforce or observe.
pub async fn set_mode(plant: &Plant, name: &str, mode: Mode) {
    let actor = owner(plant, Act::SetZone).await.expect("an owner");
    let settings =
        zone::Settings { mode: Some(mode), reason: "simulated".to_owned(), ..zone::Settings::default() };
    zone::set(plant, &actor, &name.parse().expect("a name"), &settings, false).await.expect("the zone");
}

/// Opens or closes the conduit.
pub async fn set_conduit(plant: &Plant, open: bool) -> Result<(), Refusal> {
    let conduit = Conduit {
        from: CELL.parse().expect("a name"),
        to: PRESS.parse().expect("a name"),
        service: SERVICE.parse().expect("a name"),
        schedule: None,
        expires: None,
        accept_observed: false,
    };
    match open {
        true => {
            let actor = owner(plant, Act::AllowConduit).await?;
            conduit::allow(plant, &actor, &conduit, None, Unoffered::Accept, false).await.map(drop)
        }
        false => {
            let actor = owner(plant, Act::CloseConduit).await?;
            conduit::close(plant, &actor, &conduit, None, false).await.map(drop)
        }
    }
}

/// The owner, who does `act`.
pub async fn owner(plant: &Plant, act: Act) -> Result<Actor, Refusal> {
    let held = fetch::<Administrator>(plant.store.as_ref(), admin_key(OWNER)).await?;
    let spki = held.expect("init makes an owner").record.spki;
    let peer = AdministratorPeer { name: OWNER.to_owned(), spki, not_after: UnixTime(u64::MAX) };
    authorize(plant, &peer, act).await
}

/// Copies the plant's folder but for the store that `init` made.
pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to, name) = (entry.path(), to.join(entry.file_name()), entry.file_name());
        let name = name.to_string_lossy();
        match entry.file_type().expect("a kind").is_dir() {
            true if name.starts_with("db-") || name == "owner" => {}
            true => {
                fs::create_dir(&to).expect("a folder");
                copy(&from, &to);
            }
            false => drop(fs::copy(&from, &to).expect("a copy")),
        }
    }
}
