//! What goes wrong between a tool and its broker: each time what it is, what to do, and the documented exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proto::v1::{DenialReason, GetStatusResponse, ImportListRequest};

use crate::fake_broker::FakeBroker;
use crate::pki::{Authority, Purpose};
use crate::tool::{Ran, until};

const BROKER: &str = "broker.control.plant.example";
const DAY: i64 = 86_400;
/// Some time after three days, however slowly the test runs.
const LATER: i64 = 3 * DAY + 3_600;

/// Asserts the exit code, and that each part is said.
fn told(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.lines().count() >= 2, "it does not say what to do: {ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn a_certificate_that_has_ended_says_since_when_and_who_gives_another() {
    let broker = FakeBroker::start();
    broker.show(&broker.root.issue_for("ada", Purpose::Client, -9 * DAY..-3 * DAY));
    let ran = broker.run(&["device", "list"]);
    told(&ran, 5, &["your certificate ended 3 d ago, on 2", "touchstone admin invite", "recover"]);
}

#[test]
fn a_certificate_that_has_not_begun_names_the_clock() {
    let broker = FakeBroker::start();
    broker.show(&broker.root.issue_for("ada", Purpose::Client, LATER..9 * DAY));
    let ran = broker.run(&["device", "list"]);
    told(&ran, 5, &["your certificate begins on 2", "this clock is at least 3 d behind", "set it"]);
}

#[test]
fn a_broker_from_the_future_says_how_far_this_clock_is_behind() {
    let broker = FakeBroker::showing(|root| root.issue_for(BROKER, Purpose::Server, LATER..9 * DAY));
    let ran = broker.run(&["status"]);
    told(&ran, 4, &["begins on 2", "this machine's clock says 2", "at least 3 d behind the broker's"]);
}

#[test]
fn a_broker_whose_certificate_has_ended_says_since_when() {
    let broker = FakeBroker::showing(|root| root.issue_for(BROKER, Purpose::Server, -9 * DAY..-3 * DAY));
    let ran = broker.run(&["status"]);
    told(&ran, 4, &["3 d ago by this machine's clock", "if this clock is ahead, set it"]);
}

#[test]
fn another_server_of_the_plant_is_named() {
    let broker = FakeBroker::showing(|root| root.issue("press-7.cell-3.plant.example", Purpose::Server));
    let ran = broker.run(&["status"]);
    told(
        &ran,
        4,
        &["is press-7.cell-3.plant.example, not broker.control.plant.example", "check the address"],
    );
}

#[test]
fn another_plants_broker_is_none() {
    let broker = FakeBroker::start();
    broker.trust(&Authority::new("another plant's root"));
    told(&broker.run(&["status"]), 4, &["plant-root.pem does not vouch for it", "is this plant's"]);
}

#[test]
fn a_broker_that_is_away_is_4() {
    let broker = FakeBroker::start();
    let ran = broker.run(&["--address", "127.0.0.1:1", "status"]);
    told(&ran, 4, &["the broker at 127.0.0.1:1 cannot be reached", "is touchstone-broker running"]);
}

#[test]
fn a_broker_that_is_too_old_says_which_version_is_needed() {
    let broker = FakeBroker::start();
    let status = GetStatusResponse { broker_version: "0.0.9".to_owned(), ..GetStatusResponse::default() };
    broker.lacks("list_rollouts").answers("get_status", &status);
    let needed = env!("CARGO_PKG_VERSION");
    let ran = broker.run(&["golden", "rollout", "status"]);
    told(
        &ran,
        70,
        &["older than this touchstone", &format!("is 0.0.9, this command needs {needed} or later")],
    );
    broker.lacks("list_rollouts").lacks("get_status");
    told(&broker.run(&["golden", "rollout", "status"]), 70, &[&format!("needs a broker {needed} or later")]);
}

#[test]
fn a_context_with_something_missing_says_which_file() {
    for name in ["plant-root.pem", "admin.pem", "admin.key"] {
        let broker = FakeBroker::start();
        fs::remove_file(broker.path(name)).unwrap();
        let ran = broker.run(&["status"]);
        told(&ran, 2, &[&format!("/{name}: No such file"), "touchstone context add NAME DIR"]);
    }
    let broker = FakeBroker::start();
    fs::set_permissions(broker.path("admin.key"), fs::Permissions::from_mode(0o604)).unwrap();
    told(&broker.run(&["status"]), 2, &["readable by others", "chmod 600 "]);
}

#[test]
fn a_role_without_the_right_says_whom_to_ask() {
    let broker = FakeBroker::start();
    let words = "device.quarantine needs the role operator; eve has the role viewer";
    broker.denies("quarantine_device", DenialReason::NotPermitted, words);
    let ran = broker.run(&["device", "quarantine", "press-7", "--reason", "x"]);
    told(&ran, 5, &[words, "ask an administrator whose certificate allows it"]);
}

#[test]
fn an_import_that_breaks_off_says_what_is_registered() {
    let broker = FakeBroker::start();
    broker.hangs("import_list");
    let list = broker.path("list.csv");
    fs::write(&list, format!("name,ek\npress-7,sha256:{}\n", "ab".repeat(32))).unwrap();
    let running = broker.spawn(&["device", "import", list.to_str().unwrap(), "--zone", "cell-3"]);
    until("the list", || !broker.asked::<ImportListRequest>("import_list").is_empty());
    drop(broker);
    let ran = running.end();
    assert!(ran.stderr.starts_with("touchstone: "), "a pipe shows no progress: {ran:?}");
    told(&ran, 4, &["the broker did not answer", "all of the list is registered or nobody"]);
}
