//! A plant with a fleet that attested, in the store that the broker uses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker::admin::golden::apply::{Terms, apply};
use broker::admin::golden::learn::draft;
use broker::admin::reach::Scope;
use broker::admin::{Act, authorize};
use broker::ca::AuthorityKey;
use broker::grpc::admin::Administration;
use broker::grpc::connection::ConnectionInfo;
use broker::grpc::peer::{AdministratorPeer, Peer};
use broker::init::{Request, init};
use broker::plant::Plant;
use broker::ports::System;
use broker::record::device::{
    Admission, Attested, BoundAk, Decision, Device, Inventory, InventoryValue, Source, StoredLogs, Tpm,
    attested_key, device_key, ek_key, inventory_key,
};
use broker::record::plant::{Administrator, admin_key};
use broker::record::{fetch, stored};
use broker::server;
use broker::store::Txn;
use futures::{StreamExt as _, stream};
use policy::appraisal::policy::Mode;
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::Zone;
use prost::Message;
use proto::v1;
use proto::v1::admin_server::Admin;
use rcgen::SigningKey;
use tempfile::TempDir;

use crate::boot::{Boot, boot};

/// Transactions that write the fleet, and how many of them at once.
const KEYS: usize = 96;
const AT_ONCE: usize = 64;
/// An EK of template L-2, and a restricted signing key whose point is the generator of P-256.
const EK_P256: &str = "0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa0006008000430010000300100020cf83f2908edadf8d13d9f2fbcc66b4efb6b3d85d9b20d8e24c321a505fceb7540020f310e575883a0fcb64960cd9ae9bb9d27b3ddf69ce9e01e46c6dfb6fdc58465f";
const AK_P256: &str = "0023000b00050072000000100018000b0003001000206b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c29600204fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
/// Bytes of what a device sends besides its log that no two send alike: challenge, statement, quote, keys.
const OWN: usize = 2_000;

/// Which logs the devices sent.
#[derive(Clone, Copy)]
pub(crate) enum Logs {
    /// So many, among all of them.
    Shared(u32),
    /// Each another.
    Distinct,
}

/// The plant.
pub(crate) struct Fleet {
    pub(crate) plant: Arc<Plant>,
    pub(crate) devices: u32,
    owner: AdministratorPeer,
    folder: TempDir,
}

impl Fleet {
    /// Registers the devices, in an enforcing zone.
    pub(crate) async fn new(devices: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let plant = plant(&folder.path().join("plant")).await;
        let held = fetch::<Administrator>(plant.store.as_ref(), admin_key("ada")).await.unwrap().unwrap();
        let not_after = UnixTime(u64::MAX);
        let owner = AdministratorPeer { name: "ada".to_owned(), spki: held.record.spki, not_after };
        let fleet = Self { plant, devices, owner, folder };
        fleet.write((0..devices).flat_map(|n| fleet.registered(n))).await;
        fleet
    }

    /// Every device proves what it booted.
    pub(crate) async fn attest(&self, logs: Logs) {
        let kept: Vec<(Boot, Digest)> = match logs {
            Logs::Shared(count) => stream::iter(0..count).then(|n| self.kept(n)).collect().await,
            Logs::Distinct => Vec::new(),
        };
        let attested = stream::iter(0..self.devices).map(|n| {
            let shared = usize::try_from(n).unwrap().checked_rem(kept.len()).and_then(|n| kept.get(n));
            async move {
                match shared {
                    Some((boot, log)) => self.attested(n, boot, *log).await,
                    None => {
                        let (boot, log) = self.kept(n).await;
                        self.attested(n, &boot, log).await
                    }
                }
            }
        });
        let records: Vec<(String, Vec<u8>)> = attested.buffer_unordered(AT_ONCE).collect().await;
        self.write(records.into_iter()).await;
    }

    async fn kept(&self, n: u32) -> (Boot, Digest) {
        let boot = boot(n);
        let log = self.plant.blobs.put(boot.log.clone()).await.unwrap();
        (boot, log)
    }

    /// The record of an attestation, whose blobs are written.
    async fn attested(&self, n: u32, boot: &Boot, log: Digest) -> (String, Vec<u8>) {
        let own = (0..OWN / 32).flat_map(|part| Digest::of(format!("{n} {part}").as_bytes()).0).collect();
        let request = v1::CompleteRequest {
            sealed: own,
            ek_public: hex::decode(EK_P256).unwrap(),
            ak_public: hex::decode(AK_P256).unwrap(),
            pcr_values: boot.pcrs.clone(),
            ..v1::CompleteRequest::default()
        };
        let blobs = &self.plant.blobs;
        let attested = Attested {
            at: self.plant.now(),
            decision: Decision::Trusted,
            verdict: "affirming".to_owned(),
            release: Some("edge@1.0".to_owned()),
            result: blobs
                .put(format!("{{\"device\":\"{}\",\"counter\":1}}", name(n)).into_bytes())
                .await
                .unwrap(),
            evidence: blobs.put(request.encode_to_vec()).await.unwrap(),
            logs: Some(StoredLogs { firmware: Some(log), userspace: None, images: None, ima: Vec::new() }),
            basis: Some(log),
            vouched: Some(self.plant.vouching()),
            golden: 1,
            reset_count: 7,
            restart_count: 0,
            clock: 69_142,
            clock_safe: Some(true),
            clone_alarm: false,
            firmware_version: 0x0007_0055_0011_0000,
            running: Some(vec!["edge@1.0".parse().unwrap()]),
            lost: None,
        };
        (attested_key(&name(n)), stored(&attested).unwrap())
    }

    fn registered(&self, n: u32) -> [(String, Vec<u8>); 3] {
        let (name, ek, now) = (name(n), Digest::of(&n.to_be_bytes()), self.plant.now());
        let device = Device {
            name: name.clone(),
            zones: vec!["cell-3".parse().unwrap()],
            ek,
            ak: Some(BoundAk { public: vec![1; 90].into(), name: vec![2; 34].into(), since: now }),
            admission: Admission::Admitted,
            admitted_by: "ada".to_owned(),
            admitted_at: now,
            counter: 7,
            services: BTreeMap::from([("opcua".to_owned(), 4840)]),
            asked: 0,
            answered: 0,
            clock_excused: false,
            clear_expected: None,
            leaving: None,
            addresses: std::collections::BTreeMap::new(),
            trust_sequence: 0,
        };
        let tpm = Tpm {
            device: Some(name.clone()),
            registered: true,
            quarantine: None,
            retired: false,
            manufacturer: None,
        };
        let value =
            |value: &str| InventoryValue { value: value.to_owned(), source: Source::Vouched, at: now };
        let values = [
            ("owner".to_owned(), value(&format!("line {}", n % 50))),
            ("criticality".to_owned(), value(if n.is_multiple_of(10) { "high" } else { "low" })),
        ];
        [
            (device_key(&name), stored(&device).unwrap()),
            (ek_key(&ek), stored(&tpm).unwrap()),
            (inventory_key(&name), stored(&Inventory { values: values.into() }).unwrap()),
        ]
    }

    async fn write(&self, records: impl Iterator<Item = (String, Vec<u8>)>) {
        let records: Vec<_> = records.collect();
        let put = |txn: Txn, (key, value): &(String, Vec<u8>)| txn.put(key.clone(), value.clone());
        let txns = records.chunks(KEYS).map(|part| part.iter().fold(Txn::new(), put)).collect::<Vec<_>>();
        let writes = stream::iter(txns).map(|txn| self.plant.store.transact(txn)).buffer_unordered(AT_ONCE);
        writes.for_each(async |done| assert!(done.is_ok(), "{done:?}")).await;
    }

    /// Learns a release from two devices, signs it and makes it active.
    pub(crate) async fn release(&self) {
        let (devices, product) = ([name(0), name(1)], "edge".parse().unwrap());
        let learned =
            draft(&self.plant, &Scope::Plant, &devices, product, "1.0".parse().unwrap(), false).await;
        let manifest = Manifest::parse(&learned.unwrap().manifest).unwrap();
        let key = std::fs::read_to_string(self.folder.path().join("plant/owner/release.key")).unwrap();
        let key = AuthorityKey::from_pkcs8(pem::parse(key).unwrap().contents()).unwrap();
        let unsigned = Unsigned::new(&manifest);
        let signature = key.sign(&unsigned.to_be_signed()).unwrap();
        let envelope = Envelope::new(&unsigned, &[(Digest::of(&key.spki()), signature)]).to_json();
        let actor = authorize(&self.plant, &self.owner, Act::ApplyRelease).await.unwrap();
        let to = ReleaseState::Active;
        let terms = Terms {
            to,
            allow_rollback: None,
            seen: None,
            base: None,
            plan: None,
            reason: String::new(),
            dry_run: false,
        };
        apply(&self.plant, &actor, envelope.as_bytes(), &terms).await.unwrap();
    }

    /// The plan of the release in the state `to`, as the tool asks for it.
    pub(crate) async fn plan(&self, to: &str) -> v1::PlanReleaseResponse {
        let mut request = tonic::Request::new(v1::PlanReleaseRequest {
            product: "edge".to_owned(),
            version: "1.0".to_owned(),
            state: to.to_owned(),
            grouped: true,
            ..v1::PlanReleaseRequest::default()
        });
        let peer = Peer::Administrator(Arc::new(self.owner.clone()));
        request.extensions_mut().insert(ConnectionInfo { peer });
        let service = Administration::new(Arc::clone(&self.plant));
        service.plan_release(request).await.unwrap().into_inner()
    }

    /// Holds a plan to what must come of it.
    pub(crate) fn expect(&self, answer: &v1::PlanReleaseResponse, to: &str) {
        let after = if to == "active" { "trusted" } else { "refused" };
        let all =
            |group: &v1::ForecastGroup| (group.before.as_str(), group.after.as_str()) == ("trusted", after);
        assert!(answer.groups.iter().all(all), "{:?}", answer.groups.first());
        let count: u32 = answer.groups.iter().map(|group| group.count).sum();
        let named: usize = answer.groups.iter().map(|group| group.devices.len()).sum();
        assert_eq!((count, named), (self.devices, usize::try_from(self.devices).unwrap()));
    }

    /// What lies on the disk.
    pub(crate) fn stored(&self) -> String {
        let (mut records, mut blobs) = (0, 0);
        let plant = self.folder.path().join("plant");
        for entry in std::fs::read_dir(&plant).unwrap() {
            let path = entry.unwrap().path();
            let sum = if path.ends_with("blobs") { &mut blobs } else { &mut records };
            *sum += on_disk(&path);
        }
        let each = |bytes: u64| bytes / u64::from(self.devices);
        format!("{} bytes a device in the store, {} in blobs", each(records), each(blobs))
    }
}

/// Bytes that a file or folder takes on the disk, in blocks (stat(2), st_blocks).
fn on_disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).unwrap();
    let inside = if meta.is_dir() {
        std::fs::read_dir(path).unwrap().map(|entry| on_disk(&entry.unwrap().path())).sum()
    } else {
        0
    };
    inside + meta.blocks() * 512
}

/// The name of a device.
pub(crate) fn name(n: u32) -> DeviceName {
    format!("press-{n:06}").parse().unwrap()
}

async fn plant(dir: &Path) -> Arc<Plant> {
    let request = Request {
        dir: dir.to_owned(),
        plant: "plant.example".parse().unwrap(),
        listen: "127.0.0.1:0".to_owned(),
        address: "127.0.0.1:8443".to_owned(),
        owner: "ada".to_owned(),
        tpm_roots: Vec::new(),
        kek: None,
    };
    init(&request, &System::default(), &System::default()).await.unwrap();
    let plant = server::open(dir).await.unwrap();
    let mut zone = Zone::new("cell-3".parse().unwrap());
    (zone.mode, zone.products) = (Mode::Enforce, ["edge".parse().unwrap()].into());
    plant.store.transact(Txn::new().put("zone/cell-3", stored(&zone).unwrap())).await.unwrap();
    plant
}
