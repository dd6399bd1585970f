//! Devices by zone and state, and how long their certificates last.

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::Segmentation;
use prometheus_client::registry::Registry;

use super::{Gauges, seconds_to};
use crate::admin::device::view::{Seen, State, view};
use crate::admin::outlook::Outlook;
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{DEVICE, Device, PENDING, Pending};
use crate::record::{Held, list, list_page};
use crate::session::Refusal;

/// Devices that are looked at in one go; others get the processor in between.
const STEP: usize = 100;

pub(super) async fn count(
    plant: &Plant,
    zones: &Segmentation,
    now: UnixTime,
    registry: &mut Registry,
) -> Result<(), Refusal> {
    let mut counts = Counts::new(zones);
    let mut after: Option<String> = None;
    loop {
        let page = list_page::<Device>(plant.store.as_ref(), DEVICE, after.as_deref(), STEP).await?;
        let Some(last) = page.last else { break };
        after = Some(last);
        for held in page.records {
            counts.count(&Seen::Device(Box::new(view(plant, held.record, zones).await?)), now);
        }
        tokio::task::yield_now().await;
    }
    let waiting: Vec<Held<Pending>> = list(plant.store.as_ref(), PENDING).await?;
    waiting.into_iter().for_each(|held| counts.count(&Seen::Pending(held.record), now));
    counts.register(now, registry);
    Ok(())
}

/// What was counted so far.
struct Counts<'a> {
    zones: &'a Segmentation,
    devices: Gauges<2>,
    failing_hooks: Gauges<1>,
    outlook: Outlook,
}

impl<'a> Counts<'a> {
    /// Every state of every zone, at zero.
    fn new(zones: &'a Segmentation) -> Self {
        let devices = Gauges::default();
        let names = zones.zones().map(|zone| zone.name.to_string()).chain([String::new()]);
        for zone in names {
            for state in State::ALL {
                drop(devices.get_or_create(&labels(&zone, state)));
            }
        }
        let failing_hooks = Gauges::default();
        for zone in zones.zones() {
            drop(failing_hooks.get_or_create(&[("zone", zone.name.to_string())]));
        }
        Self { zones, devices, failing_hooks, outlook: Outlook::new(zones, &Scope::Plant, &[]) }
    }

    fn count(&mut self, seen: &Seen, now: UnixTime) {
        self.outlook.count(seen, now);
        // A device that waits asks for whatever zones it likes.
        let known = |zone: &&ZoneName| self.zones.zone(zone).is_some();
        let mut homeless = true;
        for zone in seen.zones().iter().filter(known) {
            homeless = false;
            self.devices.get_or_create(&labels(zone.as_str(), seen.state())).inc();
            if !seen.failing_hooks().is_empty() {
                self.failing_hooks.get_or_create(&[("zone", zone.to_string())]).inc();
            }
        }
        if homeless {
            self.devices.get_or_create(&labels("", seen.state())).inc();
        }
    }

    fn register(self, now: UnixTime, registry: &mut Registry) {
        let (ends, late) = (Gauges::<1>::default(), Gauges::<1>::default());
        for zone in self.outlook.zones() {
            let label = [("zone", zone.zone.to_string())];
            late.get_or_create(&label).set(zone.late.into());
            if let Some(first) = zone.first_ends {
                ends.get_or_create(&label).set(seconds_to(first, now));
            }
        }
        registry.register(
            "devices",
            "Devices by zone and state; one in two zones counts in both, one in none has an empty zone",
            self.devices,
        );
        registry.register(
            "devices_with_failing_hooks",
            "Devices whose attestor said that a hook of it failed, so that software or the machine may not be as it should",
            self.failing_hooks,
        );
        registry.register(
            "device_expiry_seconds",
            "Time until the first trusted device of the zone is without a certificate, if it renews no more",
            ends,
        );
        registry.register(
            "devices_late",
            "Trusted devices with a certificate that should have been replaced already",
            late,
        );
    }
}

fn labels(zone: &str, state: State) -> [(&'static str, String); 2] {
    [("zone", zone.to_owned()), ("state", state.name().to_owned())]
}
