//! Devices without a TPM whose requests and answers are lost, late, or cut off with the power, at every step: the attestor
//! and the broker as they are, with nothing between them but this. A device alone goes on whatever is lost; of a device
//! and its copy neither does, once both came.

mod wire;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use attestor::config::Config;
use attestor::plant::PlantRoot;
use attestor::ports::Jitter;
use attestor::renewal::machine::{Effect, Input, Machine, Memory, Outcome};
use attestor::renewal::{Attester, Means};
use attestor::state::Keeper;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::wire::{Fate, Plant};

/// Exchanges that a device makes without a wait, at most.
const IN_A_ROW: usize = 4;

/// A box: its state on disk, and what it runs with until the power is cut.
struct Meter {
    folder: TempDir,
    attester: Attester,
    machine: Machine,
}

impl Meter {
    fn open(folder: TempDir) -> Self {
        let text = fs::read_to_string(folder.path().join("attestor.toml")).expect("its configuration");
        let config = Config::parse(folder.path(), &text).expect("a configuration");
        let root = PlantRoot::load(&config.plant_root).expect("the plant root");
        let keeper = Keeper::load(&config.state, &config.plant, &root).expect("its state is whole");
        let memory = keeper.read(|state| Memory {
            bound: state.device.is_some(),
            certified: state.last_end().is_some(),
            refused: state.refusal.as_ref().map(attestor::status::Refusal::reason),
        });
        let attester = Attester::new(config, root, keeper, Means::Key).expect("a name of a broker");
        Self { folder, attester, machine: Machine::new(memory) }
    }

    fn new(plant: &Plant, name: &str, token: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::copy(plant.root(), folder.path().join("plant-root.pem")).expect("the plant root");
        fs::write(folder.path().join("token"), token).expect("a token");
        let text = format!(
            "broker = \"127.0.0.1:1\"\nplant = \"plant.example\"\nplant_root = \"plant-root.pem\"\ntpm = \"none\"\n\
             device = \"{name}\"\nstate = \"state\"\ndeliver = \"deliver\"\njoin_token_file = \"token\"\n"
        );
        fs::write(folder.path().join("attestor.toml"), text).expect("a configuration");
        Self::open(folder)
    }

    /// What whoever copies its disk has.
    fn copied(&self) -> Self {
        let folder = TempDir::new().expect("a folder");
        copy(self.folder.path(), folder.path());
        Self::open(folder)
    }

    fn cut_power(self) -> Self {
        drop(self.attester);
        Self::open(self.folder)
    }

    fn has_a_key(&self) -> bool {
        self.attester.keeper.read(|state| state.device_key.is_some())
    }

    /// Its turn: it proves itself until its machine waits. Whether the last proof was good.
    async fn turn(&mut self, plant: &Plant) -> bool {
        plant.pass_time();
        let started = self.machine.step(Input::Started, Jitter(0));
        let mut effect = started.or_else(|| self.machine.step(Input::TimerFired, Jitter(0)));
        let mut good = false;
        for _ in 0..IN_A_ROW {
            let Some(Effect::Begin(exchange)) = effect else { break };
            let outcome = self.attester.prove_by_key(plant, exchange).await;
            good = matches!(outcome, Outcome::Issued { .. });
            effect = self.machine.step(Input::Finished(outcome), Jitter(0));
        }
        good
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("a kind") {
            kind if kind.is_dir() => {
                fs::create_dir(&to).expect("a folder");
                copy(&from, &to);
            }
            kind if kind.is_file() => drop(fs::copy(&from, &to).expect("a copy")),
            // What is delivered is shown by a link; it is delivered anew.
            _ => {}
        }
    }
}

/// A turn of a box: what becomes of its calls, and whether its power is cut then.
#[derive(Debug, Clone)]
struct Turn {
    fates: Vec<Fate>,
    cut: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Answered),
        1 => Just(Fate::RequestLost),
        2 => Just(Fate::AnswerLost),
        2 => (1..5_u8).prop_map(Fate::Late),
    ]
}

fn turns(most: usize) -> impl Strategy<Value = Vec<Turn>> {
    let turn = (prop::collection::vec(fate(), 0..5), any::<bool>());
    prop::collection::vec(turn.prop_map(|(fates, cut)| Turn { fates, cut }), 0..most)
}

/// The runs of a property, each with a device that the plant does not know yet: its name, and a token for it.
struct Trial {
    runtime: Runtime,
    plant: Plant,
    number: AtomicU32,
}

impl Trial {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let plant = runtime.block_on(Plant::new());
        Self { runtime, plant, number: AtomicU32::new(0) }
    }

    fn device(&self) -> (String, Meter) {
        let name = format!("meter-{}", self.number.fetch_add(1, Ordering::Relaxed));
        let token = self.runtime.block_on(self.plant.token(&name));
        let device = Meter::new(&self.plant, &name, &token);
        (name, device)
    }

    fn take(&self, mut device: Meter, turn: &Turn) -> Meter {
        self.plant.set_fates(&turn.fates);
        self.runtime.block_on(device.turn(&self.plant));
        self.plant.set_fates(&[]);
        if turn.cut { device.cut_power() } else { device }
    }

    fn clean(&self, device: &mut Meter) -> bool {
        self.runtime.block_on(device.turn(&self.plant))
    }

    fn is_stopped(&self, name: &str) -> bool {
        self.runtime.block_on(self.plant.is_stopped(name))
    }
}

fn check<T: std::fmt::Debug>(cases: u32, given: impl Strategy<Value = T>, holds: impl Fn(T)) {
    let runs = Runs { cases, failure_persistence: None, ..Runs::default() };
    let outcome = TestRunner::new(runs).run(&given, |value| {
        holds(value);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_device_alone_goes_on_whatever_is_lost_and_raises_no_alarm() {
    let trial = Trial::new();
    check(96, turns(8), |turns| {
        let (name, mut device) = trial.device();
        for turn in &turns {
            device = trial.take(device, turn);
            assert!(!trial.is_stopped(&name), "a false alarm");
        }
        // The first turn may find that its challenge was overtaken, and waits for the next.
        let good = (0..3).any(|_| trial.clean(&mut device));
        assert!(good, "it is locked out");
        assert!(trial.clean(&mut device) && !trial.is_stopped(&name));
    });
}

#[test]
fn a_device_and_its_copy_are_both_stopped_once_both_came() {
    let trial = Trial::new();
    let given = (turns(5), prop::collection::vec((any::<bool>(), turns(2)), 0..5));
    check(96, given, |(before, after)| {
        let (name, mut device) = trial.device();
        for turn in &before {
            device = trial.take(device, turn);
        }
        // Before its first key it is a box as any other.
        if !device.has_a_key() {
            return;
        }
        let mut thief = device.copied();
        for (stolen, turns) in &after {
            for turn in turns {
                match stolen {
                    true => thief = trial.take(thief, turn),
                    false => device = trial.take(device, turn),
                }
            }
        }
        // Who comes second may have what it needs to come in the first one's place, and is betrayed by that one then.
        for _ in 0..3 {
            trial.clean(&mut device);
            trial.clean(&mut thief);
        }
        assert!(trial.is_stopped(&name), "a copy is not found out");
        assert!(!trial.clean(&mut device) && !trial.clean(&mut thief), "neither goes on");
    });
}
