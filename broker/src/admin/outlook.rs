//! How far each zone is covered, and how long it lasts without the broker: counted in one pass over the devices.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use policy::appraisal::policy::Mode;
use policy::id::{ProductName, ZoneName};
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use policy::zone::{Role, Segmentation, Timing};

use super::device::view::{DeviceView, Seen, State};
use super::reach::Scope;
use crate::record::golden::ReleaseRecord;

/// One zone on the morning page.
#[derive(Debug, Clone)]
pub struct ZoneOutlook {
    /// Its name.
    pub zone: ZoneName,
    /// It lets in what it would refuse.
    pub observes: bool,
    /// It accepts products, and each has an active golden release.
    pub released: bool,
    /// Its devices, those that wait for it too.
    pub devices: u32,
    /// Those that are silent.
    pub silent: u32,
    /// Trusted devices with a certificate that should have been replaced already.
    pub late: u32,
    /// When the first trusted device is without a certificate, if the broker stays away.
    pub first_ends: Option<UnixTime>,
    /// Its times.
    pub timing: Timing,
}

/// The zones in sight while their devices are counted.
#[derive(Debug)]
pub(crate) struct Outlook(BTreeMap<ZoneName, ZoneOutlook>);

impl Outlook {
    /// The zones that `scope` sees, without a device yet.
    pub(crate) fn new(zones: &Segmentation, scope: &Scope, releases: &[ReleaseRecord]) -> Self {
        let active = releases.iter().filter(|release| release.state == ReleaseState::Active);
        let active: BTreeSet<&ProductName> = active.map(|release| &release.product).collect();
        let seen = zones.zones().filter(|zone| scope.sees(slice::from_ref(&zone.name)));
        let empty = seen.map(|zone| ZoneOutlook {
            zone: zone.name.clone(),
            observes: zone.mode == Mode::Observe,
            released: !zone.products.is_empty() && zone.products.iter().all(|one| active.contains(one)),
            devices: 0,
            silent: 0,
            late: 0,
            first_ends: None,
            timing: zone.timing,
        });
        Self(empty.map(|zone| (zone.zone.clone(), zone)).collect())
    }

    /// Counts a device in each of its zones.
    pub(crate) fn count(&mut self, seen: &Seen, now: UnixTime) {
        for name in seen.zones() {
            let Some(zone) = self.0.get_mut(name) else { continue };
            zone.devices = zone.devices.saturating_add(1);
            match seen {
                Seen::Device(view) if view.state == State::Trusted => zone.last(view, now),
                Seen::Device(view) if view.state == State::Silent => {
                    zone.silent = zone.silent.saturating_add(1)
                }
                Seen::Device(_) | Seen::Pending(_) => {}
            }
        }
    }

    /// The zones, by name.
    pub(crate) fn zones(self) -> Vec<ZoneOutlook> {
        self.0.into_values().collect()
    }
}

impl ZoneOutlook {
    /// Counts how long a trusted device lasts: as long as the newest certificate of each kind that it holds here.
    fn last(&mut self, view: &DeviceView, now: UnixTime) {
        let mut ends: BTreeMap<_, UnixTime> = BTreeMap::new();
        for (_, held) in view.certificates.iter().filter(|(zone, _)| *zone == self.zone) {
            let end = ends
                .entry((held.role == Role::Caller, held.service.clone(), held.workload.clone()))
                .or_default();
            *end = held.validity.not_after.max(*end);
        }
        let Some(first) = ends.into_values().min() else { return };
        // Two thirds of a life are left when its replacement is due; half is late for every reason but the broker's.
        if first.since(now) < self.timing.certificate_lifetime() / 2 {
            self.late = self.late.saturating_add(1);
        }
        self.first_ends = Some(self.first_ends.map_or(first, |known| known.min(first)));
    }
}
