//! SBOMs and who is exposed, on real records.

use policy::advisory::Advisory;
use policy::component::{Affected, Range};
use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::Conduit;
use tokio::sync::mpsc;

use super::golden::{sign, terms};
use super::{Bench, NOW, enforcing, refused};
use crate::admin::conduit::Unoffered;
use crate::admin::exposure::{Exposure, Line, Part, Peers, ReleaseFindings, answer};
use crate::admin::golden::apply::apply;
use crate::admin::golden::want::want;
use crate::admin::reach::Scope;
use crate::admin::{Act, conduit, sbom};
use crate::record::device::{
    Attested, Decision, Inventory, InventoryValue, Source, attested_key, inventory_key,
};
use crate::record::{fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;

const CYCLONEDX: &[u8] = include_bytes!("../../../../policy/tests/exposure_suite/data/edge.cdx.json");
pub(super) const SPDX: &[u8] = include_bytes!("../../../../policy/tests/exposure_suite/data/edge.spdx.json");
const OSV: &[u8] = include_bytes!("../../../../policy/tests/exposure_suite/data/debian.osv.json");

/// Everything that was answered.
#[derive(Default)]
struct Answer {
    releases: Vec<ReleaseFindings>,
    peers: Peers,
    lines: Vec<Line>,
    clear: Option<usize>,
}

impl Answer {
    fn of(&self, device: &str) -> &Line {
        self.lines.iter().find(|line| line.device.as_str() == device).unwrap()
    }

    fn exposure(&self, device: &str) -> (Exposure, &str) {
        (self.of(device).exposure, &self.of(device).reason)
    }
}

struct Fleet(Bench);

impl Fleet {
    async fn new() -> Self {
        let bench = Bench::new().await;
        bench.zone(&enforcing("cell-3")).await;
        bench.zone(&enforcing("historian")).await;
        Self(bench)
    }

    async fn add(&self, document: &[u8]) -> Digest {
        let actor = self.0.actor(Act::AddSbom).await;
        sbom::add(&self.0.plant, &actor, document.to_vec(), false).await.unwrap().0.record.document
    }

    /// A release whose PCR 4 is `byte`, with these SBOMs.
    async fn release(
        &self,
        version: &str,
        counter: u8,
        byte: u8,
        sboms: &[(Digest, &str)],
        to: ReleaseState,
    ) {
        let mut text = format!(
            "schema = 1\nproduct = \"edge-box\"\nversion = \"{version}\"\ncounter = {counter}\n[pcrs.sha256]\n4 = [\"{}\"]\n",
            hex::encode([byte; 32])
        );
        for (digest, format) in sboms {
            text.push_str(&format!("[[sbom]]\ndigest = \"{digest}\"\nformat = \"{format}\"\n"));
        }
        let envelope = sign(&text, &self.0.release_key);
        let actor = self.0.actor(Act::ApplyRelease).await;
        for state in [ReleaseState::Active, to] {
            apply(&self.0.plant, &actor, &envelope, &terms(state, false)).await.unwrap();
        }
    }

    /// A device that ran `release` at `at`.
    async fn ran(&self, name: &str, verdict: &str, release: Option<&str>, at: UnixTime) -> DeviceName {
        let device = self.0.device(name, &["cell-3"]).await;
        self.0.attest(&device, "boot-a", Decision::Trusted).await;
        let mut attested: Attested = self.0.read(attested_key(&device)).await;
        attested.at = at;
        attested.verdict = verdict.to_owned();
        attested.release = release.map(|version| format!("edge-box@{version}"));
        self.put(attested_key(&device), stored(&attested).unwrap()).await;
        device
    }

    async fn put(&self, key: String, value: Vec<u8>) {
        self.0.plant.store.transact(Txn::new().put(key, value)).await.unwrap();
    }

    async fn ask(&self, scope: &Scope, affected: Vec<Affected>) -> Answer {
        let (data, mut parts) = mpsc::channel(64);
        answer(&self.0.plant, scope, affected, None, &data).await.unwrap();
        drop(data);
        let mut all = Answer::default();
        while let Some(part) = parts.recv().await {
            match part {
                Part::Release(release) => all.releases.push(release),
                Part::Peers(peers) => all.peers = peers,
                Part::Devices(lines) => all.lines.extend(lines),
                Part::Clear(clear) => all.clear = Some(clear),
            }
        }
        all
    }

    async fn ask_of_zone(&self, scope: &Scope, zone: &str) -> Result<(), Refusal> {
        let (data, _parts) = mpsc::channel(64);
        let affected = Advisory::parse(OSV).unwrap().affected;
        answer(&self.0.plant, scope, affected, Some(zone.parse().unwrap()), &data).await
    }

    async fn openssl(&self) -> Answer {
        self.ask(&Scope::Plant, Advisory::parse(OSV).unwrap().affected).await
    }
}

fn below(purl: &str, version: &str) -> Vec<Affected> {
    let ranges = vec![Range::below(version)];
    vec![Affected { package: purl.parse().unwrap(), ranges, versions: Vec::new(), incomplete: false }]
}

#[tokio::test]
async fn each_device_is_on_the_list_that_its_evidence_allows() {
    let fleet = Fleet::new().await;
    let document = fleet.add(CYCLONEDX).await;
    let clean = fleet.add(br#"{"spdxVersion":"SPDX-2.3","name":"new","packages":[]}"#).await;
    let missing = Digest::of(b"never added");
    let active = ReleaseState::Active;
    fleet.release("1.4", 1, 1, &[(document, "cyclonedx")], active).await;
    fleet.release("1.5", 2, 2, &[(clean, "spdx")], active).await;
    fleet.release("1.6", 3, 3, &[], active).await;
    fleet.release("1.7", 4, 4, &[(missing, "spdx")], active).await;
    fleet.release("1.8", 5, 5, &[(clean, "cyclonedx")], active).await;
    let (young, old) = (NOW.minus(1800), NOW.minus(1801));
    for (name, verdict, release, at) in [
        ("bad", "affirming", Some("1.4"), young),
        ("bad-old", "affirming", Some("1.4"), old),
        ("good", "affirming", Some("1.5"), young),
        ("good-old", "affirming", Some("1.5"), old),
        ("no-sbom", "affirming", Some("1.6"), young),
        ("no-document", "affirming", Some("1.7"), young),
        ("other-format", "affirming", Some("1.8"), young),
        ("gone", "affirming", Some("0.9"), young),
        ("refused", "contraindicated", Some("1.5"), young),
    ] {
        fleet.ran(name, verdict, release, at).await;
    }
    fleet.0.device("never", &["cell-3"]).await;

    let found = fleet.openssl().await;
    assert_eq!(found.exposure("bad"), (Exposure::Proven, ""));
    assert_eq!(found.of("bad").releases[0].to_string(), "edge-box@1.4");
    let components: Vec<_> =
        found.releases[0].found.iter().map(|one| (one.name.as_str(), &one.source)).collect();
    assert_eq!(components, [("libssl3", &Some("openssl".to_owned())), ("hmi", &None)]);
    let old = "its last proof is older than two intervals of its zone";
    assert_eq!(found.exposure("bad-old"), (Exposure::May, old));
    assert_eq!(found.exposure("good-old"), (Exposure::Unknown, old));
    assert_eq!(found.exposure("no-sbom"), (Exposure::Unknown, "edge-box@1.6 states no SBOM"));
    let (exposure, why) = found.exposure("no-document");
    assert!(exposure == Exposure::Unknown && why.contains("is not here; add it with"), "{why}");
    let (exposure, why) = found.exposure("other-format");
    assert!(exposure == Exposure::Unknown && why.contains("as cyclonedx, and the document is spdx"), "{why}");
    assert_eq!(found.exposure("gone"), (Exposure::Unknown, "the release edge-box@0.9 is no longer here"));
    assert_eq!(found.exposure("never"), (Exposure::Unknown, "it never proved what it runs"));
    assert_eq!(found.of("refused").exposure, Exposure::Unknown, "its stored result says nothing");
    assert_eq!((found.clear, found.lines.len()), (Some(1), 9), "the good one alone");

    let comparable = fleet.ask(&Scope::Plant, below("pkg:npm/lodash", "4.17.20")).await;
    assert!(comparable.lines.iter().all(|line| line.device.as_str() != "bad"), "lodash 4.17.20 is fixed");
    let doubtful = fleet.ask(&Scope::Plant, below("pkg:generic/zlib", "1.2.14")).await;
    let (exposure, why) = doubtful.exposure("bad");
    assert!(exposure == Exposure::May && why.contains("the SBOM gives no purl"), "{why}");
}

#[tokio::test]
async fn of_a_zone_that_is_not_there_nothing_is_said() {
    let fleet = Fleet::new().await;
    fleet.ask_of_zone(&Scope::Plant, "cell-3").await.unwrap();
    let text = refused!(fleet.ask_of_zone(&Scope::Plant, "cel-3").await, NotFound);
    assert!(text.contains("there is no zone cel-3"), "{text}");
    let theirs = Scope::Zones(["historian".parse().unwrap()].into());
    let text = refused!(fleet.ask_of_zone(&theirs, "cell-3").await, NotFound);
    assert!(text.contains("there is no zone cell-3 in your zones (historian)"), "{text}");
}

#[tokio::test]
async fn releases_that_a_tpm_cannot_tell_apart_count_together() {
    let fleet = Fleet::new().await;
    let document = fleet.add(CYCLONEDX).await;
    let clean = fleet.add(br#"{"spdxVersion":"SPDX-2.3","packages":[]}"#).await;
    fleet.release("1.4", 1, 1, &[(document, "cyclonedx")], ReleaseState::Active).await;
    fleet.release("1.5", 2, 2, &[(clean, "spdx")], ReleaseState::Active).await;
    fleet.ran("bad", "affirming", Some("1.4"), NOW).await;
    fleet.ran("good", "affirming", Some("1.5"), NOW).await;
    assert_eq!(fleet.openssl().await.exposure("bad"), (Exposure::Proven, ""));
    fleet.release("1.6", 3, 1, &[(clean, "spdx")], ReleaseState::Withdrawn).await;
    let found = fleet.openssl().await;
    let why = "several releases match its measurements, and not all of them have it";
    assert_eq!(found.exposure("bad"), (Exposure::May, why));
    assert_eq!(found.clear, Some(1));
    fleet.release("1.7", 4, 2, &[(document, "cyclonedx")], ReleaseState::Active).await;
    assert_eq!(fleet.openssl().await.exposure("good"), (Exposure::May, why), "it may run the other one");
}

/// Whoever is told to install a release may have done so since it proved another.
#[tokio::test]
async fn a_device_that_is_told_to_install_another_release_may_run_that() {
    let fleet = Fleet::new().await;
    let document = fleet.add(CYCLONEDX).await;
    let clean = fleet.add(br#"{"spdxVersion":"SPDX-2.3","packages":[]}"#).await;
    fleet.release("1.4", 1, 1, &[(document, "cyclonedx")], ReleaseState::Active).await;
    fleet.release("1.5", 2, 2, &[(clean, "spdx")], ReleaseState::Active).await;
    fleet.release("1.6", 3, 3, &[], ReleaseState::Active).await;
    let good = fleet.ran("good", "affirming", Some("1.5"), NOW).await;
    let bad = fleet.ran("bad", "affirming", Some("1.4"), NOW).await;
    for (device, release) in [(&good, "edge-box@1.5"), (&bad, "edge-box@1.4")] {
        let attested: Attested = fleet.0.read(attested_key(device)).await;
        let attested = Attested { running: Some(vec![release.parse().unwrap()]), ..attested };
        fleet.put(attested_key(device), stored(&attested).unwrap()).await;
    }
    let want = async |version: &str| {
        let actor = fleet.0.actor(Act::WantRelease).await;
        let (product, version) = ("edge-box".parse().unwrap(), version.parse().unwrap());
        want(&fleet.0.plant, &actor, &product, Some(&version), None, false).await.unwrap();
    };
    want("1.5").await;
    let found = fleet.openssl().await;
    assert_eq!((found.exposure("bad"), found.clear), ((Exposure::Proven, ""), Some(1)));
    want("1.4").await;
    let found = fleet.openssl().await;
    let why = "it is told to install edge-box@1.4, which has it or may have it";
    assert_eq!(found.exposure("good"), (Exposure::May, why));
    assert_eq!(found.of("good").releases[0].to_string(), "edge-box@1.4");
    want("1.6").await;
    let why = "it is told to install edge-box@1.6, and what that contains is not known";
    assert_eq!(fleet.openssl().await.exposure("good"), (Exposure::Unknown, why));
    // A proof that is old is told beside it.
    want("1.4").await;
    fleet.0.clock.set(NOW.plus(1801));
    let found = fleet.openssl().await;
    assert!(found.exposure("good").1.ends_with("; its last proof is older than two intervals of its zone"));
}

#[tokio::test]
async fn owner_peers_and_zones_of_whoever_asks_are_told() {
    let fleet = Fleet::new().await;
    let document = fleet.add(SPDX).await;
    fleet.release("1.4", 1, 1, &[(document, "spdx")], ReleaseState::Active).await;
    let bad = fleet.ran("bad", "affirming", Some("1.4"), NOW).await;
    let mut inventory = Inventory::default();
    for (name, value) in [("owner", "line-2"), ("criticality", "high")] {
        let value = InventoryValue { value: value.to_owned(), source: Source::Vouched, at: NOW };
        inventory.values.insert(name.to_owned(), value);
    }
    fleet.put(inventory_key(&bad), stored(&inventory).unwrap()).await;
    fleet.0.device("far", &["historian"]).await;
    let open = Conduit {
        from: "historian".parse().unwrap(),
        to: "cell-3".parse().unwrap(),
        service: "opcua".parse().unwrap(),
        schedule: None,
        expires: None,
        accept_observed: false,
    };
    let actor = fleet.0.actor(Act::AllowConduit).await;
    conduit::allow(&fleet.0.plant, &actor, &open, None, Unoffered::Refuse, false).await.unwrap();

    let found = fleet.openssl().await;
    let line = found.of("bad");
    assert_eq!(
        (line.owner.as_str(), line.criticality.as_str(), line.attested_at),
        ("line-2", "high", Some(NOW))
    );
    let cell: ZoneName = "cell-3".parse().unwrap();
    assert_eq!(found.peers[&cell], [(open.from.clone(), Some(open.service.clone()))].into());
    assert_eq!(found.lines.len(), 2);
    let scope = Scope::Zones([cell.clone()].into());
    let seen = fleet.ask(&scope, Advisory::parse(OSV).unwrap().affected).await;
    assert_eq!(seen.lines.len(), 1, "what is in other zones is not told");
    assert!(seen.peers.keys().eq([&cell]));
}

#[tokio::test]
async fn documents_are_kept_for_releases_and_removed_when_nobody_needs_them() {
    let fleet = Fleet::new().await;
    let plant = &fleet.0.plant;
    let actor = fleet.0.actor(Act::AddSbom).await;
    let before = fleet.0.revision();
    let text = refused!(sbom::add(plant, &actor, b"{}".to_vec(), false).await, Malformed);
    assert!(text.contains("neither `bomFormat` nor `spdxVersion`"), "{text}");
    let (kept, unchanged) = sbom::add(plant, &actor, SPDX.to_vec(), true).await.unwrap();
    assert_eq!((kept.record.components, unchanged), (3, false));
    assert_eq!(fleet.0.revision(), before, "a dry run and a refusal write nothing");

    let document = fleet.add(SPDX).await;
    assert_eq!(document, Digest::of(SPDX));
    assert!(sbom::add(plant, &actor, SPDX.to_vec(), false).await.unwrap().1, "it is there already");
    assert_eq!(sbom::one(plant, document).await.unwrap().1, SPDX);
    assert_eq!(sbom::page(plant, None).await.unwrap().0.len(), 1);
    let used = crate::admin::backup::blobs_in_use(plant.store.as_ref(), NOW).await.unwrap();
    assert!(used.contains(&document), "the sweep keeps it, and backups carry it");

    fleet.release("1.4", 1, 1, &[(document, "spdx")], ReleaseState::Active).await;
    let remover = fleet.0.actor(Act::RemoveSbom).await;
    let text = refused!(sbom::remove(plant, &remover, document, false).await, Conflict);
    assert!(text.starts_with("edge-box@1.4 states this SBOM"), "{text}");
    fleet.release("1.5", 2, 2, &[(document, "spdx")], ReleaseState::Withdrawn).await;
    let other = fleet.add(CYCLONEDX).await;
    sbom::remove(plant, &remover, other, true).await.unwrap();
    sbom::remove(plant, &remover, other, false).await.unwrap();
    refused!(sbom::remove(plant, &remover, other, false).await, NotFound);
    let held = fetch::<crate::record::sbom::SbomRecord>(
        plant.store.as_ref(),
        crate::record::sbom::sbom_key(&document),
    );
    assert_eq!(held.await.unwrap().unwrap().record.added_by, "ada");
}

#[tokio::test]
async fn a_damaged_document_says_nothing_until_it_is_added_again() {
    let fleet = Fleet::new().await;
    let document = fleet.add(CYCLONEDX).await;
    fleet.release("1.4", 1, 1, &[(document, "cyclonedx")], ReleaseState::Active).await;
    fleet.ran("bad", "affirming", Some("1.4"), NOW).await;
    fleet.0.plant.blobs.remove(document).await.unwrap();
    let found = fleet.openssl().await;
    let (exposure, why) = found.exposure("bad");
    assert!(exposure == Exposure::Unknown && why.contains("is gone or damaged"), "{why}");
    fleet.add(CYCLONEDX).await;
    assert_eq!(fleet.openssl().await.exposure("bad"), (Exposure::Proven, ""));
}
