//! What a change of golden values does to devices, from their last evidence.
//!
//! A forecast is no promise: a device may have rebooted since. Evidence that is too old to say
//! anything counts as unknown. Devices whose evidence is known to be alike are appraised once.

use std::collections::BTreeMap;

use policy::appraisal::measurements::Measurements;
use policy::appraisal::{Finding, forecast};
use policy::digest::Digest;
use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::ReferenceValues;
use policy::time::UnixTime;
use policy::zone::{Override, Segmentation, Zone};

use crate::admin::device::view::{DeviceView, Seen, State, all};
use crate::admin::overriding;
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::session::Refusal;
use crate::session::recorded::recorded;
use crate::trust;

/// Evidence this young always counts, in seconds: a refused device asks less often than its zone says.
const ALWAYS_COUNTS: u64 = 900;
/// Reasons told for each device.
const MAX_REASONS: usize = 4;
/// Devices whose reasons are told: the answer has to stay below gRPC's 4 MiB.
const MAX_EXPLAINED: usize = 500;

/// What a device's evidence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Every zone of the product would trust it.
    Trusted,
    /// One would refuse it.
    Refused,
    /// Its evidence is missing or too old.
    Unknown,
}

impl Outlook {
    /// The outlook as commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The forecast for one device.
#[derive(Debug)]
pub struct Line {
    /// The device.
    pub device: DeviceName,
    /// Under the golden values of now.
    pub before: Outlook,
    /// Under the change.
    pub after: Outlook,
    /// Age of its evidence in seconds.
    pub age: u64,
    /// What would count against it, or would if its zone enforced.
    pub findings: Vec<Finding>,
    /// The first of them in a sentence, or why nothing can be said.
    pub reason: String,
    /// Its zones of the product.
    pub zones: Vec<ZoneName>,
    /// The owner that the inventory names.
    pub owner: String,
    /// The criticality that the inventory names.
    pub criticality: String,
    /// A zone that observes would refuse it, did it enforce.
    pub would_refuse: bool,
}

/// Devices with the same one are appraised alike: what was measured, what may vouch for the TPM today, and
/// who appraises.
type Alike = (Digest, bool, Option<[u8; 4]>, Vec<ZoneName>);

/// What an appraisal before and after the change says.
#[derive(Debug, Clone)]
struct Appraised {
    before: Outlook,
    after: Outlook,
    findings: Vec<Finding>,
    would_refuse: bool,
}

/// The change, and what was appraised under it.
struct Change<'a> {
    plant: &'a Plant,
    before: &'a ReferenceValues,
    after: &'a ReferenceValues,
    now: UnixTime,
    /// When the change is looked at.
    at: UnixTime,
    known: BTreeMap<Alike, Appraised>,
}

impl Change<'_> {
    /// `None` if the evidence cannot be read back.
    async fn appraise(&mut self, view: &DeviceView, zones: &[&Zone]) -> Option<Appraised> {
        let attested = view.attested.as_ref()?;
        let excused = overriding::of(self.plant, &view.device.name).await.ok()?;
        let everywhere =
            |zone: &&Zone| excused.as_ref().is_some_and(|held| held.in_zone(&zone.name).is_some());
        let everywhere = zones.iter().all(everywhere);
        let excused = excused.filter(|_| everywhere).map(|record| record.excused);
        let names = zones.iter().map(|zone| zone.name.clone()).collect();
        // What is accepted by hand is accepted of one device.
        let alike = attested.basis.filter(|_| excused.is_none());
        let alike = alike.map(|basis| (basis, view.tpm.registered, view.tpm.manufacturer, names));
        if let Some(known) = alike.as_ref().and_then(|alike| self.known.get(alike)) {
            return Some(known.clone());
        }
        let evidence = recorded(self.plant, attested, &view.tpm).await.ok()?;
        let seen = evidence.measurements();
        let excused = excused.as_ref();
        let before = outlook(&seen, self.before, zones, excused, self.now).outlook;
        let then = outlook(&seen, self.after, zones, excused, self.at);
        let mut findings = then.findings;
        findings.truncate(MAX_REASONS);
        let appraised = Appraised { before, after: then.outlook, findings, would_refuse: then.would_refuse };
        if let Some(alike) = alike {
            self.known.insert(alike, appraised.clone());
        }
        Some(appraised)
    }
}

/// The forecast of every device in sight in zones of `product`, now.
pub(super) async fn fleet(
    plant: &Plant,
    scope: &Scope,
    product: &ProductName,
    before: &ReferenceValues,
    after: &ReferenceValues,
) -> Result<Vec<Line>, Refusal> {
    fleet_at(plant, scope, product, before, after, plant.now()).await
}

/// The forecast of every device in sight in zones of `product`: before the change now, after it at `at`.
pub(super) async fn fleet_at(
    plant: &Plant,
    scope: &Scope,
    product: &ProductName,
    before: &ReferenceValues,
    after: &ReferenceValues,
    at: UnixTime,
) -> Result<Vec<Line>, Refusal> {
    let now = plant.now();
    let segmentation = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut change = Change { plant, before, after, now, at, known: BTreeMap::new() };
    let mut lines = Vec::new();
    for seen in all(plant, scope, &segmentation).await? {
        let Seen::Device(view) = seen else { continue };
        let zones = zones(&segmentation, &view.device.zones, product);
        if zones.is_empty() || matches!(view.state, State::Registered | State::Retired) {
            continue;
        }
        let age = view.attested.as_ref().map_or(0, |attested| now.since(attested.at));
        let fresh = age <= tells_for(&zones) && !matches!(view.state, State::Pending);
        let appraised = if fresh { change.appraise(&view, &zones).await } else { None };
        let mut line = line(&view, &zones, age);
        if let Some(appraised) = appraised {
            (line.before, line.after) = (appraised.before, appraised.after);
            line.would_refuse = appraised.would_refuse;
            line.reason = appraised.findings.first().map_or_else(String::new, |first| first.sentence.clone());
            if lines.len() < MAX_EXPLAINED {
                line.findings = appraised.findings;
            }
        }
        lines.push(line);
    }
    Ok(lines)
}

/// What is said of a device of which nothing can be foreseen.
fn line(view: &DeviceView, zones: &[&Zone], age: u64) -> Line {
    let value =
        |name: &str| view.inventory.values.get(name).map_or_else(String::new, |known| known.value.clone());
    let reason = match view.attested {
        None => "it never proved itself",
        Some(_) if view.state == State::Pending => "its TPM's counters fell, and nobody has said why",
        Some(_) => "its last evidence is too old, or cannot be read",
    };
    Line {
        device: view.device.name.clone(),
        before: Outlook::Unknown,
        after: Outlook::Unknown,
        age,
        findings: Vec::new(),
        reason: reason.to_owned(),
        zones: zones.iter().map(|zone| zone.name.clone()).collect(),
        owner: value("owner"),
        criticality: value("criticality"),
        would_refuse: false,
    }
}

fn zones<'a>(
    segmentation: &'a Segmentation,
    of: &[policy::id::ZoneName],
    product: &ProductName,
) -> Vec<&'a Zone> {
    let known = of.iter().filter_map(|name| segmentation.zone(name));
    known.filter(|zone| zone.products.contains(product)).collect()
}

/// How long evidence says something, in seconds: two intervals.
fn tells_for(zones: &[&Zone]) -> u64 {
    let interval = zones.iter().map(|zone| zone.timing.reattest_every()).min().unwrap_or(0);
    interval.saturating_mul(2).max(ALWAYS_COUNTS)
}

/// What the zones would make of evidence.
struct Judged {
    outlook: Outlook,
    findings: Vec<Finding>,
    would_refuse: bool,
}

fn outlook(
    seen: &Measurements<'_>,
    values: &ReferenceValues,
    zones: &[&Zone],
    excused: Option<&Override>,
    at: UnixTime,
) -> Judged {
    let mut judged = Judged { outlook: Outlook::Trusted, findings: Vec::new(), would_refuse: false };
    for zone in zones {
        let judgement = forecast(seen, values, &zone.policy(), at).judgement_under(excused);
        if !judgement.refused.is_empty() {
            judged.outlook = Outlook::Refused;
        }
        judged.would_refuse |= !judgement.would_refuse.is_empty();
        for finding in judgement.refused.into_iter().chain(judgement.would_refuse) {
            if !judged.findings.contains(&finding) {
                judged.findings.push(finding);
            }
        }
    }
    judged
}
