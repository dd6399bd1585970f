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
            Self::Trust { devices } => {
                (devices, "lost trust, did not prove the release in time or went back from it")
            }
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

/// Which devices keep others from being told, because they share a dependency and are down.
#[derive(Debug)]
pub struct Holders<'a>(BTreeMap<&'a str, BTreeSet<&'a DeviceName>>);

impl<'a> Holders<'a> {
    /// Those of `fleet`.
    #[must_use]
    pub fn new(plan: &Plan, fleet: &'a [Member], now: UnixTime) -> Self {
        let mut down: BTreeMap<&str, BTreeSet<&DeviceName>> = BTreeMap::new();
        for member in fleet.iter().filter(|member| member.is_down(member.stage(plan, now))) {
            for tie in member.ties() {
                down.entry(tie).or_default().insert(&member.device);
            }
        }
        Self(down)
    }

    /// Those that keep back `member`, by name.
    #[must_use]
    pub fn of(&self, member: &Member) -> Vec<&'a DeviceName> {
        let sharing = member.ties().filter_map(|tie| self.0.get(tie)).flatten().copied();
        let others: BTreeSet<&DeviceName> = sharing.filter(|other| **other != member.device).collect();
        others.into_iter().collect()
    }
}

struct View<'a> {
    plan: &'a Plan,
    position: Position,
    now: UnixTime,
    /// By name, so that the order in which devices were read decides nothing.
    fleet: Vec<(&'a Member, Stage)>,
}

impl<'a> View<'a> {
    fn new(plan: &'a Plan, position: Position, fleet: &'a [Member], now: UnixTime) -> Self {
        let mut fleet: Vec<_> = fleet.iter().map(|member| (member, member.stage(plan, now))).collect();
        fleet.sort_by_key(|(member, _)| &member.device);
        Self { plan, position, now, fleet }
    }

    fn members(&self) -> impl Iterator<Item = (&'a Member, Stage)> {
        self.fleet.iter().copied()
    }

    /// Devices that the rollout has still to tell.
    fn waiting(&self) -> impl Iterator<Item = &'a Member> {
        let waits = |(member, stage): &(&Member, Stage)| *stage == Stage::Waiting && !member.outside;
        self.members().filter(waits).map(|(member, _)| member)
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
        if room == 0 {
            // As many are in flight as the budget has: nobody is told before one of them is there.
            return (Vec::new(), true);
        }
        let mut waits = self.members().any(|(_, stage)| stage == Stage::InFlight);
        let mut taken = self.taken();
        let (mut tell, mut told) = (Vec::new(), BTreeSet::new());
        for member in self.due() {
            if told.contains(&member.device) {
                continue;
            }
            if member.trust == Trust::Trusted || member.moving {
                let held: Vec<bool> = member.ties().filter_map(|tie| taken.get(tie).copied()).collect();
                if !held.is_empty() {
                    waits |= held.contains(&true);
                    continue;
                }
                if room == 0 {
                    return (tell, true);
                }
                room = room.saturating_sub(1);
            }
            taken.extend(member.ties().map(|tie| (tie, true)));
            told.insert(&member.device);
            tell.push(member.device.clone());
        }
        (tell, waits)
    }

    /// Devices of the waves that have begun, first wave first, that can be told. One that is down is told only what
    /// mends it; that takes nothing more out of service.
    fn due(&self) -> impl Iterator<Item = &'a Member> {
        let begun = self.plan.waves.iter().take(self.position.wave.saturating_add(1));
        let able = |member: &&Member| match member.trust {
            Trust::Trusted => true,
            Trust::Lost => self.plan.mends,
            Trust::Unknown => false,
        };
        begun.flat_map(move |wave| {
            self.waiting().filter(able).filter(|member| wave.selects(&self.plan.id, member))
        })
    }

    /// Ties of devices that are down, and whether they will be up again or given up by themselves.
    fn taken(&self) -> BTreeMap<&'a str, bool> {
        let mut taken: BTreeMap<&str, bool> = BTreeMap::new();
        for (member, stage) in self.members().filter(|(member, stage)| member.is_down(*stage)) {
            for tie in member.ties() {
                *taken.entry(tie).or_default() |= stage == Stage::InFlight || member.moving;
            }
        }
        taken
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
        if self.waiting().next().is_none() {
            return false;
        }
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for (member, _) in self.members() {
            let ties: BTreeSet<&str> = member.ties().collect();
            ties.into_iter().for_each(|tie| *users.entry(tie).or_default() += 1);
        }
        let shares = |member: &Member| member.ties().any(|tie| users.get(tie).is_some_and(|n| *n > 1));
        self.waiting().any(shares)
    }
}
