//! What the plan does to the plant.

use std::sync::Arc;

use broker::admin::Act;
use broker::admin::device::stop;
use broker::admin::golden::state;
use broker::plant::Plant;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;

use super::{Event, Job, Sabotage, Storm, World};
use crate::invariant::{Known, Ledger};
use crate::plan::{Action, SECOND};
use crate::plant::{NAMES, owner, set_conduit};
use crate::task::Work;

impl World {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::PowerCut { device, seconds } => {
                let boot = self.machines[device].boot;
                self.cut_power(device);
                self.after(seconds * SECOND, Event::Power(device, boot));
            }
            Action::Boot { device, boot } => {
                self.cut_power(device);
                self.after(20 * SECOND, Event::Power(device, boot));
            }
            Action::ClearTpm { device } => {
                let boot = self.machines[device].boot;
                self.cut_power(device);
                self.machines[device].clear_tpm();
                self.after(20 * SECOND, Event::Power(device, boot));
            }
            Action::Skew { device, seconds } => self.skews[device] = seconds,
            Action::Crash { operations, moment, seconds } => {
                self.down = seconds;
                if let Some(broker) = &self.broker {
                    broker.lever.light(operations, moment);
                }
            }
            Action::Partition { device, seconds } => {
                self.apart[device] = self.now + seconds * SECOND;
                if let Some(broker) = &mut self.broker {
                    broker.streams.remove(&device);
                }
                self.watching[device] = None;
            }
            Action::Storm { lost, twice, late, seconds } => {
                self.storm = Storm { until: self.now + seconds * SECOND, lost, twice, late };
            }
            Action::Quarantine { .. }
            | Action::Readmit { .. }
            | Action::AttestNow { .. }
            | Action::Conduit { .. }
            | Action::Withdraw => self.administer(action),
        }
    }

    /// Asks the broker for what an administrator wants.
    pub(super) fn administer(&mut self, action: Action) {
        let Some(broker) = &mut self.broker else { return };
        if let Some(known) = known(&mut self.ledger, &action) {
            known.since = None;
        }
        let work: Work<Result<(), String>> = match (self.sabotage, &action) {
            (Sabotage::StopForgotten, Action::Quarantine { .. }) => Box::pin(async { Ok(()) }),
            _ => Box::pin(administer(Arc::clone(&broker.plant), action.clone())),
        };
        self.made += 1;
        broker.jobs.insert(self.made, Job::Admin { action, work });
        let job = self.made;
        self.after(1, Event::Write(job));
    }
}

/// What the ledger knows of what `action` changes.
pub(super) fn known<'l>(ledger: &'l mut Ledger, action: &Action) -> Option<&'l mut Known> {
    match action {
        Action::Quarantine { device } | Action::Readmit { device } => Some(&mut ledger.stopped[*device]),
        Action::Withdraw => Some(&mut ledger.withdrawn),
        _ => None,
    }
}

async fn administer(plant: Arc<Plant>, action: Action) -> Result<(), String> {
    let plant = plant.as_ref();
    let name = |device: usize| NAMES[device].0.parse().expect("a name");
    let done = async {
        match action {
            Action::Quarantine { device } => {
                let actor = owner(plant, Act::QuarantineDevice).await?;
                stop::quarantine(plant, &actor, &name(device), "simulated").await.map(drop)
            }
            Action::Readmit { device } => {
                let actor = owner(plant, Act::ReadmitDevice).await?;
                stop::readmit(plant, &actor, (&name(device), None), "simulated").await.map(drop)
            }
            Action::AttestNow { device } => {
                let actor = owner(plant, Act::AttestDevice).await?;
                stop::attest_now(plant, &actor, &name(device)).await
            }
            Action::Conduit { open } => set_conduit(plant, open).await,
            Action::Withdraw => {
                let actor = owner(plant, Act::SetReleaseState).await?;
                let release = ReleaseId {
                    product: "edge-box".parse().expect("a name"),
                    version: "2.0".parse().expect("a version"),
                };
                let (to, reason) = (ReleaseState::Withdrawn, "simulated".to_owned());
                let request = state::Request { release, to, reason, seen: None, dry_run: false };
                state::set(plant, &actor, &request).await.map(drop)
            }
            other => unreachable!("{other:?} is nothing that an administrator does"),
        }
    };
    done.await.map_err(|refusal| refusal.to_string())
}
