//! Fleets and plans for the tests, and the memory that a broker would keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::id::DeviceName;
use policy::reference::release::ReleaseId;
use policy::rollout::{Baseline, Wave};
use policy::rollout::{
    Budget, Effect, HaltReason, Health, Member, Plan, Position, RolloutId, Told, Trust, decide,
};
use policy::time::UnixTime;

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const DEADLINE: u64 = 3_600;

pub(crate) fn release(version: &str) -> ReleaseId {
    format!("edge-box@{version}").parse().unwrap()
}

pub(crate) fn id() -> RolloutId {
    RolloutId { product: "edge-box".parse().unwrap(), number: 1 }
}

pub(crate) fn plan(waves: &[&str], trust: u32, health: u32, hold: u64) -> Plan {
    let waves: Vec<Wave> = waves.iter().map(|wave| wave.parse().unwrap()).collect();
    Plan::new(id(), release("2.0"), waves, Budget { trust, health }, (hold, DEADLINE)).unwrap()
}

pub(crate) fn member(name: &str) -> Member {
    Member {
        device: name.parse().unwrap(),
        zones: ["cell-3".parse().unwrap()].into(),
        labels: Arc::default(),
        depends_on: Arc::default(),
        trust: Trust::Trusted,
        running: Some(release("1.0")),
        ran: None,
        health: Health::Ok,
        told: None,
        moving: false,
        outside: false,
    }
}

pub(crate) fn depending(name: &str, on: &[&str]) -> Member {
    let on = on.iter().map(|name| (*name).to_owned()).collect();
    Member { depends_on: Arc::new(on), ..member(name) }
}

/// Told at [`NOW`], and well before.
pub(crate) fn told(member: Member) -> Member {
    Member { told: Some(Told { at: NOW, baseline: Baseline::Ok, proven: None }), ..member }
}

/// What a broker remembers of a rollout, and how it carries effects out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Memory {
    pub(crate) plan: Plan,
    pub(crate) position: Position,
    pub(crate) told: BTreeMap<DeviceName, Told>,
    pub(crate) ended: Option<String>,
}

impl Memory {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, position: Position::default(), told: BTreeMap::new(), ended: None }
    }

    /// The same, read back from what was stored.
    pub(crate) fn restarted(&self) -> Self {
        serde_json::from_slice(&serde_json::to_vec(self).unwrap()).unwrap()
    }

    /// The fleet with what each device was told.
    pub(crate) fn seen(&self, fleet: &[Member]) -> Vec<Member> {
        let with =
            |member: &Member| Member { told: self.told.get(&member.device).copied(), ..member.clone() };
        fleet.iter().map(with).collect()
    }

    pub(crate) fn decide(&self, fleet: &[Member], now: UnixTime) -> Vec<Effect> {
        decide(&self.plan, self.position, self.ended.is_some(), &self.seen(fleet), now)
    }

    /// Decides once and carries it out.
    pub(crate) fn step(&mut self, fleet: &[Member], now: UnixTime) -> Vec<Effect> {
        let effects = self.decide(fleet, now);
        for effect in &effects {
            match effect {
                Effect::Proven(devices) => {
                    for device in devices {
                        self.told.get_mut(device).unwrap().proven = Some(now);
                    }
                }
                Effect::Tell(devices) => {
                    for device in devices {
                        let before = fleet.iter().find(|member| member.device == *device).unwrap();
                        let failing = matches!(before.health, Health::Failing { .. });
                        let baseline = if failing { Baseline::Failing } else { Baseline::Ok };
                        let new = Told { at: now, baseline, proven: None };
                        assert_eq!(self.told.insert(device.clone(), new), None, "{device} was told twice");
                    }
                }
                Effect::WaveDone => self.position.done_at = Some(now),
                Effect::NextWave => {
                    self.position = Position { wave: self.position.wave + 1, done_at: None };
                }
                Effect::Halt(HaltReason::Trust { .. } | HaltReason::Health { .. }) => {
                    self.ended = Some("halted".to_owned());
                }
                Effect::Finished => self.ended = Some("finished".to_owned()),
            }
        }
        effects
    }

    /// Steps until nothing more is to be done now.
    pub(crate) fn settle(&mut self, fleet: &[Member], now: UnixTime) -> Vec<Effect> {
        let mut all = Vec::new();
        for _ in 0..100 {
            let effects = self.step(fleet, now);
            if effects.is_empty() {
                return all;
            }
            all.extend(effects);
        }
        panic!("it never comes to rest: {all:?}");
    }
}

pub(crate) fn tell(names: &[&str]) -> Effect {
    Effect::Tell(names.iter().map(|name| name.parse().unwrap()).collect())
}

pub(crate) fn proven(names: &[&str]) -> Effect {
    Effect::Proven(names.iter().map(|name| name.parse().unwrap()).collect())
}
