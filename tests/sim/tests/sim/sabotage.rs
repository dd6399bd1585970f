//! Each invariant can fail: something is broken on purpose, and the run, or the ledger, notices that by its name.

use std::path::Path;
use std::sync::Arc;

use broker::plant::Plant;
use broker::ports::System;
use broker::server::{self, Ground};
use broker::store::memory::{MemoryDisk, MemoryStore};
use broker::store::{AUDIT_PREFIX, MAX_SCAN, Store};
use sim::disk::Moment;
use sim::invariant::{self, Broken, Issue, Known, Ledger};
use sim::plan::{Action, Boot, CALM, Plan, Planned, SECOND};
use sim::plant::{NAMES, runtime, template};
use sim::rng::Hand;
use sim::trace::load;
use sim::world::{Sabotage, run};

/// What breaks where these things happen.
fn broken(actions: &[(u64, Action)], sabotage: Sabotage) -> Option<Broken> {
    let planned = |(at, action): &(u64, Action)| Planned { at: *at, action: action.clone() };
    let plan = Plan { seed: 1, actions: actions.iter().map(planned).collect() };
    assert_eq!(run(&plan, Sabotage::None).broken, None, "nothing breaks by itself");
    run(&plan, sabotage).broken
}

fn invariant(broken: Option<Broken>) -> &'static str {
    broken.expect("it is noticed").invariant
}

#[test]
fn a_zone_that_lets_everybody_in() {
    let tampered = (60 * SECOND, Action::Boot { device: 0, boot: Boot::Tampered });
    let broken = broken(&[tampered], Sabotage::ZonesObserve).expect("it is noticed");
    assert_eq!(broken.invariant, "no certificate without a fresh affirming result");
    assert!(broken.why.contains("press-0 had booted what no release allows"), "{broken}");
}

#[test]
fn gates_that_do_not_decide_again() {
    let broken = broken(&[(100 * SECOND, Action::Quarantine { device: 2 })], Sabotage::GatesSleep);
    assert_eq!(invariant(broken), "a quarantined device holds no session");
}

#[test]
fn a_disk_that_forgets() {
    let crash = Action::Crash { operations: 1, moment: Moment::After, seconds: 5 };
    let broken = broken(&[(100 * SECOND, crash)], Sabotage::DiskForgets);
    assert_eq!(invariant(broken), "the audit chain is whole");
}

#[test]
fn an_acknowledged_stop_that_is_gone() {
    runtime().block_on(async {
        let plant = plant_with(|_| {}).await;
        assert_eq!(invariant::kept(&mut Ledger::default(), &plant, 1).await, Ok(()));
        let mut ledger = Ledger::default();
        ledger.stopped[0] = Known { is: true, since: Some(0) };
        let broken = invariant::kept(&mut ledger, &plant, 1).await.expect_err("it is noticed");
        assert_eq!(broken.invariant, "nothing acknowledged is lost");
        assert!(broken.why.contains("press-0: quarantined is false, and true was acknowledged"), "{broken}");
    });
}

#[test]
fn faults_that_do_not_end() {
    let actions =
        [(60 * SECOND, Action::Quarantine { device: 1 }), (CALM - SECOND, Action::Readmit { device: 1 })];
    assert_eq!(invariant(broken(&actions, Sabotage::NoCalm)), "a good device is not locked out");
}

#[test]
fn a_lockout_that_is_over_before_the_end() {
    let broken = broken(&[], Sabotage::LineDown).expect("it is noticed");
    assert_eq!(broken.invariant, "a good device is not locked out");
    assert!(broken.why.starts_with(NAMES[1].0), "{broken}");
}

#[test]
fn a_panic_is_saved_with_its_seed_and_comes_again_at_the_same_step() {
    let plan = Plan { seed: 1_000_001, actions: Vec::new() };
    let first = run(&plan, Sabotage::Panics);
    let said = super::failed(&plan, &first);
    assert!(said.starts_with("seed 1000001: nothing panics: the world stumbles\n"), "{said}");
    let file = said.split("TOUCHSTONE_SEED=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a file");
    let (plan, recorded) = load(Path::new(file)).expect("it is read");
    let again = run(&plan, Sabotage::Panics);
    assert_eq!((again.trace, again.broken), (recorded, first.broken));
}

#[test]
fn a_stop_that_is_acknowledged_and_not_carried_out() {
    let crash = Action::Crash { operations: 1, moment: Moment::After, seconds: 5 };
    let actions = [(100 * SECOND, Action::Quarantine { device: 1 }), (105 * SECOND, crash)];
    assert_eq!(invariant(broken(&actions, Sabotage::StopForgotten)), "nothing acknowledged is lost");
}

#[test]
fn a_challenge_that_is_good_for_two_proofs() {
    assert_eq!(invariant(broken(&[], Sabotage::TwiceAccepted)), "a challenge is accepted once");
}

#[test]
fn certificates_that_are_handed_out_again() {
    assert_eq!(invariant(broken(&[], Sabotage::SamePaper)), "serials are unique");
}

/// Certificates that a device got by a proof which began at 100 ms.
fn issue(boot: Boot) -> Issue {
    let (keys, certificates) = (vec![vec![7; 64]], vec![vec![7; 80]]);
    Issue { device: 0, boot, begun: 100, sealed: vec![1], keys, certificates }
}

#[test]
fn certificates_that_nobody_earned() {
    let so = Known { is: true, since: Some(99) };
    let mut ledger = Ledger::default();
    assert_eq!(invariant::fresh(&ledger, &issue(Boot::Second)), Ok(()));
    ledger.withdrawn = so;
    let why =
        |ledger: &Ledger, issue: &Issue| invariant::fresh(ledger, issue).expect_err("it is noticed").why;
    assert!(why(&ledger, &issue(Boot::Second)).contains("which was withdrawn before"));
    assert_eq!(invariant::fresh(&ledger, &issue(Boot::First)), Ok(()));
    ledger.stopped[0] = Known { is: true, since: Some(101) };
    assert_eq!(invariant::fresh(&ledger, &issue(Boot::First)), Ok(()), "the proof began before");
    ledger.stopped[0] = so;
    assert!(why(&ledger, &issue(Boot::First)).contains("was quarantined before"));
    let other_key = Issue { keys: vec![vec![8; 64]], ..issue(Boot::First) };
    assert!(why(&Ledger::default(), &other_key).contains("a key that its TPM did not certify"));
}

#[test]
fn what_is_given_twice() {
    let mut ledger = Ledger::default();
    let root = template().folder.path().join("plant-root.pem");
    let root = pem::parse(std::fs::read(root).expect("the root")).expect("PEM").into_contents();
    let issue = Issue { certificates: vec![root], ..issue(Boot::First) };
    assert_eq!(
        (invariant::once(&mut ledger, &issue), invariant::serials(&mut ledger, &issue)),
        (Ok(()), Ok(()))
    );
    let twice = invariant::once(&mut ledger, &issue).expect_err("it is noticed");
    assert_eq!(twice.invariant, "a challenge is accepted once");
    let twice = invariant::serials(&mut ledger, &issue).expect_err("it is noticed");
    assert_eq!(twice.invariant, "serials are unique");
}

/// Whether the chain of the plant is whole once `change` had its records.
async fn chain_with(change: impl Fn(&mut [(String, Vec<u8>)])) -> Result<(), Broken> {
    let plant = plant_with(change).await;
    invariant::chain(&mut Ledger::default(), &plant).await
}

/// The plant as every run begins, once `change` had its records.
async fn plant_with(change: impl Fn(&mut [(String, Vec<u8>)])) -> Arc<Plant> {
    let (folder, disk) = (template().folder.path(), MemoryDisk::default());
    let broker = server::broker_id(folder).expect("init writes an id");
    let from = MemoryStore::open(&template().disk.copied(), broker.clone());
    let (mut content, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = from.scan("", after.as_deref(), MAX_SCAN).await.expect("the store reads");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        content.extend(page.into_iter().map(|(key, found)| (key, found.value)));
    }
    change(&mut content);
    let store = MemoryStore::open(&disk, broker);
    store.replace_all(Box::new(content.into_iter().map(Ok)), from.revision()).await.expect("it is restored");
    let clock = Arc::new(Hand::default());
    let ground = Ground { store: Arc::new(store), clock, entropy: Arc::new(System::default()) };
    server::open_on(ground, folder).await.expect("the plant opens")
}

#[test]
fn a_record_that_was_changed() {
    let runtime = runtime();
    assert_eq!(runtime.block_on(chain_with(|_| {})), Ok(()));
    let changed = runtime.block_on(chain_with(|content| {
        let mut records = content.iter_mut().filter(|(key, _)| key.starts_with(AUDIT_PREFIX));
        let (_, record) = records.nth(2).expect("a plant has records");
        let text = String::from_utf8(record.clone()).expect("JSON");
        *record = text.replacen("\"sequence\":", "\"sequence\": ", 1).into_bytes();
    }));
    assert_eq!(changed.expect_err("it is noticed").invariant, "the audit chain is whole");
}
