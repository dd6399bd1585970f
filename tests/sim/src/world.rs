//! The world: takes one event after another, and asks after each whether everything still holds.

mod actions;
mod devices;
mod gates;
mod service;

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use attestor::gate;
use broker::plant::Plant;
use broker::store::memory::MemoryDisk;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::disk::Lever;
use crate::invariant::{self, Broken, Issue, Ledger, Seen};
use crate::machine::Machine;
use crate::plan::{Action, Boot, END, Plan, SECOND};
use crate::plant::{NAMES, chip, copy, runtime, template};
use crate::rng::{BEGIN, Drawn, Hand, Rng};
use crate::stream::{News, Stream};
use crate::task::{Call, Reply, Work};
use crate::trace::Trace;

/// How long a device waits for an answer.
const PATIENCE: u64 = 30 * SECOND;
/// How often the broker looks after its streams and chores, and devices after theirs.
const BEAT: u64 = 30 * SECOND;
/// A message is this late if it is late, at most.
const LATE: u64 = 20 * SECOND;

/// What happens next.
#[derive(Debug)]
enum Event {
    /// Part of the plan.
    Act(usize),
    /// A machine gets power and boots this.
    Power(usize, Boot),
    /// A wait of a daemon is over, if nothing came between.
    Timer(usize, u64),
    /// A call arrives at the broker.
    Request(u64),
    /// Its answer arrives at the device.
    Reply(u64, Box<Reply>),
    /// The device waits no longer for it.
    Timeout(u64),
    /// A write of the broker gets its turn.
    Write(u64),
    /// The broker is started.
    BrokerStarts,
    /// It is time to look after everything.
    Beat,
    /// A device opens its stream.
    Open(usize, u32),
    /// The stream says something.
    Tell(usize, u32, Vec<u8>, News),
}

/// What the broker works on.
enum Job {
    /// A call, since then.
    Call { call: u64, begun: u64, issue: Option<Issue>, work: Work<Reply> },
    /// What an administrator asked for.
    Admin { action: Action, work: Work<Result<(), String>> },
    /// What it does by itself.
    Chores(Work<Result<(), String>>),
}

/// The broker, as long as it runs.
struct Broker {
    plant: Arc<Plant>,
    lever: Arc<Lever>,
    jobs: BTreeMap<u64, Job>,
    streams: BTreeMap<usize, Stream>,
}

/// A call on its way.
struct Waiting {
    device: usize,
    start: u32,
    boot: Boot,
    call: Call,
}

/// A session through a gate.
struct Session {
    seen: Seen,
    live: gate::Live,
}

/// Messages that are lost, doubled and late, until then.
#[derive(Debug, Default)]
struct Storm {
    until: u64,
    lost: u64,
    twice: u64,
    late: u64,
}

/// What is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// The zones let in whatever was booted.
    ZonesObserve,
    /// Gates do not decide again about sessions.
    GatesSleep,
    /// A broker that starts finds its disk as it was at the beginning.
    DiskForgets,
    /// Faults do not end.
    NoCalm,
    /// Until the calm nothing is carried between the second device and the broker, though no plan says so.
    LineDown,
    /// The simulator itself fails.
    Panics,
    /// A stop is acknowledged and not carried out.
    StopForgotten,
    /// A challenge that was answered is answered again.
    TwiceAccepted,
    /// The certificates of one proof are handed out for the next.
    SamePaper,
}

/// How a run went.
#[derive(Debug)]
pub struct Run {
    /// Everything that happened.
    pub trace: Trace,
    /// What did not hold.
    pub broken: Option<Broken>,
    /// Certificates that were issued, proofs that were refused, sessions that were opened and cut, stops of the broker.
    pub counts: Counts,
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Proofs that earned certificates.
    pub issued: u64,
    /// Proofs that were refused.
    pub denied: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions that a gate cut.
    pub cut: u64,
    /// Times that the broker stopped.
    pub crashes: u64,
}

/// The world.
pub struct World {
    runtime: Runtime,
    plan: Plan,
    sabotage: Sabotage,
    now: u64,
    rng: Rng,
    queue: BTreeMap<(u64, u64), Event>,
    made: u64,
    machines: Vec<Machine>,
    timers: Vec<u64>,
    skews: Vec<i64>,
    /// When each device hears the broker again.
    apart: Vec<u64>,
    /// The certificate under which each device has a stream, as it believes.
    watching: Vec<Option<Vec<u8>>>,
    storm: Storm,
    broker: Option<Broker>,
    /// Seconds until a broker that stops is started again.
    down: u64,
    disk: MemoryDisk,
    folder: TempDir,
    clock: Arc<Hand>,
    drawn: Arc<Drawn>,
    calls: BTreeMap<u64, Waiting>,
    sessions: Vec<Session>,
    ledger: Ledger,
    /// The last issue of certificates before this one.
    former: Option<Issue>,
    trace: Trace,
    counts: Counts,
    began: Instant,
}

/// Makes the run of `plan`.
#[must_use]
pub fn run(plan: &Plan, sabotage: Sabotage) -> Run {
    World::new(plan.clone(), sabotage).run()
}

impl World {
    /// The world before anything happened.
    #[must_use]
    pub fn new(plan: Plan, sabotage: Sabotage) -> Self {
        let (template, folder, runtime) = (template(), crate::plant::folder(), runtime());
        copy(template.folder.path(), folder.path());
        let root = folder.path().join("plant-root.pem");
        let machine = |(number, (name, zone)): (usize, (&str, &'static str))| {
            Machine::new(name, zone, chip(number), &root, plan.seed ^ (number as u64 + 1))
        };
        let machines: Vec<Machine> = NAMES.into_iter().enumerate().map(machine).collect();
        let mut world = Self {
            runtime,
            sabotage,
            now: 0,
            rng: Rng::new(plan.seed),
            queue: BTreeMap::new(),
            made: 0,
            timers: vec![0; machines.len()],
            skews: vec![0; machines.len()],
            apart: vec![0; machines.len()],
            watching: vec![None; machines.len()],
            machines,
            storm: Storm::default(),
            broker: None,
            down: 1,
            disk: template.disk.copied(),
            folder,
            clock: Arc::default(),
            drawn: Arc::new(Drawn::new(plan.seed ^ 0x6272_6f6b)),
            calls: BTreeMap::new(),
            sessions: Vec::new(),
            ledger: Ledger::default(),
            former: None,
            trace: Trace::default(),
            counts: Counts::default(),
            began: Instant::now(),
            plan,
        };
        world.queue_up();
        world
    }

    fn queue_up(&mut self) {
        self.after(0, Event::BrokerStarts);
        self.after(1_000, Event::Beat);
        for device in 0..self.machines.len() {
            let boot = if self.rng.percent(50) { Boot::First } else { Boot::Second };
            let at = self.rng.below(5_000);
            self.after(at, Event::Power(device, boot));
        }
        for (number, planned) in self.plan.actions.clone().into_iter().enumerate() {
            self.after(planned.at, Event::Act(number));
        }
    }

    fn run(mut self) -> Run {
        let broken = loop {
            // Whatever panics breaks the run like an invariant: with its seed, and with every event before it.
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break None,
                Ok(Err(broken)) => break Some(broken),
                Err(panic) => break Some(invariant::panicked(panic.as_ref())),
            }
        };
        Run { trace: mem::take(&mut self.trace), broken, counts: self.counts }
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.made += 1;
        self.queue.insert((self.now + wait, self.made), event);
    }

    /// Takes one event; whether the run goes on.
    fn turn(&mut self) -> Result<bool, Broken> {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(false) };
        self.now = at;
        self.clock.set(BEGIN + at / SECOND);
        for (machine, skew) in self.machines.iter().zip(&self.skews) {
            machine.clock.set((BEGIN + at / SECOND).saturating_add_signed(*skew));
        }
        if at >= END {
            self.settled()?;
            return Ok(false);
        }
        self.trace.take(at, self.words(&event));
        self.handle(event)?;
        self.review();
        self.hold()?;
        Ok(true)
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Act(number) => {
                let action = self.plan.actions[number].action.clone();
                self.act(action);
            }
            Event::Power(device, boot) => self.power(device, boot),
            Event::Timer(device, number) => {
                if self.timers[device] == number
                    && let Some(on) = &mut self.machines[device].on
                {
                    on.daemon.timer_fires();
                    self.follow(device);
                }
            }
            Event::Request(call) => return self.request(call),
            Event::Reply(call, reply) => self.answered(call, Some(*reply)),
            Event::Timeout(call) => self.answered(call, None),
            Event::Write(job) => return self.go(job),
            Event::BrokerStarts => return self.start_broker(),
            Event::Beat => return self.beat(),
            Event::Open(device, start) => self.open(device, start),
            Event::Tell(device, start, leaf, news) => self.tell(device, start, leaf, news),
        }
        Ok(())
    }

    fn words(&self, event: &Event) -> String {
        let name = |device: usize| NAMES[device].0;
        let of = |call: &u64| self.calls.get(call).map_or("nobody", |waiting| name(waiting.device));
        match event {
            Event::Act(number) => format!("act {:?}", self.plan.actions[*number].action),
            Event::Power(device, boot) => format!("{} boots {boot:?}", name(*device)),
            Event::Timer(device, _) => format!("timer of {}", name(*device)),
            Event::Request(call) => format!("call {call} of {} arrives", of(call)),
            Event::Reply(call, _) => format!("answer to {call} of {}", of(call)),
            Event::Timeout(call) => format!("no answer to {call} of {}", of(call)),
            Event::Write(job) => format!("write of job {job}"),
            Event::BrokerStarts => "the broker starts".to_owned(),
            Event::Beat => "beat".to_owned(),
            Event::Open(device, _) => format!("{} opens its stream", name(*device)),
            Event::Tell(device, _, _, news) => format!("{} is told {}", name(*device), news.word()),
        }
    }
}
