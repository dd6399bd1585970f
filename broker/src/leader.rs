//! One of the plant's brokers leads: it does what is to be done once, such as rotations, rollouts, withdrawals, sweeps.
//!
//! A broker takes a term when nobody leads, or when the leader showed no sign of life for [`SILENT`] by this broker's
//! own clock; clocks of brokers decide nothing, and an alarm in the log says when they differ.
//! Promises: what a leader commits, it commits only in its term ([`fence`]), so one that was held up and wakes late
//! changes nothing; the next one goes on from what is stored.
//! Does not promise: that work moves within a time if the store does not answer.
//!
//! A broker with a store of its own leads alone, without a term.

use std::sync::Arc;
use std::time::Duration;

use policy::time::UnixTime;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::audit::Event;
use crate::config::Backend;
use crate::plant::Plant;
use crate::record::leader::{BEAT, Beat, LEADER, Leader};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::fence::{self, Term};
use crate::store::{Expect, Revision, Txn, TxnError};

/// How often a leader shows that it lives, and others look.
const LOOK: Duration = Duration::from_secs(1);
/// Silence of a leader after which another broker takes its place: a commit and a hitch of etcd take less.
const SILENT: Duration = Duration::from_secs(4);

/// Seconds by which the clocks of brokers may differ: a challenge allows five.
const SKEW: u64 = 2;

/// What a leader does: each begins with what is stored, and goes on for ever.
pub(crate) type Work = fn(&Arc<Plant>) -> Vec<Task>;
/// One of it.
pub(crate) type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What this broker knows of who leads.
#[derive(Debug)]
pub(crate) struct Lead {
    /// The broker's id.
    broker: String,
    led: Mutex<Led>,
}

#[derive(Debug, Default)]
struct Led {
    own: Option<Own>,
    /// The leader's last sign of life, and when it was first seen.
    seen: Option<(Sign, Instant)>,
    /// When it was looked last.
    looked: Option<Instant>,
    /// By how many seconds the clocks differ, if it is too much.
    skew: Option<u64>,
    /// The broker is about to stop.
    over: bool,
}

/// A term of this broker.
#[derive(Debug)]
struct Own {
    leader: Leader,
    version: Revision,
    beats: u64,
}

/// Versions of the leader's records: another one is a sign of life.
type Sign = [Option<Revision>; 2];

impl Lead {
    pub(crate) fn new(broker: String) -> Self {
        Self { broker, led: Mutex::default() }
    }

    /// Does `work` whenever this broker leads, for ever.
    pub(crate) async fn follow(self: Arc<Self>, plant: Arc<Plant>, work: Work) {
        let mut tasks = JoinSet::new();
        if plant.config.store == Backend::Sled {
            work(&plant).into_iter().for_each(|task| drop(tasks.spawn(task)));
            return std::future::pending().await;
        }
        let mut term = None;
        loop {
            let present = self.turn(&plant, Instant::now()).await;
            if present != term {
                tasks.abort_all();
                if let Some(present) = present {
                    let begin = |task| drop(tasks.spawn(fence::within(present, task)));
                    work(&plant).into_iter().for_each(begin);
                }
                term = present;
            }
            sleep(LOOK).await;
        }
    }

    /// One look, at `now`: a leader shows that it lives, another broker looks whether there is one. Returns this broker's
    /// term.
    async fn turn(&self, plant: &Plant, now: Instant) -> Option<Term> {
        let mut led = self.led.lock().await;
        if led.over {
            return None;
        }
        let Some(own) = &mut led.own else {
            match self.take(plant, &mut led, now).await {
                Ok(taken) => led.own = taken,
                Err(error) => tracing::warn!(%error, "who leads is looked at again soon"),
            }
            return led.own.as_ref().map(Own::term);
        };
        own.beats = own.beats.saturating_add(1);
        let said = match own.beat(plant.now(), false) {
            Ok(txn) => plant.store.transact(txn).await,
            Err(error) => {
                tracing::error!(%error, "that this broker leads cannot be said");
                return Some(own.term());
            }
        };
        match said {
            Ok(_) => {}
            Err(TxnError::Conflict { .. }) => {
                let term = own.leader.term;
                tracing::warn!(term, "another broker leads: this one was silent for too long");
                *led = Led::default();
            }
            Err(error) => tracing::warn!(%error, "that this broker leads is said again soon"),
        }
        led.own.as_ref().map(Own::term)
    }

    /// Takes the next term, if nobody holds one that lives.
    async fn take(&self, plant: &Plant, led: &mut Led, now: Instant) -> Result<Option<Own>, Refusal> {
        let leader: Option<Held<Leader>> = fetch(plant.store.as_ref(), LEADER.to_owned()).await?;
        let beat: Option<Held<Beat>> = fetch(plant.store.as_ref(), BEAT.to_owned()).await?;
        let sign = [leader.as_ref().map(|held| held.version), beat.as_ref().map(|held| held.version)];
        let seen = led.seen.filter(|(seen, _)| *seen == sign);
        if let (None, Some(beat), Some(looked)) = (seen, &beat, led.looked) {
            // It was made since the last look.
            let skew = skew(beat.record.at, now.duration_since(looked).as_secs(), plant.now());
            if skew.is_some() && led.skew.is_none() {
                tracing::error!(
                    seconds = skew,
                    "this broker's clock and the leader's show other times: mend the time service on both hosts"
                );
            }
            led.skew = skew;
        }
        led.looked = Some(now);
        let (_, since) = *led.seen.insert(seen.unwrap_or((sign, now)));
        let stopped = beat.as_ref().is_some_and(|held| held.record.last);
        if leader.is_some() && !stopped && now.duration_since(since) < SILENT {
            return Ok(None);
        }
        let term = leader.map_or(0, |held| held.record.term).saturating_add(1);
        let leader = Leader { broker: self.broker.clone(), term };
        let text = format!("broker {} leads in term {term}", self.broker);
        let event = Event::new(plant.now(), "broker", "leader.begin", &self.broker, &text);
        let as_seen = |txn: Txn, (key, version): (&str, Option<Revision>)| {
            txn.expecting(key, version.map_or(Expect::Absent, Expect::Version))
        };
        let txn = [LEADER, BEAT].into_iter().zip(sign).fold(Txn::new(), as_seen);
        let txn = txn
            .put(LEADER, stored(&leader)?)
            .put(BEAT, stored(&Beat { term, number: 0, last: false, at: plant.now() })?);
        match plant.store.transact(txn.audit(event.entry())).await {
            Ok(version) => {
                tracing::info!("{text}");
                Ok(Some(Own { leader, version, beats: 0 }))
            }
            // Another one was faster, or the leader lives.
            Err(TxnError::Conflict { .. }) => Ok(None),
            Err(error) => Err(Refusal::internal(error)),
        }
    }

    /// Says that this broker leads no more, so that nobody waits for it.
    pub(crate) async fn resign(&self, plant: &Plant) {
        let mut led = self.led.lock().await;
        led.over = true;
        let Some(own) = led.own.take() else { return };
        let said = match own.beat(plant.now(), true) {
            Ok(txn) => plant.store.transact(txn).await.map_err(Refusal::internal),
            Err(error) => Err(error),
        };
        if let Err(error) = said {
            tracing::warn!(%error, "another broker leads once this one was silent for long enough");
        }
    }
}

/// By how many seconds too many the leader's clock, which showed `at` in the last `passed` seconds, differs from this
/// one, which shows `now`.
fn skew(at: UnixTime, passed: u64, now: UnixTime) -> Option<u64> {
    let earliest = now.minus(passed);
    let differs = if at > now { at.since(now) } else { earliest.since(at) };
    (differs > SKEW).then_some(differs)
}

impl Own {
    fn term(&self) -> Term {
        Term { key: LEADER, version: self.version }
    }

    /// Says that the leader lives, or stops, if the term lasts.
    fn beat(&self, at: UnixTime, last: bool) -> Result<Txn, Refusal> {
        let beat = Beat { term: self.leader.term, number: self.beats, last, at };
        Ok(Txn::new().unchanged(LEADER, self.version).put(BEAT, stored(&beat)?))
    }
}

#[cfg(test)]
mod tests;
