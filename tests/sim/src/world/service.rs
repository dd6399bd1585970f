//! The broker: its starts and stops, what it works on, and its streams.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use broker::chores;
use broker::server::{self, Ground};
use policy::appraisal::policy::Mode;
use proto::v1;
use proto::v1::complete_response::Outcome;

use super::actions::known;
use super::{BEAT, Broker, Event, Job, Sabotage, Storm, Waiting, World};
use crate::disk::{Lever, Moment, Shaky};
use crate::invariant::{self, Broken, Issue, Known};
use crate::plan::{Action, CALM, END, SECOND};
use crate::plant::{NAMES, PRESS, answer, set_mode, template};
use crate::rng::{Drawn, Hand};
use crate::stream::{self, Looked};
use crate::task::{Reply, Request, Step, Work, step};

impl World {
    pub(super) fn start_broker(&mut self) -> Result<(), Broken> {
        if self.broker.is_some() {
            return Ok(());
        }
        if self.sabotage == Sabotage::DiskForgets {
            self.disk = template().disk.copied();
        }
        let lever = Arc::new(Lever::default());
        let id = server::broker_id(self.folder.path()).expect("init writes an id");
        let ground = Ground {
            store: Arc::new(Shaky::open(&self.disk, id, &lever)),
            clock: Arc::<Hand>::clone(&self.clock),
            entropy: Arc::<Drawn>::clone(&self.drawn),
        };
        let plant = self.runtime.block_on(server::open_on(ground, self.folder.path()));
        let plant = plant.expect("a broker that stopped starts again");
        let (jobs, streams) = (BTreeMap::new(), BTreeMap::new());
        self.broker = Some(Broker { plant: Arc::clone(&plant), lever: Arc::clone(&lever), jobs, streams });
        self.runtime.block_on(async {
            invariant::chain(&mut self.ledger, &plant).await?;
            invariant::kept(&mut self.ledger, &plant, self.now).await
        })?;
        if self.sabotage == Sabotage::ZonesObserve {
            let of = Arc::clone(&plant);
            let mut work: Work<()> = Box::pin(async move { set_mode(&of, PRESS, Mode::Observe).await });
            while let Step::Waits = step(&self.runtime, &mut work, || lever.take_parked()) {}
        }
        self.chores();
        Ok(())
    }

    pub(super) fn stop_broker(&mut self) {
        let Some(broker) = self.broker.take() else { return };
        self.counts.crashes += 1;
        self.trace.note("the broker stops");
        drop(broker.jobs);
        self.watching.iter_mut().for_each(|watching| *watching = None);
        let down = mem::replace(&mut self.down, 1);
        self.after(down * SECOND, Event::BrokerStarts);
    }

    pub(super) fn request(&mut self, call: u64) -> Result<(), Broken> {
        let Some(waiting) = self.calls.get(&call) else { return Ok(()) };
        let Some(broker) = &mut self.broker else { return Ok(()) };
        if self.apart[waiting.device] > self.now {
            return Ok(());
        }
        let request = waiting.call.request.clone();
        let issue = issue_of(waiting, &request, self.now);
        let work = Box::pin(answer(Arc::clone(&broker.plant), request));
        self.made += 1;
        broker.jobs.insert(self.made, Job::Call { call, begun: self.now, issue, work });
        self.go(self.made)
    }

    pub(super) fn chores(&mut self) {
        let Some(broker) = &mut self.broker else { return };
        if broker.jobs.values().any(|job| matches!(job, Job::Chores(_))) {
            return;
        }
        let plant = Arc::clone(&broker.plant);
        let work = async move { chores::once(&plant).await.map_err(|refusal| refusal.to_string()) };
        self.made += 1;
        broker.jobs.insert(self.made, Job::Chores(Box::pin(work)));
        let job = self.made;
        self.after(1, Event::Write(job));
    }

    /// Goes on with a job up to its next write, or to its end.
    pub(super) fn go(&mut self, number: u64) -> Result<(), Broken> {
        let Some(broker) = &mut self.broker else { return Ok(()) };
        let Some(mut job) = broker.jobs.remove(&number) else { return Ok(()) };
        let lever = Arc::clone(&broker.lever);
        let waits = || lever.take_parked() || lever.has_stopped();
        let done = match &mut job {
            Job::Call { work, .. } => match step(&self.runtime, work, waits) {
                Step::Done(reply) => Some(Ok(reply)),
                Step::Waits => None,
            },
            Job::Admin { work, .. } | Job::Chores(work) => match step(&self.runtime, work, waits) {
                Step::Done(done) => Some(Err(done)),
                Step::Waits => None,
            },
        };
        if lever.has_stopped() {
            self.stop_broker();
            return Ok(());
        }
        match (done, job) {
            (None, job) => {
                broker.jobs.insert(number, job);
                let wait = self.rng.below(40);
                self.after(wait, Event::Write(number));
            }
            (Some(Ok(reply)), Job::Call { call, begun, issue, .. }) => {
                self.replies(call, begun, issue, reply)?;
            }
            (Some(Err(done)), Job::Admin { action, .. }) => self.administered(&action, done),
            (Some(Err(Err(why))), Job::Chores(_)) => self.trace.note(&format!("chores: {why}")),
            (Some(_), _) => {}
        }
        self.look_at_streams();
        Ok(())
    }

    pub(super) fn administered(&mut self, action: &Action, done: Result<(), String>) {
        let under_way = self.broker.as_ref().is_some_and(|broker| {
            broker.jobs.values().any(|job| match (job, action) {
                (Job::Admin { action: Action::Withdraw, .. }, Action::Withdraw) => true,
                (
                    Job::Admin { action: Action::Quarantine { device } | Action::Readmit { device }, .. },
                    Action::Quarantine { device: of } | Action::Readmit { device: of },
                ) => device == of,
                _ => false,
            })
        });
        self.trace.note(match &done {
            Ok(()) => "acknowledged",
            Err(_) => "refused",
        });
        let now = self.now;
        if let Some(known) = known(&mut self.ledger, action).filter(|_| !under_way) {
            match done {
                Ok(()) => {
                    let is = !matches!(action, Action::Readmit { .. });
                    *known = Known { is, since: Some(now) };
                }
                // Nothing was changed.
                Err(_) => known.since = Some(now),
            }
        }
        self.chores();
    }

    pub(super) fn replies(
        &mut self,
        call: u64,
        begun: u64,
        issue: Option<Issue>,
        reply: Reply,
    ) -> Result<(), Broken> {
        if let Reply::Denied(denial) = &reply {
            self.counts.denied += 1;
            self.trace.note(denial.reason().as_str_name());
        }
        if let (Some(mut issue), Reply::Complete(done)) = (issue, &reply)
            && let Some(Outcome::Issued(issued)) = &done.outcome
        {
            self.trace.note(&format!("{} certificates", issued.svids.len()));
            let leaf = |svid: &v1::Svid| svid.chain.first().cloned();
            issue.certificates = issued.svids.iter().filter_map(leaf).collect();
            issue.begun = begun;
            self.counts.issued += u64::from(!issue.certificates.is_empty());
            if !issue.certificates.is_empty()
                && let Some(former) = self.former.replace(issue.clone())
            {
                match self.sabotage {
                    Sabotage::TwiceAccepted => issue.sealed = former.sealed,
                    Sabotage::SamePaper => issue.certificates = former.certificates,
                    _ => {}
                }
            }
            invariant::once(&mut self.ledger, &issue)?;
            invariant::serials(&mut self.ledger, &issue)?;
            invariant::fresh(&self.ledger, &issue)?;
        }
        let Some(device) = self.calls.get(&call).map(|waiting| waiting.device) else { return Ok(()) };
        for wait in self.carry(device) {
            self.after(wait, Event::Reply(call, Box::new(reply.clone())));
        }
        Ok(())
    }

    pub(super) fn open(&mut self, device: usize, start: u32) {
        let machine = &self.machines[device];
        if self.apart[device] > self.now || machine.starts != start {
            return;
        }
        let (Some(leaf), Some(broker)) = (machine.caller(), &mut self.broker) else { return };
        let sequence = machine.look(|state| state.trust_sequence).unwrap_or(0);
        broker.streams.remove(&device);
        let mut work: Work<Looked> =
            Box::pin(stream::open(Arc::clone(&broker.plant), leaf.clone(), sequence));
        self.looked(device, leaf, &mut work);
    }

    pub(super) fn look_at_streams(&mut self) {
        for device in 0..self.machines.len() {
            let Some(broker) = &mut self.broker else { return };
            let Some(stream) = broker.streams.remove(&device) else { continue };
            let leaf = stream.leaf.clone();
            let mut work: Work<Looked> = Box::pin(stream::look(Arc::clone(&broker.plant), stream));
            self.looked(device, leaf, &mut work);
        }
    }

    pub(super) fn looked(&mut self, device: usize, leaf: Vec<u8>, work: &mut Work<Looked>) {
        let Some(broker) = &mut self.broker else { return };
        let lever = Arc::clone(&broker.lever);
        let looked = step(&self.runtime, work, || lever.has_stopped());
        let Step::Done((stream, news)) = looked else { return self.stop_broker() };
        if let Some(stream) = stream {
            broker.streams.insert(device, stream);
        }
        let (start, mut late) = (self.machines[device].starts, 0);
        for said in news {
            // What is lost breaks the stream; what comes keeps its order, and a stream has nothing twice.
            let Some(wait) = self.carry(device).first().copied() else {
                self.watching[device] = None;
                self.broker.as_mut().and_then(|broker| broker.streams.remove(&device));
                return;
            };
            late = wait.max(late);
            self.trace.note(&format!("{} to be told {}", NAMES[device].0, said.word()));
            self.after(late, Event::Tell(device, start, leaf.clone(), said));
        }
    }

    pub(super) fn beat(&mut self) -> Result<(), Broken> {
        self.after(BEAT, Event::Beat);
        if self.now >= CALM {
            self.calm();
        }
        self.chores();
        self.look_at_streams();
        (0..self.machines.len()).for_each(|device| self.stream(device));
        self.meet();
        assert!(self.sabotage != Sabotage::Panics || self.now < 60 * SECOND, "the world stumbles");
        self.nobody_is_locked_out()
    }

    /// Every fault ends.
    pub(super) fn calm(&mut self) {
        if self.sabotage == Sabotage::NoCalm {
            (0..self.machines.len()).for_each(|device| self.apart[device] = END);
            return;
        }
        self.skews.fill(0);
        self.apart.fill(0);
        self.storm = Storm::default();
        if let Some(broker) = &self.broker {
            broker.lever.light(u32::MAX, Moment::Before);
        }
    }
}

/// What a proof may earn certificates for.
fn issue_of(waiting: &Waiting, request: &Request, now: u64) -> Option<Issue> {
    let proof = match request {
        Request::CompleteEnrollment(proof) | Request::CompleteAttestation(proof) => proof,
        Request::BeginEnrollment(_) | Request::BeginAttestation(_) => return None,
    };
    // TPM2B_PUBLIC ends with the two coordinates, each after its length.
    let point = |key: &v1::IdentityKey| {
        let coordinates = key.public.get(key.public.len().checked_sub(68)?..)?;
        Some([&coordinates[2..34], &coordinates[36..]].concat())
    };
    Some(Issue {
        device: waiting.device,
        boot: waiting.boot,
        begun: now,
        sealed: proof.sealed.clone(),
        keys: proof.identity_keys.iter().filter_map(point).collect(),
        certificates: Vec::new(),
    })
}
