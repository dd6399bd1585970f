//! Gates and their sessions, and what must hold.

use std::sync::Arc;
use std::time::Duration;

use broker::session::issue::valid_serials;
use policy::time::UnixTime;
use tokio::time::Instant;

use super::{Sabotage, Session, World};
use crate::invariant::{self, Broken, Ledger, Seen};
use crate::plan::{Boot, CALM, LOCKED_OUT, SECOND};
use crate::plant::{CELL, NAMES, PRESS};
use crate::rng::BEGIN;

impl World {
    pub(super) fn instant(&self) -> Instant {
        self.began + Duration::from_millis(self.now)
    }

    /// Callers open what they have not open.
    pub(super) fn meet(&mut self) {
        let at = self.instant();
        for (caller, (_, zone)) in NAMES.iter().enumerate().filter(|(_, (_, zone))| *zone == CELL) {
            debug_assert_eq!(*zone, CELL);
            let Some(leaf) = self.machines[caller].caller() else { continue };
            for gate in (0..NAMES.len()).filter(|gate| NAMES[*gate].1 == PRESS) {
                let open = |session: &Session| session.seen.gate == gate && session.seen.caller == caller;
                let Some(on) = &self.machines[gate].on else { continue };
                if self.sessions.iter().any(open) {
                    continue;
                }
                let host = on.daemon.attester().as_ref();
                let opened = on.gate.as_ref().expect("devices of press have gates").open(host, &leaf, at);
                match opened {
                    Ok(live) => {
                        self.counts.opened += 1;
                        self.trace.note(&format!("{} opens {}", NAMES[caller].0, NAMES[gate].0));
                        self.sessions.push(Session { seen: Seen { gate, caller }, live });
                    }
                    Err(why) => {
                        self.trace.note(&format!("{} refuses {}: {why}", NAMES[gate].0, NAMES[caller].0));
                    }
                }
            }
        }
    }

    /// Gates decide again about their sessions.
    pub(super) fn review(&mut self) {
        if self.sabotage == Sabotage::GatesSleep && self.now > 60 * SECOND {
            return;
        }
        let at = self.instant();
        for on in self.machines.iter().filter_map(|machine| machine.on.as_ref()) {
            if let Some(gate) = &on.gate {
                gate.review(on.daemon.attester().as_ref(), at);
            }
        }
        let before = self.sessions.len();
        self.sessions.retain_mut(|session| !session.live.is_cut());
        let cut = before - self.sessions.len();
        if cut > 0 {
            self.counts.cut += cut as u64;
            self.trace.note(&format!("{cut} sessions are cut"));
        }
    }

    /// What must hold after every event.
    pub(super) fn hold(&mut self) -> Result<(), Broken> {
        let storm = self.storm.until > self.now;
        for device in 0..self.machines.len() {
            let off = self.machines[device].on.is_none();
            if storm || off || self.broker.is_none() || self.apart[device] > self.now {
                self.ledger.deaf[device] = self.now;
            }
        }
        let live: Vec<Seen> = self.sessions.iter().map(|session| session.seen).collect();
        invariant::sessions(&self.ledger, &live, self.now)?;
        let Some(broker) = &self.broker else { return Ok(()) };
        let plant = Arc::clone(&broker.plant);
        // Nothing of the broker's own is to stop it here.
        let fuse = broker.lever.hold();
        let whole = self.runtime.block_on(invariant::chain(&mut self.ledger, &plant));
        broker.lever.resume(fuse);
        whole
    }

    /// What must hold at the end.
    pub(super) fn settled(&mut self) -> Result<(), Broken> {
        let plant = Arc::clone(&self.broker.as_ref().expect("the broker runs at the end").plant);
        self.runtime.block_on(invariant::kept(&mut self.ledger, &plant, self.now))?;
        let mut again = Ledger::default();
        self.runtime.block_on(invariant::chain(&mut again, &plant))?;
        (0..self.machines.len()).try_for_each(|device| self.counts_if_good(device, CALM))
    }

    /// Whoever is good, wanted and within earshot for as long as a lockout may last has a certificate that counts.
    pub(super) fn nobody_is_locked_out(&self) -> Result<(), Broken> {
        let Some(since) = self.now.checked_sub(LOCKED_OUT).filter(|_| self.broker.is_some()) else {
            return Ok(());
        };
        let mut heard = (0..self.machines.len()).filter(|device| self.ledger.deaf[*device] <= since);
        heard.try_for_each(|device| self.counts_if_good(device, since))
    }

    /// A device that is good and wanted since `since` has a certificate that counts.
    fn counts_if_good(&self, device: usize, since: u64) -> Result<(), Broken> {
        let good = match self.machines[device].boot {
            Boot::First => true,
            Boot::Second => self.ledger.withdrawn.was(false, since),
            Boot::Tampered => false,
        };
        if !(good && self.ledger.stopped[device].was(false, since)) {
            return Ok(());
        }
        let now = UnixTime(BEGIN + self.now / SECOND);
        let name = NAMES[device].0.parse().expect("a name");
        let broker = self.broker.as_ref().expect("the broker runs");
        // Nothing of the broker's own is to stop it here.
        let fuse = broker.lever.hold();
        let valid = self.runtime.block_on(valid_serials(&broker.plant, &name, now)).expect("the store reads");
        broker.lever.resume(fuse);
        let counts = self.machines[device].look(|state| {
            let mut held = state.holding().map(|(_, svid)| svid).peekable();
            let counts = |svid: &attestor::svid::HeldSvid| {
                valid.iter().any(|serial| serial == svid.serial()) && now <= svid.not_after()
            };
            match (held.peek().is_some(), held.any(counts)) {
                (false, _) => Err(format!("it holds none; refused: {:?}", state.refusal)),
                (true, false) => Err("those that it holds have ended, or were revoked".to_owned()),
                (true, true) => Ok(()),
            }
        });
        invariant::locked_out(device, counts.unwrap_or_else(|| Err("it is off".to_owned())))
    }
}
