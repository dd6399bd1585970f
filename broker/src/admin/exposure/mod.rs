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

use std::collections::{BTreeMap, BTreeSet};

use policy::component::{Affected, Inquiry};
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use policy::zone::{IntraZone, Segmentation};
use tokio::sync::mpsc;

pub use self::release::{Found, ReleaseFindings};
use super::device::view::{Filter, Seen, page};
use super::reach::Scope;
use crate::golden::current;
use crate::plant::Plant;
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
    let golden = current(plant).await.map_err(Refusal::internal)?;
    let findings = release::findings(plant, &golden.values, Inquiry::new(affected)).await?;
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let ground = device::Ground::new(&findings, &golden.values, &zones);
    for release in findings.values().filter(|release| !release.is_clear()) {
        send(parts, Part::Release(release.clone())).await?;
    }
    send(parts, Part::Peers(peers(&zones, scope, plant.now()))).await?;
    let mut filter = Filter { zone, ..Filter::default() };
    let mut clear = 0usize;
    loop {
        let page = page(plant, scope, &filter).await?;
        let mut lines = Vec::new();
        for seen in page.devices {
            // Who waits to be admitted holds no certificate and runs nothing of this plant.
            let Seen::Device(view) = seen else { continue };
            match device::judge(plant, &ground, &view).await? {
                device::Judgement::Exposed(line) => lines.push(*line),
                device::Judgement::Clear => clear = clear.saturating_add(1),
                device::Judgement::Gone => {}
            }
        }
        send(parts, Part::Devices(lines)).await?;
        let Some(next) = page.next else { break };
        filter.after = next;
    }
    send(parts, Part::Clear(clear)).await
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
