//! Live sessions, and what becomes of them when what they rest on changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::access::{Allowed, Decision};
use policy::id::{PlantDomain, SpiffeId};
use policy::time::UnixTime;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::standing::Standing;
use crate::authorize::Told;
use crate::config::GateConfig;

/// What a gate goes by now, or why it opens to nobody.
pub(super) type Stand = Result<Arc<Standing>, Vec<Told>>;

/// The live sessions of a gate.
#[derive(Debug)]
pub(super) struct Table {
    each: usize,
    inner: Mutex<Inner>,
    /// A session came that ends sooner than the others.
    sooner: Notify,
}

#[derive(Debug)]
struct Inner {
    stand: Stand,
    live: HashMap<u64, Live>,
    peers: HashMap<SpiffeId, usize>,
    next: u64,
    /// When sessions are decided about again if nothing happens.
    wake: Option<Instant>,
    /// As the zone said last: when it says nothing any more, that still holds.
    drain: Duration,
    counts: Counts,
}

#[derive(Debug)]
struct Live {
    allowed: Allowed,
    /// When a session that is not allowed any more is cut.
    drained: Option<Instant>,
    cut: oneshot::Sender<()>,
}

/// What a gate did since it opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sessions: usize,
    pub(super) draining: usize,
    pub(super) opened: u64,
    pub(super) cut: BTreeMap<&'static str, u64>,
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Table {
    pub(super) fn new(each: usize) -> Self {
        let inner = Inner {
            stand: Err(Told::new("starting", "the gate has just started", "try again")),
            live: HashMap::new(),
            peers: HashMap::new(),
            next: 0,
            wake: None,
            drain: Duration::ZERO,
            counts: Counts::default(),
        };
        Self { each, inner: Mutex::new(inner), sooner: Notify::new() }
    }

    /// What the gate goes by.
    pub(super) fn stand(&self) -> Stand {
        self.lock().stand.clone()
    }

    /// Counts what was refused.
    pub(super) fn refused(&self, code: &'static str) {
        let mut inner = self.lock();
        let count = inner.counts.refused.entry(code).or_default();
        *count = count.saturating_add(1);
    }

    /// What was done, and what is going on.
    pub(super) fn counts(&self) -> Counts {
        let inner = self.lock();
        let draining = inner.live.values().filter(|live| live.drained.is_some()).count();
        Counts { sessions: inner.live.len(), draining, ..inner.counts.clone() }
    }

    /// Returns once a session came that ends sooner than all others.
    pub(super) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Enters a session with a peer that was allowed under `standing`; it is decided about again if that is not what
    /// the gate goes by any more. The receiver hears when it is to be cut.
    pub(super) fn enter(
        &self,
        config: &GateConfig,
        plant: &PlantDomain,
        standing: &Arc<Standing>,
        allowed: Allowed,
        (now, instant): (UnixTime, Instant),
    ) -> Result<(u64, oneshot::Receiver<()>), Vec<Told>> {
        let mut inner = self.lock();
        let present = inner.stand.clone()?;
        let allowed = match Arc::ptr_eq(&present, standing) && now < allowed.until() {
            true => allowed,
            false => match present.judge(plant, config).again(&allowed, now) {
                Decision::Allowed(allowed) => allowed,
                Decision::Refused { reasons, .. } => return Err(Told::of(reasons)),
            },
        };
        let with = inner.peers.entry(allowed.peer().clone()).or_default();
        if *with >= self.each {
            let words = format!("{} has {} connections, and may have no more", allowed.peer(), *with);
            let remedy = "let it close some, or raise `connections_each` of the gate in attestor.toml";
            return Err(Told::new("too-many-of-peer", &words, remedy));
        }
        *with = with.saturating_add(1);
        let at = instant + Duration::from_secs(allowed.until().since(now));
        if inner.wake.is_none_or(|wake| at < wake) {
            inner.wake = Some(at);
            self.sooner.notify_one();
        }
        let (number, (cut, hears)) = (inner.next, oneshot::channel());
        inner.next = number.wrapping_add(1);
        inner.counts.opened = inner.counts.opened.saturating_add(1);
        inner.live.insert(number, Live { allowed, drained: None, cut });
        Ok((number, hears))
    }

    /// Takes what the gate goes by from now on, and decides about every live session under it. Gives the time until it
    /// is to be done again if nothing happens.
    pub(super) fn review(
        &self,
        config: &GateConfig,
        plant: &PlantDomain,
        stand: Stand,
        (now, at): (UnixTime, Instant),
    ) -> Option<Duration> {
        let mut inner = self.lock();
        let mut wake = None;
        if let Ok(standing) = &stand {
            inner.drain = standing.drain;
            wake = Some(Duration::from_secs(standing.until.since(now)));
        }
        let drain = inner.drain;
        let judge = stand.as_ref().map(|standing| standing.judge(plant, config));
        let mut over = Vec::new();
        for (number, live) in &mut inner.live {
            let lasts = match &judge {
                Ok(judge) => live.decided(judge.again(&live.allowed, now), now),
                Err(reasons) => Err(reasons.first().cloned()),
            };
            let left = lasts.unwrap_or_else(|reason| {
                let drained = *live.drained.get_or_insert(at + drain);
                let left = drained.saturating_duration_since(at);
                if left.is_zero() {
                    over.push((*number, reason));
                }
                left
            });
            wake = Some(wake.map_or(left, |wake| wake.min(left)));
        }
        drop(judge);
        inner.stand = stand;
        inner.wake = wake.map(|wake| at + wake);
        for (number, reason) in over {
            inner.cut(config, number, reason);
        }
        wake
    }

    /// A session is over.
    pub(super) fn leave(&self, number: u64) {
        self.lock().remove(number);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counts and entries change one by one: nothing can be half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Goes on with what was decided again: how long that lasts, or why it is over.
    fn decided(&mut self, decision: Decision, now: UnixTime) -> Result<Duration, Option<Told>> {
        match decision {
            Decision::Allowed(allowed) => {
                (self.allowed, self.drained) = (allowed, None);
                Ok(Duration::from_secs(self.allowed.until().since(now)))
            }
            Decision::Refused { reasons, .. } => Err(Told::of(reasons).into_iter().next()),
        }
    }
}

impl Inner {
    fn remove(&mut self, number: u64) -> Option<Live> {
        let live = self.live.remove(&number)?;
        let peer = live.allowed.peer();
        match self.peers.get_mut(peer) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(self.peers.remove(peer)),
        }
        Some(live)
    }

    fn cut(&mut self, config: &GateConfig, number: u64, reason: Option<Told>) {
        let Some(live) = self.remove(number) else { return };
        let (code, why) = reason.map_or(("unknown", String::new()), |told| (told.code, told.message));
        let count = self.counts.cut.entry(code).or_default();
        *count = count.saturating_add(1);
        tracing::warn!(gate = config.name, peer = %live.allowed.peer(), reason = code, "a session is cut: {why}");
        // One that ended by itself meanwhile hears nothing.
        let _ = live.cut.send(());
    }
}
