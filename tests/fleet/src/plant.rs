//! The plant: its folder, zones, golden release and registered devices, made before its broker starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use broker::admin::device::import::{Entry, import};
use broker::admin::golden::apply::{Terms, apply};
use broker::admin::golden::learn::draft;
use broker::admin::reach::Scope;
use broker::admin::{Act, Actor, authorize, zone};
use broker::ca::AuthorityKey;
use broker::config::Backend;
use broker::grpc::peer::AdministratorPeer;
use broker::init::{Request, init};
use broker::plant::Plant;
use broker::ports::System;
use broker::record::fetch;
use broker::record::plant::{Administrator, admin_key};
use broker::server;
use broker::session::challenge::Door;
use broker::session::{begin, complete};
use policy::appraisal::policy::Mode;
use policy::digest::Digest;
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::Zone;
use rcgen::SigningKey as _;

use crate::device::{Boot, Device, Kind};

/// The plant's domain.
pub const DOMAIN: &str = "plant.example";
/// Who owns it.
const OWNER: &str = "ada";
/// Devices of a zone, at most.
const OF_A_ZONE: usize = 1_000;
/// Devices that are registered in one list, which may name 30 zones.
const OF_A_LIST: usize = 25 * OF_A_ZONE;
/// Connections that a broker takes besides those of the devices.
const OTHER_CONNECTIONS: usize = 100;

/// Makes a plant in `dir` whose zones enforce one golden release, with so many devices that run it: they are registered
/// by the digests of their EKs, and have not come yet. Its records are on `backend`.
pub async fn make(dir: &Path, devices: usize, backend: Backend) -> Vec<Device> {
    initialize(dir, devices, backend).await;
    let plant = server::open(dir).await.expect("the plant opens");
    let zones = devices.div_ceil(OF_A_ZONE);
    for n in 0..zones {
        let mut zone = Zone::new(zone_name(n).parse().expect("a name"));
        zone.products = ["edge-box".parse().expect("a name")].into();
        let actor = actor(&plant, Act::CreateZone).await;
        zone::create(&plant, &actor, &zone, false).await.expect("a zone");
    }
    let boot = Boot::golden();
    let device = |n: usize| Device::new(format!("press-{n}"), zone_name(n / OF_A_ZONE), &boot);
    let mut devices: Vec<Device> = (0..devices).map(device).collect();
    register(&plant, &mut devices).await;
    learn(&plant, dir, &mut devices[0]).await;
    for n in 0..zones {
        enforce(&plant, &zone_name(n)).await;
    }
    devices
}

/// Makes a plant in `dir` that is empty.
pub async fn initialize(dir: &Path, devices: usize, store: Backend) {
    let request = Request {
        dir: dir.to_owned(),
        plant: DOMAIN.parse().expect("a domain"),
        listen: "127.0.0.1:0".to_owned(),
        address: "127.0.0.1:8443".to_owned(),
        owner: OWNER.to_owned(),
        tpm_roots: Vec::new(),
        idevid_roots: Vec::new(),
        kek: None,
        store,
    };
    init(&request, &System::default(), &System::default()).await.expect("a plant");
    admit_connections(dir, devices);
}

/// Lets the broker of the plant in `dir` take a connection of each device.
pub fn admit_connections(dir: &Path, devices: usize) {
    let file = dir.join("broker.toml");
    let text = fs::read_to_string(&file).expect("init writes broker.toml");
    let limits = format!("{text}\n[limits]\nconnections = {}\n", devices + OTHER_CONNECTIONS);
    fs::write(&file, limits).expect("broker.toml can be written");
}

/// Lets the broker of the plant in `dir` take this address from now on, where it took a free one.
pub fn listen_on(dir: &Path, address: &str) {
    let file = dir.join("broker.toml");
    let text = fs::read_to_string(&file).expect("the broker has a configuration");
    fs::write(&file, text.replace("127.0.0.1:0", address)).expect("broker.toml can be written");
}

fn zone_name(n: usize) -> String {
    format!("cell-{n}")
}

async fn register(plant: &Plant, devices: &mut [Device]) {
    let entry = |device: &mut Device| Entry {
        name: device.name().parse().expect("a name"),
        zones: vec![device.zone().parse().expect("a name")],
        ek: device.tpm().ek_digest(),
        inventory: BTreeMap::new(),
    };
    let actor = actor(plant, Act::ImportDevices).await;
    for list in devices.chunks_mut(OF_A_LIST) {
        let list: Vec<Entry> = list.iter_mut().map(entry).collect();
        import(plant, &actor, &list, false).await.expect("the devices are registered");
    }
}

/// Makes what `reference` boots golden: it enrolls, and a release is learned from it, signed and applied.
async fn learn(plant: &Arc<Plant>, dir: &Path, reference: &mut Device) {
    let begun = begin::enrollment(plant, &reference.begin_enrollment()).await.expect("a challenge");
    let request = reference.complete_enrollment(begun);
    let answer = complete::complete(plant, request, Door::Enrollment).await.expect("it is registered");
    reference.adopt(answer, Kind::Replace);
    let (product, version) = ("edge-box".parse().expect("a name"), "1.0".parse().expect("a version"));
    let names = [reference.name().parse().expect("a name")];
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
    let actor = actor(plant, Act::ApplyRelease).await;
    apply(plant, &actor, envelope.as_bytes(), &terms).await.expect("the release is applied");
}

async fn enforce(plant: &Plant, name: &str) {
    let actor = actor(plant, Act::SetZone).await;
    let settings = zone::Settings {
        mode: Some(Mode::Enforce),
        reason: "the release is golden".to_owned(),
        ..zone::Settings::default()
    };
    zone::set(plant, &actor, &name.parse().expect("a name"), &settings, false)
        .await
        .expect("the zone enforces");
}

/// The owner, who does `act`.
async fn actor(plant: &Plant, act: Act) -> Actor {
    let held = fetch::<Administrator>(plant.store.as_ref(), admin_key(OWNER)).await;
    let spki = held.expect("the store reads").expect("init makes an owner").record.spki;
    let peer = AdministratorPeer { name: OWNER.to_owned(), spki, not_after: UnixTime(u64::MAX) };
    authorize(plant, &peer, act).await.expect("an owner may do everything")
}
