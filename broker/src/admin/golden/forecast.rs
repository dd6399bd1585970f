//! What a change of golden values does to devices, from their last evidence.
//!
//! A forecast is no promise: a device may have rebooted since. Evidence that is too old to say
//! anything counts as unknown.

use policy::appraisal::measurements::Measurements;
use policy::appraisal::{Finding, forecast};
use policy::id::{DeviceName, ProductName};
use policy::reference::ReferenceValues;
use policy::time::UnixTime;
use policy::zone::{Segmentation, Zone};

use crate::admin::device::view::{Seen, State, all};
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
}

/// The forecast of every device in sight in zones of `product`.
pub(super) async fn fleet(
    plant: &Plant,
    scope: &Scope,
    product: &ProductName,
    before: &ReferenceValues,
    after: &ReferenceValues,
) -> Result<Vec<Line>, Refusal> {
    let now = plant.now();
    let segmentation = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut lines = Vec::new();
    for seen in all(plant, scope, &segmentation).await? {
        let Seen::Device(view) = seen else { continue };
        let zones = zones(&segmentation, &view.device.zones, product);
        if zones.is_empty() || matches!(view.state, State::Registered | State::Retired) {
            continue;
        }
        let age = view.attested.as_ref().map_or(0, |attested| now.since(attested.at));
        let mut line = Line {
            device: view.device.name.clone(),
            before: Outlook::Unknown,
            after: Outlook::Unknown,
            age,
            findings: Vec::new(),
        };
        let evidence = match &view.attested {
            Some(attested) if age <= tells_for(&zones) => recorded(plant, attested, &view.tpm).await.ok(),
            _ => None,
        };
        if let Some(evidence) = evidence {
            let seen = evidence.measurements();
            line.before = outlook(&seen, before, &zones, now).0;
            (line.after, line.findings) = outlook(&seen, after, &zones, now);
            line.findings.truncate(if lines.len() < MAX_EXPLAINED { MAX_REASONS } else { 0 });
        }
        lines.push(line);
    }
    Ok(lines)
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

fn outlook(
    seen: &Measurements<'_>,
    values: &ReferenceValues,
    zones: &[&Zone],
    now: UnixTime,
) -> (Outlook, Vec<Finding>) {
    let mut outlook = Outlook::Trusted;
    let mut findings: Vec<Finding> = Vec::new();
    for zone in zones {
        let judgement = forecast(seen, values, &zone.policy(), now).judgement();
        if !judgement.refused.is_empty() {
            outlook = Outlook::Refused;
        }
        for finding in judgement.refused.into_iter().chain(judgement.would_refuse) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    (outlook, findings)
}
