//! Which devices run a component, as far as they proved it.
//!
//! ```text
//! question  ->  releases (each SBOM is read once)  ->  each device by its last attestation  ->  proven, may, unknown
//! ```
//!
//! Promises: a device that is in none of the lists proved within two intervals a release whose SBOMs are all here,
//! and neither that release, nor one with the same measurements, nor the one that it is told to install has the
//! component. Whatever is not known counts
//! against that. Does not promise that an SBOM tells the truth: it is as good as whoever signed the release that
//! states it.

mod device;
mod release;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use policy::component::{Affected, Inquiry};
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use policy::zone::{IntraZone, Segmentation};
use tokio::sync::mpsc;

use self::device::Recorded;
pub use self::release::{Found, ReleaseFindings};
use super::device::view::MAX_PAGE;
use super::reach::Scope;
use super::records::Records;
use super::zone::in_sight;
use crate::golden::current;
use crate::plant::Plant;
use crate::record::device::{
    ATTESTED, Admission, Attested, DEVICE, Device, EK, INVENTORY, Inventory, Tpm, ek_key,
};
use crate::rollout::wanted::Wishes;
use crate::session::Refusal;
use crate::trust;

/// How sure it is that a device runs the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// It proved so.
    Proven,
    /// It may.
    May,
    /// Nothing says what it runs.
    Unknown,
}

impl Exposure {
    /// As commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::May => "may",
            Self::Unknown => "unknown",
        }
    }
}

/// A device that is exposed, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The device.
    pub device: DeviceName,
    /// How sure it is.
    pub exposure: Exposure,
    /// Why it is not proven; empty for proven.
    pub reason: String,
    /// What it ran at its last attestation.
    pub release: Option<ReleaseId>,
    /// Releases that have the component, of those that it may run.
    pub releases: Vec<ReleaseId>,
    /// When it last proved itself.
    pub attested_at: Option<UnixTime>,
    /// Its zones.
    pub zones: Vec<ZoneName>,
    /// Who owns it, by its inventory.
    pub owner: String,
    /// How critical it is, by its inventory.
    pub criticality: String,
}

/// Who can open connections to devices of a zone: from which zone, to which service; without one, to all.
pub type Peers = BTreeMap<ZoneName, BTreeSet<(ZoneName, Option<ServiceName>)>>;

/// The answer in parts.
#[derive(Debug)]
pub enum Part {
    /// First: a release that is exposed or not fully known. One for each part, as each may have many components.
    Release(ReleaseFindings),
    /// Then who reaches each zone.
    Peers(Peers),
    /// Then devices by name.
    Devices(Vec<Line>),
    /// Last: how many devices proved a release without the component.
    Clear(usize),
}

/// Answers part by part. A reader that is gone ends it.
pub async fn answer(
    plant: &Plant,
    scope: &Scope,
    affected: Vec<Affected>,
    zone: Option<ZoneName>,
    parts: &mpsc::Sender<Part>,
) -> Result<(), Refusal> {
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    // Of a zone that is not there nobody is exposed, which must not be taken for good news.
    zone.as_ref().map(|zone| in_sight(&zones, scope, zone)).transpose()?;
    let golden = current(plant).await.map_err(Refusal::internal)?;
    let findings = release::findings(plant, &golden.values, Inquiry::new(affected)).await?;
    let ground = device::Ground::new(&findings, &golden.values, &zones);
    for release in findings.values().filter(|release| !release.is_clear()) {
        send(parts, Part::Release(release.clone())).await?;
    }
    send(parts, Part::Peers(peers(&zones, scope, plant.now()))).await?;
    let wishes = Wishes::all(plant).await?;
    let mut fleet = Fleet::read(plant).await?;
    let (mut clear, mut lines) = (0usize, Vec::new());
    while let Some(recorded) = fleet.next().await? {
        let zones = &recorded.device.zones;
        if !scope.sees(zones) || zone.as_ref().is_some_and(|zone| !zones.contains(zone)) {
            continue;
        }
        match device::judge(plant, &ground, &wishes, &recorded).await {
            Some(line) => lines.push(line),
            None => clear = clear.saturating_add(1),
        }
        if lines.len() >= MAX_PAGE {
            send(parts, Part::Devices(std::mem::take(&mut lines))).await?;
        }
    }
    send(parts, Part::Devices(lines)).await?;
    send(parts, Part::Clear(clear)).await
}

/// Every device that was not retired, by name. Who waits to be admitted holds no certificate and runs nothing of this
/// plant.
struct Fleet {
    devices: Records<Device>,
    attested: Records<Attested>,
    inventories: Records<Inventory>,
    /// EKs of retired TPMs.
    retired: HashSet<String>,
}

impl Fleet {
    async fn read(plant: &Plant) -> Result<Self, Refusal> {
        let (mut tpms, mut retired) = (Records::<Tpm>::read(plant, EK), HashSet::new());
        while let Some((ek, tpm)) = tpms.next().await? {
            if tpm.retired {
                retired.insert(ek);
            }
        }
        let (devices, attested) = (Records::read(plant, DEVICE), Records::read(plant, ATTESTED));
        Ok(Self { devices, attested, inventories: Records::read(plant, INVENTORY), retired })
    }

    async fn next(&mut self) -> Result<Option<Recorded>, Refusal> {
        while let Some((name, device)) = self.devices.next().await? {
            let attested = self.attested.of(&name).await?;
            let inventory = self.inventories.of(&name).await?.unwrap_or_default();
            let retired = self.retired.contains(ek_key(&device.ek).strip_prefix(EK).unwrap_or_default());
            if !retired && device.admission != Admission::Retired {
                return Ok(Some(Recorded { device, attested, inventory }));
            }
        }
        Ok(None)
    }
}

async fn send(parts: &mpsc::Sender<Part>, part: Part) -> Result<(), Refusal> {
    let gone = |_| Refusal::TryLater { why: "whoever asked is gone".to_owned(), seconds: 1 };
    parts.send(part).await.map_err(gone)
}

fn peers(zones: &Segmentation, scope: &Scope, now: UnixTime) -> Peers {
    let mut peers = Peers::new();
    for zone in zones.zones().filter(|zone| scope.sees(std::slice::from_ref(&zone.name))) {
        let open = zones.conduits().iter().filter(|conduit| conduit.to == zone.name && conduit.is_open(now));
        let mut callers: BTreeSet<_> =
            open.map(|conduit| (conduit.from.clone(), Some(conduit.service.clone()))).collect();
        if zone.intra_zone == IntraZone::Allow {
            callers.insert((zone.name.clone(), None));
        }
        peers.insert(zone.name.clone(), callers);
    }
    peers
}
