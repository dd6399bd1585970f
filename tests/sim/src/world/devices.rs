//! Devices: power, daemons, their calls and streams, and the network between them and the broker.

use std::sync::Arc;

use attestor::renewal::machine::Effect;
use attestor::renewal::prove;

use super::{Event, LATE, PATIENCE, Sabotage, Waiting, World};
use crate::plan::{Boot, CALM, SECOND};
use crate::stream::News;
use crate::task::{Call, Reply, Step, step};

impl World {
    pub(super) fn power(&mut self, device: usize, boot: Boot) {
        self.sessions.retain(|session| session.seen.gate != device && session.seen.caller != device);
        self.runtime.block_on(self.machines[device].start(boot));
        self.watching[device] = None;
        self.follow(device);
        self.stream(device);
    }

    pub(super) fn cut_power(&mut self, device: usize) {
        self.machines[device].stop();
        self.timers[device] += 1;
        self.sessions.retain(|session| session.seen.gate != device && session.seen.caller != device);
    }

    /// Does what the daemon asks for, until it waits for something.
    pub(super) fn follow(&mut self, device: usize) {
        loop {
            let Some(on) = &mut self.machines[device].on else { return };
            match on.daemon.next() {
                Some(Effect::Begin(kind)) => {
                    let (attester, line) = (Arc::clone(on.daemon.attester()), on.line.clone());
                    on.exchange = Some(Box::pin(prove(attester, line, kind)));
                    self.timers[device] += 1;
                    self.trace.note(&format!("{kind:?} begins"));
                    if !self.exchange(device) {
                        return;
                    }
                }
                Some(Effect::Wait(wait)) => {
                    on.exchange = None;
                    self.timers[device] += 1;
                    self.after(wait.as_millis() as u64, Event::Timer(device, self.timers[device]));
                    self.trace.note(&format!("waits {} ms", wait.as_millis()));
                }
                None => return,
            }
        }
    }

    /// Goes on with the exchange in flight; whether it ended.
    pub(super) fn exchange(&mut self, device: usize) -> bool {
        let Some(on) = &mut self.machines[device].on else { return false };
        let Some(work) = &mut on.exchange else { return false };
        match step(&self.runtime, work, || on.line.is_calling()) {
            Step::Done(proof) => {
                on.exchange = None;
                on.daemon.finish(proof);
                true
            }
            Step::Waits => {
                let call = on.line.take().expect("it waits for a call");
                self.call(device, call);
                false
            }
        }
    }

    pub(super) fn call(&mut self, device: usize, call: Call) {
        self.made += 1;
        let (number, machine) = (self.made, &self.machines[device]);
        let waiting = Waiting { device, start: machine.starts, boot: machine.boot, call };
        self.calls.insert(number, waiting);
        for wait in self.carry(device) {
            self.after(wait, Event::Request(number));
        }
        self.after(PATIENCE, Event::Timeout(number));
    }

    pub(super) fn answered(&mut self, call: u64, reply: Option<Reply>) {
        let Some(Waiting { device, start, call, .. }) = self.calls.remove(&call) else { return };
        let machine = &self.machines[device];
        let waits = machine.starts == start && machine.on.as_ref().is_some_and(|on| on.exchange.is_some());
        // An exchange that was given up dropped its side of the call, and the next waits for one of its own.
        if call.answer(reply) && waits && self.exchange(device) {
            self.follow(device);
            self.stream(device);
        }
    }

    /// Opens the stream of a device anew, if it has another certificate than the one that it has a stream under.
    pub(super) fn stream(&mut self, device: usize) {
        let machine = &self.machines[device];
        let caller = machine.caller();
        if caller.is_some() && caller != self.watching[device] {
            let start = machine.starts;
            if let Some(wait) = self.carry(device).first() {
                self.after(*wait, Event::Open(device, start));
            }
        }
    }

    pub(super) fn tell(&mut self, device: usize, start: u32, leaf: Vec<u8>, news: News) {
        let machine = &mut self.machines[device];
        let Some(on) = machine.on.as_mut().filter(|_| machine.starts == start) else { return };
        match news {
            News::Opened => {
                self.watching[device] = Some(leaf);
                on.daemon.hear_opened();
            }
            News::Trust(set) => on.daemon.hear_trust(*set),
            News::AttestNow(reason) => on.daemon.hear_attest_now(reason),
            News::Lost(denial) => {
                self.watching[device] = None;
                on.daemon.hear_trust_lost(*denial, leaf);
            }
        }
        self.follow(device);
    }

    /// When a message between a device and the broker arrives: not at all, once, or twice.
    pub(super) fn carry(&mut self, device: usize) -> Vec<u64> {
        if self.apart[device] > self.now {
            return Vec::new();
        }
        if self.sabotage == Sabotage::LineDown && device == 1 && (60 * SECOND..CALM).contains(&self.now) {
            return Vec::new();
        }
        let storm = self.storm.until > self.now;
        if storm && self.rng.percent(self.storm.lost) {
            return Vec::new();
        }
        let copies = if storm && self.rng.percent(self.storm.twice) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let late = storm && self.rng.percent(self.storm.late);
                2 + self.rng.below(if late { LATE } else { 60 })
            })
            .collect()
    }
}
