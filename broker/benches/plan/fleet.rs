//! A plant with a fleet that attested, in the store that the broker uses.

use std::path::Path;
use std::sync::Arc;

use broker::admin::exposure::{Part, answer};
use broker::admin::golden::learn::draft;
use broker::admin::reach::Scope;
use broker::grpc::admin::Administration;
use broker::grpc::connection::ConnectionInfo;
use broker::grpc::peer::{AdministratorPeer, Peer};
use broker::plant::Plant;
use broker::record::device::{Attested, StoredLogs};
use futures::{StreamExt as _, stream};
use policy::appraisal::policy::Mode;
use policy::component::{Affected, Range};
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::zone::Zone;
use prost::Message;
use proto::v1;
use proto::v1::admin_server::Admin;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::boot::{Boot, boot};
use crate::rig::release::activate;
use crate::rig::{self, Written, record};

/// Attestations that are written at once.
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
        let mut zone = Zone::new("cell-3".parse().unwrap());
        (zone.mode, zone.products) = (Mode::Enforce, ["edge".parse().unwrap()].into());
        let plant = rig::plant(&folder.path().join("plant"), [zone]).await;
        let owner = rig::owner(&plant).await;
        let fleet = Self { plant, devices, owner, folder };
        let registered = (0..devices).flat_map(|n| fleet.registered(n));
        rig::write(fleet.plant.store.as_ref(), registered).await;
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
        let records: Vec<Written> = attested.buffer_unordered(AT_ONCE).collect().await;
        rig::write(self.plant.store.as_ref(), records).await;
    }

    async fn kept(&self, n: u32) -> (Boot, Digest) {
        let boot = boot(n);
        let log = self.plant.blobs.put(boot.log.clone()).await.unwrap();
        (boot, log)
    }

    /// The record of an attestation, whose blobs are written.
    async fn attested(&self, n: u32, boot: &Boot, log: Digest) -> Written {
        let own = (0..OWN / 32).flat_map(|part| Digest::of(format!("{n} {part}").as_bytes()).0).collect();
        let request = v1::CompleteRequest {
            sealed: own,
            ek_public: hex::decode(EK_P256).unwrap(),
            ak_public: hex::decode(AK_P256).unwrap(),
            pcr_values: boot.pcrs.clone(),
            ..v1::CompleteRequest::default()
        };
        let blobs = &self.plant.blobs;
        let result = format!("{{\"device\":\"{}\",\"counter\":1}}", name(n)).into_bytes();
        let attested = Attested {
            result: blobs.put(result).await.unwrap(),
            evidence: blobs.put(request.encode_to_vec()).await.unwrap(),
            logs: Some(StoredLogs { firmware: Some(log), userspace: None, images: None, ima: Vec::new() }),
            vouched: Some(self.plant.vouching()),
            ..record::attested("edge@1.0", log, self.plant.now())
        };
        record::attestation(&name(n), &attested)
    }

    fn registered(&self, n: u32) -> [Written; 3] {
        let (name, ek, now) = (name(n), Digest::of(&n.to_be_bytes()), self.plant.now());
        let criticality = if n.is_multiple_of(10) { "high" } else { "low" };
        let values = [("owner", format!("line {}", n % 50)), ("criticality", criticality.to_owned())];
        let device = record::device(&name, &"cell-3".parse().unwrap(), ek, now);
        record::registered(&device, &record::inventory(values, now))
    }

    /// Learns a release from two devices and makes it active.
    pub(crate) async fn release(&self) {
        let (devices, product) = ([name(0), name(1)], "edge".parse().unwrap());
        let learned =
            draft(&self.plant, &Scope::Plant, &devices, product, "1.0".parse().unwrap(), false).await;
        activate(&self.plant, &self.folder.path().join("plant"), &learned.unwrap().manifest).await;
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

    /// How many devices are told when it is asked who runs a component.
    pub(crate) async fn exposed(&self) -> usize {
        let affected = Affected {
            package: "pkg:generic/zlib".parse().unwrap(),
            ranges: vec![Range::below("1.2.14")],
            versions: Vec::new(),
            incomplete: false,
        };
        let (send, mut parts) = mpsc::channel(4);
        let asked = async move { answer(&self.plant, &Scope::Plant, vec![affected], None, &send).await };
        let counted = async {
            let mut lines = 0;
            while let Some(part) = parts.recv().await {
                if let Part::Devices(some) = part {
                    lines += some.len();
                }
            }
            lines
        };
        let (asked, lines) = tokio::join!(asked, counted);
        asked.unwrap();
        lines
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
