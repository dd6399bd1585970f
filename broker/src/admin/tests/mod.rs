//! The acts of administrators on a plant in memory, with a stated clock and recorded boots.

mod addresses;
mod asking;
mod audit;
mod authority;
mod backup;
mod bad_release;
mod barred;
mod change;
mod clock;
mod day_two;
mod device;
mod etcd;
mod exportable;
mod exposure;
mod fleet;
pub(crate) mod golden;
mod graph;
mod import;
mod key_lines;
mod keys;
mod large_graph;
mod leftover;
mod matrix;
pub(crate) mod office;
mod on_record;
mod people;
mod planned;
mod release;
mod result;
mod rights;
mod saw;
mod second;
mod status;
mod tokens;
mod zone;
mod zone_set;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use policy::digest::Digest;
use policy::evidence::endorsement::RootStore;
use policy::id::{DeviceName, ZoneName};
use policy::time::{UnixTime, Validity};
use policy::zone::document::render;
use policy::zone::{Role, Segmentation, Zone};
use prost::Message;
use proto::v1;
use tempfile::TempDir;

use super::audit::{Filter, latest};
use super::reach::{Reach, Scope};
use super::{Act, Actor, authorize, graph as graphs, zone as zones};
use crate::audit::Event;
use crate::ca::AuthorityKey;
use crate::config::Config;
use crate::grpc::peer::AdministratorPeer;
use crate::init;
use crate::plant::{Plant, PlantKeys};
use crate::ports::{Clock, System};
use crate::record::device::{
    Admitted, AkOwner, Attested, BoundAk, Decision, Device, HeldCertificate, HeldCertificates, Prover, Tpm,
    ak_key, attested_key, device_key, ek_key, held_key,
};
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch, stored};
use crate::secrets::SecretKey;
use crate::store::blobs::Blobs;
use crate::store::memory::{MemoryDisk, MemoryStore};
use crate::store::record::Record;
use crate::store::{Revision, Store, Txn};
use crate::trust;

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

/// An EK of template L-2, made by a TPM simulator.
pub(crate) const EK_P256: &str = "0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa0006008000430010000300100020cf83f2908edadf8d13d9f2fbcc66b4efb6b3d85d9b20d8e24c321a505fceb7540020f310e575883a0fcb64960cd9ae9bb9d27b3ddf69ce9e01e46c6dfb6fdc58465f";

/// A clock that the test moves.
#[derive(Debug, Clone)]
pub(crate) struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

impl Hand {
    pub(crate) fn set(&self, at: UnixTime) {
        self.0.store(at.0, Ordering::Relaxed);
    }
}

/// A plant in memory.
pub(crate) struct Bench {
    pub(crate) plant: Plant,
    pub(crate) clock: Hand,
    pub(crate) release_key: AuthorityKey,
    pub(super) owner_key: AuthorityKey,
    dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(SecretKey::from_bytes(&[7; 32]).unwrap()).await
    }

    pub(super) async fn with(kek: SecretKey) -> Self {
        Self::on(kek, Arc::new(MemoryStore::open(&MemoryDisk::default(), "test".parse().unwrap()))).await
    }

    /// A plant in `store`, under some key.
    pub(crate) async fn on_store(store: Arc<dyn Store>) -> Self {
        Self::on(SecretKey::from_bytes(&[7; 32]).unwrap(), store).await
    }

    /// A plant in `store`.
    pub(super) async fn on(kek: SecretKey, store: Arc<dyn Store>) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Hand(Arc::new(AtomicU64::new(NOW.0)));
        let request = init::Request {
            kek: None,
            store: crate::config::Backend::Sled,
            dir: dir.path().to_owned(),
            plant: "plant.example".parse().unwrap(),
            listen: "127.0.0.1:0".to_owned(),
            address: "127.0.0.1:0".to_owned(),
            owner: "ada".to_owned(),
            tpm_roots: Vec::new(),
            idevid_roots: Vec::new(),
        };
        let entropy = Arc::new(System::default());
        let (release_key, owner_key) =
            init::first_plant(store.as_ref(), &request, &kek, NOW, entropy.as_ref()).await;
        let keys = PlantKeys::open(store.as_ref(), &kek).await.unwrap();
        let plant = Plant {
            turned_away: std::sync::atomic::AtomicU64::new(0),
            refusals: crate::audit::refusals::Refusals::default(),
            grants: crate::audit::grants::Grants::default(),
            metrics: crate::metrics::Metrics::default(),
            blobs: Blobs::open(dir.path()).unwrap(),
            clock: Arc::new(clock.clone()),
            keys: arc_swap::ArcSwap::from_pointee(keys),
            issuers: crate::authority::IssuerCache::default(),
            golden: crate::golden::GoldenCache::default(),
            views: crate::trust::ViewCache::default(),
            fleet: crate::rollout::FleetCache::default(),
            roots: RootStore::new(),
            idevid_roots: RootStore::new(),
            config: Config::parse(dir.path(), "listen = \"127.0.0.1:0\"\n").unwrap(),
            store,
            entropy,
            kek,
            drills: crate::drill::Drills::default(),
            attendance: crate::attendance::Attendance::default(),
            forecasts: tokio::sync::Semaphore::new(crate::plant::FORECASTS),
            vouching: std::sync::OnceLock::new(),
        };
        Self { plant, clock, release_key, owner_key, dir }
    }

    /// The plant to share, with its folder.
    pub(crate) fn into_plant(self) -> (Arc<Plant>, TempDir) {
        (Arc::new(self.plant), self.dir)
    }

    /// The certificate of the first owner, as a connection shows it.
    pub(crate) fn owner(&self) -> AdministratorPeer {
        AdministratorPeer {
            name: "ada".to_owned(),
            spki: Digest::of(&self.owner_key.spki()),
            not_after: NOW.plus(365 * 86_400),
        }
    }

    pub(crate) async fn actor(&self, act: Act) -> Actor {
        authorize(&self.plant, &self.owner(), act).await.unwrap()
    }

    /// The owner's reach over the whole plant.
    pub(super) async fn reach(&self, act: Act) -> Reach {
        self.actor(act).await.reach(&self.plant, &[]).await.unwrap()
    }

    /// An administrator with a key of their own; limited to `zones`, if they are given.
    pub(crate) async fn administrator(
        &self,
        name: &str,
        role: AdminRole,
        zones: Option<&[&str]>,
    ) -> AdministratorPeer {
        administrator(&self.plant, name, role, zones).await
    }

    pub(crate) fn revision(&self) -> Revision {
        self.plant.store.revision()
    }

    /// The latest events, of one device if it is named.
    pub(crate) async fn events(&self, device: Option<&DeviceName>, limit: usize) -> Vec<Event> {
        let device = device.map(ToString::to_string).unwrap_or_default();
        let filter = Filter { device, ..Filter::default() };
        latest(&self.plant, &self.actor(Act::ReadAudit).await, &filter, limit).await.unwrap().events
    }

    pub(crate) async fn read<R: Record>(&self, key: String) -> R {
        let held: Option<Held<R>> = fetch(self.plant.store.as_ref(), key.clone()).await.unwrap();
        held.unwrap_or_else(|| panic!("no {key}")).record
    }

    /// Makes a zone for the product edge-box.
    pub(crate) async fn zone(&self, zone: &Zone) {
        zones::create(&self.plant, &self.actor(Act::CreateZone).await, zone, false).await.unwrap();
    }

    /// Removes a zone that nobody is in, by a file that leaves it out.
    pub(crate) async fn without_zone(&self, name: &str) {
        let seen = graphs::view(&self.plant, &Scope::Plant).await.unwrap().document;
        let known = trust::segmentation(&self.plant).await.unwrap();
        let rest = known.zones().filter(|zone| zone.name.as_str() != name).cloned().collect();
        let after = render(&Segmentation::new(rest, known.conduits().to_vec()).unwrap());
        let actor = self.actor(Act::ApplyGraph).await;
        graphs::apply(&self.plant, &actor, &after, &seen, crate::admin::conduit::Unoffered::Refuse, false)
            .await
            .unwrap();
    }

    /// A device in `zones` with its TPM, as an enrollment leaves it.
    pub(crate) async fn device(&self, name: &str, zones: &[&str]) -> DeviceName {
        let name: DeviceName = name.parse().unwrap();
        let ek = Digest::of(name.as_str().as_bytes());
        let device = Device {
            ak: Some(BoundAk { public: vec![1].into(), name: vec![2].into(), since: NOW }),
            counter: 1,
            services: [("opcua".to_owned(), 4840)].into(),
            ..Device::new(Admitted {
                name: name.clone(),
                ek,
                prover: Prover::Tpm,
                zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
                by: "ada".to_owned(),
                at: NOW,
            })
        };
        let tpm = Tpm {
            device: Some(name.clone()),
            registered: true,
            quarantine: None,
            retired: false,
            manufacturer: None,
            other_eks: Vec::new(),
        };
        let txn = Txn::new()
            .put(device_key(&name), stored(&device).unwrap())
            .put(ek_key(&ek), stored(&tpm).unwrap())
            .put(ak_key(&[2]), stored(&AkOwner { ek }).unwrap());
        self.plant.store.transact(txn).await.unwrap();
        name
    }

    /// The last attestation of `name`: a recorded boot.
    pub(crate) async fn attest(&self, name: &DeviceName, boot: &str, decision: Decision) {
        let request = self::boot(boot).encode_to_vec();
        let attested = Attested {
            at: self.plant.now(),
            decision,
            verdict: "affirming".to_owned(),
            release: None,
            result: self.plant.blobs.put(b"[]".to_vec()).await.unwrap(),
            evidence: self.plant.blobs.put(request).await.unwrap(),
            logs: None,
            basis: None,
            found: None,
            nonce: None,
            golden: 0,
            reset_count: 1,
            restart_count: 0,
            clock: 1,
            clock_safe: Some(true),
            clone_alarm: false,
            firmware_version: 1,
            running: None,
            failing_hooks: BTreeSet::new(),
            two_sided: BTreeSet::new(),
            lost: None,
            silent: std::collections::BTreeMap::new(),
            vouched: None,
        };
        let txn = Txn::new().put(attested_key(name), stored(&attested).unwrap());
        self.plant.store.transact(txn).await.unwrap();
    }

    /// A certificate that `name` holds in `zone`.
    pub(crate) async fn certificate(&self, name: &DeviceName, zone: &str, serial: u8) {
        let zone: ZoneName = zone.parse().unwrap();
        let certificate = HeldCertificate {
            role: Role::Caller,
            generation: 1,
            serial: hex::encode([serial; 16]),
            spki: Digest::of(&[serial]),
            validity: Validity { not_before: self.plant.now(), not_after: self.plant.now().plus(3600) },
            service: None,
            workload: None,
            addresses: std::collections::BTreeSet::new(),
        };
        let held = HeldCertificates { certificates: vec![certificate] };
        let txn = Txn::new().put(held_key(name, &zone), stored(&held).unwrap());
        self.plant.store.transact(txn).await.unwrap();
    }
}

/// Makes an administrator, or gives one another role.
pub(super) async fn administrator(
    plant: &Plant,
    name: &str,
    role: AdminRole,
    zones: Option<&[&str]>,
) -> AdministratorPeer {
    let spki = Digest::of(name.as_bytes());
    let zones = zones.map(|zones| zones.iter().map(|zone| zone.parse().unwrap()).collect());
    let not_after = NOW.plus(365 * 86_400);
    let (created, let_in_by) = (plant.now(), None);
    let record = Administrator { name: name.to_owned(), role, spki, created, zones, not_after, let_in_by };
    plant.store.transact(Txn::new().put(admin_key(name), stored(&record).unwrap())).await.unwrap();
    AdministratorPeer { name: name.to_owned(), spki, not_after }
}

/// An observing zone.
pub(crate) fn observing(name: &str) -> Zone {
    Zone::new(name.parse().unwrap())
}

/// An enforcing zone for the product edge-box.
pub(crate) fn enforcing(name: &str) -> Zone {
    let mut zone = observing(name);
    zone.mode = policy::appraisal::policy::Mode::Enforce;
    zone.products = ["edge-box".parse().unwrap()].into();
    zone
}

fn boot_file(boot: &str, file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/measured-boot");
    let path: PathBuf = folder.join(boot).join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A restricted signing key whose point is the generator of P-256.
const AK_P256: &str = "0023000b00050072000000100018000b0003001000206b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0\
                       f4a13945d898c29600204fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

/// What a device sent that booted like `boot`.
pub(crate) fn boot(boot: &str) -> v1::CompleteRequest {
    let text = String::from_utf8(boot_file(boot, "pcrs.txt")).unwrap();
    let value = |pcr: usize| {
        let prefix = format!("sha256:{pcr}:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
        hex::decode(line.to_lowercase()).unwrap()
    };
    v1::CompleteRequest {
        ek_public: hex::decode(EK_P256).unwrap(),
        ak_public: hex::decode(AK_P256).unwrap(),
        pcr_values: (0..16).map(value).collect(),
        firmware_log: boot_file(boot, "eventlog.bin"),
        ..v1::CompleteRequest::default()
    }
}

/// The text of a refusal of the expected kind.
macro_rules! refused {
    ($outcome:expr, $kind:ident) => {
        match $outcome {
            Err(refusal @ crate::session::Refusal::$kind { .. }) => refusal.to_string(),
            Err(other) => panic!("refused for another reason: {other:?}"),
            Ok(_) => panic!("not refused"),
        }
    };
}
pub(crate) use refused;
