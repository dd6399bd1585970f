//! What a device's last attestation says about the question.

use std::collections::{BTreeMap, BTreeSet};

use policy::appraisal::Verdict;
use policy::id::{ProductName, ZoneName};
use policy::reference::ReferenceValues;
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use policy::zone::Segmentation;

use super::release::ReleaseFindings;
use super::{Exposure, Line};
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device, Inventory};
use crate::rollout::wanted::Wishes;
use crate::session::recorded::results;

/// What every device is judged by.
pub(super) struct Ground<'a> {
    findings: &'a BTreeMap<ReleaseId, ReleaseFindings>,
    values: &'a ReferenceValues,
    zones: &'a Segmentation,
    /// For each release those that the same measurements could satisfy: found once, not for each device.
    alike: BTreeMap<&'a ReleaseId, Vec<&'a ReleaseId>>,
}

/// A device that may run something, as it is recorded.
pub(super) struct Recorded {
    pub(super) device: Device,
    pub(super) attested: Option<Attested>,
    pub(super) inventory: Inventory,
}

/// What a device ran when it last proved itself.
enum Ran {
    /// It never did, or not under its present key.
    Never,
    /// Nothing to compare with, or the result is lost.
    Unappraised,
    /// Nothing that a release describes.
    NoRelease,
    /// These releases, several if its zones do not agree; and why that is no affirmation.
    Releases(BTreeSet<ReleaseId>, Option<String>),
}

/// The line of a device; none if it proved a release without the component, and is not told to install another.
pub(super) async fn judge(
    plant: &Plant,
    ground: &Ground<'_>,
    wishes: &Wishes,
    view: &Recorded,
) -> Option<Line> {
    let ran = match &view.attested {
        Some(attested) if view.device.ak.is_some() => ran(plant, view, attested).await,
        _ => Ran::Never,
    };
    let release = match &ran {
        Ran::Releases(ids, _) => ids.first().cloned(),
        _ => None,
    };
    let running = view.attested.as_ref().map(Attested::running).unwrap_or_default();
    let wish = wishes.release(&view.device, &running, ground.zones);
    let weighed = ground.weigh(view, ran, plant.now());
    let (exposure, reason, releases) = ground.weigh_wish(weighed, wish.as_ref())?;
    let value = |name: &str| {
        let value = view.inventory.values.get(name);
        value.map(|value| value.value.clone()).unwrap_or_default()
    };
    Some(Line {
        device: view.device.name.clone(),
        exposure,
        reason,
        release,
        releases,
        attested_at: view.attested.as_ref().map(|attested| attested.at),
        zones: view.device.zones.clone(),
        owner: value("owner"),
        criticality: value("criticality"),
    })
}

async fn ran(plant: &Plant, view: &Recorded, attested: &Attested) -> Ran {
    let affirming = attested.verdict == Verdict::Affirming.to_string();
    let release = attested.release.as_ref().and_then(|text| text.parse().ok());
    // One zone that affirms says it all; only the others need the stored results.
    if let (true, Some(release), [_]) = (affirming, release, view.device.zones.as_slice()) {
        return Ran::Releases([release].into(), None);
    }
    let records = results(plant, attested).await;
    if records.iter().all(|record| record.verdict == Verdict::Unappraised) {
        return Ran::Unappraised;
    }
    let matched: BTreeSet<ReleaseId> = records.iter().filter_map(|record| record.release.clone()).collect();
    if matched.is_empty() {
        return Ran::NoRelease;
    }
    let other = records.iter().find(|record| record.verdict != Verdict::Affirming);
    let why =
        |zone: &ZoneName, verdict| format!("zone {zone} did not affirm its last proof: it is {verdict}");
    Ran::Releases(matched, other.map(|record| why(&record.zone, record.verdict)))
}

type Weighed = Option<(Exposure, String, Vec<ReleaseId>)>;

impl<'a> Ground<'a> {
    pub(super) fn new(
        findings: &'a BTreeMap<ReleaseId, ReleaseFindings>,
        values: &'a ReferenceValues,
        zones: &'a Segmentation,
    ) -> Self {
        let alike = |one: &'a policy::reference::Release| {
            let same = values.iter().map(|other| other.signed().manifest());
            let same = same.filter(|other| !other.excludes(one.signed().manifest()));
            (one.signed().id(), same.map(policy::reference::manifest::Manifest::id).collect())
        };
        Self { findings, values, zones, alike: values.iter().map(alike).collect() }
    }

    fn weigh(&self, view: &Recorded, ran: Ran, now: UnixTime) -> Weighed {
        let unknown = |why: &str| Some((Exposure::Unknown, why.to_owned(), Vec::new()));
        match ran {
            Ran::Never => unknown("it never proved what it runs"),
            Ran::Unappraised => unknown("its last proof was compared with no release"),
            Ran::NoRelease => {
                let why = "it runs what no accepted release describes";
                let products = self.products(view);
                let all = self.values.of_products(&products);
                match self.exposed(&all.map(|release| release.signed().id().clone()).collect()) {
                    releases if releases.is_empty() => unknown(why),
                    releases => Some((Exposure::May, why.to_owned(), releases)),
                }
            }
            Ran::Releases(ids, why) => {
                let doubt = why.or_else(|| self.doubt(view, now));
                self.weigh_releases(&self.candidates(&ids, view), doubt)
            }
        }
    }

    /// What a device is that runs one of `ids`; `doubt` is why it may run something else by now.
    fn weigh_releases(&self, ids: &BTreeSet<ReleaseId>, doubt: Option<String>) -> Weighed {
        let releases = self.exposed(ids);
        if releases.is_empty() {
            let lacking = ids.iter().find_map(|id| match self.findings.get(id) {
                Some(findings) => findings.unknown.first().cloned(),
                None => Some(format!("the release {id} is no longer here")),
            });
            return lacking.or(doubt).map(|why| (Exposure::Unknown, why, Vec::new()));
        }
        let certain = |id: &ReleaseId| self.findings.get(id).is_some_and(ReleaseFindings::is_exposed);
        let reason = doubt.or_else(|| match () {
            () if ids.iter().all(certain) => None,
            () if releases.len() < ids.len() => {
                Some("several releases match its measurements, and not all of them have it".to_owned())
            }
            () => self.first_doubt(&releases),
        });
        let exposure = if reason.is_none() { Exposure::Proven } else { Exposure::May };
        Some((exposure, reason.unwrap_or_default(), releases))
    }

    /// What becomes of a device that is told to install a release: it may have done so since its last proof. What it
    /// proved to have it has until it proves otherwise.
    fn weigh_wish(&self, weighed: Weighed, wish: Option<&ReleaseId>) -> Weighed {
        let Some(wish) = wish.filter(|wish| !self.is_known_clear(wish)) else { return weighed };
        let told = format!("it is told to install {wish}");
        match weighed {
            Some((Exposure::Proven | Exposure::May, ..)) => weighed,
            other if self.findings.get(wish).is_some_and(|found| !found.found.is_empty()) => {
                let why = other.map_or_else(String::new, |(_, why, _)| format!("; {why}"));
                Some((Exposure::May, format!("{told}, which has it or may have it{why}"), vec![wish.clone()]))
            }
            Some(unknown) => Some(unknown),
            None => {
                Some((Exposure::Unknown, format!("{told}, and what that contains is not known"), Vec::new()))
            }
        }
    }

    fn is_known_clear(&self, id: &ReleaseId) -> bool {
        self.findings.get(id).is_some_and(ReleaseFindings::is_clear)
    }

    fn first_doubt(&self, releases: &[ReleaseId]) -> Option<String> {
        let found = releases.iter().filter_map(|id| self.findings.get(id)).flat_map(|one| &one.found);
        found.filter_map(|found| Some(format!("{}: {}", found.name, found.doubt.as_ref()?))).next()
    }

    /// Those of `ids` that have the component, or may.
    fn exposed(&self, ids: &BTreeSet<ReleaseId>) -> Vec<ReleaseId> {
        let has = |id: &&ReleaseId| self.findings.get(*id).is_some_and(|release| !release.found.is_empty());
        ids.iter().filter(has).cloned().collect()
    }

    /// `ids`, and every release of any state that the same measurements could satisfy, of what may boot in the
    /// zones of the device.
    fn candidates(&self, ids: &BTreeSet<ReleaseId>, view: &Recorded) -> BTreeSet<ReleaseId> {
        let mut products = self.products(view);
        products.extend(ids.iter().map(|id| id.product.clone()));
        let alike = ids.iter().filter_map(|id| self.alike.get(id)).flatten();
        let alike = alike.filter(|id| products.contains(&id.product)).map(|id| (*id).clone());
        ids.iter().cloned().chain(alike).collect()
    }

    fn products(&self, view: &Recorded) -> BTreeSet<ProductName> {
        let zones = view.device.zones.iter().filter_map(|name| self.zones.zone(name));
        zones.flat_map(|zone| zone.products.iter().cloned()).collect()
    }

    /// Why a device may run something else by now than it proved.
    fn doubt(&self, view: &Recorded, now: UnixTime) -> Option<String> {
        let attested = view.attested.as_ref()?;
        let zones = view.device.zones.iter().filter_map(|name| self.zones.zone(name));
        let interval = zones.map(|zone| zone.timing.reattest_every()).min().unwrap_or(0);
        if attested.decision == Decision::Silent {
            return Some("it left an `attest now` unanswered".to_owned());
        }
        if attested.clone_alarm {
            return Some("another TPM state than the one that proved it came since".to_owned());
        }
        let old = now.since(attested.at) > interval.saturating_mul(2);
        old.then(|| "its last proof is older than two intervals of its zone".to_owned())
    }
}
