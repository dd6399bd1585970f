//! What a rollout does next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Budget, Member, Plan, Stage, Trust};
use crate::id::DeviceName;
use crate::time::UnixTime;

/// Names told in a reason to halt; `rollout status` has them all.
const MAX_NAMED: usize = 4;

/// How far a rollout is: all that is remembered besides what each device was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The wave that it is in, from 0. Devices of earlier waves that come late are told too.
    pub wave: usize,
    /// When that wave was done; the next begins after the hold.
    pub done_at: Option<UnixTime>,
}

/// Why a rollout halts by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HaltReason {
    /// As many devices lost trust or did not come back as the budget has.
    Trust {
        /// Which.
        devices: Vec<DeviceName>,
    },
    /// As many devices became unhealthy as the budget has.
    Health {
        /// Which.
        devices: Vec<DeviceName>,
    },
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (devices, what) = match self {
            Self::Trust { devices } => (devices, "lost trust or did not prove the release in time"),
            Self::Health { devices } => (devices, "fail their health command, which did not fail before"),
        };
        write!(f, "the budget is used up: {} {what}: ", devices.len())?;
        let named: Vec<&str> = devices.iter().take(MAX_NAMED).map(DeviceName::as_str).collect();
        f.write_str(&named.join(", "))?;
        match devices.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Something to be done, and recorded before anything else is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// These have proven the release and their health.
    Proven(Vec<DeviceName>),
    /// These are told to update, in this order.
    Tell(Vec<DeviceName>),
    /// The wave is done; the hold begins.
    WaveDone,
    /// The hold is over; the next wave begins.
    NextWave,
    /// Nothing is told any more, for this reason.
    Halt(HaltReason),
    /// Every wave is done.
    Finished,
}

/// What to do at `now`. While `halted`, only what devices proved is noted.
///
/// The same input gives the same effects; the order of `fleet` does not matter. Carry the effects out, store what
/// they change, and ask again: no effect means that there is nothing to do until something changes or time passes.
#[must_use]
pub fn decide(plan: &Plan, position: Position, halted: bool, fleet: &[Member], now: UnixTime) -> Vec<Effect> {
    let view = View::new(plan, position, fleet, now);
    let mut effects = Vec::new();
    let proven = view.names(|stage, member| {
        stage == Stage::Running && member.told.is_some_and(|told| told.proven.is_none())
    });
    if !proven.is_empty() {
        effects.push(Effect::Proven(proven));
    }
    if halted {
        return effects;
    }
    if let Some(reason) = view.exhausted() {
        effects.push(Effect::Halt(reason));
        return effects;
    }
    let (tell, waits) = view.tell();
    let tells = !tell.is_empty();
    if tells {
        effects.push(Effect::Tell(tell));
    }
    if !tells && !waits {
        effects.extend(view.advance());
    }
    effects
}

/// The devices whose state keeps `member` from being told, because they share a dependency with it.
#[must_use]
pub fn holders<'a>(plan: &Plan, fleet: &'a [Member], member: &Member, now: UnixTime) -> Vec<&'a DeviceName> {
    let own: BTreeSet<&str> = member.ties().collect();
    let shares = |other: &Member| other.ties().any(|tie| own.contains(tie));
    let holds = |other: &&Member| {
        other.device != member.device && is_down(other, other.stage(plan, now)) && shares(other)
    };
    fleet.iter().filter(holds).map(|other| &other.device).collect()
}

/// Whether a device is, or may be, out of service: then none that shares a dependency with it is touched.
fn is_down(member: &Member, stage: Stage) -> bool {
    !matches!(stage, Stage::Waiting | Stage::Running) || member.trust != Trust::Trusted
}

struct View<'a> {
    plan: &'a Plan,
    position: Position,
    now: UnixTime,
    /// By name, so that the order in which devices were read decides nothing.
    fleet: BTreeMap<&'a DeviceName, (&'a Member, Stage)>,
}

impl<'a> View<'a> {
    fn new(plan: &'a Plan, position: Position, fleet: &'a [Member], now: UnixTime) -> Self {
        let staged = |member: &'a Member| (&member.device, (member, member.stage(plan, now)));
        Self { plan, position, now, fleet: fleet.iter().map(staged).collect() }
    }

    fn members(&self) -> impl Iterator<Item = (&'a Member, Stage)> {
        self.fleet.values().copied()
    }

    fn names(&self, wanted: impl Fn(Stage, &Member) -> bool) -> Vec<DeviceName> {
        let found = self.members().filter(|(member, stage)| wanted(*stage, member));
        found.map(|(member, _)| member.device.clone()).collect()
    }

    fn count(&self, wanted: impl Fn(Stage) -> bool) -> u32 {
        u32::try_from(self.members().filter(|(_, stage)| wanted(*stage)).count()).unwrap_or(u32::MAX)
    }

    fn exhausted(&self) -> Option<HaltReason> {
        let Budget { trust, health } = self.plan.budget;
        if self.count(Stage::costs_trust) >= trust {
            return Some(HaltReason::Trust { devices: self.names(|stage, _| stage.costs_trust()) });
        }
        let sick = |stage| stage == Stage::Sick;
        (self.count(sick) >= health)
            .then(|| HaltReason::Health { devices: self.names(|stage, _| sick(stage)) })
    }

    /// The wave that a device is told in: the first that selects it.
    fn wave_of(&self, member: &Member) -> Option<usize> {
        self.plan.waves.iter().position(|wave| wave.selects(&self.plan.id, member))
    }

    /// How many more may be in flight without risking more than the budget.
    fn room(&self) -> u32 {
        let Budget { trust, health } = self.plan.budget;
        let left = trust.saturating_sub(self.count(Stage::costs_trust));
        let left = left.min(health.saturating_sub(self.count(|stage| stage == Stage::Sick)));
        left.saturating_sub(self.count(|stage| stage == Stage::InFlight))
    }

    /// Whom to tell now, and whether the wave has to wait for somebody besides them.
    fn tell(&self) -> (Vec<DeviceName>, bool) {
        let mut room = self.room();
        let in_flight = |stage| stage == Stage::InFlight;
        let mut waits = self.members().any(|(_, stage)| in_flight(stage));
        // Ties of devices that are down, and whether they will be up again or given up by themselves.
        let mut taken: BTreeMap<&str, bool> = BTreeMap::new();
        for (member, stage) in self.members().filter(|(member, stage)| is_down(member, *stage)) {
            for tie in member.ties() {
                *taken.entry(tie).or_default() |= in_flight(stage);
            }
        }
        let mut due: Vec<(usize, &Member)> = self
            .members()
            .filter(|(member, stage)| *stage == Stage::Waiting && member.trust == Trust::Trusted)
            .filter_map(|(member, _)| Some((self.wave_of(member)?, member)))
            .filter(|(wave, _)| *wave <= self.position.wave)
            .collect();
        due.sort_by_key(|(wave, _)| *wave);
        let mut tell = Vec::new();
        for (_, member) in due {
            let held: Vec<bool> = member.ties().filter_map(|tie| taken.get(tie).copied()).collect();
            if !held.is_empty() {
                waits |= held.contains(&true);
                continue;
            }
            if room == 0 {
                waits = true;
                continue;
            }
            room = room.saturating_sub(1);
            taken.extend(member.ties().map(|tie| (tie, true)));
            tell.push(member.device.clone());
        }
        (tell, waits)
    }

    /// The step from a wave in which nobody is waited for.
    fn advance(&self) -> Option<Effect> {
        let last = self.position.wave.saturating_add(1) >= self.plan.waves.len();
        if last {
            return (!self.leaves_ties()).then_some(Effect::Finished);
        }
        match self.position.done_at {
            None => Some(Effect::WaveDone),
            Some(done) if self.now.since(done) >= self.plan.hold => Some(Effect::NextWave),
            Some(_) => None,
        }
    }

    /// Whether a device that was not told shares a dependency with another: after the end nothing would keep the
    /// two apart.
    fn leaves_ties(&self) -> bool {
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for (member, _) in self.members() {
            let ties: BTreeSet<&str> = member.ties().collect();
            ties.into_iter().for_each(|tie| *users.entry(tie).or_default() += 1);
        }
        let shares = |member: &Member| member.ties().any(|tie| users.get(tie).is_some_and(|n| *n > 1));
        self.members().any(|(member, stage)| stage == Stage::Waiting && shares(member))
    }
}
