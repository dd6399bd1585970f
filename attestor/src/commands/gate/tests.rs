//! A gate beside the daemon goes by what the daemon wrote last, and by nothing once it cannot read that.

use tempfile::TempDir;

use super::*;
use crate::state::FILE;
use crate::state::tests::trusted;
use crate::trust::tests::{NOW, Plant};

/// A gate beside a daemon that was trusted when it last wrote its state into the folder.
fn beside(folder: &TempDir, plant: &Plant) -> (Beside, Keeper) {
    let load = || Keeper::load(folder.path(), &plant.domain, &plant.root).unwrap();
    let daemon = load();
    daemon.update(|state| *state = trusted(plant)).unwrap();
    let keeper = load();
    let host = Beside {
        plant: plant.domain.clone(),
        clock: FlooredClock::new(System::default(), keeper.read(|state| state.clock_floor)),
        keeper,
        tpm: None,
        booted: None,
        deliver: folder.path().to_owned(),
        blind: AtomicBool::new(false),
    };
    (host, daemon)
}

/// Puts half a state in the place of the daemon's, as nothing but a broken disk would: another file, so that it is noticed.
fn corrupt(folder: &TempDir) {
    let half = folder.path().join("half");
    std::fs::write(&half, "{").unwrap();
    std::fs::rename(half, folder.path().join(FILE)).unwrap();
}

#[test]
fn what_the_daemon_loses_or_learns_is_taken_with_the_next_look() {
    let (folder, plant) = (TempDir::new().unwrap(), Plant::new());
    let (host, daemon) = beside(&folder, &plant);
    let mut changes = host.changes();
    let mut look = || {
        look_again(&host, &plant.domain, &plant.root, &mut None, Instant::now());
        let announced = changes.has_changed().unwrap();
        changes.mark_unchanged();
        announced
    };
    assert!(!look(), "nothing was written");
    assert!(host.look(State::holds_any));
    let later = System::default().now().plus(3600);
    daemon.update(|state| state.clock_floor = later).unwrap();
    assert!(look() && host.now() >= later, "time goes on from what the plant signed");
    daemon.update(|state| state.clock_floor = later.minus(3600)).unwrap();
    assert!(look() && host.now() < later, "and comes down with it");
    daemon.update(State::void_certificates).unwrap();
    assert!(look() && !host.look(State::holds_any), "a peer that lost trust is cut");
    assert!(!look());
}

#[test]
fn a_state_that_cannot_be_read_for_too_long_opens_to_nobody_until_it_can_be() {
    let (folder, plant) = (TempDir::new().unwrap(), Plant::new());
    let (host, daemon) = beside(&folder, &plant);
    let mut changes = host.changes();
    let (begun, mut failing) = (Instant::now(), None);
    let mut look = |after| {
        look_again(&host, &plant.domain, &plant.root, &mut failing, begun + after);
        let announced = changes.has_changed().unwrap();
        changes.mark_unchanged();
        (host.outdated().is_some(), announced)
    };
    corrupt(&folder);
    let moment = Duration::from_secs(1);
    assert_eq!(look(moment), (false, false));
    assert_eq!(look(PATIENCE), (false, false), "what was read last holds for a moment");
    assert!(host.look(State::holds_any));
    assert_eq!(look(moment + PATIENCE), (true, true));
    assert!(host.outdated().unwrap().contains("the daemon's state cannot be read"));
    assert_eq!(look(2 * PATIENCE), (true, false), "it is told once");
    daemon.update(|state| state.clock_floor = NOW.plus(1)).unwrap();
    assert_eq!(look(3 * PATIENCE), (false, true));

    // A fault that follows has its own time.
    corrupt(&folder);
    assert_eq!(look(4 * PATIENCE), (false, false));
}
